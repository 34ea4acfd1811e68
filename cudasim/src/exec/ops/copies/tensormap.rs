//! `tensormap.replace`: changes one field of a tensor map.

use super::bulk::read_words;
use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::address::{Space, Window, window};
use crate::exec::program::step::Flow;
use crate::mask::lanes;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::Modifier;
use crate::ptx::types::ScalarType;
use crate::report::{Fault, FaultKind};
use crate::tensor_map::{self, Field};

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let o = &instruction.operands;
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
            let changed = &mut context.blocks[0].state.changed_maps;
            if is_global && address.space != Space::Shared && !changed.contains(&at) {
                changed.push(at);
            }
        }
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
