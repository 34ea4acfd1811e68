//! A cluster of blocks on one host thread: its warps take turns in a seeded order.

use crate::exec::program::registers::Registers;
use crate::exec::program::step::FROM_START;
use crate::exec::race::clocks::ClockSet;
use crate::exec::schedule::warp;
use crate::exec::schedule::warp::{Failure, Turn, WHOLE_TURN};
use crate::exec::state::block::Block;
use crate::exec::state::context::{Context, Grid};
use crate::exec::state::families::BlockState;
use crate::exec::state::warp::Warp;
use crate::exec::state::worker::Worker;
use crate::mask::{FULL, lanes};
use crate::memory::{SHARED_RESERVED, SharedMemory};
use crate::ptx::operand::{Axis, SpecialRegister};
use crate::report::{Fault, FaultKind, Report};

/// A cluster that runs: blocks by rank, and the warps of each.
pub struct Cluster {
    blocks: Vec<Block>,
    warps: Vec<Vec<Warp>>,
    clocks: ClockSet,
    /// Turns since something last happened that a waiting warp may wait for.
    idle: u32,
    events: u64,
}

/// How a turn of a cluster ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All its threads have left.
    Done,
    /// It goes on.
    Running,
    /// Nothing in it has moved for long: only others can help it.
    Stuck,
}

/// Rounds of turns without an event after which a cluster is stuck.
const PATIENCE: u32 = 256;

impl Cluster {
    /// The cluster of this number in the grid.
    pub fn new(grid: &Grid<'_>, number: u64) -> Self {
        let blocks = (0..grid.launch.cluster_size())
            .map(|rank| {
                let threads = grid.launch.threads();
                let bytes = grid.kernel.dynamic_shared - SHARED_RESERVED + u64::from(grid.launch.dynamic_shared);
                Block {
                    index: grid.block_index(number, rank),
                    rank,
                    shared: SharedMemory::new(bytes as usize),
                    live_threads: threads,
                    threads,
                    state: BlockState::new(threads.div_ceil(32) as usize),
                }
            })
            .collect::<Vec<_>>();

        let warps =
            blocks.iter().map(|block| (0..block.threads.div_ceil(32)).map(|id| start(grid, block, id)).collect());
        let clocks =
            ClockSet::new(blocks.len(), grid.launch.threads().div_ceil(32) as usize).in_grid(number, grid.first_agent);
        Self { warps: warps.collect(), blocks, clocks, idle: 0, events: 0 }
    }

    /// Gives each warp a turn.
    ///
    /// # Errors
    /// The first fault.
    pub fn turn(&mut self, grid: &Grid<'_>, worker: &mut Worker) -> Result<Progress, Box<Report>> {
        let mut order: Vec<(usize, usize)> = (0..self.warps.len())
            .flat_map(|rank| (0..self.warps[rank].len()).map(move |id| (rank, id)))
            .filter(|&(rank, id)| !self.warps[rank][id].is_done())
            .collect();
        if order.is_empty() {
            return Ok(Progress::Done);
        }
        worker.rng.shuffle(&mut order);

        let mut moved = false;
        for (rank, id) in order {
            // Short turns now and then let warps overtake one another in the middle of things.
            let budget = match worker.rng.bits() % 4 {
                0 => 1 + worker.rng.below(256) as u32,
                _ => WHOLE_TURN,
            };
            let warp = &mut self.warps[rank][id];
            let blocks = &mut self.blocks;
            let mut context = Context { grid, worker, blocks, clocks: &mut self.clocks, rank, warp, pc: 0 };
            let turn = warp::run(&mut context, budget)
                .map_err(|failure| Box::new(report(grid, &self.blocks[rank], warp.id, *failure)))?;
            moved |= !matches!(turn, Turn::Waiting(false));

            if warp.instructions > grid.options.warp_instructions {
                let fault =
                    Fault::new(FaultKind::Timeout, format!("a warp has run {} instructions", warp.instructions));
                return Err(Box::new(self.report_waiting(grid, rank, id, fault)));
            }
        }

        self.idle = if worker.events == self.events { self.idle + 1 } else { 0 };
        self.events = worker.events;
        Ok(if moved && self.idle < PATIENCE { Progress::Running } else { Progress::Stuck })
    }

    /// The report of a cluster that cannot get on.
    pub fn deadlock(&self, grid: &Grid<'_>) -> Box<Report> {
        let waiting = self.warps.iter().enumerate().flat_map(|(rank, warps)| {
            warps.iter().enumerate().filter(|(_, warp)| !warp.is_done()).map(move |(id, _)| (rank, id))
        });

        // Lanes that wait for lanes of their own warp explain the rest.
        let missing = |&(rank, id): &(usize, usize)| {
            let splits = self.warps[rank][id].splits();
            splits.len() > 1 && splits.iter().all(|split| split.waiting)
        };
        let waiting: Vec<_> = waiting.collect();
        let missed = waiting.iter().copied().find(missing);
        let (rank, id) = missed.or(waiting.last().copied()).unwrap_or((0, 0));
        let warp = &self.warps[rank][id];

        let fault = match missed.is_some() {
            true => Fault::new(
                FaultKind::DivergentBarrier,
                format!("lanes wait for one another at different instructions: {}", describe(grid, warp)),
            ),
            false => {
                let block = &self.blocks[rank];
                let detail = block.state.describe_waiting(block.live_threads);
                Fault::new(FaultKind::Deadlock, format!("every thread waits for something that cannot come: {detail}"))
            }
        };

        Box::new(self.report_waiting(grid, rank, id, fault))
    }

    fn report_waiting(&self, grid: &Grid<'_>, rank: usize, id: usize, fault: Fault) -> Report {
        let warp = &self.warps[rank][id];
        let (pc, mask) = warp.splits().last().map_or((0, 1), |split| (split.pc, split.mask));
        report(grid, &self.blocks[rank], warp.id, Failure { fault, pc, mask })
    }
}

fn report(grid: &Grid<'_>, block: &Block, warp: u32, Failure { fault, pc, mask }: Failure) -> Report {
    let lane = mask.trailing_zeros() & 31;
    grid.report(fault, block.index, warp * 32 + lane, pc)
}

fn describe(grid: &Grid<'_>, warp: &Warp) -> String {
    let line = |pc: u32| grid.kernel.origins.get(pc as usize).map_or(0, |origin| origin.line);
    let splits = warp.splits().iter().map(|split| format!("{:#010x} at PTX line {}", split.mask, line(split.pc)));
    splits.collect::<Vec<_>>().join(", ")
}

/// A warp at its first step, with its constants and special registers.
fn start(grid: &Grid<'_>, block: &Block, id: u32) -> Warp {
    let kernel = grid.kernel;
    let mut registers = grid.template.clone();
    let first = id * 32;
    let count = (block.threads - first).min(32);
    let live = if count == 32 { FULL } else { (1 << count) - 1 };
    for &(slot, special) in &kernel.specials {
        let values = std::array::from_fn(|lane| special_value(grid, block, id, lane as u32, special));
        Registers::set::<u32>(&mut registers, slot, FULL, &values);
    }
    debug_assert!(lanes(live).count() as u32 == count);
    let mut warp = Warp::new(registers, id, live, kernel.local_bytes);
    warp.undefined = grid.undefined.clone();
    warp.watching = if grid.undefined.is_empty() { 0 } else { FROM_START };
    warp
}

fn along(axis: Axis, of: [u32; 3]) -> u32 {
    match axis {
        Axis::X => of[0],
        Axis::Y => of[1],
        Axis::Z => of[2],
    }
}

/// The special registers that do not change while a warp runs.
fn special_value(grid: &Grid<'_>, block: &Block, warp: u32, lane: u32, special: SpecialRegister) -> u32 {
    use SpecialRegister::*;
    let launch = grid.launch;
    let cluster = launch.cluster;
    let divided = |of: [u32; 3]| std::array::from_fn(|axis| of[axis] / cluster[axis]);
    let inside = std::array::from_fn(|axis| block.index[axis] % cluster[axis]);

    match special {
        Tid(axis) => along(axis, grid.thread_index(warp * 32 + lane)),
        Ntid(axis) => along(axis, launch.block),
        Ctaid(axis) => along(axis, block.index),
        Nctaid(axis) => along(axis, launch.grid),
        Clusterid(axis) => along(axis, divided(block.index)),
        Nclusterid(axis) => along(axis, divided(launch.grid)),
        ClusterCtaid(axis) => along(axis, inside),
        ClusterNctaid(axis) => along(axis, cluster),
        WarpSize => 32,
        Laneid => lane,
        Warpid => warp,
        Nwarpid => launch.threads().div_ceil(32),
        Gridid => grid.number as u32,
        // As many multiprocessors as an H100 has; which block runs where is left open.
        Smid => {
            (block.index[0].wrapping_add(block.index[1].wrapping_mul(7)).wrapping_add(grid.options.seed as u32)) % 132
        }
        Nsmid => 132,
        IsExplicitCluster => u32::from(launch.explicit_cluster),
        ClusterCtarank => block.rank,
        ClusterNctarank => launch.cluster_size(),
        LanemaskEq => 1 << lane,
        LanemaskLt => (1 << lane) - 1,
        LanemaskLe => (1 << lane) | ((1 << lane) - 1),
        LanemaskGt => !((1 << lane) | ((1 << lane) - 1)),
        LanemaskGe => !((1 << lane) - 1),
        DynamicSharedSize => launch.dynamic_shared,
        TotalSharedSize => (grid.kernel.static_shared as u32) + launch.dynamic_shared,
        AggregateSharedSize => ((grid.kernel.dynamic_shared as u32) + launch.dynamic_shared).next_multiple_of(128),
        // Both halves of an address, of a cooperative launch.
        Envreg1 if launch.cooperative => (grid.kernel.workspace >> 32) as u32,
        Envreg2 if launch.cooperative => grid.kernel.workspace as u32,
        Envreg1 | Envreg2 => 0,
        // Times change; the decoder reads them as effects. A graph is not known here.
        Clock | ClockHi | Clock64 | Globaltimer | GlobaltimerLo | GlobaltimerHi | CurrentGraphExec => 0,
    }
}
