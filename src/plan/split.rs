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
    /// Whether moments and master weights lie in the host's memory; where the step is faster if `None`.
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
    /// The best with the optimiser in the other place: on the host if the choice has it on the card, or if there is no choice, and on the
    /// card if not. `None` where there was nothing to choose.
    pub otherwise: Option<Split>,
}

/// Ways that differ in the micro-batch alone: a level of ZeRO, what is computed again, and whether the optimiser is on the host.
type Kind = (u8, Recompute, bool);

/// Of the memory that a formula gives for weights, gradients, moments and activations, what is certainly taken: counted, embeddings have
/// no copies in bf16, 2 % of iGPT-S.
const CERTAIN: f64 = 0.95;

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
        let weighed = |offload: bool| -> Vec<Split> {
            let best = |&(zero, recompute): &(u8, Recompute)| {
                self.best(memory, gpus, (zero, recompute, offload), &micro_batches)
            };
            kinds.iter().filter_map(best).collect()
        };

        // With the optimiser on the card, and on the host: the bus takes time, and what is computed again or a little at a time for want of
        // memory takes some too.
        let (kept, moved) = match self.offload {
            Some(offload) => (weighed(offload), Vec::new()),
            None => (weighed(false), weighed(true)),
        };
        let choice = fastest(kept.iter().chain(&moved));
        let others = match choice {
            Some(choice) if !kept.contains(&choice) => &kept,
            _ => &moved,
        };
        let least = || others.iter().min_by(|one, other| one.bytes().total_cmp(&other.bytes())).copied();
        let otherwise = fastest(others).or_else(least);
        let better = |(at, kept): (usize, &Split)| fastest([kept].into_iter().chain(moved.get(at))).unwrap_or(*kept);
        let alternatives = kept.iter().enumerate().map(better).collect();
        let larger = choice.and_then(|split| {
            let images = micro_batches.iter().find(|images| **images > split.micro_batch)?;
            Some(self.split(memory, gpus, (split.zero, split.recompute, split.offloads()), *images))
        });
        Splits { idle: self.gpus - gpus, choice, larger, alternatives, otherwise }
    }

    /// The fastest micro-batch that fits, in one kind of way; where none does, the smallest, which takes least. Times are a formula and memory
    /// is counted, so the fastest is tried first, and what is too large by a good part is not counted at all.
    fn best(
        &self,
        memory: &dyn Fn(Load<'_>) -> Memory,
        gpus: usize,
        kind: Kind,
        micro_batches: &[usize],
    ) -> Option<Split> {
        let may_fit = |images: &usize| {
            let Memory { weights, gradients, moments, average, activations, .. } =
                self.load(gpus, kind, *images).by_formula();
            CERTAIN * (weights + gradients + moments + average + activations) <= self.room
        };
        let mut by_time: Vec<(usize, f64)> =
            micro_batches.iter().map(|images| (*images, self.times(gpus, kind, *images).step)).collect();
        by_time.sort_by(|one, other| one.1.total_cmp(&other.1));

        let mut tried = by_time.iter().map(|(images, _)| *images).filter(may_fit);
        let fitting = tried.find_map(|images| Some(self.split(memory, gpus, kind, images)).filter(|split| split.fits));
        fitting.or_else(|| Some(self.split(memory, gpus, kind, *micro_batches.iter().min()?)))
    }

    fn load(&self, gpus: usize, (zero, recompute, offload): Kind, images: usize) -> Load<'_> {
        let Self { config, precision, reduction, ema, eval_images, .. } = *self;
        let shares = Shares { ranks: gpus, zero, reduction, offload };
        let load = Load::new(config, Work::Training, images, config.positions, precision);
        Load { recompute, ema, eval_images, shares, ..load }
    }

    fn times(&self, gpus: usize, kind @ (zero, recompute, offload): Kind, images: usize) -> Times {
        let Load { config, precision, ema, shares, .. } = self.load(gpus, kind, images);
        let offloaded = match offload {
            true => Offloaded::of(config, precision, shares, ema),
            false => Offloaded::default(),
        };
        let micro_batches = self.global_batch / gpus / images;
        let way = Way { gpus, zero, micro_batch: images, micro_batches, recompute, offloaded };
        Times::of(config, precision, self.reduction, self.speed, way)
    }

    fn split(&self, memory: &dyn Fn(Load<'_>) -> Memory, gpus: usize, kind: Kind, images: usize) -> Split {
        let (zero, recompute, _) = kind;
        let taken = memory(self.load(gpus, kind, images));
        Split {
            gpus,
            zero,
            micro_batch: images,
            accumulate: self.global_batch / gpus / images * gpus,
            recompute,
            persistent: taken.weights + taken.gradients + taken.moments + taken.average,
            working: taken.activations + taken.workspace + taken.evaluation,
            reduction: taken.exchange,
            host: taken.host,
            fits: taken.total() <= self.room && taken.host <= self.host_room,
            times: self.times(gpus, kind, images),
        }
    }
}

/// The fastest that fits; of those that are less than a thousandth slower the first, which divides least and computes least again.
fn fastest<'a>(splits: impl IntoIterator<Item = &'a Split>) -> Option<Split> {
    let fitting: Vec<&Split> = splits.into_iter().filter(|split| split.fits).collect();
    let least = fitting.iter().map(|split| split.times.step).min_by(f64::total_cmp)?;
    fitting.into_iter().find(|split| split.times.step <= 1.001 * least).copied()
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
                bus: device.to_host(gpus),
            },
            room: USABLE * device.memory,
            host_room: f64::INFINITY,
        }
    }

    fn counted(load: Load<'_>) -> Memory {
        load.on_gpu().unwrap_or_else(|_| load.by_formula())
    }

    fn by_formula(load: Load<'_>) -> Memory {
        load.by_formula()
    }

    const GIB: f64 = (1_u64 << 30) as f64;

    /// Among the reasons is one that begins with `what` and says `why`.
    #[track_caller]
    fn says(reasons: &[impl ToString], what: &str, why: &str) {
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        assert!(reasons.iter().any(|reason| reason.starts_with(what) && reason.contains(why)), "{reasons:?}");
    }

    /// "XL on 8 × 80 GB under ZeRO-2 without recompute", for both numbers of heads that the paper leaves open, counted.
    #[test]
    fn igpt_xl_fits_eight_cards_of_80_gb_without_computing_again() {
        for heads in [16, 32] {
            let config = ModelConfig { heads, ..ModelConfig::preset(Preset::Xl, 64) };
            let question = question(&config, 64, 8);
            let splits = question.splits(&counted);
            let choice = splits.choice.unwrap();
            assert_eq!((choice.gpus, choice.zero, choice.recompute), (8, 2, Recompute::None), "{choice:?}");
            assert_eq!((choice.micro_batch, choice.accumulate), (2, 32));
            let bytes = choice.bytes() / GIB;
            assert!((59.0..64.0).contains(&bytes), "{bytes} GiB");
            // Without ZeRO it fits at no price.
            let on_cards = splits.alternatives.iter().filter(|split| !split.offloads());
            assert!(on_cards.into_iter().all(|split| split.zero > 0 || !split.fits), "{splits:?}");
            let kept = Question { offload: Some(false), ..question };
            says(&kept.splits(&counted).reasons(&kept), "ZeRO-0 does not fit", "");
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
            let splits = question.splits(&by_formula);
            assert_eq!(splits.otherwise, None);
            steps.push(splits.choice.map(|choice| choice.times.step));
        }
        assert!(steps[..5].iter().all(Option::is_some) && steps[5].is_none(), "{steps:?}");
        assert!(steps[..5].is_sorted(), "{steps:?}");

        // A run that goes on keeps its micro-batch.
        let kept = Question { micro_batch: Some(4), ..question(&config, 128, 8) }.splits(&by_formula);
        assert!(kept.alternatives.iter().all(|split| split.micro_batch == 4), "{kept:?}");
    }

    /// What is not counted would not have been chosen: the best of a kind is what counting every micro-batch gives.
    #[test]
    fn the_best_micro_batch_is_found_without_counting_them_all() {
        let config = ModelConfig::preset(Preset::S, 32);
        let micro_batches = [1, 2, 4, 8, 16];
        for room in [16.0, 2.0, 1.0, 0.4] {
            let question = Question { room: room * GIB, ..question(&config, 128, 8) };
            for kind in [(0, Recompute::None, false), (1, Recompute::NormsMlp, true), (2, Recompute::Block, false)] {
                let all = micro_batches.map(|images| question.split(&counted, 8, kind, images));
                let by_step = |one: &&Split, other: &&Split| one.times.step.total_cmp(&other.times.step);
                let by_size = |one: &&Split, other: &&Split| one.bytes().total_cmp(&other.bytes());
                let fastest = all.iter().filter(|split| split.fits).min_by(by_step);
                let wanted = fastest.or_else(|| all.iter().min_by(by_size));
                let got = question.best(&counted, 8, kind, &micro_batches);
                assert_eq!(got.as_ref(), wanted, "{kind:?} in {room} GiB");
            }
        }
    }

    #[test]
    fn the_optimiser_moves_where_nothing_else_fits_or_where_that_is_asked_for() {
        let config = ModelConfig::preset(Preset::L, 32);
        let small =
            |offload, host_room: f64| Question { room: 5.0 * GIB, offload, host_room, ..question(&config, 128, 8) };
        let moved = small(None, 3.0 * GIB).splits(&by_formula);
        let choice = moved.choice.unwrap();
        assert!(
            choice.offloads() && choice.zero > 0 && choice.bytes() <= 5.0 * GIB && choice.host <= 3.0 * GIB,
            "{choice:?}"
        );
        assert!((choice.host / (1.5 * config.parameter_count() as f64) - 1.0).abs() < 1e-3);
        assert!(moved.alternatives.iter().all(|split| split.offloads() == split.fits));
        assert!(moved.otherwise.is_some_and(|split| !split.offloads() && !split.fits));
        let reasons = moved.reasons(&small(None, 3.0 * GIB));
        says(&reasons, "--offload-optimizer keeps 1.9 GiB per card", "");
        says(&reasons, "without --offload-optimizer it does not fit: ", "");

        let no_host = small(None, 1.0 * GIB).splits(&by_formula);
        assert!(no_host.choice.is_none() && !no_host.alternatives.iter().any(Split::offloads));
        let reasons = no_host.reasons(&small(None, 1.0 * GIB));
        says(&reasons, "with --offload-optimizer", "and 1.9 GiB of the host's memory");

        let roomy = Question { offload: Some(true), ..question(&config, 128, 8) }.splits(&by_formula).choice.unwrap();
        let kept = question(&config, 128, 8).splits(&by_formula).choice.unwrap();
        assert!(
            roomy.offloads() && !kept.offloads() && roomy.times.step > kept.times.step && roomy.bytes() < kept.bytes()
        );
    }

    /// iGPT-XL on two cards of 80 GB fits with its optimiser on them only where the MLP is computed again, a ninth of a step; the bus takes
    /// a twentieth.
    #[test]
    fn the_optimiser_moves_where_the_bus_takes_less_time_than_computing_again() {
        let config = ModelConfig::preset(Preset::Xl, 64);
        let asked = question(&config, 64, 2);
        let splits = asked.splits(&by_formula);
        let choice = splits.choice.unwrap();
        assert!(choice.offloads() && choice.recompute == Recompute::None, "{choice:?}");
        let kept = splits.otherwise.unwrap();
        assert!(kept.fits && !kept.offloads() && kept.recompute == Recompute::NormsMlp, "{kept:?}");
        assert_eq!(Question { offload: Some(false), ..asked }.splits(&by_formula).choice, Some(kept));
        // 12 P / 2 bytes at 51.2 GB/s each way, in the place of twice as many at 3.35 TB/s.
        let bytes = 6.0 * config.parameter_count() as f64;
        assert!((choice.times.bus / (bytes / 51.2e9 - 2.0 * bytes / 3.35e12) - 1.0).abs() < 1e-9);
        let (bus, again) = (choice.times.bus / choice.times.step, kept.times.step / choice.times.step - 1.0);
        assert!((0.04..0.06).contains(&bus) && (0.05..0.08).contains(&again), "{bus} {again}");
        let reasons = splits.reasons(&asked);
        says(&reasons, "without --offload-optimizer it", "% slower with --recompute norms-mlp and 1 image at a time");
        says(&reasons, "--offload-optimizer keeps", "at 51.2 GB/s");

        // A slower bus: the MLP is computed again, as it is where the host has no room.
        let slow = Question { speed: Speed { bus: 1e9, ..asked.speed }, ..asked };
        let splits = slow.splits(&by_formula);
        assert_eq!(splits.choice, Some(kept));
        says(&splits.reasons(&slow), "--offload-optimizer would be", "% slower with --recompute none");
        let full = Question { host_room: 30.0 * GIB, ..asked };
        let splits = full.splits(&by_formula);
        assert_eq!(splits.choice, Some(kept));
        says(&splits.reasons(&full), "--offload-optimizer does not fit: ", "of the host's memory per card");

        // Four cards have room for their shares, and the bus is what would be waited for.
        let roomy = question(&config, 64, 4);
        let splits = roomy.splits(&by_formula);
        assert!(!splits.choice.unwrap().offloads() && splits.otherwise.unwrap().offloads());
        says(&splits.reasons(&roomy), "--offload-optimizer would be", "% slower");
    }
}
