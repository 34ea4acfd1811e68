//! One transformer block, pre-norm: attention and an MLP, each added to the residual stream.

use crate::device::{Activation, Device, Mask, Norm, Result, WeightLayout};
use crate::model::layout::BlockIds;
use crate::tape::{Forward, NormIds, Piece, Recorder, Residual, Var};

/// A block with the norm that follows it, which is fused with its last residual sum.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub ids: BlockIds,
    pub next_norm: NormIds,
    pub norm: Norm,
    pub activation: Activation,
}

impl Block {
    /// From the residual stream and its norm to those behind the block, with the caller's attention.
    pub fn run<D: Device, R: Recorder<D>>(
        &self,
        f: &mut Forward<'_, D, R>,
        [mut x, mut normed]: [Var<D>; 2],
        attend: impl FnOnce(&mut Forward<'_, D, R>, &Var<D>) -> Result<Var<D>>,
    ) -> Result<[Var<D>; 2]> {
        let Self { ids, next_norm, norm, activation } = *self;

        // x += c_proj(attention(c_attn(ln_1(x)))); what is not on a tape is freed before the MLP.
        let qkv = f.linear(ids.c_attn, WeightLayout::InOut, &normed)?;
        let mixed = attend(f, &qkv)?;
        drop(qkv);
        [x, normed] = f.linear_residual_layernorm(ids.attn_c_proj, &mixed, Residual { x: &x, norm, ids: ids.ln_2 })?;
        drop(mixed);

        // x += mlp(ln_2(x)); the next block's first norm is fused with this residual sum.
        let to = Residual { x: &x, norm, ids: next_norm };
        f.mlp_residual_layernorm(ids.c_fc, ids.mlp_c_proj, activation, &normed, to)
    }
}

/// A block on whole sequences: all that it computes follows from the stream and its norm, so a tape may run it again.
pub(super) struct OnSequences {
    pub block: Block,
    pub heads: usize,
    pub mask: Mask,
}

impl<D: Device> Piece<D> for OnSequences {
    fn run<R: Recorder<D>>(&self, f: &mut Forward<'_, D, R>, state: [Var<D>; 2]) -> Result<[Var<D>; 2]> {
        let Self { block, heads, mask } = self;
        block.run(f, state, |f, qkv| f.attention(*heads, *mask, qkv))
    }
}
