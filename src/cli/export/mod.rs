//! `igpt-engine export`: a checkpoint to a folder that Hugging Face's ImageGPT loads.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::import::report;
use crate::checkpoint::convert;
use crate::run::checkpoints::resolve;

/// Write a checkpoint as a Hugging Face ImageGPT folder (config.json, model.safetensors)
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// The checkpoint, or the run folder to take the latest one of
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// The Hugging Face folder to write
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Leave out the biases of zero that Hugging Face's layers expect; its library then warns, and since 5.24 fills them with NaN
    #[arg(long)]
    pub no_biases: bool,
    /// Replace the checkpoint that is at --out
    #[arg(long)]
    pub force: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command. What is at `--out` stays if anything is wrong.
pub fn run(args: ExportArgs) -> Result<()> {
    let source = resolve(&args.checkpoint)?;
    let done = convert::export(&source, &args.out, args.no_biases, args.force)?;
    report("Exported", &source, &args.out, &done, args.json)
}
