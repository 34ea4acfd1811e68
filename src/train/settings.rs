//! All settings of a training run: what `config.toml` holds.
//!
//! The command line reads flags and files into layers with gaps; [`Settings::complete`] fills the gaps, checks the
//! numbers, and is the one place that knows the defaults.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::fine_tuning::{DECIDED, FineTuning};
use super::settings_error::{Result, SettingsError};
use super::settings_layers::{DEFAULT_BATCH, Known, entry, merged, over, take_global_batch};
use crate::checkpoint::OrderSpec;
use crate::comm::Reduction;
use crate::data::{Alpha, DataSpec, Filter, SkipBad};
use crate::device::select::DeviceKind;
use crate::device::{Activation, Norm, Precision};
use crate::model::{MASK_RATE, Objective, Preset};
use crate::optim::ScheduleKind;
use crate::run::folder::RunFolder;
use crate::tape::Recompute;

/// All settings of a run. Keys in TOML are the flags' names without the dashes in front.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Images to train on.
    pub data: DataSpec,
    /// File of the palette, `[k, 3]` in `[-1, 1]`; the initial checkpoint's or the built-in one if `None`.
    pub palette: Option<PathBuf>,
    /// Width and height in pixels that images are shrunk to.
    pub resolution: Option<usize>,
    /// How they are shrunk.
    pub filter: Filter,
    /// Fraction of the training images that is held out for validation; the data set's own if `None`.
    pub holdout: Option<f64>,
    /// How many bad image files are passed over.
    pub skip_bad: SkipBad,
    /// What becomes of the alpha of image files. Absent in config.toml files older than it.
    #[serde(default)]
    pub alpha: Alpha,
    /// Take images in file order.
    pub no_shuffle: bool,
    /// Take images as they are, without crops and flips.
    pub no_augment: bool,
    /// Named size of the model.
    pub model: Option<Preset>,
    /// Transformer blocks, in place of the size's own.
    pub layers: Option<usize>,
    /// Width of the residual stream, in place of the size's own.
    pub width: Option<usize>,
    /// Attention heads, in place of the size's own.
    pub heads: Option<usize>,
    /// Normalisation.
    pub norm: Option<Norm>,
    /// Activation of the MLP.
    pub activation: Option<Activation>,
    /// Whether linear layers have biases.
    pub bias: Option<bool>,
    /// Order in which pixels are read.
    pub order: Option<OrderSpec>,
    /// Checkpoint, run or Hugging Face folder to start from.
    pub init: Option<PathBuf>,
    /// What is learned.
    pub objective: Objective,
    /// Fraction of the pixels that a BERT model must guess.
    pub mask_rate: Option<f64>,
    /// Images per micro-batch.
    pub batch: usize,
    /// Micro-batches per step, of all ranks together.
    pub accumulate: usize,
    /// How the gradients of micro-batches and ranks are added up. Absent in config.toml files older than it.
    #[serde(default)]
    pub reduction: Reduction,
    /// What ranks share out among them instead of each having all of it: 0 nothing, 1 moments and master weights, 2 gradients too.
    /// Chosen by the number of ranks if `None`.
    pub zero: Option<u8>,
    /// Whether moments and master weights lie in the host's memory. Absent in config.toml files older than it.
    #[serde(default)]
    pub offload_optimizer: bool,
    /// How much of the forward pass is computed again in the backward pass. Absent in config.toml files older than it.
    #[serde(default)]
    pub recompute: Recompute,
    /// Updates in all.
    pub steps: u64,
    /// Peak learning rate.
    pub lr: f64,
    /// Steps over which the rate rises from zero.
    pub warmup: u64,
    /// What the rate does after the warm-up.
    pub schedule: ScheduleKind,
    /// Steps of the cool-down at the end; `None` for schedules that have none.
    pub cooldown: Option<u64>,
    /// Decay of the moving average of the weights that is kept beside them; none is kept if `None`.
    pub ema: Option<f64>,
    /// Clip threshold of the gradient's global norm; no clipping if `None`.
    pub clip: Option<f32>,
    /// Steps in a row that may be skipped, since loss or gradient is not finite, before the run ends.
    pub max_skipped: u64,
    /// Steps whose loss or gradient is so many standard deviations above those before are skipped; none if `None`.
    pub skip_spikes: Option<f32>,
    /// Seed of everything random.
    pub seed: u64,
    /// The run folder.
    pub out: PathBuf,
    /// Steps between validations; 0 for none.
    pub eval_every: u64,
    /// Validation images scored each time; 0 for all.
    pub eval_images: usize,
    /// Images scored at a time in validations, at most: fewer where memory ends. As many as of a micro-batch if `None`.
    pub eval_batch: Option<usize>,
    /// Steps between sample grids; 0 for none.
    pub sample_every: u64,
    /// Steps between checkpoints; 0 for the last step only.
    pub save_every: u64,
    /// Checkpoints kept.
    pub keep: usize,
    /// Whether training stands still while a checkpoint is written. Absent in config.toml files older than it.
    #[serde(default)]
    pub sync_checkpoints: bool,
    /// Write no event file for TensorBoard. Absent in config.toml files older than it.
    #[serde(default)]
    pub no_tensorboard: bool,
    /// Where to compute.
    pub device: DeviceKind,
    /// How a GPU stores activations and matmul weights.
    pub precision: Option<Precision>,
    /// Launch kernels one by one instead of as a CUDA graph. Absent in config.toml files older than CUDA-graph support.
    #[serde(default)]
    pub no_graph: bool,
    /// Exchange gradients and weights with other ranks in their place instead of beside what is computed. Absent in config.toml files
    /// older than it.
    #[serde(default)]
    pub no_overlap: bool,
    /// Threads of the CPU device.
    pub threads: Option<usize>,
    /// Threads that decode images ahead of the device.
    pub workers: Option<usize>,
    /// Whether micro-batch and what is computed again are chosen for the memory that there is; what was chosen is kept.
    #[serde(skip)]
    pub fit: bool,
    /// Where no run folder was named: the name that it has before its number. `out` is then its likely place, and settled when
    /// the folder is made.
    #[serde(skip)]
    pub numbered: Option<String>,
    /// What fine-tuning has beyond that; `None` in pre-training.
    #[serde(skip)]
    pub fine_tuning: Option<FineTuning>,
}

impl Settings {
    /// Pre-training on `data` with every default, in the run folder `out`.
    ///
    /// # Errors
    /// None for paths that are UTF-8, which `config.toml` needs.
    pub fn pretraining(data: DataSpec, out: &Path) -> Result<Self> {
        Self::complete(toml::Table::from_iter([entry("data", data)?, entry("out", out)?]))
    }

    /// Fine-tuning of the model in `checkpoint` on `data` with every default, in the run folder `out`.
    ///
    /// # Errors
    /// As [`Settings::pretraining`].
    pub fn fine_tuning(checkpoint: &Path, data: DataSpec, out: &Path) -> Result<Self> {
        let given = [entry("init", checkpoint)?, entry("data", data)?, entry("out", out)?];
        Self::complete_fine_tuning(toml::Table::from_iter(given))
    }

    /// The settings of the run in the folder `run`, wherever it has been moved to: what goes on with it is opened with.
    ///
    /// # Errors
    /// A `config.toml` that cannot be read, or is not one.
    pub fn read(run: &Path) -> Result<Self> {
        let path = run.join(RunFolder::CONFIG);
        let fail = |problem: String| SettingsError::new(format!("cannot read {}: {problem}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|error| fail(error.to_string()))?;
        let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| fail(error.to_string()))?;
        table.extend([entry("out", run)?]);
        if let Some(init) = table.remove("checkpoint") {
            table.insert("init".to_owned(), init);
        }

        let fine_tuned = FineTuning::KEYS.iter().any(|key| table.contains_key(*key));
        if fine_tuned { Self::complete_fine_tuning(table) } else { Self::complete(table) }
    }

    /// What stands where nothing was given, some of which depends on what was.
    fn defaults(known: &Known, out: PathBuf) -> Self {
        let steps = known.steps.unwrap_or(if known.is_sample() { 500 } else { 1000 });
        let objective = known.objective.unwrap_or_default();
        let lr = known.model.unwrap_or_default().learning_rate(objective);
        Self {
            data: DataSpec::Sample,
            palette: None,
            resolution: None,
            filter: Filter::default(),
            holdout: None,
            skip_bad: SkipBad::NONE,
            alpha: Alpha::default(),
            no_shuffle: false,
            no_augment: false,
            model: None,
            layers: None,
            width: None,
            heads: None,
            norm: None,
            activation: None,
            bias: None,
            order: None,
            init: None,
            objective,
            mask_rate: (objective == Objective::Bert).then_some(MASK_RATE),
            batch: DEFAULT_BATCH,
            accumulate: 1,
            reduction: Reduction::default(),
            zero: None,
            offload_optimizer: false,
            recompute: Recompute::default(),
            steps,
            lr,
            warmup: steps / 10,
            schedule: ScheduleKind::default(),
            cooldown: known.cooldown(steps),
            ema: None,
            clip: None,
            max_skipped: 10,
            skip_spikes: None,
            seed: 0,
            out,
            eval_every: steps.div_ceil(10),
            eval_images: 256,
            eval_batch: None,
            sample_every: steps.div_ceil(5),
            save_every: steps.div_ceil(10),
            keep: 3,
            sync_checkpoints: false,
            no_tensorboard: false,
            device: DeviceKind::default(),
            precision: None,
            no_graph: false,
            no_overlap: false,
            threads: None,
            workers: None,
            fit: false,
            numbered: None,
            fine_tuning: None,
        }
    }

    /// Fills what `given` does not say with defaults, some of which depend on what it says, and checks the numbers.
    ///
    /// # Errors
    /// An unknown key, an invalid value, or a number out of its range.
    pub fn complete(mut given: toml::Table) -> Result<Self> {
        take_global_batch(&mut given)?;
        let known = Known::of(&given)?;
        let model_name = format!("{:?}", known.model.unwrap_or_default()).to_lowercase();
        let defaults = Self::defaults(&known, known.out_or_next(&model_name)?);
        let settings: Self = over(given, toml::Table::try_from(defaults)?)?;
        let settings = Self { numbered: known.numbered(&model_name), ..settings };
        settings.check()?;
        settings.check_masks()?;
        Ok(settings)
    }

    /// The same for fine-tuning; `given` may hold the keys of [`FineTuning`] too.
    ///
    /// # Errors
    /// As [`Settings::complete`]; a setting that the checkpoint decides; no checkpoint.
    pub fn complete_fine_tuning(mut given: toml::Table) -> Result<Self> {
        // The keys that only fine-tuning has, and those that it does not have.
        let own: toml::Table = FineTuning::KEYS.iter().filter_map(|key| given.remove_entry(*key)).collect();
        if let Some(key) = DECIDED.iter().find(|key| given.contains_key(**key)) {
            let text = format!(
                "{key} is not a setting of fine-tuning: the checkpoint and the method decide it, so leave it out"
            );
            return Err(SettingsError::new(text));
        }
        if !given.contains_key("init") {
            let text = "fine-tuning needs --checkpoint DIR: a pre-trained checkpoint, a run, or a Hugging Face folder";
            return Err(SettingsError::new(text));
        }

        let fine_tuning: FineTuning = over(own, toml::Table::try_from(FineTuning::default())?)?;
        fine_tuning.check()?;

        // What decides the images, where it is left open, is as in the run that the weights are of.
        let known = Known::of(&given)?;
        let of_run = known.of_pretraining_run()?;
        let mut given = merged(given, of_run);

        // Defaults of fine-tuning over those of pre-training.
        let steps = known.steps.unwrap_or(if known.is_sample() { 400 } else { 5000 });
        let defaults = toml::Table::from_iter([
            // Ten times smaller than in pre-training, as the paper found best.
            entry("lr", 0.0003)?,
            entry("steps", steps)?,
            entry("warmup", 0)?,
            entry("eval-every", steps.div_ceil(20))?,
            entry("eval-images", 0)?,
            entry("sample-every", 0)?,
            entry("schedule", ScheduleKind::Constant)?,
            entry("out", known.out_or_next("finetune")?)?,
        ]);

        // The objective is the checkpoint's; whether masks go with it is checked once it is known.
        let mask_rate = given.remove("mask-rate").map(toml::Value::try_into).transpose()?;
        let settings = Self::complete(merged(given, defaults))?;
        Ok(Self { mask_rate, numbered: known.numbered("finetune"), fine_tuning: Some(fine_tuning), ..settings })
    }

    /// What `config.toml` says.
    ///
    /// # Errors
    /// Numbers beyond TOML's, and paths that are not UTF-8.
    pub fn to_toml(&self) -> Result<String> {
        let Some(fine_tuning) = &self.fine_tuning else { return Ok(toml::to_string_pretty(self)?) };

        let mut table = toml::Table::try_from(self)?;
        table.retain(|key, _| !DECIDED.contains(&key));
        if let Some(init) = table.remove("init") {
            table.insert("checkpoint".to_owned(), init);
        }
        table.extend(toml::Table::try_from(fine_tuning)?);
        Ok(toml::to_string_pretty(&table)?)
    }
}
