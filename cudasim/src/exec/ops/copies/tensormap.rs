//! `tensormap.replace`, which changes one field of a tensor map, and `tensormap.cp_fenceproxy`, which copies one that was
//! changed in shared memory to where copies read it.

use super::bulk::read_words;
use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::ops::matrix_warp::whole_warp;
use crate::exec::program::address::{Space, Window, window};
use crate::exec::program::step::Flow;
use crate::exec::state::context::Context;
use crate::mask::lanes;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::Modifier;
use crate::ptx::types::{ScalarType, StateSpace};
use crate::report::{Fault, FaultKind};
use crate::tensor_map::{self, BYTES, Field};

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let o = &instruction.operands;
    if form.has(Modifier::CpFenceproxy) {
        return copy(decoder, instruction);
    }
    let address = decoder.address(&o[0], form.space())?;
    let field = field(decoder, instruction)?;
    let value = o.last().ok_or("a field without its value")?;
    let wide = matches!(field, Field::Address | Field::Stride(_));
    let value = decoder.value(value, if wide { ScalarType::B64 } else { ScalarType::B32 })?;

    Ok(Decoded::effect(move |context, mask| {
        let addresses = context.addresses(&address);
        for lane in lanes(mask) {
            let at = addresses[lane];
            if !at.is_multiple_of(64) {
                let message = "a tensor map lies at a multiple of 64 bytes";
                return Err(Fault::new(FaultKind::Misaligned, message).lane(lane).at(at));
            }
            let mut bytes = read_words(context, address.space, lane, at)?;
            let before = bytes;
            let value = match wide {
                true => context.registers().get_lane::<u64>(value, lane),
                false => context.registers().get_lane::<u32>(value, lane).into(),
            };
            tensor_map::replace(&mut bytes, field, value)
                .map_err(|message| Fault::new(FaultKind::InvalidUse, message).lane(lane).at(at))?;
            for (index, (new, old)) in bytes.chunks_exact(8).zip(before.chunks_exact(8)).enumerate() {
                if let (true, Some(new)) = (new != old, new.first_chunk()) {
                    context.store(address.space, lane, at + 8 * index as u64, u64::from_le_bytes(*new))?;
                }
            }
            let is_global = address.space == Space::Global || window(at).0 == Window::Global;
            if is_global && address.space != Space::Shared {
                mark_changed(context, at);
            }
        }
        Ok(Flow::Next)
    }))
}

/// A tensor map in global memory is not what copies may have seen of it, until a fence.
fn mark_changed(context: &mut Context<'_>, address: u64) {
    let changed = &mut context.blocks[0].state.changed_maps;
    if !changed.contains(&address) {
        changed.push(address);
    }
}

/// `tensormap.cp_fenceproxy`: a warp copies 128 bytes and releases them to the copies of others, who must acquire them.
fn copy(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let [to, from, size] = instruction.operands.as_slice() else { return Err("a copy without its operands".into()) };
    let size = decoder.integer(size)?;
    if size != BYTES as i64 {
        return Err(format!("a tensor map has {BYTES} bytes, not {size}"));
    }
    let to = decoder.address(to, Some(StateSpace::Global))?;
    let from = decoder.address(from, Some(StateSpace::SharedCta))?;

    Ok(Decoded::effect(move |context, mask| {
        if whole_warp(context, mask)? == Flow::Wait {
            return Ok(Flow::Wait);
        }
        let (targets, sources) = (context.addresses(&to), context.addresses(&from));
        let (target, source) = (targets[0], sources[0]);
        if let Some(lane) = (0..32).find(|&lane| targets[lane] != target || sources[lane] != source) {
            let message = "the lanes of tensormap.cp_fenceproxy have different addresses";
            return Err(Fault::new(FaultKind::InvalidUse, message).lane(lane));
        }
        if !target.is_multiple_of(BYTES as u64) || !source.is_multiple_of(BYTES as u64) {
            let message = format!("tensormap.cp_fenceproxy copies from and to multiples of {BYTES} bytes");
            return Err(Fault::new(FaultKind::Misaligned, message).lane(0).at(target));
        }

        let bytes = read_words(context, Space::Shared, 0, source)?;
        for (index, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
            context.store(Space::Global, 0, target + 8 * index as u64, u64::from_le_bytes(*word))?;
        }
        let agent = context.clocks.warp(context.rank, context.warp.id);
        context.clocks.fence(agent, false, true);
        mark_changed(context, target);
        Ok(Flow::Next)
    }))
}

/// The field that an instruction names, with its index where it is one of several.
fn field(decoder: &Decoder<'_>, instruction: &Instruction) -> Result<Field, String> {
    let has = |modifier| instruction.form.has(modifier);
    let index = || -> Result<usize, String> {
        let index = decoder.integer(instruction.operands.get(1).ok_or("a field without its index")?)?;
        usize::try_from(index).map_err(|_| "a field's index is not negative".to_owned())
    };

    Ok(if has(Modifier::GlobalAddress) {
        Field::Address
    } else if has(Modifier::Rank) {
        Field::Rank
    } else if has(Modifier::BoxDim) {
        Field::Extent(index()?)
    } else if has(Modifier::GlobalDim) {
        Field::Dim(index()?)
    } else if has(Modifier::GlobalStride) {
        Field::Stride(index()?)
    } else if has(Modifier::ElementStride) {
        Field::ElementStride(index()?)
    } else if has(Modifier::Elemtype) {
        Field::Element
    } else if has(Modifier::InterleaveLayout) {
        Field::Interleave
    } else if has(Modifier::SwizzleMode) {
        Field::Swizzle
    } else {
        Field::Fill
    })
}
