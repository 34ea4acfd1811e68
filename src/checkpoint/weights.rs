//! The weights of a model folder: which kind of file holds them. A new format is a [`WeightKind`] with a line in each
//! function here, and a [`TensorSource`].

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::{CheckpointError, Result};
use super::files::index_of;
use super::manifest::Manifest;
use super::pytorch::{PYTORCH_FILE, PYTORCH_INDEX, PyTorchFile};
use super::source::TensorSource;
use super::split::SplitWeights;
use super::tensorflow::{self, TensorFlowCheckpoint};
use super::tensors::TensorFile;
use super::{EMA_FILE, INDEX_FILE, MODEL_FILE};
use crate::data::{hex, sha256};
use crate::model::ModelConfig;

/// How a folder's weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightKind {
    /// `model.safetensors`.
    Safetensors,
    /// Several safetensors files, listed by `model.safetensors.index.json`.
    Sharded,
    /// `pytorch_model.bin`.
    PyTorch,
    /// `pytorch_model.bin.index.json` and the files it lists.
    SplitPyTorch,
    /// TensorFlow's `model.ckpt-N.index` and what belongs to it: OpenAI's release.
    TensorFlow,
}

impl WeightKind {
    /// Those with a file of a fixed name, in the order in which they are looked for.
    const NAMED: [Self; 4] = [Self::Safetensors, Self::Sharded, Self::PyTorch, Self::SplitPyTorch];

    /// The file by which a folder is recognised.
    const fn file(self) -> &'static str {
        match self {
            Self::Safetensors => MODEL_FILE,
            Self::Sharded => INDEX_FILE,
            Self::PyTorch => PYTORCH_FILE,
            Self::SplitPyTorch => PYTORCH_INDEX,
            // Its name holds the number of steps.
            Self::TensorFlow => "model.ckpt",
        }
    }

    /// The kind of weights in a folder, if there are any; where there are several, the first one is read. TensorFlow's
    /// may also be named by the prefix of their files.
    pub fn of(dir: &Path) -> Option<Self> {
        let named = Self::NAMED.into_iter().find(|kind| dir.join(kind.file()).is_file());
        named.or_else(|| tensorflow::prefix_of(dir).map(|_| Self::TensorFlow))
    }
}

/// Opens a folder's weights.
///
/// # Errors
/// [`CheckpointError::NotACheckpoint`] without weights; those of the format for unsound ones.
pub fn open_weights(dir: &Path) -> Result<Box<dyn TensorSource>> {
    let manifest = Manifest::open(dir)?;
    let expected = |name: &str| manifest.as_ref().and_then(|manifest| manifest.expected(name));
    match WeightKind::of(dir) {
        Some(kind @ WeightKind::Safetensors) => {
            Ok(Box::new(TensorFile::open_as(&dir.join(kind.file()), expected(kind.file()))?))
        }
        Some(kind @ WeightKind::Sharded) => {
            let open = |name: &str, path: &Path| Ok(Box::new(TensorFile::open_as(path, expected(name))?) as _);
            Ok(Box::new(SplitWeights::open(&dir.join(kind.file()), ".safetensors", open)?))
        }
        Some(kind @ WeightKind::PyTorch) => open_pytorch(&dir.join(kind.file())),
        Some(kind @ WeightKind::SplitPyTorch) => {
            Ok(Box::new(SplitWeights::open(&dir.join(kind.file()), ".bin", |_, path| open_pytorch(path))?))
        }
        Some(WeightKind::TensorFlow) => Ok(Box::new(open_tensorflow(dir)?)),
        None => Err(CheckpointError::NotACheckpoint { path: dir.to_owned(), problem: missing_weights(dir) }),
    }
}

/// Opens what `base` holds, or several files with its index; `None` where there is neither.
///
/// # Errors
/// Those of the format for unsound ones.
pub(super) fn open_files(dir: &Path, base: &str, manifest: Option<&Manifest>) -> Result<Option<Box<dyn TensorSource>>> {
    let expected = |name: &str| manifest.and_then(|manifest| manifest.expected(name));
    let index = dir.join(index_of(base));
    if dir.join(base).is_file() {
        return Ok(Some(Box::new(TensorFile::open_as(&dir.join(base), expected(base))?)));
    }
    if !index.is_file() {
        return Ok(None);
    }
    let open = |name: &str, path: &Path| Ok(Box::new(TensorFile::open_as(path, expected(name))?) as _);
    Ok(Some(Box::new(SplitWeights::open(&index, ".safetensors", open)?)))
}

/// Opens the moving average of a folder's weights.
///
/// # Errors
/// [`CheckpointError::NoAverage`] where none was kept; those of the format for an unsound one.
pub(super) fn open_average(dir: &Path) -> Result<Box<dyn TensorSource>> {
    let manifest = Manifest::open(dir)?;
    match open_files(dir, EMA_FILE, manifest.as_ref())? {
        Some(file) => Ok(file),
        None if WeightKind::of(dir).is_some() => Err(CheckpointError::NoAverage { path: dir.to_owned() }),
        None => Err(CheckpointError::NotACheckpoint { path: dir.to_owned(), problem: missing_weights(dir) }),
    }
}

/// What tells the moving average of a folder's weights from others: the SHA-256 of its file.
///
/// # Errors
/// As [`weights_id`].
pub fn average_id(dir: &Path) -> Result<String> {
    joint_id(dir, open_average(dir)?.files())
}

/// The model of a TensorFlow checkpoint, which its variables tell.
///
/// # Errors
/// As [`open_weights`].
pub(super) fn tensorflow_config(dir: &Path) -> Result<ModelConfig> {
    Ok(open_tensorflow(dir)?.config().clone())
}

fn open_tensorflow(dir: &Path) -> Result<TensorFlowCheckpoint> {
    let missing = || CheckpointError::NotACheckpoint { path: dir.to_owned(), problem: missing_weights(dir) };
    TensorFlowCheckpoint::open(&tensorflow::prefix_of(dir).ok_or_else(missing)?)
}

fn open_pytorch(path: &Path) -> Result<Box<dyn TensorSource>> {
    Ok(Box::new(PyTorchFile::open(path)?))
}

/// What tells a folder's weights from others: the SHA-256 of their file in hexadecimal, of several files that of their hashes.
///
/// # Errors
/// As [`open_weights`]; [`CheckpointError::Data`] for files that cannot be read.
pub fn weights_id(dir: &Path) -> Result<String> {
    joint_id(dir, open_weights(dir)?.files())
}

fn joint_id(dir: &Path, files: Vec<PathBuf>) -> Result<String> {
    let (manifest, mut hashes) = (Manifest::open(dir)?, Vec::new());
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Listed hashes were compared when the weights were loaded.
        let listed = manifest.as_ref().and_then(|manifest| manifest.expected(name));
        hashes.push(listed.map_or_else(|| sha256(&file), |listed| Ok(listed.sha256))?);
    }
    Ok(joint_hash(hashes.iter().map(String::as_str)))
}

/// The hash of one file is its own, of several that of their hashes in hexadecimal.
pub(super) fn joint_hash<'a>(hashes: impl Iterator<Item = &'a str>) -> String {
    match hashes.collect::<Vec<_>>().as_slice() {
        [only] => (*only).to_owned(),
        several => hex(&Sha256::digest(several.concat())),
    }
}

/// What a folder without weights holds instead, and how to mend it.
pub(crate) fn missing_weights(dir: &Path) -> String {
    if dir.is_dir() {
        format!("there is no {MODEL_FILE} in it; give a checkpoint or a run folder")
    } else {
        "there is no such folder; give a checkpoint or a run folder".to_owned()
    }
}
