//! Signals that ask the process to end. A command that keeps its work (a run, a probe) is asked to stop by the first and
//! ended by the second; any other ends at the first. What is half-written is taken away either way.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use super::output::tell;
use crate::fs::unfinished;

/// Set by the first signal. One for all commands, since `demo` runs several of them in one process.
static STOP: AtomicBool = AtomicBool::new(false);
/// What is said when a command that looks at [`STOP`] is asked to stop; nothing looks at it before one does.
static FAREWELL: Mutex<Option<&'static str>> = Mutex::new(None);
/// The first signal's number, Ctrl-C's before there is one.
static SIGNAL: AtomicI32 = AtomicI32::new(CTRL_C);
/// SIGINT, everywhere.
const CTRL_C: i32 = 2;

/// What a command that keeps its work looks at: from here on the first signal sets it and ends nothing.
pub fn stop_flag() -> &'static AtomicBool {
    stop_flag_saying("stopping after this step and saving; Ctrl-C again to stop at once and lose what is not saved")
}

/// The same, with what is said when the first signal has come; nothing if that is empty.
pub fn stop_flag_saying(farewell: &'static str) -> &'static AtomicBool {
    *FAREWELL.lock().unwrap_or_else(PoisonError::into_inner) = Some(farewell);
    &STOP
}

/// A command was stopped before it had written what it was asked for; the text says what is kept.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Stopped(pub &'static str);

impl Stopped {
    /// As shells have it: 128 and the number of the signal.
    pub fn exit_code() -> ExitCode {
        ExitCode::from(u8::try_from(128 + SIGNAL.load(Ordering::Relaxed)).unwrap_or(2))
    }
}

/// Asks the command to stop and keep its work; whether it does that.
fn ask_to_stop(signal: i32, name: &str) -> bool {
    let Some(farewell) = *FAREWELL.lock().unwrap_or_else(PoisonError::into_inner) else { return false };
    if !STOP.swap(true, Ordering::Relaxed) {
        SIGNAL.store(signal, Ordering::Relaxed);
        if !farewell.is_empty() {
            tell(format_args!("\n{name}: {farewell}"));
        }
    }
    true
}

/// Ends the process, leaving nothing half-written.
fn end(signal: i32) -> ! {
    unfinished::abandon();
    std::process::exit(128 + signal)
}

/// Listens from here on, on a thread of its own.
///
/// # Errors
/// Signals or a thread that the operating system refuses.
#[cfg(unix)]
pub fn listen() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ};
    use signal_hook::iterator::Signals;

    // Schedulers give notice of a job's limit by SIGUSR1 or SIGUSR2, the kernel by SIGXCPU; all three end a process that
    // does not listen. So does SIGXFSZ: a write beyond `ulimit -f` is better met as an error that names the file.
    let asked = [SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ].into_iter().filter(|signal| !is_ignored(*signal));
    // Ctrl-C is heard even where it was ignored: scripts start their background jobs so, and stop them by `kill -INT`.
    let mut signals = Signals::new(asked.chain([SIGINT])).context("cannot listen for signals")?;

    let listener = move || {
        let mut repeat = Repeat::default();
        for signal in signals.forever().filter(|signal| *signal != SIGXFSZ) {
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
            let name = if signal == SIGINT { "Ctrl-C" } else { name };
            let keeps_work = ask_to_stop(signal, name);
            let insists = [SIGINT, SIGTERM].contains(&signal) && repeat.insists();
            if insists || !keeps_work {
                end(signal);
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listener).context("cannot listen for signals")?;
    Ok(())
}

/// The same where there is only Ctrl-C.
///
/// # Errors
/// A handler that the operating system refuses.
#[cfg(not(unix))]
pub fn listen() -> Result<()> {
    let mut repeat = Repeat::default();
    let handler = move || {
        let keeps_work = ask_to_stop(CTRL_C, "Ctrl-C");
        if repeat.insists() || !keeps_work {
            end(CTRL_C);
        }
    };
    ctrlc::set_handler(handler).context("cannot listen for Ctrl-C")
}

/// Whether the process was started with `signal` ignored, as `nohup` does with SIGHUP: then it stays ignored.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    // SAFETY: all zeros are a valid `sigaction`, which the call overwrites; without a new action it only reads.
    let (failed, found) = unsafe {
        let mut found: libc::sigaction = std::mem::zeroed();
        (libc::sigaction(signal, std::ptr::null(), &raw mut found) != 0, found)
    };
    !failed && found.sa_sigaction == libc::SIG_IGN
}

/// Tells a second request to end from the first one sent twice: `timeout` and some job managers signal both the process
/// and its group.
#[derive(Default)]
struct Repeat {
    first: Option<std::time::Instant>,
}

impl Repeat {
    /// Whether an earlier request to end was another one than this.
    fn insists(&mut self) -> bool {
        const TOGETHER: std::time::Duration = std::time::Duration::from_millis(100);
        self.first.get_or_insert_with(std::time::Instant::now).elapsed() > TOGETHER
    }
}
