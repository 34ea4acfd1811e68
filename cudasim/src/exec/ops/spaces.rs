//! `isspacep`, `mapa` and `getctarank`: questions about addresses.

use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::address::{Window, window};
use crate::exec::program::step::Flow;
use crate::exec::state::context::Context;
use crate::mask::{Mask, lanes};
use crate::memory::{CLUSTER_RANK_SHIFT, Origin};
use crate::ptx::module::Instruction;
use crate::ptx::opcode::Opcode;
use crate::ptx::types::{ScalarType, StateSpace};
use crate::report::{Fault, FaultKind};

/// Bits of a shared address that name the place inside a block.
const INSIDE: u64 = (1 << CLUSTER_RANK_SHIFT) - 1;

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let o = &instruction.operands;

    match form.opcode {
        Opcode::Isspacep => {
            let space = form.space().ok_or("isspacep without a space")?;
            let p = decoder.target_predicate(&o[0])?;
            let is_wide = decoder.width(&o[1], ScalarType::B64) == 64;
            let a = decoder.value(&o[1], if is_wide { ScalarType::B64 } else { ScalarType::B32 })?;
            Ok(Decoded::effect(move |context, mask| {
                let addresses = read(context, a, is_wide);
                let within = lanes(mask).filter(|&lane| is_in(context, space, addresses[lane]));
                let value = within.fold(0, |value, lane| value | 1 << lane);
                context.registers().set_predicate(p, mask, value);
                Ok(Flow::Next)
            }))
        }
        Opcode::Mapa => {
            let ty = form.types[0];
            let is_wide = ty.bits() == 64;
            let (d, a) = (decoder.target(&o[0], ty)?, decoder.value(&o[1], ty)?);
            let rank = decoder.value(&o[2], ScalarType::B32)?;
            Ok(Decoded::effect(move |context, mask| map(context, mask, (d, a, rank), is_wide)))
        }
        _ => {
            let d = decoder.target(&o[0], ScalarType::B32)?;
            let ty = form.types[0];
            let a = decoder.value(&o[1], ty)?;
            let is_wide = ty.bits() == 64;
            Ok(Decoded::effect(move |context, mask| {
                let own = context.rank as u32;
                let ranks =
                    read(context, a, is_wide).map(|address| match (address & 0xffff_ffff) >> CLUSTER_RANK_SHIFT {
                        0 => own,
                        rank => rank as u32 - 1,
                    });
                context.registers().set(d, mask, &ranks);
                Ok(Flow::Next)
            }))
        }
    }
}

fn read(context: &Context<'_>, slot: u32, is_wide: bool) -> [u64; 32] {
    match is_wide {
        true => context.warp.registers.get(slot),
        false => context.warp.registers.get::<u32>(slot).map(u64::from),
    }
}

/// Whether a generic address is in the window of a space. The kernel's parameters count as global too, as the ISA has it.
fn is_in(context: &Context<'_>, space: StateSpace, address: u64) -> bool {
    let (place, inside) = window(address);
    match space {
        StateSpace::Global => matches!(place, Window::Global | Window::Parameter),
        StateSpace::Const => place == Window::Global && is_constant(context, address),
        StateSpace::Local => place == Window::Local,
        StateSpace::Param | StateSpace::ParamEntry => place == Window::Parameter,
        StateSpace::Shared | StateSpace::SharedCta => {
            let rank = inside >> CLUSTER_RANK_SHIFT;
            place == Window::Shared && (rank == 0 || rank as usize == context.rank + 1)
        }
        StateSpace::SharedCluster => {
            place == Window::Shared && (inside >> CLUSTER_RANK_SHIFT) as usize <= context.blocks.len()
        }
        StateSpace::ParamFunc | StateSpace::Reg => false,
    }
}

/// Constants lie in global memory; the module knows which variables they are.
fn is_constant(context: &Context<'_>, address: u64) -> bool {
    let map = context.grid.memory;
    let origin = map.find(address).and_then(|index| map.get(index)).map(|allocation| allocation.origin());
    let Some(Origin::Variable(name)) = origin else { return false };
    let variables = &context.grid.kernel.module.variables;
    variables.iter().any(|variable| variable.space == StateSpace::Const && variable.name == *name)
}

/// The same place in the shared memory of another block of the cluster.
fn map(context: &mut Context<'_>, mask: Mask, (d, a, rank): (u32, u32, u32), is_wide: bool) -> Result<Flow, Fault> {
    let (addresses, ranks) = (read(context, a, is_wide), context.warp.registers.get::<u32>(rank));
    let blocks = context.blocks.len();

    for lane in lanes(mask) {
        if ranks[lane] as usize >= blocks {
            let message = format!("rank {} in a cluster of {blocks}", ranks[lane]);
            return Err(Fault::new(FaultKind::InvalidUse, message).lane(lane));
        }
        if is_wide && window(addresses[lane]).0 != Window::Shared && addresses[lane] >> 32 != 0 {
            let message = "mapa of an address that is not in shared memory";
            return Err(Fault::new(FaultKind::InvalidAddressSpace, message).lane(lane).at(addresses[lane]));
        }
    }

    let mapped: [u64; 32] = std::array::from_fn(|lane| {
        let window = addresses[lane] & !0xffff_ffff;
        window | addresses[lane] & INSIDE | (u64::from(ranks[lane]) + 1) << CLUSTER_RANK_SHIFT
    });
    match is_wide {
        true => context.registers().set(d, mask, &mapped),
        false => context.registers().set(d, mask, &mapped.map(|address| address as u32)),
    }
    Ok(Flow::Next)
}
