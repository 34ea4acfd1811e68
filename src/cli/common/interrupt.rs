//! Ctrl-C: the first one asks what runs to keep its work and end, the second one ends the process.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use super::output::tell;

/// Set by the first Ctrl-C; the second ends the process at once. One for all commands, since `demo` runs several of
/// them in one process, which can listen only once.
pub fn stop_flag() -> Result<&'static AtomicBool> {
    static STOP: AtomicBool = AtomicBool::new(false);
    static PRESSED: AtomicBool = AtomicBool::new(false);
    static HANDLER: OnceLock<()> = OnceLock::new();

    if HANDLER.set(()).is_ok() {
        ctrlc::set_handler(|| {
            // Not STOP's earlier value: a reader that has gone away sets it too, which is not a first Ctrl-C.
            if PRESSED.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            STOP.store(true, Ordering::Relaxed);
            tell(format_args!(
                "\nstopping after this step and saving; Ctrl-C again to stop at once and lose what is not saved"
            ));
        })
        .context("cannot listen for Ctrl-C")?;
    }
    Ok(&STOP)
}
