//! Why a run did not start, or stopped short.

use std::path::PathBuf;

use super::settings_error::SettingsError;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::images::ImagesError;
use crate::data::DataError;
use crate::eval::EvalError;
use crate::fs::{FsError, remedy};
use crate::model::ConfigError;
use crate::plan::limits::TooLarge;
use crate::run::folder::RunFolderError;

/// Why a run did not start, or stopped short.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A setting is invalid, or does not fit the others, the data or the checkpoint.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The model's configuration is invalid.
    #[error(transparent)]
    Model(#[from] ConfigError),
    /// Images and model do not fit together.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// The device cannot hold the work.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The device could not do an op.
    #[error(transparent)]
    Device(#[from] crate::device::Error),
    /// An image could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file of the run folder could not be written.
    #[error("cannot write {}: {source}{}", path.display(), remedy(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A picture of the run could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The run folder cannot be used.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    /// The run ended early, and what it had learned is saved.
    #[error("{reason}. The {step} steps that were made are saved; go on with --out {} --resume", out.display())]
    Kept {
        /// Why it ended.
        reason: Box<TrainError>,
        /// Steps that the checkpoint has.
        step: u64,
        /// The run folder.
        out: PathBuf,
    },
    /// The run ended early, and what it had learned could not be saved either.
    #[error("{reason}. Nor could the steps since the last checkpoint be saved: {failure}")]
    NotKept {
        /// Why it ended.
        reason: Box<TrainError>,
        /// Why nothing was saved.
        failure: Box<TrainError>,
    },
    /// Too many steps in a row were skipped, each because its loss or gradient was not finite. The weights are those of before.
    #[error(
        "the {what} is {value} at step {step}, so it was skipped: {in_a_row} in a row, as many as --max-skipped allows; weights and moments are those after step {made}. As a rule the weights were thrown too far before: start \
         again from an earlier checkpoint with --init and a lower --lr, a longer --warmup or --clip 1, and on a GPU see \
         whether --precision f32 has the range that bf16 lacked. Where other steps go well and the same one fails only \
         sometimes, suspect the hardware (nvidia-smi -q shows ECC errors)"
    )]
    Skipped {
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// NaN or an infinity.
        value: f64,
        /// The last step that was skipped.
        step: u64,
        /// Steps skipped in a row, that one included.
        in_a_row: u64,
        /// The last step that was made.
        made: u64,
    },
    /// The weights are lost: the loss or the gradient is not a number any more.
    #[error(
        "the {what} is {value} at step {step}: training has diverged; {last_good}. Try a lower --lr, a longer --warmup, or \
         --clip 1"
    )]
    Diverged {
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// NaN or an infinity.
        value: f64,
        /// The step that gave it.
        step: u64,
        /// Where the last checkpoint from before is.
        last_good: String,
    },
}

impl From<FsError> for TrainError {
    fn from(error: FsError) -> Self {
        Self::Checkpoint(error.into())
    }
}

impl From<EvalError> for TrainError {
    fn from(error: EvalError) -> Self {
        match error {
            EvalError::Device(error) => Self::Device(error),
            EvalError::Data(error) => Self::Data(error),
        }
    }
}
