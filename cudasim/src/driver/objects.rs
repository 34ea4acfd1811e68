//! What handles stand for.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::c_int;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::thread::ThreadId;
use std::time::Duration;

use super::error::CudaError;
use super::ffi::Handle;
use super::pages::Pages;
use super::problem::Problem;
use super::work::{Engine, Node, Work};
use crate::card::Card;
use crate::exec::rng::Rng;
use crate::exec::{Kernel, Program};
use crate::fatbin::Registers;
use crate::options::Options;

/// A device.
pub struct Device {
    /// What it checks and counts.
    pub options: Options,
    /// Its primary context, while that is retained.
    pub primary: Option<Handle>,
    /// How often that was retained.
    pub retained: u32,
    /// Flags of the primary context.
    pub flags: u32,
    /// What was found and not yet taken.
    pub problems: Vec<Problem>,
    /// Counts of launches, one line of JSON each, not yet taken.
    pub counters: Vec<String>,
    /// Registers of a thread by kernel, where tests have given them.
    pub registers: Registers,
}

/// A context.
pub struct Context {
    /// Ordinal of its device.
    pub device: usize,
    /// Flags that it was made with.
    pub flags: u32,
    /// Memory and launches.
    pub engine: Arc<Engine>,
    /// What failed in it: every later call fails alike.
    pub fault: Option<CudaError>,
    /// The legacy default stream.
    pub legacy: Handle,
    /// The default streams of threads.
    pub per_thread: HashMap<ThreadId, Handle>,
    /// Decides what the rules leave open.
    pub rng: Rng,
    /// Page-locked host memory by address.
    pub hosts: BTreeMap<u64, HostMemory>,
    /// Allocations that a stream frees or has freed.
    pub freeing: HashSet<u64>,
    /// `cuCtxSetLimit`, by number.
    pub limits: BTreeMap<i32, usize>,
}

/// Page-locked host memory.
pub struct HostMemory {
    /// Its first byte, which may not be where what kernels see begins.
    pub address: u64,
    /// Bytes asked for.
    pub bytes: u64,
    /// What it is.
    pub kind: HostKind,
    /// Where what kernels see begins: the same, or a little before.
    pub base: u64,
    /// The memory, where it is ours.
    pub _owned: Option<Pages>,
}

/// Where host memory comes from, which is also how it must be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// `cuMemHostAlloc`: `cuMemFreeHost`.
    Allocated,
    /// `cuMemHostRegister`: `cuMemHostUnregister`.
    Registered,
    /// `cuMemAllocManaged`: `cuMemFree`.
    Managed,
}

/// A place in a stream: reached when the stream has finished as much work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The stream.
    pub stream: Handle,
    /// How much work it must have finished.
    pub position: u64,
}

/// Work that waits in a stream.
pub struct Queued {
    /// What must be reached before, besides the work in front of it.
    pub after: Vec<Point>,
    /// The work.
    pub work: Work,
    /// The exported function that queued it.
    pub call: &'static str,
}

/// A stream.
pub struct Stream {
    /// Its context.
    pub context: Handle,
    /// Whether it and the legacy default stream wait for one another.
    pub blocking: bool,
    /// Flags that it was made with.
    pub flags: u32,
    /// Lower is more urgent; has no effect.
    pub priority: i32,
    /// What waits, in order.
    pub queue: VecDeque<Queued>,
    /// How much work it has got.
    pub queued: u64,
    /// How much it has finished.
    pub finished: u64,
    /// The first work of the queue runs.
    pub busy: bool,
    /// It was destroyed, and is forgotten when it is empty.
    pub destroyed: bool,
    /// It records its work.
    pub capture: Option<Branch>,
}

impl Stream {
    /// An empty stream.
    pub fn new(context: Handle, flags: u32, priority: i32) -> Self {
        Self {
            context,
            blocking: flags & 1 == 0,
            flags,
            priority,
            queue: VecDeque::new(),
            queued: 0,
            finished: 0,
            busy: false,
            destroyed: false,
            capture: None,
        }
    }
}

/// An event.
#[derive(Clone)]
pub struct Event {
    /// Its context.
    pub context: Handle,
    /// Flags that it was made with.
    pub flags: u32,
    /// Where it was recorded last, and when that was reached.
    pub recorded: Option<(Point, Arc<OnceLock<Duration>>)>,
    /// It was recorded last in a stream that captures: the capture, and the nodes it stands for.
    pub captured: Option<Branch>,
}

impl Event {
    /// Whether it measures time.
    pub fn is_timed(&self) -> bool {
        self.flags & 2 == 0
    }
}

/// A module.
pub struct Module {
    /// Its context.
    pub context: Handle,
    /// The program.
    pub program: Arc<Program>,
    /// Registers of a thread by kernel, where the image says so.
    pub registers: Registers,
    /// False once it is unloaded.
    pub alive: Arc<AtomicBool>,
    /// It belongs to a library.
    pub is_library: bool,
    /// Functions that were asked for, by name: asking again gives the same handle.
    pub functions: HashMap<String, Handle>,
}

/// A function of a module.
pub struct Function {
    /// The module.
    pub module: Handle,
    /// Its context.
    pub context: Handle,
    /// The code.
    pub kernel: Arc<Kernel>,
    /// The name, for C.
    pub name: std::ffi::CString,
    /// False once the module is unloaded.
    pub alive: Arc<AtomicBool>,
    /// The device that it is loaded on.
    pub card: &'static Card,
    /// Registers of a thread, 0 where they are not known.
    pub registers: u32,
    /// `MAX_DYNAMIC_SHARED_SIZE_BYTES`
    pub max_dynamic_shared: u32,
    /// `NON_PORTABLE_CLUSTER_SIZE_ALLOWED`
    pub non_portable_cluster: bool,
    /// `REQUIRED_CLUSTER_WIDTH`, `_HEIGHT`, `_DEPTH`, where the host sets them.
    pub cluster: [u32; 3],
    /// Other attributes that were set, which have no effect.
    pub hints: BTreeMap<i32, i32>,
}

/// A capture that has begun.
pub struct Capture {
    /// The stream it began in, where it must end.
    pub origin: Handle,
    /// Which calls it forbids: 0 those of any thread, 1 those of its own, 2 none.
    pub mode: c_int,
    /// The thread that began it.
    pub thread: ThreadId,
    /// What was recorded.
    pub nodes: Vec<Node>,
    /// False after a call that broke a rule.
    pub valid: bool,
}

/// A stream's or event's part in a capture.
#[derive(Clone, Debug)]
pub struct Branch {
    /// The capture.
    pub capture: Handle,
    /// The nodes that the next one comes after.
    pub front: Vec<usize>,
}

/// A graph.
pub struct Graph {
    /// The context it was captured in.
    pub context: Handle,
    /// Its nodes; each comes after what it depends on.
    pub nodes: Vec<Node>,
}

/// An instantiated graph.
pub struct Executable {
    /// Its context.
    pub context: Handle,
    /// Its nodes.
    pub nodes: Arc<Vec<Node>>,
}
