//! `st.async` and `red.async`: single words into shared memory of the cluster, of which an mbarrier hears.

use super::bulk::Destination;
use crate::counters::Direction;
use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::ops::copies::in_flight;
use crate::exec::program::reduction::Reduction;
use crate::exec::program::step::Flow;
use crate::exec::state::copies::{Copy, From, Piece};
use crate::mask::lanes;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::Opcode;
use crate::ptx::types::StateSpace;

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let [to, value, mbarrier] = instruction.operands.as_slice() else {
        return Err(format!("`{}` takes three operands", form.mnemonic));
    };
    let ty = form.types[0];
    let reduction = match form.opcode {
        Opcode::Red => Some(Reduction::new(form, ty).ok_or_else(|| super::super::unsupported(instruction))?),
        _ => None,
    };
    let space = Some(form.space().unwrap_or(StateSpace::SharedCluster));
    let destination =
        Destination { to: decoder.address(to, space)?, mbarrier: decoder.address(mbarrier, space)?, multicast: None };
    let values = decoder.values(value, ty)?;
    let width = ty.bytes() as usize;
    let bytes = width * values.len();
    if bytes > 16 {
        return Err(format!("`{}` stores more than 16 bytes", form.mnemonic));
    }
    let direction = if reduction.is_some() { Direction::Atomic } else { Direction::Store };

    Ok(Decoded::effect(move |context, mask| {
        let targets = context.addresses(&destination.to);
        context.count(destination.to.space, direction, &targets, mask, bytes as u64);

        for lane in lanes(mask) {
            let mut value = [0; 16];
            for (place, &slot) in value.chunks_exact_mut(width).zip(&values) {
                match width {
                    8 => place.copy_from_slice(&context.registers().get_lane::<u64>(slot, lane).to_le_bytes()),
                    _ => place.copy_from_slice(&context.registers().get_lane::<u32>(slot, lane).to_le_bytes()),
                }
            }
            for (to, mbarrier) in destination.places(context, lane, bytes as u64, bytes as u64)? {
                let piece = Piece { from: From::Value(value), to: to.offset as u32, bytes: bytes as u32 };
                let copy = Copy { pieces: vec![piece], bytes: bytes as u32, reduction, flush: false };
                in_flight::launch(context, mbarrier, copy).map_err(|fault| fault.lane(lane))?;
            }
        }
        Ok(Flow::Next)
    }))
}
