//! How a step is divided: over which GPUs, what each of them owns, how many images at a time, and what is computed again. Of the ways
//! that fit into memory the one is chosen that is predicted to be the fastest.
//!
//! Bytes that stay from step to step on each of N GPUs, P parameters in bf16:
//!
//! | ZeRO | owned by one GPU alone | bytes |
//! |---|---|---|
//! | 0 | nothing | 18 P |
//! | 1 | a share of moments, master weights and the sum of the gradients | 6 P + 16 P / N |
//! | 2 | of gradients too | 2 P + 16 P / N |
//!
//! In f32, in which the weights that are computed with are no smaller than the master weights: 16 P, 8 P + 16 P / N, 4 P + 16 P / N. A moving
//! average takes 4 P at level 0, and 4 P / N above. Ranks that share a step take more, what they exchange buckets in: see [`Shares`].

use serde::Serialize;

use super::cluster::{Speed, Times, Way};
use super::memory::{Memory, Work};
use super::offload::Offloaded;
use super::shares::Shares;
use super::taken::Load;
use crate::comm::Reduction;
use crate::device::Precision;
use crate::model::ModelConfig;
use crate::named::Named;
use crate::tape::Recompute;

/// The step that is to be divided, and what it is divided over.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The model.
    pub config: &'a ModelConfig,
    /// Images per step, of all GPUs together.
    pub global_batch: usize,
    /// The only micro-batch that may be chosen, if there is only one.
    pub micro_batch: Option<usize>,
    /// GPUs that there are.
    pub gpus: usize,
    /// Levels of ZeRO that may be chosen.
    pub zero: &'a [u8],
    /// What is computed in.
    pub precision: Precision,
    /// How gradients are added up.
    pub reduction: Reduction,
    /// Whether a moving average of the weights is kept.
    pub ema: bool,
    /// Whether moments and master weights lie in the host's memory; only where nothing fits otherwise if `None`.
    pub offload: Option<bool>,
    /// Images that are validated at a time; as many as of a micro-batch if `None`.
    pub eval_images: Option<usize>,
    /// Rates.
    pub speed: Speed,
    /// Bytes of memory that may be filled on each GPU.
    pub room: f64,
    /// Bytes of the host's memory that there are for each GPU.
    pub host_room: f64,
}

/// One way to divide the step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Split {
    /// GPUs that work.
    pub gpus: usize,
    /// Level of ZeRO.
    pub zero: u8,
    /// Images per micro-batch.
    pub micro_batch: usize,
    /// Micro-batches per step, of all GPUs together.
    pub accumulate: usize,
    /// What is computed again.
    pub recompute: Recompute,
    /// Bytes per GPU of weights, gradients, moments and averages.
    pub persistent: f64,
    /// Bytes that a micro-batch takes beside them.
    pub working: f64,
    /// Bytes that gradients are added up in.
    pub reduction: f64,
    /// Bytes of the host's memory per GPU, in which moments and master weights lie if there are any.
    pub host: f64,
    /// Whether all of it fits.
    pub fits: bool,
    /// What it is predicted to take.
    #[serde(flatten)]
    pub times: Times,
}

impl Split {
    /// Bytes per GPU in all.
    pub fn bytes(&self) -> f64 {
        self.persistent + self.working + self.reduction
    }

    /// Whether moments and master weights lie in the host's memory.
    pub fn offloads(&self) -> bool {
        self.host > 0.0
    }

    /// Images per second of all GPUs together, as predicted.
    pub fn images_per_second(&self) -> f64 {
        (self.micro_batch * self.accumulate) as f64 / self.times.step
    }

    /// Micro-batches of each GPU.
    pub fn micro_batches(&self) -> usize {
        self.accumulate / self.gpus
    }
}

/// The ways to divide a step.
#[derive(Clone, Debug, Serialize)]
pub struct Splits {
    /// GPUs that there are and find no image to work on: the step has too few, or their number does not divide it.
    pub idle: usize,
    /// The fastest that fits.
    pub choice: Option<Split>,
    /// The same with more images at a time, the next number of them that divides the step.
    pub larger: Option<Split>,
    /// For every level of ZeRO and all that can be computed again, the fastest that fits; where none does, the one that takes least.
    pub alternatives: Vec<Split>,
}

/// GPUs that a step of `images` images can be divided over evenly, of `gpus`.
fn working_gpus(images: usize, gpus: usize) -> usize {
    (1..=gpus.min(images)).rev().find(|count| images.is_multiple_of(*count)).unwrap_or(1)
}

impl Question<'_> {
    /// Weighs the ways up; `memory` says what a load takes.
    pub fn splits(&self, memory: &dyn Fn(Load<'_>) -> Memory) -> Splits {
        let gpus = working_gpus(self.global_batch / self.micro_batch.unwrap_or(1), self.gpus);
        let share = self.global_batch / gpus;
        let allowed = |images: &usize| match self.micro_batch {
            Some(only) => *images == only,
            None => share.is_multiple_of(*images),
        };
        let micro_batches: Vec<usize> = (1..=share).filter(allowed).collect();

        let levels = self.zero.iter().filter(|zero| gpus > 1 || **zero == 0);
        let kinds: Vec<_> =
            levels.flat_map(|zero| Recompute::VALUES.iter().map(|level| (*zero, level.value))).collect();
        let best = |(zero, recompute): (u8, Recompute), offload: bool| {
            let ways = micro_batches.iter().map(|images| self.split(memory, gpus, (zero, recompute, offload), *images));
            ways.min_by(|one, other| order(one).partial_cmp(&order(other)).unwrap_or(std::cmp::Ordering::Equal))
        };
        let weighed = |offload: bool| -> Vec<Split> { kinds.iter().filter_map(|kind| best(*kind, offload)).collect() };

        // With the optimiser on the host where that was asked for, or where nothing else fits.
        let mut alternatives = weighed(self.offload.unwrap_or(false));
        if self.offload.is_none() && fastest(&alternatives).is_none() {
            let offloaded = weighed(true);
            alternatives = if fastest(&offloaded).is_some() { offloaded } else { alternatives };
        }
        let choice = fastest(&alternatives);
        let larger = choice.and_then(|split| {
            let images = micro_batches.iter().find(|images| **images > split.micro_batch)?;
            Some(self.split(memory, gpus, (split.zero, split.recompute, split.offloads()), *images))
        });
        Splits { idle: self.gpus - gpus, choice, larger, alternatives }
    }

    fn split(
        &self,
        memory: &dyn Fn(Load<'_>) -> Memory,
        gpus: usize,
        (zero, recompute, offload): (u8, Recompute, bool),
        images: usize,
    ) -> Split {
        let Self { config, precision, reduction, ema, eval_images, speed, .. } = *self;
        let load = Load::new(config, Work::Training, images, config.positions, precision);
        let shares = Shares { ranks: gpus, zero, reduction };
        let taken = memory(Load { recompute, ema, offload, eval_images, shares, ..load });
        let offloaded = match offload {
            true => Offloaded::of(config, precision, zero, gpus as f64, ema),
            false => Offloaded::default(),
        };
        let persistent = taken.weights + taken.gradients + taken.moments + taken.average;
        let working = taken.activations + taken.workspace + taken.evaluation;

        let micro_batches = self.global_batch / gpus / images;
        let way = Way { gpus, zero, micro_batch: images, micro_batches, recompute, offloaded };
        Split {
            gpus,
            zero,
            micro_batch: images,
            accumulate: micro_batches * gpus,
            recompute,
            persistent,
            working,
            reduction: taken.exchange,
            host: taken.host,
            fits: taken.total() <= self.room && taken.host <= self.host_room,
            times: Times::of(config, precision, reduction, speed, way),
        }
    }
}

/// The smaller, the better: what fits by its time, and before what does not, which goes by its size.
fn order(split: &Split) -> (bool, f64) {
    (!split.fits, if split.fits { split.times.step } else { split.bytes() })
}

/// The fastest that fits; of those that are less than a thousandth slower the one that divides least and computes least again.
fn fastest(splits: &[Split]) -> Option<Split> {
    let fitting = || splits.iter().filter(|split| split.fits);
    let least = fitting().map(|split| split.times.step).min_by(f64::total_cmp)?;
    fitting().find(|split| split.times.step <= 1.001 * least).copied()
}

impl Splits {
    /// Why the choice is what it is, a sentence for each thing that could have been otherwise.
    pub fn reasons(&self, question: &Question<'_>) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.idle > 0 {
            let Question { global_batch, gpus, .. } = question;
            let working = gpus - self.idle;
            reasons.push(format!(
                "a step of {global_batch} images is divided over {working} GPUs at most; {} have nothing to do",
                self.idle
            ));
        }
        let Some(choice) = &self.choice else {
            let least = self.alternatives.iter().map(Split::bytes).min_by(f64::total_cmp).unwrap_or_default();
            reasons.push(format!(
                "nothing fits: {} are needed at least, and there are {}",
                gib(least),
                gib(question.room)
            ));
            return reasons;
        };

        // More images at a time.
        reasons.push(match &self.larger {
            None if choice.micro_batches() == 1 => "all images of a card at once".to_owned(),
            None => "the micro-batch is given".to_owned(),
            Some(larger) if larger.fits => format!(
                "{} at a time would be {:.1} % slower",
                images(larger.micro_batch),
                100.0 * (larger.times.step / choice.times.step - 1.0)
            ),
            Some(larger) => format!("{} at a time would take {}", images(larger.micro_batch), gib(larger.bytes())),
        });

        // Other levels of ZeRO, and then other things computed again.
        let of = |zero: u8, recompute: Recompute| {
            self.alternatives.iter().find(move |split| (split.zero, split.recompute) == (zero, recompute))
        };
        for zero in question.zero.iter().filter(|zero| **zero != choice.zero) {
            reasons.extend(of(*zero, choice.recompute).map(|other| against(choice, other, &format!("ZeRO-{zero}"))));
        }
        for level in Recompute::VALUES.iter().filter(|level| level.value != choice.recompute) {
            let other = of(choice.zero, level.value);
            reasons.extend(other.map(|other| against(choice, other, &format!("--recompute {}", level.name))));
        }
        if choice.offloads() {
            let without = if question.offload.is_none() { "; without it nothing fits" } else { "" };
            reasons.push(format!(
                "--offload-optimizer keeps {} per card in the host's memory, page-locked{without}",
                gib(choice.host)
            ));
        }
        reasons
    }
}

/// What speaks against another way than the choice.
fn against(choice: &Split, other: &Split, what: &str) -> String {
    if !other.fits {
        return format!("{what} does not fit: {} with {} at a time", gib(other.bytes()), images(other.micro_batch));
    }
    let slower = 100.0 * (other.times.step / choice.times.step - 1.0);
    let batch = if other.micro_batch == choice.micro_batch {
        String::new()
    } else {
        format!(" with {} at a time", images(other.micro_batch))
    };
    if slower < 0.1 {
        return format!("{what} would be as fast{batch}, in {}", gib(other.bytes()));
    }
    format!("{what} would be {slower:.1} % slower{batch}")
}

fn images(count: usize) -> String {
    if count == 1 { "1 image".to_owned() } else { format!("{count} images") }
}

/// Bytes for people.
pub fn gib(bytes: f64) -> String {
    let gib = bytes / (1_u64 << 30) as f64;
    if gib >= 0.1 { format!("{gib:.1} GiB") } else { format!("{:.1} MiB", gib * 1024.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;
    use crate::plan::{USABLE, device_model};

    fn question(config: &ModelConfig, global_batch: usize, gpus: usize) -> Question<'_> {
        let device = device_model("h100").unwrap();
        Question {
            config,
            global_batch,
            micro_batch: None,
            gpus,
            zero: &[0, 1, 2],
            precision: Precision::Bf16,
            reduction: Reduction::Repeatable,
            ema: false,
            offload: None,
            eval_images: None,
            speed: Speed {
                flops: 0.4 * device.bf16.unwrap(),
                memory: device.bandwidth,
                gap: super::super::GAP,
                wire: 350e9,
                bus: 0.8 * device.bus,
            },
            room: USABLE * device.memory,
            host_room: f64::INFINITY,
        }
    }

    fn by_formula(load: Load<'_>) -> Memory {
        load.by_formula()
    }

    const GIB: f64 = (1_u64 << 30) as f64;

    /// "XL on 8 × 80 GB under ZeRO-2 without recompute", for both numbers of heads that the paper leaves open, counted.
    #[test]
    fn igpt_xl_fits_eight_cards_of_80_gb_without_computing_again() {
        for heads in [16, 32] {
            let config = ModelConfig { heads, ..ModelConfig::preset(Preset::Xl, 64) };
            let question = question(&config, 64, 8);
            let splits = question.splits(&|load| load.on_gpu().unwrap_or_else(|_| load.by_formula()));
            let choice = splits.choice.unwrap();
            assert_eq!((choice.gpus, choice.zero, choice.recompute), (8, 2, Recompute::None), "{choice:?}");
            assert_eq!((choice.micro_batch, choice.accumulate), (2, 32));
            let bytes = choice.bytes() / GIB;
            assert!((59.0..64.0).contains(&bytes), "{bytes} GiB");
            // Without ZeRO it fits at no price.
            assert!(splits.alternatives.iter().filter(|split| split.zero == 0).all(|split| !split.fits));
            assert!(splits.reasons(&question).iter().any(|reason| reason.starts_with("ZeRO-0 does not fit")));
        }
    }

    #[test]
    fn the_fastest_that_fits_is_chosen_and_keeps_the_step() {
        let config = ModelConfig::preset(Preset::L, 32);
        for gpus in [1, 3, 8, 64, 512] {
            let question = question(&config, 128, gpus);
            let splits = question.splits(&by_formula);
            let choice = splits.choice.unwrap();
            assert_eq!(choice.micro_batch * choice.accumulate, 128, "{gpus} GPUs");
            assert!(choice.fits && choice.bytes() <= question.room && choice.accumulate.is_multiple_of(choice.gpus));
            let fitting = splits.alternatives.iter().filter(|split| split.fits);
            assert!(fitting.into_iter().all(|split| split.times.step * 1.001 >= choice.times.step), "{splits:?}");
            assert_eq!(splits.idle, [0, 1, 0, 0, 384][[1, 3, 8, 64, 512].iter().position(|n| *n == gpus).unwrap()]);
        }

        // Less memory: less at a time, then more computed again, and in the end nothing.
        let mut steps = Vec::new();
        for room in [80.0, 40.0, 24.0, 16.0, 11.0, 5.0] {
            let question = Question { room: room * GIB, offload: Some(false), ..question(&config, 128, 8) };
            steps.push(question.splits(&by_formula).choice.map(|choice| choice.times.step));
        }
        assert!(steps[..5].iter().all(Option::is_some) && steps[5].is_none(), "{steps:?}");
        assert!(steps[..5].is_sorted(), "{steps:?}");

        // The optimiser moves to the host where nothing else fits, if the host has room; or where that is asked for.
        let small =
            |offload, host_room: f64| Question { room: 5.0 * GIB, offload, host_room, ..question(&config, 128, 8) };
        let moved = small(None, 3.0 * GIB).splits(&by_formula);
        let choice = moved.choice.unwrap();
        assert!(
            choice.offloads() && choice.zero > 0 && choice.bytes() <= 5.0 * GIB && choice.host <= 3.0 * GIB,
            "{choice:?}"
        );
        assert!((choice.host / (1.5 * config.parameter_count() as f64) - 1.0).abs() < 1e-3);
        assert!(moved.alternatives.iter().all(Split::offloads));
        assert!(moved.reasons(&small(None, 3.0 * GIB)).iter().any(|reason| reason.contains("--offload-optimizer")));
        let no_host = small(None, 1.0 * GIB).splits(&by_formula);
        assert!(no_host.choice.is_none() && !no_host.alternatives.iter().any(Split::offloads));
        let roomy = Question { offload: Some(true), ..question(&config, 128, 8) }.splits(&by_formula).choice.unwrap();
        let kept = question(&config, 128, 8).splits(&by_formula).choice.unwrap();
        assert!(
            roomy.offloads() && !kept.offloads() && roomy.times.step > kept.times.step && roomy.bytes() < kept.bytes()
        );

        // A run that goes on keeps its micro-batch.
        let kept = Question { micro_batch: Some(4), ..question(&config, 128, 8) }.splits(&by_formula);
        assert!(kept.alternatives.iter().all(|split| split.micro_batch == 4), "{kept:?}");
    }
}
