//! The dot product of the tensor-core instructions (`mma`, `wgmma`), defined once for all executors.
//!
//! For floating-point operands: `d = round(c + a0·b0 + a1·b1 + …)`, the sum taken in f64 in the order of k, starting
//! from `c`, and rounded once, to nearest even, to the accumulator's type. Products of f16, bf16, tf32, fp8 and fp4 are
//! exact in f64. NVIDIA's hardware sums with fewer bits, in groups, and truncates; it is not documented, differs by
//! generation, and results here agree with it only within a tolerance that grows with k. [`super::tensor_core`] has what was
//! measured of it, for those who ask.
//!
//! Why f64 and not a chain of f32 FMAs: the order of k hardly matters to the result, which is the correctly rounded
//! one nearly always; and since products are exact, fused and separate multiply-add give the same bits, so that code
//! with AVX2 and without agrees to the bit and the fallback needs no hardware FMA. It costs half the lanes of f32, which
//! [`accumulate_tile`] has to spare: on a core of an AMD EPYC, 11 to 16 GMAC/s with AVX2 and 4.6 to 5.5 without
//! (`cargo bench -p cudasim -- tiles`; with AVX-512 enabled it was no faster).

use super::formats::{Narrow, f16_from_f32, f16_to_f32};
use super::rounding::{cut_f32, fma_f64, round_to_odd_f32};
use super::{Rounding, canonical_f32};

/// The types that floating-point `mma` accumulates in: f32, and f16 as its bits.
pub trait Accumulator: Copy {
    /// The value, exactly.
    fn load(self) -> f64;
    /// The nearest value to a sum, ties to even; NaN as the ISA has it.
    fn store(sum: f64) -> Self;
    /// The value that a tensor core makes of a sum: f32 is cut off to so many fractional bits, f16 rounded to nearest.
    fn cut(sum: f64, bits: u32) -> Self;
    /// The exponent, of subnormals that of the smallest normal number, and -126 of zero.
    fn exponent(self) -> i32;
}

impl Accumulator for f32 {
    #[inline(always)]
    fn load(self) -> f64 {
        self.into()
    }

    #[inline(always)]
    fn store(sum: f64) -> Self {
        canonical_f32(sum as f32)
    }

    #[inline(always)]
    fn cut(sum: f64, bits: u32) -> Self {
        cut_f32(sum, bits)
    }

    #[inline(always)]
    fn exponent(self) -> i32 {
        ((self.to_bits() >> 23 & 0xff) as i32 - 127).max(-126)
    }
}

impl Accumulator for u16 {
    #[inline(always)]
    fn load(self) -> f64 {
        f16_to_f32(self).into()
    }

    #[inline(always)]
    fn store(sum: f64) -> Self {
        f16_from_f32(Narrow::RN, round_to_odd_f32(sum, 0.0))
    }

    #[inline(always)]
    fn cut(sum: f64, _bits: u32) -> Self {
        Self::store(sum)
    }

    #[inline(always)]
    fn exponent(self) -> i32 {
        let biased = i32::from(self >> 10 & 0x1f);
        if self & 0x7fff == 0 { -126 } else { (biased - 15).max(-14) }
    }
}

/// `c + Σ a[i] · b[i]` in f64, unrounded. Operands are of small formats, as f32; the shorter slice ends the sum.
#[inline]
pub fn sum(c: f64, a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).fold(c, |sum, (&a, &b)| sum + f64::from(a) * f64::from(b))
}

/// One element of `mma` with f32 or f16 accumulators.
#[inline]
pub fn dot<C: Accumulator>(c: C, a: &[f32], b: &[f32]) -> C {
    C::store(sum(c.load(), a, b))
}

/// One element of `mma{.rnd}.f64`: a chain of `fma.rnd.f64` in the order of k.
#[inline]
pub fn dot_f64(rounding: Rounding, c: f64, a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(c, |sum, (&a, &b)| fma_f64(rounding, a, b, sum))
}

/// One element of integer `mma` (u8, s8, u4, s4, given as i32): exact, then wrapped, or with `.satfinite` clamped, to
/// s32.
#[inline]
pub fn dot_s32(satfinite: bool, c: i32, a: &[i32], b: &[i32]) -> i32 {
    let sum = a.iter().zip(b).fold(i64::from(c), |sum, (&a, &b)| sum + i64::from(a) * i64::from(b));
    if satfinite { sum.clamp(i32::MIN.into(), i32::MAX.into()) as i32 } else { sum as i32 }
}

/// One 32-bit word of `mma.b1`: `c` plus the ones of `a ^ b`, or (`and`) of `a & b`.
#[inline]
pub fn dot_b1(and: bool, c: i32, a: u32, b: u32) -> i32 {
    c.wrapping_add((if and { a & b } else { a ^ b }).count_ones() as i32)
}

/// A matrix product as an instruction does it: `c[i][j] = dot(c[i][j], a[i], b's column j)`, bit for bit.
///
/// `c` is m x n, `a` m x k and `b` k x n, all row-major, the operands decoded to f32 (exactly, as [`super::formats`]
/// does). `k` is that of one instruction: the accumulator is rounded once at its end.
///
/// # Panics
/// If a slice is shorter than its shape.
pub fn accumulate_tile<C: Accumulator>(c: &mut [C], a: &[f32], b: &[f32], m: usize, n: usize, k: usize) {
    let (c, a, b) = (&mut c[..m * n], &a[..m * k], &b[..k * n]);
    if m * n == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the features that the function is compiled for are there.
        return unsafe { tile_avx2(c, a, b, n, k) };
    }
    tile::<C, false, 2, 4>(c, a, b, n, k);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn tile_avx2<C: Accumulator>(c: &mut [C], a: &[f32], b: &[f32], n: usize, k: usize) {
    tile::<C, true, 4, 8>(c, a, b, n, k);
}

/// The product by blocks of R rows and W columns, then what is left over one by one.
#[inline(always)]
fn tile<C: Accumulator, const FUSED: bool, const R: usize, const W: usize>(
    c: &mut [C],
    a: &[f32],
    b: &[f32],
    n: usize,
    k: usize,
) {
    let m = c.len() / n;
    let (whole_rows, whole_columns) = (m - m % R, n - n % W);

    // Whole blocks, then the rows below them, then the columns beside.
    for row in (0..whole_rows).step_by(R) {
        for column in (0..whole_columns).step_by(W) {
            block::<C, FUSED, R, W>(c, a, b, n, k, row, column);
        }
    }

    for row in whole_rows..m {
        for column in (0..whole_columns).step_by(W) {
            block::<C, FUSED, 1, W>(c, a, b, n, k, row, column);
        }
    }

    for row in 0..m {
        for column in whole_columns..n {
            block::<C, FUSED, 1, 1>(c, a, b, n, k, row, column);
        }
    }
}

/// R x W elements of the product, in registers over the whole of k.
#[inline(always)]
fn block<C: Accumulator, const FUSED: bool, const R: usize, const W: usize>(
    c: &mut [C],
    a: &[f32],
    b: &[f32],
    n: usize,
    k: usize,
    row: usize,
    column: usize,
) {
    let a_rows: [&[f32]; R] = std::array::from_fn(|r| &a[(row + r) * k..][..k]);

    // Sums of the block, in registers.
    let mut sums = [[0.0_f64; W]; R];
    for (r, sums) in sums.iter_mut().enumerate() {
        let start = &c[(row + r) * n + column..][..W];
        *sums = std::array::from_fn(|w| start[w].load());
    }

    for (i, b_row) in b.chunks_exact(n).enumerate().take(k) {
        let b_row = &b_row[column..][..W];
        let b_wide: [f64; W] = std::array::from_fn(|w| b_row[w].into());
        for r in 0..R {
            let a_wide = f64::from(a_rows[r][i]);
            for w in 0..W {
                let sum = &mut sums[r][w];
                *sum = if FUSED { a_wide.mul_add(b_wide[w], *sum) } else { *sum + a_wide * b_wide[w] };
            }
        }
    }

    for (r, sums) in sums.iter().enumerate() {
        for (c, &sum) in c[(row + r) * n + column..][..W].iter_mut().zip(sums) {
            *c = C::store(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// bf16 values of mixed signs and sizes, as f32.
    fn operand(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from_bits((state & 0x807f_0000) | (0x3d00_0000 + ((state & 7) << 23)))
        };
        std::iter::repeat_with(next).take(len).collect()
    }

    /// The definition, element by element.
    fn reference(c: &[f32], a: &[f32], b: &[f32], n: usize, k: usize) -> Vec<u32> {
        let element = |(i, &c): (usize, &f32)| {
            let column: Vec<f32> = (0..k).map(|l| b[l * n + i % n]).collect();
            dot(c, &a[i / n * k..][..k], &column).to_bits()
        };
        c.iter().enumerate().map(element).collect()
    }

    #[test]
    fn every_path_gives_the_bits_of_the_definition() {
        for (m, n, k) in [(16, 8, 16), (64, 40, 16), (7, 13, 5), (1, 1, 1), (9, 24, 32), (3, 8, 0), (8, 3, 100)] {
            let (mut a, b, c) = (operand(m * k, 1), operand(k * n, 2), operand(m * n, 3));
            if k > 4 {
                a[k - 1] = f32::INFINITY;
                a[k - 2] = f32::NEG_INFINITY;
            }

            let expected = reference(&c, &a, &b, n, k);
            let check = |name: &str, run: &dyn Fn(&mut [f32])| {
                let mut c = c.clone();
                run(&mut c);
                let bits: Vec<u32> = c.iter().map(|x| x.to_bits()).collect();
                assert_eq!(bits, expected, "{name} {m} {n} {k}");
            };

            check("detected", &|c| accumulate_tile(c, &a, &b, m, n, k));

            // f16 accumulators, element by element as well.
            let mut halves: Vec<u16> = c.iter().map(|&x| f16_from_f32(Narrow::RN, x)).collect();
            let column = |j: usize| -> Vec<f32> { (0..k).map(|l| b[l * n + j]).collect() };
            let each = halves.iter().enumerate().map(|(i, &c)| dot(c, &a[i / n * k..][..k], &column(i % n)));

            let expected_halves: Vec<u16> = each.collect();
            accumulate_tile(&mut halves, &a, &b, m, n, k);
            assert_eq!(halves, expected_halves, "f16 {m} {n} {k}");
            check("portable", &|c| tile::<f32, false, 2, 4>(c, &a, &b, n, k));
        }
    }

    #[test]
    fn one_rounding_at_the_end() {
        // In f32, 2^24 + 1 is 2^24: only a wider sum sees the two ones, and the -2^24 after them.
        let big = 16_777_216.0;
        assert_eq!(dot(0.0_f32, &[big, 1.0, 1.0, -big], &[1.0; 4]), 2.0);
        assert_eq!(dot(0.5_f32, &[big, 1.0, -big], &[1.0; 3]), 1.5);
        // In f16, 2048 + 1 + 1 likewise; and overflow is that of the end, not of the way.
        assert_eq!(dot(0x6800_u16, &[1.0, 1.0], &[1.0; 2]), 0x6801);
        // 2049 is a tie; 2^-40 more, which f32 would lose, is not.
        let small = 1.0 / 1_048_576.0;
        assert_eq!(dot(0x6800_u16, &[1.0, small], &[1.0, small]), 0x6801);
        assert_eq!(dot(0x7bff_u16, &[65504.0, -65504.0], &[1.0; 2]), 0x7bff);
        assert_eq!(dot(0x7bff_u16, &[65504.0], &[1.0]), 0x7c00);
        assert_eq!(dot(f32::INFINITY, &[f32::INFINITY], &[-1.0]).to_bits(), 0x7fff_ffff);
        assert_eq!(dot_f64(Rounding::Rn, 1.0, &[2.0, 3.0], &[4.0, 5.0]), 24.0);
    }

    #[test]
    fn integers_wrap_or_saturate() {
        assert_eq!(dot_s32(false, i32::MAX, &[127, 2], &[1, -64]), i32::MAX - 1);
        assert_eq!(dot_s32(false, i32::MAX, &[1], &[1]), i32::MIN);
        assert_eq!(dot_s32(true, i32::MAX, &[1], &[1]), i32::MAX);
        assert_eq!(dot_s32(true, i32::MIN, &[-1], &[255]), i32::MIN);
        assert_eq!(dot_b1(false, 1, 0b1100, 0b1010), 3);
        assert_eq!(dot_b1(true, 1, 0b1100, 0b1010), 2);
    }
}
