//! Sums of products as tensor cores make them: aligned, truncated, in blocks.
//!
//! NVIDIA documents none of this. It was measured, and compared with silicon bit by bit, by Fasi, Higham, Mikaitis and
//! Pranesh, "Numerical behavior of NVIDIA tensor cores" (PeerJ Computer Science 7:e330, 2021); Khattak and Mikaitis,
//! "Accurate models of NVIDIA tensor cores" (arXiv 2512.07004, 2025); Xie et al., "MMA-Sim: bit-accurate reference model of
//! tensor cores and matrix cores" (arXiv 2511.10909, 2025). What they agree on:
//!
//! * The accumulator and the products of a block are aligned to the largest exponent among them. The exponent of a product
//!   is the sum of its factors' exponents: its significand, from 1 to below 4, is not normalised first.
//! * Of each aligned term only some fractional bits are kept, the rest is cut off towards zero; the sum of what is left is
//!   exact.
//! * The sum is cut off towards zero to f32, or rounded to nearest even to f16. With a longer k the next block follows.

use super::dot::Accumulator;

/// Whose sums: those of [`super::dot`], or those of a generation of tensor cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sums {
    /// In f64, rounded once.
    #[default]
    Exact,
    /// Of an A100; fp8, which it lacks, as on Ada, and `wgmma` as on Hopper.
    Ampere,
    /// Of an H100.
    Hopper,
}

/// A multiplicand, as far as its type matters to a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    /// Bits of an element in memory; 32 for tf32.
    pub bits: u32,
    /// The smallest exponent of a normal number, which subnormals share.
    pub least_exponent: i32,
}

/// How a tensor core sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alignment {
    /// Fractional bits that are kept below the largest exponent.
    pub bits: i32,
    /// Products of a block.
    pub block: usize,
    /// Fractional bits of an f32 result.
    pub result_bits: u32,
    /// The smallest exponents of A and B.
    pub least: [i32; 2],
}

impl Sums {
    /// How these tensor cores sum for multiplicands of these types, by `mma` or (`warpgroup`) by `wgmma`; `None` where the
    /// sum is exact.
    pub fn alignment(self, [a, b]: [Factor; 2], warpgroup: bool) -> Option<Alignment> {
        let least = [a.least_exponent, b.least_exponent];
        let short = a.bits == 8;
        let whole = usize::MAX;
        let of = |bits, block, result_bits| Some(Alignment { bits, block, result_bits, least });
        match self {
            Self::Exact => None,
            // fp8 of `wgmma` keeps 13 bits, in the result as well.
            Self::Ampere | Self::Hopper if warpgroup && short => of(13, whole, 13),
            Self::Hopper => of(25, whole, 23),
            Self::Ampere if warpgroup => of(25, whole, 23),
            Self::Ampere if short => of(13, 16, 13),
            Self::Ampere => of(24, 128 / a.bits as usize, 23),
        }
    }
}

/// The exponent that a term has in an alignment; zeros have that of the smallest f32.
#[inline(always)]
fn exponent(x: f32, least: i32) -> i32 {
    let biased = (x.to_bits() >> 23 & 0xff) as i32;
    if x == 0.0 { -126 } else { (biased - 127).max(least) }
}

/// 2^n, for any n that is the exponent of a normal f64.
#[inline(always)]
fn power(n: i32) -> f64 {
    f64::from_bits(((n + 1023) as u64) << 52)
}

/// Columns that are summed side by side.
const WIDTH: usize = 8;

/// As [`super::dot::accumulate_tile`], by an alignment.
///
/// # Panics
/// If a slice is shorter than its shape.
#[inline(always)]
pub fn align_tile<C: Accumulator>(c: &mut [C], a: &[f32], b: &[f32], n: usize, k: usize, how: Alignment) {
    for (row, c) in c.chunks_exact_mut(n).enumerate() {
        let a = &a[row * k..][..k];
        for first in (0..n).step_by(WIDTH) {
            let width = WIDTH.min(n - first);
            let mut start = 0;
            while start < k {
                let end = k.min(start.saturating_add(how.block));
                align(&mut c[first..first + width], &a[start..end], &b[start * n + first..], n, how);
                start = end;
            }
        }
    }
}

/// A block: up to [`WIDTH`] accumulators side by side, the products of `a` with as many rows of `b`, which lie `n` apart.
#[inline(always)]
fn align<C: Accumulator>(c: &mut [C], a: &[f32], b: &[f32], n: usize, how: Alignment) {
    let width = c.len();
    let row = |l: usize| -> [f32; WIDTH] {
        let row = &b[l * n..][..width];
        std::array::from_fn(|w| if w < width { row[w] } else { 0.0 })
    };

    // The largest exponent of each column.
    let start: [f64; WIDTH] = std::array::from_fn(|w| if w < width { c[w].load() } else { 0.0 });
    let mut largest: [i32; WIDTH] = std::array::from_fn(|w| if w < width { c[w].exponent() } else { 0 });
    for (l, &a) in a.iter().enumerate() {
        let (row, own) = (row(l), exponent(a, how.least[0]));
        for w in 0..WIDTH {
            largest[w] = largest[w].max(own + exponent(row[w], how.least[1]));
        }
    }

    // The terms, cut off; and the plain sum, which says what infinities and NaN make.
    let scale = largest.map(|largest| power(how.bits - largest));
    let mut sums: [f64; WIDTH] = std::array::from_fn(|w| (start[w] * scale[w]).trunc());
    let mut plain = start;
    for (l, &a) in a.iter().enumerate() {
        let (row, a) = (row(l), f64::from(a));
        for w in 0..WIDTH {
            let product = a * f64::from(row[w]);
            sums[w] += (product * scale[w]).trunc();
            plain[w] += product;
        }
    }

    for (w, c) in c.iter_mut().enumerate() {
        *c = match plain[w].is_finite() {
            true => C::cut(sums[w] * power(largest[w] - how.bits), how.result_bits),
            false => C::store(plain[w]),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::rounding::cut_f32;
    use super::*;

    const HALF: Factor = Factor { bits: 16, least_exponent: -14 };
    const BF16: Factor = Factor { bits: 16, least_exponent: -126 };
    const TF32: Factor = Factor { bits: 32, least_exponent: -126 };
    const E4M3: Factor = Factor { bits: 8, least_exponent: -6 };

    /// One element by a model.
    fn sum(sums: Sums, factor: Factor, warpgroup: bool, c: f32, terms: &[f64]) -> f32 {
        // Each term is split into factors of the type.
        let factors = terms.iter().map(|&term| {
            let half = power(term.abs().log2().floor() as i32 / 2);
            (half as f32, (term / half) as f32)
        });
        let (a, b): (Vec<f32>, Vec<f32>) =
            factors.map(|(a, b)| if b == 0.0 || b.is_nan() { (0.0, 0.0) } else { (a, b) }).unzip();
        let mut c = [c];
        align_tile(&mut c, &a, &b, 1, a.len(), sums.alignment([factor; 2], warpgroup).unwrap());
        c[0]
    }

    fn p(n: i32) -> f64 {
        power(n)
    }

    #[test]
    fn small_terms_are_cut_off_below_the_largest() {
        // Fasi et al.: next to 1 an A100 keeps products of 2^-24, of which a V100 keeps nothing; an H100 keeps 2^-25.
        for (sums, kept) in [(Sums::Ampere, 24), (Sums::Hopper, 25)] {
            for factor in [HALF, BF16] {
                assert_eq!(f64::from(sum(sums, factor, false, 1.0, &[p(-kept); 4])), 1.0 + p(2 - kept), "{sums:?}");
                assert_eq!(sum(sums, factor, false, 1.0, &[p(-kept - 1); 4]), 1.0, "{sums:?}");
            }
        }
        assert_eq!(f64::from(sum(Sums::Ampere, BF16, true, 1.0, &[p(-25); 4])), 1.0 + p(-23), "wgmma is Hopper's");
    }

    #[test]
    fn results_are_cut_off_towards_zero() {
        // 1 + 3 * 2^-24 lies half way: to nearest even it would be 1 + 2^-22.
        for sums in [Sums::Ampere, Sums::Hopper] {
            assert_eq!(f64::from(sum(sums, HALF, false, 0.0, &[1.0, p(-24), p(-24), p(-24)])), 1.0 + p(-23));
            assert_eq!(f64::from(sum(sums, HALF, false, -1.0, &[-p(-24), -p(-24), -p(-24)])), -1.0 - p(-23));
            // Just below 2.
            assert_eq!(sum(sums, HALF, false, 2.0, &[-p(-23)]), 2.0_f32.next_down(), "what is kept is exact");
        }
        assert_eq!(cut_f32(f64::from(f32::MAX) * (1.0 + p(-25)), 23), f32::MAX);
        assert_eq!(cut_f32(p(128), 23), f32::INFINITY);
        assert_eq!(cut_f32(-p(-149) * 1.75, 23).to_bits(), 0x8000_0001);
    }

    #[test]
    fn ampere_sums_in_blocks_and_hopper_at_once() {
        // The half is lost beside 2^24, which is there when its block is summed: on Ampere in the second block only.
        let mut terms = [0.0; 16];
        (terms[0], terms[8], terms[9]) = (p(24), -p(24), 0.5);
        assert_eq!(sum(Sums::Ampere, HALF, false, 0.0, &terms), 0.0);
        assert_eq!(sum(Sums::Hopper, HALF, false, 0.0, &terms), 0.5);
        // Three of 2^-24 beside the first one and one beside the second: 2^-22 at once, but cut off after each block.
        let mut terms = [0.0; 16];
        (terms[0], terms[8]) = (1.0, 1.0);
        for place in [1, 2, 3, 9] {
            terms[place] = p(-24);
        }
        assert_eq!(f64::from(sum(Sums::Hopper, BF16, false, 0.0, &terms)), 2.0 + p(-22));
        assert_eq!(sum(Sums::Ampere, BF16, false, 0.0, &terms), 2.0);
        // tf32: blocks of four.
        let terms = [p(24), 0.0, 0.0, 0.0, -p(24), 0.5, 0.0, 0.0];
        assert_eq!(sum(Sums::Ampere, TF32, false, 0.0, &terms), 0.0);
    }

    #[test]
    fn fp8_of_warpgroups_keeps_thirteen_bits() {
        assert_eq!(f64::from(sum(Sums::Hopper, E4M3, true, 1.0, &[p(-13)])), 1.0 + p(-13));
        assert_eq!(sum(Sums::Hopper, E4M3, true, 1.0, &[p(-14); 32]), 1.0);
        // Kept in the sum, but the result has no room for it.
        assert_eq!(sum(Sums::Hopper, E4M3, true, 1.0, &[1.0, p(-13)]), 2.0);
        assert_eq!(f64::from(sum(Sums::Hopper, E4M3, false, 1.0, &[p(-14); 4])), 1.0 + p(-12), "mma.sync has 25 bits");
    }

    #[test]
    fn infinities_and_nan_are_those_of_the_plain_sum() {
        let how = Sums::Hopper.alignment([BF16; 2], false).unwrap();
        let run = |c: f32, a: &[f32], b: &[f32]| {
            let mut c = [c];
            align_tile(&mut c, a, b, 1, a.len(), how);
            c[0].to_bits()
        };
        assert_eq!(run(1.0, &[f32::INFINITY, 1.0], &[1.0, 1.0]), f32::INFINITY.to_bits());
        assert_eq!(run(f32::NEG_INFINITY, &[f32::INFINITY], &[1.0]), 0x7fff_ffff);
        assert_eq!(run(0.0, &[f32::INFINITY], &[0.0]), 0x7fff_ffff);
        assert_eq!(run(-0.0, &[0.0], &[1.0]), 0);
    }

    #[test]
    fn errors_stay_inside_the_bound_that_follows() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // bf16 of any sign and an exponent from -6 to 6.
            let bits = (state >> 40) as u32;
            f32::from_bits((bits & 0x807f) << 16 | (121 + (bits >> 16) % 13) << 23)
        };
        for sums in [Sums::Ampere, Sums::Hopper] {
            let how = sums.alignment([BF16; 2], false).unwrap();
            for _ in 0..2000 {
                let (a, b): (Vec<f32>, Vec<f32>) = (0..16).map(|_| (random(), random())).unzip();
                let start = random();
                let mut c = [start];
                align_tile(&mut c, &a, &b, 1, 16, how);

                let products = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b));
                let exact: f64 = products.clone().sum::<f64>() + f64::from(start);
                let sizes: f64 = products.map(f64::abs).sum::<f64>() + f64::from(start.abs());
                // Of each block every term loses less than a unit in the last place kept, 2^-bits of the largest term or
                // of the sum so far, and the result less than 2^-23 of its size.
                let terms = 16.0 + 16.0 / how.block.min(16) as f64;
                let bound = sizes * (terms * power(-how.bits) + 2.0 * power(-23));
                assert!((f64::from(c[0]) - exact).abs() <= bound, "{sums:?}: {} {exact} {bound}", c[0]);
            }
        }
    }
}
