//! Flags of `export`.

use std::path::PathBuf;

use clap::Args;

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
