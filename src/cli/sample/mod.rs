//! `igpt-engine sample`: complete images, or draw them from nothing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use super::common::device::{DeviceArgs, on_device};
use super::common::eval_images::ModelDataArgs;
use super::common::output::{print_json, say, tell};
use super::common::progress::image_bar;
use crate::checkpoint;
use crate::checkpoint::images::resolution_of;
use crate::data::{npy, open_image};
use crate::device::select::{Chosen, DeviceJob};
use crate::device::{Device, Precision, SampleOptions};
use crate::eval::tokens_of;
use crate::model::{ModelConfig, Transformer};
use crate::plan::{Memory, Work, limits};
use crate::run::checkpoints;
use crate::sample::Generation;
use crate::sample::grid::{Grid, comfortable_scale, completion_grid, free_grid, write_png};

/// Complete images from their upper half, or draw them from nothing, into a PNG grid
///
/// Each row of a grid of completions shows the original, the half that the model sees, and its drawings of the rest.
/// A model that reads pixels in another order than row by row is shown the first ones of its order: by columns the
/// left half, in a spiral the outer rings, along a Hilbert curve its first half.
///
///   igpt-engine sample --checkpoint RUN photo.jpg cat.png       complete the user's own images
///   igpt-engine sample --checkpoint RUN --data cifar10:DIR      complete images of a data set
///   igpt-engine sample --checkpoint RUN --unconditional         draw from nothing
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct SampleCommand {
    /// Images to complete (JPEG or PNG), cropped to their middle square; without any, images of --data
    #[arg(value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// A checkpoint, a run (its latest checkpoint is taken), or a Hugging Face ImageGPT folder
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    #[command(flatten)]
    data: ModelDataArgs,
    /// Draw whole images from nothing instead of completing any
    #[arg(long, conflicts_with = "images")]
    unconditional: bool,
    /// Images of --data to complete, or to draw from nothing
    #[arg(long, value_name = "N", default_value_t = 8)]
    count: usize,
    /// Drawings of each completed image
    #[arg(long, value_name = "N", default_value_t = 4)]
    completions: usize,
    /// Below 1 safer, above 1 wilder; 0 always takes the likeliest colour
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f32,
    /// Choose among this many likeliest colours only [default: all]
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    sample_seed: u64,
    /// Where the grid goes
    #[arg(long, value_name = "FILE.png", default_value = "samples.png")]
    out: PathBuf,
    /// Pixels of the grid per pixel of an image [default: what makes an image about 128 wide]
    #[arg(long, value_name = "N")]
    scale: Option<u32>,
    /// Write the drawn tokens too, uint16 [drawings, tokens of an image]
    #[arg(long, value_name = "FILE.npy")]
    tokens_out: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Longest side of a grid, in pixels: viewers refuse larger pictures.
const MOST_PIXELS: u32 = 65_535;

impl SampleCommand {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            bail!("--temperature must be 0 or more");
        }
        if self.top_k == Some(0) || self.count == 0 || self.completions == 0 || self.scale == Some(0) {
            bail!("--top-k, --count, --completions and --scale must be at least 1");
        }
        on_device((&self.device).into(), self)
    }

    /// Pixels of the grid per pixel of an image.
    fn scale(&self, side: usize) -> u32 {
        self.scale.unwrap_or_else(|| comfortable_scale(side))
    }

    /// Refuses a grid that no picture or memory holds, before anything is drawn.
    fn refuse_too_large<D: Device>(
        &self,
        device: &D,
        precision: Precision,
        model: &ModelConfig,
        [columns, rows, drawings]: [usize; 3],
    ) -> Result<()> {
        let side = resolution_of(model)?;
        let extent = Grid::extent(side, self.scale(side), columns, rows);
        let remedy = "try a smaller --count, --completions or --scale";
        let Some((width, height)) = extent.filter(|(width, height)| *width.max(height) <= MOST_PIXELS) else {
            bail!("{rows} rows of {columns} images are a picture of over {MOST_PIXELS} pixels a side; {remedy}");
        };
        let picture = 3.0 * f64::from(width) * f64::from(height);
        let tokens = drawings as f64 * model.positions as f64;
        let sampling = Memory::of(model, Work::Sampling, tokens, precision);
        limits::check_machine("a picture of so many images", picture, remedy)?;
        Ok(limits::check_device(device, &format!("sampling {drawings} images"), &sampling, remedy)?)
    }

    /// Tokens of the images to complete.
    fn originals(&self, folder: &Path, model: &Transformer, side: usize) -> Result<Vec<u16>> {
        if self.images.is_empty() {
            let opened = self.data.selection(self.json).open(folder, model.config())?;
            if opened.examples.sequence_length() != side * side {
                bail!(
                    "the images have {} tokens and the model draws {}",
                    opened.examples.sequence_length(),
                    side * side
                );
            }
            return Ok(tokens_of(opened.examples.as_ref(), 0, self.count.min(opened.examples.len()))?);
        }
        let palette = self.data.selection(self.json).palette(folder)?;
        let mut tokens = Vec::new();
        for path in &self.images {
            let image = open_image(path, side as u32, self.data.filter)?;
            let first = tokens.len();
            tokens.resize(first + side * side, 0);
            palette.encode(&image, &mut tokens[first..])?;
        }
        Ok(tokens)
    }
}

impl DeviceJob for SampleCommand {
    type Output = Result<()>;

    fn run<D: Device>(self, device: D, chosen: &Chosen) -> Result<()> {
        if !self.json {
            tell(format_args!("on the device {}{}", device.describe(), chosen.why));
        }
        let folder = checkpoints::resolve(&self.checkpoint)?;
        let (config, parameters) = checkpoint::load_model(&device, &folder)?;
        let side = resolution_of(&config)?;
        let model = Transformer::new(config)?;
        if !model.config().sos {
            bail!(
                "this is a BERT model: it guesses single pixels from all others and cannot draw; give an autoregressive one \
                 (train --objective ar)"
            );
        }
        let palette = self.data.selection(self.json).palette(&folder)?;
        let generation = Generation {
            length: side * side,
            options: SampleOptions { temperature: self.temperature, top_k: self.top_k },
            seed: self.sample_seed,
            first: 0,
        };
        let columns = self.count.isqrt().max(1);
        let originals = if self.unconditional { Vec::new() } else { self.originals(&folder, &model, side)? };
        let shown = originals.len() / generation.length;
        if self.unconditional {
            self.refuse_too_large(
                &device,
                chosen.precision,
                model.config(),
                [columns, self.count.div_ceil(columns), self.count],
            )?;
        } else {
            let drawings = shown.saturating_mul(self.completions);
            self.refuse_too_large(
                &device,
                chosen.precision,
                model.config(),
                [self.completions.saturating_add(2), shown, drawings],
            )?;
        }
        let bar = image_bar(generation.length as u64, self.json);
        let advance = |position: usize| bar.set_position(position as u64);
        let (grid, drawn) = if self.unconditional {
            free_grid(&device, &model, &parameters, &palette, self.count, side, columns, generation, advance)?
        } else {
            let completions = self.completions;
            completion_grid(&device, &model, &parameters, &palette, &originals, side, completions, generation, advance)?
        };
        bar.finish_and_clear();
        let picture = grid.draw(self.scale(side));
        write_png(&self.out, &picture).with_context(|| format!("cannot write {}", self.out.display()))?;
        let images = drawn.len() / generation.length;
        if let Some(path) = &self.tokens_out {
            npy::write_u16(path, &[images, generation.length], &drawn)?;
        }
        if self.json {
            return print_json(&json!({"picture": self.out, "drawings": images, "checkpoint": folder}));
        }
        if self.unconditional {
            return say(format_args!("{images} drawings in {}", self.out.display()));
        }
        let shown = model.config().order.describe_prompt();
        say(format_args!("{images} drawings in {}; of each image the model saw {shown}", self.out.display()))
    }
}
