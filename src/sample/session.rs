//! Completing images with a checkpoint, or generating them from nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::SampleError;
use super::generation::{AskedClass, Generation, Guidance};
use super::grid::{Grid, completion_grid, free_grid};
use crate::checkpoint;
use crate::checkpoint::images::{ChosenPalette, ImageSelection, resolution_of};
use crate::checkpoint::weights::{average_id, weights_id};
use crate::data::{DataSpec, Palette, open_image, tokens_of};
use crate::device::{ARITHMETIC, Device, Precision, SampleOptions};
use crate::model::{ModelConfig, Transformer};
use crate::named::Named;
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

/// A class that images are to be of, as a person names it.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassWanted {
    /// Its name, its number, or [`ClassWanted::EACH`].
    pub class: String,
    /// See [`Guidance::strength`].
    pub strength: f64,
    /// See [`Guidance::particles`].
    pub particles: usize,
}

impl ClassWanted {
    /// All classes, one after the other.
    pub const EACH: &'static str = "each";

    /// What it means to a model with these classes.
    ///
    /// # Errors
    /// [`SampleError::NoClasses`], [`SampleError::UnknownClass`].
    fn resolve(&self, classes: &[String]) -> Result<Guidance> {
        if classes.is_empty() {
            return Err(SampleError::NoClasses);
        }
        let named = classes.iter().position(|name| *name == self.class);
        let numbered = || self.class.parse().ok().filter(|class: &usize| *class < classes.len());
        let class = match named.or_else(numbered).map(u16::try_from) {
            Some(Ok(class)) => AskedClass::One(class),
            None if self.class == Self::EACH => AskedClass::Each(classes.len().try_into().unwrap_or(u16::MAX)),
            _ => {
                let known = classes.iter().take(20).map(String::as_str).collect::<Vec<_>>().join(", ");
                return Err(SampleError::UnknownClass { given: self.class.clone(), known, count: classes.len() });
            }
        };
        Ok(Guidance { class, strength: self.strength, particles: self.particles })
    }
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
    /// The class that images are to be of, of a fine-tuned model.
    pub class: Option<ClassWanted>,
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
            class: None,
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
    guidance: Option<Guidance>,
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

        let classes = &model.config().classes;
        let guidance = settings.class.as_ref().map(|wanted| wanted.resolve(classes)).transpose()?;

        // What is left open is as in the run.
        if let Some(run) = TrainedOn::of(&settings.checkpoint)? {
            settings.images = run.complete(&settings.images);
        }
        let ChosenPalette { palette, note } = settings.images.palette(&folder)?;
        let (originals, mut notes) = originals(&settings, &folder, &model, &palette, side)?;
        notes.extend(note);
        model.prepare_decoding(device, &parameters)?;
        Ok(Self { device, settings, folder, model, parameters, palette, guidance, side, originals, notes })
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

    /// Tokens of an image.
    pub fn length(&self) -> usize {
        self.side * self.side
    }

    /// Images that will be generated.
    pub fn generated(&self) -> usize {
        match self.settings.source {
            Source::Nothing => self.settings.count,
            _ => self.originals_count().saturating_mul(self.settings.completions),
        }
    }

    /// Sequences that are drawn for each image: its particles, of guided ones.
    pub fn sequences_per_image(&self) -> usize {
        self.guidance.filter(Guidance::acts).map_or(1, |guidance| guidance.particles)
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
        let Settings { source, count, completions, .. } = &self.settings;
        let generation = self.generation();

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
                    usize::MAX,
                    generation,
                    progress,
                )?
            }
        };
        Ok(Outcome { grid, tokens })
    }

    /// How images are generated, from the first on.
    pub(super) fn generation(&self) -> Generation {
        let Settings { options, seed, .. } = self.settings;
        Generation { length: self.length(), options, seed, first: 0, guidance: self.guidance }
    }

    /// What generates: device, model, weights.
    pub(super) fn parts(&self) -> (&'a D, &Transformer, &Parameters<D>) {
        (self.device, &self.model, &self.parameters)
    }

    /// The class asked for of each image by its number, if one was.
    pub(super) fn class_of(&self) -> Option<impl Fn(usize) -> u16> {
        self.guidance.map(|guidance| move |image| guidance.class.of(image as u64))
    }

    pub(super) fn palette(&self) -> &Palette {
        &self.palette
    }

    /// Everything but numbers of images that decides the bits of what is drawn from nothing: what people call it, and its value.
    pub(super) fn origin(&self, precision: Precision) -> Result<Vec<(String, String)>> {
        let Settings { ema, options, seed, class, .. } = &self.settings;
        let SampleOptions { temperature, top_k, top_p } = options;
        let weights = if *ema { average_id(&self.folder)? } else { weights_id(&self.folder)? };
        let engine = format!("version {}, arithmetic {ARITHMETIC}", env!("CARGO_PKG_VERSION"));

        // Other builds, processors and generations of cards add up in another order.
        let device = match self.device.own_memory() {
            None => format!("cpu, {}", self.device.arithmetic()),
            Some(_) => format!("cuda in {}, {}", precision.name(), self.device.arithmetic()),
        };

        let all = |limit: Option<String>| limit.unwrap_or_else(|| "all".to_owned());
        let origin = [
            ("the SHA-256 of the weights", weights),
            ("the palette", self.palette.id()),
            ("the engine", engine),
            ("the device", device),
            ("--sample-seed", seed.to_string()),
            ("--temperature", temperature.to_string()),
            ("--top-k", all(top_k.map(|top_k| top_k.to_string()))),
            ("--top-p", all(top_p.map(|top_p| top_p.to_string()))),
        ];

        // Of guided drawings, what guides them.
        let guided = class.iter().flat_map(|wanted| {
            let ClassWanted { class, strength, particles } = wanted;
            [("--class", class.clone()), ("--guidance", strength.to_string()), ("--particles", particles.to_string())]
        });
        Ok(origin.into_iter().chain(guided).map(|(name, value)| (name.to_owned(), value)).collect())
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
