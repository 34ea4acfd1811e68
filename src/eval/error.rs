//! Why a model could not be scored.

use crate::checkpoint::CheckpointError;
use crate::checkpoint::images::ImagesError;
use crate::data::DataError;
use crate::model::ConfigError;
use crate::run::folder::RunFolderError;

/// Why a model could not be scored.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The device could not do an op.
    #[error(transparent)]
    Device(#[from] crate::device::Error),
    /// An image could not be had.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// Why a checkpoint could not be scored. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The images could not be scored.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// A file of masks could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
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
    /// Settings that do not go together, or with the model.
    #[error("{0}")]
    Settings(String),
}
