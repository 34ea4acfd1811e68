//! What `train` can be told: on the command line, in a TOML file, or left to defaults — one set of names for all three.
//!
//! Three layers are merged key by key, the later winning: defaults, `--config` (or, on `--resume`, the run's own
//! `config.toml`), flags. [`TrainArgs`] is one such layer, everything optional; [`TrainSettings`] is the merged result,
//! which is also what is written to the run folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use serde::{Deserialize, Serialize};

use crate::checkpoint::OrderSpec;
use crate::cli::common::named::named;
use crate::data::{DataSpec, Filter, SkipBad};
use crate::device::select::DeviceKind;
use crate::device::{Activation, Norm, Precision};
use crate::model::{MASK_RATE, Objective, Preset};
use crate::optim::ScheduleKind;
use crate::recipe::{Command, Recipe};

/// Whole numbers that TOML can hold, for `config.toml` keeps every setting.
pub fn whole<T: TryFrom<u64> + Clone + Send + Sync + 'static>() -> RangedU64ValueParser<T> {
    RangedU64ValueParser::new().range(0..=i64::MAX as u64)
}

/// One layer of settings; keys in TOML are the flags' names without the dashes in front.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TrainArgs {
    /// Images to train on: cifar10:DIR, cifar100:DIR, stl10:DIR, imagenet:DIR (train/WNID/*), imagenet-tar:DIR (the
    /// official tars), images:DIR (train/CLASS/*.jpg|png), tokens:FILE.npy[,LABELS.npy], shard:FILE, or sample
    /// (1,000 CIFAR-10 images in the binary) [default: sample]
    #[arg(long, value_name = "KIND:PATH", help_heading = "Data")]
    pub data: Option<DataSpec>,
    /// Colours to code images with, float32 [k, 3] in [-1, 1] [default: the built-in 512, fitted on CIFAR-10]
    #[arg(long, value_name = "FILE.npy", help_heading = "Data")]
    pub palette: Option<PathBuf>,
    /// Width and height that images are shrunk to; a sequence has its square in tokens
    /// [default: 32; 16 for the built-in sample]
    #[arg(long, value_name = "PIXELS", value_parser = whole::<usize>(), help_heading = "Data")]
    pub resolution: Option<usize>,
    /// How images are shrunk [default: bilinear]
    #[arg(long, value_name = "FILTER", value_parser = named::<Filter>(), help_heading = "Data")]
    pub filter: Option<Filter>,
    /// Share of the training images held out for validation [default: 0.1; 0.04 for images: and imagenet:, 0 for tokens:]
    #[arg(long, value_name = "FRACTION", help_heading = "Data")]
    pub holdout: Option<f64>,
    /// Leave out bad image files instead of stopping at the first; with =N, up to N of them. The next good one of its
    /// class stands in for each that fails on decoding
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "N",
          help_heading = "Data")]
    pub skip_bad: Option<SkipBad>,
    /// Take images in file order
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          help_heading = "Data")]
    pub no_shuffle: Option<bool>,
    /// Take images as they are: no random crops, no flips
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          help_heading = "Data")]
    pub no_augment: Option<bool>,

    /// Size of the model: tiny (4 layers × 128), s (24 × 512), m (36 × 1024), l (48 × 1536), xl (60 × 3072)
    /// [default: tiny]
    #[arg(long, value_name = "SIZE", help_heading = "Model")]
    pub model: Option<Preset>,
    /// Transformer blocks, in place of the size's own
    #[arg(long, value_name = "N", value_parser = whole::<usize>(), help_heading = "Model")]
    pub layers: Option<usize>,
    /// Width of the residual stream, in place of the size's own
    #[arg(long, value_name = "N", value_parser = whole::<usize>(), help_heading = "Model")]
    pub width: Option<usize>,
    /// Attention heads, in place of the size's own; must divide the width
    #[arg(long, value_name = "N", value_parser = whole::<usize>(), help_heading = "Model")]
    pub heads: Option<usize>,
    /// Normalisation: rms (the official code) or layer (the paper's text) [default: rms]
    #[arg(long, value_name = "NORM", help_heading = "Model")]
    pub norm: Option<Norm>,
    /// Activation: quick_gelu (the official code) or gelu (the paper's text) [default: quick_gelu]
    #[arg(long, value_name = "ACTIVATION", help_heading = "Model")]
    pub activation: Option<Activation>,
    /// Biases on linear layers (and on a `layer` norm); the official models have none
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          help_heading = "Model")]
    pub bias: Option<bool>,
    /// Order in which pixels are read: raster, columns, spiral (inwards), hilbert, or file:PERM.npy (integers, the pixel
    /// at each place counted in raster order) [default: raster, or that of --init]
    #[arg(long, value_name = "ORDER", help_heading = "Model")]
    pub order: Option<OrderSpec>,
    /// Start from the weights of a checkpoint, a run, or a Hugging Face ImageGPT folder; the model's shape comes with them
    #[arg(long, value_name = "DIR", help_heading = "Model")]
    pub init: Option<PathBuf>,

    /// What is learned: ar, the next pixel from those before it, or bert, masked pixels from all others [default: ar]
    #[arg(long, value_name = "OBJECTIVE", help_heading = "Optimisation")]
    pub objective: Option<Objective>,
    /// Share of the pixels that a BERT model must guess, each by itself with this probability [default: 0.15]
    #[arg(long, value_name = "FRACTION", allow_negative_numbers = true, help_heading = "Optimisation")]
    pub mask_rate: Option<f64>,
    /// Images a micro-batch [default: 16]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(), help_heading = "Optimisation")]
    pub batch: Option<usize>,
    /// Micro-batches a step: the gradient is that of batch × accumulate images [default: 1]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(), help_heading = "Optimisation")]
    pub accumulate: Option<usize>,
    /// Updates to make in all [default: 1000; 500 for the built-in sample]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(), help_heading = "Optimisation")]
    pub steps: Option<u64>,
    /// Highest learning rate [default: 0.003 for tiny, s and m (0.01 for s with bert), 0.001 for l, 0.0003 for xl]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, help_heading = "Optimisation")]
    pub lr: Option<f64>,
    /// Steps over which the rate rises from zero [default: a tenth of the steps]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(), help_heading = "Optimisation")]
    pub warmup: Option<u64>,
    /// After the warm-up: cosine (down to zero at the end) or constant [default: cosine]
    #[arg(long, value_name = "SCHEDULE", help_heading = "Optimisation")]
    pub schedule: Option<ScheduleKind>,
    /// Longest gradient (global norm) [default: no limit, as in the paper]
    #[arg(long, value_name = "NORM", help_heading = "Optimisation")]
    pub clip: Option<f32>,
    /// Seed of weights, order, augmentation and samples [default: 0]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(), help_heading = "Optimisation")]
    pub seed: Option<u64>,

    /// Run folder [default: runs/MODEL-NUMBER, the next free number]
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    pub out: Option<PathBuf>,
    /// Steps between validations; 0 for none [default: a tenth of the steps]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(), help_heading = "Run")]
    pub eval_every: Option<u64>,
    /// Validation images scored each time; 0 for all [default: 256]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(), help_heading = "Run")]
    pub eval_images: Option<usize>,
    /// Steps between grids of samples; 0 for none [default: a fifth of the steps]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(), help_heading = "Run")]
    pub sample_every: Option<u64>,
    /// Steps between checkpoints; 0 for the last step only [default: a tenth of the steps]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(), help_heading = "Run")]
    pub save_every: Option<u64>,
    /// Checkpoints kept, the latest ones [default: 3]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(), help_heading = "Run")]
    pub keep: Option<usize>,
    /// Where to compute: auto (the GPU if there is one that can be used), cpu, cuda, or cuda:N [default: auto]
    #[arg(long, value_name = "DEVICE", help_heading = "Run")]
    pub device: Option<DeviceKind>,
    /// How a GPU stores activations and the weights of products; master weights are f32 either way, as all is on the CPU
    /// [default: bf16]
    #[arg(long, value_name = "PRECISION", help_heading = "Run")]
    pub precision: Option<Precision>,
    /// Launch a GPU's kernels one by one instead of each step as a CUDA graph; the numbers are the same
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          help_heading = "Run")]
    pub no_graph: Option<bool>,
    /// Threads of the CPU device [default: all cores]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(), help_heading = "Run")]
    pub threads: Option<usize>,
    /// Threads that decode images ahead of the device; the images do not depend on it [default: one a core, shared]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(), help_heading = "Run")]
    pub workers: Option<usize>,
}

/// The merged layers: what a run does, to the last number. Written to `config.toml`, which `--config` reads back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs)] // each field is the flag of the same name
pub struct TrainSettings {
    pub data: DataSpec,
    pub palette: Option<PathBuf>,
    pub resolution: Option<usize>,
    pub filter: Filter,
    pub holdout: Option<f64>,
    pub skip_bad: SkipBad,
    pub no_shuffle: bool,
    pub no_augment: bool,
    pub model: Option<Preset>,
    pub layers: Option<usize>,
    pub width: Option<usize>,
    pub heads: Option<usize>,
    pub norm: Option<Norm>,
    pub activation: Option<Activation>,
    pub bias: Option<bool>,
    pub order: Option<OrderSpec>,
    pub init: Option<PathBuf>,
    pub objective: Objective,
    pub mask_rate: Option<f64>,
    pub batch: usize,
    pub accumulate: usize,
    pub steps: u64,
    pub lr: f64,
    pub warmup: u64,
    pub schedule: ScheduleKind,
    pub clip: Option<f32>,
    pub seed: u64,
    pub out: PathBuf,
    pub eval_every: u64,
    pub eval_images: usize,
    pub sample_every: u64,
    pub save_every: u64,
    pub keep: usize,
    pub device: DeviceKind,
    pub precision: Option<Precision>,
    // Runs of before there were graphs have no such key.
    #[serde(default)]
    pub no_graph: bool,
    pub threads: Option<usize>,
    pub workers: Option<usize>,
}

impl TrainArgs {
    /// Reads a layer from a file: the `config.toml` of a run, or a recipe, divided by `scale_down`.
    pub fn from_file(path: &Path, scale_down: u64) -> Result<Self> {
        let settings = Recipe::read(path)?.scaled_down(scale_down)?.settings_for(Command::Train)?;
        settings.try_into().with_context(|| {
            format!(
                "{} is not a training configuration (keys are the flags of `igpt-engine train --help`)",
                path.display()
            )
        })
    }

    /// This layer where it says something, `below` where it does not.
    pub fn over(self, below: Self) -> Result<Self> {
        let order = self.order.as_ref().and_then(OrderSpec::file).map(Path::to_owned);
        for (flag, path) in [("palette", &self.palette), ("init", &self.init), ("order", &order), ("out", &self.out)] {
            if let Some(path) = path.as_ref().filter(|path| path.to_str().is_none()) {
                bail!("--{flag} {}: paths must be UTF-8, for config.toml keeps them; rename the file", path.display());
            }
        }
        let mut merged = toml::Table::try_from(below)?;
        merged.extend(toml::Table::try_from(self)?);
        Ok(merged.try_into()?)
    }

    /// Fills what no layer said with defaults, some of which depend on what was said, and checks the numbers.
    pub fn resolve(self) -> Result<TrainSettings> {
        let sample = self.data.as_ref().is_none_or(|data| *data == DataSpec::Sample);
        let steps = self.steps.unwrap_or(if sample { 500 } else { 1000 });
        let objective = self.objective.unwrap_or_default();
        let lr = match (self.model.unwrap_or_default(), objective) {
            (Preset::S, Objective::Bert) => 0.01,
            (Preset::Tiny | Preset::S | Preset::M, _) => 0.003,
            (Preset::L, _) => 0.001,
            (Preset::Xl, _) => 0.0003,
        };
        let defaults = Self {
            data: Some(DataSpec::Sample),
            filter: Some(Filter::default()),
            skip_bad: Some(SkipBad::NONE),
            no_shuffle: Some(false),
            no_augment: Some(false),
            objective: Some(objective),
            mask_rate: (objective == Objective::Bert).then_some(MASK_RATE),
            batch: Some(16),
            accumulate: Some(1),
            steps: Some(steps),
            lr: Some(lr),
            warmup: Some(steps / 10),
            schedule: Some(ScheduleKind::default()),
            seed: Some(0),
            out: Some(match &self.out {
                Some(out) => out.clone(),
                None => {
                    let model = format!("{:?}", self.model.unwrap_or_default()).to_lowercase();
                    next_free_run(&model, Path::new("runs"))?
                }
            }),
            eval_every: Some(steps.div_ceil(10)),
            eval_images: Some(256),
            sample_every: Some(steps.div_ceil(5)),
            save_every: Some(steps.div_ceil(10)),
            keep: Some(3),
            device: Some(DeviceKind::default()),
            no_graph: Some(false),
            ..Self::default()
        };
        let settings: TrainSettings = toml::Table::try_from(self.over(defaults)?)?.try_into()?;
        settings.check()?;
        Ok(settings)
    }
}

/// Largest `--batch` and `--accumulate`.
const MOST_IMAGES: usize = 1 << 16;
/// Largest `--resolution`: its square is the longest sequence that a model takes.
const MOST_PIXELS: usize = 256;

impl TrainSettings {
    /// Checks what only one of the objectives has.
    pub fn check_masks(&self) -> Result<()> {
        match (self.objective, self.mask_rate) {
            (Objective::Ar, Some(_)) => {
                bail!("--mask-rate is for BERT models; an autoregressive one masks nothing, so leave it out")
            }
            (Objective::Bert, Some(rate)) if !(rate > 0.0 && rate <= 1.0) => {
                bail!("--mask-rate {rate} must be above 0 and at most 1; the paper masks 0.15 of the pixels")
            }
            _ => {}
        }
        if self.objective == Objective::Bert && self.order.as_ref().is_some_and(|order| *order != OrderSpec::Raster) {
            bail!("--order is for autoregressive models; a BERT model sees all pixels at once, so leave it out");
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        for (flag, value, most) in
            [("--batch", self.batch, MOST_IMAGES), ("--accumulate", self.accumulate, MOST_IMAGES)]
        {
            if value == 0 || value > most {
                bail!("{flag} is {value}; it must be from 1 to {most}");
            }
        }
        if self.resolution.is_some_and(|side| side == 0 || side > MOST_PIXELS) {
            bail!("--resolution must be from 1 to {MOST_PIXELS}; the paper uses 32, 48 and 64");
        }
        if self.steps == 0 {
            bail!("--steps must be at least 1");
        }
        if !((self.lr as f32).is_finite() && self.lr >= 0.0) {
            bail!("--lr {} is no learning rate; the paper uses 0.0003 to 0.01", self.lr);
        }
        self.check_masks()?;
        if self.clip.is_some_and(|clip| !(clip > 0.0 && clip.is_finite())) {
            bail!("--clip must be above 0; leave it out for no limit");
        }
        if self.holdout.is_some_and(|share| !(0.0..1.0).contains(&share)) {
            bail!("--holdout must be at least 0 and below 1");
        }
        if self.keep == 0 {
            bail!("--keep 0 would keep no checkpoint; the last one is always kept, so give 1 or more");
        }
        Ok(())
    }
}

/// `runs/NAME-001`, or the first number after it that no folder has.
pub fn next_free_run(name: &str, parent: &Path) -> Result<PathBuf> {
    (1..10_000)
        .map(|number| parent.join(format!("{name}-{number:03}")))
        .find(|path| !path.exists())
        .with_context(|| format!("{} is full; name a folder with --out", parent.display()))
}
