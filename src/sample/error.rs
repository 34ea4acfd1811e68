//! Why no images could be generated.

use crate::checkpoint::CheckpointError;
use crate::checkpoint::images::ImagesError;
use crate::data::DataError;
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
    /// The images do not go with the model.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// A BERT model sees all pixels but the masked ones, and has no first one.
    #[error(
        "this is a BERT model: it guesses single pixels from all others and cannot generate images; give an autoregressive one \
         (train --objective ar), or let it fill pixels that you mask with `igpt-engine serve`"
    )]
    Bert,
    /// The images of the data set are not of the model's resolution.
    #[error("the images have {tokens} tokens and the model generates {length}")]
    Length {
        /// Tokens of an image.
        tokens: usize,
        /// Tokens of an image that the model makes.
        length: usize,
    },
}
