//! The `.approx` and `.full` instructions: `ex2`, `lg2`, `sin`, `cos`, `tanh`, `rcp`, `rsqrt`, `sqrt`, `div`.
//!
//! Hardware evaluates these in tables and polynomials of a few ulps that NVIDIA does not publish. Here each is
//! computed in f64 and rounded once, which is inside every error bound that the ISA states; inputs and results at the
//! edges (zeros, subnormals, infinities, NaN) are as in the ISA's tables. `ex2` and `tanh`, which softmax and GELU lean on,
//! have polynomials that compile to vector code and give the same bits on every host; `lg2`, `sin` and `cos` call the
//! host's f64 functions, so that an f32 may differ between hosts where f64 libraries differ around a tie.

use super::formats::{Narrow, bf16_from_f64, bf16_to_f32, f16_from_f64, f16_to_f32};
use super::rounding::{mul_f32, sqrt_f32};
use super::{Mode, flush_f32};

/// Takes an f32 through an f64 function, flushed on both sides where `ftz` says so.
#[inline(always)]
fn through_f64(ftz: bool, x: f32, function: impl Fn(f64) -> f64) -> f32 {
    let mode = Mode { ftz, ..Mode::RN };
    mode.output(function(mode.input(x).into()) as f32)
}

/// 2^x to about 2^-42, for any x that fits an f32 result; exact where x is an integer.
#[inline(always)]
pub(super) fn exp2(x: f64) -> f64 {
    /// Adding it leaves the nearest integer in the low bits of the significand.
    const SHIFTER: f64 = 6_755_399_441_055_744.0;
    /// ln(2)^i / i!, highest first.
    const TAYLOR: [f64; 10] = [
        7.054_911_620_801_123e-9,
        1.017_808_600_923_97e-7,
        1.321_548_679_014_431e-6,
        1.525_273_380_405_984e-5,
        1.540_353_039_338_160_6e-4,
        1.333_355_814_642_844_3e-3,
        9.618_129_107_628_477e-3,
        5.550_410_866_482_158e-2,
        2.402_265_069_591_007e-1,
        std::f64::consts::LN_2,
    ];

    // Far enough out that f32 and f16 have overflowed or become zero. NaN stays NaN.
    let x = x.clamp(-200.0, 200.0);

    // x = n + fraction, with |fraction| <= 1/2; 2^n is made of the bits of n.
    let shifted = x + SHIFTER;
    let fraction = x - (shifted - SHIFTER);

    let mut power = 0.0;
    for coefficient in TAYLOR {
        power = (power + coefficient) * fraction;
    }

    (power + 1.0) * f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52)
}

/// `ex2.approx{.ftz}.f32`: 2^a. ±0 and (with `.ftz`) subnormals give 1, -inf gives +0, +inf gives +inf.
#[inline(always)]
pub fn ex2_f32(ftz: bool, a: f32) -> f32 {
    through_f64(ftz, a, exp2)
}

/// `ex2.approx.f16`: 2^a, subnormals kept.
#[inline]
pub fn ex2_f16(a: u16) -> u16 {
    f16_from_f64(Narrow::RN, exp2(f16_to_f32(a).into()))
}

/// `ex2.approx.ftz.bf16`: 2^a, subnormal inputs and results flushed.
#[inline]
pub fn ex2_bf16(a: u16) -> u16 {
    let result = bf16_from_f64(Narrow::RN, exp2(flush_f32(bf16_to_f32(a)).into()));
    if result & 0x7f80 == 0 { result & 0x8000 } else { result }
}

/// `lg2.approx{.ftz}.f32`: log2(a). ±0 and (with `.ftz`) subnormals of either sign give -inf, negatives NaN.
#[inline]
pub fn lg2_f32(ftz: bool, a: f32) -> f32 {
    through_f64(ftz, a, f64::log2)
}

/// `sin.approx{.ftz}.f32`: ±0 gives ±0, infinities NaN.
#[inline]
pub fn sin_f32(ftz: bool, a: f32) -> f32 {
    through_f64(ftz, a, f64::sin)
}

/// `cos.approx{.ftz}.f32`: ±0 gives 1, infinities NaN.
#[inline]
pub fn cos_f32(ftz: bool, a: f32) -> f32 {
    through_f64(ftz, a, f64::cos)
}

/// tanh(x) to about 2^-34 of its size.
#[inline(always)]
pub(super) fn tanh(x: f64) -> f64 {
    // Taylor where the quotient below would cancel.
    let square = x * x;
    let near_zero = x * (1.0 + square * (square * (2.0 / 15.0) - 1.0 / 3.0));
    // 2^(-2|x| / ln 2) = e^(-2|x|).
    let power = exp2(x.abs() * -2.0 * std::f64::consts::LOG2_E);
    let far = ((1.0 - power) / (1.0 + power)).copysign(x);
    if x.abs() < 1.0 / 32.0 { near_zero } else { far }
}

/// `tanh.approx.f32`: ±0 gives ±0, ±inf gives ±1; subnormals kept.
#[inline]
pub fn tanh_f32(a: f32) -> f32 {
    through_f64(false, a, tanh)
}

/// `tanh.approx.f16`.
#[inline]
pub fn tanh_f16(a: u16) -> u16 {
    f16_from_f64(Narrow::RN, tanh(f16_to_f32(a).into()))
}

/// `tanh.approx.bf16`.
#[inline]
pub fn tanh_bf16(a: u16) -> u16 {
    bf16_from_f64(Narrow::RN, tanh(bf16_to_f32(a).into()))
}

/// `rcp.approx{.ftz}.f32`: 1/a. ±0 and (with `.ftz`) subnormals give ±inf, ±inf gives ±0.
#[inline]
pub fn rcp_f32(ftz: bool, a: f32) -> f32 {
    through_f64(ftz, a, |a| 1.0 / a)
}

/// `rsqrt.approx{.ftz}.f32`: 1/sqrt(a). ±0 and (with `.ftz`) subnormals give ±inf, negatives NaN, +inf gives +0.
#[inline]
pub fn rsqrt_f32(ftz: bool, a: f32) -> f32 {
    through_f64(ftz, a, |a| 1.0 / a.sqrt())
}

/// `sqrt.approx{.ftz}.f32`: ±0 gives ±0, negatives NaN, +inf gives +inf.
#[inline]
pub fn sqrt_approx_f32(ftz: bool, a: f32) -> f32 {
    sqrt_f32(Mode { ftz, ..Mode::RN }, a)
}

/// `div.approx{.ftz}.f32`: a/b. For 2^126 < |b| < 2^128 the reciprocal underflows in hardware: the quotient is a zero,
/// or NaN for infinite `a`, as the ISA states.
#[inline]
pub fn div_approx_f32(ftz: bool, a: f32, b: f32) -> f32 {
    /// 2^126.
    const RECIPROCAL_UNDERFLOWS: f32 = f32::from_bits((126 + 127) << 23);
    if b.abs() > RECIPROCAL_UNDERFLOWS && b.is_finite() {
        return mul_f32(Mode { ftz, ..Mode::RN }, a, 0.0_f32.copysign(b));
    }
    div_full_f32(ftz, a, b)
}

/// `div.full{.ftz}.f32`: a/b over the full range.
#[inline]
pub fn div_full_f32(ftz: bool, a: f32, b: f32) -> f32 {
    super::rounding::div_f32(Mode { ftz, ..Mode::RN }, a, b)
}

/// Keeps the upper 32 bits, which are all that the `.approx.ftz.f64` instructions read and write.
#[inline]
fn upper_word(x: f64) -> f64 {
    f64::from_bits(x.to_bits() & 0xffff_ffff_0000_0000)
}

/// Flushes a subnormal f64, keeping its sign.
#[inline]
fn flush_f64(x: f64) -> f64 {
    if x.is_subnormal() { 0.0_f64.copysign(x) } else { x }
}

/// A "gross approximation" of the ISA: 20 bits of significand in, 20 bits out, subnormals flushed on both sides.
#[inline]
fn gross_f64(a: f64, function: impl Fn(f64) -> f64) -> f64 {
    if a.is_nan() {
        return f64::from_bits(0x7fff_ffff_0000_0000);
    }
    let result = flush_f64(upper_word(function(flush_f64(upper_word(a)))));
    if result.is_nan() { f64::from_bits(0x7fff_ffff_0000_0000) } else { result }
}

/// `rcp.approx.ftz.f64`: 1/a from and to the upper 32 bits. ±0 and subnormals give ±inf, ±inf gives ±0.
#[inline]
pub fn rcp_approx_ftz_f64(a: f64) -> f64 {
    gross_f64(a, |a| 1.0 / a)
}

/// `rsqrt.approx.ftz.f64`: 1/sqrt(a) from and to the upper 32 bits. ±0 and subnormals give ±inf, negatives NaN.
#[inline]
pub fn rsqrt_approx_ftz_f64(a: f64) -> f64 {
    gross_f64(a, |a| 1.0 / a.sqrt())
}

/// `rsqrt.approx.f64`: 1/sqrt(a) in f64, subnormals kept.
#[inline]
pub fn rsqrt_approx_f64(a: f64) -> f64 {
    let result = 1.0 / a.sqrt();
    if result.is_nan() { f64::from_bits(super::NAN_F64) } else { result }
}
