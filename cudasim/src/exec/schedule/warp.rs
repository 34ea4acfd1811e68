//! The run loop of a warp: 32 lanes, and which of them are at which instruction.
//!
//! Lanes that went different ways are splits of (pc, mask). The split with the lowest pc runs first and splits that converge
//! merge, which reconverges at the earliest point, since compilers put that point behind both ways. As on Volta and later,
//! nothing relies on it: a split that runs long without an end gives way to the others.
//!
//! ```text
//! begin     which split starts the turn
//! straight  fetch, check registers, execute: one step after another while the lanes stay together
//! effect    a step with an effect, which may wait or give way
//! diverge   lanes that go different ways become splits
//! converge  splits at the same step become one
//! finish    the budget of the turn is used up
//! ```

use super::branch::{Targets, targets};
use crate::exec::ops;
use crate::exec::program::step::{Control, Flow};
use crate::exec::state::context::{Action, Context, Effect};
use crate::exec::state::definedness;
use crate::exec::state::warp::Split;
use crate::mask::{Mask, lanes};
use crate::ptx::opcode::Modifier;
use crate::report::{Fault, FaultKind};

/// Steps of a turn that nothing cuts short.
pub const WHOLE_TURN: u32 = 16384;

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

impl Failure {
    #[cold]
    fn new(fault: Fault, pc: u32, mask: Mask) -> Box<Self> {
        Box::new(Self { fault, pc, mask })
    }
}

/// What follows when a split cannot simply go on with its next step.
enum After {
    /// The split that is now the last one runs.
    Switch,
    /// The turn is over.
    End(Turn),
}

/// A turn of a warp.
struct Run {
    /// Steps that are left of its budget.
    budget: u32,
    /// Whether it began with all the steps that a turn can have.
    whole: bool,
    /// Whether lanes have got past a step.
    progressed: bool,
    /// The split that runs was picked out of turn: it goes on, though others have a lower pc, until it reaches one of them.
    out_of_turn: bool,
}

/// Runs the warp of `context` for up to `budget` steps.
///
/// # Errors
/// The first fault.
pub fn run(context: &mut Context<'_>, budget: u32) -> Result<Turn, Box<Failure>> {
    let out_of_turn = begin(context);
    let mut run = Run { budget, whole: budget == WHOLE_TURN, progressed: false, out_of_turn };
    loop {
        let Some(&Split { pc, mask, .. }) = context.warp.splits.last() else { return Ok(Turn::Done) };
        if let After::End(turn) = run.straight(context, pc, mask)? {
            return Ok(turn);
        }
    }
}

/// Puts the split last that starts the turn; `true` if it was picked out of turn.
fn begin(context: &mut Context<'_>) -> bool {
    let warp = &mut *context.warp;
    for split in &mut warp.splits {
        split.waiting = false;
    }

    // After a turn that ended early, another split than the lowest may need to run for the lowest to get on.
    let rotate = std::mem::take(&mut warp.state.rotate) && warp.splits.len() > 1;
    if rotate {
        let index = context.worker.rng.below(warp.splits.len());
        let split = warp.splits.remove(index);
        warp.splits.push(split);
    } else {
        warp.choose();
    }
    rotate
}

impl Run {
    /// Runs the last split step after step while its lanes stay together: as long as nothing diverges, `pc` stays in a
    /// register of the host.
    #[inline(always)]
    fn straight(&mut self, context: &mut Context<'_>, mut pc: u32, mask: Mask) -> Result<After, Box<Failure>> {
        loop {
            if self.budget == 0 {
                return Ok(After::End(finish(context, pc, self.whole)));
            }
            self.budget -= 1;
            context.warp.instructions += 1;

            // Fetch, and find the lanes that run the step.
            let grid = context.grid;
            let Some(step) = grid.kernel.steps.get(pc as usize) else { return Err(past_the_end(pc, mask)) };
            let active = match step.guard {
                None => mask,
                Some(guard) => mask & context.warp.registers.holds(guard),
            };
            if step.watch & context.warp.watching != 0 {
                definedness::check(context, step, pc, mask, active).map_err(|fault| Failure::new(fault, pc, mask))?;
            }
            if let Some(counts) = &mut context.worker.counts
                && !matches!(step.action, Action::Effect(_))
            {
                counts.step(pc, context.warp.id, active);
            }

            // Execute.
            match &step.action {
                Action::Compute(function) => {
                    // SAFETY: `lanes::select` chose a variant that this processor runs.
                    unsafe { function(&mut context.warp.registers, &step.operands, active) };
                    pc += 1;
                    self.progressed = true;
                }
                Action::Effect(_) if active == 0 => pc += 1,
                Action::Effect(effect) => match self.effect(context, effect, pc, mask, active)? {
                    None => pc += 1,
                    Some(after) => return Ok(after),
                },
                Action::Control(control) => {
                    self.progressed = true;
                    match control_targets(context, control, pc, active)? {
                        Targets::One(target) if mask == active => pc = target,
                        Targets::One(_) if active == 0 => pc += 1,
                        targets => return self.diverge(context, &targets, pc, mask, active),
                    }
                }
            }

            if context.warp.splits.len() > 1
                && let Some(after) = self.converge(context, pc)
            {
                return Ok(after);
            }
        }
    }

    /// Runs an effect; `None` where the lanes of `mask` go on with the next step.
    #[inline(always)]
    fn effect(
        &mut self,
        context: &mut Context<'_>,
        effect: &Effect,
        pc: u32,
        mask: Mask,
        active: Mask,
    ) -> Result<Option<After>, Box<Failure>> {
        // A fault or a question after the live lanes must find the split where it is.
        move_last(context, pc);
        context.pc = pc;
        let flow = effect.run(context, active);

        // Only with that option does it matter which lane of a warp did something.
        let grid = context.grid;
        if grid.options.lane_races && grid.kernel.origins[pc as usize].form.has(Modifier::Sync) {
            context.clocks.converge(context.agent());
        }
        // Counted when it is done, not each time that it is tried.
        if let (Some(counts), Ok(flow)) = (&mut context.worker.counts, &flow) {
            counts.step(pc, context.warp.id, flow.done(active));
        }

        match flow {
            Err(fault) => Err(Failure::new(fault, pc, active)),
            Ok(Flow::Next) => {
                self.progressed = true;
                Ok(None)
            }
            Ok(Flow::Yield) => {
                move_last(context, pc + 1);
                context.warp.state.rotate = context.warp.splits.len() > 1;
                Ok(Some(After::End(Turn::Ready)))
            }
            Ok(Flow::Wait) => Ok(Some(self.wait(context, pc, mask, active, 0))),
            Ok(Flow::Part(done)) => Ok(Some(self.wait(context, pc, mask, active, done & active))),
        }
    }

    /// Of the `active` lanes only those of `done` go on, beside those whose guard is false; the others wait at the step.
    fn wait(&mut self, context: &mut Context<'_>, pc: u32, mask: Mask, active: Mask, done: Mask) -> After {
        let warp = &mut *context.warp;
        self.progressed |= done != 0;
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
        self.switch(context)
    }

    /// The `active` lanes go to their targets, or leave; the rest of `mask` goes on with the next step.
    fn diverge(
        &mut self,
        context: &mut Context<'_>,
        targets: &Targets,
        pc: u32,
        mask: Mask,
        active: Mask,
    ) -> Result<After, Box<Failure>> {
        let splits = &mut context.warp.splits;
        splits.pop();
        match targets {
            Targets::One(target) => splits.push(Split { pc: *target, mask: active, waiting: false }),
            Targets::Each(targets) => {
                for lane in lanes(active) {
                    splits.push(Split { pc: targets[lane], mask: 1 << lane, waiting: false });
                }
            }
            Targets::None => {
                context.block().leave(active.count_ones());
                context.pc = pc;
                ops::leave(context, active).map_err(|fault| Failure::new(fault, pc, active))?;
                context.progress();
            }
        }

        let rest = mask & !active;
        let splits = &mut context.warp.splits;
        if rest != 0 {
            splits.push(Split { pc: pc + 1, mask: rest, waiting: false });
        }
        if let Some(counts) = &mut context.worker.counts {
            counts.diverged(splits.len());
        }
        match splits.is_empty() {
            true => Ok(After::End(Turn::Done)),
            false => Ok(self.switch(context)),
        }
    }

    /// Where there are several splits, the last now at `pc`: merges those at the same step. `None` where the last one goes
    /// on.
    fn converge(&mut self, context: &mut Context<'_>, pc: u32) -> Option<After> {
        move_last(context, pc);
        let merges = context.warp.splits.iter().rev().skip(1).any(|other| other.pc == pc);
        if self.out_of_turn && !merges {
            return None;
        }
        Some(self.switch(context))
    }

    /// Goes on with the split that is due.
    fn switch(&mut self, context: &mut Context<'_>) -> After {
        self.out_of_turn = false;
        match context.warp.choose() {
            true => After::Switch,
            false => After::End(Turn::Waiting(self.progressed)),
        }
    }
}

/// The last split is at this step.
#[inline(always)]
fn move_last(context: &mut Context<'_>, pc: u32) {
    if let Some(split) = context.warp.splits.last_mut() {
        split.pc = pc;
    }
}

/// The budget is used up, with the last split at `pc`.
fn finish(context: &mut Context<'_>, pc: u32, whole: bool) -> Turn {
    move_last(context, pc);
    // A warp that computes is making progress: if all others wait, that is not yet a deadlock. A short turn does not tell: it
    // may have ended between two looks at what never comes, which give way.
    if whole {
        context.progress();
    }

    // Where the host counts, the same lanes must run together whatever the length of turns, unless nothing else gets them
    // on.
    let warp = &mut *context.warp;
    let diverged = warp.splits.len() > 1;
    warp.diverged_turns = if diverged { warp.diverged_turns + 1 } else { 0 };
    let patient = context.worker.counts.is_some() && warp.diverged_turns < PATIENCE;
    warp.state.rotate = diverged && !patient;
    Turn::Ready
}

/// Where a control step sends the active lanes; the next step where there are none.
#[inline(always)]
fn control_targets(
    context: &mut Context<'_>,
    control: &Control,
    pc: u32,
    active: Mask,
) -> Result<Targets, Box<Failure>> {
    targets(control, context.warp, pc, active).map_err(|fault| Failure::new(fault, pc, active))
}

#[cold]
fn past_the_end(pc: u32, mask: Mask) -> Box<Failure> {
    let fault = Fault::new(FaultKind::IllegalInstruction, "control runs past the end of the code");
    Failure::new(fault, pc.saturating_sub(1), mask)
}
