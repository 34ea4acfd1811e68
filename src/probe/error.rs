//! Why a probe could not be fitted.

use std::path::PathBuf;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::images::ImagesError;
use crate::data::DataError;
use crate::fs::remedy;
use crate::model::ConfigError;
use crate::plan::limits::TooLarge;
use crate::run::folder::RunFolderError;

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
    #[error("cannot write {}: {source}{}", path.display(), remedy(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder could not be made.
    #[error("cannot make the folder {}; give another --out: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint's configuration does not describe a model.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The run that the checkpoint is of cannot be read.
    #[error(transparent)]
    Run(#[from] RunFolderError),
    /// The images do not go with the model.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// There is too little memory.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// Settings that do not go together.
    #[error("{0}")]
    Settings(String),
    /// Rows and labels that no classifier can be fitted to, or options that say nothing.
    #[error("{0}")]
    Unfit(String),
}
