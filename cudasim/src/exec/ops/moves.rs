//! `mov` and `cvta`.

use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::lanes::compute;
use crate::memory::{LOCAL_WINDOW, PARAMETER_WINDOW, SHARED_WINDOW};
use crate::ptx::module::Instruction;
use crate::ptx::opcode::{Modifier, Opcode};
use crate::ptx::operand::Operand;
use crate::ptx::types::{ScalarType, StateSpace};

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    match instruction.form.opcode {
        Opcode::Cvta => cvta(decoder, instruction),
        _ => mov(decoder, instruction),
    }
}

fn mov(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let ty = instruction.form.types[0];
    let [target, source] = instruction.operands.as_slice() else { return Err("mov takes two operands".into()) };

    if ty == ScalarType::Pred {
        let (d, a) = (decoder.target_predicate(target)?, decoder.predicate(source)?);
        let f = compute!(|registers, o, mask| {
            let value = registers.predicate(o.slots[1]) ^ (o.constant as u32);
            registers.set_predicate(o.slots[0], mask, value);
        });
        return Ok(Decoded::compute(f, &[d, a.index], if a.negated { u32::MAX.into() } else { 0 }));
    }

    match (target, source) {
        (Operand::Vector(elements), source) => {
            let bits = ty.bits() / elements.len() as u32;
            let piece = unsigned(bits);
            let (slots, a) = (decoder.targets(target, piece)?, decoder.value(source, ty)?);
            unpack(&slots, a, ty.bits(), bits)
        }
        (target, Operand::Vector(elements)) => {
            let bits = ty.bits() / elements.len() as u32;
            let (d, slots) = (decoder.target(target, ty)?, decoder.values(source, unsigned(bits))?);
            pack(d, &slots, ty.bits(), bits)
        }
        _ => {
            let (d, a) = (decoder.target(target, ty)?, decoder.value(source, ty)?);
            let f = match ty.bits() {
                128 => compute!(|a: u128| -> u128 { a }),
                64 => compute!(|a: u64| -> u64 { a }),
                16 => compute!(|a: u16| -> u16 { a }),
                _ => compute!(|a: u32| -> u32 { a }),
            };
            Ok(Decoded::compute(f, &[d, a], 0))
        }
    }
}

fn unsigned(bits: u32) -> ScalarType {
    match bits {
        16 => ScalarType::B16,
        32 => ScalarType::B32,
        _ => ScalarType::B64,
    }
}

/// `{d0, d1, ...} = a`, the low bits first.
fn unpack(slots: &[u32], a: u32, whole: u32, bits: u32) -> Decode {
    // The source may be one of the destinations: read whole before anything is written.
    let f = match (whole, bits) {
        (32, 16) => compute!(|r, o, mask| {
            let a = r.get::<u32>(o.slots[0]);
            r.set(o.slots[1], mask, &a.map(|a| a as u16));
            r.set(o.slots[2], mask, &a.map(|a| (a >> 16) as u16));
        }),
        (64, 32) => compute!(|r, o, mask| {
            let a = r.get::<u64>(o.slots[0]);
            r.set(o.slots[1], mask, &a.map(|a| a as u32));
            r.set(o.slots[2], mask, &a.map(|a| (a >> 32) as u32));
        }),
        (64, 16) => compute!(|r, o, mask| {
            let a = r.get::<u64>(o.slots[0]);
            for part in 0..4 {
                r.set(o.slots[1 + part], mask, &a.map(|a| (a >> (16 * part)) as u16));
            }
        }),
        (128, 64) => compute!(|r, o, mask| {
            let a = r.get::<u128>(o.slots[0]);
            r.set(o.slots[1], mask, &a.map(|a| a as u64));
            r.set(o.slots[2], mask, &a.map(|a| (a >> 64) as u64));
        }),
        (128, 32) => compute!(|r, o, mask| {
            let a = r.get::<u128>(o.slots[0]);
            for part in 0..4 {
                r.set(o.slots[1 + part], mask, &a.map(|a| (a >> (32 * part)) as u32));
            }
        }),
        _ => return Err(format!("cannot unpack {whole} bits into pieces of {bits}")),
    };

    Ok(Decoded::compute(f, &[&[a], slots].concat(), 0))
}

/// `d = {a0, a1, ...}`, the low bits first.
fn pack(d: u32, slots: &[u32], whole: u32, bits: u32) -> Decode {
    let f = match (whole, bits) {
        (32, 16) => compute!(|a: u16, b: u16| -> u32 { u32::from(b) << 16 | u32::from(a) }),
        (64, 32) => compute!(|a: u32, b: u32| -> u64 { u64::from(b) << 32 | u64::from(a) }),
        (64, 16) => compute!(|a: u16, b: u16, c: u16, e: u16| -> u64 {
            u64::from(e) << 48 | u64::from(c) << 32 | u64::from(b) << 16 | u64::from(a)
        }),
        (128, 64) => compute!(|a: u64, b: u64| -> u128 { u128::from(b) << 64 | u128::from(a) }),
        (128, 32) => compute!(|a: u32, b: u32, c: u32, e: u32| -> u128 {
            u128::from(e) << 96 | u128::from(c) << 64 | u128::from(b) << 32 | u128::from(a)
        }),
        _ => return Err(format!("cannot pack pieces of {bits} bits into {whole}")),
    };
    Ok(Decoded::compute(f, &[&[d], slots].concat(), 0))
}

/// Between a space's own addresses and generic ones: windows are at fixed addresses.
fn cvta(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let ty = form.types[0];
    let [target, source] = instruction.operands.as_slice() else { return Err("cvta takes two operands".into()) };

    let base = match form.space() {
        Some(StateSpace::Global | StateSpace::Const) | None => 0,
        Some(StateSpace::Local) => LOCAL_WINDOW,
        Some(StateSpace::Param | StateSpace::ParamEntry | StateSpace::ParamFunc) => PARAMETER_WINDOW,
        Some(_) => SHARED_WINDOW,
    };

    if ty.bits() != 64 && base != 0 {
        return Err("generic addresses have 64 bits; compile for `.address_size 64`".into());
    }
    let (d, a) = (decoder.target(target, ty)?, decoder.value(source, ty)?);

    let f = match (ty.bits(), form.has(Modifier::To)) {
        (64, true) => compute!(|o; a: u64| -> u64 { a.wrapping_sub(o.constant) }),
        (64, false) => compute!(|o; a: u64| -> u64 { a.wrapping_add(o.constant) }),
        _ => compute!(|a: u32| -> u32 { a }),
    };

    Ok(Decoded::compute(f, &[d, a], base))
}
