//! The flags of `probe`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::cli::common::device::DeviceArgs;
use crate::cli::common::named::named;
use crate::cli::common::unused::refuse_given;
use crate::data::{Alpha, DataSpec, Filter, SkipBad};
use crate::device::Precision;
use crate::probe::{ArrayPair, ArraySettings, DepthSpec, FitLimits, Settings, SgdOptions, Solver, TOLERANCE};

/// Fit a linear classifier to a model's features, at any depth
///
/// A feature is the mean over positions of what a block sees: depth 0 is the embedding, the last one the final norm's output.
/// On each depth a multinomial logistic regression is fitted; its penalty is chosen on held-out training images, it is fitted
/// again on all of them, and tested. The result is a table, probe.json and report.html in --out. --config FILE.toml takes
/// settings from a recipe (flags win), and --scale-down N divides its sizes.
///
///   igpt-engine probe --checkpoint RUN --data cifar10:DIR
///   igpt-engine probe --checkpoint RUN --data cifar10:DIR --untrained --raw-pixels
///   igpt-engine probe --checkpoint RUN --data images:DIR --depth best --concat 5 --solver sgd
///   igpt-engine probe --checkpoint RUN --data cifar10:DIR --depth best --labels-per-class 4,25,400
///   igpt-engine probe --config recipes/probe-cifar10-l.toml --checkpoint RUN
///   igpt-engine probe --raw-pixels --resolution 16 --data cifar10:DIR
///   igpt-engine probe --features X.npy,Y.npy --test-features X.npy,Y.npy --c 1
#[derive(Args, Clone)]
#[command(verbatim_doc_comment)]
pub struct ProbeCommand {
    /// A checkpoint, a run (its latest checkpoint is taken), or a Hugging Face ImageGPT folder
    #[arg(long, value_name = "DIR", conflicts_with = "features")]
    pub(super) checkpoint: Option<PathBuf>,
    /// Probe the moving average of the weights, which `train --ema` keeps, instead of the weights
    #[arg(long, requires = "checkpoint")]
    pub(super) ema: bool,
    /// Images with labels: cifar10:DIR, cifar100:DIR, stl10:DIR, images:DIR, tokens:FILE.npy,LABELS.npy, or sample
    #[arg(long, value_name = "KIND:PATH", default_value = "sample", conflicts_with = "features")]
    pub(super) data: DataSpec,
    /// Test images, if they are not those of --data
    #[arg(long, value_name = "KIND:PATH", conflicts_with = "features")]
    pub(super) test_data: Option<DataSpec>,
    /// Depths to probe: all, best (all on held-out images, the best one tested), or numbers as in 0,6,10-14
    #[arg(long, value_name = "DEPTHS", default_value = "all", conflicts_with = "features")]
    pub(super) depth: DepthSpec,
    /// Probe this many consecutive layers side by side, centred on each of --depth (or the best one); odd
    #[arg(long, value_name = "K", conflicts_with = "features")]
    pub(super) concat: Option<usize>,
    /// Probe the same model with fresh weights too
    #[arg(long, requires = "checkpoint")]
    pub(super) untrained: bool,
    /// Probe the pixels themselves too, at the model's resolution; without --checkpoint, only them
    #[arg(long, conflicts_with = "features")]
    pub(super) raw_pixels: bool,
    /// Resolution of --raw-pixels where there is no --checkpoint
    #[arg(long, value_name = "N", conflicts_with_all = ["checkpoint", "features"])]
    pub(super) resolution: Option<u32>,
    /// Probe with this many labels per class, chosen at random several times over, at the best of --depth
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "checkpoint")]
    pub(super) labels_per_class: Vec<usize>,
    /// How many times the labels of --labels-per-class are chosen
    #[arg(long, value_name = "N", default_value_t = 5, requires = "labels_per_class")]
    pub(super) seeds: u64,
    /// Use only the first N training and the first N test images, for a quick look
    #[arg(long, value_name = "N", conflicts_with = "features")]
    pub(super) images: Option<usize>,
    /// Colours that images are quantised to [default: those saved with the model, else the built-in ones]
    #[arg(long, value_name = "FILE.npy", conflicts_with = "features")]
    pub(super) palette: Option<PathBuf>,
    /// How images are shrunk [default: as in the run, else bilinear]
    #[arg(long, value_parser = named::<Filter>(), conflicts_with = "features")]
    pub(super) filter: Option<Filter>,
    /// Leave out bad image files instead of stopping at the first; with =N, up to N of them
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "N", conflicts_with = "features")]
    pub(super) skip_bad: Option<SkipBad>,
    /// What becomes of the alpha of image files: dropped, or the picture laid over white or black [default: as in the run,
    /// else drop]
    #[arg(long, value_parser = named::<Alpha>(), conflicts_with = "features")]
    pub(super) alpha: Option<Alpha>,
    /// Fraction of the pixels hidden from a BERT model [default: 0.15, as it was trained]
    #[arg(long, value_name = "FRACTION", requires = "checkpoint")]
    pub(super) mask_rate: Option<f64>,
    /// Masks of each test image of a BERT model; with several, the class that most of them name counts too (the paper: 5)
    #[arg(long, value_name = "N", requires = "checkpoint")]
    pub(super) masks: Option<u64>,
    /// Images the model sees at a time
    #[arg(long, value_name = "N", default_value_t = 16, conflicts_with = "features")]
    pub(super) batch: usize,
    /// Ready features: float [N, features] and labels, integers [N]
    #[arg(long, value_name = "X.npy,Y.npy", requires = "test_features")]
    pub(super) features: Option<ArrayPair>,
    /// Ready features to test on
    #[arg(long, value_name = "X.npy,Y.npy", requires = "features")]
    pub(super) test_features: Option<ArrayPair>,
    #[command(flatten)]
    pub(super) solver: SolverArgs,
    /// Fraction of the training images held out to choose by [default: the data set's own, 10 % of CIFAR, 4 % of ImageNet]
    #[arg(long, value_name = "FRACTION")]
    pub(super) holdout: Option<f64>,
    /// Seed of the held-out images, of fresh weights, and of everything random [default: the run's where its images are
    /// probed, else 0]
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// Where results and features go [default: a folder "probe" in --checkpoint, or "probe" here]
    #[arg(long, value_name = "DIR", conflicts_with = "features")]
    pub(super) out: Option<PathBuf>,
    /// Remove the files of features at the end; kept, they save the next probe of the same images the pass through the model
    #[arg(long, conflicts_with = "features")]
    pub(super) discard_features: bool,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Penalties that L-BFGS is tried with where none is given: for images, and for arrays.
const IMAGE_C: [f64; 5] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0];
const ARRAY_C: [f64; 1] = [1.0];

impl ProbeCommand {
    /// Refuses numbers that say nothing.
    pub(super) fn check(&self) -> Result<()> {
        self.solver.check()?;
        if self.data.is_tokens() {
            let given = [("filter", self.filter.is_some()), ("skip-bad", self.skip_bad.is_some())];
            refuse_given(&format!("with {}, which holds tokens", self.data), &given)?;
        }
        if self.batch == 0 || self.images == Some(0) || self.seeds == 0 {
            bail!("--batch, --images and --seeds must be at least 1");
        }
        if !self.mask_rate.is_none_or(|rate| rate > 0.0 && rate <= 1.0) {
            bail!("--mask-rate must be above 0 and at most 1");
        }
        if !self.masks.is_none_or(|masks| (1..=1000).contains(&masks)) {
            bail!("--masks must be from 1 to 1000");
        }
        Ok(())
    }

    /// What the flags say of a probe of images.
    pub(super) fn settings(&self, precision: Precision) -> Settings {
        Settings {
            checkpoint: self.checkpoint.clone(),
            ema: self.ema,
            data: self.data.clone(),
            test_data: self.test_data.clone(),

            depths: self.depth.clone(),
            concat: self.concat,
            untrained: self.untrained,
            raw_pixels: self.raw_pixels,
            resolution: self.resolution,

            labels_per_class: self.labels_per_class.clone(),
            few_label_trials: self.seeds,

            images: self.images,
            palette: self.palette.clone(),
            filter: self.filter,
            skip_bad: self.skip_bad.unwrap_or_default(),
            alpha: self.alpha,
            mask_rate: self.mask_rate,
            masks: self.masks,

            batch: self.batch,
            solver: self.solver.solver(self.seed.unwrap_or(0), &IMAGE_C),
            holdout: self.holdout,
            seed: self.seed,

            out: self.out.clone(),
            discard_features: self.discard_features,
            precision,
            progress: !self.json,
        }
    }

    /// What the flags say of a probe of arrays, if it is one.
    pub(super) fn array_settings(&self) -> Option<ArraySettings> {
        Some(ArraySettings {
            train: self.features.clone()?,
            test: self.test_features.clone()?,
            solver: self.solver.solver(self.seed.unwrap_or(0), &ARRAY_C),
            holdout: self.holdout.unwrap_or(0.1),
            seed: self.seed.unwrap_or(0),
        })
    }
}

/// `--solver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SolverKind {
    /// L-BFGS: to the optimum. For everything that fits in memory
    Lbfgs,
    /// SGD with momentum 0.9 and a cosine: the paper's for ImageNet
    Sgd,
}

/// Flags of the solver.
#[derive(Args, Clone, Debug)]
pub struct SolverArgs {
    /// How classifiers are fitted
    #[arg(long, value_enum, default_value_t = SolverKind::Lbfgs)]
    pub solver: SolverKind,
    /// Inverse strengths of the penalty, tried on the held-out images: the objective is ½‖W‖² + C · Σ cross-entropy
    /// [default: 0.0001,0.001,0.01,0.1,1 for lbfgs, no penalty for sgd]
    #[arg(long, value_name = "LIST", value_delimiter = ',', allow_negative_numbers = true)]
    pub c: Vec<f64>,
    /// Learning rates of sgd, tried from the highest down until the held-out accuracy falls
    /// [default: 30,10,3,1,0.3,0.1,0.03]
    #[arg(long, value_name = "LIST", value_delimiter = ',', allow_negative_numbers = true)]
    pub lr: Vec<f64>,
    /// Maximum iterations of lbfgs, or steps of sgd [default: 1000, or 10000; the paper's for ImageNet are 1000000]
    #[arg(long, value_name = "N")]
    pub iterations: Option<u64>,
    /// Rows of a step of sgd
    /// [default: 128]
    #[arg(long, value_name = "N")]
    pub sgd_batch: Option<usize>,
    /// lbfgs has converged when the gradient's squared norm is at most this fraction of the objective, which is then
    /// within half this fraction of its minimum
    /// [default: 1e-8]
    #[arg(long, value_name = "FRACTION", allow_negative_numbers = true)]
    pub tolerance: Option<f64>,
}

/// Learning rates that SGD is tried with where none is given.
const RATES: [f64; 7] = [30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03];
/// Entries of the longest list: each is a fit.
const MAX_TRIED: usize = 100;
/// More iterations than make sense of any solver.
const MAX_ITERATIONS: u64 = 1 << 40;

impl SolverArgs {
    /// Refuses numbers that no solver takes.
    pub fn check(&self) -> Result<()> {
        let positive = |values: &[f64]| values.iter().all(|value| *value > 0.0 && value.is_finite());
        if !positive(&self.c) || self.c.len() > MAX_TRIED {
            bail!("--c {:?}: give up to {MAX_TRIED} positive numbers", self.c);
        }
        match self.solver {
            SolverKind::Lbfgs => {
                let of_sgd = [("lr", !self.lr.is_empty()), ("sgd-batch", self.sgd_batch.is_some())];
                refuse_given("with --solver lbfgs, it is for sgd", &of_sgd)?;
            }
            SolverKind::Sgd => {
                refuse_given("with --solver sgd, it is for lbfgs", &[("tolerance", self.tolerance.is_some())])?;
            }
        }
        if !positive(&self.lr) || self.lr.len() > MAX_TRIED {
            bail!("--lr {:?}: give up to {MAX_TRIED} positive numbers", self.lr);
        }

        if self.solver == SolverKind::Sgd && self.c.len() > 1 {
            bail!("--solver sgd tries learning rates (--lr); give it one --c, or none for no penalty");
        }
        if !self.iterations.is_none_or(|count| (1..=MAX_ITERATIONS).contains(&count)) {
            bail!("--iterations must be from 1 to {MAX_ITERATIONS}");
        }

        if self.sgd_batch.is_some_and(|rows| rows == 0 || rows > 1 << 20) {
            bail!("--sgd-batch must be from 1 to {}", 1 << 20);
        }
        if let Some(tolerance) = self.tolerance.filter(|tolerance| !(*tolerance > 0.0 && *tolerance < 1.0)) {
            bail!("--tolerance {tolerance} must be between 0 and 1");
        }
        Ok(())
    }

    /// The solver with everything it may choose from; L-BFGS has the penalties `default_c` where none is given.
    pub fn solver(&self, seed: u64, default_c: &[f64]) -> Solver {
        match self.solver {
            SolverKind::Lbfgs => {
                let c = if self.c.is_empty() { default_c.to_vec() } else { self.c.clone() };
                let iterations = self.iterations.map_or(1000, |count| usize::try_from(count).unwrap_or(usize::MAX));
                Solver::Lbfgs { c, limits: FitLimits { tolerance: self.tolerance.unwrap_or(TOLERANCE), iterations } }
            }

            SolverKind::Sgd => {
                let options = SgdOptions {
                    learning_rate: 0.0,
                    momentum: 0.9,
                    steps: self.iterations.unwrap_or(10_000),
                    batch: self.sgd_batch.unwrap_or(128),
                    c: self.c.first().copied(),
                    seed,
                };
                let rates = if self.lr.is_empty() { RATES.to_vec() } else { self.lr.clone() };
                Solver::Sgd { rates, options }
            }
        }
    }
}
