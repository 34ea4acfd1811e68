//! `min`, `max`, `abs`, `neg`, `copysign` and `testp`.
//!
//! For floats, -0 is less than +0; a single NaN operand loses against a number unless `.NaN` is given; two of them
//! give the canonical NaN (PTX ISA, "min" and "max").

use super::{NAN_F16, NAN_F32, NAN_F64};

/// The modifiers of floating-point `min` and `max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Select {
    /// True for `max`.
    pub max: bool,
    /// `.ftz`: subnormal inputs count, and come out, as zeros of their sign.
    pub ftz: bool,
    /// `.NaN`: any NaN operand makes the result NaN.
    pub nan: bool,
    /// `.xorsign.abs`: the choice is between magnitudes, the result's sign the exclusive or of the operands' signs.
    pub xorsign_abs: bool,
}

impl Select {
    /// `min` without modifiers.
    pub const MIN: Self = Self { max: false, ftz: false, nan: false, xorsign_abs: false };
    /// `max` without modifiers.
    pub const MAX: Self = Self { max: true, ftz: false, nan: false, xorsign_abs: false };
}

/// Writes `min` and `max` for one format held in an unsigned integer: all of them order by their bits, seen as sign
/// and magnitude.
macro_rules! select {
    ($name:ident, $name3:ident, $bits:ty, $signed:ty, $infinity:expr, $smallest_normal:expr, $nan:expr, $what:literal) => {
        #[doc = concat!("`min.", $what, "` and `max.", $what, "` on bits.")]
        #[inline(always)]
        pub fn $name(how: Select, a: $bits, b: $bits) -> $bits {
            const SIGN: $bits = 1 << (<$bits>::BITS - 1);

            // Flushed, and without signs where the sign of the result is separate.
            let flush = |x: $bits| if how.ftz && x & !SIGN < $smallest_normal { x & SIGN } else { x };
            let (a, b) = (flush(a), flush(b));
            let sign = (a ^ b) & SIGN;
            let (a, b) = if how.xorsign_abs { (a & !SIGN, b & !SIGN) } else { (a, b) };
            let (a_nan, b_nan) = (a & !SIGN > $infinity, b & !SIGN > $infinity);

            // As integers, the bits of negative numbers fall as their magnitude grows: flip all but the sign.
            let key = |x: $bits| x as $signed ^ ((x as $signed >> (<$bits>::BITS - 1)) as $bits >> 1) as $signed;
            let chosen = if (key(a) > key(b)) == how.max { a } else { b };

            // A number wins over a NaN.
            let chosen = if a_nan {
                b
            } else if b_nan {
                a
            } else {
                chosen
            };

            let chosen = if how.xorsign_abs { chosen | sign } else { chosen };
            if (a_nan && b_nan) || (how.nan && (a_nan || b_nan)) { $nan } else { chosen }
        }

        #[doc = concat!("Three-operand `min.", $what, "` and `max.", $what, "` on bits.")]
        ///
        /// `abs` is the `.abs` modifier: the choice is between magnitudes, and the result is one. `how.xorsign_abs`
        /// does not exist in this form and is not looked at.
        #[inline]
        pub fn $name3(how: Select, abs: bool, a: $bits, b: $bits, c: $bits) -> $bits {
            let how = Select { xorsign_abs: false, ..how };
            let magnitude = |x: $bits| if abs { x & (<$bits>::MAX >> 1) } else { x };
            let first = $name(how, magnitude(a), magnitude(b));
            $name(how, first, magnitude(c))
        }
    };
}

select!(select_f32, select3_f32, u32, i32, 0x7f80_0000, 0x0080_0000, NAN_F32, "f32");
select!(select_f64, select3_f64, u64, i64, 0x7ff0_0000_0000_0000, 0x0010_0000_0000_0000, NAN_F64, "f64");
select!(select_f16, select3_f16, u16, i16, 0x7c00, 0x0400, NAN_F16, "f16");
select!(select_bf16, select3_bf16, u16, i16, 0x7f80, 0x0080, NAN_F16, "bf16");

/// `copysign.f32 d, a, b`: the magnitude of `b` with the sign of `a`, on bits.
#[inline(always)]
pub fn copysign_f32(a: u32, b: u32) -> u32 {
    a & 0x8000_0000 | b & 0x7fff_ffff
}

/// `copysign.f64 d, a, b`: the magnitude of `b` with the sign of `a`, on bits.
#[inline(always)]
pub fn copysign_f64(a: u64, b: u64) -> u64 {
    let sign = 1 << 63;
    a & sign | b & !sign
}

/// `abs.f32`, on bits: clears the sign, of a NaN too; `.ftz` flushes a subnormal.
#[inline(always)]
pub fn abs_f32(ftz: bool, a: u32) -> u32 {
    let magnitude = a & 0x7fff_ffff;
    if ftz && magnitude < 0x0080_0000 { 0 } else { magnitude }
}

/// `neg.f32`, on bits: turns the sign, of a NaN too; `.ftz` flushes a subnormal.
#[inline(always)]
pub fn neg_f32(ftz: bool, a: u32) -> u32 {
    let turned = a ^ 0x8000_0000;
    if ftz && a & 0x7fff_ffff < 0x0080_0000 { turned & 0x8000_0000 } else { turned }
}

/// `abs.f64`, on bits.
#[inline(always)]
pub fn abs_f64(a: u64) -> u64 {
    a & (u64::MAX >> 1)
}

/// `neg.f64`, on bits.
#[inline(always)]
pub fn neg_f64(a: u64) -> u64 {
    a ^ (1 << 63)
}

/// `abs.f16` and `abs.bf16` (and, by halves, their `x2` forms), without `.ftz`.
#[inline(always)]
pub fn abs_f16(a: u16) -> u16 {
    a & 0x7fff
}

/// `neg.f16` and `neg.bf16` (and, by halves, their `x2` forms), without `.ftz`.
#[inline(always)]
pub fn neg_f16(a: u16) -> u16 {
    a ^ 0x8000
}

/// The properties that `testp` tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// `.finite`: neither infinity nor NaN.
    Finite,
    /// `.infinite`: an infinity.
    Infinite,
    /// `.number`: not NaN.
    Number,
    /// `.notanumber`: NaN.
    NotANumber,
    /// `.normal`: a normal number or, by the ISA's special case, a zero.
    Normal,
    /// `.subnormal`: a subnormal number.
    Subnormal,
}

/// `testp.f32` (an f32 as f64 is not the same: subnormals differ).
#[inline]
pub fn testp_f32(property: Property, a: f32) -> bool {
    testp(property, a.classify())
}

/// `testp.f64`.
#[inline]
pub fn testp_f64(property: Property, a: f64) -> bool {
    testp(property, a.classify())
}

#[inline]
fn testp(property: Property, class: std::num::FpCategory) -> bool {
    use std::num::FpCategory as Class;
    match property {
        Property::Finite => !matches!(class, Class::Infinite | Class::Nan),
        Property::Infinite => class == Class::Infinite,
        Property::Number => class != Class::Nan,
        Property::NotANumber => class == Class::Nan,
        Property::Normal => matches!(class, Class::Normal | Class::Zero),
        Property::Subnormal => class == Class::Subnormal,
    }
}

/// `min{.relu}.s32` and `max{.relu}.s32`: `.relu` clamps a negative result to 0.
#[inline(always)]
pub fn select_s32(max: bool, relu: bool, a: i32, b: i32) -> i32 {
    let chosen = if max { a.max(b) } else { a.min(b) };
    if relu { chosen.max(0) } else { chosen }
}

/// `min{.relu}.s16x2` and `max{.relu}.s16x2`.
#[inline(always)]
pub fn select_s16x2(max: bool, relu: bool, a: u32, b: u32) -> u32 {
    let half = |a: u32, b: u32| {
        let (a, b) = (a as u16 as i16, b as u16 as i16);
        u32::from(select_s32(max, relu, a.into(), b.into()) as u16)
    };
    half(a, b) | half(a >> 16, b >> 16) << 16
}

/// `min.u16x2` and `max.u16x2`.
#[inline(always)]
pub fn select_u16x2(max: bool, a: u32, b: u32) -> u32 {
    let half = |a: u32, b: u32| {
        let (a, b) = (a & 0xffff, b & 0xffff);
        if max { a.max(b) } else { a.min(b) }
    };
    half(a, b) | half(a >> 16, b >> 16) << 16
}
