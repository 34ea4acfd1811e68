//! What a launch does, counted by the simulator: a sample of its blocks. Of anybody's kernel.

use cudasim::counters::pages::Pages;
use cudasim::counters::{Code, Counts, tensor_flops};
use cudasim::exec::state::context::Kernel;
use cudasim::exec::{Launch, run, sample};
use cudasim::memory::GlobalMemory;
use cudasim::options::Options;

use super::anchors;

/// What warps of a block do that do the same, and are of one warpgroup: their averages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// Warps of a block that have it.
    pub warps: f64,
    /// Instructions of each kind of anchor that one of its warps runs.
    pub anchors: Vec<f64>,
    /// Instructions of PTX that one of its warps runs.
    pub ptx_instructions: f64,
    /// Multiplications and additions on tensor cores of all its warps together, in a block.
    pub tensor_flops: f64,
}

/// What a launch does in all, from the blocks that were counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LaunchCounts {
    /// Blocks of the launch.
    pub blocks: f64,
    /// Blocks that were run to count.
    pub blocks_run: u64,
    /// Multiplications and additions on tensor cores.
    pub tensor_flops: f64,
    /// Multiplications and additions in f32 outside of them.
    pub f32_flops: f64,
    /// Bytes that L2 gives, in whole sectors of 32.
    pub l2_read: f64,
    /// Bytes that L2 takes.
    pub l2_written: f64,
    /// Bytes that copies bring to shared memory beyond those that L2 gives: a multicast is read once, and goes to several blocks.
    pub multicast: f64,
    /// Times that the banks of shared memory serve warps, copies and matrix products.
    pub wavefronts: f64,
    /// How many of these are of warps' own instructions.
    pub served: f64,
    /// How many of these are conflicts.
    pub conflicts: f64,
    /// Instructions of PTX, one for each warp.
    pub ptx_instructions: f64,
    /// How many of these are `ldmatrix`.
    pub ldmatrix: f64,
    /// By part, in the order of warps.
    pub parts: Vec<Part>,
    /// Whether each of the launch's references is read, and is written.
    pub touched: Vec<(bool, bool)>,
}

/// Work that a count of one launch may cost, in instructions of warps.
const BUDGET: u64 = 6_000_000;

/// Multiply-adds on tensor cores that cost the simulator as much as an instruction.
const TENSOR_COST: u64 = 120;

/// Blocks of a launch that are counted at most, where the grid is wider than that.
const MOST_BLOCKS: u64 = 64;

/// A launch of anybody's kernel, ready to run.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The kernel, decoded from its PTX.
    pub kernel: &'a Kernel,
    /// Grid, block, cluster, dynamic shared memory, parameters.
    pub shape: &'a Launch,
    /// The memory that its parameters point to.
    pub memory: &'a GlobalMemory,
}

impl Subject<'_> {
    /// What the launch does in all, from a sample of its blocks, or from all of them; and the pages that it touched.
    ///
    /// # Errors
    /// The simulator's report, in words.
    pub fn count(self, all_blocks: bool) -> Result<(LaunchCounts, Pages), String> {
        let Self { kernel, shape, .. } = self;
        if all_blocks {
            let counts = self.run(0)?;
            return Ok(summary(counts, kernel, shape, shape.clusters()));
        }

        // One block tells what more would cost.
        let first = self.run(1)?;
        let cost = first.warp_instructions + first.tensor_flops(kernel) / 2 / TENSOR_COST;
        let blocks = blocks_to_run(shape, cost);
        let counts = if blocks == 1 { first } else { self.run(blocks)? };
        Ok(summary(counts, kernel, shape, sample(shape, blocks).len() as u64))
    }

    /// Runs so many blocks; 0 for all.
    fn run(self, blocks: u64) -> Result<Counts, String> {
        let options = Options {
            blocks,
            counters: true,
            threads: 1,
            warnings: false,
            uninitialised: false,
            registers: false,
            shared_races: false,
            global_races: false,
            warp_instructions: 1 << 26,
            ..Options::default()
        };
        let counts = run(self.kernel, self.shape, &self.memory.map(), &options, 0);
        Ok(counts.map_err(|report| report.to_string())?.unwrap_or_default())
    }
}

/// How many blocks of a launch to run where one costs so much. Where a row of the grid is not too much, whole rows: a causal mask
/// makes blocks along it unequal.
fn blocks_to_run(launch: &Launch, cost: u64) -> u64 {
    let all = launch.clusters() * u64::from(launch.cluster_size());
    let most = (BUDGET / cost.max(1)).clamp(1, MOST_BLOCKS);
    let row = u64::from(launch.grid[0]);
    let rows = if row <= most { most / row * row } else { most };
    rows.min(all).max(1)
}

/// Adds up what was counted, for all blocks.
fn summary(counts: Counts, kernel: &Kernel, shape: &Launch, clusters: u64) -> (LaunchCounts, Pages) {
    let blocks_run = clusters * u64::from(shape.cluster_size());
    let blocks = (shape.clusters() * u64::from(shape.cluster_size())) as f64;
    let scale = blocks / blocks_run as f64;
    let scaled = |count: u64| count as f64 * scale;

    let sectors = |directions: [usize; 2]| {
        let of = |direction: usize| counts.global[direction].sectors + counts.bulk.global[direction].sectors;
        directions.into_iter().map(of).sum::<u64>()
    };
    let [given, brought] = [counts.bulk.global[0].bytes, counts.bulk.shared[1].bytes];
    let lines: u64 = counts.bulk.shared.iter().map(|lines| lines.lines).sum();
    let multiplied: u64 = counts.wgmma.iter().map(|multiplicand| multiplicand.wavefronts).sum();
    let served: u64 = counts.shared.iter().map(|traffic| traffic.wavefronts).sum();
    let f32_flops: u64 = counts.by_form(kernel).map(|(form, _, threads)| anchors::f32_operations(form) * threads).sum();
    let parts = parts(&counts, kernel, blocks_run);
    let ldmatrix = |part: &Part| anchors::of_name("LDSM").map_or(0.0, |kind| part.warps * part.anchors[kind]);
    let summary = LaunchCounts {
        blocks,
        blocks_run,
        tensor_flops: scaled(counts.tensor_flops(kernel)),
        f32_flops: scaled(f32_flops),
        l2_read: 32.0 * scaled(sectors([0, 2])),
        l2_written: 32.0 * scaled(sectors([1, 2])),
        multicast: scaled(brought.saturating_sub(given)),
        wavefronts: scaled(served + lines + multiplied),
        served: scaled(served),
        conflicts: scaled(counts.shared.iter().map(|traffic| traffic.conflicts).sum()),
        ptx_instructions: scaled(counts.warp_instructions),
        ldmatrix: blocks * parts.iter().map(ldmatrix).sum::<f64>(),
        parts,
        touched: Vec::new(),
    };
    (summary, counts.pages)
}

/// Warps of a warpgroup.
const WARPGROUP: usize = 4;

/// The parts that the warps of a block have: one for each warpgroup, whose warps may differ a little (by a mask at the edge), or several where
/// warps of it do different things (a producer of one warp).
fn parts(counts: &Counts, kernel: &Kernel, blocks_run: u64) -> Vec<Part> {
    let mut parts = Vec::new();
    for group in counts.by_warp().chunks(WARPGROUP) {
        for alike in group.chunk_by(|one, other| are_alike(one, other)) {
            parts.push(part(alike, kernel, blocks_run as f64));
        }
    }
    parts
}

/// Whether two warps do the same: most of what either runs, the other one runs as often.
fn are_alike(one: &[u64], other: &[u64]) -> bool {
    let apart: u64 = one.iter().zip(other).map(|(a, b)| a.abs_diff(*b)).sum();
    let most = one.iter().sum::<u64>().max(other.iter().sum());
    2 * apart <= most
}

/// The average of these warps.
fn part(warps: &[Vec<u64>], kernel: &Kernel, blocks: f64) -> Part {
    let count = warps.len() as f64;
    let mut part = Part { warps: count, anchors: vec![0.0; anchors::COUNT], ..Part::default() };
    for (step, form) in kernel.forms().enumerate() {
        let runs: u64 = warps.iter().map(|warp| warp[step]).sum();
        let of_warp = runs as f64 / (count * blocks);
        part.ptx_instructions += of_warp;
        part.tensor_flops += (tensor_flops(form) * runs) as f64 / blocks;
        if let Some(kind) = anchors::of_form(form) {
            part.anchors[kind] += of_warp;
        }
    }
    part
}
