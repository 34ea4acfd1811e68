//! Flags of `plan`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::common::named::named;
use crate::device::Precision;
use crate::plan::UTILISATION;

/// Say what a run would cost: parameters, FLOPs, memory, time and energy, and whether it fits
///
/// Nothing is trained. FLOPs are the useful ones: 6 per weight and token, and for causal attention only the half that is needed.
/// Memory is given by class, in float32 and in bfloat16 beside float32 master weights. Time is FLOPs over the device's
/// published peak times --utilisation, which is an assumption: `igpt-engine doctor` and the benchmarks measure. Energy is that
/// time at the card's TDP, without host and cooling.
#[derive(Args)]
#[command(after_help = "Examples:\n  igpt-engine plan --config recipes/pretrain-s-ar-32.toml\n  \
                  igpt-engine plan --config recipes/pretrain-l-ar-32.toml --device-model h100 --batch 16 --accumulate 8")]
pub struct PlanCommand {
    /// A recipe, or the config.toml of a run
    #[arg(long, value_name = "FILE.toml")]
    pub config: PathBuf,
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
    #[arg(long, value_name = "N")]
    pub accumulate: Option<u32>,
    /// Divide the recipe's sizes by N, as `train --scale-down N` does
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub scale_down: u64,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
