//! Hugging Face's ImageGPT folder: `config.json` to and from [`ModelConfig`], and the names in `model.safetensors`.
//!
//! Our own checkpoints are such folders too. What Hugging Face has no key for (`igpt_norm`, `igpt_sos`, `igpt_bias`,
//! `igpt_objective`, `igpt_order`) are extra keys, which it ignores; a model that it would therefore compute wrongly is given
//! a `model_type` that it refuses. A class head is `score.weight` and `id2label`, as in its `ImageGPTForImageClassification`.
//! In return its tensors that are none of ours are passed over: mask buffers of old files (`attn.bias`,
//! `attn.masked_bias`), and biases of zero, which exist because its Conv1D has them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::error::{CheckpointError, Result};
use super::tensors::TensorFile;
use super::{CONFIG_FILE, MODEL_FILE, ORDER_FILE, write_json};
use crate::data::npy::{self, Npy};
use crate::device::{Activation, Device, Norm};
use crate::model::{CLASS_HEAD, ModelConfig, Objective, Order, Permutation, parameter_specs};
use crate::tape::Parameters;

/// `model_type` of a model that Hugging Face's ImageGPT would compute wrongly.
const OWN_MODEL_TYPE: &str = "igpt_engine";
/// Longest JSON file taken.
const MAX_JSON: u64 = 4 << 20;

/// Whether Hugging Face's ImageGPT computes what this model computes; if not, the error says why not.
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
/// keys alone, and the model must be [`expressible`].
pub(super) fn write_config(dir: &Path, config: &ModelConfig, strict: bool) -> Result<()> {
    let json = if strict { config_json(config) } else { native_config_json(config) };
    write_json(&dir.join(CONFIG_FILE), &json.into())?;
    match &config.order {
        Order::Fixed(order) => {
            let path = dir.join(ORDER_FILE);
            let written = npy::write_u16(&path, &[order.len()], order.pixels());
            written.map_err(|error| CheckpointError::Order { path, problem: error.to_string() })
        }
        _ => Ok(()),
    }
}

/// The order in the folder's `order.npy`.
fn load_order(dir: &Path) -> Result<Order> {
    let path = dir.join(ORDER_FILE);
    let order = read_permutation(&path).map_err(|problem| CheckpointError::Order { path, problem })?;
    Ok(Order::Fixed(order))
}

/// A permutation from an array of integers: the pixel at each place, counted in raster order.
///
/// # Errors
/// What is wrong with the file, in words.
pub fn read_permutation(path: &Path) -> std::result::Result<Permutation, String> {
    let array = Npy::open(path).map_err(|error| error.to_string())?;
    if array.len() > 1 << 16 {
        return Err(format!("it has {} values; an order has at most 65536", array.len()));
    }
    let pixels: Vec<i64> = array.integers(0..array.len()).map_err(|error| error.to_string())?.collect();
    Permutation::new(pixels)
}

/// Reads a JSON object, with a limit on its size.
pub(super) fn read_json(path: &Path) -> Result<Map<String, Value>> {
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_JSON + 1).read_to_end(&mut text))
        .map_err(CheckpointError::io("read", path))?;
    if text.len() as u64 > MAX_JSON {
        return Err(CheckpointError::json(path, format!("longer than the {MAX_JSON} bytes taken")));
    }
    serde_json::from_slice(&text).map_err(|error| CheckpointError::json(path, format!("not a JSON object: {error}")))
}

/// The model that the folder's `config.json` describes. Whether it has biases is seen from the tensors, unless the file
/// says so itself: Hugging Face's files do not, and all of theirs hold biases, of zeros in the official models.
pub fn load_config(dir: &Path) -> Result<ModelConfig> {
    let path = dir.join(CONFIG_FILE);
    let map = read_json(&path)?;
    let (mut config, bias) = parse_config(dir, &path, &map)?;
    let weights = dir.join(MODEL_FILE).is_file();
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
    match map.get("layer_norm_epsilon").map(Value::as_f64) {
        None | Some(Some(1e-5)) => {}
        _ => return Err(keys.error("layer_norm_epsilon must be 1e-5, as in every Image GPT".to_owned())),
    }
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
        let known = ["igpt_norm", "igpt_sos", "igpt_bias", "igpt_objective", "igpt_order"];
        match self.map.keys().find(|key| key.starts_with("igpt_") && !known.contains(&key.as_str())) {
            Some(key) => Err(self.error(format!("{key} is unknown; it was written by a newer igpt-engine, use that"))),
            None => Ok(()),
        }
    }
}

/// A folder's `model.safetensors`, its tensors found by the names that [`parameter_specs`] uses.
#[derive(Debug)]
pub struct ModelFile {
    file: TensorFile,
    /// From our name to the file's.
    names: BTreeMap<String, String>,
}

impl ModelFile {
    /// Opens the folder's weights. Names may lack the prefix `transformer.`, as a bare `ImageGPTModel` saves them.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(MODEL_FILE);
        if !path.is_file() {
            return Err(CheckpointError::NotACheckpoint { path: dir.to_owned(), problem: missing_weights(dir) });
        }
        let file = TensorFile::open(&path)?;
        let mut names = BTreeMap::new();
        for (name, _) in file.tensors() {
            let prefixed = ["transformer.", "lm_head.", "score."].iter().any(|prefix| name.starts_with(prefix));
            let own = if prefixed { name.to_owned() } else { format!("transformer.{name}") };
            if names.insert(own.clone(), name.to_owned()).is_some() {
                return Err(CheckpointError::AmbiguousTensor { path, name: own });
            }
        }
        Ok(Self { file, names })
    }

    /// Rows of the class head; 0 without one.
    fn classes(&self) -> usize {
        let shape = self.names.get(CLASS_HEAD).and_then(|found| self.file.shape(found));
        shape.and_then(|shape| shape.first()).copied().unwrap_or(0)
    }

    /// Whether the file holds a parameter of this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Reads a parameter as f32, row-major.
    pub fn read(&mut self, name: &str) -> Result<Vec<f32>> {
        // A name that the file lacks is passed on, so that the file's own error speaks.
        let found = self.names.get(name).map_or(name, String::as_str);
        self.file.read(found)
    }

    /// Whether any bias of a layer is there and not zero.
    pub fn has_bias(&mut self) -> Result<bool> {
        let biases: Vec<_> =
            self.names.keys().filter(|name| name.ends_with(".bias") && !is_mask(name)).cloned().collect();
        for name in biases {
            if !self.is_zero(&name)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_zero(&mut self, name: &str) -> Result<bool> {
        Ok(self.read(name)?.iter().all(|value| *value == 0.0))
    }

    /// Checks that every parameter of `config` is there in its shape, and nothing else that would matter. Returns the
    /// file's names of the tensors that are passed over.
    pub fn check(&mut self, config: &ModelConfig) -> Result<Vec<String>> {
        self.check_except(config, &[])
    }

    /// [`Self::check`] where the parameters named in `absent` need not be there.
    pub fn check_except(&mut self, config: &ModelConfig, absent: &[String]) -> Result<Vec<String>> {
        let path = self.file.path().to_owned();
        let specs = parameter_specs(config);
        let absent: HashSet<_> = absent.iter().collect();
        for spec in specs.iter().filter(|spec| !absent.contains(&spec.name)) {
            self.check_shape(&spec.name, &spec.shape)?;
        }
        let own: HashMap<_, _> = specs.into_iter().map(|spec| (spec.name, spec.shape)).collect();
        let biased = parameter_specs(&ModelConfig { bias: true, ..config.clone() });
        let biased: HashMap<_, _> = biased.into_iter().map(|spec| (spec.name, spec.shape)).collect();
        let mut passed_over = Vec::new();
        for (name, found) in self.names.clone() {
            if own.contains_key(&name) {
                continue;
            }
            let why = match biased.get(&name) {
                Some(shape) => {
                    self.check_shape(&name, shape)?;
                    if self.is_zero(&name)? { None } else { Some(", which is not zero although igpt_bias is false") }
                }
                None if is_mask(&name) || name == CLASS_HEAD => None,
                None => Some(""),
            };
            match why {
                None => passed_over.push(found),
                Some(why) => {
                    return Err(CheckpointError::UnexpectedTensor { path, name: found, why: why.to_owned() });
                }
            }
        }
        Ok(passed_over)
    }

    fn check_shape(&self, name: &str, expected: &[usize]) -> Result<()> {
        let path = || self.file.path().to_owned();
        match self.names.get(name).and_then(|found| self.file.shape(found)) {
            None => Err(CheckpointError::MissingTensor { path: path(), name: name.to_owned() }),
            Some(found) if found != expected => Err(CheckpointError::WrongShape {
                path: path(),
                name: name.to_owned(),
                found: found.to_vec(),
                expected: expected.to_vec(),
            }),
            Some(_) => Ok(()),
        }
    }
}

/// Loads the folder's weights as the parameters of `config`, one tensor at a time.
pub fn load_parameters<D: Device>(device: &D, dir: &Path, config: &ModelConfig) -> Result<Parameters<D>> {
    let mut file = ModelFile::open(dir)?;
    file.check(config)?;
    Parameters::from_fn(device, parameter_specs(config), |_, spec| file.read(&spec.name))
}

/// The causal mask and its filler, which old versions saved with each block.
fn is_mask(name: &str) -> bool {
    name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")
}

/// What a folder without `model.safetensors` holds instead, and how to mend it.
pub(crate) fn missing_weights(dir: &Path) -> String {
    if dir.join("pytorch_model.bin").exists() {
        "its weights are a PyTorch pickle; convert it once with transformers: \
         ImageGPTForCausalImageModeling.from_pretrained(DIR).save_pretrained(NEW_DIR)"
            .to_owned()
    } else if dir.join("model.safetensors.index.json").exists() {
        "its weights are split over several files; save it again with transformers' \
         save_pretrained(NEW_DIR, max_shard_size=\"100GB\")"
            .to_owned()
    } else if dir.is_dir() {
        format!("there is no {MODEL_FILE} in it; give a checkpoint or a run folder")
    } else {
        "there is no such folder; give a checkpoint or a run folder".to_owned()
    }
}
