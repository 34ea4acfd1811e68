//! `add`, `sub`, `mul`, `fma`, `div`, `rcp` and `sqrt` for f32 and f64 in `.rn`, `.rz`, `.rm` and `.rp`, exactly
//! rounded (PTX ISA, "Floating Point Instructions"), with `.ftz` and `.sat` for f32.
//!
//! `.rn` is the host's own operation. A directed f32 operation is computed in f64 together with the sign of what f64
//! lost, and stepped by at most one f32; a directed f64 operation, which kernels hardly use, takes integers.

use super::{Mode, NAN_F64, Rounding, soft};

/// The sum as f64 and the rounding error that makes it exact (Knuth's TwoSum; the inputs are far from overflow).
#[inline(always)]
pub(super) fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let from_b = sum - a;
    let from_a = sum - from_b;
    (sum, (a - from_a) + (b - from_b))
}

/// Rounds `value + rest` to f32, where `value` is the f64 nearest to the exact result and only the sign of `rest`
/// counts. A NaN `rest`, which infinities leave, means none.
#[inline(always)]
pub(super) fn round_to_f32(rounding: Rounding, value: f64, rest: f64) -> f32 {
    let near = value as f32;
    let wide = f64::from(near);
    // `near` is a neighbour of the exact result or equal to it, so one step is enough.
    // Without short circuits, as vector code needs it.
    let too_high = (wide > value) | ((wide == value) & (rest < 0.0));
    let too_low = (wide < value) | ((wide == value) & (rest > 0.0));
    let (down, up) = match rounding {
        Rounding::Rn => (false, false),
        Rounding::Rz => (too_high & (near > 0.0), too_low & (near < 0.0)),
        Rounding::Rm => (too_high, false),
        Rounding::Rp => (false, too_low),
    };
    // One integer per f32, in their order, -0 below +0: its neighbours are those of the number, and no branch is needed.
    let ordered = |bits: i32| bits ^ ((bits >> 31) as u32 >> 1) as i32;
    let stepped = ordered(near.to_bits() as i32).wrapping_add(i32::from(up)).wrapping_sub(i32::from(down));
    f32::from_bits(ordered(stepped) as u32)
}

/// Rounds `value + rest`, as [`round_to_f32`] takes them, so that rounding again to two bits less or fewer is as one
/// rounding: towards zero, with the last bit set if anything was lost ("round to odd").
#[inline(always)]
pub(super) fn round_to_odd_f32(value: f64, rest: f64) -> f32 {
    let truncated = round_to_f32(Rounding::Rz, value, rest);
    let lost = (f64::from(truncated) != value) | (rest < 0.0) | (rest > 0.0);
    f32::from_bits(truncated.to_bits() | u32::from(lost))
}

/// The sign of `a + b == 0` in `.rm`: negative unless both are +0 (IEEE 754, 6.3).
#[inline(always)]
fn zero_sum(rounding: Rounding, sum: f64, a: f64, b: f64) -> f64 {
    if (rounding == Rounding::Rm) & (sum == 0.0) & ((a.to_bits() | b.to_bits()) != 0) { -0.0 } else { sum }
}

/// `add.f32 d, a, b`.
#[inline(always)]
pub fn add_f32(mode: Mode, a: f32, b: f32) -> f32 {
    let (a, b) = (mode.input(a), mode.input(b));
    mode.output(if mode.rounding == Rounding::Rn {
        a + b
    } else {
        let (a, b) = (f64::from(a), f64::from(b));
        let (sum, rest) = two_sum(a, b);
        round_to_f32(mode.rounding, zero_sum(mode.rounding, sum, a, b), rest)
    })
}

/// `sub.f32 d, a, b`.
#[inline(always)]
pub fn sub_f32(mode: Mode, a: f32, b: f32) -> f32 {
    add_f32(mode, a, -b)
}

/// `mul.f32 d, a, b`.
#[inline(always)]
pub fn mul_f32(mode: Mode, a: f32, b: f32) -> f32 {
    let (a, b) = (mode.input(a), mode.input(b));
    mode.output(if mode.rounding == Rounding::Rn {
        a * b
    } else {
        // 48 bits: exact in f64.
        round_to_f32(mode.rounding, f64::from(a) * f64::from(b), 0.0)
    })
}

/// `fma.f32 d, a, b, c` (and `mad.f32`, which is the same since sm_20).
#[inline(always)]
pub fn fma_f32(mode: Mode, a: f32, b: f32, c: f32) -> f32 {
    let (a, b, c) = (mode.input(a), mode.input(b), mode.input(c));
    mode.output(if mode.rounding == Rounding::Rn {
        a.mul_add(b, c)
    } else {
        let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
        let (sum, rest) = two_sum(product, c);
        round_to_f32(mode.rounding, zero_sum(mode.rounding, sum, product, c), rest)
    })
}

/// `div.rnd.f32 d, a, b` (`.rn`, `.rz`, `.rm`, `.rp`; for `.approx` and `.full` see [`approx`](super::approx)).
#[inline]
pub fn div_f32(mode: Mode, a: f32, b: f32) -> f32 {
    let (a, b) = (mode.input(a), mode.input(b));
    mode.output(if mode.rounding == Rounding::Rn {
        a / b
    } else {
        // The quotient of two 24-bit significands, if no f32 itself, is 2^-48 of its size away from the nearest one:
        // f64 cannot round it onto that.
        round_to_f32(mode.rounding, f64::from(a) / f64::from(b), 0.0)
    })
}

/// `rcp.rnd.f32 d, a`.
#[inline]
pub fn rcp_f32(mode: Mode, a: f32) -> f32 {
    div_f32(mode, 1.0, a)
}

/// `sqrt.rnd.f32 d, a`. The root of -0 is -0, of a negative number NaN.
#[inline]
pub fn sqrt_f32(mode: Mode, a: f32) -> f32 {
    let a = mode.input(a);
    mode.output(if mode.rounding == Rounding::Rn {
        a.sqrt()
    } else {
        // As far from an f32 that it is not as a quotient is.
        round_to_f32(mode.rounding, f64::from(a).sqrt(), 0.0)
    })
}

/// An f64 result whose NaN, if it is one, is the first NaN operand made quiet, else [`NAN_F64`].
#[inline(always)]
fn canonical_f64(result: f64, operands: &[f64]) -> f64 {
    if result.is_nan() { nan_of(operands) } else { result }
}

#[cold]
fn nan_of(operands: &[f64]) -> f64 {
    let nan = operands.iter().find(|x| x.is_nan());
    f64::from_bits(nan.map_or(NAN_F64, |x| x.to_bits() | 1 << 51))
}

/// `add.f64 d, a, b`.
#[inline]
pub fn add_f64(rounding: Rounding, a: f64, b: f64) -> f64 {
    let sum = a + b;
    if rounding == Rounding::Rn || !(a.is_finite() && b.is_finite()) {
        return canonical_f64(sum, &[a, b]);
    }
    soft::fma(rounding, a, 1.0, b)
}

/// `sub.f64 d, a, b`.
#[inline]
pub fn sub_f64(rounding: Rounding, a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        return nan_of(&[a, b]);
    }
    add_f64(rounding, a, -b)
}

/// `mul.f64 d, a, b`.
#[inline]
pub fn mul_f64(rounding: Rounding, a: f64, b: f64) -> f64 {
    let product = a * b;
    if rounding == Rounding::Rn || product == 0.0 && (a == 0.0 || b == 0.0) || !(a.is_finite() && b.is_finite()) {
        return canonical_f64(product, &[a, b]);
    }
    // The addend has the product's sign: it does not change an exact zero.
    soft::fma(rounding, a, b, 0.0_f64.copysign(product))
}

/// `fma.f64 d, a, b, c` (and `mad.f64`).
#[inline]
pub fn fma_f64(rounding: Rounding, a: f64, b: f64, c: f64) -> f64 {
    if rounding == Rounding::Rn || !(a.is_finite() && b.is_finite() && c.is_finite()) {
        return canonical_f64(a.mul_add(b, c), &[a, b, c]);
    }
    soft::fma(rounding, a, b, c)
}

/// `div.rnd.f64 d, a, b`.
#[inline]
pub fn div_f64(rounding: Rounding, a: f64, b: f64) -> f64 {
    if rounding == Rounding::Rn || b == 0.0 || !(a.is_finite() && b.is_finite()) {
        return canonical_f64(a / b, &[a, b]);
    }
    soft::div(rounding, a, b)
}

/// `rcp.rnd.f64 d, a`.
#[inline]
pub fn rcp_f64(rounding: Rounding, a: f64) -> f64 {
    div_f64(rounding, 1.0, a)
}

/// `sqrt.rnd.f64 d, a`.
#[inline]
pub fn sqrt_f64(rounding: Rounding, a: f64) -> f64 {
    if rounding == Rounding::Rn || a <= 0.0 || !a.is_finite() {
        return canonical_f64(a.sqrt(), &[a]);
    }
    soft::sqrt(rounding, a)
}

/// The f32 nearest to a sum towards zero that has so many fractional bits.
pub fn cut_f32(sum: f64, bits: u32) -> f32 {
    /// 2^128, from which on a sum is infinite.
    const OVERFLOW: f64 = 3.402_823_669_209_385e38;
    let near = sum as f32;
    if sum.abs() >= OVERFLOW {
        return near;
    }
    let inside = if f64::from(near.abs()) > sum.abs() { near.to_bits() - 1 } else { near.to_bits() };
    f32::from_bits(inside & (u32::MAX << (23 - bits)))
}
