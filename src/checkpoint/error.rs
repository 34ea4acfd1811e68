//! Why a checkpoint could not be written or read: every text names the file and what to do.

use std::path::{Path, PathBuf};

use crate::data::DataError;
use crate::device;
use crate::fs::FsError;
use crate::model::ConfigError;

/// Result of this module's functions.
pub type Result<T> = std::result::Result<T, CheckpointError>;

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `rename`…
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Neither a checkpoint nor a run.
    #[error("{} is not a checkpoint: {problem}", path.display())]
    NotACheckpoint {
        /// The folder.
        path: PathBuf,
        /// What is missing, and what would do.
        problem: String,
    },
    /// Not a safetensors file, or a damaged or hostile one.
    #[error("{} is not a sound safetensors file: {problem}; it is damaged or truncated, copy or download it again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Weights of another format that are damaged, hostile, or of something else.
    #[error("{}: {problem}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// A JSON file that does not say what it should.
    #[error("{}: {problem}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The order of the pixels could not be read or written.
    #[error("{} does not hold an order of pixels: {problem}; it must list each pixel once, as integers", path.display())]
    Order {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// `config.json` describes an impossible model.
    #[error("{}: {source}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// Why it is impossible.
        source: ConfigError,
    },
    /// A tensor that the model needs is not in the file.
    #[error("{} has no tensor {name}; config.json describes another model, take the one saved with these weights", path.display())]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A classifier or a bare model, where pixels are to be predicted.
    #[error("{} has no language-model head (lm_head.weight), so it cannot {task}: it is a classifier or a bare model. Give one saved as ImageGPTForCausalImageModeling, or train a head with `igpt-engine train --init`", path.display())]
    NoTokenHead {
        /// The folder.
        path: PathBuf,
        /// What it cannot do.
        task: &'static str,
    },
    /// A tensor that the model does not have.
    #[error("{} holds a tensor that the model in config.json does not have: {name}{why}", path.display())]
    UnexpectedTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What may have gone wrong; empty, or starts with punctuation.
        why: String,
    },
    /// Two tensors of the file stand for the same parameter.
    #[error("{} holds parameter {name} twice, with and without the prefix `transformer.`; remove one", path.display())]
    AmbiguousTensor {
        /// The file.
        path: PathBuf,
        /// The parameter.
        name: String,
    },
    /// A tensor of the wrong shape.
    #[error("tensor {name} of {} has the shape {found:?}, config.json asks for {expected:?}; the two are of different models", path.display())]
    WrongShape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The shape that the model needs.
        expected: Vec<usize>,
    },
    /// A tensor of a type that weights are not stored in.
    #[error("tensor {name} of {} has the type {dtype}; only F32, F16, BF16 and F64 can be read, save it as F32", path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type, as safetensors spells it.
        dtype: String,
    },
    /// Infinite or not a number.
    #[error("tensor {name} of {} holds a value that is not finite; the training run it comes from diverged, take an earlier checkpoint", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A file of a checkpoint is not the one that was saved.
    #[error("{} is not the file that was saved with this checkpoint (its SHA-256 differs from {list}); {remedy}", path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// The file with the hash.
        list: &'static str,
        /// What may have happened, and what to do.
        remedy: &'static str,
    },
    /// The list of a folder's files is not that of this folder.
    #[error("{}: {problem}; take another copy of the folder, or, to use its files unverified, remove what asks for the list: this file and, if it is there, training.json", path.display())]
    Manifest {
        /// The list.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Another kind of file under the name of weights.
    #[error("{} {what}", path.display())]
    NotWeights {
        /// The file.
        path: PathBuf,
        /// What it is, and what to do.
        what: String,
    },
    /// A checkpoint of weights alone.
    #[error("{} holds no training state ({missing} is not there), so it cannot be resumed; start from its weights with --init instead", path.display())]
    NoTrainingState {
        /// The folder.
        path: PathBuf,
        /// The file that is missing.
        missing: &'static str,
    },
    /// A checkpoint without a moving average of the weights.
    #[error(
        "{} holds no moving average of its weights (ema.safetensors is not there); leave --ema out, or keep one with \
         `igpt-engine train --ema 0.999`",
        path.display()
    )]
    NoAverage {
        /// The folder.
        path: PathBuf,
    },
    /// Something is already there.
    #[error("{} already exists; choose another --out, or replace it with --force", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// Hugging Face's ImageGPT cannot express the model.
    #[error(
        "Hugging Face's ImageGPT cannot express this model: {problem}. The checkpoint itself can be used by igpt-engine as it is"
    )]
    NotExpressible {
        /// Which part of it.
        problem: String,
    },
    /// A file could not be hashed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The device could not hold a tensor, or give it back.
    #[error(transparent)]
    Device(#[from] device::Error),
}

impl From<FsError> for CheckpointError {
    fn from(FsError { action, path, source }: FsError) -> Self {
        CheckpointError::Io { action, path, source }
    }
}

impl CheckpointError {
    /// Wraps an I/O error with what was tried on which path, for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// Whether a file is not the one that was saved.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Torn { .. } | Self::Manifest { .. })
    }

    /// A JSON file's problem.
    pub(crate) fn json(path: &Path, problem: impl Into<String>) -> Self {
        Self::Json { path: path.to_owned(), problem: problem.into() }
    }
}
