//! One step of causal attention, from a cache of keys and values.

use super::attention::{AttentionDims, heads_of};
use crate::device::shape_check::{self, cube, error, exactly};
use crate::device::{Result, Tensors};

/// Attention of one new position from a cache of keys and values.
pub trait AttentionDecodeOps: Tensors {
    /// One step of causal attention with a cache: stores this position's keys and values in `keys` and `values`
    /// (`[B, positions, d]`) at `position`, and attends from `qkv` `[B, 1, 3d]` to positions `0..=position`;
    /// `[B, 1, d]`.
    fn attention_decode(
        &self,
        qkv: &Self::Tensor,
        keys: &mut Self::Tensor,
        values: &mut Self::Tensor,
        position: usize,
        heads: usize,
    ) -> Result<Self::Tensor>;
}

/// Dimensions of one step of cached attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeDims {
    /// Images.
    pub batch: usize,
    /// Positions that the cache holds.
    pub positions: usize,
    /// Heads.
    pub heads: usize,
    /// Width of one head.
    pub head_dim: usize,
}

/// Checks the shapes of `attention_decode`.
pub fn check(
    qkv: &[usize],
    keys: &[usize],
    values: &[usize],
    position: usize,
    heads: usize,
) -> shape_check::Result<DecodeDims> {
    const OP: &str = "attention_decode";
    let AttentionDims { batch, tokens, head_dim, .. } = heads_of(OP, qkv, heads)?;
    if tokens != 1 {
        return error(OP, "qkv", "[B, 1, 3d]", qkv);
    }

    // The caches.
    let [_, positions, _] = cube(OP, "keys", keys)?;
    exactly(OP, "keys", keys, &[batch, positions, heads * head_dim])?;
    exactly(OP, "values", values, keys)?;
    if position >= positions {
        return error(OP, "position", format!("below the cache's {positions}"), position);
    }
    Ok(DecodeDims { batch, positions, heads, head_dim })
}
