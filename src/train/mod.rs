//! Training: the step, the loop around it, evaluation, and the folder that a run leaves behind.

mod events;
mod run;
mod trainer;

use std::path::PathBuf;

pub use events::{Events, Pace};
pub use run::{Ending, Plan, Run};
pub use trainer::{MicroBatch, PendingStep, StepOutcome, Trainer};

use crate::checkpoint::CheckpointError;
use crate::data::DataError;

/// Why a run stopped short.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The device could not do an op.
    #[error(transparent)]
    Device(#[from] crate::device::Error),
    /// An image could not be had.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file of the run folder could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The run folder cannot be used.
    #[error(transparent)]
    Folder(#[from] crate::run::folder::RunFolderError),
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
