//! Why no images could be generated.

use std::path::PathBuf;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::images::ImagesError;
use crate::data::DataError;
use crate::fs::{FsError, remedy};
use crate::model::ConfigError;
use crate::run::folder::RunFolderError;

/// An error of sampling. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// The device could not do an op.
    #[error(transparent)]
    Device(#[from] crate::device::Error),
    /// An image could not be had.
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
    /// A file cannot be written.
    #[error("cannot write {}: {source}{}", path.display(), remedy(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The tokens drawn so far are of something else, or damaged.
    #[error("{}: {problem}", path.display())]
    Part {
        /// Their file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The images do not go with the model.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// A BERT model sees all pixels but the masked ones, and has no first one.
    #[error(
        "this is a BERT model: it guesses single pixels from all others and cannot generate images; give an autoregressive one \
         (train --objective ar), or let it fill pixels that you mask with `igpt-engine serve`"
    )]
    Bert,
    /// A class was asked for.
    #[error(
        "the model has no class head, so it can draw no class; fine-tune it (igpt-engine finetune), or leave --class out"
    )]
    NoClasses,
    /// A class that the model's head does not know.
    #[error("unknown class '{given}'; give a name, a number below {count}, or each. The model knows: {known}")]
    UnknownClass {
        /// What was given.
        given: String,
        /// The first of the names that there are.
        known: String,
        /// Classes that there are.
        count: usize,
    },
    /// The images of the data set are not of the model's resolution.
    #[error("the images have {tokens} tokens and the model generates {length}")]
    Length {
        /// Tokens of an image.
        tokens: usize,
        /// Tokens of an image that the model makes.
        length: usize,
    },
}

impl From<FsError> for SampleError {
    fn from(error: FsError) -> Self {
        let FsError { path, source, .. } = error;
        SampleError::Write { path, source }
    }
}
