//! Bits: logic, shifts, fields, permutations.

use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::lanes::compute;
use crate::exec::program::step::Compute;
use crate::numerics::bits::{self as n, Amount, Permute};
use crate::ptx::form::Form;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::{Modifier, Opcode};
use crate::ptx::types::ScalarType::{self, *};

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let (ty, bits) = (form.types[0], form.types[0].bits());
    if ty == Pred {
        return predicates(decoder, instruction);
    }

    let (function, constant) = match form.opcode {
        Opcode::Lop3 => return lop3(decoder, instruction),
        Opcode::And | Opcode::Or | Opcode::Xor | Opcode::Not | Opcode::Cnot => (bitwise(form.opcode, bits), 0),
        Opcode::Shl | Opcode::Shr | Opcode::Shf => (shift(form, ty), 0),
        Opcode::Prmt => permutation(form),
        Opcode::Bfe | Opcode::Bfi | Opcode::Bfind | Opcode::Bmsk => field(form, ty),
        Opcode::Brev | Opcode::Clz | Opcode::Popc => (count(form.opcode, bits), 0),
        Opcode::Fns => (compute!(|a: u32, b: u32, c: i32| -> u32 { n::fns(a, b, c) }), 0),
        _ => return Err(super::unsupported(instruction)),
    };
    super::compute_of_values(decoder, instruction, function, constant)
}

/// `and`, `or`, `xor`, `not` and `cnot` of this many bits.
fn bitwise(opcode: Opcode, bits: u32) -> Compute {
    match (opcode, bits) {
        (Opcode::And, 16) => compute!(|a: u16, b: u16| -> u16 { a & b }),
        (Opcode::And, 32) => compute!(|a: u32, b: u32| -> u32 { a & b }),
        (Opcode::And, _) => compute!(|a: u64, b: u64| -> u64 { a & b }),
        (Opcode::Or, 16) => compute!(|a: u16, b: u16| -> u16 { a | b }),
        (Opcode::Or, 32) => compute!(|a: u32, b: u32| -> u32 { a | b }),
        (Opcode::Or, _) => compute!(|a: u64, b: u64| -> u64 { a | b }),
        (Opcode::Xor, 16) => compute!(|a: u16, b: u16| -> u16 { a ^ b }),
        (Opcode::Xor, 32) => compute!(|a: u32, b: u32| -> u32 { a ^ b }),
        (Opcode::Xor, _) => compute!(|a: u64, b: u64| -> u64 { a ^ b }),
        (Opcode::Not, 16) => compute!(|a: u16| -> u16 { !a }),
        (Opcode::Not, 32) => compute!(|a: u32| -> u32 { !a }),
        (Opcode::Not, _) => compute!(|a: u64| -> u64 { !a }),
        (Opcode::Cnot, 16) => compute!(|a: u16| -> u16 { u16::from(a == 0) }),
        (Opcode::Cnot, 32) => compute!(|a: u32| -> u32 { u32::from(a == 0) }),
        _ => compute!(|a: u64| -> u64 { u64::from(a == 0) }),
    }
}

/// `shl`, `shr` and `shf`.
fn shift(form: &Form, ty: ScalarType) -> Compute {
    match (form.opcode, ty.bits()) {
        (Opcode::Shl, 16) => compute!(|a: u16, b: u32| -> u16 { n::shl_b16(a, b) }),
        (Opcode::Shl, 32) => compute!(|a: u32, b: u32| -> u32 { n::shl_b32(a, b) }),
        (Opcode::Shl, _) => compute!(|a: u64, b: u32| -> u64 { n::shl_b64(a, b) }),
        (Opcode::Shr, 16) if ty == S16 => compute!(|a: i16, b: u32| -> i16 { n::shr_s16(a, b) }),
        (Opcode::Shr, 16) => compute!(|a: u16, b: u32| -> u16 { n::shr_u16(a, b) }),
        (Opcode::Shr, 32) if ty == S32 => compute!(|a: i32, b: u32| -> i32 { n::shr_s32(a, b) }),
        (Opcode::Shr, 32) => compute!(|a: u32, b: u32| -> u32 { n::shr_u32(a, b) }),
        (Opcode::Shr, _) if ty == S64 => compute!(|a: i64, b: u32| -> i64 { n::shr_s64(a, b) }),
        (Opcode::Shr, _) => compute!(|a: u64, b: u32| -> u64 { n::shr_u64(a, b) }),
        _ => match (form.has(Modifier::Left), form.has(Modifier::Wrap)) {
            (true, true) => compute!(|a: u32, b: u32, c: u32| -> u32 { n::shf_l(Amount::Wrap, a, b, c) }),
            (true, false) => compute!(|a: u32, b: u32, c: u32| -> u32 { n::shf_l(Amount::Clamp, a, b, c) }),
            (false, true) => compute!(|a: u32, b: u32, c: u32| -> u32 { n::shf_r(Amount::Wrap, a, b, c) }),
            (false, false) => compute!(|a: u32, b: u32, c: u32| -> u32 { n::shf_r(Amount::Clamp, a, b, c) }),
        },
    }
}

/// `prmt`, and its mode as the constant.
fn permutation(form: &Form) -> (Compute, u64) {
    let mode = form.modifiers.iter().find_map(|modifier| match modifier {
        Modifier::F4e => Some(Permute::Forward4),
        Modifier::B4e => Some(Permute::Backward4),
        Modifier::Rc8 => Some(Permute::Replicate8),
        Modifier::Ecl => Some(Permute::EdgeLeft),
        Modifier::Ecr => Some(Permute::EdgeRight),
        Modifier::Rc16 => Some(Permute::Replicate16),
        _ => None,
    });

    match mode {
        None => (compute!(|a: u32, b: u32, c: u32| -> u32 { n::prmt(Permute::Index, a, b, c) }), 0),
        Some(mode) => {
            let function = compute!(|o; a: u32, b: u32, c: u32| -> u32 { n::prmt(permute(o.constant), a, b, c) });
            (function, mode as u64)
        }
    }
}

/// `bfe`, `bfi`, `bfind` and `bmsk`, with the constant that says whether the field is signed or a shift amount is wanted.
fn field(form: &Form, ty: ScalarType) -> (Compute, u64) {
    let function = match (form.opcode, ty.bits()) {
        (Opcode::Bfe, 32) => {
            let signed = u64::from(ty.is_signed());
            return (compute!(|o; a: u32, b: u32, c: u32| -> u32 { n::bfe_32(o.constant != 0, a, b, c) }), signed);
        }
        (Opcode::Bfe, _) => {
            let signed = u64::from(ty.is_signed());
            return (compute!(|o; a: u64, b: u32, c: u32| -> u64 { n::bfe_64(o.constant != 0, a, b, c) }), signed);
        }
        (Opcode::Bfi, 32) => compute!(|a: u32, b: u32, c: u32, e: u32| -> u32 { n::bfi_32(a, b, c, e) }),
        (Opcode::Bfi, _) => compute!(|a: u64, b: u64, c: u32, e: u32| -> u64 { n::bfi_64(a, b, c, e) }),
        (Opcode::Bfind, _) => {
            let function = match ty {
                U32 => compute!(|o; a: u32| -> u32 { n::bfind_u32(o.constant != 0, a) }),
                S32 => compute!(|o; a: i32| -> u32 { n::bfind_s32(o.constant != 0, a) }),
                U64 => compute!(|o; a: u64| -> u32 { n::bfind_u64(o.constant != 0, a) }),
                _ => compute!(|o; a: i64| -> u32 { n::bfind_s64(o.constant != 0, a) }),
            };
            return (function, u64::from(form.has(Modifier::Shiftamt)));
        }
        _ => match form.has(Modifier::Wrap) {
            true => compute!(|a: u32, b: u32| -> u32 { n::bmsk(Amount::Wrap, a, b) }),
            false => compute!(|a: u32, b: u32| -> u32 { n::bmsk(Amount::Clamp, a, b) }),
        },
    };

    (function, 0)
}

/// `brev`, `clz` and `popc` of this many bits.
fn count(opcode: Opcode, bits: u32) -> Compute {
    match (opcode, bits) {
        (Opcode::Brev, 32) => compute!(|a: u32| -> u32 { a.reverse_bits() }),
        (Opcode::Brev, _) => compute!(|a: u64| -> u64 { a.reverse_bits() }),
        (Opcode::Clz, 32) => compute!(|a: u32| -> u32 { a.leading_zeros() }),
        (Opcode::Clz, _) => compute!(|a: u64| -> u32 { a.leading_zeros() }),
        (Opcode::Popc, 32) => compute!(|a: u32| -> u32 { a.count_ones() }),
        _ => compute!(|a: u64| -> u32 { a.count_ones() }),
    }
}

fn permute(constant: u64) -> Permute {
    use Permute::*;
    let modes = [Index, Forward4, Backward4, Replicate8, EdgeLeft, EdgeRight, Replicate16];
    modes.get(constant as usize).copied().unwrap_or(Index)
}

/// Logic on predicates. The constant: which operands are negated (bits 0 and 1), and which operation (from bit 2).
fn predicates(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let operation = match instruction.form.opcode {
        Opcode::And => 0,
        Opcode::Or => 1,
        Opcode::Xor => 2,
        Opcode::Not => 3,
        _ => return Err(super::unsupported(instruction)),
    };

    let o = &instruction.operands;
    let (d, a) = (decoder.target_predicate(&o[0])?, decoder.predicate(&o[1])?);
    let b = match o.get(2) {
        Some(operand) => decoder.predicate(operand)?,
        None => a,
    };
    let constant = u64::from(a.negated) | u64::from(b.negated) << 1 | operation << 2;

    let function = compute!(|r, o, mask| {
        let negated = |place: u32| if o.constant >> place & 1 != 0 { u32::MAX } else { 0 };
        let a = r.predicate(o.slots[1]) ^ negated(0);
        let b = r.predicate(o.slots[2]) ^ negated(1);
        let value = match o.constant >> 2 {
            0 => a & b,
            1 => a | b,
            2 => a ^ b,
            _ => !a,
        };
        r.set_predicate(o.slots[0], mask, value);
    });

    Ok(Decoded::compute(function, &[d, a.index, b.index], constant))
}

/// `lop3.b32 d, a, b, c, table` and `lop3.BoolOp.b32 d|p, a, b, c, table, q`, where p says whether the result is not 0.
fn lop3(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let o = &instruction.operands;
    let d = decoder.target(&o[0], B32)?;
    let [a, b, c] = [decoder.value(&o[1], B32)?, decoder.value(&o[2], B32)?, decoder.value(&o[3], B32)?];
    let table = decoder.integer(&o[4])? as u64 & 0xff;
    let Some(operand) = o.get(5) else {
        let function = compute!(|o; a: u32, b: u32, c: u32| -> u32 { n::lop3(a, b, c, o.constant as u8) });
        return Ok(Decoded::compute(function, &[d, a, b, c], table));
    };
    let q = decoder.predicate(operand)?;
    let p = decoder.second_predicate(&o[0]).unwrap_or_else(|| decoder.new_predicate());
    let or = instruction.form.has(Modifier::Or);
    let constant = table | u64::from(or) << 8 | u64::from(q.negated) << 9;

    let function = compute!(|r, o, mask| {
        let [a, b, c] = [1, 2, 3].map(|place: usize| r.get::<u32>(o.slots[place]));
        let result: [u32; 32] = std::array::from_fn(|lane| n::lop3(a[lane], b[lane], c[lane], o.constant as u8));
        let set = result.iter().enumerate().fold(0, |set, (lane, &value)| set | u32::from(value != 0) << lane);
        let q = r.predicate(o.slots[5]) ^ if o.constant & 1 << 9 != 0 { u32::MAX } else { 0 };
        r.set(o.slots[0], mask, &result);
        r.set_predicate(o.slots[4], mask, if o.constant & 1 << 8 != 0 { set | q } else { set & q });
    });

    Ok(Decoded::compute(function, &[d, a, b, c, p, q.index], constant))
}
