//! `alloca`, `stacksave` and `stackrestore`: memory of a lane that lasts until its function returns.

use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::registers::Slot;
use crate::exec::program::step::Flow;
use crate::exec::state::activation::{give_back, take, top};
use crate::exec::state::context::Context;
use crate::mask::{Mask, lanes};
use crate::ptx::module::Instruction;
use crate::ptx::opcode::Opcode;
use crate::ptx::types::ScalarType;

/// Bytes that a variable's address is a multiple of at least.
const ALIGN: u64 = 16;

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let ty = instruction.form.types[0];
    match (instruction.form.opcode, instruction.operands.as_slice()) {
        (Opcode::Alloca, [target, size, rest @ ..]) => {
            let align = rest.first().map_or(Ok(ALIGN as i64), |align| decoder.integer(align))?;
            let align = u64::try_from(align).ok().filter(|align| align.is_power_of_two() && *align <= 1 << 12);
            let align = align.ok_or("alloca aligns to a power of two up to 4096")?.max(ALIGN);
            let (target, size) = (decoder.target(target, ty)?, decoder.value(size, ty)?);
            Ok(Decoded::effect(move |context, mask| {
                let sizes = read(context, size, ty);
                let mut places = [0; 32];
                for lane in lanes(mask) {
                    places[lane] = take(context.warp, lane, sizes[lane], align)?;
                }
                write(context, target, ty, mask, &places);
                Ok(Flow::Next)
            }))
        }

        (Opcode::Stacksave, [target]) => {
            let target = decoder.target(target, ty)?;
            Ok(Decoded::effect(move |context, mask| {
                let tops = std::array::from_fn(|lane| top(context.warp, lane));
                write(context, target, ty, mask, &tops);
                Ok(Flow::Next)
            }))
        }

        (Opcode::Stackrestore, [source]) => {
            let source = decoder.value(source, ty)?;
            Ok(Decoded::effect(move |context, mask| {
                let tops = read(context, source, ty);
                for lane in lanes(mask) {
                    give_back(context.warp, lane, tops[lane])?;
                }
                Ok(Flow::Next)
            }))
        }
        _ => Err(super::unsupported(instruction)),
    }
}

fn read(context: &Context<'_>, slot: Slot, ty: ScalarType) -> [u64; 32] {
    match ty.bits() {
        64 => context.warp.registers.get::<u64>(slot),
        _ => context.warp.registers.get::<u32>(slot).map(u64::from),
    }
}

fn write(context: &mut Context<'_>, slot: Slot, ty: ScalarType, mask: Mask, values: &[u64; 32]) {
    match ty.bits() {
        64 => context.registers().set::<u64>(slot, mask, values),
        _ => context.registers().set::<u32>(slot, mask, &values.map(|value| value as u32)),
    }
}
