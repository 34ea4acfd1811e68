//! A launch: its clusters, in a seeded order, on the host's threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::counters::Counts;
use crate::exec::program::definedness::Undefined;
use crate::exec::program::registers::Registers;
use crate::exec::race::sync_locations::SyncLocations;
use crate::exec::rng::Rng;
use crate::exec::schedule::cluster::{Cluster, Progress};
use crate::exec::state::context::{Grid, Kernel};
use crate::exec::state::launch::Launch;
use crate::exec::state::warnings::Given;
use crate::exec::state::worker::Worker;
use crate::mask::FULL;
use crate::memory::AddressMap;
use crate::options::Options;
use crate::report::Report;

/// Rounds of turns after which a cluster that does not end lets others start, for kernels whose blocks wait for others.
const ROUNDS: u32 = 64;

/// The registers that every warp starts with.
fn first_registers(kernel: &Kernel, options: &Options) -> Registers {
    let mut registers = Registers::new(kernel.units, kernel.predicates);
    registers.approx = options.approx;
    for &(slot, bits, value) in &kernel.constants {
        match bits {
            0..=32 => registers.set(slot, FULL, &[value as u32; 32]),
            _ => registers.set(slot, FULL, &[value; 32]),
        }
    }
    registers
}

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
    let template = first_registers(kernel, options);
    let agents = 2 * launch.clusters() * u64::from(launch.cluster_size() * launch.threads().div_ceil(32));
    let first_agent = if options.global_races { memory.start_launch(agents) } else { 0 };
    let sync_locations = SyncLocations::default();
    let warned = Given::default();
    let undefined = undefined(kernel, options);
    let grid =
        Grid { kernel, launch, memory, options, number, template, undefined, first_agent, sync_locations, warned };

    // Clusters in a seeded order, on as many threads as there is work for.
    let mut order = sample(launch, options.blocks);
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

/// The clusters of a launch that run where `blocks` of its blocks are wanted: all for 0, and at least one. The same ones every time.
///
/// They are a golden section of the grid apart, so that any number of them is spread over it evenly. The distance shares no divisor
/// with the grid: as many as the grid is wide, or a multiple, have each place along x (of a causal mask: each length of the work)
/// equally often.
pub fn sample(launch: &Launch, blocks: u64) -> Vec<u64> {
    let clusters = launch.clusters();
    let wanted = blocks.div_ceil(u64::from(launch.cluster_size()).max(1));
    if wanted == 0 || wanted >= clusters {
        return (0..clusters).collect();
    }

    let golden = (clusters as f64 * 0.618_033_988_75) as u64;
    let distance = (golden.max(1)..clusters).find(|&distance| divisor(distance, clusters) == 1).unwrap_or(1);
    // Wide enough that no product overflows.
    (0..wanted).map(|index| (u128::from(index) * u128::from(distance) % u128::from(clusters)) as u64).collect()
}

/// The largest that divides both.
fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// The registers of a warp that hold no value at its start, as far as that matters.
fn undefined(kernel: &Kernel, options: &Options) -> Undefined {
    let mut undefined = Undefined::new(kernel.units, kernel.predicates);
    if options.registers {
        kernel.watched.iter().for_each(|&place| undefined.set(place, FULL, &[u64::MAX; 32], 0));
    }
    undefined
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
    /// Of each worker: how many passes over all its clusters it has made since the last move without finding one. See
    /// [`idle`].
    idle: Vec<AtomicU64>,
}

impl Shared<'_> {
    /// Runs clusters on the host thread `index` until none is left or one has failed.
    fn work(&self, index: usize) -> Option<Counts> {
        let Grid { options, number, .. } = *self.grid;
        let mut worker = Worker {
            rng: Rng::new(options.seed ^ number.rotate_left(32), 1 + index as u64),
            events: 0,
            counts: options.counters.then(|| Counts::new(self.grid.kernel.steps.len())),
            last_allocations: [0; 16],
            carried: Vec::new(),
            missing: Vec::new(),
        };
        if let Err(report) = self.clusters(&mut worker, index) {
            self.stop.store(true, Ordering::Relaxed);
            let mut first = self.report.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(report);
        }
        worker.counts
    }

    /// The next cluster, unless all have been started.
    fn start(&self) -> Option<Cluster> {
        let next = self.order.get(self.next.fetch_add(1, Ordering::Relaxed))?;
        Some(Cluster::new(self.grid, *next))
    }

    /// Runs clusters; several are resident where one waits for another.
    ///
    /// # Errors
    /// The report of a fault or of a deadlock.
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

            // Some rounds of turns.
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

    /// Whether every worker has made many passes over its clusters since anything last moved, and found nothing to run. A
    /// worker that is in the middle of a move has not: what let it move was a move of another, which is counted already or
    /// by a worker that is not idle either.
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
