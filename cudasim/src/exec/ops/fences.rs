//! `membar`, `fence` and `griddepcontrol`.
//!
//! Memory is sequentially consistent here, so a fence moves no data. It matters to the checks: what a thread did before a
//! releasing fence is released by its relaxed atomics after it, and a proxy fence makes ordinary writes to shared memory
//! fit for asynchronous copies and wgmma.

use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::step::Flow;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::{Modifier, Opcode};
use crate::ptx::types::StateSpace;
use crate::report::{Fault, FaultKind};

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let has = |modifier| form.has(modifier);
    if form.opcode == Opcode::Griddepcontrol {
        // Grids of a stream run one after another: what this one depends on is complete.
        return Ok(Decoded::effect(|_, _| Ok(Flow::Next)));
    }
    if has(Modifier::TensormapGeneric) {
        return tensormap(decoder, instruction);
    }

    if has(Modifier::Proxy) {
        // `.proxy.alias` has nothing to order: no two addresses here mean the same memory.
        let shared = form.spaces.iter().any(|&space| space != StateSpace::Global) || form.spaces.is_empty();
        let asynchronous = shared && (has(Modifier::Async) || has(Modifier::AsyncGeneric));
        return Ok(Decoded::effect(move |context, _| {
            if asynchronous {
                let agent = context.clocks.warp(context.rank, context.warp.id);
                context.clocks.proxy_fence(agent);
            }
            Ok(Flow::Next)
        }));
    }

    if has(Modifier::MbarrierInit) {
        return Ok(Decoded::effect(|context, _| {
            let (agent, warp) = (context.clocks.warp(context.rank, context.warp.id), context.warp.id);
            context.clocks.fence(agent, false, true);
            context.block().state.mbarriers.fence_initialisation(warp);
            Ok(Flow::Next)
        }));
    }

    let acquires = !has(Modifier::Release);
    let releases = !has(Modifier::Acquire);

    Ok(Decoded::effect(move |context, _| {
        let agent = context.clocks.warp(context.rank, context.warp.id);
        context.clocks.fence(agent, acquires, releases);
        Ok(Flow::Next)
    }))
}

/// `fence.proxy.tensormap::generic`: an acquire lets copies use a tensor map that `tensormap.replace` has changed.
fn tensormap(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let [address, size] = instruction.operands.as_slice() else {
        return Ok(Decoded::effect(|_, _| Ok(Flow::Next)));
    };
    let size = decoder.integer(size)?;
    if size != 128 {
        return Err(format!("a tensor map has 128 bytes, not {size}"));
    }
    let address = decoder.address(address, None)?;

    Ok(Decoded::effect(move |context, mask| {
        let addresses = context.addresses(&address);
        for lane in crate::mask::lanes(mask) {
            if !addresses[lane].is_multiple_of(128) {
                let message = "a tensor map must lie at a multiple of 128 bytes for its fence";
                return Err(Fault::new(FaultKind::Misaligned, message).lane(lane).at(addresses[lane]));
            }
            context.blocks[0].state.changed_maps.retain(|&changed| changed != addresses[lane]);
        }
        Ok(Flow::Next)
    }))
}
