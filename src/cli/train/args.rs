//! The settings of `train`: on the command line, in a TOML file, or left to defaults — one set of names for all three.
//!
//! Three layers are merged key by key, the later winning: defaults, `--config` (or, on `--resume`, the run's own
//! `config.toml`), flags. [`TrainArgs`] is one such layer, everything optional and with its help text; the merged
//! result is the library's [`Settings`], where nothing is optional that a run must know. Both list the same names,
//! since each says of a setting what the other cannot: what the user reads of it, and what it is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use serde::{Deserialize, Serialize};

use super::layers::Layer;
use crate::checkpoint::OrderSpec;
use crate::cli::common::named::named;
use crate::cli::common::unused::refuse_given;
use crate::comm::Reduction;
use crate::data::{Alpha, DataSpec, Filter, SkipBad};
use crate::device::select::DeviceKind;
use crate::device::{Activation, Norm, Precision};
use crate::model::{Objective, Preset};
use crate::optim::ScheduleKind;
use crate::recipe::{Command, Recipe};
use crate::tape::Recompute;
use crate::train::Settings;

/// Whole numbers that TOML can hold, for `config.toml` keeps every setting.
pub fn whole<T: TryFrom<u64> + Clone + Send + Sync + 'static>() -> RangedU64ValueParser<T> {
    RangedU64ValueParser::new().range(0..=i64::MAX as u64)
}

/// One layer of settings; keys in TOML are the flags' names without the dashes in front.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TrainArgs {
    /// Images to train on: cifar10:DIR, cifar100:DIR, stl10:DIR, imagenet:DIR (train/WNID/*), imagenet-tar:DIR (the
    /// official tars), images:DIR (train/CLASS/*.jpg|png), tokens:FILE.npy[,LABELS.npy] (or arrays of archives,
    /// FILE.npz:NAME), shard:FILE, or sample (1,000 CIFAR-10 images in the binary) [default: sample]
    #[arg(long, value_name = "KIND:PATH", help_heading = "Data")]
    pub data: Option<DataSpec>,
    /// Colours to quantise images to, float32 [k, 3] in [-1, 1] [default: the built-in 512, fitted on CIFAR-10]
    #[arg(long, value_name = "FILE.npy", help_heading = "Data")]
    pub palette: Option<PathBuf>,
    /// Width and height that images are shrunk to; a sequence has its square in tokens
    /// [default: 32; 16 for the built-in sample]
    #[arg(long, value_name = "PIXELS", value_parser = whole::<usize>(), help_heading = "Data")]
    pub resolution: Option<usize>,
    /// How images are shrunk [default: bilinear]
    #[arg(long, value_name = "FILTER", value_parser = named::<Filter>(), help_heading = "Data")]
    pub filter: Option<Filter>,
    /// Fraction of the training images held out for validation [default: 0.1; 0.04 for images: and imagenet:, 0 for
    /// tokens:]
    #[arg(long, value_name = "FRACTION", help_heading = "Data")]
    pub holdout: Option<f64>,
    /// Leave out bad image files instead of stopping at the first; with =N, up to N of them. The next good one of its
    /// class stands in for each that fails on decoding
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "N",
          help_heading = "Data")]
    pub skip_bad: Option<SkipBad>,
    /// What becomes of the alpha of image files: drop (the colours as stored), or lay the picture over white or black
    /// [default: drop]
    #[arg(long, value_name = "ALPHA", value_parser = named::<Alpha>(), help_heading = "Data")]
    pub alpha: Option<Alpha>,
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
    #[arg(long, value_parser = named::<Preset>(), value_name = "SIZE", help_heading = "Model")]
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
    #[arg(long, value_parser = named::<Norm>(), value_name = "NORM", help_heading = "Model")]
    pub norm: Option<Norm>,
    /// Activation: quick_gelu (the official code) or gelu (the paper's text) [default: quick_gelu]
    #[arg(long, value_parser = named::<Activation>(), value_name = "ACTIVATION", help_heading = "Model")]
    pub activation: Option<Activation>,
    /// Biases on linear layers (and on a `layer` norm); the official models have none
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          help_heading = "Model")]
    pub bias: Option<bool>,
    /// Order in which pixels are read: raster, columns, spiral (inwards), hilbert, or file:PERM.npy (integers, the
    /// pixel at each position counted in raster order) [default: raster, or that of --init]
    #[arg(long, value_name = "ORDER", help_heading = "Model")]
    pub order: Option<OrderSpec>,
    /// Start from the weights of a checkpoint, a run, or a Hugging Face ImageGPT folder; the model's shape comes with
    /// them
    #[arg(long, value_name = "DIR", help_heading = "Model")]
    pub init: Option<PathBuf>,

    /// What is learned: ar, the next pixel from those before it, or bert, masked pixels from all others [default: ar]
    #[arg(long, value_parser = named::<Objective>(), value_name = "OBJECTIVE", help_heading = "Optimisation")]
    pub objective: Option<Objective>,
    /// Fraction of the pixels that a BERT model must guess, each by itself with this probability [default: 0.15]
    #[arg(long, value_name = "FRACTION", allow_negative_numbers = true, help_heading = "Optimisation")]
    pub mask_rate: Option<f64>,
    /// Images per micro-batch [default: 16]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(), help_heading = "Optimisation")]
    pub batch: Option<usize>,
    /// Micro-batches per step, of all ranks together: the gradient is that of batch × accumulate images [default: 1]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(), help_heading = "Optimisation")]
    pub accumulate: Option<usize>,
    /// Images per step, of all ranks together; --accumulate follows [default: batch × accumulate]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(), help_heading = "Optimisation")]
    pub global_batch: Option<usize>,
    /// How the gradients of micro-batches and ranks are added up: fast (the library's choice), repeatable (the same bits on as many
    /// ranks), exact (the same bits on any number of ranks; more traffic and memory) [default: repeatable]
    #[arg(long, value_parser = named::<Reduction>(), value_name = "REDUCTION", help_heading = "Optimisation")]
    pub reduction: Option<Reduction>,
    /// What several ranks share out among them: 0, nothing, each has all; 1, Adam's moments and the master weights; 2, gradients too.
    /// Levels 0 and 1 cost the same traffic; 2 sends gradients after every micro-batch [default: 1 with several ranks]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(0..=2), help_heading = "Optimisation")]
    pub zero: Option<u8>,
    /// Keep Adam's moments and the master weights in the host's memory, page-locked, where a GPU reads and writes them over the bus in each
    /// update: 12 bytes per parameter less on the card, or as many fewer as ranks share out, for as many over the bus in both
    /// directions. The numbers are the same, and --resume may change it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          help_heading = "Optimisation")]
    pub offload_optimizer: Option<bool>,
    /// Memory for time: what is computed again in the backward pass instead of being kept. Of a block none keeps 12 d values a
    /// token (d the width), norms 10 d at next to no time, norms-mlp 6 d for a tenth more FLOPs, block 1 d for a third more. The
    /// numbers are the same, and --resume may change it [default: none]
    #[arg(long, value_parser = named::<Recompute>(), value_name = "WHAT", help_heading = "Optimisation")]
    pub recompute: Option<Recompute>,
    /// Updates to make in all [default: 1000; 500 for the built-in sample]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(), help_heading = "Optimisation")]
    pub steps: Option<u64>,
    /// Highest learning rate [default: 0.003 for tiny, s and m (0.01 for s with bert), 0.001 for l, 0.0003 for xl]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, help_heading = "Optimisation")]
    pub lr: Option<f64>,
    /// Steps over which the rate rises from zero [default: a tenth of the steps]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(), help_heading = "Optimisation")]
    pub warmup: Option<u64>,
    /// After the warm-up: cosine or linear (down to zero at the end), wsd (stable, then a cool-down along a line),
    /// wsd-sqrt (a cool-down along 1 − √x), or constant [default: cosine]
    #[arg(long, value_parser = named::<ScheduleKind>(), value_name = "SCHEDULE", help_heading = "Optimisation")]
    pub schedule: Option<ScheduleKind>,
    /// Steps of the cool-down that ends wsd and wsd-sqrt; on --resume it may be moved, with --steps, to any step that was
    /// not made yet [default: a fifth of the steps]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(), help_heading = "Optimisation")]
    pub cooldown: Option<u64>,
    /// Keep a moving average of the weights too, from step to step average ← DECAY · average + (1 − DECAY) · weights, for --ema
    /// of eval, sample and probe; about 1 / (1 − DECAY) steps count, so 0.999 is for some thousand steps, 0.9999 for many more.
    /// Takes as much memory as the weights [default: none]
    #[arg(long, value_name = "DECAY", allow_negative_numbers = true, help_heading = "Optimisation")]
    pub ema: Option<f64>,
    /// Clip the gradient to this global norm [default: no clipping, as in the paper]
    #[arg(long, value_name = "NORM", help_heading = "Optimisation")]
    pub clip: Option<f32>,
    /// End the run after so many steps in a row whose loss or gradient is not finite; each of them is skipped, weights and moments
    /// stay as they were [default: 10]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(), help_heading = "Optimisation")]
    pub max_skipped: Option<u64>,
    /// Skip spikes: steps whose loss or gradient norm is more than so many standard deviations above the mean of the last 128 (an
    /// exponential window) are skipped like those that are not finite; 6 is a good number [default: none are]
    #[arg(long, value_name = "SIGMAS", help_heading = "Optimisation")]
    pub skip_spikes: Option<f32>,
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
    /// Validation images scored at a time; halved, with a note, where memory ends (a GPU's while it runs, any at the start)
    /// [default: --batch]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(), help_heading = "Run")]
    pub eval_batch: Option<usize>,
    /// Steps between grids of samples; 0 for none [default: a fifth of the steps]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(), help_heading = "Run")]
    pub sample_every: Option<u64>,
    /// Steps between checkpoints; 0 for the last step only [default: a tenth of the steps]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(), help_heading = "Run")]
    pub save_every: Option<u64>,
    /// Checkpoints kept, the latest ones [default: 3]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(), help_heading = "Run")]
    pub keep: Option<usize>,
    /// Stand still while a checkpoint is written. Otherwise it is copied to memory of the host (12 bytes per parameter, 16 with --ema,
    /// divided by the ranks) and written while training goes on; where there is not so much memory, training stands still too
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          help_heading = "Run")]
    pub sync_checkpoints: Option<bool>,
    /// Write no event file for TensorBoard
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          help_heading = "Run")]
    pub no_tensorboard: Option<bool>,
    /// Where to compute: auto (the GPU if there is one that can be used), cpu, cuda, or cuda:N [default: auto]
    #[arg(long, value_name = "DEVICE", help_heading = "Run")]
    pub device: Option<DeviceKind>,
    /// How a GPU stores activations and the matmul weights; master weights are f32 either way, as all is on the CPU
    /// [default: bf16]
    #[arg(long, value_parser = named::<Precision>(), value_name = "PRECISION", help_heading = "Run")]
    pub precision: Option<Precision>,
    /// Launch a GPU's kernels one by one instead of each step as a CUDA graph; the numbers are the same
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          help_heading = "Run")]
    pub no_graph: Option<bool>,
    /// Exchange gradients and weights with other GPUs one after the other with what is computed, not beside it; the numbers are the same
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          help_heading = "Run")]
    pub no_overlap: Option<bool>,
    /// Threads of the CPU device [default: all cores]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(), help_heading = "Run")]
    pub threads: Option<usize>,
    /// Threads that decode images ahead of the device, up to one per core; the images do not depend on it [default: one per core, shared]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(), help_heading = "Run")]
    pub workers: Option<usize>,
}

impl TrainArgs {
    /// Refuses paths that `config.toml` cannot keep.
    pub fn check_paths(&self) -> Result<()> {
        let order = self.order.as_ref().and_then(OrderSpec::file).map(Path::to_owned);
        for (flag, path) in [("palette", &self.palette), ("init", &self.init), ("order", &order), ("out", &self.out)] {
            if let Some(path) = path.as_ref().filter(|path| path.to_str().is_none()) {
                bail!("--{flag} {}: paths must be UTF-8, for config.toml keeps them; rename the file", path.display());
            }
        }
        Ok(())
    }
}

impl Layer for TrainArgs {
    fn from_file(path: &Path, scale_down: u64) -> Result<Self> {
        let settings = Recipe::read(path)?.scaled_down(scale_down)?.settings_for(Command::Train)?;
        settings.try_into().with_context(|| {
            format!(
                "{} is not a training configuration (keys are the flags of `igpt-engine train --help`)",
                path.display()
            )
        })
    }

    fn over(self, below: Self) -> Result<Self> {
        self.check_paths()?;
        let mut merged = toml::Table::try_from(below)?;
        merged.extend(toml::Table::try_from(self)?);
        Ok(merged.try_into()?)
    }

    fn check_used(&self, settings: &Settings) -> Result<()> {
        let data = &settings.data;
        if data.is_tokens() {
            refuse_given(
                &format!("with {data}, which holds tokens and not images"),
                &[
                    ("filter", self.filter.is_some()),
                    ("alpha", self.alpha.is_some()),
                    ("skip-bad", self.skip_bad.is_some()),
                    ("no-augment", self.no_augment.is_some()),
                    ("holdout", self.holdout.is_some_and(|fraction| fraction > 0.0)),
                ],
            )?;
        }
        let draws = settings.objective == Objective::Ar || settings.fine_tuning.is_some();
        let sampled = self.sample_every.is_some_and(|steps| steps > 0);
        refuse_given("with a BERT model, which draws no images", &[("sample-every", !draws && sampled)])
    }

    fn resolve(self) -> Result<Settings> {
        self.check_paths()?;
        Ok(Settings::complete(toml::Table::try_from(self)?)?)
    }

    fn out(&mut self) -> &mut Option<PathBuf> {
        &mut self.out
    }
}
