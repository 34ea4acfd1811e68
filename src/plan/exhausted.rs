//! What is said when memory runs out in the middle of the work: prepared while there is memory, since saying it must not
//! allocate.
//!
//! The commands' checks of [`limits`](super::limits) prepare it; the binary's allocator says it.

use std::cell::Cell;
use std::io::{Cursor, Write};
use std::sync::{Mutex, PoisonError};

/// The rest of the message, from what the memory was for.
static PREPARED: Mutex<&'static str> = Mutex::new("");

thread_local! {
    /// Whether this thread is saying it; without a destructor, so that its first use allocates nothing.
    static SPEAKING: Cell<bool> = const { Cell::new(false) };
}

/// Prepares what is said if memory runs out from here on: what the `work` is, whose limit it runs against, and the `remedy`.
/// A few hundred bytes of every call are kept until the process ends.
pub fn prepare(work: &str, limit: &str, remedy: &str) {
    let text = Box::leak(format!(" for {work}; {limit}; {remedy}\n").into_boxed_str());
    *PREPARED.lock().unwrap_or_else(PoisonError::into_inner) = text;
}

/// Says that `bytes` could not be had, and ends the process with exit code 2 as every fault of the user's surroundings does.
/// Returns only where it is called once more by what it does itself, and never allocates.
pub fn end(bytes: usize) {
    if SPEAKING.replace(true) {
        return;
    }

    // The first thread speaks; others that fail beside it wait here for the end.
    let prepared = PREPARED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut line = [0_u8; 96];
    let mut cursor = Cursor::new(&mut line[..]);
    let mebibytes = bytes.div_ceil(1 << 20);
    let _ = write!(cursor, "error: memory ran out: {mebibytes} MiB more could not be had");
    let length = cursor.position() as usize;

    // One call for the start and one for the rest: a line of another thread may come between, and that is all.
    let mut to = std::io::stderr();
    let _ = to.write_all(&line[..length]);
    let _ = to.write_all(if prepared.is_empty() { b"\n" } else { prepared.as_bytes() });
    leave()
}

/// Ends the process as it stands: what `exit` still does, such as setting up a standard output to flush, may want memory.
#[cfg(unix)]
fn leave() {
    // SAFETY: does not return, and touches nothing of the process.
    unsafe { libc::_exit(2) }
}

#[cfg(not(unix))]
fn leave() {
    std::process::exit(2)
}
