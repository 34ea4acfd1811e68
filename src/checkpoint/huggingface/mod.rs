//! Hugging Face's ImageGPT folder: `config.json` to and from [`crate::model::ModelConfig`], and the names in
//! `model.safetensors`.
//!
//! Our own checkpoints are such folders too. What Hugging Face has no key for (`igpt_norm`, `igpt_sos`, `igpt_bias`,
//! `igpt_objective`, `igpt_order`) are extra keys, which it ignores; a model that it would therefore compute wrongly is given
//! a `model_type` that it refuses. A class head is `score.weight` and `id2label`, as in its `ImageGPTForImageClassification`.
//! In return, its tensors that we have no parameter for are ignored: mask buffers of old files (`attn.bias`,
//! `attn.masked_bias`), and biases of zero, which exist because its Conv1D has them.

mod config_json;
mod model_file;

pub(super) use config_json::write_config;
pub use config_json::{config_json, expressible, load_config, native_config_json};
pub use model_file::{ModelFile, Visit, load_parameters};
