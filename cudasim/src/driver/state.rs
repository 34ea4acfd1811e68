//! Everything that exists in the driver, behind one lock.
//!
//! The lock is never held while a kernel or a host function runs: a stream whose work runs is marked as busy instead.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::c_int;
use std::io::Write as _;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use super::error::{CudaError, Result};
use super::ffi::Handle;
use super::objects::{Capture, Context, Device, Event, Executable, Function, Graph, Module, Stream};
use super::problem::Problem;
use crate::options::Options;

/// Numbers of the default streams: `NULL`, `CU_STREAM_LEGACY`, `CU_STREAM_PER_THREAD`.
pub const NULL_STREAM: Handle = 0;
const LEGACY_STREAM: Handle = 1;
const PER_THREAD_STREAM: Handle = 2;

/// Everything that exists.
#[derive(Default)]
pub struct State {
    /// Whether `cuInit` was called.
    pub initialised: bool,
    /// The devices, by ordinal.
    pub devices: Vec<Device>,
    /// Contexts.
    pub contexts: BTreeMap<Handle, Context>,
    /// Streams, the default ones of each context included.
    pub streams: HashMap<Handle, Stream>,
    /// Events.
    pub events: HashMap<Handle, Event>,
    /// Modules, those of libraries included.
    pub modules: HashMap<Handle, Module>,
    /// Functions and kernels that were asked for.
    pub functions: HashMap<Handle, Function>,
    /// Graphs.
    pub graphs: HashMap<Handle, Graph>,
    /// Instantiated graphs.
    pub executables: HashMap<Handle, Executable>,
    /// Captures that have begun.
    pub captures: HashMap<Handle, Capture>,
    /// Contexts made so far.
    pub contexts_made: usize,
    handles: Handle,
}

/// The locked state.
pub type Guard = MutexGuard<'static, State>;

static STATE: OnceLock<Mutex<State>> = OnceLock::new();

/// Wakes whoever waits for a stream that was busy.
pub static DONE: Condvar = Condvar::new();

thread_local! {
    /// The contexts that this thread has pushed; the last is current. 0 stands for none.
    static CONTEXTS: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
}

/// Locks the state, whether or not the driver is initialised.
pub fn lock_raw() -> Guard {
    STATE.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks the state.
///
/// # Errors
/// `NotInitialized` before `cuInit`.
pub fn lock() -> Result<Guard> {
    let state = lock_raw();
    if state.initialised { Ok(state) } else { Err(CudaError::NotInitialized) }
}

/// Locks the state for a call in the current context.
///
/// # Errors
/// `NotInitialized`; `InvalidContext` where none is current; the error of a context in which something failed.
pub fn enter() -> Result<(Guard, Handle)> {
    let state = lock()?;
    let handle = current();
    let context = state.contexts.get(&handle).ok_or(match handle {
        0 => CudaError::InvalidContext,
        _ => CudaError::ContextIsDestroyed,
    })?;
    match context.fault {
        Some(error) => Err(error),
        None => Ok((state, handle)),
    }
}

/// That the driver is initialised.
///
/// # Errors
/// As [`lock`].
pub fn initialised() -> Result<()> {
    lock().map(drop)
}

/// That a call in the current context is possible.
///
/// # Errors
/// As [`enter`].
pub fn in_context() -> Result<()> {
    enter().map(drop)
}

/// The current context of this thread, or 0.
pub fn current() -> Handle {
    CONTEXTS.with_borrow(|stack| stack.last().copied().unwrap_or(0))
}

/// Replaces the current context.
pub fn set_current(context: Handle) {
    CONTEXTS.with_borrow_mut(|stack| {
        stack.pop();
        if context != 0 {
            stack.push(context);
        }
    });
}

/// Makes a context current until it is popped.
pub fn push_current(context: Handle) {
    CONTEXTS.with_borrow_mut(|stack| stack.push(context));
}

/// Undoes a push.
pub fn pop_current() -> Option<Handle> {
    CONTEXTS.with_borrow_mut(Vec::pop)
}

/// Options from `CUDASIM` in the environment.
///
/// # Errors
/// What is wrong with them.
pub fn environment_options() -> std::result::Result<Options, String> {
    let mut options = Options::default();
    if let Ok(text) = std::env::var("CUDASIM") {
        options.set(&text).map_err(|error| format!("the environment variable CUDASIM: {error}"))?;
    }
    Ok(options)
}

/// Adds a line to the file that an environment variable names.
fn append(variable: &str, line: &str) {
    let Some(path) = std::env::var_os(variable) else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
        eprintln!("cudasim: {variable}={}: {error}", path.to_string_lossy());
    }
}

impl State {
    /// A handle that was never used.
    pub fn new_handle(&mut self) -> Handle {
        // Above what the special handles of streams are; looks like a pointer, but is not one.
        self.handles += 1;
        0x51_0000_0000 + self.handles * 16
    }

    /// The release of CUDA whose driver this stands for: that of the first device's options, or of the environment's.
    pub fn driver_release(&self) -> (u32, u32) {
        let options = self.devices.first().map(|device| device.options.driver);
        options.unwrap_or_else(|| environment_options().unwrap_or_default().driver)
    }

    /// A context.
    ///
    /// # Errors
    /// `InvalidContext`.
    pub fn context(&mut self, handle: Handle) -> Result<&mut Context> {
        self.contexts.get_mut(&handle).ok_or(CudaError::InvalidContext)
    }

    /// The device of an ordinal.
    ///
    /// # Errors
    /// `InvalidDevice`.
    pub fn device(&mut self, ordinal: c_int) -> Result<&mut Device> {
        let index = usize::try_from(ordinal).map_err(|_| CudaError::InvalidDevice)?;
        self.devices.get_mut(index).ok_or(CudaError::InvalidDevice)
    }

    /// The device of a context.
    ///
    /// # Errors
    /// `InvalidContext`.
    pub fn device_of(&mut self, context: Handle) -> Result<&mut Device> {
        let index = self.context(context)?.device;
        self.devices.get_mut(index).ok_or(CudaError::InvalidContext)
    }

    /// The stream that a handle means in a context.
    ///
    /// # Errors
    /// `InvalidHandle`.
    pub fn resolve_stream(&mut self, context: Handle, stream: Handle) -> Result<Handle> {
        match stream {
            NULL_STREAM | LEGACY_STREAM => Ok(self.context(context)?.legacy),
            PER_THREAD_STREAM => {
                let thread = std::thread::current().id();
                if let Some(&stream) = self.context(context)?.per_thread.get(&thread) {
                    return Ok(stream);
                }
                let handle = self.new_handle();
                self.streams.insert(handle, Stream::new(context, 0, 0));
                self.context(context)?.per_thread.insert(thread, handle);
                Ok(handle)
            }
            handle => match self.streams.get(&handle) {
                Some(found) if found.context == context && !found.destroyed => Ok(handle),
                _ => Err(CudaError::InvalidHandle),
            },
        }
    }

    /// Notes a problem of a context, and says it on standard error. The context fails, unless it is a leak.
    pub fn report(&mut self, context: Handle, problem: Problem) {
        eprintln!("cudasim: {problem}");
        append("CUDASIM_REPORTS", &problem.json());
        let code = problem.code();
        if let Ok(device) = self.device_of(context) {
            device.problems.push(problem);
        }
        if let (Some(code), Ok(context)) = (code, self.context(context)) {
            context.fault.get_or_insert(code);
        }
    }

    /// Notes the counts of a launch.
    pub fn count(&mut self, context: Handle, line: String) {
        append("CUDASIM_COUNTERS", &line);
        if let Ok(device) = self.device_of(context) {
            device.counters.push(line);
        }
    }
}
