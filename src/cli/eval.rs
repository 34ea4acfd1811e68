//! `igpt-engine eval`: nats per token of a model on a data set.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::device::{DeviceArgs, DeviceJob, on_device};
use super::memory;
use super::model_data::ModelDataArgs;
use super::output::{print_json, say};
use crate::checkpoint;
use crate::data::npy;
use crate::device::Device;
use crate::model::Transformer;
use crate::train;

/// Score a model: mean negative log-likelihood of every pixel, in nats per token
///
/// Images are taken in file order and without augmentation. 6.2383 (ln 512) is what knowing nothing scores; the paper's
/// iGPT-S, M and L reach 2.0895, 2.0614 and 2.0466 on ImageNet at 32 × 32 with OpenAI's palette. Figures of different
/// palettes or resolutions cannot be compared, nor can any with bits per dimension of raw pixels.
#[derive(Args)]
pub struct EvalCommand {
    /// A checkpoint, a run (its latest checkpoint is taken), or a Hugging Face ImageGPT folder
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    #[command(flatten)]
    data: ModelDataArgs,
    /// Images to score, from the first [default: all]
    #[arg(long, value_name = "N")]
    images: Option<usize>,
    /// Images scored at a time
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch: usize,
    /// Write each token's nats, float32 [N, tokens of an image]
    #[arg(long, value_name = "OUT.npy")]
    per_token: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl EvalCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        if self.batch == 0 || self.images == Some(0) {
            bail!("--batch and --images must be at least 1");
        }
        on_device(self.device.device.unwrap_or_default(), self.device.threads, self)
    }
}

impl DeviceJob for EvalCommand {
    fn run<D: Device>(self, device: D) -> Result<()> {
        let folder = checkpoint::resolve(&self.checkpoint)?;
        let (config, parameters) = checkpoint::load_model(&device, &folder)?;
        let model = Transformer::new(config)?;
        let opened = self.data.open(&folder, model.config(), self.json)?;
        let examples = opened.examples.as_ref();
        let images = self.images.unwrap_or(usize::MAX).min(examples.len());
        let length = examples.sequence_length();
        let at_once = self.batch.min(images);
        memory::refuse_beyond_machine(
            &format!("scoring {at_once} images at a time"),
            memory::of_scoring(model.config(), at_once as f64 * length as f64),
            "try a smaller --batch",
        )?;
        let bar = progress(images as u64, self.json);
        let mut per_token = Vec::new();
        let result = train::evaluate(&device, &model, &parameters, examples, images, self.batch, |nats| {
            if self.per_token.is_some() {
                per_token.extend_from_slice(nats);
            }
            bar.inc((nats.len() / length) as u64);
            Ok::<_, anyhow::Error>(())
        })?;
        bar.finish_and_clear();
        if let Some(path) = &self.per_token {
            npy::write_f32(path, &[images, length], &per_token)
                .with_context(|| format!("cannot write the nats of each token to {}", path.display()))?;
        }
        let nats = result.nats_per_token;
        let bits = nats / std::f64::consts::LN_2;
        if self.json {
            return print_json(&json!({
                "nats_per_token": nats,
                "bits_per_token": bits,
                "perplexity": nats.exp(),
                "unigram_entropy": result.unigram_entropy,
                "images": result.images,
                "tokens": result.tokens,
                "split": self.data.split,
                "data": opened.description,
                "checkpoint": folder,
            }));
        }
        say(format_args!("{nats:.6} nats per token ({bits:.4} bits, perplexity {:.3})", nats.exp()))?;
        say(format_args!("over {} images, {} tokens, of {}", result.images, result.tokens, opened.description))?;
        say(format_args!("{:.6} nats is the entropy of the colours' own frequencies there", result.unigram_entropy))
    }
}

/// A bar over images or positions; hidden for scripts and away from terminals.
pub fn progress(length: u64, hidden: bool) -> ProgressBar {
    if hidden {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{bar:28.cyan/blue} {pos}/{len}  {elapsed} spent, {eta} left") {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar
}
