//! Why a checkpoint could not be read or written.

use std::path::{Path, PathBuf};

use crate::model::ConfigError;

/// Result of this module's functions.
pub type Result<T> = std::result::Result<T, CheckpointError>;

/// Why a checkpoint could not be read or written. Every text names the file, and the fix where there is one.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file or folder could not be written.
    #[error("cannot write {path}: {source}; the checkpoints before it are untouched")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Neither a checkpoint nor a run with one.
    #[error(
        "{0} is no checkpoint (a folder with model.safetensors in it), and no run that has saved one; a run saves into \
         checkpoints/ every --save-every steps"
    )]
    NotACheckpoint(PathBuf),
    /// The bytes are no safetensors file.
    #[error("{path} is damaged or no safetensors file: {problem}; fetch or save it again")]
    Tensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// One tensor is not what the model needs.
    #[error("{path}: tensor {name} {problem}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A JSON file does not say what it should.
    #[error("{path}: {problem}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The configuration describes a model that cannot be.
    #[error("{path}: {source}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Why it cannot be.
        source: ConfigError,
    },
    /// Hugging Face's ImageGPT has no such model.
    #[error("Hugging Face's ImageGPT cannot express {0}; such a model stays in our own checkpoints, which `--init` reads")]
    NotExpressible(&'static str),
    /// The device failed while tensors were copied.
    #[error(transparent)]
    Device(#[from] crate::device::Error),
}

impl CheckpointError {
    pub(super) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Read { path, source }
    }

    pub(super) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Write { path, source }
    }
}
