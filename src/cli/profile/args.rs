//! Flags of `profile`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::RangedU64ValueParser;

use crate::cli::common::named::named;
use crate::device::Precision;
use crate::model::Preset;

/// Predict where the time of a step goes on a card, launch by launch, without one
///
/// A step is one of training, or with --draw of drawing one pixel of each image. The step's own code says what it would launch; the
/// simulator counts what each launch does, on a sample of its blocks; a model
/// makes times of these counts, of the kernels' machine code and of the card's ceilings. Nothing is measured, and every time is a
/// prediction. Needs a build with CUDA kernels (`cargo xtask toolkit`), and no GPU.
///
/// With `--device cpu` a step is taken here and timed op by op, beside what this machine reaches in a large matrix product and in a
/// read of memory; with --draw too, one of drawing.
#[derive(Args)]
#[command(after_help = "Examples:\n  igpt-engine profile --model s --batch 32 --card h100\n  \
                  igpt-engine profile --model l --batch 16 --card a100 --json > step.json\n  \
                  igpt-engine profile --model s --batch 16 --card h100 --draw\n  \
                  igpt-engine profile --model tiny --batch 4 --device cpu\n  \
                  igpt-engine profile --model s --batch 16 --device cpu --draw")]
pub struct ProfileCommand {
    /// Size of the model: tiny (4 layers × 128), s (24 × 512), m (36 × 1024), l (48 × 1536), xl (60 × 3072)
    #[arg(long, value_parser = named::<Preset>(), value_name = "SIZE", default_value = "s")]
    pub model: Preset,
    /// Width and height of the images; a sequence has its square in tokens
    #[arg(long, value_name = "PIXELS", default_value_t = 32, value_parser = RangedU64ValueParser::<usize>::new().range(1..=256))]
    pub resolution: usize,
    /// Images of the micro-batch that a step takes, or that are drawn at once [default: 32; 16 with --draw; 1 on the CPU]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=65_536))]
    pub batch: Option<usize>,
    /// Of drawing: one pixel of each of --batch images, in the middle of an image
    #[arg(long)]
    pub draw: bool,
    /// `cpu`: measure a step on this machine's processor, in f32
    #[arg(long, value_name = "DEVICE", value_parser = ["cpu"], conflicts_with_all = ["card", "measure", "svg"])]
    pub device: Option<String>,
    /// Threads of the CPU device [default: all cores]
    #[arg(long, value_name = "N", requires = "device")]
    pub threads: Option<usize>,
    /// The card: a100, a100-40, rtx4090, l40s, h100, h100-pcie or h200
    #[arg(long, value_name = "NAME", default_value = "h100")]
    pub card: String,
    /// What is computed in; on the CPU, with --draw, what keys, values and weights are stored in [default: bf16; f32 on the CPU]
    #[arg(long, value_parser = named::<Precision>(), value_name = "PRECISION")]
    pub precision: Option<Precision>,
    /// Run the step on this machine's GPU too, which is a --card, and put measured times beside the predicted
    #[arg(long)]
    pub measure: bool,
    /// Write a picture: each op's predicted time, kernel by kernel, against the least by the card's data sheet
    #[arg(long, value_name = "FILE.svg")]
    pub svg: Option<PathBuf>,
    /// Rows of the table; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub top: usize,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
