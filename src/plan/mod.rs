//! What a recipe costs before it is run: parameters, FLOPs, memory, time and energy on devices whose data sheets are known.
//!
//! | figure | formula | source |
//! |---|---|---|
//! | parameters | L·(12d² + 2d) + n·d + (2·V + 1)·d + d | the official code's variables; 76,571,648 for iGPT-S at 32×32 |
//! | FLOPs of training, per token | 6·(12·L·d² + V·d) + 6·L·n·d, BERT 12·L·n·d | 2 per multiply-add, backward twice forward; a causal model needs half the scores |
//! | memory on the CPU | see [`Memory`] | what the tape keeps, checked against the CPU device's allocations |
//! | memory on a GPU | counted, see [`Load`] | the run's own code on a device that only counts, checked against the simulator's |
//! | time | FLOPs / (peak · utilisation), and what updates take longer whose optimiser is on the host ([`Offloaded`]) | data sheets; the utilisation is an assumption, and an option |
//! | several GPUs | see [`Speed`], [`Split`] and [`Shares`] | the same data sheets, and the links' rate, an option |
//! | energy | time · TDP | data sheets: the card alone, at its limit |
//!
//! L layers, d width, n tokens per image, V colours.

mod cluster;
mod devices;
pub mod exhausted;
pub mod limits;
pub mod machine;
mod memory;
pub mod memory_limits;
mod offload;
mod reasons;
mod shares;
mod split;
mod suggestion;
mod taken;
mod traced;

use serde::Serialize;

pub use cluster::{GAP, Speed, Times};
pub use devices::{DEVICES, DeviceModel, PER_MACHINE, UnknownDevice, device_model, devices_named, recognised};
pub use memory::{Memory, Work};
pub use offload::Offloaded;
pub use reasons::{About, Reason, duration, gib};
pub use shares::Shares;
pub use split::{Question, Split, Splits};
pub use suggestion::{Suggestion, SuggestionError};
pub use taken::Load;

use crate::device::Precision;
use crate::model::ModelConfig;
use crate::named::UnknownName;
use crate::recipe::{Command, Paper, Recipe, RecipeError};
use crate::tape::Recompute;

/// Fraction of a device's memory that a run may fill: the rest is the driver's, or lost to fragmentation.
pub const USABLE: f64 = 0.95;

/// Fraction of a device's peak that a run is taken to reach where nobody says otherwise: an assumption.
pub const UTILISATION: f64 = 0.4;

/// Joules of `flops` on a device that draws `watts` all the time that they take at `utilisation` of its peak.
pub fn joules(flops: f64, peak: f64, utilisation: f64, watts: f64) -> f64 {
    flops / (peak * utilisation) * watts
}

/// What a run is made of, in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// The recipe.
    pub recipe: String,
    /// The command that it is for.
    pub command: Command,
    /// Layers, width and heads of the model.
    pub shape: [usize; 3],
    /// Trainable parameters, the class head of fine-tuning apart.
    pub parameters: usize,
    /// Tokens per image.
    pub tokens_per_image: usize,
    /// Whether attention is over the causal half only.
    pub causal: bool,
    /// Images per micro-batch.
    pub micro_batch: u64,
    /// Images per step.
    pub images_per_step: u64,
    /// Steps of the run; for fine-tuning, which stops early, their maximum. For a probe, micro-batches whose
    /// features are computed.
    pub steps: u64,
    /// Tokens that the model processes in all.
    pub tokens: f64,
    /// Useful FLOPs per token.
    pub flops_per_token: f64,
    /// Useful FLOPs per step.
    pub flops_per_step: f64,
    /// Useful FLOPs of the run.
    pub flops: f64,
    /// Bytes by class on the CPU, all in float32.
    pub memory_cpu: Memory,
    /// Bytes by class on a GPU, all in float32.
    pub memory_f32: Memory,
    /// Bytes by class on a GPU, bfloat16 beside float32 master weights.
    pub memory_bf16: Memory,
    /// Bytes of host memory that a checkpoint is copied to, to be written while training goes on; nothing of a probe.
    pub snapshot: f64,
    /// Numbers that a probe keeps of an image, and bytes of its feature file.
    pub features: Option<Features>,
    /// What the paper says.
    pub paper: Option<Paper>,
    /// Whether a moving average of the weights is kept.
    pub ema: bool,
    /// Whether moments and master weights lie in the host's memory.
    pub offload: bool,
    /// How much of the forward pass is computed again.
    pub recompute: Recompute,
    /// Images that are validated at a time, where that is another number than of a micro-batch.
    #[serde(skip)]
    eval_images: Option<usize>,
    #[serde(skip)]
    config: ModelConfig,
}

/// What a probe reads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Features {
    /// Numbers per image: the width, times the layers that are concatenated.
    pub width: u64,
    /// Training and test images of the whole data set.
    pub images: u64,
    /// Bytes of all features in float32.
    pub bytes: f64,
}

/// A run on a device.
#[derive(Clone, Debug, Serialize)]
pub struct OnDevice {
    /// The device.
    pub device: &'static DeviceModel,
    /// What it computes in.
    pub precision: Precision,
    /// Peak of its data sheet, FLOP/s.
    pub peak: f64,
    /// Bytes that the run needs.
    pub bytes: f64,
    /// Whether that fits.
    pub fits: bool,
    /// The largest micro-batch that fits; `None` if not even one image does.
    pub largest_micro_batch: Option<u64>,
    /// Seconds of the run.
    pub seconds: f64,
    /// Of them, what its updates take longer because the optimiser is on the host.
    pub bus_seconds: f64,
    /// Kilowatt-hours of the run.
    pub kilowatt_hours: f64,
}

/// Training and test images of the data sets that recipes name.
fn images_of(data: &str) -> Option<u64> {
    Some(match data.split(':').next()? {
        "cifar10" | "cifar100" => 50_000 + 10_000,
        "stl10" => 5_000 + 8_000,
        "imagenet" | "imagenet-tar" => 1_281_167 + 50_000,
        "sample" => 1_200,
        _ => return None,
    })
}

/// What `train` and `finetune` take where a recipe is silent.
const DEFAULT_BATCH: u64 = 16;
const DEFAULT_STEPS: u64 = 1000;

impl Cost {
    /// The cost of a recipe.
    ///
    /// # Errors
    /// [`RecipeError`] for an impossible model and settings that are not numbers.
    pub fn of(recipe: &Recipe) -> Result<Self, RecipeError> {
        let config = recipe.model()?;
        let at_least_1 = |key, default| Ok::<_, RecipeError>(recipe.number(key)?.unwrap_or(default).max(1));
        let micro_batch = at_least_1("batch", DEFAULT_BATCH)?;
        let (tokens_per_image, training) = (config.positions, recipe.command != Command::Probe);
        let accumulate = if training { at_least_1("accumulate", 1)? } else { 1 };
        let images_per_step = micro_batch.saturating_mul(accumulate);

        let concatenated = at_least_1("concat", 1)?;
        let features = images_of(recipe.text("data").unwrap_or("sample")).filter(|_| !training).map(|images| {
            let width = config.width as u64 * concatenated;
            Features { width, images, bytes: 4.0 * (width * images) as f64 }
        });
        let steps = match features {
            Some(features) => features.images.div_ceil(micro_batch),
            None => at_least_1("steps", DEFAULT_STEPS)?,
        };

        // FLOPs: of training 6 per weight and token, of the forward pass alone a third of that.
        let causal = config.sos;
        let flops_per_token = config.training_flops_per_token(tokens_per_image) / if training { 1.0 } else { 3.0 };
        let flops_per_step = flops_per_token * (images_per_step as f64 * tokens_per_image as f64);
        let images = features.map_or(images_per_step as f64 * steps as f64, |features| features.images as f64);
        let tokens = images * tokens_per_image as f64;

        let work = if training { Work::Training } else { Work::Forward };
        let (ema, eval_images) = (training && recipe.settings.contains_key("ema"), recipe.number("eval-batch")?);
        let recompute = recompute_of(recipe)?;
        let offload =
            training && recipe.settings.get("offload-optimizer").and_then(toml::Value::as_bool).unwrap_or(false);
        let load = |precision| {
            let images = micro_batch as usize;
            let eval_images = eval_images.map(|images| images as usize);
            let load = Load::new(&config, work, images, tokens_per_image, precision);
            Load { ema, eval_images, recompute, shares: Shares { offload, ..Shares::ALONE }, ..load }
        };
        let [memory_f32, memory_bf16] = [Precision::F32, Precision::Bf16].map(|precision| on_gpu(load(precision)));
        let memory_cpu = Load { shares: Shares::ALONE, ..load(Precision::F32) }.by_formula();

        Ok(Cost {
            recipe: recipe.path.clone(),
            command: recipe.command,
            shape: [config.layers, config.width, config.heads],
            parameters: config.parameter_count(),
            tokens_per_image,
            causal,
            micro_batch,
            images_per_step,
            steps,
            tokens,
            flops_per_token,
            flops_per_step,
            flops: flops_per_token * tokens,
            memory_cpu,
            memory_f32,
            memory_bf16,
            snapshot: if training { Shares::ALONE.snapshot(&config, ema) } else { 0.0 },
            features,
            paper: recipe.paper.clone(),
            ema,
            offload,
            recompute,
            eval_images: eval_images.map(|images| images as usize),
            config,
        })
    }

    /// The run on a device that reaches `utilisation` (0 to 1) of its peak.
    pub fn on(&self, device: &'static DeviceModel, precision: Precision, utilisation: f64) -> OnDevice {
        // A device without bfloat16 computes in float32.
        let (precision, peak) = device.peak(precision);
        let memory = match precision {
            Precision::F32 => self.memory_f32,
            Precision::Bf16 => self.memory_bf16,
        };

        let usable = device.memory * USABLE;
        let work = if self.command == Command::Probe { Work::Forward } else { Work::Training };
        let largest = self.largest(work, precision, usable);

        // Beside the FLOPs, the bus; a card that waits for it is taken to draw as much as one that computes.
        let offloaded = match self.offload {
            true => Offloaded::of(&self.config, precision, Shares::ALONE, self.ema),
            false => Offloaded::default(),
        };
        let bus_seconds = self.steps as f64 * offloaded.longer(device.to_host(1), device.bandwidth);
        let seconds = self.flops / (peak * utilisation) + bus_seconds;
        OnDevice {
            device,
            precision,
            peak,
            bytes: memory.total(),
            fits: memory.total() <= usable,
            largest_micro_batch: largest,
            seconds,
            bus_seconds,
            kilowatt_hours: seconds * device.watts / 3.6e6,
        }
    }
}

impl Cost {
    /// The largest micro-batch that fits into `usable` bytes; `None` if not even one image does.
    fn largest(&self, work: Work, precision: Precision, usable: f64) -> Option<u64> {
        let Self { config, ema, offload, eval_images, recompute, .. } = self;
        let (length, ema, offload, eval_images, recompute) =
            (config.positions, *ema, *offload, *eval_images, *recompute);
        let total = |images: u64| {
            let load = Load::new(config, work, images as usize, length, precision);
            on_gpu(Load { ema, eval_images, recompute, shares: Shares { offload, ..Shares::ALONE }, ..load }).total()
        };
        let fits = |images: u64| total(images) <= usable;
        let one = total(1);
        if one > usable {
            return None;
        }

        // Memory grows about in proportion to the micro-batch, over what no batch changes: a guess, and from there to both sides
        // of the limit.
        let image = (total(1 + PROBED) - one) / PROBED as f64;
        let guess = 1 + ((usable - one) / image).floor() as u64;
        let (mut largest, mut too_many, mut step) = (1, guess, 1);
        if fits(guess) {
            largest = guess;
            while fits(largest + step) {
                (largest, step) = (largest + step, 2 * step);
            }
            too_many = largest + step;
        } else {
            while too_many > step && !fits(too_many - step) {
                (too_many, step) = (too_many - step, 2 * step);
            }
            largest = largest.max(too_many.saturating_sub(step));
        }

        // The limit itself.
        while too_many - largest > 1 {
            let middle = largest + (too_many - largest) / 2;
            if fits(middle) { largest = middle } else { too_many = middle }
        }
        Some(largest)
    }
}

/// Images by which the growth of memory is measured.
const PROBED: u64 = 16;

/// What a recipe says of computing again.
fn recompute_of(recipe: &Recipe) -> Result<Recompute, RecipeError> {
    let Some(text) = recipe.text("recompute") else { return Ok(Recompute::None) };
    text.parse().map_err(|problem: UnknownName| RecipeError::Content {
        path: recipe.path.clone(),
        problem: format!("recompute: {problem}"),
    })
}

/// Memory of a GPU: counted; by the formula for a model that the kernels do not compute.
fn on_gpu(load: Load<'_>) -> Memory {
    load.on_gpu().unwrap_or_else(|_| load.by_formula())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    #[test]
    fn parameters_are_the_published_counts() {
        for (preset, resolution, sos, count) in [
            (Preset::S, 32, true, 76_571_648_usize),
            (Preset::M, 32, true, 455_157_760),
            (Preset::L, 32, true, 1_362_250_752),
            (Preset::L, 48, true, 1_364_216_832),
            (Preset::Xl, 32, true, 6_801_438_720),
            (Preset::Xl, 64, true, 6_810_875_904),
            (Preset::S, 32, false, 76_571_648 - 512),
        ] {
            let config = ModelConfig { sos, ..ModelConfig::preset(preset, resolution) };
            assert_eq!(config.parameter_count(), count, "{preset:?} at {resolution}");
            let (l, d, n) = (config.layers, config.width, config.positions);
            assert_eq!(l * (12 * d * d + 2 * d) + n * d + 2 * 512 * d + usize::from(sos) * d + d, count);
        }
    }

    #[test]
    fn flops_agree_with_counting_by_hand() {
        let config = ModelConfig::preset(Preset::S, 32);
        // 24 blocks of 12·512² weights, a head of 512², and 24·1024·512 score and value products, half of them needed.
        assert_eq!(config.training_flops_per_token(1024), 6.0 * (75_497_472.0 + 262_144.0) + 6.0 * 12_582_912.0);
        let bert = ModelConfig { sos: false, ..config };
        assert_eq!(bert.training_flops_per_token(1024), 6.0 * (75_497_472.0 + 262_144.0) + 12.0 * 12_582_912.0);
    }

    #[test]
    fn time_and_energy_of_igpt_l_are_near_what_openai_reports() {
        // "iGPT-L was trained for roughly 2500 V100-days" (OpenAI's blog), in float32 (the paper, section 3.4): the
        // formulae give that at an ordinary third of the peak.
        let recipe = Recipe::parse("l", "model = \"l\"\nresolution = 32\nbatch = 128\nsteps = 1000000").unwrap();
        let run = Cost::of(&recipe).unwrap().on(device_model("v100").unwrap(), Precision::F32, 0.33);
        let days = run.seconds / 86_400.0;
        assert!((2_000.0..2_800.0).contains(&days), "{days}");
        assert!((run.kilowatt_hours - days * 24.0 * 0.3).abs() < 1e-6 * run.kilowatt_hours);
    }
}
