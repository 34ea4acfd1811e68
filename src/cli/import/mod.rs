//! `igpt-engine import`: a Hugging Face ImageGPT folder to a checkpoint.

mod args;

use anyhow::Result;

pub use args::ImportArgs;

use super::common::conversion;
use crate::checkpoint::convert;
use crate::run::checkpoints::resolve;

/// Runs the command. Every tensor is read and checked; what is at `--out` stays if anything is wrong.
pub fn run(args: ImportArgs) -> Result<()> {
    let source = if args.source.is_file() { resolve(&args.source)? } else { args.source.clone() };
    let done = convert::import(&source, &args.out, args.keep_biases, args.force)?;
    conversion::report("Imported", &args.source, &args.out, &done, args.json)
}
