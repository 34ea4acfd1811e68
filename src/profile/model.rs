//! How long a launch takes on a card: a prediction from what it does (counts), from its machine code, and from the card's ceilings.
//!
//! Nothing here knows whose kernel it is. `docs/guide/profile.md` explains each term.

use serde::Serialize;

use super::card::{ALU_LANES, Card, PORT, REGISTERS, SCHEDULERS, SPECIAL_LANES};
use super::counting::{LaunchCounts, Part};
use super::machine_code::instruction::Instruction;
use super::machine_code::pipes::{PIPES, Pipe};
use super::warps::{Setting, WarpWork, works};

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
/// (Σ tᵖ)^(1/p). For large p that is the longest one; two equal ones take 9 % longer than each. Chosen: with 4 (19 %) a published GEMM
/// (Triton's Gluon page, 654 TFLOP/s on an H100) would be slower than it is, as it needs L2 and tensor cores alike.
const EXPONENT: f64 = 8.0;

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

/// The predicted time of a launch.
pub fn predict(card: &Card, input: Input<'_>) -> Prediction {
    let Input { counts, threads, registers, shared, .. } = input;
    let resident = blocks_per_multiprocessor(card, threads, registers, shared);
    let ceilings = card.ceilings;
    let multiprocessors = f64::from(card.shape.multiprocessors);

    // The blocks of the multiprocessor that has most, and how many of them at once.
    let busiest = busiest(counts.blocks, multiprocessors, f64::from(resident));
    let at_once = f64::from(resident).min(busiest);
    let setting = setting(card, &input, at_once);
    let work = works(counts, input.code, setting);
    let in_block = |pipe: Pipe| -> f64 {
        let of = |(part, work): (&Part, &WarpWork)| part.warps * work.by_pipe[pipe as usize];
        counts.parts.iter().zip(&work).map(of).sum()
    };
    let issued: f64 = PIPES.into_iter().map(in_block).sum();

    // Clocks of a multiprocessor for a block.
    let block = |total: f64| total / counts.blocks.max(1.0);
    let tensor = block(counts.tensor_flops) / setting.tensor_rate;
    let pipes = [
        (Bound::Issue, issued / SCHEDULERS),
        (Bound::Fma, in_block(Pipe::Fma) * 32.0 / ceilings.fma_lanes),
        (Bound::Alu, in_block(Pipe::Alu) * 32.0 / ALU_LANES),
        (Bound::Special, in_block(Pipe::Special) * 32.0 / SPECIAL_LANES),
        (Bound::Double, in_block(Pipe::Double) * 32.0 / ceilings.double_lanes),
    ];
    let pipe = pipes.iter().map(|(_, clocks)| *clocks).fold(0.0, f64::max);
    let period = period(&input, setting, &work, [tensor, pipe]);
    let of_block = [
        (Bound::Tensor, tensor),
        (Bound::Shared, block(counts.wavefronts)),
        (Bound::Port, block(counts.l2_read + counts.l2_written + counts.multicast) / PORT),
        (Bound::Latency, period / at_once),
    ];
    let clock = card.boost();
    let seconds = |(bound, clocks): (Bound, f64)| (bound, clocks * busiest / clock);
    let mut terms: Vec<(Bound, f64)> = pipes.into_iter().chain(of_block).map(seconds).collect();

    // What all multiprocessors share.
    terms.push((Bound::L2, (counts.l2_read + counts.l2_written) / (ceilings.l2_bytes_per_clock * card.clock())));
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
    // A card without wgmma runs no code that has it. Fractions are of the peak, clocks those at which everything else runs.
    let per_clock = card.ceilings.tensor_flops_per_clock * card.clock() / card.boost();
    per_clock * if fraction > 0.0 { fraction } else { card.ceilings.mma }
}

/// How the clocks of a launch's warps are counted. Loads wait for memory if most of what they read is not in L2.
fn setting<'a>(card: &'a Card, input: &Input<'_>, at_once: f64) -> Setting<'a> {
    let from_memory = 2.0 * input.dram[0] >= input.counts.l2_read;
    let global = if from_memory { card.ceilings.dram_latency } else { card.ceilings.l2_latency };
    Setting { card, tensor_rate: tensor_rate(card, input.code), global, at_once }
}

/// Clocks from the beginning of the blocks that a multiprocessor holds at once to that of the next ones: those of the warps that take
/// longest, and never less than the tensor cores or the pipe that is needed most (`asked`, for a block). Blocks hide one another's first copies
/// and last stores as far as the others take longer than these; a block alone has them on top.
fn period(input: &Input<'_>, setting: Setting<'_>, work: &[WarpWork], asked: [f64; 2]) -> f64 {
    let Input { counts, code, .. } = input;
    let of = |work: &[WarpWork], blocks: f64| {
        let asked = asked.map(|clocks| clocks * blocks);
        work.iter().map(|work| queue(work, asked)).fold(asked[0].max(asked[1]), f64::max)
    };
    let all = of(work, setting.at_once);
    let edges = edges(counts, setting, work);
    if setting.at_once <= 1.0 {
        return all + edges;
    }
    let lone = works(counts, code, Setting { at_once: 1.0, ..setting });
    all.max(of(&lone, 1.0) + edges)
}

/// Clocks until warps that take turns are done. They queue for the tensor cores and for the pipe that is needed most, of which all of them
/// together ask `tensor` and `pipe`, and wait apart from that.
///
/// That is a closed network of queues, solved by mean values (Reiser and Lavenberg, "Mean-value analysis of closed multichain queuing
/// networks", 1980): with a single warp it is that warp's own time, with many it is that of the fullest queue.
fn queue(work: &WarpWork, [tensor, pipe]: [f64; 2]) -> f64 {
    let [tensor, pipe] = [tensor, pipe].map(|clocks| clocks / work.in_turn);
    // What a warp does beside its own products is nothing that others wait for.
    let tensor = tensor.min(work.alone);
    let pipe = pipe.min(work.alone - tensor);
    let waits = work.alone - tensor - pipe;

    // One warp more at a time; the last one may be a part.
    let mut lengths = [0.0; 2];
    let mut total = work.alone;
    for number in 1..=work.in_turn.ceil() as u32 {
        let number = f64::from(number).min(work.in_turn);
        let times = [tensor * (1.0 + lengths[0]), pipe * (1.0 + lengths[1])];
        total = waits + times[0] + times[1];
        lengths = times.map(|time| number * time / total);
    }
    total
}

/// Clocks of a block in which it does nothing else: until the first of its asynchronous copies is there, and until the last of what it
/// stores is gone. All blocks of a wave begin and end together, so each has its share of what L2 gives.
fn edges(counts: &LaunchCounts, Setting { card, global, .. }: Setting<'_>, work: &[WarpWork]) -> f64 {
    let share = PORT
        .min(card.ceilings.l2_bytes_per_clock * card.clock() / card.boost() / f64::from(card.shape.multiprocessors));
    let most = |of: fn(&WarpWork) -> f64| work.iter().map(of).fold(0.0, f64::max);
    let of_block = |bytes: f64, times: f64| bytes / counts.blocks.max(1.0) / times.max(1.0) / share;
    let fills = most(|work| work.fills);
    let first = if fills > 0.0 { global + of_block(counts.l2_read, fills) } else { 0.0 };
    first + of_block(counts.l2_written, most(|work| work.drains))
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
    fn warps_in_turn_wait_for_the_fullest_queue_or_for_themselves() {
        let queued = |alone, in_turn, asked| queue(&WarpWork { alone, in_turn, ..WarpWork::default() }, asked);
        // One is in step with all, whatever they ask together.
        assert_eq!(queued(100.0, 1.0, [60.0, 30.0]), 100.0);
        // Two that do nothing but multiply take as long as their products, two that only wait as long as one.
        assert!((queued(100.0, 2.0, [200.0, 0.0]) - 200.0).abs() < 1e-9);
        assert!((queued(100.0, 2.0, [0.0, 0.0]) - 100.0).abs() < 1e-9);
        // And in between.
        let between = queued(100.0, 2.0, [100.0, 40.0]);
        assert!(between > 100.0 && between < 140.0, "{between}");
    }

    #[test]
    fn a_block_waits_for_one_trip_of_its_copies_and_for_its_last_stores() {
        let card = Card::named("h100").unwrap();
        let setting = Setting { card: &card, tensor_rate: 1.0, global: 478.8, at_once: 1.0 };
        let (stage, tile) = (48.0 * 1024.0, 64.0 * 1024.0);
        let counts = LaunchCounts {
            blocks: 132.0,
            l2_read: 132.0 * 8.0 * stage,
            l2_written: 132.0 * tile,
            ..LaunchCounts::default()
        };
        let copies = WarpWork { fills: 8.0, drains: 1.0, ..WarpWork::default() };
        let loads = WarpWork { fills: 0.0, ..copies.clone() };
        // A 132th of what L2 gives, which is less than the port takes.
        let share = 0.85 * 5120.0 * card.clock() / card.boost() / 132.0;
        assert!(share < PORT);
        assert!((edges(&counts, setting, &[copies]) - (478.8 + (stage + tile) / share)).abs() < 1e-6);
        assert!((edges(&counts, setting, &[loads]) - tile / share).abs() < 1e-6);
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
