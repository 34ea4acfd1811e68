//! `wgmma`: four warps multiply matrices in shared memory (A also in registers) into their registers, asynchronously.
//!
//! Each warp computes its own 16 rows. When it does is left open between the issue and the `wait_group` that names its
//! group, and chosen by [`Completion`]. Until then its accumulators are not to be touched: the
//! decoder marks the few instructions of a kernel that name them (see [`accumulator_hazards`]), so that kernels without wgmma pay nothing.

pub mod accumulator_hazards;
mod descriptor;
pub mod operation;

use std::sync::Arc;

use self::operation::ROWS;
use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::ops::matrix_warp::whole_warp;
use crate::exec::program::registers::{Predicate, Slot};
use crate::exec::program::step::Flow;
use crate::exec::state::context::Context;
use crate::exec::state::warpgroups::Issue;
use crate::exec::state::wgmma::{Issued, Operation, SourceA};
use crate::exec::tensor::product::{Accumulators, Kind};
use crate::mask::{FULL, Mask};
use crate::options::Completion;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::Modifier;
use crate::ptx::operand::Operand;
use crate::ptx::types::ScalarType;
use crate::report::{Fault, FaultKind};

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    if form.has(Modifier::MmaAsync) {
        return mma_async(decoder, instruction);
    }

    if form.has(Modifier::Fence) {
        return Ok(Decoded::effect(|context, mask| {
            if warpgroup(context, mask)? == Flow::Wait {
                return Ok(Flow::Wait);
            }
            context.warp.state.wgmma.fence();
            Ok(Flow::Next)
        }));
    }

    if form.has(Modifier::CommitGroup) {
        return Ok(Decoded::effect(|context, mask| {
            if warpgroup(context, mask)? == Flow::Wait {
                return Ok(Flow::Wait);
            }
            context.warp.state.wgmma.commit();
            Ok(Flow::Next)
        }));
    }

    let [left] = instruction.operands.as_slice() else { return Err(super::unsupported(instruction)) };
    let left = usize::try_from(decoder.integer(left)?).map_err(|_| "a negative number of groups")?;
    Ok(Decoded::effect(move |context, mask| wait(context, mask, left)))
}

/// Lanes of the warp have left.
///
/// # Errors
/// They were the last of a warp without which its warpgroup cannot go on.
pub(super) fn leave(context: &mut Context<'_>) -> Result<(), Fault> {
    if context.warp.live() != 0 {
        return Ok(());
    }
    let warp = context.warp.id;
    context.block().state.warpgroups.leave(warp)
}

fn mma_async(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let (Some(shape), Some(kind)) = (form.shape, Kind::of(form)) else { return Err(super::unsupported(instruction)) };
    let [d, a, b, scale_d, immediates @ ..] = instruction.operands.as_slice() else {
        return Err("wgmma.mma_async takes at least four operands".into());
    };
    let (d_watched, a_watched) = (decoder.watched(d), decoder.watched(a));
    let d_slots = decoder.targets(d, ScalarType::B32)?;
    let family = decoder.family(&d_slots, shape);
    let from_registers = matches!(a, Operand::Vector(_));
    let signs = immediates.iter().take(2).map(|sign| match decoder.integer(sign)? {
        1 => Ok(false),
        -1 => Ok(true),
        other => Err(format!("the sign of a matrix is 1 or -1, not {other}")),
    });
    let signs = signs.collect::<Result<Vec<_>, _>>()?;
    let majors = immediates.iter().skip(2).map(|major| match decoder.integer(major)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(format!("whether a matrix is transposed is 0 or 1, not {other}")),
    });
    let majors = majors.collect::<Result<Vec<_>, _>>()?;
    let flag =
        |flags: &[bool], place: Option<usize>| place.and_then(|place| flags.get(place)).copied().unwrap_or(false);
    let (a_source, a_slot) = match from_registers {
        true => (SourceA::Registers(decoder.values(a, ScalarType::B32)?), None),
        false => (SourceA::Shared(flag(&majors, Some(0))), Some(decoder.value(a, ScalarType::B64)?)),
    };
    let b_slot = decoder.value(b, ScalarType::B64)?;
    let scale_d = decoder.predicate(scale_d)?;

    let operation = Arc::new(Operation {
        tile: Accumulators {
            kind,
            m: ROWS,
            n: shape.n as usize,
            words: 8,
            warpgroup: true,
            c: d_slots.clone(),
            d: d_slots,
        },
        a: a_source,
        b_rows: flag(&majors, Some(usize::from(!from_registers))),
        negate_a: flag(&signs, Some(0)),
        negate_b: flag(&signs, Some(1)),
        family,
        d_watched,
        a_watched,
    });

    Ok(Decoded::effect(move |context, mask| issue(context, mask, &operation, (a_slot, b_slot), scale_d)))
}

/// Whether the whole warp, of a whole warpgroup, is there to run the instruction.
fn warpgroup(context: &Context<'_>, mask: Mask) -> Result<Flow, Fault> {
    if whole_warp(context, mask)? == Flow::Wait {
        return Ok(Flow::Wait);
    }
    let last = (context.warp.id | 3) + 1;
    let threads = context.blocks[context.rank].threads;
    if last * 32 > threads {
        let message = format!(
            "wgmma takes whole warpgroups of 128 threads; warp {} is in one that the block of {threads} threads does not fill",
            context.warp.id
        );
        return Err(Fault::new(FaultKind::DivergentBarrier, message));
    }
    Ok(Flow::Next)
}

fn issue(
    context: &mut Context<'_>,
    mask: Mask,
    operation: &Arc<Operation>,
    (a, b): (Option<Slot>, Slot),
    scale_d: Predicate,
) -> Result<Flow, Fault> {
    if warpgroup(context, mask)? == Flow::Wait {
        return Ok(Flow::Wait);
    }
    let descriptors = [a.map_or(Ok(0), |a| uniform(context, a))?, uniform(context, b)?];

    let accumulate = match context.registers().holds(scale_d) {
        0 => false,
        FULL => true,
        some => {
            let message = format!("scale-d must be the same in all lanes, but holds in {some:#010x}");
            return Err(Fault::new(FaultKind::InvalidUse, message));
        }
    };

    context.warp.state.wgmma.may_issue(operation)?;
    let (warp, pc) = (context.warp.id, context.pc);

    // The reads come after what the warp has done so far, and end before what waits for them.
    let agent = context.clocks.warp(context.rank, warp);
    context.clocks.issue(agent);
    operation.check(context, descriptors)?;
    let asynchronous = context.clocks.asynchronous(context.rank, warp);
    let reads = context.clocks.release(asynchronous);
    context.block().state.warpgroups.issue(warp, Issue { pc, descriptors, accumulate }, reads)?;
    context.progress();
    let issued = Issued { operation: Arc::clone(operation), descriptors, accumulate, landed: false };
    context.warp.state.wgmma.issue(issued);

    let now = match context.grid.options.completion {
        Completion::Late => false,
        Completion::Early => true,
        Completion::Random => context.worker.rng.below(2) == 0,
    };

    if now {
        let all = context.warp.state.wgmma.pending.len();
        land_first(context, all, false)?;
    }
    Ok(Flow::Next)
}

/// `wgmma.wait_group`: until no more than `left` groups are in flight.
fn wait(context: &mut Context<'_>, mask: Mask, left: usize) -> Result<Flow, Fault> {
    if warpgroup(context, mask)? == Flow::Wait {
        return Ok(Flow::Wait);
    }
    let due = context.warp.state.wgmma.due(left);
    let warp = context.warp.id;
    let count = context.warp.state.wgmma.completed + due as u64;
    if !context.block().state.warpgroups.all_issued(warp, count) {
        return Ok(Flow::Wait);
    }
    land_first(context, due, true)?;
    context.warp.state.wgmma.complete(left);
    context.block().state.warpgroups.complete(warp, count);
    Ok(Flow::Next)
}

/// Computes those of the first `count` operations in flight that have not landed, in order. Where they are `complete`, the
/// warp acquires their completion, and the other warps keep what they still need.
fn land_first(context: &mut Context<'_>, count: usize, complete: bool) -> Result<(), Fault> {
    let mut pending = std::mem::take(&mut context.warp.state.wgmma.pending);
    let (rank, warp) = (context.rank, context.warp.id);
    let first = context.warp.state.wgmma.completed;
    let mut result = Ok(());

    for (number, issued) in (first..).zip(pending.iter_mut().take(count)) {
        let groups = &mut context.blocks[rank].state.warpgroups;
        if !issued.landed || complete && groups.others_need(warp, number) {
            result = operation::land(context, issued, number, complete);
            issued.landed = true;
            if result.is_err() {
                break;
            }
        }

        if complete && let Some(done) = context.blocks[rank].state.warpgroups.done(warp, number) {
            let agent = context.clocks.warp(rank, warp);
            context.clocks.acquire(agent, done);
        }
    }

    context.warp.state.wgmma.pending = pending;
    result
}

/// A descriptor, which must be the same in all lanes.
fn uniform(context: &Context<'_>, slot: Slot) -> Result<u64, Fault> {
    let lanes = context.warp.registers.get::<u64>(slot);
    match lanes.iter().position(|&lane| lane != lanes[0]) {
        None => Ok(lanes[0]),
        Some(lane) => {
            let message = format!("a matrix descriptor differs between lanes: {:#x} and {:#x}", lanes[0], lanes[lane]);
            Err(Fault::new(FaultKind::InvalidUse, message).lane(lane))
        }
    }
}
