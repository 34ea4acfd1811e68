//! Multi-head attention over whole sequences.

use crate::device::shape_check::{self, cube, error, exactly};
use crate::device::{Result, Tensors};

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Keys up to and including the query's own position.
    Causal,
    /// All keys.
    Full,
}

/// Output of [`AttentionOps::attention`].
pub struct Attended<T> {
    /// Mixed values, `[B, T, d]`.
    pub output: T,
    /// Logarithm of each query's softmax denominator, `[B, H, T]`, max included.
    pub logsumexp: T,
}

/// Multi-head attention over whole sequences, forward and backward.
pub trait AttentionOps: Tensors {
    /// Multi-head attention over `qkv` `[B, T, 3d]` (columns `q ‖ k ‖ v`, each `H` heads of `d/H`), scores scaled by
    /// `1/√(d/H)`. No more than one tile of scores is ever held.
    fn attention(&self, qkv: &Self::Tensor, heads: usize, mask: Mask) -> Result<Attended<Self::Tensor>>;

    /// Gradient with respect to `qkv`, `[B, T, 3d]`; `output` and `logsumexp` are the forward's.
    fn attention_backward(
        &self,
        dy: &Self::Tensor,
        qkv: &Self::Tensor,
        output: &Self::Tensor,
        logsumexp: &Self::Tensor,
        heads: usize,
        mask: Mask,
    ) -> Result<Self::Tensor>;
}

/// Dimensions of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionDims {
    /// Images.
    pub batch: usize,
    /// Tokens per image.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Width of one head.
    pub head_dim: usize,
}

impl AttentionDims {
    /// Width of the residual stream.
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// Checks the shapes of `attention`.
pub fn check(qkv: &[usize], heads: usize) -> shape_check::Result<AttentionDims> {
    heads_of("attention", qkv, heads)
}

/// Checks the shapes of `attention_backward`.
pub fn check_backward(
    dy: &[usize],
    qkv: &[usize],
    output: &[usize],
    logsumexp: &[usize],
    heads: usize,
) -> shape_check::Result<AttentionDims> {
    const OP: &str = "attention_backward";
    let dims = heads_of(OP, qkv, heads)?;
    let expected = [dims.batch, dims.tokens, dims.width()];
    exactly(OP, "dy", dy, &expected)?;
    exactly(OP, "output", output, &expected)?;
    exactly(OP, "logsumexp", logsumexp, &[dims.batch, heads, dims.tokens])?;
    Ok(dims)
}

/// Splits the columns of `qkv` into heads.
pub(super) fn heads_of(op: &'static str, qkv: &[usize], heads: usize) -> shape_check::Result<AttentionDims> {
    let [batch, tokens, columns] = cube(op, "qkv", qkv)?;
    let width = columns / 3;
    if heads == 0 || !columns.is_multiple_of(3) || !width.is_multiple_of(heads) {
        return error(op, "qkv", format!("[B, T, 3d] with d a multiple of {heads} heads"), qkv);
    }
    Ok(AttentionDims { batch, tokens, heads, head_dim: width / heads })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_divide_the_width() {
        assert_eq!(check(&[1, 5, 24], 2), Ok(AttentionDims { batch: 1, tokens: 5, heads: 2, head_dim: 4 }));
        for (columns, heads) in [(24, 0), (24, 3), (25, 1)] {
            assert!(check(&[1, 5, columns], heads).is_err(), "{columns} {heads}");
        }
    }
}
