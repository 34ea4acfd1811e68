//! The flags of `sample`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::cli::common::device::DeviceArgs;
use crate::cli::common::eval_images::ModelDataArgs;
use crate::cli::common::first_model;
use crate::cli::common::unused::refuse_given;
use crate::device::SampleOptions;
use crate::sample::{Settings, Source};

/// Complete images from their upper half, or generate them from nothing, into a PNG grid
///
/// Each row of a grid of completions shows the original, the half that the model sees, and its completions.
/// A model that reads pixels in another order than row by row is shown the first ones of its order: by columns the
/// left half, in a spiral the outer rings, along a Hilbert curve its first half.
///
///   igpt-engine sample --checkpoint RUN photo.jpg cat.png       complete the user's own images
///   igpt-engine sample --checkpoint RUN --data cifar10:DIR      complete images of a data set
///   igpt-engine sample --checkpoint RUN --unconditional         generate from nothing
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct SampleCommand {
    /// Images to complete (JPEG or PNG), cropped to their middle square; without any, images of --data
    #[arg(value_name = "IMAGE")]
    pub(super) images: Vec<PathBuf>,
    /// A checkpoint, a run (its latest checkpoint is taken), or a Hugging Face ImageGPT folder; without it you are told how to
    /// make one in a minute
    #[arg(long, value_name = "DIR")]
    pub(super) checkpoint: Option<PathBuf>,
    /// Draw with the moving average of the weights, which `train --ema` keeps, instead of the weights
    #[arg(long)]
    pub(super) ema: bool,
    #[command(flatten)]
    pub(super) data: ModelDataArgs,
    /// Generate whole images from nothing instead of completing any
    #[arg(long, conflicts_with = "images")]
    pub(super) unconditional: bool,
    /// Images of --data to complete, or to generate from nothing
    /// [default: 8]
    #[arg(long, value_name = "N")]
    pub(super) count: Option<usize>,
    /// Completions of each image [default: 4]
    #[arg(long, value_name = "N")]
    pub(super) completions: Option<usize>,
    /// Below 1 safer, above 1 wilder; 0 always takes the likeliest colour
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    pub(super) temperature: f32,
    /// Choose among this many likeliest colours only [default: all]
    #[arg(long, value_name = "K")]
    pub(super) top_k: Option<usize>,
    /// Choose among the likeliest colours only whose probabilities together reach P, above 0 and at most 1 (the nucleus);
    /// with --top-k, of those K [default: all]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(super) top_p: Option<f32>,
    /// Seed of the random numbers
    /// [default: 0]
    #[arg(long, value_name = "N")]
    pub(super) sample_seed: Option<u64>,
    /// Where the grid goes
    #[arg(long, value_name = "FILE.png", default_value = "samples.png")]
    pub(super) out: PathBuf,
    /// Pixels of the grid per pixel of an image [default: what makes an image about 128 wide]
    #[arg(long, value_name = "N")]
    pub(super) scale: Option<u32>,
    /// Write the generated tokens too, uint16 [images, tokens of an image]
    #[arg(long, value_name = "FILE.npy")]
    pub(super) tokens_out: Option<PathBuf>,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl SampleCommand {
    /// Refuses flags that would do nothing.
    pub(super) fn check_flags(&self) -> Result<()> {
        let ModelDataArgs { data, split, filter, alpha, skip_bad, holdout, seed, .. } = &self.data;
        let of_data = [
            ("data", data.is_some()),
            ("split", split.is_some()),
            ("skip-bad", skip_bad.is_some()),
            ("holdout", holdout.is_some()),
            ("seed", seed.is_some()),
        ];

        // What each kind of source has no use for.
        if self.unconditional {
            let why = "with --unconditional, which starts from no image";
            refuse_given(why, &of_data)?;
            let of_pictures = [("filter", filter.is_some()), ("alpha", alpha.is_some())];
            refuse_given(why, &of_pictures)?;
            refuse_given(why, &[("completions", self.completions.is_some())])?;
        } else if !self.images.is_empty() {
            let why = "where the images to complete are given by name";
            refuse_given(why, &of_data)?;
            refuse_given(why, &[("count", self.count.is_some())])?;
        } else {
            self.data.check()?;
        }
        refuse_given(
            "at --temperature 0, which takes the likeliest colour",
            &[
                ("top-k", self.temperature == 0.0 && self.top_k.is_some()),
                ("top-p", self.temperature == 0.0 && self.top_p.is_some()),
                ("sample-seed", self.temperature == 0.0 && self.sample_seed.is_some()),
            ],
        )
    }

    /// What the flags say, for the library.
    ///
    /// # Errors
    /// No checkpoint, and how to come by one.
    pub(super) fn settings(&self) -> Result<Settings> {
        let source = match (self.unconditional, self.images.is_empty()) {
            (true, _) => Source::Nothing,
            (false, true) => Source::DataSet,
            (false, false) => Source::Files(self.images.clone()),
        };
        Ok(Settings {
            checkpoint: first_model::named(self.checkpoint.as_deref(), "sample")?,
            ema: self.ema,
            source,
            images: self.data.selection(self.json),
            count: self.count.unwrap_or(8),
            completions: self.completions.unwrap_or(4),
            options: SampleOptions { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p },
            seed: self.sample_seed.unwrap_or(0),
        })
    }
}
