//! Arithmetic on f16 and bf16: `add`, `sub`, `mul` and `fma`, scalar and on both halves of a register (`x2`).
//!
//! Results are rounded once, to nearest even, from the exact value: the operands go to f64, where sums and products
//! are exact except for what [`round_odd`] keeps as a sticky bit (PTX ISA, "Half Precision Floating Point
//! Instructions").

use super::formats::{Narrow, bf16_from_f64, bf16_to_f32, f16_from_f64, f16_to_f32};
use super::rounding::two_sum;
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

/// Rounds `sum + rest` to f64 so that rounding it again, to far fewer bits, is as one rounding: the last bit is set
/// if the sum is not exact.
#[inline]
fn round_odd((sum, rest): (f64, f64)) -> f64 {
    let bits = sum.to_bits();
    if bits & 1 == 1 || rest == 0.0 || rest.is_nan() {
        return sum;
    }
    // An even significand: the odd neighbour on the side of the exact value.
    f64::from_bits(if (rest > 0.0) == (sum > 0.0) { bits + 1 } else { bits - 1 })
}

impl Half {
    #[inline]
    fn input(self, x: u16) -> f64 {
        f16_to_f32(if self.ftz { flush_f16(x) } else { x }).into()
    }

    #[inline]
    fn output(self, exact: f64) -> u16 {
        self.modify(f16_from_f64(Narrow::RN, exact), 0x3c00)
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
    how.output(round_odd(two_sum(how.input(a) * how.input(b), how.input(c))))
}

/// `add.rn.bf16`.
#[inline]
pub fn add_bf16(a: u16, b: u16) -> u16 {
    bf16_from_f64(Narrow::RN, round_odd(two_sum(bf16_to_f32(a).into(), bf16_to_f32(b).into())))
}

/// `sub.rn.bf16`.
#[inline]
pub fn sub_bf16(a: u16, b: u16) -> u16 {
    add_bf16(a, b ^ 0x8000)
}

/// `mul.rn.bf16`.
#[inline]
pub fn mul_bf16(a: u16, b: u16) -> u16 {
    bf16_from_f64(Narrow::RN, f64::from(bf16_to_f32(a)) * f64::from(bf16_to_f32(b)))
}

/// `fma.rn{.relu}.bf16`.
#[inline]
pub fn fma_bf16(relu: bool, a: u16, b: u16, c: u16) -> u16 {
    let product = f64::from(bf16_to_f32(a)) * f64::from(bf16_to_f32(b));
    let exact = round_odd(two_sum(product, bf16_to_f32(c).into()));
    Half { relu, ..Half::default() }.modify(bf16_from_f64(Narrow::RN, exact), 0x3f80)
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
