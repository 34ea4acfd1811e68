//! A warp: 32 lanes, and which of them are at which instruction.
//!
//! Lanes that went different ways are splits of (pc, mask). The split with the lowest pc runs first and splits that meet
//! merge, which reconverges at the earliest point, since compilers put that point behind both ways. As on Volta and later,
//! nothing relies on it: a split that runs long without an end gives way to the others.

use crate::exec::program::step::{Action, Call, Control, Flow};
use crate::exec::race::clocks::Order;
use crate::exec::state::block::Block;
use crate::exec::state::context::Context;
use crate::exec::state::context::Grid;
use crate::exec::state::warp::Split;
use crate::exec::state::warp::Warp;
use crate::exec::state::warp::copy_local;
use crate::exec::state::worker::Worker;
use crate::mask::{Mask, lanes};
use crate::memory::FUNCTION_WINDOW;
use crate::ptx::opcode::Modifier;
use crate::report::{Fault, FaultKind};

/// After how many such turns a warp whose instructions are counted tries another order of its lanes.
const PATIENCE: u32 = 64;

/// How a turn of a warp ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// All lanes have left.
    Done,
    /// All lanes wait; the turn ran at least one other step if `true`.
    Waiting(bool),
    /// It can go on.
    Ready,
}

/// Where a fault happened.
pub struct Failure {
    /// The fault.
    pub fault: Fault,
    /// The step.
    pub pc: u32,
    /// The lanes that ran it.
    pub mask: Mask,
}

/// Runs a warp for up to `budget` steps.
///
/// # Errors
/// The first fault.
#[allow(clippy::too_many_lines, clippy::too_many_arguments)]
pub fn run(
    grid: &Grid<'_>,
    worker: &mut Worker,
    blocks: &mut [Block],
    order: &mut Order,
    rank: usize,
    warp: &mut Warp,
    budget: u32,
) -> Result<Turn, Box<Failure>> {
    for split in &mut warp.splits {
        split.waiting = false;
    }
    // After a turn that ended early, another split than the lowest may need to run for the lowest to get on.
    if warp.splits.len() > 1 && warp.state.rotate {
        let place = worker.rng.below(warp.splits.len());
        let split = warp.splits.remove(place);
        warp.splits.push(split);
    } else {
        warp.choose();
    }
    let mut exclusive = std::mem::take(&mut warp.state.rotate) && warp.splits.len() > 1;
    let mut left = budget;
    let mut moved = false;
    loop {
        let Some(&Split { mut pc, mask, .. }) = warp.splits.last() else { return Ok(Turn::Done) };
        // As long as nothing diverges, pc stays in a register of the host.
        let (next, mask) = loop {
            if left == 0 {
                if let Some(split) = warp.splits.last_mut() {
                    split.pc = pc;
                }
                // It computes: whatever else waits, this is no deadlock.
                worker.events += 1;
                // Where the host counts, the same lanes must run together whatever the length of turns, unless nothing else
                // gets them on.
                warp.diverged_turns = if warp.splits.len() > 1 { warp.diverged_turns + 1 } else { 0 };
                let patient = worker.counts.is_some() && warp.diverged_turns < PATIENCE;
                warp.state.rotate = warp.splits.len() > 1 && !patient;
                return Ok(Turn::Ready);
            }
            left -= 1;
            warp.instructions += 1;
            let Some(step) = grid.kernel.steps.get(pc as usize) else {
                let fault = Fault::new(FaultKind::IllegalInstruction, "control runs past the end of the code");
                return Err(Box::new(Failure { fault, pc: pc.saturating_sub(1), mask }));
            };
            let active = match step.guard {
                None => mask,
                Some(guard) => mask & warp.registers.holds(guard),
            };
            if step.note != 0 && grid.options.registers {
                let note = &grid.kernel.notes[step.note as usize - 1];
                note.apply(&warp.registers, &mut warp.defined, &grid.kernel.watched, mask, active)
                    .map_err(|fault| Box::new(Failure { fault, pc, mask }))?;
            }
            if let Some(counts) = &mut worker.counts
                && !matches!(step.action, Action::Effect(_))
            {
                counts.step(pc, active);
            }
            match &step.action {
                Action::Compute(function) => {
                    // SAFETY: `lanes::select` chose a variant that this processor runs.
                    unsafe { function(&mut warp.registers, &step.operands, active) };
                    pc += 1;
                    moved = true;
                }
                Action::Effect(_) if active == 0 => pc += 1,
                Action::Effect(effect) => {
                    // A fault or a question after the live lanes must find the split where it is.
                    if let Some(split) = warp.splits.last_mut() {
                        split.pc = pc;
                    }
                    let mut context = Context { grid, worker, blocks, order, rank, warp, pc };
                    let flow = effect.run(&mut context, active);
                    // Only with that option does it matter which lane of a warp did something.
                    if grid.options.lane_races && grid.kernel.origins[pc as usize].form.has(Modifier::Sync) {
                        context.order.meet(context.agent());
                    }
                    // Counted when it is done, not each time that it is tried.
                    if let (Some(counts), Ok(flow)) = (&mut worker.counts, &flow) {
                        counts.step(pc, flow.done(active));
                    }
                    match flow {
                        Err(fault) => return Err(Box::new(Failure { fault, pc, mask: active })),
                        Ok(Flow::Next) => {
                            pc += 1;
                            moved = true;
                        }
                        Ok(Flow::Yield) => {
                            if let Some(split) = warp.splits.last_mut() {
                                split.pc = pc + 1;
                            }
                            warp.state.rotate = warp.splits.len() > 1;
                            return Ok(Turn::Ready);
                        }
                        Ok(flow @ (Flow::Wait | Flow::Part(_))) => {
                            let done = if let Flow::Part(done) = flow { done & active } else { 0 };
                            moved |= done != 0;
                            // Waiting is not running: how often a warp looks depends on the host's other threads.
                            warp.instructions -= u64::from(done == 0);
                            warp.splits.pop();
                            let on = mask & !active | done;
                            if on != 0 {
                                warp.splits.push(Split { pc: pc + 1, mask: on, waiting: false });
                            }
                            if active != done {
                                warp.splits.push(Split { pc, mask: active & !done, waiting: true });
                            }
                            if !warp.choose() {
                                return Ok(Turn::Waiting(moved));
                            }
                            exclusive = false;
                            let Some(split) = warp.splits.last() else { return Ok(Turn::Done) };
                            break (split.pc, split.mask);
                        }
                    }
                }
                Action::Control(control) => {
                    moved = true;
                    let targets = goto(control, warp, pc, active)
                        .map_err(|fault| Box::new(Failure { fault, pc, mask: active }))?;
                    let rest = mask & !active;
                    match targets {
                        Targets::One(target) if rest == 0 => pc = target,
                        Targets::One(_) if active == 0 => pc += 1,
                        targets => {
                            warp.splits.pop();
                            match targets {
                                Targets::One(target) => {
                                    warp.splits.push(Split { pc: target, mask: active, waiting: false });
                                }
                                Targets::Each(targets) => {
                                    for lane in lanes(active) {
                                        warp.splits.push(Split { pc: targets[lane], mask: 1 << lane, waiting: false });
                                    }
                                }
                                Targets::None => {
                                    blocks[rank].leave(active.count_ones());
                                    let mut context = Context { grid, worker, blocks, order, rank, warp, pc };
                                    crate::exec::ops::leave(&mut context, active)
                                        .map_err(|fault| Box::new(Failure { fault, pc, mask: active }))?;
                                    worker.events += 1;
                                }
                            }
                            if rest != 0 {
                                warp.splits.push(Split { pc: pc + 1, mask: rest, waiting: false });
                            }
                            if let Some(counts) = &mut worker.counts {
                                counts.diverged(warp.splits.len());
                            }
                            if warp.splits.is_empty() {
                                return Ok(Turn::Done);
                            }
                            exclusive = false;
                            if !warp.choose() {
                                return Ok(Turn::Waiting(moved));
                            }
                            let Some(split) = warp.splits.last() else { return Ok(Turn::Done) };
                            break (split.pc, split.mask);
                        }
                    }
                }
            }
            if warp.splits.len() > 1 {
                if let Some(split) = warp.splits.last_mut() {
                    split.pc = pc;
                }
                let meets = warp.splits.iter().rev().skip(1).any(|other| other.pc == pc);
                if meets || !exclusive {
                    exclusive &= !meets;
                    if !warp.choose() {
                        return Ok(Turn::Waiting(moved));
                    }
                    let Some(split) = warp.splits.last() else { return Ok(Turn::Done) };
                    break (split.pc, split.mask);
                }
            }
        };
        if let Some(split) = warp.splits.last_mut() {
            (split.pc, split.mask) = (next, mask);
        }
    }
}

enum Targets {
    One(u32),
    Each(Box<[u32; 32]>),
    None,
}

fn goto(control: &Control, warp: &mut Warp, pc: u32, active: Mask) -> Result<Targets, Fault> {
    if active == 0 {
        return Ok(Targets::One(pc + 1));
    }
    Ok(match control {
        Control::Branch(target) => Targets::One(*target),
        Control::Exit => Targets::None,
        Control::Table(slot, table) => {
            let indices = warp.registers.get::<u32>(*slot);
            each(active, |lane| {
                table.get(indices[lane] as usize).copied().ok_or_else(|| {
                    let message = format!("branch {} of a table of {}", indices[lane], table.len());
                    Fault::new(FaultKind::IllegalInstruction, message).lane(lane)
                })
            })?
        }
        Control::Call(call) => {
            enter(call, warp, pc, active)?;
            Targets::One(call.target)
        }
        Control::CallIndirect(slot, calls) => {
            let functions = warp.registers.get::<u64>(*slot);
            let mut rest = active;
            let mut targets = [0; 32];
            while rest != 0 {
                let lane = rest.trailing_zeros() as usize;
                let together = lanes(rest).filter(|&l| functions[l] == functions[lane]).fold(0, |m, l| m | 1 << l);
                let index = functions[lane].wrapping_sub(FUNCTION_WINDOW);
                let call = usize::try_from(index).ok().and_then(|index| calls.get(index)).and_then(Option::as_ref);
                let call = call.ok_or_else(|| {
                    let message = format!("{:#x} is no function with this prototype", functions[lane]);
                    Fault::new(FaultKind::InvalidCall, message).lane(lane)
                })?;
                enter(call, warp, pc, together)?;
                lanes(together).for_each(|lane| targets[lane] = call.target);
                rest &= !together;
            }
            each(active, |lane| Ok(targets[lane]))?
        }
        Control::Return(slot) => {
            let addresses = warp.registers.get::<u32>(*slot);
            warp.registers.set::<u32>(*slot, active, &[0; 32]);
            each(active, |lane| Ok(addresses[lane]))?
        }
    })
}

fn each(active: Mask, target: impl Fn(usize) -> Result<u32, Fault>) -> Result<Targets, Fault> {
    let mut targets = Box::new([0; 32]);
    for lane in lanes(active) {
        targets[lane] = target(lane)?;
    }
    let first = targets[active.trailing_zeros() as usize & 31];
    let same = lanes(active).all(|lane| targets[lane] == first);
    Ok(if same { Targets::One(first) } else { Targets::Each(targets) })
}

/// Copies the arguments of a call and notes where it returns to.
fn enter(call: &Call, warp: &mut Warp, pc: u32, active: Mask) -> Result<(), Fault> {
    let running = warp.registers.get::<u32>(call.return_slot);
    if let Some(lane) = lanes(active).find(|&lane| running[lane] != 0) {
        let message = format!("recursive call of {}, whose frame is not a stack here", call.name);
        return Err(Fault::new(FaultKind::InvalidCall, message).lane(lane));
    }
    warp.registers.set(call.return_slot, active, &[pc + 1; 32]);
    copy_local(warp, &call.arguments, active);
    Ok(())
}
