//! The small float formats of PTX: f16, bf16, tf32, e4m3, e5m2, e2m1 and ue8m0, to and from f32 and f64.
//!
//! Values are bits. Decoding is exact; encoding rounds once, keeps subnormals and takes the modifiers of `cvt`:
//! `.satfinite` (overflow and infinity become the largest finite number) and `.relu` (negative results become +0).

use super::soft::{F32, Format};
use super::{NAN_F16, NAN_F32, Rounding};

/// The modifiers of a conversion to a small format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Narrow {
    /// Rounding of the value.
    pub rounding: Rounding,
    /// `.satfinite`: magnitudes past the largest finite number, infinity included, become that number.
    pub satfinite: bool,
    /// `.relu`: a negative result, -0 included, becomes +0. NaN stays NaN.
    pub relu: bool,
}

impl Narrow {
    /// `.rn` alone.
    pub const RN: Self = Self::of(Rounding::Rn);

    /// The given rounding alone.
    #[inline]
    pub const fn of(rounding: Rounding) -> Self {
        Self { rounding, satfinite: false, relu: false }
    }
}

const F16: Format = Format { precision: 11, min_exponent: -14, max_finite: 0x7bff, infinity: 0x7c00, sign: 1 << 15 };
const BF16: Format = Format { precision: 8, min_exponent: -126, max_finite: 0x7f7f, infinity: 0x7f80, sign: 1 << 15 };
/// As f32 without its 13 low bits.
const TF32: Format =
    Format { precision: 11, min_exponent: -126, max_finite: 0x3fbff, infinity: 0x3fc00, sign: 1 << 18 };
const E4M3: Format = Format { precision: 4, min_exponent: -6, max_finite: 0x7e, infinity: 0x7e, sign: 1 << 7 };
const E5M2: Format = Format { precision: 3, min_exponent: -14, max_finite: 0x7b, infinity: 0x7c, sign: 1 << 7 };
const E2M1: Format = Format { precision: 2, min_exponent: 0, max_finite: 0x7, infinity: 0x7, sign: 1 << 3 };

/// Encodes any f64; NaN gives `nan`.
#[inline]
fn encode(format: Format, nan: u64, how: Narrow, x: f64) -> u64 {
    if x.is_nan() {
        return nan;
    }
    let sign = if x.is_sign_negative() { format.sign } else { 0 };
    if how.relu && sign != 0 {
        return 0;
    }
    let bits = if x.is_infinite() { sign | format.infinity } else { format.round_f64(how.rounding, x) };
    if how.satfinite && bits & !sign > format.max_finite { sign | format.max_finite } else { bits }
}

/// f16 from f64 (`cvt.rnd.f16.f64`), rounded once. NaN gives 0x7fff.
#[inline]
pub fn f16_from_f64(how: Narrow, x: f64) -> u16 {
    encode(F16, NAN_F16.into(), how, x) as u16
}

/// f16 from f32 (`cvt.rnd{.satfinite}{.relu}.f16.f32`). NaN gives 0x7fff.
#[inline]
pub fn f16_from_f32(how: Narrow, x: f32) -> u16 {
    if how != Narrow::RN {
        return f16_from_f64(how, x.into());
    }
    let sign = (x.to_bits() >> 16 & 0x8000) as u16;
    let magnitude = x.to_bits() & 0x7fff_ffff;
    // Normal: move the exponent bias and add just under half of the last place, which carries where it must.
    let normal = magnitude.wrapping_add((0xfff + (magnitude >> 13 & 1)).wrapping_sub(112 << 23)) >> 13;
    // Subnormal: adding 0.5, whose last place is that of f16's subnormals, rounds in hardware.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5_f32.to_bits());
    let finite = if magnitude < (127 - 14) << 23 { subnormal } else { normal };
    // From 2^16 on; what rounds up to it has become infinity above.
    let rounded = if magnitude >= (127 + 16) << 23 { 0x7c00 } else { finite };
    if x.is_nan() { NAN_F16 } else { sign | rounded as u16 }
}

/// f32 from f16 (`cvt.f32.f16`), exact. NaN gives 0x7fffffff.
#[inline(always)]
pub fn f16_to_f32(x: u16) -> f32 {
    let sign = u32::from(x & 0x8000) << 16;
    let magnitude = u32::from(x & 0x7fff) << 13;
    // Scaling by 2^112 moves the exponent bias, for subnormals too.
    let scaled = f32::from_bits(magnitude) * f32::from_bits((112 + 127) << 23);
    let special = if magnitude > 0x7c00 << 13 { NAN_F32 } else { 0x7f80_0000 | sign };
    f32::from_bits(if magnitude >= 0x7c00 << 13 { special } else { scaled.to_bits() | sign })
}

/// bf16 from f64 (`cvt.rnd.bf16.f64`), rounded once. NaN gives 0x7fff.
#[inline]
pub fn bf16_from_f64(how: Narrow, x: f64) -> u16 {
    encode(BF16, NAN_F16.into(), how, x) as u16
}

/// bf16 from f32 (`cvt.rnd{.satfinite}{.relu}.bf16.f32`). NaN gives 0x7fff.
#[inline]
pub fn bf16_from_f32(how: Narrow, x: f32) -> u16 {
    if how != Narrow::RN {
        return bf16_from_f64(how, x.into());
    }
    // The format is the upper half of f32: adding just under half of the last place carries where it must.
    let bits = x.to_bits();
    let rounded = ((bits.wrapping_add(0x7fff + (bits >> 16 & 1))) >> 16) as u16;
    if x.is_nan() { NAN_F16 } else { rounded }
}

/// f32 from bf16, exact: the bits moved up, the payload of a NaN with them. (`cvt.f32.bf16` is this and
/// [`canonical_f32`](super::canonical_f32).)
#[inline(always)]
pub fn bf16_to_f32(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

/// tf32 from f32 (`cvt.rn`, `cvt.rz.tf32.f32`), as f32 bits with 13 zeros below. NaN gives 0x7fffffff.
#[inline]
pub fn tf32_from_f32(how: Narrow, x: f32) -> u32 {
    if x.is_nan() { NAN_F32 } else { (encode(TF32, 0, how, x.into()) << 13) as u32 }
}

/// tf32 from f32 to nearest, ties away from zero (`cvt.rna{.satfinite}.tf32.f32`). NaN gives 0x7fffffff.
#[inline]
pub fn tf32_from_f32_rna(satfinite: bool, x: f32) -> u32 {
    if x.is_nan() {
        return NAN_F32;
    }
    let (sign, magnitude) = (x.to_bits() & 0x8000_0000, x.to_bits() & 0x7fff_ffff);
    let largest = (TF32.max_finite << 13) as u32;
    let limit = if satfinite { largest } else { 0x7f80_0000 };
    sign | ((magnitude + 0x1000) & !0x1fff).min(limit)
}

/// What the tensor core reads of an f32 register given as tf32: the low 13 bits are ignored.
#[inline(always)]
pub fn tf32_to_f32(x: u32) -> f32 {
    f32::from_bits(x & !0x1fff)
}

/// e4m3 from f64 (`cvt.rn.satfinite{.relu}.e4m3x2`, each half). The format has no infinity: overflow saturates at ±448
/// whatever the mode. NaN gives 0x7f.
#[inline]
pub fn e4m3_from_f64(how: Narrow, x: f64) -> u8 {
    encode(E4M3, 0x7f, how, x) as u8
}

/// e5m2 from f64 (`cvt.rn.satfinite{.relu}.e5m2x2`, each half). NaN gives 0x7f.
#[inline]
pub fn e5m2_from_f64(how: Narrow, x: f64) -> u8 {
    encode(E5M2, 0x7f, how, x) as u8
}

/// e2m1 from f64 (`cvt.rn.satfinite{.relu}.e2m1x2`, each half), in the low four bits. Overflow saturates at ±6; NaN gives
/// +6.
#[inline]
pub fn e2m1_from_f64(how: Narrow, x: f64) -> u8 {
    encode(E2M1, 0x7, how, x) as u8
}

/// f32 from e4m3, exact. NaN gives 0x7fffffff.
#[inline]
pub fn e4m3_to_f32(x: u8) -> f32 {
    if x & 0x7f == 0x7f {
        return f32::from_bits(NAN_F32);
    }
    let scaled = f32::from_bits(u32::from(x & 0x7f) << 20) * f32::from_bits((120 + 127) << 23);
    f32::from_bits(scaled.to_bits() | u32::from(x & 0x80) << 24)
}

/// f32 from e5m2, exact: the format is the upper half of f16. NaN gives 0x7fffffff.
#[inline]
pub fn e5m2_to_f32(x: u8) -> f32 {
    f16_to_f32(u16::from(x) << 8)
}

/// f32 from the low four bits as e2m1, exact.
#[inline]
pub fn e2m1_to_f32(x: u8) -> f32 {
    const MAGNITUDES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let magnitude = MAGNITUDES[usize::from(x & 7)];
    if x & 8 != 0 { -magnitude } else { magnitude }
}

/// ue8m0 from f32 (`cvt.rz` or `.rp{.satfinite}.ue8m0x2`, each half): the exponent of a power of two, 2^-127 to 2^127,
/// of the magnitude of `x`, rounded up or (`up` false) towards zero. Zero gives 2^-127, overflow 2^127 with
/// `.satfinite` and NaN (0xff) without; NaN gives NaN.
#[inline]
pub fn ue8m0_from_f32(up: bool, satfinite: bool, x: f32) -> u8 {
    let magnitude = x.to_bits() & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return 0xff;
    }
    // Biased as f32; a subnormal over 2^-127 rounds up to 2^-126.
    let exponent = magnitude >> 23;
    let fraction = magnitude & 0x7f_ffff;
    let inexact = if exponent == 0 { fraction > 1 << 22 } else { fraction != 0 };
    let rounded = exponent + u32::from(up && inexact);
    if satfinite { rounded.min(0xfe) as u8 } else { rounded.min(0xff) as u8 }
}

/// f32 from ue8m0: 2^(x - 127), or NaN for 0xff.
#[inline]
pub fn ue8m0_to_f32(x: u8) -> f32 {
    match x {
        0 => f32::from_bits(1 << 22),
        0xff => f32::from_bits(NAN_F32),
        _ => f32::from_bits(u32::from(x) << 23),
    }
}

/// f32 from an integer `±magnitude`, rounded once in the given mode.
#[inline]
pub(super) fn f32_from_integer(rounding: Rounding, negative: bool, magnitude: u64) -> f32 {
    f32::from_bits(F32.round(rounding, negative, magnitude, 0) as u32)
}

/// f16 from an integer `±magnitude`, rounded once. Past 65,504 it overflows as the mode says.
#[inline]
pub(super) fn f16_from_integer(rounding: Rounding, negative: bool, magnitude: u64) -> u16 {
    F16.round(rounding, negative, magnitude, 0) as u16
}

/// bf16 from an integer `±magnitude`, rounded once.
#[inline]
pub(super) fn bf16_from_integer(rounding: Rounding, negative: bool, magnitude: u64) -> u16 {
    BF16.round(rounding, negative, magnitude, 0) as u16
}
