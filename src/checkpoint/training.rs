//! What a checkpoint holds beside the model so that training can go on bit for bit: Adam's moments and the counters.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::{CheckpointError, Result};
use super::files::{MOMENTS, index_of, stem};
use super::json::read_json;
use super::manifest::{Manifest, step_of_folder};
use super::source::TensorSource;
use super::tensors::TensorHeader;
use super::weights::open_files;
use super::{EMA_FILE, MODEL_FILE, OPTIMIZER_FILE, TRAINING_FILE};
use crate::data::{hex, sha256};
use crate::device::{Device, RECENT};
use crate::model::{ModelConfig, parameter_specs};
use crate::optim::Skipped;
use crate::tape::ParameterSpec;

/// How far training has come. All randomness is a function of the seed and these counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps taken, skipped ones included.
    pub step: u64,
    /// Steps that were skipped because loss or gradient was not finite, or a spike.
    #[serde(default, skip_serializing_if = "Skipped::is_none")]
    pub skipped: Skipped,
    /// Images seen, repeats counted.
    pub samples: u64,
    /// Tokens seen, repeats counted.
    pub tokens: u64,
    /// Lowest validation loss so far, nats per token.
    pub best_validation: Option<f64>,
    /// Fine-tuning: the best accuracy so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<BestAccuracy>,
    /// What is known of the last steps, where those that are spikes are skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spikes: Option<[f64; RECENT]>,
    /// Seconds of training, over all sessions.
    pub elapsed: f64,
}

impl Progress {
    /// Whether an accuracy is better than all before it.
    pub fn is_best(&self, accuracy: f64) -> bool {
        self.best.is_none_or(|best| accuracy > best.accuracy)
    }

    /// Counts a validation of this accuracy, after `step` steps.
    pub fn note_accuracy(&mut self, step: u64, accuracy: f64) {
        match &mut self.best {
            Some(best) if accuracy <= best.accuracy => best.validations_since += 1,
            best => *best = Some(BestAccuracy { step, accuracy, validations_since: 0 }),
        }
    }
}

/// The best validation of a fine-tuning run, for stopping early.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestAccuracy {
    /// Updates made before it.
    pub step: u64,
    /// Fraction of the validation images that are classified correctly.
    pub accuracy: f64,
    /// Validations since that were no better.
    pub validations_since: u64,
}

/// The optimiser's state to be saved; moments in the order of [`parameter_specs`].
pub struct TrainingState<'a, D: Device> {
    /// Adam's first moments.
    pub first_moments: &'a [D::Tensor],
    /// Adam's second moments.
    pub second_moments: &'a [D::Tensor],
    /// Counters.
    pub progress: Progress,
}

/// The optimiser's state as a checkpoint held it; moments in the order of [`parameter_specs`].
pub struct LoadedTraining<D: Device> {
    /// Adam's first moments.
    pub first_moments: Vec<D::Tensor>,
    /// Adam's second moments.
    pub second_moments: Vec<D::Tensor>,
    /// Counters.
    pub progress: Progress,
}

/// `training.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrainingFile {
    pub progress: Progress,
    /// SHA-256 of the files saved with it, in hexadecimal: weights and moments of different steps do not go together.
    pub sha256: BTreeMap<String, String>,
    /// The list of all files that was saved too; absent in older checkpoints.
    #[serde(default)]
    pub manifest: Option<String>,
}

/// Names and shapes of `optimizer.safetensors`: all first moments, then all second ones.
pub(super) fn moment_headers(specs: &[ParameterSpec]) -> Vec<TensorHeader> {
    let header = |prefix: &str, spec: &ParameterSpec| (format!("{prefix}{}", spec.name), spec.shape.clone());
    MOMENTS.iter().flat_map(|prefix| specs.iter().map(move |spec| header(prefix, spec))).collect()
}

/// The training state of a checkpoint folder for a model of `config`, as [`each_moment`] shows it.
///
/// # Errors
/// As [`each_moment`]; those of the device.
pub fn load_training<D: Device>(device: &D, dir: &Path, config: &ModelConfig) -> Result<LoadedTraining<D>> {
    let (specs, mut moments) = (parameter_specs(config), [Vec::new(), Vec::new()]);
    let progress = each_moment(dir, config, &mut |which, index, values| {
        moments[which].push(device.upload(&specs[index].shape, &values)?);
        Ok(())
    })?;
    let [first_moments, second_moments] = moments;
    Ok(LoadedTraining { first_moments, second_moments, progress })
}

/// Shows the first moments of a checkpoint folder for a model of `config`, then the second ones (0 or 1, and the parameter's index),
/// and returns how far training had come. All is verified: a run that goes on for days should not start from a flipped bit.
///
/// # Errors
/// [`CheckpointError::NoTrainingState`] where only weights were saved, [`CheckpointError::Torn`] for files of different
/// saves, those of [`TensorFile`](super::tensors::TensorFile) for damaged ones, and those of `visit`.
pub fn each_moment(
    dir: &Path,
    config: &ModelConfig,
    visit: &mut dyn FnMut(usize, usize, Vec<f32>) -> Result<()>,
) -> Result<Progress> {
    let is_there = |name: &str| dir.join(name).is_file() || dir.join(index_of(name)).is_file();
    if let Some(missing) = [TRAINING_FILE, OPTIMIZER_FILE].into_iter().find(|name| !is_there(name)) {
        return Err(CheckpointError::NoTrainingState { path: dir.to_owned(), missing });
    }

    // Counters, and whether the files beside them are those that were saved with them.
    let manifest = Manifest::open(dir)?;
    let path = dir.join(TRAINING_FILE);
    let training: TrainingFile = serde_json::from_value(read_json(&path)?.into())
        .map_err(|error| CheckpointError::json(&path, format!("{error}; take an earlier checkpoint")))?;
    if let Some(folder) = step_of_folder(dir)
        && folder != training.progress.step
    {
        let problem = format!("it is of step {}, and its folder is named for step {folder}", training.progress.step);
        return Err(CheckpointError::json(&path, format!("{problem}; give the folder its name back")));
    }
    check_hashes(dir, &training, manifest.as_ref())?;
    let Some(mut file) = open_files(dir, OPTIMIZER_FILE, manifest.as_ref())? else {
        return Err(CheckpointError::NoTrainingState { path: dir.to_owned(), missing: OPTIMIZER_FILE });
    };

    // Moments in the order of the parameters, one at a time.
    let specs = parameter_specs(config);
    let shown = show_moments(&mut *file, &specs, visit);
    // A damaged file is reported as that, whatever else it led to.
    file.verify()?;
    shown.map(|()| training.progress)
}

/// Checks the hashes in `training.json`. With a manifest it is enough that both say the same: the files are compared while
/// they are read. Without one they are read here.
fn check_hashes(dir: &Path, training: &TrainingFile, manifest: Option<&Manifest>) -> Result<()> {
    let path = dir.join(TRAINING_FILE);
    // Alone, or in several files. Not every run keeps an average.
    let names_of = |base: &'static str| {
        let parts = training.sha256.keys().filter(|name| name.starts_with(&format!("{}-", stem(base))));
        let parts: Vec<String> = parts.cloned().collect();
        if dir.join(base).is_file() || parts.is_empty() { vec![base.to_owned()] } else { parts }
    };
    let averaged = training.sha256.keys().any(|name| name.starts_with(stem(EMA_FILE)));
    let average = if averaged { names_of(EMA_FILE) } else { Vec::new() };
    for name in names_of(MODEL_FILE).into_iter().chain(names_of(OPTIMIZER_FILE)).chain(average) {
        let saved = training.sha256.get(&name);
        let saved = saved.ok_or_else(|| CheckpointError::json(&path, format!("the SHA-256 of {name} is missing")))?;
        let file = dir.join(&name);
        let found = match manifest.and_then(|manifest| manifest.expected(&name)) {
            Some(listed) => listed.sha256,
            None => sha256(&file)?,
        };

        if *saved != found {
            let remedy = "it was damaged or replaced, resume from an earlier checkpoint";
            return Err(CheckpointError::Torn { path: file, list: TRAINING_FILE, remedy });
        }
    }
    Ok(())
}

/// Both moments of `specs`.
fn show_moments(
    file: &mut dyn TensorSource,
    specs: &[ParameterSpec],
    visit: &mut dyn FnMut(usize, usize, Vec<f32>) -> Result<()>,
) -> Result<()> {
    check_moments(file, specs)?;
    for (which, prefix) in MOMENTS.iter().enumerate() {
        for (index, spec) in specs.iter().enumerate() {
            visit(which, index, file.read(&format!("{prefix}{}", spec.name))?)?;
        }
    }
    Ok(())
}

/// Checks that the file holds just the moments of `specs`.
fn check_moments(file: &dyn TensorSource, specs: &[ParameterSpec]) -> Result<()> {
    let path = || file.path().to_owned();
    let expected: BTreeMap<_, _> = moment_headers(specs).into_iter().collect();
    for (name, shape) in &expected {
        match file.shape(name) {
            None => return Err(CheckpointError::MissingTensor { path: path(), name: name.clone() }),
            Some(found) if found != shape.as_slice() => {
                let (name, found, expected) = (name.clone(), found.to_vec(), shape.clone());
                return Err(CheckpointError::WrongShape { path: path(), name, found, expected });
            }
            Some(_) => {}
        }
    }

    match file.names().into_iter().find(|name| !expected.contains_key(name)) {
        Some(name) => Err(CheckpointError::UnexpectedTensor { path: path(), name, why: String::new() }),
        None => Ok(()),
    }
}

/// Writes bytes through and hashes them.
pub(super) struct HashingWriter<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> HashingWriter<W> {
    pub fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// Flushes, and returns the hash of all that was written.
    pub fn finish(mut self) -> io::Result<String> {
        self.inner.flush()?;
        Ok(hex(&self.hash.finalize()))
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or(bytes));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
