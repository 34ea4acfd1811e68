//! A launch: its clusters, in a seeded order, on the host's threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::counters::Counts;
use crate::exec::program::kernel::Kernel;
use crate::exec::program::registers::{FULL, Registers};
use crate::exec::race::sync_locations::Handoffs;
use crate::exec::rng::Rng;
use crate::exec::schedule::cluster::{Cluster, Progress};
use crate::memory::AddressMap;
use crate::options::Options;
use crate::report::Report;

/// What is launched how.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Blocks of the grid.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Blocks of a cluster; divides the grid.
    pub cluster: [u32; 3],
    /// Whether the launch or the kernel asked for clusters.
    pub explicit_cluster: bool,
    /// All blocks are resident at once.
    pub cooperative: bool,
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    /// The parameter block.
    pub parameters: Vec<u8>,
}

impl Launch {
    /// A launch of single blocks.
    pub fn new(grid: [u32; 3], block: [u32; 3], dynamic_shared: u32, parameters: Vec<u8>) -> Self {
        let cluster = [1; 3];
        Self { grid, block, cluster, explicit_cluster: false, cooperative: false, dynamic_shared, parameters }
    }

    /// Threads of a block.
    pub fn threads(&self) -> u32 {
        self.block.iter().product()
    }

    /// Blocks of a cluster.
    pub fn cluster_size(&self) -> u32 {
        self.cluster.iter().product()
    }

    /// Clusters of the grid.
    pub fn clusters(&self) -> u64 {
        (0..3).map(|axis| u64::from(self.grid[axis] / self.cluster[axis])).product()
    }
}

/// A launch that runs.
pub struct Grid<'a> {
    /// The code.
    pub kernel: &'a Kernel,
    /// The launch.
    pub launch: &'a Launch,
    /// Global memory as it was at the launch.
    pub memory: &'a AddressMap,
    /// Checks and seed.
    pub options: &'a Options,
    /// Number of the launch in its process.
    pub number: u64,
    /// Registers of a warp with the constants in place.
    pub template: Registers,
    /// Number of the first agent of this launch; 0 where races in global memory are not looked for.
    pub first_agent: u64,
    /// What atomics hand on between clusters.
    pub handoffs: Handoffs,
}

impl Grid<'_> {
    /// Index of a block from the number of its cluster and its rank there.
    pub fn block_index(&self, cluster: u64, rank: u32) -> [u32; 3] {
        let [cx, cy, _] = self.launch.cluster;
        let [gx, gy] = [0, 1].map(|axis| u64::from(self.launch.grid[axis] / self.launch.cluster[axis]));
        let place = [cluster % gx, cluster / gx % gy, cluster / gx / gy];
        let inside = [rank % cx, rank / cx % cy, rank / cx / cy];
        std::array::from_fn(|axis| place[axis] as u32 * self.launch.cluster[axis] + inside[axis])
    }

    /// Index of a thread from its number in the block.
    pub fn thread_index(&self, thread: u32) -> [u32; 3] {
        let [x, y, _] = self.launch.block;
        [thread % x, thread / x % y, thread / x / y]
    }

    /// What is at or near an address, for reports.
    pub fn describe(&self, address: u64) -> Option<String> {
        use crate::exec::state::context::{Window, window};
        let (space, inside) = window(address);
        match space {
            Window::Global => self.memory.describe(address),
            Window::Shared => {
                let within = |(_, start, bytes): &&(String, u64, u64)| (*start..start + bytes).contains(&inside);
                let dynamic = self.kernel.dynamic_shared;
                Some(match self.kernel.shared_variables.iter().find(within) {
                    Some((name, start, bytes)) => format!("byte {} of shared {name} of {bytes} bytes", inside - start),
                    None if inside >= dynamic => {
                        format!("byte {} of {} of dynamic shared memory", inside - dynamic, self.launch.dynamic_shared)
                    }
                    None => format!("shared address {inside:#x}"),
                })
            }
            Window::Local => Some(format!("byte {inside} of {} of local memory", self.kernel.local_bytes)),
            Window::Parameter => Some(format!("byte {inside} of {} of the parameters", self.kernel.parameter_bytes)),
        }
    }
}

/// What a host thread has of its own while it runs clusters.
pub struct Worker {
    /// Its order of things.
    pub rng: Rng,
    /// Grows when something happens that a waiting warp may wait for.
    pub events: u64,
    /// Counts, where they are wanted.
    pub counts: Option<Counts>,
    /// Indices of the allocations that were hit last, by the low bits of the step's number.
    pub last_allocations: [usize; 16],
}

/// Rounds of turns after which a cluster that does not end lets others start, for kernels whose blocks wait for others.
const ROUNDS: u32 = 64;

/// Runs a kernel to its end; returns its counts where the options ask for them.
///
/// # Errors
/// The report of the first fault.
pub fn run(
    kernel: &Kernel,
    launch: &Launch,
    memory: &AddressMap,
    options: &Options,
    number: u64,
) -> Result<Option<Counts>, Box<Report>> {
    let mut template = Registers::new(kernel.units, kernel.predicates);
    for &(slot, bits, value) in &kernel.constants {
        match bits {
            0..=32 => template.set(slot, FULL, &[value as u32; 32]),
            _ => template.set(slot, FULL, &[value; 32]),
        }
    }
    let agents = 2 * launch.clusters() * u64::from(launch.cluster_size() * launch.threads().div_ceil(32));
    let first_agent = if options.global_races { memory.start_launch(agents) } else { 0 };
    let handoffs = Handoffs::default();
    let grid = Grid { kernel, launch, memory, options, number, template, first_agent, handoffs };
    let mut order: Vec<u64> = (0..launch.clusters()).collect();
    Rng::new(options.seed, number).shuffle(&mut order);
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if options.threads == 0 { available } else { options.threads }.min(order.len()).max(1);
    let shared = Shared {
        grid: &grid,
        order,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        report: Mutex::new(None),
        moves: AtomicU64::new(0),
        idle: (0..threads).map(|_| AtomicU64::new(0)).collect(),
    };
    let counts: Vec<Option<Counts>> = if threads == 1 {
        vec![shared.work(0)]
    } else {
        std::thread::scope(|scope| {
            let shared = &shared;
            let workers: Vec<_> = (0..threads).map(|number| scope.spawn(move || shared.work(number))).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    };
    if let Some(report) = shared.report.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(report);
    }
    Ok(counts.into_iter().flatten().reduce(|mut total, other| {
        total.add(&other);
        total
    }))
}

/// What the worker threads of a launch share.
struct Shared<'a> {
    grid: &'a Grid<'a>,
    order: Vec<u64>,
    next: AtomicUsize,
    stop: AtomicBool,
    report: Mutex<Option<Box<Report>>>,
    /// Turns of clusters in which something moved: whoever waits must look again after each.
    moves: AtomicU64,
    /// Of each worker: how often in a row it has looked at all its clusters since the last move, in vain. See [`idle`].
    idle: Vec<AtomicU64>,
}

impl Shared<'_> {
    fn work(&self, index: usize) -> Option<Counts> {
        let Grid { options, number, .. } = *self.grid;
        let mut worker = Worker {
            rng: Rng::new(options.seed ^ number.rotate_left(32), 1 + index as u64),
            events: 0,
            counts: options.counters.then(|| Counts::new(self.grid.kernel)),
            last_allocations: [0; 16],
        };
        if let Err(report) = self.clusters(&mut worker, index) {
            self.stop.store(true, Ordering::Relaxed);
            let mut first = self.report.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(report);
        }
        worker.counts
    }

    fn start(&self) -> Option<Cluster> {
        let next = self.order.get(self.next.fetch_add(1, Ordering::Relaxed))?;
        Some(Cluster::new(self.grid, *next))
    }

    fn clusters(&self, worker: &mut Worker, index: usize) -> Result<(), Box<Report>> {
        let mut resident = VecDeque::new();
        // A pass is a look at every resident cluster, begun when there had been `seen` moves.
        let (mut seen, mut stuck_in_a_row, mut passes) = (0, 0, 0);
        if self.grid.launch.cooperative {
            // Every block of a cooperative launch is there from the start.
            while let Some(cluster) = self.start() {
                resident.push_back(cluster);
            }
        }
        while !self.stop.load(Ordering::Relaxed) {
            let Some(mut cluster) = resident.pop_front().or_else(|| self.start()) else { break };
            if stuck_in_a_row == 0 {
                seen = self.moves.load(Ordering::SeqCst);
            }
            let mut progress = Progress::Running;
            for _ in 0..ROUNDS {
                progress = cluster.turn(self.grid, worker)?;
                if progress != Progress::Running || self.stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            if progress == Progress::Stuck {
                stuck_in_a_row += 1;
            } else {
                self.moves.fetch_add(1, Ordering::SeqCst);
                stuck_in_a_row = 0;
                if progress == Progress::Done {
                    continue;
                }
            }
            // It may wait for a block that has not started.
            if let Some(other) = self.start() {
                resident.push_back(other);
                stuck_in_a_row = 0;
            } else if stuck_in_a_row > resident.len() {
                stuck_in_a_row = 0;
                passes = if self.idle[index].load(Ordering::SeqCst) >> PASS_BITS == seen { passes + 1 } else { 1 };
                self.idle[index].store(idle(seen, passes), Ordering::SeqCst);
                if self.is_deadlock() {
                    return Err(cluster.deadlock(self.grid));
                }
                std::thread::yield_now();
            }
            resident.push_back(cluster);
        }
        // A thread without work helps nobody who waits; what it did last, others must look at first.
        self.moves.fetch_add(1, Ordering::SeqCst);
        self.idle[index].store(GONE, Ordering::SeqCst);
        Ok(())
    }

    /// Whether every worker has looked at all its clusters in vain, often, since anything last moved. A worker that is in the
    /// middle of a move has not: what let it move was a move of another, which is counted already or by a worker that is not
    /// idle either.
    fn is_deadlock(&self) -> bool {
        let moves = self.moves.load(Ordering::SeqCst);
        self.idle.iter().all(|worker| match worker.load(Ordering::SeqCst) {
            GONE => true,
            idle => idle >> PASS_BITS == moves && idle & ((1 << PASS_BITS) - 1) >= PASSES,
        })
    }
}

/// Of a worker that has ended.
const GONE: u64 = u64::MAX;
const PASS_BITS: u32 = 16;
/// Passes after which nobody believes that waiting helps: waits may fail by chance, and sleep.
const PASSES: u64 = 64;

/// A worker's idleness: the moves that there had been when its passes began, and how many passes.
fn idle(moves: u64, passes: u64) -> u64 {
    moves << PASS_BITS | passes.min((1 << PASS_BITS) - 1)
}
