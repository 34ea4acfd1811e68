//! OpenAI's variables as Hugging Face's tensors.

use std::collections::{BTreeMap, BTreeSet};

use crate::device::{Activation, Norm};
use crate::model::{ModelConfig, Order};

/// What OpenAI's names start with.
const SCOPE: &str = "model/";
/// Most layers that are looked for.
const MAX_LAYERS: usize = 4096;

type Result<T> = std::result::Result<T, String>;
type Shapes<'a> = BTreeMap<&'a str, &'a [usize]>;

/// A tensor of ours.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) shape: Vec<usize>,
    pub(super) parts: Parts,
}

/// What it is made of.
#[derive(Debug)]
pub(super) enum Parts {
    /// The values of variables, one after the other.
    Rows(Vec<String>),
    /// The transposed matrices of three variables, side by side.
    Columns([String; 3]),
}

/// The model that the variables are of. Errors are the problem in words.
pub(super) fn config(shapes: &Shapes<'_>) -> Result<ModelConfig> {
    let shape = |name: &str| {
        let found = shapes.get(format!("{SCOPE}{name}").as_str()).copied();
        found.ok_or_else(|| format!("there is no variable {SCOPE}{name} in it, so it is no Image GPT of OpenAI's"))
    };
    let (&[positions, width], &[vocabulary, _]) = (shape("wpe")?, shape("wte")?) else {
        return Err("its embeddings are not matrices, so it is no Image GPT of OpenAI's".into());
    };
    let &[heads, _, _] = shape("h0/attn/q_proj")? else {
        return Err("its projections are not [heads, width / heads, width], so it is no Image GPT of OpenAI's".into());
    };
    let has_layer = |layer: &usize| shapes.contains_key(format!("{SCOPE}h{layer}/ln_1/g").as_str());
    Ok(ModelConfig {
        layers: (0..MAX_LAYERS).take_while(has_layer).count(),
        width,
        heads,
        positions,
        vocabulary,
        sos: shapes.contains_key(format!("{SCOPE}sos").as_str()),
        norm: Norm::Rms,
        activation: Activation::QuickGelu,
        bias: false,
        order: Order::Raster,
        classes: Vec::new(),
    })
}

/// Every tensor of the model, and what it is made of. What training left (slots of the optimiser, counters) and the class
/// head, which OpenAI's own code does not restore, are passed over; any other variable is an error.
pub(super) fn mapping(config: &ModelConfig, shapes: &Shapes<'_>) -> Result<BTreeMap<String, Mapped>> {
    let &ModelConfig { layers, width, positions, vocabulary, sos, .. } = config;
    let mut mapped = BTreeMap::new();
    let mut used = BTreeSet::new();
    let mut add = |name: String, shape: &[usize], parts: &[String]| -> Result<()> {
        let elements: Vec<usize> = parts.iter().map(|part| elements(shapes, part)).collect::<Result<_>>()?;
        let expected: usize = shape.iter().product();
        if elements.iter().sum::<usize>() != expected {
            return Err(format!("{} has {elements:?} values where the model has {expected}", parts.join(" and ")));
        }
        used.extend(parts.iter().cloned());
        let parts = match parts {
            [q, k, v] => Parts::Columns([q.clone(), k.clone(), v.clone()]),
            _ => Parts::Rows(parts.to_vec()),
        };
        mapped.insert(name, Mapped { shape: shape.to_vec(), parts });
        Ok(())
    };

    // Around the blocks.
    let own = |name: &str| format!("{SCOPE}{name}");
    let embedding = if sos { vec![own("wte"), own("sos")] } else { vec![own("wte")] };
    add("transformer.wte.weight".into(), &[vocabulary + usize::from(sos), width], &embedding)?;
    add("transformer.wpe.weight".into(), &[positions, width], &[own("wpe")])?;
    add("transformer.ln_f.weight".into(), &[width], &[own("ln_f/g")])?;
    add("lm_head.weight".into(), &[vocabulary, width], &[own("wtet")])?;

    for layer in 0..layers {
        let name = |part: &str| format!("transformer.h.{layer}.{part}.weight");
        let own = |part: &str| format!("{SCOPE}h{layer}/{part}");
        let qkv = ["attn/q_proj", "attn/k_proj", "attn/v_proj"].map(own);
        for part in &qkv {
            if elements(shapes, part)? != width * width {
                return Err(format!("{part} is not of width {width}"));
            }
        }
        add(name("ln_1"), &[width], &[own("ln_1/g")])?;
        add(name("attn.c_attn"), &[width, 3 * width], &qkv)?;
        add(name("attn.c_proj"), &[width, width], &[own("attn/c_proj")])?;
        add(name("ln_2"), &[width], &[own("ln_2/g")])?;
        add(name("mlp.c_fc"), &[width, 4 * width], &[own("mlp/c_fc/w")])?;
        add(name("mlp.c_proj"), &[4 * width, width], &[own("mlp/c_proj/w")])?;
    }

    // What is left must be without effect.
    let is_slot = |name: &str| name.rsplit_once('/').is_some_and(|(of, _)| used.contains(of));
    let left = shapes
        .keys()
        .find(|name| name.starts_with(SCOPE) && !used.contains(**name) && !is_slot(name) && !name.contains("clf"));
    match left {
        None => Ok(mapped),
        Some(name) => Err(format!("{name} in it is no variable of an Image GPT of {layers} layers")),
    }
}

/// Values of a variable.
fn elements(shapes: &Shapes<'_>, name: &str) -> Result<usize> {
    let shape = shapes.get(name).ok_or_else(|| format!("there is no variable {name} in it; it is of another model"))?;
    let product = shape.iter().try_fold(1_usize, |product, &side| product.checked_mul(side));
    product.filter(|&product| product < usize::MAX / 8).ok_or_else(|| format!("{name} is larger than any variable"))
}
