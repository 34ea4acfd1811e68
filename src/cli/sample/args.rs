//! The flags of `sample`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use crate::cli::common::device::DeviceArgs;
use crate::cli::common::eval_images::ModelDataArgs;
use crate::cli::common::first_model;
use crate::cli::common::unused::refuse_given;
use crate::device::SampleOptions;
use crate::sample::{ClassWanted, Guidance, Settings, Source};

/// Images that FID is usually computed over.
const FID_IMAGES: usize = 50_000;

/// Complete images from their upper half, or generate them from nothing, into a PNG grid
///
/// Each row of a grid of completions shows the original, the half that the model sees, and its completions.
/// A model that reads pixels in another order than row by row is shown the first ones of its order: by columns the
/// left half, in a spiral the outer rings, along a Hilbert curve its first half.
///
///   igpt-engine sample --checkpoint RUN photo.jpg cat.png       complete the user's own images
///   igpt-engine sample --checkpoint RUN --data cifar10:DIR      complete images of a data set
///   igpt-engine sample --checkpoint RUN --unconditional         generate from nothing
///   igpt-engine sample --checkpoint TUNED --class horse         of a class, from a fine-tuned model; completions too
///   igpt-engine sample --checkpoint RUN --npz many.npz --count 50000
///                                       as many as FID wants, uint8, into one file; a run that was ended goes on
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
    /// [default: 8; with --npz 50000]
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
    /// The class that images are to be of, from a fine-tuned model: its name, its number from 0 on, or `each` for all classes one
    /// after the other. Several particles are drawn for each image, and the class head decides which go on (see the guide,
    /// "Images of a class")
    #[arg(long, value_name = "CLASS")]
    pub(super) class: Option<String>,
    /// How strongly the class counts: images are drawn in proportion to p(image) * p(class | image)^S; 0 draws as without
    /// --class [default: 1]
    #[arg(long, value_name = "S", requires = "class", allow_negative_numbers = true)]
    pub(super) guidance: Option<f64>,
    /// Particles of each image: more come closer to what --guidance asks for, and each costs as much as an image without it
    /// [default: 16]
    #[arg(long, value_name = "M", requires = "class")]
    pub(super) particles: Option<usize>,
    /// Seed of the random numbers
    /// [default: 0]
    #[arg(long, value_name = "N")]
    pub(super) sample_seed: Option<u64>,
    /// Where the grid goes [default: samples.png]
    #[arg(long, value_name = "FILE.png")]
    pub(super) out: Option<PathBuf>,
    /// Pixels of the grid per pixel of an image [default: what makes an image about 128 wide]
    #[arg(long, value_name = "N")]
    pub(super) scale: Option<u32>,
    /// Write the generated tokens too, uint16 [images, tokens of an image]
    #[arg(long, value_name = "FILE.npy")]
    pub(super) tokens_out: Option<PathBuf>,
    /// Generate --count images from nothing into this file and draw no grid: `arr_0`, uint8 [N, H, W, 3], as ADM's
    /// evaluator takes it (see the guide, "Drawings by the ten thousand", also for clean-fid and torch-fidelity), `tokens`, uint16
    /// [N, H*W], and with --class `labels`, int64 [N]. They are kept in FILE.npz.part as they are drawn: the same command goes on after Ctrl-C, a kill or a crash, to the same bytes
    #[arg(long, value_name = "FILE.npz", conflicts_with = "images")]
    pub(super) npz: Option<PathBuf>,
    /// With --npz, images drawn at a time; more use a GPU better, and a run that is ended loses at most one batch
    /// [default: 128, with --class 128 particles; or the half, the quarter ... that memory holds]
    #[arg(long, value_name = "N", requires = "npz")]
    pub(super) batch: Option<usize>,
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

        // What a file of drawings has no use for.
        if self.npz.is_some() {
            let of_grids = [
                ("out", self.out.is_some()),
                ("scale", self.scale.is_some()),
                ("tokens-out", self.tokens_out.is_some()),
            ];
            refuse_given("with --npz, which draws no grid and holds the tokens", &of_grids)?;
        }

        // What each kind of source has no use for.
        if self.draws_whole() {
            let flag = if self.unconditional { "--unconditional" } else { "--npz" };
            let why = &format!("with {flag}, which starts from no image");
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
                ("class", self.temperature == 0.0 && self.class.is_some()),
            ],
        )
    }

    /// Whether whole images are generated.
    pub(super) fn draws_whole(&self) -> bool {
        self.unconditional || self.npz.is_some()
    }

    /// Where the grid goes.
    pub(super) fn grid_file(&self) -> &Path {
        self.out.as_deref().unwrap_or(Path::new("samples.png"))
    }

    /// What the flags say, for the library.
    ///
    /// # Errors
    /// No checkpoint, and how to come by one.
    pub(super) fn settings(&self) -> Result<Settings> {
        let source = match (self.draws_whole(), self.images.is_empty()) {
            (true, _) => Source::Nothing,
            (false, true) => Source::DataSet,
            (false, false) => Source::Files(self.images.clone()),
        };
        Ok(Settings {
            checkpoint: first_model::named(self.checkpoint.as_deref(), "sample")?,
            ema: self.ema,
            source,
            images: self.data.selection(self.json),
            count: self.count.unwrap_or(if self.npz.is_some() { FID_IMAGES } else { 8 }),
            completions: self.completions.unwrap_or(4),
            options: SampleOptions { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p },
            seed: self.sample_seed.unwrap_or(0),
            class: self.class.clone().map(|class| ClassWanted {
                class,
                strength: self.guidance.unwrap_or(1.0),
                particles: self.particles.unwrap_or(Guidance::PARTICLES),
            }),
        })
    }
}
