//! `igpt-engine export`: a checkpoint to a folder that Hugging Face's ImageGPT loads.

mod args;

use anyhow::Result;

pub use args::ExportArgs;

use super::common::conversion;
use crate::checkpoint::convert;
use crate::run::checkpoints::resolve;

/// Runs the command. What is at `--out` stays if anything is wrong.
pub fn run(args: ExportArgs) -> Result<()> {
    let source = resolve(&args.checkpoint)?;
    let done = convert::export_sharded(&source, &args.out, args.no_biases, args.force, args.max_shard_size)?;
    conversion::report("Exported", &source, &args.out, &done, args.json)
}
