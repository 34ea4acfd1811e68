//! `igpt-engine eval`: nats per token of a model on a data set and, of a fine-tuned one, its accuracy.

mod masks;
mod output;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::common::device::{DeviceArgs, on_device};
use super::common::eval_images::ModelDataArgs;
use super::common::output::print_json;
use super::common::output::tell;
use super::common::progress::image_bar;
use crate::checkpoint;
use crate::checkpoint::images::check_classes;
use crate::cli::common::named::named;
use crate::data::npy;
use crate::device::Device;
use crate::device::select::{Chosen, DeviceJob};
use crate::eval::{self, EvaluationPlan};
use crate::fs::atomic_file;
use crate::model::{ModelConfig, Objective, Transformer};
use crate::plan::{Memory, Work, limits};
use crate::run::checkpoints;
use masks::MaskArgs;
use output::{PerClass, Report};

/// Score a model: mean negative log-likelihood of every pixel, in nats per token; of a fine-tuned model, its accuracy too
///
/// Images are taken in file order and without augmentation. 6.2383 (ln 512) is what knowing nothing scores; the paper's
/// iGPT-S, M and L reach 2.0895, 2.0614 and 2.0466 on ImageNet at 32 × 32 with OpenAI's palette. Figures of different
/// palettes or resolutions cannot be compared, nor can any with bits per dimension of raw pixels.
///
/// A BERT model is scored on masked pixels: the mean over images of the mean over each image's masked pixels. Masks are drawn
/// by --mask-seed, or given. With --ensemble N a fine-tuned BERT model sees each image under N masks and takes the class that
/// it named most often.
#[derive(Args)]
pub struct EvalCommand {
    /// A checkpoint, a run (its best or latest checkpoint is taken), or a Hugging Face ImageGPT folder
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
    /// The loss: ar, the next pixel, or bert, masked pixels [default: what the model was trained for]
    #[arg(long, value_parser = named::<Objective>(), value_name = "OBJECTIVE")]
    objective: Option<Objective>,
    #[command(flatten)]
    masks: MaskArgs,
    /// Write each token's nats, float32 [N, tokens of an image], pixels row by row; pixels that a BERT model saw are NaN
    #[arg(long, value_name = "OUT.npy")]
    per_token: Option<PathBuf>,
    /// Write what --json prints to a file too; `results` finds it in the folder of a run
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    /// Show the accuracy of every class
    #[arg(long)]
    per_class: bool,
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
        on_device((&self.device).into(), self)
    }

    /// The loss to score by.
    fn objective(&self, model: &ModelConfig) -> Result<Objective> {
        let objective = self.objective.unwrap_or(model.objective());
        if objective == Objective::Ar && !model.sos {
            bail!("this is a BERT model (no start-of-sequence token), so it cannot be scored with --objective ar");
        }
        if objective != model.objective() && !self.json {
            tell(format_args!(
                "note: the model was trained to predict the next pixel; masks are new to it, so expect a poor score"
            ));
        }
        self.masks.check(objective, model)?;
        Ok(objective)
    }
}

impl DeviceJob for EvalCommand {
    type Output = Result<()>;

    fn run<D: Device>(self, device: D, chosen: &Chosen) -> Result<()> {
        if !self.json {
            tell(format_args!("on the device {}{}", device.describe(), chosen.why));
        }
        let folder = checkpoints::resolve(&self.checkpoint)?;
        let (config, parameters) = checkpoint::load_model(&device, &folder)?;
        let objective = self.objective(&config)?;
        if self.per_class && config.classes.is_empty() {
            bail!("--per-class is for fine-tuned models, and this one has no class head; see `igpt-engine finetune`");
        }
        let model = Transformer::new(config)?;
        let opened = self.data.selection(self.json).open(&folder, model.config())?;
        let examples = opened.examples.as_ref();
        let labelled = check_classes(model.config(), examples)?;
        if self.per_class && !labelled {
            bail!("--per-class needs images with labels, and {} has none", opened.description);
        }
        let images = self.images.unwrap_or(usize::MAX).min(examples.len());
        let length = examples.sequence_length();
        let at_once = self.batch.min(images);
        limits::check_device(
            &device,
            &format!("scoring {at_once} images at a time"),
            &Memory::of(model.config(), Work::Forward, at_once as f64 * length as f64, chosen.precision),
            "try a smaller --batch",
        )?;
        let given = self.masks.given(images, length)?;
        let masks = self.masks.masks(given.as_deref());
        let plan = EvaluationPlan { images, batch: self.batch, objective, masks };
        let bar = image_bar(images as u64, self.json);
        let mut per_token = Vec::new();
        let mut per_class = PerClass::new(model.config().classes.len());
        let result = eval::evaluate_with(&device, &model, &parameters, examples, &plan, |scores| {
            if self.per_token.is_some() {
                per_token.extend_from_slice(scores.nats);
            }
            per_class.add(scores.first, scores.classes, examples);
            bar.inc((scores.nats.len() / length) as u64);
            Ok::<_, anyhow::Error>(())
        })?;
        bar.finish_and_clear();
        if let Some(path) = &self.per_token {
            npy::write_f32(path, &[images, length], &per_token)
                .with_context(|| format!("cannot write the nats of each token to {}", path.display()))?;
        }
        let report = Report {
            result,
            objective,
            per_class: self.per_class.then(|| per_class.rows(&model.config().classes)),
            split: self.data.split,
            data: opened.description,
            checkpoint: folder,
            masks: (objective == Objective::Bert).then(|| self.masks.describe()),
        };
        if let Some(path) = &self.out {
            let text = format!("{}\n", report.json());
            atomic_file::write_file(path, |file| file.write_all(text.as_bytes()))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        if self.json { print_json(&report.json()) } else { report.print() }
    }
}
