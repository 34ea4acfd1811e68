//! Why a probe could not be fitted.

use std::path::PathBuf;

use crate::data::DataError;

/// Result of everything in [`crate::probe`].
pub type Result<T, E = ProbeError> = std::result::Result<T, E>;

/// An error of the probes. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The device could not do an op.
    #[error(transparent)]
    Device(#[from] crate::device::Error),
    /// An image or an array could not be had.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file of features is not what it should be.
    #[error("{}: {problem}", path.display())]
    Features {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the fix.
        problem: String,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}. Check the folder's permissions and the free space", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Rows and labels that no classifier can be fitted to, or options that say nothing.
    #[error("{0}")]
    Unfit(String),
}
