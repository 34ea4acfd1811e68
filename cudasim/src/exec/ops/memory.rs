//! `ld` and `st`.

use crate::exec::decode::{Decode, Decoded, Decoder};
use crate::exec::registers::lanes;
use crate::exec::step::Flow;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::Opcode;

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let ty = form.types[0];
    let o = &instruction.operands;
    if form.vector != 1 || !matches!(ty.bytes(), 4 | 8) {
        return Err(format!("the simulator does not execute `{}`", form.spelling));
    }
    match form.opcode {
        Opcode::Ld => {
            let (d, address) = (decoder.target(&o[0], ty)?, decoder.address(&o[1], form.space())?);
            Ok(Decoded::effect(move |context, mask| {
                let addresses = context.addresses(&address);
                for lane in lanes(mask) {
                    if ty.bytes() == 4 {
                        let value: u32 = context.load(address.space, lane, addresses[lane])?;
                        context.registers().set_lane(d, lane, value);
                    } else {
                        let value: u64 = context.load(address.space, lane, addresses[lane])?;
                        context.registers().set_lane(d, lane, value);
                    }
                }
                Ok(Flow::Next)
            }))
        }
        _ => {
            let (address, a) = (decoder.address(&o[0], form.space())?, decoder.value(&o[1], ty)?);
            Ok(Decoded::effect(move |context, mask| {
                let addresses = context.addresses(&address);
                for lane in lanes(mask) {
                    if ty.bytes() == 4 {
                        let value: u32 = context.registers().get_lane(a, lane);
                        context.store(address.space, lane, addresses[lane], value)?;
                    } else {
                        let value: u64 = context.registers().get_lane(a, lane);
                        context.store(address.space, lane, addresses[lane], value)?;
                    }
                }
                Ok(Flow::Next)
            }))
        }
    }
}
