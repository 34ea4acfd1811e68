//! What a probe reads: a trained model, and both parts of a data set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{ProbeError, Result};
use super::settings::Settings;
use crate::checkpoint;
use crate::checkpoint::images::{check_fits, resolution_of};
use crate::data::{self, DataSpec, Examples, Fingerprint, ImageExamples, OpenOptions, Palette, Split};
use crate::device::Device;
use crate::model::{ModelConfig, Objective, Transformer};
use crate::run::checkpoints;
use crate::tape::Parameters;

/// A trained model.
pub(super) struct Model<D: Device> {
    /// Its checkpoint.
    pub folder: PathBuf,
    pub transformer: Transformer,
    pub parameters: Parameters<D>,
}

impl<D: Device> Model<D> {
    /// Loads the model of a checkpoint or of a run, or the moving average of its weights.
    pub fn load(device: &D, path: &Path, ema: bool) -> Result<Self> {
        let folder = checkpoints::resolve(path)?;
        let load = if ema { checkpoint::load_averaged_model } else { checkpoint::load_model };
        let (config, parameters) = load(device, &folder)?;
        Ok(Model { folder, transformer: Transformer::new(config)?, parameters })
    }
}

/// Both parts of the data, as tokens or as pixels.
pub(super) struct Images {
    pub train: Arc<dyn Examples>,
    pub test: Arc<dyn Examples>,
    /// The same images before they are quantised, training and test, for raw pixels.
    pub pixels: Option<[ImageExamples; 2]>,
    /// Everything about them that changes the features.
    pub origin: String,
}

impl Images {
    /// Opens the training images, all of them, and the test images; neither is augmented.
    pub fn open(settings: &Settings, model: Option<&ModelConfig>, palette: &Arc<Palette>) -> Result<Self> {
        let resolution = resolution(settings, model)?;
        let test_data = settings.test_data.clone().unwrap_or_else(|| settings.data.clone());
        if settings.data.is_tokens() && settings.test_data.is_none() {
            let problem = "token arrays have no test part; give one with --test-data tokens:FILE.npy,LABELS.npy";
            return Err(ProbeError::Settings(problem.into()));
        }

        let options = OpenOptions {
            resolution,
            filter: settings.filter.unwrap_or_default(),
            skip_bad: settings.skip_bad,
            alpha: settings.alpha.unwrap_or_default(),
            of_model: model.is_some(),
            augment: false,
            // What is held out is held out by the probe, from features.
            holdout: Some(0.0),
            seed: settings.seed(),
            progress: settings.progress,
            ..OpenOptions::new(Arc::clone(palette))
        };
        let train: Arc<dyn Examples> = data::open(&settings.data, Split::Train, &options)?.into();
        let test: Arc<dyn Examples> = data::open(&test_data, Split::Test, &options)?.into();
        if let Some(model) = model {
            check_masks(settings, model)?;
            check_fits(model, train.as_ref())?;
            check_fits(model, test.as_ref())?;
        }

        let open_pixels = |spec: &DataSpec, split| -> Result<ImageExamples> {
            let (source, indices) = data::open_images(spec, split, &options)?;
            let transform = data::evaluation_transform(spec, &options)?;
            Ok(ImageExamples::new(source, indices, transform, Arc::clone(palette)))
        };
        let pixels = if settings.raw_pixels {
            Some([open_pixels(&settings.data, Split::Train)?, open_pixels(&test_data, Split::Test)?])
        } else {
            None
        };

        // The images themselves, not only their name: files of features are of no use once the images are others.
        let [shown, tested] = [&train, &test].map(|part| part.fingerprint());
        let id = |Fingerprint { contents, times, .. }: Fingerprint| format!("{contents} of {times}");
        let (filter, alpha, palette) = (options.filter, options.alpha, palette.id());
        let origin = format!(
            "{} [{}] tested on {test_data} [{}], {resolution}x{resolution}, {filter:?}, alpha {alpha}, palette {palette}",
            settings.data,
            id(shown?),
            id(tested?),
        );
        Ok(Images { train, test, pixels, origin })
    }

    /// The number of classes, the same in both parts.
    pub fn classes(&self) -> Result<usize> {
        let (train, test) = (self.train.classes(), self.test.classes());
        if train == 0 || test == 0 {
            let problem = "the images have no labels; a probe needs their classes (tokens:FILE.npy,LABELS.npy, or folders \
                           of classes)";
            return Err(ProbeError::Settings(problem.into()));
        }
        if self.train.class_names() != self.test.class_names() {
            return Err(ProbeError::Settings(format!(
                "the training images have {train} classes and the test images {test} others; give data that belong together"
            )));
        }
        Ok(train.max(test))
    }
}

/// The resolution that images are shrunk to: the model's, or what was asked for.
fn resolution(settings: &Settings, model: Option<&ModelConfig>) -> Result<u32> {
    match (model, settings.resolution) {
        // Token arrays are of a length of their own; it only tells apart files of features.
        (Some(model), _) if settings.data.is_tokens() => Ok(model.positions.isqrt() as u32),
        (Some(model), _) => Ok(resolution_of(model)? as u32),
        (None, Some(resolution)) => Ok(resolution),
        (None, None) => Err(ProbeError::Settings("--raw-pixels without --checkpoint needs --resolution N".into())),
    }
}

/// Refuses masks for a model that sees all pixels before the next one.
fn check_masks(settings: &Settings, model: &ModelConfig) -> Result<()> {
    let masks = settings.mask_rate.is_some() || settings.masks.is_some();
    if masks && model.objective() == Objective::Ar {
        let problem = "--mask-rate and --masks are for BERT models, and this one is autoregressive; leave them out";
        return Err(ProbeError::Settings(problem.into()));
    }
    Ok(())
}
