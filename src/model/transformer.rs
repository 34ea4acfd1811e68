//! The transformer: a pre-norm GPT over colours (Chen et al. 2020, section 2.2, in the form of the official code).

use std::rc::Rc;

use crate::device::{Device, Mask, Result, WeightLayout};
use crate::model::Permutation;
use crate::model::block::{Block, OnSequences};
use crate::model::config::{ConfigError, ModelConfig};
use crate::model::layout::{ModelIds, model_ids};
use crate::tape::{Forward, LinearIds, Parameters, Recompute, Recorder, Var};

/// A model: its configuration and where its parts find their parameters. Holds no weights itself.
#[derive(Clone, Debug)]
pub struct Transformer {
    config: ModelConfig,
    ids: ModelIds,
    /// The order of the pixels, unless it is raster order.
    permutation: Option<Permutation>,
    recompute: Recompute,
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
        Ok(Self { config, ids, permutation, recompute: Recompute::None })
    }

    /// The same model, of whose training steps as little is kept for the backward pass as `recompute` says. The numbers are the same.
    pub fn recomputing(self, recompute: Recompute) -> Self {
        Self { recompute, ..self }
    }

    /// How much of a training step is computed again.
    pub fn recompute(&self) -> Recompute {
        self.recompute
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

    /// Runs all blocks over `ids` `[B, T]` and returns the final norm's output `[B, T, d]`; `observe` is shown every
    /// depth on the way, `layers + 1` of them.
    pub fn features<D: Device, R: Recorder<D>>(
        &self,
        f: &mut Forward<'_, D, R>,
        ids: &Rc<D::Tokens>,
        mask: Mask,
        observe: impl FnMut(Depth<'_, D>) -> Result<()>,
    ) -> Result<Var<D>> {
        let heads = self.config.heads;
        self.stack(f, ids, None, |f, _layer, block, state| f.piece(OnSequences { block, heads, mask }, state), observe)
    }

    /// The stack of blocks on tokens at positions `first..` (from 0 on without it), with the caller's attention: over the
    /// sequence, or over a cache when decoding.
    pub fn blocks<D: Device, R: Recorder<D>>(
        &self,
        f: &mut Forward<'_, D, R>,
        ids: &Rc<D::Tokens>,
        first: Option<&D::Tokens>,
        mut attend: impl FnMut(&mut Forward<'_, D, R>, usize, &Var<D>) -> Result<Var<D>>,
        observe: impl FnMut(Depth<'_, D>) -> Result<()>,
    ) -> Result<Var<D>> {
        let run =
            |f: &mut Forward<'_, D, R>, layer, block: Block, state| block.run(f, state, |f, qkv| attend(f, layer, qkv));
        self.stack(f, ids, first, run, observe)
    }

    /// Embedding, the blocks one after the other as `run` runs them on `[stream, norm]`, and what is left: the final norm's output.
    fn stack<D: Device, R: Recorder<D>>(
        &self,
        f: &mut Forward<'_, D, R>,
        ids: &Rc<D::Tokens>,
        first: Option<&D::Tokens>,
        mut run: impl FnMut(&mut Forward<'_, D, R>, usize, Block, [Var<D>; 2]) -> Result<[Var<D>; 2]>,
        mut observe: impl FnMut(Depth<'_, D>) -> Result<()>,
    ) -> Result<Var<D>> {
        let ModelConfig { norm, activation, layers, .. } = self.config;
        let ModelIds { wte, wpe, blocks, ln_f, .. } = &self.ids;
        let norm_before = |layer: usize| blocks.get(layer).map_or(*ln_f, |block| block.ln_1);

        let mut x = f.embedding(*wte, *wpe, ids, first)?;
        let mut normed = f.layernorm(norm_before(0), norm, &x)?;
        for (layer, ids) in blocks.iter().enumerate() {
            observe(Depth { depth: layer, stream: &x, normed: &normed })?;
            let block = Block { ids: *ids, next_norm: norm_before(layer + 1), norm, activation };
            [x, normed] = run(f, layer, block, [x, normed])?;
        }
        observe(Depth { depth: layers, stream: &x, normed: &normed })?;
        Ok(normed)
    }

    /// Makes drawing with these parameters fast, as [`LinearOps::prepare_decoding`](crate::device::LinearOps::prepare_decoding) does:
    /// for sessions that draw again and again with the same weights.
    pub fn prepare_decoding<D: Device>(&self, device: &D, parameters: &Parameters<D>) -> Result<()> {
        for block in &self.ids.blocks {
            for ids in [block.c_attn, block.attn_c_proj, block.c_fc, block.mlp_c_proj] {
                device.prepare_decoding(parameters.get(ids.weight), WeightLayout::InOut)?;
            }
        }
        device.prepare_decoding(parameters.get(self.ids.head), WeightLayout::OutIn)
    }

    /// Scores of every colour at every position, from [`Transformer::features`]: `[B, T, d] → [B, T, V]`.
    pub fn logits<D: Device, R: Recorder<D>>(&self, f: &mut Forward<'_, D, R>, features: &Var<D>) -> Result<Var<D>> {
        let head = LinearIds { weight: self.ids.head, bias: None };
        f.linear(head, WeightLayout::OutIn, features)
    }
}
