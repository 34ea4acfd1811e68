//! `cvt` and `cvt.pack` (PTX ISA, "Data Movement and Conversion Instructions: cvt"), except from f32 and f64 to a
//! single small format, which is [`formats`].

use super::formats::{
    Narrow, bf16_from_f32, bf16_from_integer, e2m1_from_f64, e2m1_to_f32, e4m3_from_f64, e4m3_to_f32, e5m2_from_f64,
    e5m2_to_f32, f16_from_f32, f16_from_integer, f16_to_f32, f32_from_integer, ue8m0_from_f32, ue8m0_to_f32,
};
use super::rounding::round_to_f32;
use super::{Mode, NAN_F64, Rounding, flush_f32, formats, fp16x2, saturate_f64, soft};

/// An integer type of PTX: `.s8` to `.u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int {
    /// True for `.s`.
    pub signed: bool,
    /// 8, 16, 32 or 64 (and, in `cvt.pack`, 2 or 4).
    pub bits: u32,
}

impl Int {
    /// `.s{bits}`.
    #[inline]
    pub const fn s(bits: u32) -> Self {
        Self { signed: true, bits }
    }

    /// `.u{bits}`.
    #[inline]
    pub const fn u(bits: u32) -> Self {
        Self { signed: false, bits }
    }

    /// The low bits of `x` as this type, extended to 64 bits: what a wider register receives.
    #[inline(always)]
    pub fn extend(self, x: u64) -> u64 {
        let spare = 64 - self.bits;
        if self.signed { ((x << spare) as i64 >> spare) as u64 } else { x << spare >> spare }
    }

    /// The largest number.
    #[inline(always)]
    fn max(self) -> u64 {
        u64::MAX >> (64 - self.bits + u32::from(self.signed))
    }

    /// The smallest number.
    #[inline(always)]
    fn min(self) -> i64 {
        if self.signed { -1 << (self.bits - 1) } else { 0 }
    }

    /// The nearest number of this type to a signed one, extended to 64 bits.
    #[inline(always)]
    fn clamp_signed(self, x: i64) -> u64 {
        let low = x.max(self.min());
        if low < 0 { low as u64 } else { (low as u64).min(self.max()) }
    }

    /// A value of this type, given extended to 64 bits, as a sign and a magnitude.
    #[inline(always)]
    fn magnitude(self, x: u64) -> (bool, u64) {
        if self.signed { ((x as i64) < 0, (x as i64).unsigned_abs()) } else { (false, x) }
    }
}

/// `cvt{.sat}.to.from`: truncates or extends, or with `.sat` clamps to the range of `to`. The result is extended to 64
/// bits by the sign of `to`.
#[inline(always)]
pub fn int_to_int(to: Int, from: Int, saturate: bool, x: u64) -> u64 {
    let x = from.extend(x);
    if !saturate {
        to.extend(x)
    } else if from.signed {
        to.clamp_signed(x as i64)
    } else {
        x.min(to.max())
    }
}

/// Rounds to an integer in floating point: `.rni`, `.rzi`, `.rmi`, `.rpi`. Zeros keep their sign.
#[inline(always)]
fn integral_f64(rounding: Rounding, x: f64) -> f64 {
    match rounding {
        Rounding::Rn => x.round_ties_even(),
        Rounding::Rz => x.trunc(),
        Rounding::Rm => x.floor(),
        Rounding::Rp => x.ceil(),
    }
}

/// The nearest number of type `to` to an f64 that is not NaN, extended to 64 bits.
#[inline(always)]
fn clamp_f64(to: Int, x: f64) -> u64 {
    // Rust's casts saturate, so that only the narrower ranges are left to do. The cast to i32 has vector code.
    match (to.signed, to.bits) {
        (true, 64) => x as i64 as u64,
        (true, 32) => i64::from(x as i32) as u64,
        (true, _) => to.clamp_signed((x as i32).into()),
        (false, _) => (x as u64).min(to.max()),
    }
}

/// What a NaN becomes: the ISA's `1 << (bits - 1)`, extended to 64 bits by the type's sign.
#[inline(always)]
fn nan_as(to: Int) -> u64 {
    to.extend(1 << (to.bits - 1))
}

/// `cvt.irnd{.ftz}{.sat}.to.f32`. Out of range clamps, with or without `.sat`. NaN gives 0, for 64-bit results the
/// bits `1 << 63`. The result is extended to 64 bits by the sign of `to`.
#[inline(always)]
pub fn f32_to_int(to: Int, rounding: Rounding, ftz: bool, x: f32) -> u64 {
    // Flushing matters: .rpi of a subnormal would be 1.
    let number = clamp_f64(to, integral_f64(rounding, if ftz { flush_f32(x) } else { x }.into()));
    // Rust's casts make NaN 0.
    if to.bits == 64 && x.is_nan() { nan_as(to) } else { number }
}

/// `cvt.irnd{.sat}.to.f64`. Out of range clamps. NaN gives the bits `1 << (bits - 1)`. The result is extended to 64
/// bits by the sign of `to`.
#[inline(always)]
pub fn f64_to_int(to: Int, rounding: Rounding, x: f64) -> u64 {
    if x.is_nan() { nan_as(to) } else { clamp_f64(to, integral_f64(rounding, x)) }
}

/// `cvt.irnd{.ftz}.to.f16`, as from f32. For bf16 decode first and use [`f32_to_int`].
#[inline]
pub fn f16_to_int(to: Int, rounding: Rounding, x: u16) -> u64 {
    f32_to_int(to, rounding, false, f16_to_f32(x))
}

/// `cvt.frnd.f32.from`.
#[inline(always)]
pub fn int_to_f32(rounding: Rounding, from: Int, x: u64) -> f32 {
    let x = from.extend(x);
    if rounding == Rounding::Rn {
        // The same number from 32 bits, where they do, has vector code.
        return match (from.signed, from.bits) {
            (true, 64) => x as i64 as f32,
            (true, _) => x as i32 as f32,
            (false, 64) => x as f32,
            (false, _) => x as u32 as f32,
        };
    }
    let (negative, magnitude) = from.magnitude(x);
    f32_from_integer(rounding, negative, magnitude)
}

/// `cvt.frnd.f64.from`.
#[inline(always)]
pub fn int_to_f64(rounding: Rounding, from: Int, x: u64) -> f64 {
    let x = from.extend(x);
    if rounding == Rounding::Rn {
        return if from.signed { x as i64 as f64 } else { x as f64 };
    }
    let (negative, magnitude) = from.magnitude(x);
    f64::from_bits(soft::F64.round(rounding, negative, magnitude, 0))
}

/// `cvt.frnd.f16.from`: rounded once.
#[inline]
pub fn int_to_f16(rounding: Rounding, from: Int, x: u64) -> u16 {
    let (negative, magnitude) = from.magnitude(from.extend(x));
    f16_from_integer(rounding, negative, magnitude)
}

/// `cvt.frnd.bf16.from`: rounded once.
#[inline]
pub fn int_to_bf16(rounding: Rounding, from: Int, x: u64) -> u16 {
    let (negative, magnitude) = from.magnitude(from.extend(x));
    bf16_from_integer(rounding, negative, magnitude)
}

/// `cvt.frnd{.ftz}{.sat}.f32.f64`. `.ftz` flushes the result.
#[inline(always)]
pub fn f64_to_f32(mode: Mode, x: f64) -> f32 {
    mode.output(round_to_f32(mode.rounding, x, 0.0))
}

/// `cvt{.ftz}{.sat}.f64.f32`: exact; `.ftz` flushes the input.
#[inline(always)]
pub fn f32_to_f64(ftz: bool, saturate: bool, x: f32) -> f64 {
    let wide = f64::from(if ftz { flush_f32(x) } else { x });
    let wide = if wide.is_nan() { f64::from_bits(NAN_F64) } else { wide };
    if saturate { saturate_f64(wide) } else { wide }
}

/// `cvt{.irnd}{.ftz}{.sat}.f32.f32`: with a rounding, to the integer that it names, as a float.
#[inline(always)]
pub fn f32_to_f32(integral: Option<Rounding>, ftz: bool, saturate: bool, x: f32) -> f32 {
    let mode = Mode { ftz, sat: saturate, ..Mode::RN };
    let x = mode.input(x);
    mode.output(match integral {
        None => x,
        Some(Rounding::Rn) => x.round_ties_even(),
        Some(Rounding::Rz) => x.trunc(),
        Some(Rounding::Rm) => x.floor(),
        Some(Rounding::Rp) => x.ceil(),
    })
}

/// `cvt{.irnd}{.sat}.f64.f64`: with a rounding, to the integer that it names, as a float.
#[inline]
pub fn f64_to_f64(integral: Option<Rounding>, saturate: bool, x: f64) -> f64 {
    let x = integral.map_or(x, |rounding| integral_f64(rounding, x));
    if saturate { saturate_f64(x) } else { x }
}

/// `cvt{.irnd}{.sat}.f16.f16`: with a rounding, to the integer that it names, as a float.
#[inline]
pub fn f16_to_f16(integral: Option<Rounding>, saturate: bool, x: u16) -> u16 {
    // Integers up to 2048 and all larger f16 are f16, so that the second rounding is none.
    f16_from_f32(Narrow::RN, f32_to_f32(integral, false, saturate, f16_to_f32(x)))
}

/// `cvt.frnd{.satfinite}{.relu}.f16x2.f32 d, a, b`: `a` in the upper half, `b` in the lower.
#[inline]
pub fn f16x2_from_f32(how: Narrow, a: f32, b: f32) -> u32 {
    fp16x2::pack(f16_from_f32(how, b), f16_from_f32(how, a))
}

/// `cvt.frnd{.satfinite}{.relu}.bf16x2.f32 d, a, b`: `a` in the upper half, `b` in the lower.
#[inline]
pub fn bf16x2_from_f32(how: Narrow, a: f32, b: f32) -> u32 {
    fp16x2::pack(bf16_from_f32(how, b), bf16_from_f32(how, a))
}

/// `cvt.rn.satfinite{.relu}.e4m3x2.f32 d, a, b`: `a` in the upper byte.
#[inline]
pub fn e4m3x2_from_f32(how: Narrow, a: f32, b: f32) -> u16 {
    u16::from_le_bytes([b, a].map(|x| e4m3_from_f64(how, x.into())))
}

/// `cvt.rn.satfinite{.relu}.e5m2x2.f32 d, a, b`: `a` in the upper byte.
#[inline]
pub fn e5m2x2_from_f32(how: Narrow, a: f32, b: f32) -> u16 {
    u16::from_le_bytes([b, a].map(|x| e5m2_from_f64(how, x.into())))
}

/// `cvt.rn.satfinite{.relu}.e2m1x2.f32 d, a, b`: `a` in the upper nibble.
#[inline]
pub fn e2m1x2_from_f32(how: Narrow, a: f32, b: f32) -> u8 {
    e2m1_from_f64(how, a.into()) << 4 | e2m1_from_f64(how, b.into())
}

/// `cvt.rz` and (`up`) `cvt.rp{.satfinite}.ue8m0x2.f32 d, a, b`: `a` in the upper byte.
#[inline]
pub fn ue8m0x2_from_f32(up: bool, satfinite: bool, a: f32, b: f32) -> u16 {
    u16::from_le_bytes([b, a].map(|x| ue8m0_from_f32(up, satfinite, x)))
}

/// The two f16 of a packed register, lower first, as f32.
#[inline]
fn halves(x: u32) -> [f32; 2] {
    [f16_to_f32(x as u16), f16_to_f32((x >> 16) as u16)]
}

/// `cvt.rn.satfinite{.relu}.e4m3x2.f16x2`: half by half.
#[inline]
pub fn e4m3x2_from_f16x2(how: Narrow, x: u32) -> u16 {
    let [low, high] = halves(x);
    e4m3x2_from_f32(how, high, low)
}

/// `cvt.rn.satfinite{.relu}.e5m2x2.f16x2`: half by half.
#[inline]
pub fn e5m2x2_from_f16x2(how: Narrow, x: u32) -> u16 {
    let [low, high] = halves(x);
    e5m2x2_from_f32(how, high, low)
}

/// `cvt.rn{.relu}.f16x2.e4m3x2`: exact.
#[inline]
pub fn f16x2_from_e4m3x2(relu: bool, x: u16) -> u32 {
    let [low, high] = x.to_le_bytes().map(e4m3_to_f32);
    f16x2_from_f32(Narrow { relu, ..Narrow::RN }, high, low)
}

/// `cvt.rn{.relu}.f16x2.e5m2x2`: exact.
#[inline]
pub fn f16x2_from_e5m2x2(relu: bool, x: u16) -> u32 {
    let [low, high] = x.to_le_bytes().map(e5m2_to_f32);
    f16x2_from_f32(Narrow { relu, ..Narrow::RN }, high, low)
}

/// `cvt.rn{.relu}.f16x2.e2m1x2`: exact.
#[inline]
pub fn f16x2_from_e2m1x2(relu: bool, x: u8) -> u32 {
    f16x2_from_f32(Narrow { relu, ..Narrow::RN }, e2m1_to_f32(x >> 4), e2m1_to_f32(x))
}

/// `cvt.rn.bf16x2.ue8m0x2`: exact.
#[inline]
pub fn bf16x2_from_ue8m0x2(x: u16) -> u32 {
    let [low, high] = x.to_le_bytes().map(ue8m0_to_f32);
    bf16x2_from_f32(Narrow::RN, high, low)
}

/// `cvt.pack.sat.to.s32{.b32} d, a, b{, c}`: `a` and `b` clamped to `to`, `a` above `b`; for types under 16 bits the
/// low bits of `c` above them.
#[inline]
pub fn pack(to: Int, a: i32, b: i32, c: u32) -> u32 {
    let mask = u64::MAX >> (64 - to.bits);
    let clamp = |x: i32| to.clamp_signed(x.into()) & mask;
    // 64 bits, since with 16-bit types `c` is shifted out whole.
    (u64::from(c) << (2 * to.bits) | clamp(a) << to.bits | clamp(b)) as u32
}

/// `cvt.f32.bf16`: exact; NaN becomes 0x7fffffff.
#[inline(always)]
pub fn bf16_to_f32(x: u16) -> f32 {
    super::canonical_f32(formats::bf16_to_f32(x))
}
