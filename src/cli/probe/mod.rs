//! `igpt-engine probe`: what a frozen model's features say of an image's class.

mod args;
mod depths;
mod from_arrays;
mod from_model;
mod output;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use self::args::{ArrayPair, DepthSpec, SolverArgs};
use super::common::device::{DeviceArgs, on_device};
use crate::cli::common::named::named;
use crate::data::{DataSpec, Filter, SkipBad};
use crate::device::Precision;
use crate::device::select::Request;

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
    checkpoint: Option<PathBuf>,
    /// Images with labels: cifar10:DIR, cifar100:DIR, stl10:DIR, images:DIR, tokens:FILE.npy,LABELS.npy, or sample
    #[arg(long, value_name = "KIND:PATH", default_value = "sample", conflicts_with = "features")]
    data: DataSpec,
    /// Test images, if they are not those of --data
    #[arg(long, value_name = "KIND:PATH", conflicts_with = "features")]
    test_data: Option<DataSpec>,
    /// Depths to probe: all, best (all on held-out images, the best one tested), or numbers as in 0,6,10-14
    #[arg(long, value_name = "DEPTHS", default_value = "all", conflicts_with = "features")]
    depth: DepthSpec,
    /// Probe this many consecutive layers side by side, centred on each of --depth (or the best one); odd
    #[arg(long, value_name = "K", conflicts_with = "features")]
    concat: Option<usize>,
    /// Probe the same model with fresh weights too
    #[arg(long, requires = "checkpoint")]
    untrained: bool,
    /// Probe the pixels themselves too, at the model's resolution; without --checkpoint, only them
    #[arg(long, conflicts_with = "features")]
    raw_pixels: bool,
    /// Resolution of --raw-pixels where there is no --checkpoint
    #[arg(long, value_name = "N", conflicts_with_all = ["checkpoint", "features"])]
    resolution: Option<u32>,
    /// Probe with so many labels a class, drawn several times over, at the best of --depth
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "checkpoint")]
    labels_per_class: Vec<usize>,
    /// Draws of --labels-per-class
    #[arg(long, value_name = "N", default_value_t = 5)]
    seeds: u64,
    /// Use only the first N training and the first N test images, for a quick look
    #[arg(long, value_name = "N", conflicts_with = "features")]
    images: Option<usize>,
    /// Colours to code images with [default: those saved with the model, else the built-in ones]
    #[arg(long, value_name = "FILE.npy", conflicts_with = "features")]
    palette: Option<PathBuf>,
    /// How images are shrunk
    #[arg(long, value_parser = named::<Filter>(), default_value_t)]
    filter: Filter,
    /// Leave out bad image files instead of stopping at the first; with =N, up to N of them
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "N")]
    skip_bad: Option<SkipBad>,
    /// Share of the pixels hidden from a BERT model [default: 0.15, as it was trained]
    #[arg(long, value_name = "SHARE", requires = "checkpoint")]
    mask_rate: Option<f64>,
    /// Masks of each test image of a BERT model; with several, the class that most of them name counts too (the paper: 5)
    #[arg(long, value_name = "N", requires = "checkpoint")]
    masks: Option<u64>,
    /// Images the model sees at a time
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch: usize,
    /// Ready features: float [N, features] and labels, integers [N]
    #[arg(long, value_name = "X.npy,Y.npy", requires = "test_features")]
    features: Option<ArrayPair>,
    /// Ready features to test on
    #[arg(long, value_name = "X.npy,Y.npy", requires = "features")]
    test_features: Option<ArrayPair>,
    #[command(flatten)]
    solver: SolverArgs,
    /// Share of the training images held out to choose by [default: the data set's own, 10 % of CIFAR, 4 % of ImageNet]
    #[arg(long, value_name = "SHARE")]
    holdout: Option<f64>,
    /// Seed of the held-out images, of fresh weights, and of everything drawn
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Where results and features go [default: a folder "probe" in --checkpoint, or "probe" here]
    #[arg(long, value_name = "DIR", conflicts_with = "features")]
    out: Option<PathBuf>,
    /// Remove the files of features at the end; kept, they save the next probe of the same images the pass through the model
    #[arg(long)]
    discard_features: bool,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl ProbeCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        self.solver.check()?;
        if self.batch == 0 || self.images == Some(0) || self.seeds == 0 {
            bail!("--batch, --images and --seeds must be at least 1");
        }
        if !self.mask_rate.is_none_or(|rate| rate > 0.0 && rate <= 1.0) {
            bail!("--mask-rate must be above 0 and at most 1");
        }
        if !self.masks.is_none_or(|masks| (1..=1000).contains(&masks)) {
            bail!("--masks must be from 1 to 1000");
        }
        // In bf16 the solver's products would be of features rounded to 8 bits: its steps then lead to another optimum than
        // the one that f64 checks for. A GPU probes in f32 unless told otherwise.
        let request = Request { kept: Some(Precision::F32), ..(&self.device).into() };
        match (&self.features, &self.test_features) {
            (Some(train), Some(test)) => {
                let job = from_arrays::ReadyJob { train: train.clone(), test: test.clone(), command: self };
                on_device(request, job)
            }
            _ if self.checkpoint.is_none() && !self.raw_pixels => {
                bail!("there is nothing to probe; give --checkpoint RUN, --features X.npy,Y.npy, or --raw-pixels")
            }
            _ => on_device(request, from_model::ImagesJob { command: self }),
        }
    }
}
