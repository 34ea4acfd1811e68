//! Linear layers: a GEMM with an optional bias.

use crate::device::shape_check::{self, exactly, like_with_last, matrix, maybe, rows};
use crate::device::{Result, Tensors};

/// How a linear layer's weight lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightLayout {
    /// `[in, out]`: Hugging Face's Conv1D, all layers of a block.
    InOut,
    /// `[out, in]`: the token head and the class head.
    OutIn,
}

/// Linear layers, forward and backward.
pub trait LinearOps: Tensors {
    /// `y = x · W (+ bias)`: `[.., in] → [.., out]`.
    fn linear(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        layout: WeightLayout,
        bias: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor>;

    /// Returns `dx = dy · Wᵀ`; `d_weight += xᵀ · dy` (in the weight's layout), `d_bias += Σ_rows dy`.
    fn linear_backward(
        &self,
        dy: &Self::Tensor,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        layout: WeightLayout,
        d_weight: &mut Self::Tensor,
        d_bias: Option<&mut Self::Tensor>,
    ) -> Result<Self::Tensor>;
}

/// Dimensions of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearDims {
    /// Rows.
    pub rows: usize,
    /// Width of the input.
    pub inputs: usize,
    /// Width of the output.
    pub outputs: usize,
}

/// Checks the shapes of `linear`.
pub fn check(
    x: &[usize],
    weight: &[usize],
    layout: WeightLayout,
    bias: Option<&[usize]>,
) -> shape_check::Result<LinearDims> {
    affine("linear", x, weight, layout, bias)
}

/// Checks the shapes of `linear_backward`.
pub fn check_backward(
    dy: &[usize],
    x: &[usize],
    weight: &[usize],
    layout: WeightLayout,
    d_weight: &[usize],
    d_bias: Option<&[usize]>,
) -> shape_check::Result<LinearDims> {
    const OP: &str = "linear_backward";
    let dims = affine(OP, x, weight, layout, d_bias)?;
    like_with_last(OP, "dy", dy, x, dims.outputs)?;
    exactly(OP, "d_weight", d_weight, weight)?;
    Ok(dims)
}

fn affine(
    op: &'static str,
    x: &[usize],
    weight: &[usize],
    layout: WeightLayout,
    bias: Option<&[usize]>,
) -> shape_check::Result<LinearDims> {
    let (rows, inputs) = rows(op, "x", x)?;
    let [first, second] = matrix(op, "weight", weight)?;
    let (outputs, expected) = match layout {
        WeightLayout::InOut => (second, [inputs, second]),
        WeightLayout::OutIn => (first, [first, inputs]),
    };
    exactly(op, "weight", weight, &expected)?;
    maybe(op, "bias", bias, &[outputs])?;
    Ok(LinearDims { rows, inputs, outputs })
}
