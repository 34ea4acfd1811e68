//! Integer arithmetic.

use crate::exec::decode::{Decode, Decoded, Decoder};
use crate::exec::lanes::compute;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::{Modifier, Opcode};
use crate::ptx::types::ScalarType;

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    use ScalarType::*;
    let form = &instruction.form;
    let ty = form.types[0];
    let o = &instruction.operands;
    let refuse = || Err(format!("the simulator does not execute `{}`", form.spelling));
    let wide = form.has(Modifier::Wide);
    let result = if wide { if ty.bits() == 16 { B32 } else { B64 } } else { ty };
    let f = match (form.opcode, ty) {
        (Opcode::Add, F32) => compute!(|a: f32, b: f32| -> f32 { a + b }),
        (Opcode::Add, U32 | S32) => compute!(|a: u32, b: u32| -> u32 { a.wrapping_add(b) }),
        (Opcode::Add, U64 | S64) => compute!(|a: u64, b: u64| -> u64 { a.wrapping_add(b) }),
        (Opcode::Mul, U32) if wide => compute!(|a: u32, b: u32| -> u64 { u64::from(a) * u64::from(b) }),
        (Opcode::Mul, S32) if wide => compute!(|a: i32, b: i32| -> i64 { i64::from(a) * i64::from(b) }),
        (Opcode::Mad, U32 | S32) if form.has(Modifier::Lo) => {
            compute!(|a: u32, b: u32, c: u32| -> u32 { a.wrapping_mul(b).wrapping_add(c) })
        }
        (Opcode::Setp, S32) if form.has(Modifier::Ge) => {
            let (p, a, b) = (decoder.target_predicate(&o[0])?, decoder.value(&o[1], ty)?, decoder.value(&o[2], ty)?);
            let f = compute!(|r, o, mask| {
                let value = crate::exec::lanes::test2::<i32>(r, o, 1, |a, b| a >= b);
                r.set_predicate(o.slots[0], mask, value);
            });
            return Ok(Decoded::compute(f, &[p, a, b], 0));
        }
        _ => return refuse(),
    };
    let mut slots = vec![decoder.target(&o[0], result)?, decoder.value(&o[1], ty)?, decoder.value(&o[2], ty)?];
    if let Some(third) = o.get(3) {
        slots.push(decoder.value(third, result)?);
    }
    Ok(Decoded::compute(f, &slots, 0))
}
