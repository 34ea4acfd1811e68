//! What the warps of a block do by the machine code of their kernel, and how long those of a scheduler take that go in step.

use super::anchors;
use super::card::{ALU_LANES, Card, MEMORY_LANES, SCHEDULERS, SPECIAL_LANES};
use super::counting::{LaunchCounts, Warpgroup};
use super::machine_code::flow::{Block, blocks};
use super::machine_code::frequencies::{Anchor, frequencies};
use super::machine_code::instruction::Instruction;
use super::machine_code::pipes::{PIPES, Pipe, latency, pipe};

/// What one warp of a warpgroup does.
#[derive(Clone, Debug, Default)]
pub struct WarpWork {
    /// Instructions by unit, in the order of [`PIPES`].
    pub by_pipe: [f64; PIPES.len()],
    /// Warps of a scheduler that go in step: all that a multiprocessor holds at once where all do the same, else 1.
    pub team: f64,
    /// Whether it goes in step with all others.
    pub in_step: bool,
    /// Clocks from its first instruction to its last, with nobody on its scheduler but those that go in step with it.
    pub alone: f64,
    /// How often it starts asynchronous copies to shared memory at the place where it does so most: a loop's trips.
    pub fills: f64,
    /// The same of stores to memory.
    pub drains: f64,
}

/// How a warp's clocks are to be counted.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// The card.
    pub card: &'a Card,
    /// Multiplications and additions of a multiprocessor's tensor cores in a clock.
    pub tensor_rate: f64,
    /// Clocks until a load from beyond the multiprocessor is there.
    pub global: f64,
    /// Blocks that a multiprocessor holds at once.
    pub at_once: f64,
}

/// What a warp of each warpgroup does. Without machine code nothing is known of it.
///
/// Where all warps do the same they go in step: they begin together, and a scheduler gives each an equal share of what they all need, so
/// that they come to the same place at the same time, and the tensor cores are idle while all of them are in a softmax. Only kernels whose
/// warps have parts of their own (producers; consumers that take turns) keep different units busy at once.
pub fn works(counts: &LaunchCounts, code: &[Instruction], setting: Setting<'_>) -> Vec<WarpWork> {
    let Setting { card, tensor_rate, global, at_once } = setting;
    let flow = blocks(code);
    let of_block = |block: &Block, kind: usize| {
        let counted =
            |instruction: &&Instruction| !instruction.is_idle && anchors::of_name(instruction.name) == Some(kind);
        code[block.instructions.clone()].iter().filter(counted).count() as u32
    };
    let in_blocks: Vec<Vec<u32>> =
        (0..anchors::COUNT).map(|kind| flow.iter().map(|block| of_block(block, kind)).collect()).collect();
    let warps: f64 = counts.warpgroups.iter().map(|group| group.warps).sum();

    let alike = are_alike(&counts.warpgroups);
    let shared = SCHEDULERS * served(counts);
    let of_group = |group: &Warpgroup| {
        let runs = runs(&flow, &in_blocks, group);
        let mut work = WarpWork { team: 1.0, in_step: alike, ..WarpWork::default() };
        for (block, runs) in flow.iter().zip(&runs) {
            for instruction in &code[block.instructions.clone()] {
                work.by_pipe[pipe(instruction.name) as usize] += runs;
                match instruction.name {
                    "LDGSTS" | "UTMALDG" => work.fills = work.fills.max(*runs),
                    "STG" | "UTMASTG" => work.drains = work.drains.max(*runs),
                    _ => {}
                }
            }
        }
        if alike {
            work.team = (at_once * warps / SCHEDULERS).ceil().max(1.0);
        }

        // A matrix product of a warp keeps the tensor cores of its scheduler busy, one of a warpgroup all four.
        let products = work.by_pipe[Pipe::Tensor as usize] * group.warps.max(1.0);
        let product = if products > 0.0 { group.tensor_flops / products * SCHEDULERS / tensor_rate } else { 0.0 };
        let times = Times { global, shared, busy: PIPES.map(|pipe| busy(card, pipe, product)) };
        for (block, runs) in flow.iter().zip(&runs) {
            work.alone += runs * clocks(&code[block.instructions.clone()], &times, work.team as usize);
        }
        work
    };
    counts.warpgroups.iter().map(of_group).collect()
}

/// How often a warp of a group runs each basic block.
fn runs(flow: &[Block], in_blocks: &[Vec<u32>], group: &Warpgroup) -> Vec<f64> {
    let anchor = |(kind, in_block): (usize, &Vec<u32>)| Anchor {
        in_block: in_block.clone(),
        counted: group.anchors.get(kind).copied().unwrap_or(0.0),
        weight: anchors::weight(kind),
    };
    let mut anchors: Vec<Anchor> = in_blocks.iter().enumerate().map(anchor).collect();
    // In all there are about as many instructions as in the PTX: what tells ways apart that have no anchor.
    let all = flow.iter().map(|block| block.instructions.len() as u32).collect();
    anchors.push(Anchor { in_block: all, counted: group.ptx_instructions, weight: anchors::OF_ALL });
    frequencies(flow, &anchors)
}

/// Times that the banks of shared memory serve an instruction that goes there, on average.
fn served(counts: &LaunchCounts) -> f64 {
    let kinds = SHARED.map(anchors::of_name);
    let of_warp = |group: &Warpgroup| kinds.iter().flatten().filter_map(|kind| group.anchors.get(*kind)).sum::<f64>();
    let instructions: f64 = counts.warpgroups.iter().map(|group| group.warps * of_warp(group)).sum();
    if instructions > 0.0 { counts.served / (instructions * counts.blocks.max(1.0)) } else { 0.0 }
}

/// Instructions of warps that go to shared memory.
const SHARED: [&str; 5] = ["LDS", "LDSM", "STS", "STSM", "LDGSTS"];

/// Whether all warpgroups do the same: none is a producer, and none takes its turns with another.
fn are_alike(groups: &[Warpgroup]) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() <= 0.05 * a.max(b).max(1.0);
    groups.iter().all(|group| near(group.ptx_instructions, groups[0].ptx_instructions))
}

/// Clocks from a basic block's first instruction to the end of its last, of so many warps of a scheduler that begin it together. Each
/// instruction stalls the next of its warp as its control bits ask, and waits for the barriers of those whose time is not fixed; each finds
/// its unit free or waits for it, and one is issued in a clock. Matrix products of a warpgroup are waited for.
fn clocks(code: &[Instruction], times: &Times, warps: usize) -> f64 {
    let mut team = vec![Progress::default(); warps.max(1)];
    let (mut free, mut slot) = ([0.0_f64; PIPES.len()], 0.0_f64);
    loop {
        // The one that can go on first, and of several the one that is furthest behind.
        let can = |(place, warp): (usize, &Progress)| {
            let instruction = code.get(warp.next)?;
            let barriers = (0..6).filter(|barrier| instruction.waits >> barrier & 1 == 1);
            let now = barriers.fold(warp.now, |now, barrier| now.max(warp.ready[barrier]));
            Some((place, instruction, now.max(free[pipe(instruction.name) as usize]).max(slot)))
        };
        let behind = |place: usize| team[place].next;
        let first = |a: &(usize, &Instruction, f64), b: &(usize, &Instruction, f64)| {
            a.2.total_cmp(&b.2).then_with(|| behind(a.0).cmp(&behind(b.0)))
        };
        let next = team.iter().enumerate().filter_map(can).min_by(first);
        let Some((place, instruction, now)) = next else { break };

        let unit = pipe(instruction.name) as usize;
        let warp = &mut team[place];
        free[unit] = now + times.busy[unit].max(if SHARED.contains(&instruction.name) { times.shared } else { 0.0 });
        slot = now + 1.0;
        if let Some(barrier) = instruction.write_barrier {
            warp.ready[usize::from(barrier)] = now + latency(instruction.name, times.global);
        }
        let done = if instruction.name == "HGMMA" { free[unit] } else { now };
        warp.now = done + f64::from(instruction.stall.max(1));
        warp.next += 1;
    }
    team.iter().map(|warp| warp.now).chain(free).fold(0.0, f64::max)
}

/// How far a warp is in a basic block.
#[derive(Clone, Default)]
struct Progress {
    next: usize,
    now: f64,
    ready: [f64; 6],
}

/// What the clocks of a block hang on.
struct Times {
    /// Until a load from beyond the multiprocessor is there.
    global: f64,
    /// That shared memory keeps a scheduler busy with an instruction: its banks serve the schedulers in turn.
    shared: f64,
    /// That an instruction keeps its unit of one scheduler busy, in the order of [`PIPES`].
    busy: [f64; PIPES.len()],
}

/// Clocks that an instruction of a warp keeps a unit of its scheduler busy.
fn busy(card: &Card, pipe: Pipe, product: f64) -> f64 {
    let of_lanes = |lanes: f64| 32.0 * SCHEDULERS / lanes;
    match pipe {
        Pipe::Fma => of_lanes(card.ceilings.fma_lanes),
        Pipe::Alu => of_lanes(ALU_LANES),
        Pipe::Special => of_lanes(SPECIAL_LANES),
        Pipe::Double => of_lanes(card.ceilings.double_lanes),
        Pipe::Memory => of_lanes(MEMORY_LANES),
        Pipe::Tensor => product,
        Pipe::Control => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(name: &'static str, stall: u8, write_barrier: Option<u8>, waits: u8) -> Instruction {
        Instruction {
            name,
            is_guarded: false,
            is_idle: false,
            target: None,
            falls_through: true,
            stall,
            write_barrier,
            waits,
        }
    }

    #[test]
    fn warps_in_step_hide_what_one_waits_for_and_queue_for_what_all_need() {
        let card = Card::named("h100").unwrap();
        let times = Times { global: 400.0, shared: 0.0, busy: PIPES.map(|pipe| busy(&card, pipe, 16.0)) };
        // A load, and a sum that waits for it: two warps wait together.
        let load = [instruction("LDG", 1, Some(0), 0), instruction("FADD", 4, None, 1)];
        let [one, two] = [1, 2].map(|warps| clocks(&load, &times, warps));
        assert!(one >= 404.0 && two < one + 8.0, "{one} {two}");
        // A product keeps the tensor cores for 16 clocks, whoever asks.
        let product = [instruction("HMMA", 2, None, 0), instruction("HMMA", 2, None, 0)];
        assert_eq!([1, 2].map(|warps| clocks(&product, &times, warps)), [32.0, 64.0]);
    }
}
