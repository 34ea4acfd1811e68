//! The MLP of a transformer block: two GEMMs around an activation.

use serde::{Deserialize, Serialize};

use crate::device::shape_check::{self, exactly, like_with_last, matrix, maybe, rows};
use crate::device::{Result, Tensors};
use crate::named::named;

named! {
    /// Activation of the MLP.
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Activation {
        /// `x · σ(1.702 x)`: the official code.
        #[default]
        QuickGelu = "quick_gelu",
        /// `x · Φ(x)`, exact (erf): the paper's text.
        Gelu = "gelu",
    }
}

/// The weights of an MLP, `[d, h]` up and `[h, d]` down, with optional biases.
pub struct MlpWeights<'a, T> {
    /// `[d, h]`.
    pub up: &'a T,
    /// `[h]`.
    pub up_bias: Option<&'a T>,
    /// `[h, d]`.
    pub down: &'a T,
    /// `[d]`.
    pub down_bias: Option<&'a T>,
}

/// The gradients of an MLP's weights; every one is `+=`.
pub struct MlpGradients<'a, T> {
    /// `[d, h]`.
    pub up: &'a mut T,
    /// `[h]`.
    pub up_bias: Option<&'a mut T>,
    /// `[h, d]`.
    pub down: &'a mut T,
    /// `[d]`.
    pub down_bias: Option<&'a mut T>,
}

/// Output of [`MlpOps::mlp`].
pub struct MlpOutput<T> {
    /// The MLP's output `[R, d]`.
    pub output: T,
    /// Hidden values before the activation, `[R, 4d]`: all that backward needs.
    pub hidden: T,
}

/// The MLP of a block, forward and backward.
pub trait MlpOps: Tensors {
    /// `act(x · up + up_bias) · down + down_bias`: `[.., d] → [.., d]`.
    fn mlp(
        &self,
        x: &Self::Tensor,
        weights: MlpWeights<'_, Self::Tensor>,
        activation: Activation,
    ) -> Result<MlpOutput<Self::Tensor>>;

    /// Returns `dx`; the weights' gradients are `+=`. `hidden` is [`MlpOutput::hidden`].
    fn mlp_backward(
        &self,
        dy: &Self::Tensor,
        x: &Self::Tensor,
        hidden: &Self::Tensor,
        weights: MlpWeights<'_, Self::Tensor>,
        activation: Activation,
        gradients: MlpGradients<'_, Self::Tensor>,
    ) -> Result<Self::Tensor>;
}

/// The shapes of an MLP's weights, or of their gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MlpShapes<'a> {
    /// `[d, h]`.
    pub up: &'a [usize],
    /// `[h]`.
    pub up_bias: Option<&'a [usize]>,
    /// `[h, d]`.
    pub down: &'a [usize],
    /// `[d]`.
    pub down_bias: Option<&'a [usize]>,
}

/// Dimensions of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MlpDims {
    /// Rows.
    pub rows: usize,
    /// Width.
    pub width: usize,
    /// Width of the hidden layer.
    pub hidden: usize,
}

/// Checks the shapes of `mlp`.
pub fn check(x: &[usize], weights: MlpShapes<'_>) -> shape_check::Result<MlpDims> {
    mlp_weights("mlp", x, weights)
}

/// Checks the shapes of `mlp_backward`.
pub fn check_backward(
    dy: &[usize],
    x: &[usize],
    hidden: &[usize],
    weights: MlpShapes<'_>,
    gradients: MlpShapes<'_>,
) -> shape_check::Result<MlpDims> {
    const OP: &str = "mlp_backward";
    let dims = mlp_weights(OP, x, weights)?;
    exactly(OP, "dy", dy, x)?;
    like_with_last(OP, "hidden", hidden, x, dims.hidden)?;
    exactly(OP, "the gradient of up", gradients.up, weights.up)?;
    exactly(OP, "the gradient of down", gradients.down, weights.down)?;
    maybe(OP, "the gradient of up_bias", gradients.up_bias, &[dims.hidden])?;
    maybe(OP, "the gradient of down_bias", gradients.down_bias, &[dims.width])?;
    Ok(dims)
}

fn mlp_weights(op: &'static str, x: &[usize], weights: MlpShapes<'_>) -> shape_check::Result<MlpDims> {
    let (rows, width) = rows(op, "x", x)?;
    let [_, hidden] = matrix(op, "up", weights.up)?;
    exactly(op, "up", weights.up, &[width, hidden])?;
    maybe(op, "up_bias", weights.up_bias, &[hidden])?;
    exactly(op, "down", weights.down, &[hidden, width])?;
    maybe(op, "down_bias", weights.down_bias, &[width])?;
    Ok(MlpDims { rows, width, hidden })
}
