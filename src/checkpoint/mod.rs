//! Checkpoints: a folder in Hugging Face's ImageGPT layout, and beside it what training needs to go on.
//!
//! | file | holds |
//! |---|---|
//! | `config.json` | the model's shape, see [`huggingface`] |
//! | `order.npy` | the order of the pixels, if it is one without a name |
//! | `model.safetensors` | parameters, F32, names and shapes of [`crate::model::parameter_specs`] |
//! | `preprocessor_config.json` | the palette, if known |
//! | `ema.safetensors` | the moving average of the parameters, of runs that keep one; names and shapes of `model.safetensors` |
//! | `optimizer.safetensors` | Adam's moments: `first_moment.NAME`, `second_moment.NAME` |
//! | `training.json` | [`Progress`], and the SHA-256 of the safetensors files |
//! | `igpt-engine.sha256` | the SHA-256 of every file, verified whenever one is read |
//!
//! What is larger than [`MAX_SHARD_SIZE`] bytes, or written by several ranks, is in several files: `model-00001-of-00003.safetensors` and so
//! on with `model.safetensors.index.json`, which says where each tensor is, as the Hub has it; averages and moments likewise.
//!
//! A checkpoint is written under a temporary name and renamed, so one that can be seen is complete.

pub mod convert;
pub(crate) mod error;
mod files;
mod hashed_file;
pub mod huggingface;
pub mod images;
mod json;
mod manifest;
mod numbers;
mod pixel_order;
mod preprocessor;
mod pytorch;
mod sharded;
pub mod source;
mod split;
mod tensorflow;
pub mod tensors;
mod training;
pub mod weights;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use serde_json::json;

pub use convert::MAX_SHARD_SIZE;
pub use error::{CheckpointError, Result};
pub(crate) use files::{File as TensorsFile, Files, Kept};
pub use huggingface::{load_config, load_parameters};
pub(crate) use manifest::step_of;
pub use manifest::verify;
pub use pixel_order::{OrderSpec, read_permutation};
pub use preprocessor::palette_of;
pub(crate) use pytorch::{PYTORCH_FILE, PYTORCH_INDEX};
pub use training::{BestAccuracy, LoadedTraining, Progress, TrainingState, each_moment, load_training};

use crate::device::Device;
use crate::fs::{FsError, atomic_dir};
use crate::model::{ModelConfig, TOKEN_HEAD, parameter_specs};
use crate::tape::Parameters;
use huggingface::ModelFile;
pub use huggingface::Visit;
use json::write_json;
use manifest::write_manifest;
use tensors::{TensorHeader, write_tensors};
use training::HashingWriter;

/// The model's shape.
pub const CONFIG_FILE: &str = "config.json";
/// The pixel at each position of a sequence, uint16 `[positions]`.
pub const ORDER_FILE: &str = "order.npy";
/// The parameters.
pub const MODEL_FILE: &str = "model.safetensors";
/// The palette.
pub const PREPROCESSOR_FILE: &str = "preprocessor_config.json";
/// Adam's moments.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// The moving average of the parameters.
pub const EMA_FILE: &str = "ema.safetensors";
/// Counters and hashes.
pub const TRAINING_FILE: &str = "training.json";

/// Which file of tensors holds which weight, of weights in several files.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// The SHA-256 of every file.
pub const MANIFEST_FILE: &str = "igpt-engine.sha256";

/// What goes into a checkpoint.
pub struct CheckpointContents<'a, D: Device> {
    /// Where the tensors are.
    pub device: &'a D,
    /// The model's shape.
    pub config: &'a ModelConfig,
    /// Its parameters.
    pub parameters: &'a Parameters<D>,
    /// The moving average of the parameters, of a run that keeps one.
    pub average: Option<&'a Parameters<D>>,
    /// What training needs to go on; without it the checkpoint can be used, not resumed.
    pub training: Option<TrainingState<'a, D>>,
    /// RGB in `[-1, 1]`, a row per colour.
    pub palette: Option<&'a [[f32; 3]]>,
}

/// Saves a checkpoint as the folder `dir`, atomically; one that was there before is replaced, and stays if anything fails.
/// Tensors come to the host one at a time.
///
/// # Errors
/// [`CheckpointError::Io`], [`CheckpointError::Order`]; those of the device.
pub fn save<D: Device>(dir: &Path, contents: &CheckpointContents<'_, D>) -> Result<()> {
    let CheckpointContents { device, config, parameters, average, training, palette } = contents;
    let files = Files::new(parameters.specs(), [average.is_some(), training.is_some()], 1, MAX_SHARD_SIZE);
    let tensor = |kept: Kept, index: usize| match kept {
        Kept::Weight => parameters.values().get(index),
        Kept::Average => average.and_then(|average| average.values().get(index)),
        Kept::FirstMoment => training.as_ref().and_then(|training| training.first_moments.get(index)),
        Kept::SecondMoment => training.as_ref().and_then(|training| training.second_moments.get(index)),
    };
    // No more tensors are asked for than there are.
    let mut download = |kept: Kept, index: usize| match tensor(kept, index) {
        Some(tensor) => Ok(device.download(tensor)?),
        None => Ok(Vec::new()),
    };
    let about = About { config, palette: *palette, progress: training.as_ref().map(|training| training.progress) };
    save_files(dir, &about, &files, |folder| files.write(folder, 0, &mut download))
}

/// What is in a checkpoint beside tensors.
pub(crate) struct About<'a> {
    /// The model's shape.
    pub config: &'a ModelConfig,
    /// RGB in `[-1, 1]`, a row per colour.
    pub palette: Option<&'a [[f32; 3]]>,
    /// How far training has come, where moments are saved too.
    pub progress: Option<Progress>,
}

/// Saves a checkpoint as [`save`] does, whose `files` of tensors `write` puts into the folder that it is given, or has others put; it
/// returns the SHA-256 of each by its place in the list.
///
/// # Errors
/// [`CheckpointError::Io`], [`CheckpointError::Order`]; those of `write`.
pub(crate) fn save_files<E: From<CheckpointError> + From<FsError>>(
    dir: &Path,
    about: &About<'_>,
    files: &Files,
    write: impl FnOnce(&Path) -> std::result::Result<Vec<(usize, String)>, E>,
) -> std::result::Result<(), E> {
    atomic_dir::write_folder(dir, |folder| {
        let written = write(folder)?;
        let name = |place: usize| files.list.get(place).map(|file| file.name.clone());
        let hashes = written.into_iter().filter_map(|(place, hash)| Some((name(place)?, hash))).collect();
        Ok(describe(folder, about, files, hashes)?)
    })
}

/// Writes what stands beside the files of tensors, of which `hashes` are known.
fn describe(folder: &Path, about: &About<'_>, files: &Files, hashes: Vec<(String, String)>) -> Result<()> {
    let About { config, palette, progress } = about;
    huggingface::write_config(folder, config, false, false)?;
    write_palette(folder, *palette, config)?;
    files.write_indices(folder)?;
    let Some(progress) = progress else { return write_manifest(folder, None, &hashes) };
    let sha256: BTreeMap<_, _> = hashes.iter().cloned().collect();
    let counters = json!({"progress": progress, "sha256": sha256, "manifest": MANIFEST_FILE});
    write_json(&folder.join(TRAINING_FILE), &counters)?;
    write_manifest(folder, Some(progress.step), &hashes)
}

/// Loads the model of a checkpoint folder: one of ours, or any Hugging Face ImageGPT with safetensors weights.
///
/// # Errors
/// As [`load_config`] and [`load_parameters`].
pub fn load_model<D: Device>(device: &D, dir: &Path) -> Result<(ModelConfig, Parameters<D>)> {
    let config = load_config(dir)?;
    let parameters = load_parameters(device, dir, &config)?;
    Ok((config, parameters))
}

/// The same with the moving average of the weights in their place, as runs with `--ema` keep it.
///
/// # Errors
/// [`CheckpointError::NoAverage`] where none was kept; as [`load_model`].
pub fn load_averaged_model<D: Device>(device: &D, dir: &Path) -> Result<(ModelConfig, Parameters<D>)> {
    let config = load_config(dir)?;
    let parameters = load_average(device, dir, &config)?;
    Ok((config, parameters))
}

/// The moving average of the weights of a model of `config`.
///
/// # Errors
/// [`CheckpointError::NoAverage`] where none was kept; as [`load_parameters`].
pub fn load_average<D: Device>(device: &D, dir: &Path, config: &ModelConfig) -> Result<Parameters<D>> {
    ModelFile::open_average(dir)?.load(device, config)
}

/// Shows the weights of a checkpoint folder for a model of `config` one after the other, each by its index in [`parameter_specs`].
///
/// # Errors
/// As [`load_parameters`]; those of `visit`.
pub fn each_weight(dir: &Path, config: &ModelConfig, visit: &mut Visit<'_>) -> Result<()> {
    ModelFile::open(dir)?.each(config, visit)
}

/// The same of the weights for fine-tuning `config`, which differs from the folder's in its classes alone: the class head is zero,
/// whatever head the folder has.
///
/// # Errors
/// As [`each_weight`].
pub fn each_weight_of_body(dir: &Path, config: &ModelConfig, visit: &mut Visit<'_>) -> Result<()> {
    ModelFile::open(dir)?.each_of_body(config, visit)
}

/// The same of the moving average.
///
/// # Errors
/// [`CheckpointError::NoAverage`] where none was kept; as [`each_weight`].
pub fn each_averaged_weight(dir: &Path, config: &ModelConfig, visit: &mut Visit<'_>) -> Result<()> {
    ModelFile::open_average(dir)?.each(config, visit)
}

/// The weights of a checkpoint folder for fine-tuning `config`, as [`each_weight_of_body`] shows them.
///
/// # Errors
/// As [`each_weight_of_body`]; those of the device.
pub fn load_body<D: Device>(device: &D, dir: &Path, config: &ModelConfig) -> Result<Parameters<D>> {
    let (specs, mut tensors) = (parameter_specs(config), Vec::new());
    each_weight_of_body(dir, config, &mut |index, values| {
        tensors.push(device.upload(&specs[index].shape, &values)?);
        Ok(())
    })?;
    Ok(Parameters::of(specs, tensors))
}

/// Whether the folder's weights have a language-model head. Those of transformers' `ImageGPTForImageClassification` and
/// `ImageGPTModel` have none; it is then zeros in memory, as training starts it, and says nothing of pixels.
///
/// # Errors
/// As [`ModelFile::open`].
pub fn has_token_head(dir: &Path) -> Result<bool> {
    Ok(ModelFile::open(dir)?.has(TOKEN_HEAD))
}

/// Refuses a folder whose weights have no language-model head; `task` is what they are then of no use for.
///
/// # Errors
/// [`CheckpointError::NoTokenHead`]; as [`has_token_head`].
pub fn require_token_head(dir: &Path, task: &'static str) -> Result<()> {
    if has_token_head(dir)? { Ok(()) } else { Err(CheckpointError::NoTokenHead { path: dir.to_owned(), task }) }
}

/// Writes the palette's file, if there is a palette.
fn write_palette(folder: &Path, palette: Option<&[[f32; 3]]>, config: &ModelConfig) -> Result<()> {
    match palette {
        Some(palette) => {
            let value = preprocessor::preprocessor_json(palette, config.positions);
            write_json(&folder.join(PREPROCESSOR_FILE), &value)
        }
        None => Ok(()),
    }
}

/// Writes a safetensors file; returns its SHA-256 in hexadecimal.
fn write_hashed<V: AsRef<[f32]>>(
    path: &Path,
    headers: &[TensorHeader],
    values: impl FnMut(usize) -> Result<V>,
) -> Result<String> {
    let file = File::create(path).map_err(CheckpointError::io("create", path))?;
    let mut out = HashingWriter::new(BufWriter::new(file));
    write_tensors(&mut out, path, headers, values)?;
    out.finish().map_err(CheckpointError::io("write", path))
}
