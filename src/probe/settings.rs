//! What is probed, and how.

use std::path::{Path, PathBuf};

use super::depths::DepthSpec;
use super::error::Result;
use super::solver_choice::Solver;
use crate::data::{Alpha, DataSpec, Filter, SkipBad};
use crate::device::Precision;
use crate::run::images::TrainedOn;

/// The folder of the results within what was probed, where no other is given.
pub const FOLDER: &str = "probe";

/// Settings of a [`Session`](super::Session).
#[derive(Clone, Debug)]
pub struct Settings {
    /// A checkpoint, a run, or a Hugging Face folder; `None` to probe the pixels alone.
    pub checkpoint: Option<PathBuf>,
    /// Images with labels.
    pub data: DataSpec,
    /// Test images, if they are not those of `data`.
    pub test_data: Option<DataSpec>,
    /// Whether the moving average of the weights is probed, which a run with `ema` keeps, instead of the weights.
    pub ema: bool,
    /// Depths to probe.
    pub depths: DepthSpec,
    /// Consecutive layers that are probed side by side, odd.
    pub concat: Option<usize>,
    /// Whether the same model with fresh weights is probed too.
    pub untrained: bool,
    /// Whether the pixels themselves are probed too.
    pub raw_pixels: bool,
    /// Resolution of the pixels where there is no checkpoint.
    pub resolution: Option<u32>,
    /// Numbers of labels per class to probe with, at the best depth.
    pub labels_per_class: Vec<usize>,
    /// How many times such labels are chosen at random.
    pub few_label_trials: u64,
    /// Only this many images of either part.
    pub images: Option<usize>,
    /// File of the colours that images are quantised to; without it the model's, else the built-in ones.
    pub palette: Option<PathBuf>,
    /// How images are shrunk; without it as in the checkpoint's run, else bilinear.
    pub filter: Option<Filter>,
    /// How many bad files are left out.
    pub skip_bad: SkipBad,
    /// What becomes of the alpha of image files; without it as in the checkpoint's run, else it is dropped.
    pub alpha: Option<Alpha>,
    /// Fraction of the pixels hidden from a BERT model; without it, that of its training.
    pub mask_rate: Option<f64>,
    /// Masks per test image of a BERT model.
    pub masks: Option<u64>,
    /// Images that the model sees at a time.
    pub batch: usize,
    /// How classifiers are fitted.
    pub solver: Solver,
    /// Fraction of the training images held out to choose by; without it, the data set's own.
    pub holdout: Option<f64>,
    /// Seed of the held-out images, of fresh weights, and of everything random; without it that of the checkpoint's run
    /// where its images are probed, else 0.
    pub seed: Option<u64>,
    /// Folder of the results and features; without it, `probe` in the checkpoint or the working directory.
    pub out: Option<PathBuf>,
    /// Whether files of features are removed at the end.
    pub discard_features: bool,
    /// What the device computes in: decides how much memory is needed.
    pub precision: Precision,
    /// Whether bars are drawn on stderr while images are opened.
    pub progress: bool,
}

impl Settings {
    /// Every depth of the model in `checkpoint`, on images of `data`, with L-BFGS.
    pub fn new(data: DataSpec, checkpoint: Option<&Path>) -> Self {
        Self {
            checkpoint: checkpoint.map(Path::to_owned),
            data,
            test_data: None,
            ema: false,

            depths: DepthSpec::All,
            concat: None,
            untrained: false,
            raw_pixels: checkpoint.is_none(),
            resolution: None,

            labels_per_class: Vec::new(),
            few_label_trials: 5,

            images: None,
            palette: None,
            filter: None,
            skip_bad: SkipBad::default(),
            alpha: None,
            mask_rate: None,
            masks: None,

            batch: 16,
            solver: Solver::default(),
            holdout: None,
            seed: None,

            out: None,
            discard_features: false,
            precision: Precision::F32,
            progress: false,
        }
    }

    /// The seed, once the run has been asked.
    pub(super) fn seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }

    /// What is left open, as it is in the run that the checkpoint is of; the solver's seed with it.
    pub(super) fn completed(mut self) -> Result<Self> {
        if let Some(run) = self.checkpoint.as_deref().map(TrainedOn::of).transpose()?.flatten() {
            let same = self.data.is_same_place(&run.data);
            self.filter = self.filter.or(Some(run.filter));
            self.alpha = self.alpha.or(Some(run.alpha));
            self.seed = self.seed.or(same.then_some(run.seed));
            self.holdout = self.holdout.or(run.holdout.filter(|_| same));
        }
        let seed = self.seed();
        if let Solver::Sgd { options, .. } = &mut self.solver {
            options.seed = seed;
        }
        Ok(self)
    }

    /// At most this many images of a part that has `available`.
    pub(super) fn images_of(&self, available: usize) -> usize {
        available.min(self.images.unwrap_or(usize::MAX))
    }

    /// The folder of the results.
    pub(super) fn folder(&self) -> PathBuf {
        match (&self.out, &self.checkpoint) {
            (Some(out), _) => out.clone(),
            (None, Some(checkpoint)) => checkpoint.join(FOLDER),
            (None, None) => PathBuf::from(FOLDER),
        }
    }
}
