//! The layout of a model's parameters: names, shapes, how each starts, and where each part of the model finds its own.
//!
//! Names and shapes are Hugging Face's (`ImageGPTForCausalImageModeling`), so a checkpoint of ours is one of theirs:
//! row `vocabulary` of the token embedding is the start-of-sequence vector, and the weights of a block are `[in, out]`.

use crate::device::Norm;
use crate::model::config::ModelConfig;
use crate::tape::{Init, LinearIds, NormIds, ParameterId, ParameterSpec};

/// The class head, under its name in `ImageGPTForImageClassification`.
pub const CLASS_HEAD: &str = "score.weight";
/// Name of the language-model head, [vocabulary, width]: it predicts pixels.
pub const TOKEN_HEAD: &str = "lm_head.weight";

/// Whether a parameter is a matrix that only GEMMs read: of a block, or a head.
pub fn is_matrix(spec: &ParameterSpec) -> bool {
    let of_block = spec.name.starts_with("transformer.h.") && spec.shape.len() == 2;
    of_block || [TOKEN_HEAD, CLASS_HEAD].contains(&&*spec.name)
}

/// The parameters of one transformer block.
#[derive(Clone, Copy, Debug)]
pub struct BlockIds {
    /// Norm before attention.
    pub ln_1: NormIds,
    /// Queries, keys and values, `[d, 3d]`.
    pub c_attn: LinearIds,
    /// Attention's output projection, `[d, d]`.
    pub attn_c_proj: LinearIds,
    /// Norm before the MLP.
    pub ln_2: NormIds,
    /// MLP up, `[d, 4d]`.
    pub c_fc: LinearIds,
    /// MLP down, `[4d, d]`.
    pub mlp_c_proj: LinearIds,
}

/// Where each part of the model finds its parameters.
#[derive(Clone, Debug)]
pub struct ModelIds {
    /// Token embedding, `[vocabulary (+ 1 for sos), d]`.
    pub wte: ParameterId,
    /// Position embedding, `[positions, d]`.
    pub wpe: ParameterId,
    /// The blocks, first to last.
    pub blocks: Vec<BlockIds>,
    /// Final norm.
    pub ln_f: NormIds,
    /// Token head, `[vocabulary, d]`, untied.
    pub head: ParameterId,
    /// Class head, `[classes, d]`, where there is one.
    pub class_head: Option<ParameterId>,
}

/// Collects specs while handing out ids, so that the two cannot disagree.
struct Layout<'a> {
    config: &'a ModelConfig,
    specs: Vec<ParameterSpec>,
}

impl Layout<'_> {
    fn push(&mut self, name: impl Into<String>, shape: &[usize], init: Init) -> ParameterId {
        self.specs.push(ParameterSpec { name: name.into(), shape: shape.to_vec(), init });
        ParameterId(self.specs.len() - 1)
    }

    fn linear(&mut self, name: &str, [inputs, outputs]: [usize; 2], std: f64) -> LinearIds {
        let weight = self.push(format!("{name}.weight"), &[inputs, outputs], Init::Normal(std));
        let bias = self.config.bias.then(|| self.push(format!("{name}.bias"), &[outputs], Init::Zero));
        LinearIds { weight, bias }
    }

    fn norm(&mut self, name: &str) -> NormIds {
        let width = self.config.width;
        let gain = self.push(format!("{name}.weight"), &[width], Init::One);
        // Hugging Face's ImageGPT has biases on its linear layers but never on its (RMS) norm.
        let biased = self.config.bias && self.config.norm == Norm::Layer;
        let bias = biased.then(|| self.push(format!("{name}.bias"), &[width], Init::Zero));
        NormIds { gain, bias }
    }
}

/// Lays the model out: every parameter in its fixed order, and the ids to find them by.
///
/// Standard deviations are those of the official code (model.py), which differ from the paper's text: only attention's
/// output projection is scaled with depth.
fn lay_out(config: &ModelConfig) -> (Vec<ParameterSpec>, ModelIds) {
    let width = config.width;
    let (d, depth) = (width as f64, config.layers as f64);
    let mut layout = Layout { config, specs: Vec::new() };

    // Embeddings.
    let wte = layout.push("transformer.wte.weight", &[config.embedding_rows(), width], Init::Normal(0.02));
    let wpe = layout.push("transformer.wpe.weight", &[config.positions, width], Init::Normal(0.01));

    // Blocks.
    let blocks = (0..config.layers)
        .map(|layer| {
            let name = |part: &str| format!("transformer.h.{layer}.{part}");
            BlockIds {
                ln_1: layout.norm(&name("ln_1")),
                c_attn: layout.linear(&name("attn.c_attn"), [width, 3 * width], d.powf(-0.5)),
                attn_c_proj: layout.linear(&name("attn.c_proj"), [width, width], (d * depth).powf(-0.5)),
                ln_2: layout.norm(&name("ln_2")),
                c_fc: layout.linear(&name("mlp.c_fc"), [width, 4 * width], 0.02),
                mlp_c_proj: layout.linear(&name("mlp.c_proj"), [4 * width, width], 0.02),
            }
        })
        .collect();

    // Final norm and heads.
    let ln_f = layout.norm("transformer.ln_f");
    let head = layout.push(TOKEN_HEAD, &[config.vocabulary, width], Init::Zero);
    let classes = config.classes.len();
    let class_head = (classes > 0).then(|| layout.push(CLASS_HEAD, &[classes, width], Init::Zero));
    (layout.specs, ModelIds { wte, wpe, blocks, ln_f, head, class_head })
}

/// Every parameter of the model, in the fixed order that [`ParameterId`] counts in.
pub fn parameter_specs(config: &ModelConfig) -> Vec<ParameterSpec> {
    lay_out(config).0
}

/// Where each part of the model finds its parameters.
pub fn model_ids(config: &ModelConfig) -> ModelIds {
    lay_out(config).1
}

impl ModelConfig {
    /// Trainable parameters.
    ///
    /// Without biases `L·(12d² + 2d) + positions·d + (2·512 + 1)·d + d`: 76,571,648 for iGPT-S.
    pub fn parameter_count(&self) -> usize {
        parameter_specs(self).iter().map(|spec| spec.shape.iter().product::<usize>()).sum()
    }
}
