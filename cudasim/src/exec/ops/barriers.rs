//! `bar`, `barrier` and `barrier.cluster`.
//!
//! A barrier counts threads; a warp that is there as a whole counts 32, as the ISA has it. Threads that have left count as
//! arrived where no count is given. Who has arrived is kept per warp, since a waiting instruction is run again and must
//! not arrive twice, and since lanes of a warp may come one after another to a barrier that is not `.aligned`.

use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::registers::{Registers, Slot};
use crate::exec::program::step::Flow;
use crate::exec::state::barriers::{Kind, Votes, WarpSync};
use crate::exec::state::context::Context;
use crate::mask::{FULL, Mask, lanes};
use crate::ptx::module::Instruction;
use crate::ptx::opcode::{Modifier, Opcode};
use crate::ptx::types::ScalarType;
use crate::report::{Fault, FaultKind};

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let o = &instruction.operands;
    let has = |modifier| form.has(modifier);
    if has(Modifier::Warp) {
        let members = decoder.value(&o[0], ScalarType::B32)?;
        return Ok(Decoded::effect(move |context, mask| warp_sync(context, mask, members)));
    }
    if has(Modifier::Cluster) {
        return Ok(cluster(instruction));
    }

    // `bar` and `barrier`: [result,] barrier[, count][, predicate].
    let aligned = form.opcode == Opcode::Bar || has(Modifier::Aligned);
    let reduces = has(Modifier::Red);

    let (first, kind) = match o.last() {
        Some(predicate) if reduces => (1, Kind::Reduce(decoder.predicate(predicate)?)),
        _ if has(Modifier::Arrive) => (0, Kind::Arrive),
        _ => (0, Kind::Sync),
    };

    let barrier = decoder.value(&o[first], ScalarType::B32)?;
    let count = match o.get(first + 1) {
        Some(count) if first + 1 + usize::from(reduces) < o.len() => Some(decoder.value(count, ScalarType::B32)?),
        _ => None,
    };

    let result = match kind {
        Kind::Reduce(_) if has(Modifier::Popc) => Some(Target::Count(decoder.target(&o[0], ScalarType::U32)?)),
        Kind::Reduce(_) => Some(Target::Verdict(decoder.target_predicate(&o[0])?, has(Modifier::And))),
        _ => None,
    };

    let wanted = Wanted { aligned, barrier, count, kind, result };
    Ok(Decoded::effect(move |context, mask| run(context, mask, &wanted)))
}

/// The operands of a `bar` or `barrier`.
struct Wanted {
    aligned: bool,
    barrier: Slot,
    count: Option<Slot>,
    kind: Kind,
    result: Option<Target>,
}

/// `bar` or `barrier`, at whatever barriers the lanes name.
fn run(context: &mut Context<'_>, mask: Mask, wanted: &Wanted) -> Result<Flow, Fault> {
    let &Wanted { aligned, barrier, count, kind, result } = wanted;
    if aligned && context.whole_warp(mask)? == Flow::Wait {
        return Ok(Flow::Wait);
    }
    let numbers = context.registers().get::<u32>(barrier);
    let counts = count.map(|count| context.registers().get::<u32>(count));

    // Lanes that name the same barrier and count go together.
    let mut done = 0;
    let mut rest = mask;
    while rest != 0 {
        let lane = rest.trailing_zeros() as usize;
        let same = |&l: &usize| numbers[l] == numbers[lane] && counts.is_none_or(|counts| counts[l] == counts[lane]);
        let group = lanes(rest).filter(same).fold(0, |group, lane| group | 1 << lane);
        if aligned && group != mask {
            let message = "the threads of a warp name different barriers or counts in an .aligned instruction";
            return Err(Fault::new(FaultKind::DivergentBarrier, message));
        }
        done |= step(context, group, numbers[lane], counts.map(|counts| counts[lane]), kind, result)?;
        rest &= !group;
    }

    Ok(if done == mask { Flow::Next } else { Flow::Part(done) })
}

/// Where a reduction goes: a number, or whether all (`true`) or any said yes.
#[derive(Clone, Copy)]
enum Target {
    Count(Slot),
    Verdict(u32, bool),
}

impl Target {
    /// Writes the result of a reduction for the lanes of `mask`.
    fn write(self, registers: &mut Registers, mask: Mask, votes: Votes) {
        match self {
            Self::Count(d) => registers.set(d, mask, &[votes.yes; 32]),
            Self::Verdict(d, all) => {
                let verdict = if all { votes.yes == votes.all } else { votes.yes != 0 };
                registers.set_predicate(d, mask, if verdict { FULL } else { 0 });
            }
        }
    }
}

/// One barrier for lanes that name the same; returns those that go on.
fn step(
    context: &mut Context<'_>,
    group: Mask,
    number: u32,
    count: Option<u32>,
    kind: Kind,
    result: Option<Target>,
) -> Result<Mask, Fault> {
    let agent = context.clocks.warp(context.rank, context.warp.id);
    let (live, id) = (context.warp.live(), context.warp.id as usize);
    let block = &mut context.blocks[context.rank];

    let Some(barrier) = block.state.barriers.named.get_mut(number as usize) else {
        return Err(Fault::new(FaultKind::InvalidUse, format!("barrier {number}; a block has 0 to 15")));
    };
    if let Some(count) = count
        && (count == 0 || count % 32 != 0 || count > block.threads.next_multiple_of(32))
    {
        let message = format!(
            "barrier {number} for {count} threads, which is not a multiple of 32 from 32 to the block's {}",
            block.threads.next_multiple_of(32)
        );
        return Err(Fault::new(FaultKind::InvalidUse, message));
    }

    // Arrive: lanes that are neither released nor waiting are here for the first time.
    let mut at = barrier.warps.get(id).copied().unwrap_or_default();
    let mut done = group & at.released;
    let new = group & !done & !at.waiting;
    if new != 0 {
        barrier.arrive(number as usize, block.state.barriers.warps, id, new, live, block.threads, count, kind)?;
        if let Kind::Reduce(predicate) = kind {
            barrier.votes.all += new.count_ones();
            barrier.votes.yes += (context.warp.registers.holds(predicate) & new).count_ones();
        }
        context.clocks.release_into(agent, &mut barrier.clock);
        context.worker.events += 1;
    }

    if barrier.is_complete(block.live_threads) {
        barrier.complete();
        context.worker.events += 1;
    }
    if kind == Kind::Arrive {
        return Ok(group);
    }
    at = barrier.warps[id];

    // Go on where the barrier is complete; lanes that came after it had let others go are still waiting.
    done |= group & at.released;
    barrier.warps[id].released &= !done;
    if done != 0 {
        context.clocks.acquire(agent, &barrier.passed);
        if let Some(target) = result {
            target.write(&mut context.warp.registers, done, at.votes);
        }
    }

    Ok(done)
}

fn warp_sync(context: &mut Context<'_>, mask: Mask, members: Slot) -> Result<Flow, Fault> {
    let (ready, _) = context.converge(mask, members)?;
    let named = context.warp.registers.get::<u32>(members);
    let live = context.warp.live();
    let agent = context.clocks.warp(context.rank, context.warp.id);
    let WarpSync { pending, released } = &mut context.warp.state.warp_sync;
    if ready == mask && pending.is_empty() && *released == 0 {
        context.clocks.converge(agent);
        return Ok(Flow::Next);
    }

    let mut done = mask & *released;
    for lane in lanes(mask & !done) {
        match pending.iter_mut().find(|(members, _)| *members == named[lane]) {
            Some((_, there)) => *there |= 1 << lane,
            None => pending.push((named[lane], 1 << lane)),
        }
    }

    pending.retain(|&(members, there)| {
        let complete = members & live & !there == 0;
        if complete {
            *released |= there;
        }
        !complete
    });
    done |= mask & *released;
    *released &= !done;
    if done != 0 {
        context.clocks.converge(agent);
        context.progress();
    }
    Ok(if done == mask { Flow::Next } else { Flow::Part(done) })
}

fn cluster(instruction: &Instruction) -> Decoded {
    let form = &instruction.form;
    let (aligned, relaxed) = (form.has(Modifier::Aligned), form.has(Modifier::Relaxed));
    let arrives = form.has(Modifier::Arrive);
    Decoded::effect(move |context, mask| {
        if aligned && context.whole_warp(mask)? == Flow::Wait {
            return Ok(Flow::Wait);
        }
        if arrives { cluster_arrive(context, mask, relaxed).map(|()| Flow::Next) } else { cluster_wait(context, mask) }
    })
}

fn cluster_arrive(context: &mut Context<'_>, mask: Mask, relaxed: bool) -> Result<(), Fault> {
    let agent = context.clocks.warp(context.rank, context.warp.id);
    let phase = context.blocks[0].state.cluster.phase;

    let mine = &mut context.warp.state.cluster;
    if mine.arrived & mask != 0 {
        let message = "a thread arrives at the cluster's barrier again, without having waited at it";
        let lane = (mine.arrived & mask).trailing_zeros() as usize;
        return Err(Fault::new(FaultKind::InvalidUse, message).lane(lane));
    }

    mine.arrived |= mask;
    lanes(mask).for_each(|lane| mine.phases[lane] = phase);
    context.blocks[context.rank].state.cluster.arrived += mask.count_ones();
    let clock = &mut context.blocks[0].state.cluster.clock;
    match relaxed {
        false => context.clocks.release_into(agent, clock),
        // A fence before a relaxed arrival makes a release of the two.
        true => clock.join(context.clocks.published(agent)),
    }
    context.progress();
    complete_cluster(context);
    Ok(())
}

fn complete_cluster(context: &mut Context<'_>) {
    let arrived: u32 = context.blocks.iter().map(|block| block.state.cluster.arrived).sum();
    let live: u32 = context.blocks.iter().map(|block| block.live_threads).sum();
    if arrived == 0 || arrived < live {
        return;
    }
    context.blocks.iter_mut().for_each(|block| block.state.cluster.arrived = 0);
    let barrier = &mut context.blocks[0].state.cluster;
    barrier.phase = barrier.phase.wrapping_add(1);
    std::mem::swap(&mut barrier.clock, &mut barrier.passed);
    barrier.clock.clear();
    context.progress();
}

fn cluster_wait(context: &mut Context<'_>, mask: Mask) -> Result<Flow, Fault> {
    complete_cluster(context);
    let agent = context.clocks.warp(context.rank, context.warp.id);
    let barrier = &context.blocks[0].state.cluster;
    let mine = &mut context.warp.state.cluster;
    if mask & !mine.arrived != 0 {
        let message = "a thread waits at the cluster's barrier without having arrived there";
        let lane = (mask & !mine.arrived).trailing_zeros() as usize;
        return Err(Fault::new(FaultKind::InvalidUse, message).lane(lane));
    }
    let done = lanes(mask).filter(|&lane| mine.phases[lane] != barrier.phase).fold(0, |done, lane| done | 1 << lane);
    mine.arrived &= !done;
    if done != 0 {
        context.clocks.acquire(agent, &barrier.passed);
    }
    Ok(if done == mask { Flow::Next } else { Flow::Part(done) })
}

/// Lanes leave: they no longer count where they had arrived, and nobody waits for them.
pub(super) fn leave(context: &mut Context<'_>, gone: Mask) {
    let phase = context.blocks[0].state.cluster.phase;
    let mine = &context.warp.state.cluster;
    let arrived = lanes(gone & mine.arrived).filter(|&lane| mine.phases[lane] == phase).count() as u32;
    context.blocks[context.rank].state.cluster.arrived -= arrived;
    complete_cluster(context);
}
