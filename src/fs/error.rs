//! Why a file or folder could not be written or removed.

use std::io;
use std::path::{Path, PathBuf};

/// Result of everything in [`crate::fs`].
pub(crate) type Result<T> = std::result::Result<T, FsError>;

/// What the operating system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}{}", path.display(), remedy(source))]
pub(crate) struct FsError {
    /// What was tried: `write`, `rename to`, `sync`...
    pub(crate) action: &'static str,
    /// The file or folder.
    pub(crate) path: PathBuf,
    /// Why not.
    pub(crate) source: io::Error,
}

impl FsError {
    /// Wraps an I/O error with what was tried on which path, for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| FsError { action, path: path.to_owned(), source }
    }
}

/// What to do about an error of writing, as the end of a sentence; empty where the error says so itself.
pub(crate) fn remedy(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    // An error with words of ours: see `refusal`.
    if error.get_ref().is_some() {
        return "";
    }
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded => {
            ". Free some space, or name another place; what was there before is as it was"
        }
        Kind::ReadOnlyFilesystem => ". Name a place that can be written",
        Kind::PermissionDenied => ". Check the permissions of the folder, or name another",
        _ => ". Check the folder's permissions and the free space",
    }
}

/// An error in our words, which say what to do.
pub(super) fn refusal(kind: io::ErrorKind, text: impl Into<String>) -> io::Error {
    io::Error::new(kind, text.into())
}
