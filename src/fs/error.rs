//! Why a file or folder could not be written or removed.

use std::path::{Path, PathBuf};

/// Result of everything in [`crate::fs::atomic_dir`].
pub(crate) type Result<T> = std::result::Result<T, FsError>;

/// What the operating system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub(crate) struct FsError {
    /// What was tried: `write`, `rename to`, `sync`...
    pub(crate) action: &'static str,
    /// The file or folder.
    pub(crate) path: PathBuf,
    /// Why not.
    pub(crate) source: std::io::Error,
}

impl FsError {
    /// Wraps an I/O error with what was tried on which path, for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| FsError { action, path: path.to_owned(), source }
    }
}
