//! Flags of `import`.

use std::path::PathBuf;

use clap::Args;

/// Turn a Hugging Face ImageGPT folder (config.json, model.safetensors or pytorch_model.bin), or OpenAI's own release
/// (model.ckpt-N, kmeans_centers.npy), into a checkpoint
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// The Hugging Face folder; of OpenAI's release the folder, the prefix model.ckpt-N, or one of its files
    #[arg(value_name = "HF_DIR")]
    pub source: PathBuf,
    /// The checkpoint folder to write
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Keep biases even if all are zero, as in the official models
    #[arg(long)]
    pub keep_biases: bool,
    /// Replace the checkpoint that is at --out
    #[arg(long)]
    pub force: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
