//! The transformer: a pre-norm GPT over colours (Chen et al. 2020, section 2.2, in the form of the official code).

use std::rc::Rc;

use crate::device::{Device, Mask, Result, WeightLayout};
use crate::model::Permutation;
use crate::model::config::{ConfigError, ModelConfig};
use crate::model::layout::{ModelIds, model_ids};
use crate::tape::{self, LinearIds, Parameters, Recorder, Var};

/// A model: its configuration and where its parts find their parameters. Holds no weights itself.
#[derive(Clone, Debug)]
pub struct Transformer {
    config: ModelConfig,
    ids: ModelIds,
    /// The order of the pixels, unless it is raster order.
    permutation: Option<Permutation>,
}

/// The state of the residual stream at one depth, as [`Transformer::features`] shows it.
pub struct Depth<'a, D: Device> {
    /// How many blocks have run: 0 is the embedding, `layers` the end.
    pub depth: usize,
    /// The residual stream `h^l`, `[B, T, d]`.
    pub stream: &'a Var<D>,
    /// Its normalised form `n^l`: what block `l` attends over, or the final norm's output at the end, `[B, T, d]`.
    pub normed: &'a Var<D>,
}

impl Transformer {
    /// A model of this configuration.
    pub fn new(config: ModelConfig) -> std::result::Result<Self, ConfigError> {
        config.validate()?;
        let ids = model_ids(&config);
        let order = config.order.permutation(config.positions);
        let permutation = order.map_err(|problem| ConfigError::Order { problem })?;
        Ok(Self { config, ids, permutation })
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Which pixel stands at each position; nothing for raster order.
    pub fn permutation(&self) -> Option<&Permutation> {
        self.permutation.as_ref()
    }

    pub(super) fn ids(&self) -> &ModelIds {
        &self.ids
    }

    /// Runs all blocks over `ids` `[B, T]` and returns the final norm's output `[B, T, d]`; `observe` is shown every depth
    /// on the way, `layers + 1` of them.
    pub fn features<D: Device, R: Recorder<D>>(
        &self,
        device: &D,
        parameters: &Parameters<D>,
        recorder: &mut R,
        ids: &Rc<D::Tokens>,
        mask: Mask,
        observe: impl FnMut(Depth<'_, D>) -> Result<()>,
    ) -> Result<Var<D>> {
        let heads = self.config.heads;
        let attend =
            |recorder: &mut R, _layer: usize, qkv: &Var<D>| tape::attention(recorder, device, heads, mask, qkv);
        self.run(device, parameters, recorder, ids, 0, attend, observe)
    }

    /// The stack of blocks on tokens that stand at positions `first..`, with attention as the caller has it: over the
    /// sequence, or over a cache when decoding.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn run<D: Device, R: Recorder<D>>(
        &self,
        device: &D,
        parameters: &Parameters<D>,
        recorder: &mut R,
        ids: &Rc<D::Tokens>,
        first: usize,
        mut attend: impl FnMut(&mut R, usize, &Var<D>) -> Result<Var<D>>,
        mut observe: impl FnMut(Depth<'_, D>) -> Result<()>,
    ) -> Result<Var<D>> {
        let ModelConfig { norm, activation, .. } = self.config;
        let layout = WeightLayout::InOut;
        let mut stream = tape::embedding(recorder, device, parameters, self.ids.wte, self.ids.wpe, ids, first)?;
        let first_norm = self.ids.blocks.first().map_or(self.ids.ln_f, |block| block.ln_1);
        let mut normed = tape::layernorm(recorder, device, parameters, first_norm, norm, &stream)?;
        for (layer, block) in self.ids.blocks.iter().enumerate() {
            observe(Depth { depth: layer, stream: &stream, normed: &normed })?;
            let qkv = tape::linear(recorder, device, parameters, block.c_attn, layout, &normed)?;
            let mixed = attend(recorder, layer, &qkv)?;
            let delta = tape::linear(recorder, device, parameters, block.attn_c_proj, layout, &mixed)?;
            (stream, normed) =
                tape::residual_layernorm(recorder, device, parameters, block.ln_2, norm, &stream, &delta)?;
            let delta = tape::mlp(recorder, device, parameters, block.c_fc, block.mlp_c_proj, activation, &normed)?;
            // The next block's first norm is fused with this block's last residual sum.
            let next_norm = self.ids.blocks.get(layer + 1).map_or(self.ids.ln_f, |next| next.ln_1);
            (stream, normed) =
                tape::residual_layernorm(recorder, device, parameters, next_norm, norm, &stream, &delta)?;
        }
        observe(Depth { depth: self.config.layers, stream: &stream, normed: &normed })?;
        Ok(normed)
    }

    /// Scores of every colour at every position, from [`Transformer::features`]: `[B, T, d] → [B, T, V]`.
    pub fn logits<D: Device>(
        &self,
        device: &D,
        parameters: &Parameters<D>,
        recorder: &mut impl Recorder<D>,
        features: &Var<D>,
    ) -> Result<Var<D>> {
        let head = LinearIds { weight: self.ids.head, bias: None };
        tape::linear(recorder, device, parameters, head, WeightLayout::OutIn, features)
    }
}
