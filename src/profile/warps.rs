//! What the warps of a block do by the machine code of their kernel, and how long those of a scheduler take that go in step.

use std::collections::VecDeque;

use super::anchors;
use super::card::{ALU_LANES, Card, MEMORY_LANES, SCHEDULERS, SPECIAL_LANES};
use super::counting::{LaunchCounts, Part};
use super::machine_code::flow::{Block, blocks};
use super::machine_code::frequencies::{Anchor, frequencies};
use super::machine_code::instruction::{Instruction, Order};
use super::machine_code::pipes::{PIPES, Pipe, latency, pipe};

/// What one warp of a part does.
#[derive(Clone, Debug, Default)]
pub struct WarpWork {
    /// Instructions by unit, in the order of [`PIPES`].
    pub by_pipe: [f64; PIPES.len()],
    /// Clocks from its first instruction to its last, with nobody on its scheduler but the warps that go in step with it.
    pub alone: f64,
    /// Warps of its scheduler that do the same, but not in step: warpgroups that give one another turns. Else 1.
    pub in_turn: f64,
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

/// What a warp of each part does. Without machine code nothing is known of it.
///
/// Warps that do the same go in step: they begin together, and a scheduler gives each an equal share of what they all need, so that they
/// come to the same place at the same time, and the tensor cores are idle while all of them are in a softmax. Parts that give one another
/// turns at barriers do not: one multiplies while the other does not.
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
    let shared = SCHEDULERS * served(counts);

    let of_part = |part: &Part| {
        let runs = runs(&flow, &in_blocks, part);
        let mut work = WarpWork::default();
        let mut gives_turns = false;
        for (block, runs) in flow.iter().zip(&runs) {
            for instruction in &code[block.instructions.clone()] {
                work.by_pipe[pipe(instruction.name) as usize] += runs;
                match instruction.name {
                    "LDGSTS" | "UTMALDG" => work.fills = work.fills.max(*runs),
                    "STG" | "UTMASTG" => work.drains = work.drains.max(*runs),
                    _ => {}
                }
                gives_turns |= instruction.order == Order::Arrives && *runs > 0.5;
            }
        }
        let same = counts.parts.iter().filter(|other| does_the_same(part, other));
        let all = at_once * same.map(|other| other.warps).sum::<f64>() / SCHEDULERS;
        let team = if gives_turns { (part.warps / SCHEDULERS).ceil() } else { all.ceil() }.max(1.0);
        work.in_turn = if gives_turns { (all / team).max(1.0) } else { 1.0 };

        // A matrix product of a warp keeps the tensor cores of its scheduler busy, one of a warpgroup all four.
        let products = work.by_pipe[Pipe::Tensor as usize] * part.warps.max(1.0);
        let product = if products > 0.0 { part.tensor_flops / products * SCHEDULERS / tensor_rate } else { 0.0 };
        let times = Times { global, shared, busy: PIPES.map(|pipe| busy(card, pipe, product)) };
        let pieces = pieces(&flow, &runs);
        work.alone = pieces.iter().map(|piece| piece.clocks(&flow, code, &times, team as usize)).sum();
        work
    };
    counts.parts.iter().map(of_part).collect()
}

/// How often a warp of a part runs each basic block.
fn runs(flow: &[Block], in_blocks: &[Vec<u32>], part: &Part) -> Vec<f64> {
    let anchor = |(kind, in_block): (usize, &Vec<u32>)| Anchor {
        in_block: in_block.clone(),
        counted: part.anchors.get(kind).copied().unwrap_or(0.0),
        weight: anchors::weight(kind),
    };
    let anchors: Vec<Anchor> = in_blocks.iter().enumerate().map(anchor).collect();
    frequencies(flow, &anchors)
}

/// Times that the banks of shared memory serve an instruction that goes there, on average.
fn served(counts: &LaunchCounts) -> f64 {
    let kinds = SHARED.map(anchors::of_name);
    let of_warp = |part: &Part| kinds.iter().flatten().filter_map(|kind| part.anchors.get(*kind)).sum::<f64>();
    let instructions: f64 = counts.parts.iter().map(|part| part.warps * of_warp(part)).sum();
    if instructions > 0.0 { counts.served / (instructions * counts.blocks.max(1.0)) } else { 0.0 }
}

/// Instructions of warps that go to shared memory.
const SHARED: [&str; 5] = ["LDS", "LDSM", "STS", "STSM", "LDGSTS"];

/// Whether two parts are the same one of several warpgroups: neither is a producer for the other.
fn does_the_same(one: &Part, other: &Part) -> bool {
    let [a, b] = [one, other].map(|part| part.ptx_instructions);
    (a - b).abs() <= 0.05 * a.max(b).max(1.0)
}

/// Basic blocks that a warp goes through equally often, one after another: a loop's body where that is often.
struct Piece {
    blocks: Vec<usize>,
    runs: f64,
    /// How often it is come to from elsewhere.
    entries: f64,
}

/// The pieces of a kernel in the order of its code. A block that is run less often and can be passed by (a mask at the edge, an mbarrier that is
/// waited for again) does not divide a piece.
fn pieces(flow: &[Block], runs: &[f64]) -> Vec<Piece> {
    let is_near = |a: f64, b: f64| (a - b).abs() <= 0.05 * a.max(b);
    let mut pieces: Vec<Piece> = Vec::new();
    let mut open: Option<Piece> = None;
    let mut before = 1.0;

    for (number, &runs_here) in runs.iter().enumerate().filter(|(_, runs)| **runs > 0.01) {
        // It belongs to the piece before, or is passed by within it.
        match &mut open {
            Some(piece) if is_near(piece.runs, runs_here) => {
                piece.blocks.push(number);
                continue;
            }
            Some(piece) if runs_here < piece.runs => {
                let last = *piece.blocks.last().expect("a piece has a block");
                let goes_on = |next: &usize| *next > number && is_near(runs[*next], piece.runs);
                if flow[last].next.iter().any(goes_on) {
                    pieces.push(Piece { blocks: vec![number], runs: runs_here, entries: runs_here });
                    continue;
                }
            }
            _ => {}
        }

        // Or it begins another one.
        if let Some(piece) =
            open.replace(Piece { blocks: vec![number], runs: runs_here, entries: runs_here.min(before) })
        {
            pieces.push(piece);
        }
        before = runs_here;
    }
    pieces.extend(open);
    pieces
}

impl Piece {
    /// Clocks of all its runs. Where one follows another, what that one leaves in flight goes on.
    fn clocks(&self, flow: &[Block], code: &[Instruction], times: &Times, team: usize) -> f64 {
        let body: Vec<Instruction> =
            self.blocks.iter().flat_map(|block| code[flow[*block].instructions.clone()].iter().copied()).collect();
        let of = |trips: usize| clocks(&body.repeat(trips), times, team);
        let trips = self.runs / self.entries;
        if trips < 2.0 {
            return self.runs * of(1);
        }
        let [two, three] = [2, 3].map(of);
        self.entries * (two + (trips - 2.0) * (three - two))
    }
}

/// Clocks from the first instruction of a piece of code to the end of its last, of so many warps of a scheduler that begin it together. Each
/// instruction stalls the next of its warp as its control bits ask, and waits for the barriers of those whose time is not fixed; each finds
/// its unit free or waits for it, and one is issued in a clock. Loads and stores wait in a queue of [`QUEUE`], past which their warps go on. Matrix
/// products of warpgroups go on beside their warps until these wait for their groups.
fn clocks(code: &[Instruction], times: &Times, warps: usize) -> f64 {
    let mut team = vec![Progress::default(); warps.max(1)];
    let (mut free, mut slot) = ([0.0_f64; PIPES.len()], 0.0_f64);
    // When each of the last loads and stores left the queue, the oldest first.
    let mut queue = VecDeque::from([0.0_f64; QUEUE]);
    loop {
        // The one that can go on first, and of several the one that is furthest behind.
        let can = |(place, warp): (usize, &Progress)| {
            let instruction = code.get(warp.next)?;
            let barriers = (0..6).filter(|barrier| instruction.waits >> barrier & 1 == 1);
            let now = barriers.fold(warp.now, |now, barrier| now.max(warp.ready[barrier]));
            let now = if let Order::Leaves(groups) = instruction.order { now.max(warp.left(groups)) } else { now };
            let unit = match pipe(instruction.name) {
                _ if is_beside(instruction) => 0.0,
                Pipe::Memory => queue[0],
                unit => free[unit as usize],
            };
            Some((place, instruction, now.max(unit).max(slot)))
        };
        let behind = |place: usize| team[place].next;
        let first = |a: &(usize, &Instruction, f64), b: &(usize, &Instruction, f64)| {
            a.2.total_cmp(&b.2).then_with(|| behind(a.0).cmp(&behind(b.0)))
        };
        let next = team.iter().enumerate().filter_map(can).min_by(first);
        let Some((place, instruction, now)) = next else { break };

        let unit = pipe(instruction.name) as usize;
        let warp = &mut team[place];
        let begins = now.max(free[unit]);
        free[unit] = begins + times.busy[unit].max(if SHARED.contains(&instruction.name) { times.shared } else { 0.0 });
        if unit == Pipe::Memory as usize {
            queue.pop_front();
            queue.push_back(begins);
        }
        slot = now + 1.0;
        if let Some(barrier) = instruction.write_barrier {
            warp.ready[usize::from(barrier)] = begins + latency(instruction.name, times.global);
        }
        if instruction.order == Order::EndsGroup {
            warp.groups.push(free[unit]);
        }
        warp.now = now + f64::from(instruction.stall.max(1));
        warp.next += 1;
    }
    team.iter().map(|warp| warp.now).chain(free).fold(0.0, f64::max)
}

/// Loads and stores of a scheduler that wait behind the one that is served. Five in a row are issued without a stall (Huerta et al.,
/// "Analyzing modern NVIDIA GPU cores", arXiv 2503.20481).
const QUEUE: usize = 4;

/// Whether an instruction's work goes on beside its warp.
fn is_beside(instruction: &Instruction) -> bool {
    matches!(instruction.name, "HGMMA" | "IGMMA" | "QGMMA")
}

/// How far a warp is in a piece of code.
#[derive(Clone, Default)]
struct Progress {
    next: usize,
    now: f64,
    /// When each of its barriers is released.
    ready: [f64; 6],
    /// When each of its groups of matrix products is done.
    groups: Vec<f64>,
}

impl Progress {
    /// When at most so many groups are in flight.
    fn left(&self, groups: u8) -> f64 {
        let done = self.groups.len().saturating_sub(usize::from(groups));
        self.groups[..done].last().copied().unwrap_or(0.0)
    }
}

/// What the clocks of a piece of code hang on.
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
            order: Order::None,
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

    #[test]
    fn loads_wait_in_a_queue_while_their_warp_goes_on() {
        let card = Card::named("h100").unwrap();
        // Each keeps shared memory busy for 16 clocks; 100 clocks of sums need none of them.
        let times = Times { global: 400.0, shared: 16.0, busy: PIPES.map(|pipe| busy(&card, pipe, 16.0)) };
        let sums = [instruction("FADD", 10, None, 0); 10];
        let after =
            |loads: usize| clocks(&[&vec![instruction("LDSM", 1, None, 0); loads][..], &sums].concat(), &times, 1);
        // The sixth is taken when the second leaves the queue.
        assert_eq!([5, 6].map(after), [5.0 + 100.0, 17.0 + 100.0]);

        // What waits for a load waits until it was served.
        let last = [&[instruction("LDSM", 1, None, 0); 3][..], &[instruction("LDSM", 1, Some(0), 0)]].concat();
        let waits = [&last[..], &[instruction("FADD", 4, None, 1)]].concat();
        assert_eq!(clocks(&waits, &times, 1), 48.0 + latency("LDSM", 400.0) + 4.0);
    }

    #[test]
    fn products_of_a_warpgroup_go_on_beside_it_until_it_waits_for_them() {
        let card = Card::named("h100").unwrap();
        let times = Times { global: 400.0, shared: 0.0, busy: PIPES.map(|pipe| busy(&card, pipe, 128.0)) };
        let ordered = |name, order| Instruction { order, ..instruction(name, 1, None, 0) };
        let product = ordered("HGMMA", Order::EndsGroup);
        let sums = [instruction("FADD", 10, None, 0); 5];
        let waits = |groups| ordered("WARPGROUP", Order::Leaves(groups));

        // 50 clocks of sums beside a product of 128, which is waited for or not.
        let first = [&[product][..], &sums, &[waits(0)], &sums].concat();
        assert_eq!(clocks(&first, &times, 1), 128.0 + 1.0 + 50.0);
        assert_eq!(clocks(&[&[product][..], &sums, &[waits(1)], &sums].concat(), &times, 1), 128.0);

        // A loop that leaves one in flight is as long as its products; one that leaves none waits for its sums too.
        let flow = [Block { instructions: 0..7, next: vec![0], ends: true }];
        let trip = |groups| {
            let code = [&[product, waits(groups)][..], &sums].concat();
            let of = |runs| Piece { blocks: vec![0], runs, entries: 1.0 }.clocks(&flow, &code, &times, 1);
            of(101.0) - of(100.0)
        };
        assert_eq!([1, 0].map(trip), [128.0, 128.0 + 1.0 + 50.0]);
    }

    #[test]
    fn a_detour_does_not_divide_a_loop() {
        // 0 leads into a loop of 1, 3 and 4, which passes 2 by but for once; 5 is behind it.
        let next = [vec![1], vec![2, 3], vec![3], vec![4], vec![1, 5], vec![]];
        let block = |(number, next): (usize, &Vec<usize>)| Block {
            instructions: number..number + 1,
            next: next.clone(),
            ends: next.is_empty(),
        };
        let flow: Vec<Block> = next.iter().enumerate().map(block).collect();
        let found = pieces(&flow, &[1.0, 64.0, 1.0, 64.0, 63.0, 1.0]);
        let found: Vec<_> = found.iter().map(|piece| (piece.blocks.clone(), piece.runs, piece.entries)).collect();
        let expected = [(vec![0], 1.0, 1.0), (vec![2], 1.0, 1.0), (vec![1, 3, 4], 64.0, 1.0), (vec![5], 1.0, 1.0)];
        assert_eq!(found, expected);
    }
}
