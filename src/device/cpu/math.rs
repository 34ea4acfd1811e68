//! The arithmetic of inner loops, in shapes that the compiler turns into vectors.
//!
//! Every loop that matters is a `#[multiversion]` function, compiled for AVX-512, for AVX2 and for the baseline (which
//! on aarch64 has NEON), and chosen when first called. What it calls is `#[inline(always)]`, so that it is compiled
//! along. A fused multiply-add is one instruction on the first two and a slow library call on baseline x86-64; so these
//! helpers take `const FMA: bool`, which the loop sets with `target_cfg_f!`.

use multiversion::{multiversion, target::target_cfg_f};

/// Floats that inner loops keep side by side: two AVX-512 registers.
pub(super) const LANES: usize = 32;

/// 1.5 · 2²³: adding it leaves the rounded integer in the sum's fraction bits.
const ROUND: f32 = 12_582_912.0;

/// `a · b + c`, rounded once if `FMA`.
#[inline(always)]
pub(super) fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `eˣ` within 2 units in the last place: 0 below −87.3 (where results would be subnormal), infinite above 88.3, NaN
/// for NaN.
///
/// `x = n·ln 2 + r` with `|r| ≤ ln 2 / 2`, in two parts for exactness; a polynomial of degree 6 (Cephes `expf`) for
/// `eʳ`; `n` goes into the exponent.
#[inline(always)]
pub(super) fn exp<const FMA: bool>(x: f32) -> f32 {
    const LOWEST: f32 = -87.3;
    const HIGHEST: f32 = 88.3;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;

    // n and r.
    let clamped = if x < LOWEST { LOWEST } else { x };
    let clamped = if clamped > HIGHEST { HIGHEST } else { clamped };
    let rounded = mul_add::<FMA>(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = mul_add::<FMA>(n, -LN2_LOW, mul_add::<FMA>(n, -LN2_HIGH, clamped));

    // eʳ
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = mul_add::<FMA>(p, r, coefficient);
    }
    let p = mul_add::<FMA>(p, r * r, r) + 1.0;

    // 2ⁿ · eʳ, and the limits.
    let scale = f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3f80_0000));
    let y = p * scale;
    let y = if x < LOWEST { 0.0 } else { y };
    if x > HIGHEST { f32::INFINITY } else { y }
}

/// `2ˣ` for `x ≤ 0`, within 2 units in the last place; at and below −126 it stays at 2⁻¹²⁶, which no sum with a 1 in it
/// notices. NaN for NaN.
///
/// `x = n + r` with `|r| ≤ ½`; the polynomial of degree 6 that is closest to `2ʳ` (relative error 2e-9, by Remez
/// exchange).
#[inline(always)]
pub(super) fn exp2<const FMA: bool>(x: f32) -> f32 {
    const LOWEST: f32 = -126.0;
    let x = if x < LOWEST { LOWEST } else { x };

    // n and r.
    let rounded = x + ROUND;
    let r = x - (rounded - ROUND);

    // 2ʳ, then n into the exponent.
    let mut p = 1.535_336_2e-4;
    for coefficient in [1.339_887_4e-3, 9.618_437e-3, 5.550_332_4e-2, 2.402_264_8e-1, 6.931_472e-1, 1.0] {
        p = mul_add::<FMA>(p, r, coefficient);
    }
    p * f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// The logistic function `σ(x) = 1 / (1 + e⁻ˣ)`.
#[inline(always)]
pub(super) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// `Φ(x) = erfc(−x/√2) / 2`, the normal distribution, within 3e-7 of itself wherever it is above 1e-30.
///
/// erfc as in Numerical Recipes (3rd ed., section 6.2.2): `t · exp(−z² + P(t))` with `t = 2 / (2 + z)`.
#[inline(always)]
pub(super) fn normal_cdf<const FMA: bool>(x: f32) -> f32 {
    let z = (x * std::f32::consts::FRAC_1_SQRT_2).abs();
    let t = 1.0 / mul_add::<FMA>(0.5, z, 1.0);

    // P(t)
    let mut p = 0.170_872_77;
    for coefficient in [
        -0.822_152_23,
        1.488_515_8,
        -1.135_204,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_7,
        -1.265_512_2,
    ] {
        p = mul_add::<FMA>(p, t, coefficient);
    }

    // erfc(z) / 2 is the tail beyond |x|.
    let tail = 0.5 * t * exp::<FMA>(mul_add::<FMA>(-z, z, p));
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// `Σ f(i)` for `i < n`, in [`LANES`] interleaved sums: the error grows with n/32, not with n.
#[inline(always)]
pub(super) fn sum_lanes(n: usize, f: impl Fn(usize, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let whole = n - n % LANES;
    let mut start = 0;
    while start < whole {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum = f(start + lane, *sum);
        }
        start += LANES;
    }
    for (i, sum) in (whole..n).zip(&mut lanes) {
        *sum = f(i, *sum);
    }
    fold(lanes, |a, b| a + b)
}

/// Combines lanes pairwise.
#[inline(always)]
pub(super) fn fold(mut lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = f(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// The largest value; −∞ of none.
#[inline(always)]
pub(super) fn maximum(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = if value > *lane { value } else { *lane };
    }
    fold(lanes, |a, b| if b > a { b } else { a })
}

/// `values[i] = exp(values[i] · scale − shift)`; returns their sum.
#[inline(always)]
pub(super) fn exp_in_place<const FMA: bool>(values: &mut [f32], scale: f32, shift: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let mut chunks = values.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *value = exp::<FMA>(mul_add::<FMA>(*value, scale, -shift));
            *lane += *value;
        }
    }
    for (lane, value) in lanes.iter_mut().zip(chunks.into_remainder()) {
        *value = exp::<FMA>(mul_add::<FMA>(*value, scale, -shift));
        *lane += *value;
    }
    fold(lanes, |a, b| a + b)
}

/// Dot product.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    dot_within::<FMA>(a, b)
}

/// [`dot`] inside a loop that is compiled for several targets itself: choosing one costs more than a short dot product.
#[inline(always)]
pub(super) fn dot_within<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    sum_lanes(n, |i, sum| mul_add::<FMA>(a[i], b[i], sum))
}

/// `y += a · x`.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    axpy_within::<FMA>(a, x, y);
}

/// [`axpy`] inside a loop that is compiled for several targets itself.
#[inline(always)]
pub(super) fn axpy_within<const FMA: bool>(a: f32, x: &[f32], y: &mut [f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y = mul_add::<FMA>(a, *x, *y));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance in units in the last place of the exact result.
    fn ulps(got: f32, exact: f64) -> f64 {
        let nearest = (exact as f32).abs().max(f32::MIN_POSITIVE);
        let unit = f64::from(f32::from_bits(nearest.to_bits() + 1)) - f64::from(nearest);
        (f64::from(got) - exact).abs() / unit
    }

    fn exp_is_close<const FMA: bool>() {
        let mut x = -87.25f32;
        while x < 88.25 {
            assert!(ulps(exp::<FMA>(x), f64::from(x).exp()) < 2.0, "{x}");
            x += 0.003_7;
        }
        for (x, y) in [(0.0, 1.0), (f32::NEG_INFINITY, 0.0), (-1e30, 0.0), (-88.0, 0.0), (f32::INFINITY, f32::INFINITY)]
        {
            assert_eq!(exp::<FMA>(x), y, "{x}");
        }
        assert!(exp::<FMA>(f32::NAN).is_nan());
    }

    #[test]
    fn exp_is_exact_to_two_ulps() {
        exp_is_close::<false>();
        exp_is_close::<true>();
    }

    #[test]
    fn exp2_is_exact_to_two_ulps() {
        let mut x = -126.0f32;
        while x <= 0.0 {
            assert!(ulps(exp2::<false>(x), f64::from(x).exp2()) < 2.0, "{x}");
            assert!(ulps(exp2::<true>(x), f64::from(x).exp2()) < 2.0, "{x}");
            x += 0.003_7;
        }
        assert_eq!(exp2::<true>(0.0), 1.0);
        assert_eq!(exp2::<true>(f32::NEG_INFINITY), f32::MIN_POSITIVE);
        assert!(exp2::<true>(f32::NAN).is_nan());
    }

    #[test]
    fn sigmoid_has_the_right_limits() {
        assert_eq!(sigmoid::<false>(0.0), 0.5);
        assert_eq!(sigmoid::<false>(f32::NEG_INFINITY), 0.0);
        assert_eq!(sigmoid::<false>(100.0), 1.0);
    }

    #[test]
    fn normal_cdf_matches_tabulated_values() {
        for (x, exact) in [
            (0.0f32, 0.5),
            (0.5, 0.691_462_461_274_013_1),
            (1.0, 0.841_344_746_068_542_9),
            (-1.0, 0.158_655_253_931_457_05),
            (-3.0, 1.349_898_031_630_094_5e-3),
            (-6.0, 9.865_876_450_376_98e-10),
            (8.0, 1.0),
        ] {
            let got = f64::from(normal_cdf::<true>(x));
            // exp's argument −z² + P(t) is rounded at its own size, so the relative error grows with x².
            let tolerance = 4e-7 * (1.0 + f64::from(x * x) / 4.0);
            assert!((got - exact).abs() <= tolerance * exact, "{x}: {got} {exact}");
        }
    }

    #[test]
    fn reductions_cover_every_length() {
        for n in 0..100 {
            let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
            assert_eq!(sum_lanes(n, |i, sum| sum + values[i]), values.iter().sum::<f32>());
            assert_eq!(maximum(&values), values.last().copied().unwrap_or(f32::NEG_INFINITY));
            assert_eq!(dot(&values, &vec![2.0; n]), 2.0 * values.iter().sum::<f32>());
        }
    }
}
