//! Mean over an image's tokens.

use crate::device::shape_check::{self, cube, error, matrix};
use crate::device::{Result, Tensors};

/// Mean over the tokens of an image, forward and backward.
pub trait MeanPoolOps: Tensors {
    /// Mean over tokens: `[B, T, d] → [B, d]`.
    fn mean_pool(&self, x: &Self::Tensor) -> Result<Self::Tensor>;

    /// Gradient of [`MeanPoolOps::mean_pool`] for `tokens` tokens: `[B, d] → [B, T, d]`.
    fn mean_pool_backward(&self, dy: &Self::Tensor, tokens: usize) -> Result<Self::Tensor>;
}

/// Dimensions of mean pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolDims {
    /// Images.
    pub batch: usize,
    /// Tokens per image.
    pub tokens: usize,
    /// Width.
    pub width: usize,
}

/// Checks the shapes of `mean_pool`.
pub fn check(x: &[usize]) -> shape_check::Result<PoolDims> {
    let [batch, tokens, width] = cube("mean_pool", "x", x)?;
    Ok(PoolDims { batch, tokens, width })
}

/// Checks the shapes of `mean_pool_backward`.
pub fn check_backward(dy: &[usize], tokens: usize) -> shape_check::Result<PoolDims> {
    const OP: &str = "mean_pool_backward";
    let [batch, width] = matrix(OP, "dy", dy)?;
    if tokens == 0 {
        return error(OP, "tokens", "at least 1", tokens);
    }
    Ok(PoolDims { batch, tokens, width })
}
