//! `trap`, `brkpt`, `nanosleep`, `pmevent`, `setmaxnreg`, and calls of the system: `vprintf`, `__assertfail`.

use super::print;
use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::address::Space;
use crate::exec::program::step::Flow;
use crate::exec::state::context::Context;
use crate::exec::state::register_changes::{Change, GROUP};
use crate::mask::lanes;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::{Modifier, Opcode};
use crate::report::{Fault, FaultKind};

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    Ok(match form.opcode {
        Opcode::Trap => Decoded::effect(|_, _| Err(Fault::new(FaultKind::Trap, "the kernel ran into a trap"))),
        Opcode::Brkpt => Decoded::effect(|_, _| {
            Err(Fault::new(FaultKind::Trap, "the kernel ran into a breakpoint, and there is no debugger"))
        }),

        Opcode::Nanosleep => Decoded::effect(|_, _| Ok(Flow::Yield)),

        Opcode::Setmaxnreg => {
            let count = decoder.integer(&instruction.operands[0])?;
            if !(24..=256).contains(&count) || count % 8 != 0 {
                return Err(format!("setmaxnreg {count}: it must be a multiple of 8 from 24 to 256"));
            }
            let change = Change { registers: count as u32, grows: form.has(Modifier::Inc) };
            Decoded::effect(move |context, mask| {
                if context.whole_warp(mask)? == Flow::Wait {
                    return Ok(Flow::Wait);
                }
                change_registers(context, change).map(|()| Flow::Next)
            })
        }

        _ => Decoded::effect(|_, _| Ok(Flow::Next)),
    })
}

fn change_registers(context: &mut Context<'_>, change: Change) -> Result<(), Fault> {
    let (group, nth) = (context.warp.id as usize / GROUP, context.warp.state.register_changes as usize);
    context.warp.state.register_changes += 1;
    let changes = &mut context.block().state.registers.groups[group];
    let invalid = |message: String| Err(Fault::new(FaultKind::InvalidUse, message));

    if let Some(before) = nth.checked_sub(1).and_then(|before| changes.get(before))
        && (before.0.registers > change.registers) == change.grows
        && before.0.registers != change.registers
    {
        let (verb, from, to) = (if change.grows { "inc" } else { "dec" }, before.0.registers, change.registers);
        return invalid(format!("setmaxnreg.{verb} from {from} registers to {to}"));
    }

    match changes.get_mut(nth) {
        None => changes.push((change, 1)),
        Some((other, warps)) if *other == change => *warps += 1,
        Some((other, _)) => {
            let (one, two) = (other.registers, change.registers);
            return invalid(format!("warps of a warpgroup set different numbers of registers: {one} and {two}"));
        }
    }
    Ok(())
}

/// Registers of a multiprocessor, of which a block has no more.
const REGISTERS: usize = 65_536;

/// When a block's last thread leaves, every warp of a warpgroup must have run the same `setmaxnreg`s, and all warpgroups together must have
/// taken no more than the block began with, or one would have waited for ever.
pub(super) fn leave(context: &mut Context<'_>) -> Result<(), Fault> {
    if context.block().live_threads != 0 {
        return Ok(());
    }
    let changes = &context.block().state.registers;

    // A thread begins with no more than this: what ptxas gives a kernel that changes it. Registers are given by eight.
    let first = (REGISTERS / (changes.warps * 32) / 8 * 8).min(256);
    let mut taken = 0;
    for (number, group) in changes.groups.iter().enumerate() {
        let warps = GROUP.min(changes.warps - number * GROUP);
        if let Some((change, ran)) = group.iter().find(|(_, ran)| *ran != warps) {
            let registers = change.registers;
            let message = format!("setmaxnreg {registers} was run by {ran} of the {warps} warps of a warpgroup");
            return Err(Fault::new(FaultKind::InvalidUse, message));
        }
        taken += warps * group.last().map_or(first, |(change, _)| change.registers as usize);
    }

    if taken > first * changes.warps {
        let (taken, had) = (taken * 32, first * changes.warps * 32);
        let message = format!("after setmaxnreg the warps have {taken} registers; the block begins with {had} at most");
        return Err(Fault::new(FaultKind::InvalidUse, message));
    }
    Ok(())
}

pub(super) fn system_call(name: &str, arguments: &[(u64, u64)], results: &[(u64, u64)]) -> Decode {
    let places: Vec<u64> = arguments.iter().map(|&(place, _)| place).collect();
    match (name, places.as_slice()) {
        ("vprintf", &[format, values]) => {
            let result = results.first().map(|&(place, _)| place);
            Ok(Decoded::effect(move |context, mask| {
                for lane in lanes(mask) {
                    let format = print::string(context, lane, argument(context, lane, format))?;
                    let values = argument(context, lane, values);
                    let (text, count) = print::format(context, lane, &format, values)?;
                    context.grid.options.output.print(&text);
                    if let Some(result) = result {
                        context.store(Space::Local, lane, result, count)?;
                    }
                }
                Ok(Flow::Next)
            }))
        }

        ("__assertfail", &[message, file, line, function, ..]) => Ok(Decoded::effect(move |context, mask| {
            let lane = mask.trailing_zeros() as usize & 31;
            let text = |context: &mut Context<'_>, place| {
                let address = argument(context, lane, place);
                print::string(context, lane, address)
            };
            let (message, file) = (text(context, message)?, text(context, file)?);
            let function = text(context, function)?;
            let line: u32 = context.load(Space::Local, lane, line)?;
            let message = format!("{file}:{line}: {function}: assertion `{message}` failed");
            Err(Fault::new(FaultKind::Assert, message).lane(lane))
        })),

        ("malloc", _) => Err(no_heap(name)),
        // Destructors of classes with virtual functions name it, called or not.
        ("free", _) => {
            let message = no_heap(name);
            Ok(Decoded::effect(move |_, _| Err(Fault::new(FaultKind::InvalidCall, message.clone()))))
        }
        _ => Err(format!("a call of {name}, which is only declared and which the system does not have")),
    }
}

fn no_heap(name: &str) -> String {
    format!("a call of {name}: the simulator has no heap for kernels; give the kernel its memory as a parameter")
}

/// An argument of 64 bits of a call.
fn argument(context: &Context<'_>, lane: usize, place: u64) -> u64 {
    let stride = context.warp.local.len() / 32;
    let bytes = context.warp.local.get(lane * stride + place as usize..).and_then(|bytes| bytes.first_chunk());
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
