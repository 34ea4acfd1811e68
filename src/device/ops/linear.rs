//! Linear layers: a GEMM with an optional bias.

use crate::device::shape_check::{self, exactly, like_with_last, matrix, maybe, rows};
use crate::device::{Beta, Result, Tensors};

/// How a linear layer's weight lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightLayout {
    /// `[in, out]`: Hugging Face's Conv1D, all layers of a block.
    InOut,
    /// `[out, in]`: the token head and the class head.
    OutIn,
}

/// A gradient that [`LinearOps::weight_gradients`] computes: `d_weight = or += xᵀ · dy`, or its transpose, as the weight lies.
pub struct WeightGradient<'a, T> {
    /// The layer's input, `[.., in]`.
    pub x: &'a T,
    /// The gradient of its output, `[.., out]`.
    pub dy: &'a T,
    /// How the weight lies.
    pub layout: WeightLayout,
    /// `[in, out]` or `[out, in]`.
    pub d_weight: &'a mut T,
    /// Whether the gradient is stored or added to.
    pub beta: Beta,
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

    /// Makes [`LinearOps::linear`] and the MLP fast with this weight where their input is one position of each image, `[B, 1, in]`:
    /// perhaps in memory for a second copy, which is kept until the weight changes. Results stay the same, bit for bit.
    fn prepare_decoding(&self, weight: &Self::Tensor, layout: WeightLayout) -> Result<()>;

    /// `dx = dy · Wᵀ`: `[.., out] → [.., in]`.
    fn linear_input_gradient(
        &self,
        dy: &Self::Tensor,
        weight: &Self::Tensor,
        layout: WeightLayout,
    ) -> Result<Self::Tensor>;

    /// How many gradients of weights are best asked for at once: a backward pass collects as many, and keeps what they read
    /// meanwhile. 1 where there is nothing to gain.
    const WEIGHTS_AT_ONCE: usize;

    /// The gradients of several weights, different ones.
    fn weight_gradients(&self, gradients: Vec<WeightGradient<'_, Self::Tensor>>) -> Result<()>;

    /// `d_bias = or += Σ_rows dy`.
    fn bias_gradient(&self, dy: &Self::Tensor, d_bias: &mut Self::Tensor, beta: Beta) -> Result<()>;

    /// All gradients of one layer: returns `dx = dy · Wᵀ`; `d_weight = or += xᵀ · dy` (in the weight's layout), `d_bias = or +=
    /// Σ_rows dy`, as `beta` says.
    #[allow(clippy::too_many_arguments)]
    fn linear_backward(
        &self,
        dy: &Self::Tensor,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        layout: WeightLayout,
        d_weight: &mut Self::Tensor,
        d_bias: Option<&mut Self::Tensor>,
        beta: Beta,
    ) -> Result<Self::Tensor> {
        check_backward(
            self.shape(dy),
            self.shape(x),
            self.shape(weight),
            layout,
            self.shape(d_weight),
            d_bias.as_deref().map(|d_bias| self.shape(d_bias)),
        )?;
        let dx = self.linear_input_gradient(dy, weight, layout)?;
        self.weight_gradients(vec![WeightGradient { x, dy, layout, d_weight, beta }])?;
        d_bias.map_or(Ok(()), |d_bias| self.bias_gradient(dy, d_bias, beta))?;
        Ok(dx)
    }
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

/// Checks the shapes of `linear_input_gradient`.
pub fn check_input_gradient(dy: &[usize], weight: &[usize], layout: WeightLayout) -> shape_check::Result<LinearDims> {
    const OP: &str = "linear_input_gradient";
    let (rows, outputs) = rows(OP, "dy", dy)?;
    let [first, second] = matrix(OP, "weight", weight)?;
    let (inputs, expected) = match layout {
        WeightLayout::InOut => (first, [first, outputs]),
        WeightLayout::OutIn => (second, [outputs, second]),
    };
    exactly(OP, "weight", weight, &expected)?;
    Ok(LinearDims { rows, inputs, outputs })
}

/// Checks the shapes of one of `weight_gradients`.
pub fn check_weight_gradient(
    x: &[usize],
    dy: &[usize],
    layout: WeightLayout,
    d_weight: &[usize],
) -> shape_check::Result<LinearDims> {
    const OP: &str = "weight_gradients";
    let dims = affine(OP, x, d_weight, layout, None)?;
    like_with_last(OP, "dy", dy, x, dims.outputs)?;
    Ok(dims)
}

/// Checks the shapes of `bias_gradient`: rows and width.
pub fn check_bias_gradient(dy: &[usize], d_bias: &[usize]) -> shape_check::Result<(usize, usize)> {
    const OP: &str = "bias_gradient";
    let (rows, outputs) = rows(OP, "dy", dy)?;
    exactly(OP, "d_bias", d_bias, &[outputs])?;
    Ok((rows, outputs))
}

/// Checks a weight by itself: its inputs and outputs.
pub fn check_weight(op: &'static str, weight: &[usize], layout: WeightLayout) -> shape_check::Result<[usize; 2]> {
    let [first, second] = matrix(op, "weight", weight)?;
    Ok(match layout {
        WeightLayout::InOut => [first, second],
        WeightLayout::OutIn => [second, first],
    })
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
