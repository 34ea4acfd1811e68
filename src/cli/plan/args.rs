//! Flags of `plan`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::RangedU64ValueParser;

use crate::cli::common::named::named;
use crate::comm::Reduction;
use crate::device::Precision;
use crate::model::Preset;
use crate::plan::UTILISATION;
use crate::tape::Recompute;

/// Say what a run would cost: parameters, FLOPs, memory, time and energy, and whether it fits
///
/// Nothing is trained. FLOPs are the useful ones: 6 per weight and token, and for causal attention only the half that is needed.
/// Memory is given by class, in float32 and in bfloat16 beside float32 master weights. Time is FLOPs over the device's
/// published peak times --utilisation, which is an assumption: `igpt-engine doctor` and the benchmarks measure. Energy is that
/// time at the card's TDP, without host and cooling.
///
/// With --gpus, the step is divided over several cards: how many of them, what each owns (ZeRO), how many images at a time and what
/// is computed again. Of the ways that fit, the one that is predicted to be the fastest is chosen. Several --gpus or --bandwidth give a table.
#[derive(Args)]
#[command(after_help = "Examples:\n  igpt-engine plan --config recipes/pretrain-s-ar-32.toml\n  \
                  igpt-engine plan --config recipes/pretrain-l-ar-32.toml --device-model h100 --batch 16 --accumulate 8\n  \
                  igpt-engine plan --model xl --resolution 64 --gpus 8\n  \
                  igpt-engine plan --model l --gpus 8,64,512 --bandwidth 350,45,11")]
pub struct PlanCommand {
    /// A recipe, or the config.toml of a run
    #[arg(long, value_name = "FILE.toml", required_unless_present = "model", conflicts_with = "model")]
    pub config: Option<PathBuf>,
    /// In place of a file: a size with the paper's batch (128 images, 64 of xl), autoregressive, tiny (4 layers × 128), s (24 × 512),
    /// m (36 × 1024), l (48 × 1536) or xl (60 × 3072)
    #[arg(long, value_parser = named::<Preset>(), value_name = "SIZE")]
    pub model: Option<Preset>,
    /// Width and height of its images; a sequence has their product in tokens [default: 32]
    #[arg(long, value_name = "PIXELS", requires = "model", value_parser = RangedU64ValueParser::<usize>::new().range(1..=256))]
    pub resolution: Option<usize>,
    /// Its attention heads, in place of the size's own
    #[arg(long, value_name = "N", requires = "model", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub heads: Option<usize>,
    /// Devices: all, or some of v100, rtx3090, rtx4090, l40s, a100-40, a100, h100-pcie, h100, h200
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "all")]
    pub device_model: Vec<String>,
    /// What is computed in; a device without bfloat16 computes in float32
    #[arg(long, value_parser = named::<Precision>(), default_value_t)]
    pub precision: Precision,
    /// Fraction of the peak that is reached, 0 to 1
    #[arg(long, value_name = "FRACTION", default_value_t = UTILISATION)]
    pub utilisation: f64,
    /// Images per micro-batch, in place of the recipe's
    #[arg(long, value_name = "N")]
    pub batch: Option<u32>,
    /// Micro-batches per step, in place of the recipe's
    #[arg(long, value_name = "N", conflicts_with = "gpus")]
    pub accumulate: Option<u32>,
    /// What is computed again in the backward pass, in place of the recipe's: none, norms, norms-mlp or block. Less memory, and time
    /// for more FLOPs, which are not counted as useful
    #[arg(long, value_name = "WHAT", value_parser = named::<Recompute>())]
    pub recompute: Option<Recompute>,
    /// Moments and master weights in the host's memory, as `train --offload-optimizer`; the bus's time is part of a step. With --gpus that is
    /// chosen anyway where it is faster than what fits on the cards, as where much would be computed again
    #[arg(long)]
    pub offload_optimizer: bool,
    /// Divide the recipe's sizes by N, as `train --scale-down N` does
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub scale_down: u64,
    /// Cards that share every step; several numbers give a table
    #[arg(long, value_name = "N,...", value_delimiter = ',', help_heading = "Several cards", conflicts_with = "recompute",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=65_536))]
    pub gpus: Vec<usize>,
    /// Images per step of all cards together, in place of the recipe's
    #[arg(long, value_name = "N", requires = "gpus", help_heading = "Several cards",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=65_536))]
    pub global_batch: Option<usize>,
    /// The card: v100, rtx3090, rtx4090, l40s, a100-40, a100, h100-pcie, h100 or h200
    #[arg(long, value_name = "NAME", requires = "gpus", default_value = "h100", help_heading = "Several cards")]
    pub card: String,
    /// GB/s that a card sends in a collective of all, NCCL's bus bandwidth (`igpt-engine doctor --ranks` and NVIDIA's nccl-tests
    /// measure it); several give a table [default: 350 up to 8 cards, as NVLink gives; 45 beyond, as an adapter of 400 Gb/s per card]
    #[arg(long, value_name = "GB/S,...", value_delimiter = ',', requires = "gpus", help_heading = "Several cards")]
    pub bandwidth: Vec<f64>,
    /// How gradients are added up, as `train --reduction`
    #[arg(long, value_parser = named::<Reduction>(), default_value_t, requires = "gpus", value_name = "REDUCTION",
          help_heading = "Several cards")]
    pub reduction: Reduction,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
