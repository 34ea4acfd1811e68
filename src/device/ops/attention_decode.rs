//! One step of causal attention, from a cache of keys and values.

use super::attention::{AttentionDims, heads_of};
use crate::device::shape_check::{self, error, exactly};
use crate::device::{Precision, Result, Tensors};

/// Attention of one new position from a cache of keys and values.
pub trait AttentionDecodeOps: Tensors {
    /// An empty cache, of keys or of values: `[B, H, positions, d/H]`, in the device's [`cache_precision`](Self::cache_precision). (The CPU packs
    /// two numbers of bf16 into one of its floats: half as many columns.)
    fn attention_cache(&self, dims: CacheDims) -> Result<Self::Tensor>;

    /// How a cache stores its numbers.
    fn cache_precision(&self) -> Precision;

    /// One step of causal attention with a cache: stores this position's keys and values in `keys` and `values`
    /// (`[B, H, positions, d/H]`) at `position`, and attends from `qkv` `[B, 1, 3d]` to positions `0..=position`;
    /// `[B, 1, d]`.
    ///
    /// The position `[1, 1]` is read from the device's memory, so that a recorded step reads at each replay what it has been
    /// overwritten with.
    fn attention_decode(
        &self,
        qkv: &Self::Tensor,
        keys: &mut Self::Tensor,
        values: &mut Self::Tensor,
        position: &Self::Tokens,
        heads: usize,
    ) -> Result<Self::Tensor>;
}

/// Dimensions of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheDims {
    /// Images.
    pub batch: usize,
    /// Positions that the cache holds.
    pub positions: usize,
    /// Heads.
    pub heads: usize,
    /// Width of one head.
    pub head_dim: usize,
}

impl CacheDims {
    /// As a tensor's: a head's positions lie one after the other.
    pub fn shape(&self) -> [usize; 4] {
        [self.batch, self.heads, self.positions, self.head_dim]
    }

    /// Width of the residual stream.
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// Checks the shapes of `attention_decode`.
pub fn check(
    qkv: &[usize],
    keys: &[usize],
    values: &[usize],
    position: [usize; 2],
    heads: usize,
) -> shape_check::Result<CacheDims> {
    const OP: &str = "attention_decode";
    let AttentionDims { batch, tokens, head_dim, .. } = heads_of(OP, qkv, heads)?;
    if tokens != 1 {
        return error(OP, "qkv", "[B, 1, 3d]", qkv);
    }

    // The caches.
    let [_, _, positions, _] = <[usize; 4]>::try_from(keys).or_else(|_| error(OP, "keys", "[B, H, T, d/H]", keys))?;
    exactly(OP, "keys", keys, &[batch, heads, positions, head_dim])?;
    exactly(OP, "values", values, keys)?;
    exactly(OP, "position", &position, &[1, 1])?;
    Ok(CacheDims { batch, positions, heads, head_dim })
}

/// Checks the position itself, where it is known.
pub fn check_position(position: usize, positions: usize) -> shape_check::Result<()> {
    if position < positions {
        return Ok(());
    }
    error("attention_decode", "position", format!("below the cache's {positions}"), position)
}
