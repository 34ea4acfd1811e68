//! Checkpoints: folders in Hugging Face's ImageGPT layout, with what a run needs to go on beside it.
//!
//! ```text
//! config.json               the model's shape
//! model.safetensors         its parameters, F32, under Hugging Face's names
//! preprocessor_config.json  the palette
//! optimizer.safetensors     Adam's moments: first_moment.NAME, second_moment.NAME   (runs only)
//! training.json             how far the run was                                     (runs only)
//! ```
//!
//! There is no format of our own beside it: a checkpoint is what `transformers` loads, and its folders are what we load.
//! A model in memory has the same tensors, names and shapes, so nothing is converted but dtypes.

mod error;
mod folder;
mod huggingface;
mod tensors;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use error::{CheckpointError, Result};
pub use folder::{latest, list, prune, resolve, step_folder};
pub use tensors::{TensorFile, TensorPlan, write_tensors};

use crate::device::Device;
use crate::model::{ModelConfig, Norm, ParameterSpec, Parameters, parameter_specs};

/// The file that makes a folder a checkpoint.
const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const TRAINING: &str = "training.json";
const MOMENTS: [&str; 2] = ["first_moment", "second_moment"];

/// How far a run is: all that it needs besides tensors to go on, since every random draw is a function of seed and counter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Updates made.
    pub step: u64,
    /// Images trained on, repeats counted: the position in the endless stream of batches.
    pub samples_seen: u64,
    /// Tokens trained on.
    pub tokens_seen: u64,
    /// Seconds spent, over all sessions.
    pub elapsed_seconds: f64,
}

/// An optimiser's state to be saved.
pub struct TrainingState<'a, D: Device> {
    /// Adam's first moments, in the order of the parameters.
    pub first_moments: &'a [D::Tensor],
    /// Adam's second moments.
    pub second_moments: &'a [D::Tensor],
    /// How far the run is.
    pub progress: &'a Progress,
}

/// What goes into a checkpoint.
pub struct CheckpointContents<'a, D: Device> {
    /// Where the tensors are.
    pub device: &'a D,
    /// The model's shape.
    pub config: &'a ModelConfig,
    /// Its parameters.
    pub parameters: &'a Parameters<D>,
    /// Colours, `[k][3]` in [-1, 1].
    pub palette: Option<&'a [[f32; 3]]>,
    /// The optimiser's state, if training is to go on from here.
    pub training: Option<TrainingState<'a, D>>,
}

/// Writes a checkpoint, whole or not at all.
///
/// # Errors
/// [`CheckpointError::Write`]; an earlier checkpoint at `path` is intact then.
pub fn save<D: Device>(path: &Path, contents: &CheckpointContents<'_, D>) -> Result<()> {
    let CheckpointContents { device, config, parameters, palette, training } = contents;
    folder::write_folder(path, |folder| {
        huggingface::write_json(&folder.join(huggingface::CONFIG), &huggingface::config_json(config, false))?;
        if let Some(palette) = palette {
            let value = huggingface::preprocessor_json(palette, config.positions);
            huggingface::write_json(&folder.join(huggingface::PREPROCESSOR), &value)?;
        }
        let plans: Vec<TensorPlan> = parameters.specs().iter().map(|spec| plan(&spec.name, spec)).collect();
        write_tensors(&folder.join(MODEL), &plans, |index| Ok(device.download(&parameters.values()[index])?))?;
        let Some(training) = training else { return Ok(()) };
        let plans: Vec<TensorPlan> = MOMENTS
            .iter()
            .flat_map(|moment| parameters.specs().iter().map(move |spec| plan(&format!("{moment}.{}", spec.name), spec)))
            .collect();
        let count = parameters.specs().len();
        write_tensors(&folder.join(OPTIMIZER), &plans, |index| {
            let moments = if index < count { training.first_moments } else { training.second_moments };
            Ok(device.download(&moments[index % count])?)
        })?;
        huggingface::write_json(&folder.join(TRAINING), training.progress)
    })
}

fn plan(name: &str, spec: &ParameterSpec) -> TensorPlan {
    TensorPlan { name: name.to_owned(), shape: spec.shape.clone() }
}

/// Saves a run's checkpoint after `step` and returns its folder.
///
/// # Errors
/// As [`save`].
pub fn save_step<D: Device>(run: &Path, step: u64, contents: &CheckpointContents<'_, D>) -> Result<PathBuf> {
    let path = step_folder(run, step);
    save(&path, contents)?;
    Ok(path)
}

/// The shape of the model in a checkpoint folder.
///
/// # Errors
/// [`CheckpointError::Read`], [`CheckpointError::Json`], [`CheckpointError::Config`], [`CheckpointError::Tensors`].
pub fn load_config(folder: &Path) -> Result<ModelConfig> {
    huggingface::read_config(folder, &TensorFile::open(&folder.join(MODEL))?)
}

/// The model in a checkpoint folder.
///
/// # Errors
/// As [`load_config`], and [`CheckpointError::Tensor`] for tensors that are missing, of another shape, or have no place.
pub fn load_model<D: Device>(device: &D, folder: &Path) -> Result<(ModelConfig, Parameters<D>)> {
    let tensors = TensorFile::open(&folder.join(MODEL))?;
    let config = huggingface::read_config(folder, &tensors)?;
    huggingface::refuse_strangers(&config, &tensors)?;
    let parameters = Parameters::from_fn(device, &config, |_, spec| {
        let name = huggingface::stored_name(&tensors, &spec.name).unwrap_or_else(|| spec.name.clone());
        tensors.read(&name, &spec.shape)
    })?;
    Ok((config, parameters))
}

/// Adam's first and second moments, in the order of the parameters, and how far the run was.
pub type LoadedTraining<D> = (Vec<<D as Device>::Tensor>, Vec<<D as Device>::Tensor>, Progress);

/// The optimiser's state in a run's checkpoint.
///
/// # Errors
/// [`CheckpointError`], for a folder without one too.
pub fn load_training<D: Device>(device: &D, folder: &Path, config: &ModelConfig) -> Result<LoadedTraining<D>> {
    let progress = huggingface::read_json(&folder.join(TRAINING))?;
    let tensors = TensorFile::open(&folder.join(OPTIMIZER))?;
    let specs = parameter_specs(config);
    let load = |moment: &str| {
        specs
            .iter()
            .map(|spec| {
                let values = tensors.read(&format!("{moment}.{}", spec.name), &spec.shape)?;
                Ok(device.upload(&spec.shape, &values)?)
            })
            .collect::<Result<Vec<_>>>()
    };
    Ok((load(MOMENTS[0])?, load(MOMENTS[1])?, progress))
}

/// The palette saved with a model, and the file that holds it.
///
/// # Errors
/// [`CheckpointError::Json`], [`CheckpointError::Read`].
pub fn palette_of(folder: &Path) -> Result<Option<(PathBuf, Vec<[f32; 3]>)>> {
    let path = folder.join(huggingface::PREPROCESSOR);
    if !path.exists() {
        return Ok(None);
    }
    let colours = huggingface::read_palette(&path)?;
    Ok(Some((path, colours)))
}

/// Writes a model as a strict Hugging Face folder: standard keys only, and with `biases` the zero biases that its linear
/// layers expect of every model.
///
/// # Errors
/// [`CheckpointError::NotExpressible`] for a mean-centred norm or a model without `sos`; as [`save`].
pub fn export<D: Device>(path: &Path, contents: &CheckpointContents<'_, D>, biases: bool) -> Result<()> {
    let CheckpointContents { device, config, parameters, palette, .. } = contents;
    if config.norm == Norm::Layer {
        return Err(CheckpointError::NotExpressible("the mean-centred norm (--norm layer)"));
    }
    if !config.sos {
        return Err(CheckpointError::NotExpressible("a model without a start-of-sequence token (BERT)"));
    }
    let stored = ModelConfig { bias: biases || config.bias, ..(*config).clone() };
    let specs = parameter_specs(&stored);
    let plans: Vec<TensorPlan> = specs.iter().map(|spec| plan(&spec.name, spec)).collect();
    folder::write_folder(path, |folder| {
        huggingface::write_json(&folder.join(huggingface::CONFIG), &huggingface::config_json(config, true))?;
        if let Some(palette) = palette {
            let value = huggingface::preprocessor_json(palette, config.positions);
            huggingface::write_json(&folder.join(huggingface::PREPROCESSOR), &value)?;
        }
        write_tensors(&folder.join(MODEL), &plans, |index| {
            let spec = &specs[index];
            match parameters.specs().iter().position(|own| own.name == spec.name) {
                Some(own) => Ok(device.download(&parameters.values()[own])?),
                None => Ok(vec![0.0; spec.elements()]),
            }
        })
    })
}
