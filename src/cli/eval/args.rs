//! The flags of `eval`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::cli::common::device::DeviceArgs;
use crate::cli::common::eval_images::ModelDataArgs;
use crate::cli::common::first_model;
use crate::cli::common::named::named;
use crate::eval::{MaskSettings, Settings};
use crate::model::Objective;

/// Score a model: mean negative log-likelihood of every pixel, in nats per token; of a fine-tuned model, its accuracy too
///
/// Images are taken in file order and without augmentation. 6.2383 (ln 512) is what knowing nothing scores; the paper's
/// iGPT-S, M and L reach 2.0895, 2.0614 and 2.0466 on ImageNet at 32 × 32 with OpenAI's palette. Figures of different
/// palettes or resolutions cannot be compared.
///
/// Bits per token are nats over ln 2. Bits per dimension are bits per token over 3: a token stands for the red, green and blue
/// value of a pixel. The dimensions are those of the shrunk image in the palette's 512 colours (nothing is known at 9 bits per
/// token, 3 per dimension), so the figure cannot be compared with bits per dimension of raw pixels, which pay for what the
/// palette loses.
///
/// A BERT model is scored on masked pixels: the mean over images of the mean over each image's masked pixels. Masks are random,
/// by --mask-seed, or given. With --ensemble N a fine-tuned BERT model sees each image under N masks and takes the class that
/// it named most often.
#[derive(Args)]
pub struct EvalCommand {
    /// A checkpoint, a run (its best or latest checkpoint is taken), or a Hugging Face ImageGPT folder; without it you are told
    /// how to make one in a minute
    #[arg(long, value_name = "DIR")]
    pub(super) checkpoint: Option<PathBuf>,
    /// Score the moving average of the weights, which `train --ema` keeps, instead of the weights
    #[arg(long)]
    pub(super) ema: bool,
    #[command(flatten)]
    pub(super) data: ModelDataArgs,
    /// Images to score, from the first [default: all]
    #[arg(long, value_name = "N")]
    pub(super) images: Option<usize>,
    /// Images scored at a time
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(super) batch: usize,
    /// The loss: ar, the next pixel, or bert, masked pixels [default: what the model was trained for]
    #[arg(long, value_parser = named::<Objective>(), value_name = "OBJECTIVE")]
    pub(super) objective: Option<Objective>,
    #[command(flatten)]
    pub(super) masks: MaskArgs,
    /// Write each token's nats, float32 [N, tokens of an image], pixels row by row; pixels that a BERT model saw are NaN
    #[arg(long, value_name = "OUT.npy")]
    pub(super) per_token: Option<PathBuf>,
    /// Write what --json prints to a file too; `results` finds it in the folder of a run
    #[arg(long, value_name = "FILE.json")]
    pub(super) out: Option<PathBuf>,
    /// Show the accuracy of every class
    #[arg(long)]
    pub(super) per_class: bool,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl EvalCommand {
    /// What the flags say, for the library.
    ///
    /// # Errors
    /// No checkpoint, and how to come by one.
    pub(super) fn settings(&self) -> Result<Settings> {
        Ok(Settings {
            checkpoint: first_model::named(self.checkpoint.as_deref(), "eval")?,
            ema: self.ema,
            images: self.data.selection(self.json),
            limit: self.images,
            batch: self.batch,
            objective: self.objective,
            masks: (&self.masks).into(),
            per_class: self.per_class,
            nats: self.per_token.is_some(),
        })
    }
}

/// Flags that say which pixels a BERT model must guess.
#[derive(Args, Clone, Debug)]
pub struct MaskArgs {
    /// Masks from a file, [N, tokens of an image], pixels row by row: not 0 is masked
    #[arg(long, value_name = "FILE.npy", conflicts_with_all = ["mask_rate", "mask_seed", "ensemble"])]
    mask: Option<PathBuf>,
    /// Fraction of the pixels that are masked where masks are random [default: 0.15]
    #[arg(long, value_name = "FRACTION", allow_negative_numbers = true)]
    mask_rate: Option<f64>,
    /// Seed of the masks, and of ties between classes [default: 0]
    #[arg(long, value_name = "N")]
    mask_seed: Option<u64>,
    /// Masks per image: a fine-tuned model takes the class that it names most often under them; losses are averaged [default: 1]
    #[arg(long, value_name = "N")]
    ensemble: Option<u64>,
}

impl From<&MaskArgs> for MaskSettings {
    fn from(args: &MaskArgs) -> Self {
        let MaskArgs { mask, mask_rate, mask_seed, ensemble } = args.clone();
        Self { file: mask, rate: mask_rate, seed: mask_seed, ensemble }
    }
}
