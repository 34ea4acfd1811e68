//! What streams and graphs do, one piece at a time.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::call;
use super::ffi::{DevicePointer, HostFunction, HostPointer};
use super::problem::{Json, Problem};
use crate::exec::rng::Rng;
use crate::exec::{self, Kernel, Launch};
use crate::memory::GlobalMemory;
use crate::options::{Options, Warnings};
use crate::report::{FaultKind, Report};

/// A piece of work.
#[derive(Clone)]
pub enum Work {
    /// Nothing: it stands for what must be reached before it.
    Nothing,
    /// An event's time is taken.
    Record(Arc<OnceLock<Duration>>),
    /// A kernel runs.
    Launch(Arc<KernelLaunch>),
    /// Bytes are copied.
    Copy(Transfer),
    /// Memory is filled.
    Fill(Fill),
    /// Memory that was promised is there from now on.
    Commit(DevicePointer),
    /// Memory is given back.
    Free(DevicePointer),
    /// A function of the host is called.
    Host(HostFunction),
    /// A graph runs.
    Graph(Arc<Vec<Node>>),
}

/// A node of a graph.
#[derive(Clone)]
pub struct Node {
    /// What it does.
    pub work: Work,
    /// The nodes that must be done before: earlier ones.
    pub after: Vec<usize>,
}

/// A launch with all that it needs.
pub struct KernelLaunch {
    /// The code.
    pub kernel: Arc<Kernel>,
    /// Shape and parameters.
    pub launch: Launch,
    /// False once the module is unloaded.
    pub alive: Arc<AtomicBool>,
}

/// One side of a copy.
#[derive(Clone, Debug)]
pub enum Place {
    /// Memory that kernels see.
    Device(DevicePointer),
    /// Host memory, read or written when the copy runs.
    Host(HostPointer),
    /// Bytes that were read from the host when the copy was queued.
    Staged(Arc<[u8]>),
}

/// A copy of `rows` rows of `width` bytes.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Where it reads.
    pub from: Place,
    /// Bytes from row to row there.
    pub from_pitch: u64,
    /// Where it writes.
    pub to: Place,
    /// Bytes from row to row there.
    pub to_pitch: u64,
    /// Bytes of a row.
    pub width: u64,
    /// Rows.
    pub rows: u64,
}

/// A pattern that is repeated over rows of memory.
#[derive(Clone, Debug)]
pub struct Fill {
    /// Where.
    pub to: DevicePointer,
    /// Bytes from row to row.
    pub pitch: u64,
    /// Bytes of a row: a multiple of the pattern's.
    pub width: u64,
    /// Rows.
    pub rows: u64,
    /// The pattern: 1, 2 or 4 bytes.
    pub pattern: Vec<u8>,
}

/// What runs work: shared by a context and the work that it runs.
pub struct Engine {
    /// Global memory.
    pub memory: GlobalMemory,
    /// Launches so far.
    pub launches: AtomicU64,
}

impl Engine {
    /// With memory of `capacity` bytes, at addresses that no other context has.
    pub fn new(number: usize, capacity: u64) -> Self {
        Self { memory: GlobalMemory::numbered(number as u64, capacity), launches: AtomicU64::new(0) }
    }
}

/// What work runs with.
pub struct Scene {
    /// Memory and launches.
    pub engine: Arc<Engine>,
    /// Checks and seed.
    pub options: Options,
    /// Decides what is left open.
    pub rng: Rng,
    /// The exported function that queued the work.
    pub call: &'static str,
    /// Counts, one line of JSON for each launch.
    pub counters: Vec<String>,
    /// Warnings of its kernels.
    pub warnings: Arc<Mutex<Vec<Report>>>,
}

/// Time since the first use of the clock.
pub fn now() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

impl Scene {
    /// Does a piece of work.
    ///
    /// # Errors
    /// What went wrong in it.
    pub fn run(&mut self, work: &Work) -> Result<(), Problem> {
        match work {
            Work::Nothing => {}
            Work::Record(time) => {
                // A graph with the event in it is launched again: the first time stays.
                let _ = time.set(now());
            }

            // Kernels, copies and fills.
            Work::Launch(launch) => self.launch(launch)?,
            Work::Copy(transfer) => self.copy(transfer)?,
            Work::Fill(fill) => self.fill(fill)?,

            // Allocations.
            Work::Commit(address) => self.engine.memory.commit(*address),
            Work::Free(address) => {
                if self.engine.memory.free(*address).is_err() {
                    return Err(self.problem(FaultKind::OutOfBounds, format!("{address:#x} was freed twice")));
                }
            }

            Work::Host(function) => call::host_function(|| function.call()),
            Work::Graph(nodes) => self.graph(nodes)?,
        }

        Ok(())
    }

    fn problem(&self, kind: FaultKind, message: String) -> Problem {
        Problem::Host { kind, function: self.call, message }
    }

    /// Runs nodes in an order of the seed's choice.
    fn graph(&mut self, nodes: &[Node]) -> Result<(), Problem> {
        let mut done = vec![false; nodes.len()];
        for _ in 0..nodes.len() {
            let ready: Vec<usize> =
                (0..nodes.len()).filter(|&n| !done[n] && nodes[n].after.iter().all(|&before| done[before])).collect();
            // Nodes depend on earlier ones only, so one is always ready.
            let next = ready[self.rng.below(ready.len())];
            self.run(&nodes[next].work)?;
            done[next] = true;
        }
        Ok(())
    }

    fn launch(&mut self, KernelLaunch { kernel, launch, alive }: &KernelLaunch) -> Result<(), Problem> {
        if !alive.load(Ordering::Relaxed) {
            let message = format!("kernel {} runs after its module was unloaded", kernel.name);
            return Err(self.problem(FaultKind::InvalidUse, message));
        }

        let number = self.engine.launches.fetch_add(1, Ordering::Relaxed);
        let memory = self.engine.memory.map();
        let start = now();
        let warnings = Arc::clone(&self.warnings);
        let warned = Warnings::to(move |report| warnings.lock().unwrap_or_else(PoisonError::into_inner).push(report));
        let options = Options { warned, ..self.options.clone() };
        let outcome = catch_unwind(AssertUnwindSafe(|| exec::run(kernel, launch, &memory, &options, number)));

        // `printf` may end in the middle of a line, and nobody flushes a library's buffers at exit.
        let _ = std::io::stdout().flush();

        let counts = match outcome {
            Ok(Ok(counts)) => counts,
            Ok(Err(report)) => return Err(Problem::Kernel(report)),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
                let message =
                    format!("kernel {}: the simulator itself failed: {}", kernel.name, text.unwrap_or("no message"));
                return Err(self.problem(FaultKind::InvalidUse, message));
            }
        };

        if let Some(counts) = counts {
            let mut json = Json::new();
            json.text("kernel", &kernel.name).raw("launch", &number.to_string());
            json.raw("grid", &format!("{:?}", launch.grid)).raw("block", &format!("{:?}", launch.block));
            json.raw("cluster", &format!("{:?}", launch.cluster));
            json.raw("dynamic_shared", &launch.dynamic_shared.to_string());
            if options.blocks != 0 {
                json.raw("clusters_run", &exec::sample(launch, options.blocks).len().to_string());
            }
            json.raw("host_seconds", &format!("{:.6}", (now() - start).as_secs_f64()));
            self.counters.push(json.raw("counts", &counts.json(kernel)).end());
        }
        Ok(())
    }

    fn copy(&self, transfer: &Transfer) -> Result<(), Problem> {
        let memory = &self.engine.memory;
        let mut row = vec![0; transfer.width as usize];
        let gone = |address: u64| self.gone("copies", address);
        for index in 0..transfer.rows {
            let (from, to) = (index * transfer.from_pitch, index * transfer.to_pitch);
            match (&transfer.from, &transfer.to) {
                (Place::Device(source), Place::Device(target)) => {
                    let (source, target) = (source + from, target + to);
                    memory.copy(target, source, transfer.width).map_err(|_| gone(source))?;
                    continue;
                }
                (Place::Device(source), _) => memory.read(source + from, &mut row).map_err(|_| gone(source + from))?,
                (Place::Host(source), _) => row = source.offset(from).read(transfer.width as usize),
                (Place::Staged(bytes), _) => row.copy_from_slice(&bytes[from as usize..][..transfer.width as usize]),
            }

            match &transfer.to {
                Place::Device(target) => memory.write(target + to, &row).map_err(|_| gone(target + to))?,
                Place::Host(target) => target.offset(to).write(&row),
                Place::Staged(_) => {}
            }
        }
        Ok(())
    }

    fn fill(&self, fill: &Fill) -> Result<(), Problem> {
        for index in 0..fill.rows {
            let place = fill.to + index * fill.pitch;
            self.engine.memory.fill(place, fill.width, &fill.pattern).map_err(|_| self.gone("fills", place))?;
        }
        Ok(())
    }

    /// Memory was there when the work was queued, and is not when it runs.
    fn gone(&self, verb: &str, address: u64) -> Problem {
        let what = self.engine.memory.map().describe(address).unwrap_or_else(|| "no memory is there".into());
        self.problem(FaultKind::OutOfBounds, format!("{verb} at {address:#x}: {what}"))
    }
}
