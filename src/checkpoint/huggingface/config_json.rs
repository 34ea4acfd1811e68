//! `config.json` to and from [`ModelConfig`].

use std::path::Path;

use serde_json::{Map, Value, json};

use super::model_file::ModelFile;
use crate::checkpoint::error::{CheckpointError, Result};
use crate::checkpoint::json::{read_json, write_json};
use crate::checkpoint::manifest::{MANIFEST_KEY, Manifest};
use crate::checkpoint::pixel_order::{load_order, write_order};
use crate::checkpoint::weights::{WeightKind, tensorflow_config};
use crate::checkpoint::{CONFIG_FILE, MANIFEST_FILE};
use crate::device::{Activation, Norm};
use crate::model::{ModelConfig, Objective, Order};

/// `model_type` of a model that Hugging Face's ImageGPT would compute wrongly.
const OWN_MODEL_TYPE: &str = "igpt_engine";

/// Whether Hugging Face's ImageGPT computes what this model computes.
///
/// # Errors
/// [`CheckpointError::NotExpressible`], which says why not.
pub fn expressible(config: &ModelConfig) -> Result<()> {
    let problem = match config {
        ModelConfig { norm: Norm::Layer, .. } => "its norm subtracts the mean (--norm layer), theirs does not",
        ModelConfig { sos: false, .. } => "it has no start-of-sequence token, the last row of their embedding",
        ModelConfig { order: Order::Raster, .. } => return Ok(()),
        _ => "it reads pixels in another order (--order), theirs row by row",
    };
    Err(CheckpointError::NotExpressible { problem: problem.to_owned() })
}

/// `config.json` with Hugging Face's keys alone. For a model that is not [`expressible`] see [`native_config_json`].
pub fn config_json(config: &ModelConfig) -> Map<String, Value> {
    let activation = match config.activation {
        Activation::QuickGelu => "quick_gelu",
        Activation::Gelu => "gelu",
    };
    let classifier = !config.classes.is_empty();
    let architecture = if classifier { "ImageGPTForImageClassification" } else { "ImageGPTForCausalImageModeling" };

    let mut value = json!({
        "activation_function": activation,
        "architectures": [architecture],
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
        "torch_dtype": "float32",
        "use_cache": true,
        "vocab_size": config.embedding_rows(),
    });

    // Class names go both ways, as transformers expects.
    if classifier {
        let names = || config.classes.iter().enumerate();
        value["id2label"] = names().map(|(class, name)| (class.to_string(), Value::from(name.as_str()))).collect();
        value["label2id"] = names().map(|(class, name)| (name.clone(), Value::from(class))).collect();
    }
    value.as_object().cloned().unwrap_or_default()
}

/// [`config_json`] with our own keys added.
pub fn native_config_json(config: &ModelConfig) -> Map<String, Value> {
    let mut map = config_json(config);
    let norm = match config.norm {
        Norm::Rms => "rms",
        Norm::Layer => "layer",
    };
    map.insert(MANIFEST_KEY.to_owned(), MANIFEST_FILE.into());
    map.insert("igpt_norm".to_owned(), norm.into());
    map.insert("igpt_sos".to_owned(), config.sos.into());
    map.insert("igpt_bias".to_owned(), config.bias.into());
    map.insert("igpt_objective".to_owned(), config.objective().to_string().into());
    map.insert("igpt_order".to_owned(), config.order.name().into());
    if expressible(config).is_err() {
        map.insert("model_type".to_owned(), OWN_MODEL_TYPE.into());
        map.remove("architectures");
    }
    map
}

/// Writes the folder's `config.json` and, of an order that has no name, `order.npy`. With `strict` there are Hugging Face's
/// keys alone, and the model must be [`expressible`]. A `bare` model has no head.
pub(in crate::checkpoint) fn write_config(dir: &Path, config: &ModelConfig, strict: bool, bare: bool) -> Result<()> {
    let mut json = if strict { config_json(config) } else { native_config_json(config) };
    if let Some(architectures) = json.get_mut("architectures").filter(|_| bare) {
        *architectures = json!(["ImageGPTModel"]);
    }
    write_json(&dir.join(CONFIG_FILE), &json.into())?;
    write_order(dir, &config.order)
}

/// The model that the folder's `config.json` describes. Whether it has biases is seen from the tensors, unless the file
/// says so itself: Hugging Face's files do not, and all of theirs hold biases, of zeros in the official models.
///
/// # Errors
/// [`CheckpointError::Io`], [`CheckpointError::Json`] and [`CheckpointError::Order`] for files that cannot be read or
/// understood, [`CheckpointError::Model`] for an impossible model.
pub fn load_config(dir: &Path) -> Result<ModelConfig> {
    Manifest::open(dir)?;
    let path = dir.join(CONFIG_FILE);
    if !path.is_file() && WeightKind::of(dir) == Some(WeightKind::TensorFlow) {
        return tensorflow_config(dir);
    }
    let map = read_json(&path)?;
    let (mut config, bias) = parse_config(dir, &path, &map)?;
    let weights = WeightKind::of(dir).is_some();
    config.bias = match bias {
        Some(bias) => bias,
        None => ModelFile::open(dir)?.has_bias()?,
    };
    if weights {
        config.classes = class_names(&map, ModelFile::open(dir)?.classes());
    }
    config.validate().map_err(|source| CheckpointError::Model { path, source })?;
    Ok(config)
}

/// The configuration, and whether it has biases if the file says so.
fn parse_config(dir: &Path, path: &Path, map: &Map<String, Value>) -> Result<(ModelConfig, Option<bool>)> {
    let keys = Keys { path, map };
    check_supported(&keys)?;

    // Vocabulary and objective: a start-of-sequence token makes the model autoregressive.
    let sos = keys.flag("igpt_sos")?.unwrap_or(true);
    let rows = keys.dimension("vocab_size")?;
    let Some(vocabulary) = rows.checked_sub(usize::from(sos)) else {
        return Err(keys.error("vocab_size must be at least 2: the colours and the start-of-sequence token".to_owned()));
    };
    let objectives = [("ar", Some(Objective::Ar)), ("bert", Some(Objective::Bert)), ("", None)];
    let objective = keys.one_of("igpt_objective", "", &objectives)?;
    if objective.is_some_and(|objective| (objective == Objective::Ar) != sos) {
        return Err(keys.error("igpt_objective must be \"ar\" with igpt_sos, \"bert\" without it".to_owned()));
    }

    // The model itself.
    let orders = ["raster", "columns", "spiral", "hilbert"].map(|name| (name, Order::named(name)));
    let orders = [&orders[..], &[("file", None)]].concat();
    let order = keys.one_of("igpt_order", "raster", &orders)?;
    let config = ModelConfig {
        layers: keys.dimension("n_layer")?,
        width: keys.dimension("n_embd")?,
        heads: keys.dimension("n_head")?,
        positions: keys.dimension("n_positions")?,
        vocabulary,
        sos,
        norm: keys.one_of("igpt_norm", "rms", &[("rms", Norm::Rms), ("layer", Norm::Layer)])?,
        activation: keys.one_of(
            "activation_function",
            "quick_gelu",
            &[("quick_gelu", Activation::QuickGelu), ("gelu", Activation::Gelu)],
        )?,
        bias: false,
        order: order.map_or_else(|| load_order(dir), Ok)?,
        classes: Vec::new(),
    };

    config.validate().map_err(|source| CheckpointError::Model { path: path.to_owned(), source })?;
    if !matches!(map.get("n_inner"), None | Some(Value::Null)) && keys.dimension("n_inner")? != 4 * config.width {
        return Err(keys.error(format!("n_inner must be null or 4 × n_embd = {}", 4 * config.width)));
    }
    Ok((config, keys.flag("igpt_bias")?))
}

/// Refuses what Hugging Face could vary and Image GPT does not, and keys of ours that are unknown.
fn check_supported(keys: &Keys<'_>) -> Result<()> {
    keys.refuse_unknown_own()?;
    keys.one_of("model_type", "imagegpt", &[("imagegpt", ()), (OWN_MODEL_TYPE, ())])?;

    for (key, expected) in [
        ("scale_attn_weights", true),
        ("scale_attn_by_inverse_layer_idx", false),
        ("reorder_and_upcast_attn", false),
        ("tie_word_embeddings", false),
        ("add_cross_attention", false),
    ] {
        let found = keys.flag(key)?.unwrap_or(expected);
        if found != expected {
            return Err(keys.error(format!("{key} is {found}; only models with {expected} can be computed")));
        }
    }
    match keys.map.get("layer_norm_epsilon").map(Value::as_f64) {
        None | Some(Some(1e-5)) => Ok(()),
        _ => Err(keys.error("layer_norm_epsilon must be 1e-5, as in every Image GPT".to_owned())),
    }
}

/// Names of `classes` classes: those of `id2label` if it has as many, else their numbers.
fn class_names(map: &Map<String, Value>, classes: usize) -> Vec<String> {
    let name = |class: usize| map.get("id2label")?.get(class.to_string())?.as_str().map(str::to_owned);
    let labels = map.get("id2label").and_then(Value::as_object).map_or(0, Map::len);
    let names: Option<Vec<String>> = (0..classes).map(name).collect();
    names.filter(|_| labels == classes).unwrap_or_else(|| (0..classes).map(|class| class.to_string()).collect())
}

/// The keys of one `config.json`.
struct Keys<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
}

impl Keys<'_> {
    fn error(&self, problem: String) -> CheckpointError {
        CheckpointError::json(self.path, problem)
    }

    fn dimension(&self, key: &str) -> Result<usize> {
        let value = self.map.get(key).ok_or_else(|| self.error(format!("{key} is missing; give it as a number")))?;
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        number.ok_or_else(|| self.error(format!("{key} is {value}; it must be a whole number")))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.error(format!("{key} is {other}; it must be true or false"))),
        }
    }

    /// The meaning of a text key among `choices`.
    fn one_of<T: Clone>(&self, key: &str, default: &str, choices: &[(&str, T)]) -> Result<T> {
        let found = match self.map.get(key) {
            None | Some(Value::Null) => Some(default),
            Some(value) => value.as_str(),
        };
        choices.iter().find(|(name, _)| Some(*name) == found).map(|(_, meaning)| meaning.clone()).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
            let found = self.map.get(key).unwrap_or(&Value::Null);
            self.error(format!("{key} is {found}; it must be one of: {}", names.join(", ")))
        })
    }

    /// A key of ours that we do not know changes the model in a way that we do not know.
    fn refuse_unknown_own(&self) -> Result<()> {
        let known = [MANIFEST_KEY, "igpt_norm", "igpt_sos", "igpt_bias", "igpt_objective", "igpt_order"];
        match self.map.keys().find(|key| key.starts_with("igpt_") && !known.contains(&key.as_str())) {
            Some(key) => Err(self.error(format!("{key} is unknown; it was written by a newer igpt-engine, use that"))),
            None => Ok(()),
        }
    }
}
