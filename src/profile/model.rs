//! How long a launch takes on a card: a prediction from what it does (counts), from its machine code, and from the card's ceilings.
//!
//! Nothing here knows whose kernel it is. `docs/guide/profile.md` explains each term.

use serde::Serialize;

use super::anchors;
use super::card::{ALU_LANES, Card, MEMORY_LANES, PORT, REGISTERS, SCHEDULERS, SPECIAL_LANES};
use super::counting::{LaunchCounts, Warpgroup};
use super::machine_code::flow::{Block, blocks};
use super::machine_code::frequencies::{Anchor, frequencies};
use super::machine_code::instruction::Instruction;
use super::machine_code::pipes::{PIPES, Pipe, latency, pipe};

/// What is known of a launch.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// What it does.
    pub counts: &'a LaunchCounts,
    /// The machine code of its kernel.
    pub code: &'a [Instruction],
    /// Threads of a block.
    pub threads: u32,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of shared memory of a block, static and dynamic.
    pub shared: u32,
    /// Bytes that memory gives and takes, past the caches.
    pub dram: [f64; 2],
}

/// What a launch may be bound by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Tensor cores.
    Tensor,
    /// Issue slots of the schedulers.
    Issue,
    /// f32 and integer products.
    Fma,
    /// Integers and logic.
    Alu,
    /// Special functions and conversions.
    Special,
    /// f64.
    Double,
    /// Banks of shared memory.
    Shared,
    /// The way between multiprocessor and L2.
    Port,
    /// L2 cache.
    L2,
    /// Memory.
    #[default]
    Dram,
    /// One block after another, each as long as its own chain of waits.
    Latency,
}

/// What is predicted of a launch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// Seconds.
    pub seconds: f64,
    /// The longest of the terms.
    pub bound: Bound,
    /// Seconds that each would take alone.
    pub terms: Vec<(Bound, f64)>,
    /// Blocks that a multiprocessor holds at once.
    pub blocks_per_multiprocessor: u32,
    /// Instructions of warps that are issued in all.
    pub issued: f64,
    /// Clocks that the tensor cores of all multiprocessors are busy together.
    pub tensor_cycles: f64,
}

/// The exponent by which the time of warps is joined with those of the ways that their data takes meanwhile: together they take
/// (Σ tᵖ)^(1/p). For large p that is the longest one; two equal ones take 19 % longer than each. Chosen, not fitted.
const EXPONENT: f64 = 4.0;

/// Blocks that a multiprocessor holds at once; at least one, as a launch that does not fit would be refused.
pub fn blocks_per_multiprocessor(card: &Card, threads: u32, registers: u32, shared: u32) -> u32 {
    let limits = card.shape.limits;
    let warps = threads.div_ceil(32).max(1);
    // A warp takes registers by 256, and a block 1 KB of shared memory besides its own.
    let by_registers = REGISTERS / ((registers.max(1) * 32).next_multiple_of(256) * warps);
    let by_shared = limits.shared_per_multiprocessor / (shared + 1024);
    let by_threads = limits.threads_per_multiprocessor / (32 * warps);
    [by_registers, by_shared, by_threads, limits.blocks_per_multiprocessor].into_iter().min().unwrap_or(1).max(1)
}

/// What one warp of a warpgroup does, by the machine code.
#[derive(Clone, Debug, Default)]
struct WarpWork {
    /// Instructions by unit, in the order of [`PIPES`].
    by_pipe: [f64; PIPES.len()],
    /// Clocks from its first instruction to its last, were it alone.
    alone: f64,
}

/// The predicted time of a launch.
pub fn predict(card: &Card, input: Input<'_>) -> Prediction {
    let Input { counts, threads, registers, shared, .. } = input;
    let resident = blocks_per_multiprocessor(card, threads, registers, shared);
    let ceilings = card.ceilings;
    let multiprocessors = f64::from(card.shape.multiprocessors);

    // The blocks of the multiprocessor that has most, and how many of them at once.
    let busiest = busiest(counts.blocks, multiprocessors, f64::from(resident));
    let at_once = f64::from(resident).min(busiest);
    let tensor_rate = tensor_rate(card, input.code);
    let work = warp_work(&input, card, tensor_rate);
    let in_block = |pipe: Pipe| -> f64 {
        let of = |(group, work): (&Warpgroup, &WarpWork)| group.warps * work.by_pipe[pipe as usize];
        counts.warpgroups.iter().zip(&work).map(of).sum()
    };
    let issued: f64 = PIPES.into_iter().map(in_block).sum();

    // Clocks of a multiprocessor for a block.
    let block = |total: f64| total / counts.blocks.max(1.0);
    let tensor = block(counts.tensor_flops) / tensor_rate;
    let pipes = [
        (Bound::Issue, issued / SCHEDULERS),
        (Bound::Fma, in_block(Pipe::Fma) * 32.0 / ceilings.fma_lanes),
        (Bound::Alu, in_block(Pipe::Alu) * 32.0 / ALU_LANES),
        (Bound::Special, in_block(Pipe::Special) * 32.0 / SPECIAL_LANES),
        (Bound::Double, in_block(Pipe::Double) * 32.0 / ceilings.double_lanes),
    ];
    let pipe = pipes.iter().map(|(_, clocks)| *clocks).fold(0.0, f64::max);
    let queue = queue(counts, &work, [tensor, pipe], at_once);
    let of_block = [
        (Bound::Tensor, tensor),
        (Bound::Shared, block(counts.wavefronts)),
        (Bound::Port, block(counts.l2_read + counts.l2_written + counts.multicast) / PORT),
        (Bound::Latency, queue / at_once),
    ];
    let clock = card.clock();
    let seconds = |(bound, clocks): (Bound, f64)| (bound, clocks * busiest / clock);
    let mut terms: Vec<(Bound, f64)> = pipes.into_iter().chain(of_block).map(seconds).collect();

    // What all multiprocessors share.
    terms.push((Bound::L2, (counts.l2_read + counts.l2_written) / (ceilings.l2_bytes_per_clock * clock)));
    terms.push((Bound::Dram, input.dram.iter().sum::<f64>() / (card.memory_bandwidth() * ceilings.dram)));
    Prediction {
        seconds: joined(&terms),
        bound: bound(&terms),
        terms,
        blocks_per_multiprocessor: resident,
        issued: issued * counts.blocks,
        tensor_cycles: counts.tensor_flops / ceilings.tensor_flops_per_clock,
    }
}

/// All terms together. Those of tensor cores and pipes are in that of latency already.
fn joined(terms: &[(Bound, f64)]) -> f64 {
    let apart = [Bound::Latency, Bound::Shared, Bound::Port, Bound::L2, Bound::Dram];
    let of = |(bound, seconds): &(Bound, f64)| if apart.contains(bound) { seconds.powf(EXPONENT) } else { 0.0 };
    terms.iter().map(of).sum::<f64>().powf(1.0 / EXPONENT)
}

/// The longest term; latency only where it is longer than what is waited for by a good part.
fn bound(terms: &[(Bound, f64)]) -> Bound {
    const GOOD_PART: f64 = 1.25;
    let weighed = |(bound, seconds): &(Bound, f64)| match bound {
        Bound::Latency => seconds / GOOD_PART,
        _ => *seconds,
    };
    let longest = terms.iter().max_by(|a, b| weighed(a).total_cmp(&weighed(b)));
    longest.map_or(Bound::Latency, |(bound, _)| *bound)
}

/// Blocks of the busiest multiprocessor: whole waves, and of the last one its share.
fn busiest(blocks: f64, multiprocessors: f64, resident: f64) -> f64 {
    let wave = multiprocessors * resident;
    let waves = (blocks / wave).floor();
    waves * resident + ((blocks - waves * wave) / multiprocessors).ceil()
}

/// Multiplications and additions of a multiprocessor's tensor cores in a clock, by the instruction that the code has.
fn tensor_rate(card: &Card, code: &[Instruction]) -> f64 {
    let is_wgmma = code.iter().any(|instruction| instruction.name == "HGMMA");
    let fraction = if is_wgmma { card.ceilings.wgmma } else { card.ceilings.mma };
    // A card without wgmma runs no code that has it.
    card.ceilings.tensor_flops_per_clock * if fraction > 0.0 { fraction } else { card.ceilings.mma }
}

/// Clocks until the blocks that a multiprocessor holds at once are done: their warps queue for tensor cores and for the pipe that
/// they need most, and wait apart from that.
///
/// A closed network of queues, solved by mean values (Reiser and Lavenberg, "Mean-value analysis of closed multichain queuing
/// networks", 1980): with a single warp it is that warp's own time, with many it is that of the fullest queue.
fn queue(counts: &LaunchCounts, work: &[WarpWork], [tensor, pipe]: [f64; 2], at_once: f64) -> f64 {
    let longest = work.iter().map(|work| work.alone).fold(0.0, f64::max);
    if longest == 0.0 {
        return (tensor + pipe) * at_once;
    }

    // Warps of a scheduler, those that do little as the part that they do.
    let weigh = |(group, work): (&Warpgroup, &WarpWork)| group.warps / SCHEDULERS * work.alone / longest;
    let warps = (at_once * counts.warpgroups.iter().zip(work).map(weigh).sum::<f64>()).max(1.0);
    // What each asks of the two queues, and how long it waits besides.
    let [tensor, pipe] = [tensor, pipe].map(|clocks| clocks * at_once / warps);
    let waits = (longest - tensor - pipe).max(0.0);

    // One warp more at a time; the last one may be a part.
    let mut lengths = [0.0; 2];
    let mut total = longest;
    for number in 1..=warps.ceil() as u32 {
        let number = f64::from(number).min(warps);
        let times = [tensor * (1.0 + lengths[0]), pipe * (1.0 + lengths[1])];
        total = waits + times[0] + times[1];
        lengths = times.map(|time| number * time / total);
    }
    total
}

/// What a warp of each warpgroup does. Without machine code nothing is known of it.
fn warp_work(input: &Input<'_>, card: &Card, tensor_rate: f64) -> Vec<WarpWork> {
    let flow = blocks(input.code);
    let of_block = |block: &Block, kind: usize| {
        let counted =
            |instruction: &&Instruction| !instruction.is_idle && anchors::of_name(instruction.name) == Some(kind);
        input.code[block.instructions.clone()].iter().filter(counted).count() as u32
    };
    let in_blocks: Vec<Vec<u32>> =
        (0..anchors::COUNT).map(|kind| flow.iter().map(|block| of_block(block, kind)).collect()).collect();

    // Loads wait for memory if most of what they read is not in L2.
    let from_memory = 2.0 * input.dram[0] >= input.counts.l2_read;
    let global = if from_memory { card.ceilings.dram_latency } else { card.ceilings.l2_latency };
    let of_group = |group: &Warpgroup| {
        let anchor = |(kind, in_block): (usize, &Vec<u32>)| Anchor {
            in_block: in_block.clone(),
            counted: group.anchors.get(kind).copied().unwrap_or(0.0),
            weight: anchors::weight(kind),
        };
        let mut anchors: Vec<Anchor> = in_blocks.iter().enumerate().map(anchor).collect();
        // In all there are about as many instructions as in the PTX: what tells ways apart that have no anchor.
        let all = flow.iter().map(|block| block.instructions.len() as u32).collect();
        anchors.push(Anchor { in_block: all, counted: group.ptx_instructions, weight: anchors::OF_ALL });
        let runs = frequencies(&flow, &anchors);

        let mut work = WarpWork::default();
        for (block, runs) in flow.iter().zip(&runs) {
            for instruction in &input.code[block.instructions.clone()] {
                work.by_pipe[pipe(instruction.name) as usize] += runs;
            }
        }
        // A matrix product of a warp keeps the tensor cores of its scheduler busy, one of a warpgroup all four.
        let products = work.by_pipe[Pipe::Tensor as usize] * group.warps.max(1.0);
        let product = if products > 0.0 { group.tensor_flops / products * SCHEDULERS / tensor_rate } else { 0.0 };
        let times = Times { global, busy: PIPES.map(|pipe| busy(card, pipe, product)) };
        for (block, runs) in flow.iter().zip(&runs) {
            work.alone += runs * clocks(&input.code[block.instructions.clone()], &times);
        }
        work
    };
    input.counts.warpgroups.iter().map(of_group).collect()
}

/// Clocks from a block's first instruction to the end of its last, as its control bits ask: each stalls the next, and waits for the
/// barriers of those whose time is not fixed; each finds its unit free or waits for it. Matrix products of a warpgroup are waited for.
fn clocks(code: &[Instruction], times: &Times) -> f64 {
    let mut now = 0.0_f64;
    let (mut ready, mut free) = ([0.0_f64; 6], [0.0_f64; PIPES.len()]);
    for instruction in code {
        // What it waits for, and its unit.
        let waits = (0..6).filter(|barrier| instruction.waits >> barrier & 1 == 1);
        now = waits.fold(now, |now, barrier| now.max(ready[barrier]));
        let unit = pipe(instruction.name) as usize;
        now = now.max(free[unit]);
        free[unit] = now + times.busy[unit];

        if let Some(barrier) = instruction.write_barrier {
            ready[usize::from(barrier)] = now + latency(instruction.name, times.global);
        }
        if instruction.name == "HGMMA" {
            now = free[unit];
        }
        now += f64::from(instruction.stall.max(1));
    }
    free.into_iter().fold(now, f64::max)
}

/// What the clocks of a block hang on.
struct Times {
    /// Until a load from beyond the multiprocessor is there.
    global: f64,
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

    #[test]
    fn the_busiest_multiprocessor_has_whole_waves_and_its_share_of_the_last() {
        assert_eq!(busiest(132.0, 132.0, 1.0), 1.0);
        assert_eq!(busiest(133.0, 132.0, 1.0), 2.0);
        assert_eq!(busiest(133.0, 132.0, 2.0), 2.0);
        assert_eq!(busiest(264.0 * 3.0 + 1.0, 132.0, 2.0), 7.0);
    }

    #[test]
    fn occupancy_is_that_of_the_programming_guide() {
        let card = Card::named("h100").unwrap();
        assert_eq!(blocks_per_multiprocessor(&card, 128, 240, 65_536), 2);
        assert_eq!(blocks_per_multiprocessor(&card, 384, 168, 230_000), 1);
        assert_eq!(blocks_per_multiprocessor(&card, 256, 32, 0), 8);
        assert_eq!(blocks_per_multiprocessor(&card, 32, 16, 0), 32);
        assert_eq!(blocks_per_multiprocessor(&Card::named("a100").unwrap(), 128, 168, 99_328), 1);
    }
}
