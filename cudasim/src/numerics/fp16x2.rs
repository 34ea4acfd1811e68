//! Arithmetic on f16 and bf16: `add`, `sub`, `mul` and `fma`, scalar and on both halves of a register (`x2`).
//!
//! Results are the exact values rounded once, to nearest even (PTX ISA, "Half Precision Floating Point Instructions").
//! Sums and products go through f32, whose 24 bits, at least twice the 11 or 8 and two, keep its rounding from spoiling
//! the second one (products of bf16 that underflow f32 are exact from half of the smallest bf16 upwards, and below
//! that become zero either way). `fma` takes f64 and rounding to odd instead.

use super::formats::{Narrow, bf16_from_f32, bf16_to_f32, f16_from_f32, f16_to_f32};
use super::rounding::{round_to_odd_f32, two_sum};
use super::{NAN_F16, flush_f16};

/// The modifiers of f16 and bf16 arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Half {
    /// `.ftz` (f16 only): subnormal inputs and results become zeros of their sign.
    pub ftz: bool,
    /// `.sat` (f16 only): the result is clamped to [0, 1], NaN becomes +0.
    pub sat: bool,
    /// `.relu` (`fma` only): a negative result becomes +0, NaN stays NaN.
    pub relu: bool,
}

impl Half {
    #[inline]
    fn input(self, x: u16) -> f32 {
        f16_to_f32(if self.ftz { flush_f16(x) } else { x })
    }

    #[inline]
    fn output(self, x: f32) -> u16 {
        self.modify(f16_from_f32(Narrow::RN, x), 0x3c00)
    }

    /// `.ftz`, `.sat` and `.relu` on a result, where `one` is 1.0 of the format.
    #[inline]
    fn modify(self, x: u16, one: u16) -> u16 {
        let x = if self.ftz { flush_f16(x) } else { x };
        let nan = x == NAN_F16;
        if self.sat {
            // Non-negative encodings order as their values do; the negative ones have the sign bit.
            return if nan || x & 0x8000 != 0 { 0 } else { x.min(one) };
        }
        if self.relu && x & 0x8000 != 0 { 0 } else { x }
    }
}

/// `add{.ftz}{.sat}.f16`.
#[inline]
pub fn add_f16(how: Half, a: u16, b: u16) -> u16 {
    how.output(how.input(a) + how.input(b))
}

/// `sub{.ftz}{.sat}.f16`.
#[inline]
pub fn sub_f16(how: Half, a: u16, b: u16) -> u16 {
    how.output(how.input(a) - how.input(b))
}

/// `mul{.ftz}{.sat}.f16`.
#[inline]
pub fn mul_f16(how: Half, a: u16, b: u16) -> u16 {
    how.output(how.input(a) * how.input(b))
}

/// `fma.rn{.ftz}{.sat}{.relu}.f16`.
#[inline]
pub fn fma_f16(how: Half, a: u16, b: u16, c: u16) -> u16 {
    how.output(fma_odd(how.input(a), how.input(b), how.input(c)))
}

/// `a · b + c` of f16 or bf16, rounded to odd.
#[inline]
fn fma_odd(a: f32, b: f32, c: f32) -> f32 {
    let (sum, rest) = two_sum(f64::from(a) * f64::from(b), c.into());
    round_to_odd_f32(sum, rest)
}

/// `add.rn.bf16`.
#[inline]
pub fn add_bf16(a: u16, b: u16) -> u16 {
    bf16_from_f32(Narrow::RN, bf16_to_f32(a) + bf16_to_f32(b))
}

/// `sub.rn.bf16`.
#[inline]
pub fn sub_bf16(a: u16, b: u16) -> u16 {
    bf16_from_f32(Narrow::RN, bf16_to_f32(a) - bf16_to_f32(b))
}

/// `mul.rn.bf16`.
#[inline]
pub fn mul_bf16(a: u16, b: u16) -> u16 {
    bf16_from_f32(Narrow::RN, bf16_to_f32(a) * bf16_to_f32(b))
}

/// `fma.rn{.relu}.bf16`.
#[inline]
pub fn fma_bf16(relu: bool, a: u16, b: u16, c: u16) -> u16 {
    let exact = fma_odd(bf16_to_f32(a), bf16_to_f32(b), bf16_to_f32(c));
    Half { relu, ..Half::default() }.modify(bf16_from_f32(Narrow::RN, exact), 0x3f80)
}

/// Applies a one-operand function to both halves of a packed register (`abs.f16x2`, `ex2.approx.f16x2` and so on).
#[inline]
pub fn map1(a: u32, function: impl Fn(u16) -> u16) -> u32 {
    pack(function(a as u16), function((a >> 16) as u16))
}

/// Applies a two-operand function to both halves of packed registers (`add.f16x2`, `max.bf16x2` and so on).
#[inline]
pub fn map2(a: u32, b: u32, function: impl Fn(u16, u16) -> u16) -> u32 {
    pack(function(a as u16, b as u16), function((a >> 16) as u16, (b >> 16) as u16))
}

/// Applies a three-operand function to both halves of packed registers (`fma.rn.bf16x2` and so on).
#[inline]
pub fn map3(a: u32, b: u32, c: u32, function: impl Fn(u16, u16, u16) -> u16) -> u32 {
    let low = function(a as u16, b as u16, c as u16);
    pack(low, function((a >> 16) as u16, (b >> 16) as u16, (c >> 16) as u16))
}

/// A packed register from its halves.
#[inline]
pub fn pack(low: u16, high: u16) -> u32 {
    u32::from(low) | u32::from(high) << 16
}
