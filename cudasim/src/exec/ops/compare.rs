//! `setp`, `set`, `selp`, `slct`, `testp`.

use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::lanes::{compute, test2};
use crate::exec::program::registers::{Lane, Registers};
use crate::exec::program::step::{Compute, Operands};
use crate::mask::Mask;
use crate::numerics::compare::Compare;
use crate::numerics::minmax::{Property, testp_f32, testp_f64};
use crate::numerics::{flush_f16, flush_f32, formats};
use crate::ptx::form::Form;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::{Modifier, Opcode};
use crate::ptx::types::ScalarType::{self, *};

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    match instruction.form.opcode {
        Opcode::Setp => setp(decoder, instruction),
        Opcode::Set => set(decoder, instruction),
        Opcode::Selp => selp(decoder, instruction),
        Opcode::Slct => slct(decoder, instruction),
        _ => testp(decoder, instruction),
    }
}

/// How two values are compared and what is made of it, as a constant: comparison (bits 0 to 7), operation with a third
/// predicate (8 and 9: none, and, or, xor), whether that is negated (10), `.ftz` (11), width of a result of `set` and
/// whether it is a float (12 on).
fn constant(form: &Form, negated: bool) -> Result<u64, String> {
    let comparison = form.modifiers.iter().find_map(|modifier| Compare::parse(modifier.name()));
    let comparison = comparison.ok_or("no comparison")?;
    let after = form.modifiers.iter().skip_while(|m| Compare::parse(m.name()).is_none()).skip(1);
    let operation = after.clone().find_map(|modifier| match modifier {
        Modifier::And => Some(1),
        Modifier::Or => Some(2),
        Modifier::Xor => Some(3),
        _ => None,
    });
    Ok(comparison as u64
        | operation.unwrap_or(0) << 8
        | u64::from(negated) << 10
        | u64::from(form.has(Modifier::Ftz)) << 11)
}

const COMPARISONS: [Compare; 18] = {
    use Compare::*;
    [Eq, Ne, Lt, Le, Gt, Ge, Lo, Ls, Hi, Hs, Equ, Neu, Ltu, Leu, Gtu, Geu, Num, Nan]
};

/// Where a comparison holds. The comparison is chosen once, outside the loop over lanes.
#[inline(always)]
fn compared<A: Lane, T: PartialOrd>(r: &Registers, o: &Operands, value: impl Fn(A) -> T + Copy) -> Mask {
    macro_rules! arms {
        ($($name:ident)*) => {
            match COMPARISONS.get((o.constant & 0xff) as usize) {
                $(Some(Compare::$name) => test2::<A>(r, o, 2, |a, b| Compare::$name.holds(value(a), value(b))),)*
                None => 0,
            }
        };
    }
    arms!(Eq Ne Lt Le Gt Ge Lo Ls Hi Hs Equ Neu Ltu Leu Gtu Geu Num Nan)
}

/// The third predicate taken in, if there is one.
#[inline(always)]
fn combined(r: &Registers, o: &Operands, mask: Mask) -> Mask {
    let other = r.predicate(o.slots[4]) ^ if o.constant & 1 << 10 != 0 { u32::MAX } else { 0 };
    match o.constant >> 8 & 3 {
        0 => mask,
        1 => mask & other,
        2 => mask | other,
        _ => mask ^ other,
    }
}

#[inline(always)]
fn single(ftz: bool, x: f32) -> f32 {
    if ftz { flush_f32(x) } else { x }
}

#[inline(always)]
fn half(ftz: bool, x: u16) -> f32 {
    formats::f16_to_f32(if ftz { flush_f16(x) } else { x })
}

/// Calls `$then!` with a function from operands to the masks of a comparison, low half and high half, for each type.
macro_rules! for_type {
    ($ty:expr, $then:ident) => {
        Some(match $ty {
            B16 | U16 => $then!(|r, o| {
                let m = compared::<u16, _>(r, o, |x| x);
                (m, m)
            }),
            S16 => $then!(|r, o| {
                let m = compared::<i16, _>(r, o, |x| x);
                (m, m)
            }),
            B32 | U32 => $then!(|r, o| {
                let m = compared::<u32, _>(r, o, |x| x);
                (m, m)
            }),
            S32 => $then!(|r, o| {
                let m = compared::<i32, _>(r, o, |x| x);
                (m, m)
            }),
            B64 | U64 => $then!(|r, o| {
                let m = compared::<u64, _>(r, o, |x| x);
                (m, m)
            }),
            S64 => $then!(|r, o| {
                let m = compared::<i64, _>(r, o, |x| x);
                (m, m)
            }),
            F64 => $then!(|r, o| {
                let m = compared::<f64, _>(r, o, |x| x);
                (m, m)
            }),
            F32 => $then!(|r, o| {
                let ftz = o.constant & 1 << 11 != 0;
                let m =
                    if ftz { compared::<f32, _>(r, o, |x| single(true, x)) } else { compared::<f32, _>(r, o, |x| x) };
                (m, m)
            }),
            F16 => $then!(|r, o| {
                let m = compared::<u16, _>(r, o, |x| half(o.constant & 1 << 11 != 0, x));
                (m, m)
            }),
            Bf16 => $then!(|r, o| {
                let m = compared::<u16, _>(r, o, formats::bf16_to_f32);
                (m, m)
            }),
            F16x2 => $then!(|r, o| {
                let ftz = o.constant & 1 << 11 != 0;
                (
                    compared::<u32, _>(r, o, |x| half(ftz, x as u16)),
                    compared::<u32, _>(r, o, |x| half(ftz, (x >> 16) as u16)),
                )
            }),
            Bf16x2 => $then!(|r, o| {
                let part = |shift: u32| move |x: u32| formats::bf16_to_f32((x >> shift) as u16);
                (compared::<u32, _>(r, o, part(0)), compared::<u32, _>(r, o, part(16)))
            }),
            _ => return None,
        })
    };
}

/// Slots: p, q, a, b, c. For packed types p is of the low half and q of the high one; else q is of the negation.
fn setp_function(ty: ScalarType) -> Option<Compute> {
    let packed = matches!(ty, F16x2 | Bf16x2);
    macro_rules! write {
        (|$r:ident, $o:ident| $body:block) => {
            match packed {
                true => compute!(|$r, $o, mask| {
                    let (low, high): (Mask, Mask) = $body;
                    let (p, q) = (combined($r, $o, low), combined($r, $o, high));
                    $r.set_predicate($o.slots[0], mask, p);
                    $r.set_predicate($o.slots[1], mask, q);
                }),
                false => compute!(|$r, $o, mask| {
                    let (holds, _): (Mask, Mask) = $body;
                    let (p, q) = (combined($r, $o, holds), combined($r, $o, !holds));
                    $r.set_predicate($o.slots[1], mask, q);
                    $r.set_predicate($o.slots[0], mask, p);
                }),
            }
        };
    }

    for_type!(ty, write)
}

fn setp(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let ty = form.types[0];
    let o = &instruction.operands;
    let p = decoder.target_predicate(&o[0])?;
    let q = decoder.second_predicate(&o[0]).unwrap_or_else(|| decoder.new_predicate());
    let (a, b) = (decoder.value(&o[1], ty)?, decoder.value(&o[2], ty)?);
    let c = match o.get(3) {
        Some(operand) => decoder.predicate(operand)?,
        None => decoder.always(),
    };
    let function = setp_function(ty).ok_or_else(|| super::unsupported(instruction))?;
    Ok(Decoded::compute(function, &[p, q, a, b, c.index], constant(form, c.negated)?))
}

/// The value of a truth of type `ty`: all ones for integers, 1.0 for floats.
fn truth(ty: ScalarType) -> u32 {
    match ty {
        F32 => 1.0_f32.to_bits(),
        F16 => 0x3c00,
        F16x2 => 0x3c00_3c00,
        Bf16 => 0x3f80,
        Bf16x2 => 0x3f80_3f80,
        U16 | S16 => 0xffff,
        _ => u32::MAX,
    }
}

/// Slots: d, unused, a, b, c, the truth. Packed results take the low half of the truth where the low comparison holds.
fn set_function(ty: ScalarType) -> Option<Compute> {
    macro_rules! write {
        (|$r:ident, $o:ident| $body:block) => {
            compute!(|$r, $o, mask| {
                let (low, high): (Mask, Mask) = $body;
                let (low, high) = (combined($r, $o, low), combined($r, $o, high));
                let truth = $r.get::<u32>($o.slots[5]);
                let result: [u32; 32] = std::array::from_fn(|lane| {
                    let bits = |mask: Mask, part: u32| if mask >> lane & 1 != 0 { part } else { 0 };
                    truth[lane] & (bits(low, 0xffff) | bits(high, 0xffff_0000))
                });
                $r.set($o.slots[0], mask, &result);
            })
        };
    }
    for_type!(ty, write)
}

fn set(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let (result, ty) = (form.types[0], form.types[1]);
    let o = &instruction.operands;
    let d = decoder.target(&o[0], result)?;
    let (a, b) = (decoder.value(&o[1], ty)?, decoder.value(&o[2], ty)?);
    let c = match o.get(3) {
        Some(operand) => decoder.predicate(operand)?,
        None => decoder.always(),
    };
    let truth = decoder.constant(32, truth(result).into());
    let function = set_function(ty).ok_or_else(|| super::unsupported(instruction))?;
    Ok(Decoded::compute(function, &[d, 0, a, b, c.index, truth], constant(form, c.negated)?))
}

/// `d = p ? a : b`
fn selp(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let ty = instruction.form.types[0];
    let o = &instruction.operands;
    let (d, a, b) = (decoder.target(&o[0], ty)?, decoder.value(&o[1], ty)?, decoder.value(&o[2], ty)?);
    let p = decoder.predicate(&o[3])?;

    macro_rules! choose {
        ($ty:ty) => {
            compute!(|r, o, mask| {
                let (a, b) = (r.get::<$ty>(o.slots[1]), r.get::<$ty>(o.slots[2]));
                let p = r.predicate(o.slots[3]) ^ o.constant as u32;
                let mut result = [0; 32];
                for lane in 0..32 {
                    result[lane] = if p >> lane & 1 != 0 { a[lane] } else { b[lane] };
                }
                r.set(o.slots[0], mask, &result);
            })
        };
    }

    let function = match ty.bits() {
        64 => choose!(u64),
        16 => choose!(u16),
        _ => choose!(u32),
    };

    Ok(Decoded::compute(function, &[d, a, b, p.index], if p.negated { u32::MAX.into() } else { 0 }))
}

/// `d = c >= 0 ? a : b`; a NaN is not.
fn slct(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let (ty, kind) = (form.types[0], form.types[1]);
    let function = match (ty.bits(), kind) {
        (64, S32) => compute!(|a: u64, b: u64, c: i32| -> u64 { if c >= 0 { a } else { b } }),
        (64, _) => {
            compute!(|o; a: u64, b: u64, c: f32| -> u64 { if single(o.constant != 0, c) >= 0.0 { a } else { b } })
        }
        (16, S32) => compute!(|a: u16, b: u16, c: i32| -> u16 { if c >= 0 { a } else { b } }),
        (16, _) => {
            compute!(|o; a: u16, b: u16, c: f32| -> u16 { if single(o.constant != 0, c) >= 0.0 { a } else { b } })
        }
        (_, S32) => compute!(|a: u32, b: u32, c: i32| -> u32 { if c >= 0 { a } else { b } }),
        _ => compute!(|o; a: u32, b: u32, c: f32| -> u32 { if single(o.constant != 0, c) >= 0.0 { a } else { b } }),
    };
    super::compute_of_values(decoder, instruction, function, form.has(Modifier::Ftz).into())
}

fn testp(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let ty = form.types[0];
    let property = form.modifiers.iter().find_map(|modifier| PROPERTIES.iter().position(|(name, _)| name == modifier));
    let property = property.ok_or_else(|| super::unsupported(instruction))?;
    let o = &instruction.operands;
    let (p, a) = (decoder.target_predicate(&o[0])?, decoder.value(&o[1], ty)?);

    let function = match ty {
        F32 => compute!(|r, o, mask| {
            let property = PROPERTIES[o.constant as usize].1;
            let holds = test2::<f32>(r, o, 1, |a, _| testp_f32(property, a));
            r.set_predicate(o.slots[0], mask, holds);
        }),
        _ => compute!(|r, o, mask| {
            let property = PROPERTIES[o.constant as usize].1;
            let holds = test2::<f64>(r, o, 1, |a, _| testp_f64(property, a));
            r.set_predicate(o.slots[0], mask, holds);
        }),
    };

    Ok(Decoded::compute(function, &[p, a, a], property as u64))
}

const PROPERTIES: [(Modifier, Property); 6] = [
    (Modifier::Finite, Property::Finite),
    (Modifier::Infinite, Property::Infinite),
    (Modifier::Number, Property::Number),
    (Modifier::Notanumber, Property::NotANumber),
    (Modifier::Normal, Property::Normal),
    (Modifier::Subnormal, Property::Subnormal),
];
