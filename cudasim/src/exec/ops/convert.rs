//! `cvt` and `szext`.

use super::float::{rounding, unpack_rounding};
use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::lanes::compute;
use crate::exec::program::step::Compute;
use crate::numerics::bits::{self, Amount};
use crate::numerics::convert::{self as n, Int};
use crate::numerics::formats::{self, Narrow};
use crate::numerics::{Mode, Rounding};
use crate::ptx::form::Form;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::{Modifier, Opcode};
use crate::ptx::types::ScalarType::{self, *};

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    if form.opcode == Opcode::Szext {
        let constant = u64::from(form.types[0].is_signed()) | u64::from(form.has(Modifier::Wrap)) << 1;
        let function = compute!(|o; a: u32, b: u32| -> u32 {
            let amount = if o.constant & 2 != 0 { Amount::Wrap } else { Amount::Clamp };
            bits::szext(amount, o.constant & 1 != 0, a, b)
        });
        return super::compute_of_values(decoder, instruction, function, constant);
    }

    let (to, from) = (form.types[0], form.types[1]);
    let o = &instruction.operands;
    let how = How::of(form);
    if form.has(Modifier::Pack) {
        return pack(decoder, instruction, to);
    }
    let d = decoder.target(&o[0], to)?;

    if let [_, a, b] = o.as_slice() {
        let (a, b) = (decoder.value(a, from)?, decoder.value(b, from)?);
        let function = packed(to, how).ok_or_else(|| super::unsupported(instruction))?;
        return Ok(Decoded::compute(function, &[d, a, b], how.bits(to, from)));
    }

    let a = decoder.value(&o[1], from)?;
    let (wide_d, wide_a) = (decoder.width(&o[0], to) > 32, decoder.width(&o[1], from) > 32);
    if let Some(function) = common(to, from, how, wide_d, wide_a) {
        return Ok(Decoded::compute(function, &[d, a], how.bits(to, from)));
    }
    if convert(to, from, how, 0).is_none() {
        return Err(super::unsupported(instruction));
    }

    // A 16-bit register keeps the low half: registers hold narrow values zero-extended.
    let narrow_d = decoder.width(&o[0], to) == 16;
    let function = match (wide_d, wide_a, narrow_d) {
        (true, true, _) => compute!(|o; a: u64| -> u64 { general(o.constant, a) }),
        (true, false, _) => compute!(|o; a: u32| -> u64 { general(o.constant, a.into()) }),
        (false, true, false) => compute!(|o; a: u64| -> u32 { general(o.constant, a) as u32 }),
        (false, false, false) => compute!(|o; a: u32| -> u32 { general(o.constant, a.into()) as u32 }),
        (false, true, true) => compute!(|o; a: u64| -> u16 { general(o.constant, a) as u16 }),
        (false, false, true) => compute!(|o; a: u32| -> u16 { general(o.constant, a.into()) as u16 }),
    };

    Ok(Decoded::compute(function, &[d, a], how.bits(to, from)))
}

/// The modifiers of a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct How {
    rounding: Rounding,
    /// To an integer, as a type or in floating point (`.rni` and its kin).
    integral: bool,
    away: bool,
    ftz: bool,
    sat: bool,
    relu: bool,
    satfinite: bool,
}

impl How {
    fn of(form: &Form) -> Self {
        let integral = form.modifiers.iter().find_map(|modifier| match modifier {
            Modifier::Rni => Some(Rounding::Rn),
            Modifier::Rzi => Some(Rounding::Rz),
            Modifier::Rmi => Some(Rounding::Rm),
            Modifier::Rpi => Some(Rounding::Rp),
            _ => None,
        });
        Self {
            rounding: integral.or_else(|| rounding(form)).unwrap_or(Rounding::Rn),
            integral: integral.is_some(),
            away: form.has(Modifier::Rna),
            ftz: form.has(Modifier::Ftz),
            sat: form.has(Modifier::Sat),
            relu: form.has(Modifier::Relu),
            satfinite: form.has(Modifier::Satfinite),
        }
    }

    /// As a constant of a step, with the types.
    fn bits(self, to: ScalarType, from: ScalarType) -> u64 {
        let flags = [self.integral, self.ftz, self.sat, self.relu, self.satfinite, self.away];
        let flags = flags.iter().enumerate().fold(0, |bits, (place, &flag)| bits | u64::from(flag) << (2 + place));
        self.rounding as u64 | flags | (to as u64) << 16 | (from as u64) << 24
    }

    #[inline(always)]
    fn from_bits(bits: u64) -> Self {
        let flag = |place: u32| bits >> (2 + place) & 1 != 0;
        Self {
            rounding: unpack_rounding(bits),
            integral: flag(0),
            ftz: flag(1),
            sat: flag(2),
            relu: flag(3),
            satfinite: flag(4),
            away: flag(5),
        }
    }

    #[inline(always)]
    fn narrow(self) -> Narrow {
        Narrow { rounding: self.rounding, satfinite: self.satfinite, relu: self.relu }
    }

    fn is_plain(self, rounding: Rounding) -> bool {
        let Self { integral: _, away, ftz, sat, relu, satfinite, .. } = self;
        self.rounding == rounding && !(away | ftz | sat | relu | satfinite)
    }
}

/// Conversions that kernels are full of, as loops of their own.
fn common(to: ScalarType, from: ScalarType, how: How, wide_d: bool, wide_a: bool) -> Option<Compute> {
    let (rn, rz) = (how.is_plain(Rounding::Rn), how.is_plain(Rounding::Rz));

    Some(match (to, from, wide_d, wide_a) {
        // Integers to integers.
        (S64 | U64, S32, true, false) if rn => compute!(|a: i32| -> i64 { a.into() }),
        (S64 | U64, U32, true, false) if rn => compute!(|a: u32| -> u64 { a.into() }),
        (S32 | U32, S64 | U64, false, true) if rn => compute!(|a: u64| -> u32 { a as u32 }),

        // Integers to f32 and back.
        (F32, S32, false, false) if rn => compute!(|a: i32| -> f32 { a as f32 }),
        (F32, U32, false, false) if rn => compute!(|a: u32| -> f32 { a as f32 }),
        (S32, F32, false, false) if rz && how.integral => {
            compute!(|a: f32| -> u32 { n::f32_to_int(Int::s(32), Rounding::Rz, false, a) as u32 })
        }

        // Floating-point numbers of other widths.
        (F32, F16, false, false) if rn && !how.integral => {
            compute!(|a: u16| -> f32 { crate::numerics::canonical_f32(formats::f16_to_f32(a)) })
        }
        (F32, Bf16, false, false) if rn && !how.integral => compute!(|a: u16| -> f32 { n::bf16_to_f32(a) }),
        (Bf16, F32, false, false) if rn => compute!(|a: f32| -> u16 { formats::bf16_from_f32(Narrow::RN, a) }),
        (F16, F32, false, false) if rn && !how.integral => {
            compute!(|a: f32| -> u16 { formats::f16_from_f32(Narrow::RN, a) })
        }
        (F64, F32, true, false) if rn => compute!(|a: f32| -> f64 { n::f32_to_f64(false, false, a) }),
        (F32, F64, false, true) if rn => compute!(|a: f64| -> f32 { n::f64_to_f32(Mode::RN, a) }),

        _ => return None,
    })
}

/// Two f32 to a packed pair.
fn packed(to: ScalarType, how: How) -> Option<Compute> {
    Some(match to {
        // To 16 bits each, rounded to nearest even and nothing else.
        Bf16x2 if how.is_plain(Rounding::Rn) => {
            compute!(|a: f32, b: f32| -> u32 { n::bf16x2_from_f32(Narrow::RN, a, b) })
        }
        F16x2 if how.is_plain(Rounding::Rn) => {
            compute!(|a: f32, b: f32| -> u32 { n::f16x2_from_f32(Narrow::RN, a, b) })
        }

        // To 16 bits each, with any modifiers.
        Bf16x2 => {
            compute!(|o; a: f32, b: f32| -> u32 { n::bf16x2_from_f32(How::from_bits(o.constant).narrow(), a, b) })
        }
        F16x2 => compute!(|o; a: f32, b: f32| -> u32 { n::f16x2_from_f32(How::from_bits(o.constant).narrow(), a, b) }),

        // To 8 bits each.
        E4m3x2 => {
            compute!(|o; a: f32, b: f32| -> u16 { n::e4m3x2_from_f32(How::from_bits(o.constant).narrow(), a, b) })
        }
        E5m2x2 => {
            compute!(|o; a: f32, b: f32| -> u16 { n::e5m2x2_from_f32(How::from_bits(o.constant).narrow(), a, b) })
        }

        _ => return None,
    })
}

fn pack(decoder: &mut Decoder<'_>, instruction: &Instruction, to: ScalarType) -> Decode {
    let constant = u64::from(to.bits()) | u64::from(to.is_signed()) << 8;
    let o = &instruction.operands;
    let mut slots = vec![decoder.target(&o[0], B32)?];
    for operand in &o[1..] {
        slots.push(decoder.value(operand, B32)?);
    }
    if slots.len() == 3 {
        slots.push(decoder.constant(32, 0));
    }
    let function = compute!(|o; a: i32, b: i32, c: u32| -> u32 {
        let to = Int { signed: o.constant >> 8 != 0, bits: (o.constant & 0xff) as u32 };
        n::pack(to, a, b, c)
    });
    Ok(Decoded::compute(function, &slots, constant))
}

/// Any conversion of one value: the types and modifiers are in the constant.
fn general(constant: u64, x: u64) -> u64 {
    let ty = |place: u32| ScalarType::ALL.get((constant >> place & 0xff) as usize).copied().unwrap_or(B32);
    convert(ty(16), ty(24), How::from_bits(constant), x).unwrap_or(0)
}

fn integer(ty: ScalarType) -> Option<Int> {
    matches!(ty, U8 | U16 | U32 | U64 | S8 | S16 | S32 | S64).then(|| Int { signed: ty.is_signed(), bits: ty.bits() })
}

/// `x` (bits of type `from`, above them anything) as type `to`, integers extended to 64 bits. `None` for pairs of types
/// that are not converted.
fn convert(to: ScalarType, from: ScalarType, how: How, x: u64) -> Option<u64> {
    let How { rounding, ftz, sat, .. } = how;
    let mode = Mode { rounding, ftz, sat };
    let single = |x: u64| f32::from_bits(x as u32);
    let integral = how.integral.then_some(rounding);

    Some(match (integer(to), integer(from)) {
        (Some(to), Some(from)) => n::int_to_int(to, from, sat, x),
        (Some(to), None) => match from {
            F32 => n::f32_to_int(to, rounding, ftz, single(x)),
            F64 => n::f64_to_int(to, rounding, f64::from_bits(x)),
            F16 => n::f16_to_int(to, rounding, x as u16),
            Bf16 => n::f32_to_int(to, rounding, false, formats::bf16_to_f32(x as u16)),
            _ => return None,
        },
        (None, Some(from)) => match to {
            F32 => mode.output(n::int_to_f32(rounding, from, x)).to_bits().into(),
            F64 if sat => crate::numerics::saturate_f64(n::int_to_f64(rounding, from, x)).to_bits(),
            F64 => n::int_to_f64(rounding, from, x).to_bits(),
            F16 => n::f16_to_f16(None, sat, n::int_to_f16(rounding, from, x)).into(),
            Bf16 => n::int_to_bf16(rounding, from, x).into(),
            _ => return None,
        },
        (None, None) => match (to, from) {
            (F32, F32) => n::f32_to_f32(integral, ftz, sat, single(x)).to_bits().into(),
            (F64, F64) => n::f64_to_f64(integral, sat, f64::from_bits(x)).to_bits(),
            (F16, F16) => n::f16_to_f16(integral, sat, x as u16).into(),
            (Bf16, Bf16) => {
                let value = n::f32_to_f32(integral, false, sat, formats::bf16_to_f32(x as u16));
                formats::bf16_from_f32(Narrow::RN, value).into()
            }
            (F32, F16) => n::f32_to_f32(None, ftz, sat, formats::f16_to_f32(x as u16)).to_bits().into(),
            (F32, Bf16) => n::f32_to_f32(None, ftz, sat, formats::bf16_to_f32(x as u16)).to_bits().into(),
            (F64, F32) => n::f32_to_f64(ftz, sat, single(x)).to_bits(),
            (F64, F16) => n::f32_to_f64(false, sat, formats::f16_to_f32(x as u16)).to_bits(),
            (F64, Bf16) => n::f32_to_f64(false, sat, formats::bf16_to_f32(x as u16)).to_bits(),
            (F32, F64) => n::f64_to_f32(mode, f64::from_bits(x)).to_bits().into(),
            (F16, F32) => {
                let value = formats::f16_from_f32(how.narrow(), mode_input(ftz, single(x)));
                n::f16_to_f16(None, sat, value).into()
            }
            (F16, F64) => n::f16_to_f16(None, sat, formats::f16_from_f64(how.narrow(), f64::from_bits(x))).into(),
            (Bf16, F32) => formats::bf16_from_f32(how.narrow(), single(x)).into(),
            (Bf16, F64) => formats::bf16_from_f64(how.narrow(), f64::from_bits(x)).into(),
            (Bf16, F16) => formats::bf16_from_f32(how.narrow(), formats::f16_to_f32(x as u16)).into(),
            (Tf32, F32) if how.away => formats::tf32_from_f32_rna(how.satfinite, single(x)).into(),
            (Tf32, F32) => formats::tf32_from_f32(how.narrow(), single(x)).into(),
            (E4m3x2, F16x2) => n::e4m3x2_from_f16x2(how.narrow(), x as u32).into(),
            (E5m2x2, F16x2) => n::e5m2x2_from_f16x2(how.narrow(), x as u32).into(),
            (F16x2, E4m3x2) => n::f16x2_from_e4m3x2(how.relu, x as u16).into(),
            (F16x2, E5m2x2) => n::f16x2_from_e5m2x2(how.relu, x as u16).into(),
            _ => return None,
        },
    })
}

fn mode_input(ftz: bool, x: f32) -> f32 {
    if ftz { crate::numerics::flush_f32(x) } else { x }
}
