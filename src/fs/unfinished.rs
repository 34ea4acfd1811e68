//! What is under construction: a process that a signal ends takes it away first.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Temporary files and folders that this process is writing.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn lock() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    // A thread that died while it held the set has left it whole.
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the temporary `path` through `make` and counts it as unfinished.
///
/// # Errors
/// Those of `make`.
pub(crate) fn begin<T>(path: &Path, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let mut unfinished = lock();
    let made = make()?;
    unfinished.insert(path.to_owned());
    Ok(made)
}

/// `path` has got its name, or is removed.
pub(crate) fn end(path: &Path) {
    lock().remove(path);
}

/// Does `work`, which [`abandon`] waits for: steps that must not be parted.
pub(crate) fn undisturbed<T>(work: impl FnOnce() -> T) -> T {
    let _unfinished = lock();
    work()
}

/// Removes everything unfinished, for a process that ends now: from here on no other thread starts a temporary or
/// gives one its name.
pub(crate) fn abandon() {
    let unfinished = lock();
    unfinished.iter().for_each(|path| remove(path));
    // Held until the process is gone.
    std::mem::forget(unfinished);
}

/// Removes a file or folder, into which another thread may still be writing.
fn remove(path: &Path) {
    const ATTEMPTS: usize = 5;
    let removed = || if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    let _ = (0..ATTEMPTS).any(|_| removed().is_ok() || !path.exists());
}
