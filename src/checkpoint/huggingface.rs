//! Hugging Face's `config.json` and `preprocessor_config.json` for ImageGPT, and which of its tensors are ours.
//!
//! Source: transformers, models/imagegpt. Keys that it does not know and we need start with `igpt_`; it keeps them.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::{CheckpointError, Result};
use super::tensors::TensorFile;
use crate::model::{Activation, ModelConfig, NORM_EPSILON, Norm, parameter_specs};

/// Name of the configuration in a checkpoint folder.
pub(super) const CONFIG: &str = "config.json";
/// Name of the image processor's settings, which hold the palette.
pub(super) const PREPROCESSOR: &str = "preprocessor_config.json";
/// Larger JSON is not read: a configuration has a few hundred bytes, a palette a few ten thousand.
const MOST_JSON: u64 = 4 << 20;

/// The keys of `config.json` that matter here; others are passed over.
#[derive(Deserialize)]
struct Config {
    #[serde(default = "imagegpt")]
    model_type: String,
    n_layer: usize,
    n_embd: usize,
    n_head: usize,
    n_positions: usize,
    vocab_size: usize,
    n_inner: Option<usize>,
    #[serde(default = "quick_gelu")]
    activation_function: String,
    #[serde(default = "epsilon")]
    layer_norm_epsilon: f64,
    #[serde(default = "yes")]
    scale_attn_weights: bool,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    add_cross_attention: bool,
    igpt_norm: Option<Norm>,
    igpt_sos: Option<bool>,
    igpt_bias: Option<bool>,
}

fn imagegpt() -> String {
    "imagegpt".to_owned()
}

fn quick_gelu() -> String {
    "quick_gelu".to_owned()
}

fn epsilon() -> f64 {
    f64::from(NORM_EPSILON)
}

fn yes() -> bool {
    true
}

/// A small JSON file.
pub(super) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let wrong = |problem: String| CheckpointError::Json { path: path.to_owned(), problem };
    let length = std::fs::metadata(path).map_err(CheckpointError::read(path))?.len();
    if length > MOST_JSON {
        return Err(wrong(format!("is {length} bytes long; no file of this kind is")));
    }
    let text = std::fs::read(path).map_err(CheckpointError::read(path))?;
    serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))
}

/// Writes a value as indented JSON.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let failed = CheckpointError::write(path);
    match serde_json::to_vec_pretty(value) {
        Ok(text) => std::fs::write(path, text).map_err(failed),
        Err(error) => Err(failed(error.into())),
    }
}

/// Reads the model's shape from `config.json`; whether it has biases is seen from its tensors, unless it says so.
pub(super) fn read_config(folder: &Path, tensors: &TensorFile) -> Result<ModelConfig> {
    let path = folder.join(CONFIG);
    let config: Config = read_json(&path)?;
    let refuse = |problem: String| Err(CheckpointError::Json { path: path.clone(), problem });
    if config.model_type != "imagegpt" {
        return refuse(format!("model_type is {:?}; only \"imagegpt\" can be read", config.model_type));
    }
    let activation = match config.activation_function.as_str() {
        "quick_gelu" => Activation::QuickGelu,
        "gelu" => Activation::Gelu,
        other => return refuse(format!("activation_function is {other:?}; \"quick_gelu\" and \"gelu\" can be run")),
    };
    if (config.layer_norm_epsilon - epsilon()).abs() > 1e-9 {
        return refuse(format!("layer_norm_epsilon is {}; only 1e-5 can be run", config.layer_norm_epsilon));
    }
    let inner = config.n_embd.saturating_mul(4);
    if config.n_inner.is_some_and(|given| given != inner) {
        return refuse(format!("n_inner is {:?}; only 4 · n_embd = {inner} can be run", config.n_inner));
    }
    for (key, value, wanted) in [
        ("scale_attn_weights", config.scale_attn_weights, true),
        ("scale_attn_by_inverse_layer_idx", config.scale_attn_by_inverse_layer_idx, false),
        ("tie_word_embeddings", config.tie_word_embeddings, false),
        ("add_cross_attention", config.add_cross_attention, false),
    ] {
        if value != wanted {
            return refuse(format!("{key} is {value}; only {wanted} can be run"));
        }
    }
    let Some(vocabulary) = config.vocab_size.checked_sub(1) else {
        return refuse("vocab_size is 0; it is the number of colours plus one for the start of a sequence".to_owned());
    };
    let model = ModelConfig {
        layers: config.n_layer,
        width: config.n_embd,
        heads: config.n_head,
        positions: config.n_positions,
        vocabulary,
        sos: config.igpt_sos.unwrap_or(true),
        norm: config.igpt_norm.unwrap_or_default(),
        activation,
        bias: false,
    };
    model.validate().map_err(|source| CheckpointError::Config { path: path.clone(), source })?;
    let bias = match config.igpt_bias {
        Some(bias) => bias,
        None => has_live_bias(&ModelConfig { bias: true, ..model.clone() }, tensors)?,
    };
    Ok(ModelConfig { bias, ..model })
}

/// Whether any bias is other than zero. Hugging Face writes biases for models that have none, as zeros.
fn has_live_bias(config: &ModelConfig, tensors: &TensorFile) -> Result<bool> {
    for spec in parameter_specs(config).iter().filter(|spec| spec.name.ends_with(".bias")) {
        if let Some(name) = stored_name(tensors, &spec.name)
            && tensors.read(&name, &spec.shape)?.iter().any(|value| *value != 0.0)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The name that a tensor has in the file: with or without the `transformer.` of the model with a head.
pub(super) fn stored_name(tensors: &TensorFile, name: &str) -> Option<String> {
    let bare = name.strip_prefix("transformer.").unwrap_or(name);
    [name, bare].into_iter().find(|name| tensors.shape(name).is_some()).map(str::to_owned)
}

/// Refuses a file that holds a tensor which the model has no place for. Passed over are the causal mask and its constant
/// that old files carry, a class head, and biases (all zero) of a model without.
pub(super) fn refuse_strangers(config: &ModelConfig, tensors: &TensorFile) -> Result<()> {
    let specs = parameter_specs(&ModelConfig { bias: true, ..config.clone() });
    let known: std::collections::HashSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    for name in tensors.names() {
        let passed_over = name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") || name == "score.weight";
        let full = format!("transformer.{name}");
        if !passed_over && !known.contains(name.as_str()) && !known.contains(full.as_str()) {
            let problem =
                format!("has no place in a model of {} layers; is config.json the one it was saved with?", config.layers);
            return Err(CheckpointError::Tensor { path: tensors.path().to_owned(), name, problem });
        }
    }
    Ok(())
}

/// `config.json` of a model, as transformers writes it; `strict` leaves our own keys out.
pub(super) fn config_json(config: &ModelConfig, strict: bool) -> Value {
    let activation = match config.activation {
        Activation::QuickGelu => "quick_gelu",
        Activation::Gelu => "gelu",
    };
    let mut value = json!({
        "activation_function": activation,
        "architectures": ["ImageGPTForCausalImageModeling"],
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-5,
        "model_type": "imagegpt",
        "n_embd": config.width,
        "n_head": config.heads,
        "n_inner": null,
        "n_layer": config.layers,
        "n_positions": config.positions,
        "reorder_and_upcast_attn": false,
        "resid_pdrop": 0.0,
        "scale_attn_by_inverse_layer_idx": false,
        "scale_attn_weights": true,
        "tie_word_embeddings": false,
        "use_cache": true,
        "vocab_size": config.vocabulary + 1,
    });
    if !strict && let Some(keys) = value.as_object_mut() {
        keys.extend(Map::from_iter([
            ("igpt_norm".to_owned(), json!(config.norm)),
            ("igpt_sos".to_owned(), json!(config.sos)),
            ("igpt_bias".to_owned(), json!(config.bias)),
        ]));
    }
    value
}

/// `preprocessor_config.json`: the palette, and how Hugging Face's image processor applies it.
pub(super) fn preprocessor_json(palette: &[[f32; 3]], positions: usize) -> Value {
    let side = positions.isqrt();
    json!({
        "clusters": palette,
        "do_color_quantize": true,
        "do_normalize": true,
        "do_resize": true,
        "image_processor_type": "ImageGPTImageProcessor",
        "resample": 2,
        "size": {"height": side, "width": side},
    })
}

/// The palette of a folder's `preprocessor_config.json`.
pub(super) fn read_palette(path: &Path) -> Result<Vec<[f32; 3]>> {
    #[derive(Deserialize)]
    struct Preprocessor {
        clusters: Vec<[f32; 3]>,
    }
    Ok(read_json::<Preprocessor>(path)?.clusters)
}
