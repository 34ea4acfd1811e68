//! Completing images with a checkpoint, or generating them from nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::decode::Generation;
use super::error::SampleError;
use super::grid::{Grid, completion_grid, free_grid};
use crate::checkpoint;
use crate::checkpoint::images::{ChosenPalette, ImageSelection, resolution_of};
use crate::data::{DataSpec, Palette, open_image, tokens_of};
use crate::device::{Device, SampleOptions};
use crate::model::{ModelConfig, Transformer};
use crate::run::checkpoints;
use crate::run::images::TrainedOn;
use crate::tape::Parameters;

type Result<T> = std::result::Result<T, SampleError>;

/// Where images start from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Image files, cropped to their middle square, are completed.
    Files(Vec<PathBuf>),
    /// Images of a data set are completed.
    DataSet,
    /// Whole images are generated.
    Nothing,
}

/// What is generated, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A checkpoint, a run, or a Hugging Face folder.
    pub checkpoint: PathBuf,
    /// Whether the moving average of the weights draws, which a run with `ema` keeps, instead of the weights.
    pub ema: bool,
    /// Where images start from.
    pub source: Source,
    /// The data set; of image files too the palette and the filter.
    pub images: ImageSelection,
    /// Images of the data set to complete, or images to generate.
    pub count: usize,
    /// Completions of each image.
    pub completions: usize,
    /// How a token is chosen.
    pub options: SampleOptions,
    /// Seed of the random numbers.
    pub seed: u64,
}

impl Settings {
    /// Four completions of each of eight images of the built-in sample, or of others that `source` says.
    pub fn new(checkpoint: &Path, source: Source) -> Self {
        Self {
            checkpoint: checkpoint.to_owned(),
            ema: false,
            source,
            images: ImageSelection::test_images(DataSpec::Sample),
            count: 8,
            completions: 4,
            options: SampleOptions::PLAIN,
            seed: 0,
        }
    }
}

/// Everything that is needed to generate, open and checked.
pub struct Session<'a, D: Device> {
    device: &'a D,
    settings: Settings,
    folder: PathBuf,
    model: Transformer,
    parameters: Parameters<D>,
    palette: Arc<Palette>,
    /// Width and height of an image, pixels.
    side: usize,
    /// Tokens of the images to complete, `[images, side²]`.
    originals: Vec<u16>,
    /// What people should know of those images.
    notes: Vec<String>,
}

/// What was generated.
pub struct Outcome {
    /// The images as a picture: of completions a row per original.
    pub grid: Grid,
    /// Their tokens in raster order, `[images, side²]`.
    pub tokens: Vec<u16>,
}

impl<'a, D: Device> Session<'a, D> {
    /// Loads the model and the images to complete.
    ///
    /// # Errors
    /// Whatever cannot be read or does not go together; [`SampleError::Bert`].
    pub fn open(device: &'a D, mut settings: Settings) -> Result<Self> {
        let folder = checkpoints::resolve(&settings.checkpoint)?;
        let load = if settings.ema { checkpoint::load_averaged_model } else { checkpoint::load_model };
        let (config, parameters) = load(device, &folder)?;
        checkpoint::require_token_head(&folder, "draw images")?;
        let side = resolution_of(&config)?;
        let model = Transformer::new(config)?;
        if !model.config().sos {
            return Err(SampleError::Bert);
        }

        // What is left open is as in the run.
        if let Some(run) = TrainedOn::of(&settings.checkpoint)? {
            settings.images = run.complete(&settings.images);
        }
        let ChosenPalette { palette, note } = settings.images.palette(&folder)?;
        let (originals, mut notes) = originals(&settings, &folder, &model, &palette, side)?;
        notes.extend(note);
        Ok(Self { device, settings, folder, model, parameters, palette, side, originals, notes })
    }

    /// The model's configuration.
    pub fn model(&self) -> &ModelConfig {
        self.model.config()
    }

    /// What people should know of the images to complete and their colours: what was passed over, which classes have none.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &Path {
        &self.folder
    }

    /// Width and height of an image, pixels.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Images that will be generated.
    pub fn generated(&self) -> usize {
        match self.settings.source {
            Source::Nothing => self.settings.count,
            _ => self.originals_count().saturating_mul(self.settings.completions),
        }
    }

    /// Columns and rows of the grid: a completion's row begins with the original and what the model sees of it.
    pub fn grid_extent(&self) -> (usize, usize) {
        match self.settings.source {
            Source::Nothing => (self.free_columns(), self.settings.count.div_ceil(self.free_columns())),
            _ => (self.settings.completions.saturating_add(2), self.originals_count()),
        }
    }

    fn originals_count(&self) -> usize {
        self.originals.len() / (self.side * self.side)
    }

    /// Columns of a grid of images from nothing.
    fn free_columns(&self) -> usize {
        self.settings.count.isqrt().max(1)
    }

    /// Generates; `progress` hears of every position done, of all images at once.
    ///
    /// # Errors
    /// Those of the device.
    pub fn run(&self, progress: impl FnMut(usize)) -> Result<Outcome> {
        let Settings { source, count, completions, options, seed, .. } = &self.settings;
        let generation = Generation { length: self.side * self.side, options: *options, seed: *seed, first: 0 };

        let (device, model, parameters, palette) = (self.device, &self.model, &self.parameters, &self.palette);
        let (grid, tokens) = match source {
            Source::Nothing => {
                let columns = self.free_columns();
                free_grid(device, model, parameters, palette, *count, self.side, columns, generation, progress)?
            }
            Source::Files(_) | Source::DataSet => {
                let originals = &self.originals;
                completion_grid(
                    device,
                    model,
                    parameters,
                    palette,
                    originals,
                    self.side,
                    *completions,
                    generation,
                    progress,
                )?
            }
        };
        Ok(Outcome { grid, tokens })
    }
}

/// Tokens of the images to complete, `[images, side²]`, and what people should know of them.
fn originals(
    settings: &Settings,
    folder: &Path,
    model: &Transformer,
    palette: &Palette,
    side: usize,
) -> Result<(Vec<u16>, Vec<String>)> {
    let length = side * side;

    match &settings.source {
        Source::Nothing => Ok(Default::default()),
        Source::DataSet => {
            let examples = settings.images.open(folder, model.config())?.examples;
            let tokens = examples.sequence_length();
            if tokens != length {
                return Err(SampleError::Length { tokens, length });
            }
            let tokens = tokens_of(examples.as_ref(), 0, settings.count.min(examples.len()))?;
            Ok((tokens, examples.notes()))
        }
        Source::Files(files) => {
            let mut tokens = vec![0; files.len() * length];
            for (file, tokens) in files.iter().zip(tokens.chunks_exact_mut(length)) {
                let (filter, alpha) =
                    (settings.images.filter.unwrap_or_default(), settings.images.alpha.unwrap_or_default());
                let image = open_image(file, side as u32, filter, alpha)?;
                palette.encode(&image, tokens)?;
            }
            Ok((tokens, Vec::new()))
        }
    }
}
