//! A run that this machine can make in reasonable time, as a configuration to begin with.
//!
//! Sizes are the largest of the paper's whose memory fits and whose time stays below a limit, both by the figures that `plan`
//! prints. On the CPU the speed is that of a GEMM measured here; of a card it is a share of its data sheet.

use std::sync::Arc;

use super::machine::{Machine, host_memory};
use super::memory::Work;
use super::taken::Load;
use super::{USABLE, limits, recognised};
use crate::data::{self, DataError, DataSpec, OpenOptions, Palette, Split};
use crate::device::{self, Device, Precision};
use crate::model::{ModelConfig, Objective, Preset};
use crate::named::Named;
use crate::report::html::grouped;

/// Share of a card's published peak that is counted on, as `plan` does.
const OF_PEAK: f64 = 0.4;
/// Share of a GEMM's rate that a step on the CPU reaches: between what the small and the large models do.
const OF_GEMM: f64 = 0.7;
/// Times that a run sees every image.
const EPOCHS: u64 = 30;
/// Sizes, from the largest, and the images of an update.
const SIZES: [(Preset, u64); 4] = [(Preset::L, 128), (Preset::M, 128), (Preset::S, 128), (Preset::Tiny, 16)];
/// Width and height of images, pixels.
const RESOLUTION: usize = 32;

/// Why nothing can be suggested.
#[derive(Debug, thiserror::Error)]
pub enum SuggestionError {
    /// The images cannot be opened.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The processor's speed could not be measured.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// Not even the smallest model fits.
    #[error(
        "the tiny model with one image at a time needs {needed:.1} GiB of memory and there are {available:.1} GiB; free some"
    )]
    TooSmall {
        /// GiB that it needs.
        needed: f64,
        /// GiB that there are.
        available: f64,
    },
}

/// A run that fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Suggestion {
    /// Its images.
    pub data: DataSpec,
    /// How many there are to train on, those held out apart.
    pub images: usize,
    /// Their classes; 0 where they have none.
    pub classes: usize,
    /// The size of the model.
    pub model: Preset,
    /// Its learning rate.
    pub learning_rate: f64,
    /// Images per micro-batch.
    pub batch: usize,
    /// Micro-batches per update.
    pub accumulate: usize,
    /// Updates.
    pub steps: u64,
    /// Bytes that it takes.
    pub memory: f64,
    /// Bytes that there are.
    pub available: f64,
    /// Hours that it takes, by the figures above; `None` on a card whose data sheet is not known.
    pub hours: Option<f64>,
    /// The device in words.
    pub device: String,
}

/// The most images at a time, of `per_update` halved again and again, that `available` bytes hold, and what they take; one image
/// if not even that fits.
fn largest_batch<D: Device>(
    device: &D,
    config: &ModelConfig,
    precision: Precision,
    per_update: usize,
    available: f64,
) -> (usize, f64) {
    let memory = |images: usize| {
        let (work, length) = (Work::Training, config.positions);
        let load = Load::new(config, work, images, length, precision);
        limits::memory_on(device, load).total()
    };
    let mut batch = per_update;
    loop {
        let bytes = memory(batch);
        if bytes <= available || batch == 1 {
            return (batch, bytes);
        }
        batch /= 2;
    }
}

impl Suggestion {
    /// A run on `device` of at most `hours` hours on the images of `data`.
    ///
    /// # Errors
    /// [`SuggestionError`].
    pub fn of<D: Device>(
        device: &D,
        precision: Precision,
        data: &DataSpec,
        hours: f64,
    ) -> Result<Self, SuggestionError> {
        let options = OpenOptions { progress: false, ..OpenOptions::new(Arc::new(Palette::built_in()?)) };
        let train = data::open(data, Split::Train, &options)?;
        let classes = if train.label(0).is_some() { train.classes() } else { 0 };

        // What there is: memory and FLOP/s.
        let own = device.own_memory().map(|bytes| bytes as f64);
        let available = own.unwrap_or_else(|| host_memory().reachable()) * USABLE;
        let speed = match own {
            Some(_) => recognised(&device.describe()).map(|model| OF_PEAK * model.peak(precision).1),
            None => Machine::inspect()?.gemm_flops.map(|flops| OF_GEMM * flops),
        };

        let mut least = 0.0;
        for (model, per_update) in SIZES {
            let config = ModelConfig::preset(model, RESOLUTION);
            let steps = (EPOCHS * train.len() as u64).div_ceil(per_update).clamp(1_000, 1_000_000);
            let update =
                config.training_flops_per_token(config.positions) * (per_update as usize * config.positions) as f64;
            let time = |steps: u64| speed.map(|speed| steps as f64 * update / speed / 3600.0);

            // A card that nobody knows is trusted with the small model at most.
            let slow = time(steps).map_or(matches!(model, Preset::L | Preset::M), |needed| needed > hours);
            if slow && model != Preset::Tiny {
                continue;
            }
            let (batch, memory) = largest_batch(device, &config, precision, per_update as usize, available);
            if memory > available {
                least = memory;
                continue;
            }

            // The smallest takes fewer steps where its time is up.
            let fewer = time(1).map_or(steps, |step| (hours / step) as u64).max(1_000);
            let steps = steps.min(fewer);
            return Ok(Self {
                data: data.clone(),
                images: train.len(),
                classes,
                model,
                learning_rate: model.learning_rate(Objective::Ar),
                batch,
                accumulate: per_update as usize / batch,
                steps,
                memory,
                available,
                hours: time(steps),
                device: device.describe(),
            });
        }
        let gib = (1_u64 << 30) as f64;
        Err(SuggestionError::TooSmall { needed: least / gib, available: available / gib })
    }

    /// The configuration, TOML; `file` is what it will be called.
    pub fn config(&self, file: &str) -> String {
        [self.heading(file), self.of_images(), self.of_model()].concat()
    }

    /// What the run is, and what to do with the file.
    fn heading(&self, file: &str) -> String {
        let Self { images, memory, available, .. } = self;
        let gib = |bytes: &f64| bytes / (1_u64 << 30) as f64;
        let model = self.model.name();
        let time = self.hours.map_or("an unknown time".to_owned(), |hours| {
            if hours < 1.0 { format!("about {:.0} minutes", 60.0 * hours) } else { format!("about {hours:.0} hours") }
        });
        let kinds = if self.classes > 0 { format!(" of {} classes", self.classes) } else { String::new() };
        let data = self.data_in_comment();
        format!(
            "# A run on {} training images{kinds}, written by `igpt-engine new` for {}:\n\
             # {:.1} GiB of {:.1} GiB of memory, {time}.\n\
             #\n\
             #   igpt-engine data info {data} --verify               every image looked at before a long run\n\
             #   igpt-engine plan --config {file}                    what it costs, here and on cards\n\
             #   igpt-engine train --config {file}                   begins it, in runs/{model}-NUMBER\n\
             #   igpt-engine train --resume --out runs/{model}-NUMBER   goes on after a stop\n\
             #\n\
             # Every key is a flag of `igpt-engine train --help`; flags on the command line win over this file.\n\n\
             command = \"train\"\n\n",
            grouped(*images as u64),
            self.device,
            gib(memory),
            gib(available),
        )
    }

    /// The keys that decide the images.
    fn of_images(&self) -> String {
        let (quoted, data) = (toml::Value::String(self.data.to_string()), self.data_in_comment());
        format!(
            "# The images. Folders below train/ are classes; test/ is used if it is there.\n\
             data = {quoted}\n\
             # Width and height that they are shrunk to. Cost grows with the square; 48 and 64 are the paper's larger ones.\n\
             resolution = {RESOLUTION}\n\
             # Part of the training images that is held out, to see whether the model learns or memorises.\n\
             holdout = 0.04\n\
             # Random crops and flips. Switch them off for text, maps, or what must not be mirrored.\n\
             no-augment = false\n\
             # What becomes of transparency: drop for photographs, white or black for drawings and logos.\n\
             alpha = \"drop\"\n\
             # Colours of your own, for other things than photographs: first\n\
             #   igpt-engine data palette --data {data} --out palette.npy\n\
             # palette = \"palette.npy\"\n\n"
        )
    }

    /// The keys of the model and of its training.
    fn of_model(&self) -> String {
        let Self { batch, accumulate, steps, .. } = self;
        let model = self.model.name();
        format!(
            "# The model: tiny, s, m, l or xl. Larger ones learn more from the same images, and take longer.\n\
             model = \"{model}\"\n\n\
             # Images at a time, and how many times before each update: their product is what the model sees of one update.\n\
             # If memory is short, halve the first and double the second; the result is the same.\n\
             batch = {batch}\n\
             accumulate = {accumulate}\n\
             # Updates. {EPOCHS} looks at every image, or what the time allows.\n\
             steps = {steps}\n\
             lr = {}\n\
             # Down to zero at the end. With wsd the rate stays up, and you say later where the run ends.\n\
             schedule = \"cosine\"\n\
             # A moving average of the weights, which often scores and draws better (eval --ema, sample --ema):\n\
             # ema = 0.999\n\n\
             # How often to score the held-out images, to draw, and to save.\n\
             eval-every = {every}\n\
             sample-every = {every}\n\
             save-every = {every}\n\
             seed = 0\n",
            self.learning_rate,
            every = steps.div_ceil(20),
        )
    }

    /// The images, where a line end in a name would end the comment.
    fn data_in_comment(&self) -> String {
        self.data.to_string().replace(char::is_control, "?")
    }
}
