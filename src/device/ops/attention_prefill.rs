//! Causal attention over prompts, which fills the cache that drawing goes on from.

use super::attention::{AttentionDims, heads_of};
use super::attention_decode::CacheDims;
use crate::device::shape_check::{self, error, exactly};
use crate::device::{Result, Tensors};

/// Attention over the prompts of images, all positions at once.
pub trait AttentionPrefillOps: Tensors {
    /// Causal attention over the first `T` positions of `B` images, from `qkv` `[B, T, 3d]`, as
    /// [`AttentionOps::attention`](super::attention::AttentionOps::attention) has it bit for bit: `[B, T, d]`. Their keys and values
    /// are stored in those of images `first..first + B` of the caches, at positions `0..T`; nothing else of the caches changes.
    fn attention_prefill(
        &self,
        qkv: &Self::Tensor,
        keys: &mut Self::Tensor,
        values: &mut Self::Tensor,
        first: usize,
        heads: usize,
    ) -> Result<Self::Tensor>;
}

/// Checks the shapes of `attention_prefill`: those of attention and of the caches.
pub fn check(
    qkv: &[usize],
    keys: &[usize],
    values: &[usize],
    first: usize,
    heads: usize,
) -> shape_check::Result<(AttentionDims, CacheDims)> {
    const OP: &str = "attention_prefill";
    let dims = heads_of(OP, qkv, heads)?;
    let [images, _, positions, _] =
        <[usize; 4]>::try_from(keys).or_else(|_| error(OP, "keys", "[B, H, T, d/H]", keys))?;
    exactly(OP, "keys", keys, &[images, heads, positions, dims.head_dim])?;
    exactly(OP, "values", values, keys)?;
    if dims.tokens > positions {
        return error(OP, "qkv", format!("of at most the cache's {positions} positions"), qkv);
    }
    if first.checked_add(dims.batch).is_none_or(|end| end > images) {
        return error(OP, "first", format!("at most {images} images less {}", dims.batch), first);
    }
    Ok((dims, CacheDims { batch: images, positions, heads, head_dim: dims.head_dim }))
}
