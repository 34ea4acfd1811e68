//! The MLP of a transformer block: two GEMMs around an activation.

use serde::{Deserialize, Serialize};

use crate::device::shape_check::{self, exactly, like_with_last, matrix, maybe, rows};
use crate::device::{Beta, LinearOps, Result, WeightGradient, WeightLayout};
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

/// The gradients of an MLP's weights.
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

/// Output of [`MlpOps::mlp_hidden_backward`].
pub struct HiddenGradients<T> {
    /// Gradient of the hidden values before the activation, `(dy · downᵀ) ∘ act'(hidden)`, `[.., h]`.
    pub d_hidden: T,
    /// The activation once more, `act(hidden)`, `[.., h]`: the very bits that forward multiplied by `down`.
    pub activated: T,
}

/// The MLP of a block, forward and backward.
pub trait MlpOps: LinearOps {
    /// `act(x · up + up_bias) · down + down_bias`: `[.., d] → [.., d]`.
    fn mlp(
        &self,
        x: &Self::Tensor,
        weights: MlpWeights<'_, Self::Tensor>,
        activation: Activation,
    ) -> Result<MlpOutput<Self::Tensor>>;

    /// [`MlpOutput::hidden`] once more, the same bits, from what went in: one GEMM, `x · up + up_bias`.
    fn mlp_hidden(&self, x: &Self::Tensor, up: &Self::Tensor, up_bias: Option<&Self::Tensor>) -> Result<Self::Tensor> {
        self.linear(x, up, WeightLayout::InOut, up_bias)
    }

    /// The first half of the backward: through the second GEMM and the activation. `hidden` is [`MlpOutput::hidden`].
    fn mlp_hidden_backward(
        &self,
        dy: &Self::Tensor,
        hidden: &Self::Tensor,
        down: &Self::Tensor,
        activation: Activation,
    ) -> Result<HiddenGradients<Self::Tensor>>;

    /// All gradients of an MLP: returns `dx`; those of the weights are stored or added to, as `beta` says. `hidden` is
    /// [`MlpOutput::hidden`].
    #[allow(clippy::too_many_arguments)]
    fn mlp_backward(
        &self,
        dy: &Self::Tensor,
        x: &Self::Tensor,
        hidden: &Self::Tensor,
        weights: MlpWeights<'_, Self::Tensor>,
        activation: Activation,
        gradients: MlpGradients<'_, Self::Tensor>,
        beta: Beta,
    ) -> Result<Self::Tensor> {
        let shape = |bias: Option<&Self::Tensor>| bias.map(|bias| self.shape(bias).to_vec());
        let biases = [shape(weights.up_bias), shape(weights.down_bias)];
        let gradient_biases = [shape(gradients.up_bias.as_deref()), shape(gradients.down_bias.as_deref())];
        check_backward(
            self.shape(dy),
            self.shape(x),
            self.shape(hidden),
            MlpShapes {
                up: self.shape(weights.up),
                up_bias: biases[0].as_deref(),
                down: self.shape(weights.down),
                down_bias: biases[1].as_deref(),
            },
            MlpShapes {
                up: self.shape(gradients.up),
                up_bias: gradient_biases[0].as_deref(),
                down: self.shape(gradients.down),
                down_bias: gradient_biases[1].as_deref(),
            },
        )?;

        // d_hidden = (dy · downᵀ) ∘ act'(hidden); d_down of act(hidden) and dy, d_up of x and d_hidden; dx = d_hidden · upᵀ
        let HiddenGradients { d_hidden, activated } = self.mlp_hidden_backward(dy, hidden, weights.down, activation)?;
        let MlpGradients { up, up_bias, down, down_bias } = gradients;
        let layout = WeightLayout::InOut;
        self.weight_gradients(vec![
            WeightGradient { x: &activated, dy, layout, d_weight: down, beta },
            WeightGradient { x, dy: &d_hidden, layout, d_weight: up, beta },
        ])?;
        let dx = self.linear_input_gradient(&d_hidden, weights.up, layout)?;
        up_bias.map_or(Ok(()), |d_bias| self.bias_gradient(&d_hidden, d_bias, beta))?;
        down_bias.map_or(Ok(()), |d_bias| self.bias_gradient(dy, d_bias, beta))?;
        Ok(dx)
    }
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

/// Checks the shapes of `mlp_hidden_backward`: rows, width and hidden width.
pub fn check_hidden_backward(dy: &[usize], hidden: &[usize], down: &[usize]) -> shape_check::Result<MlpDims> {
    const OP: &str = "mlp_hidden_backward";
    let (rows, width) = rows(OP, "dy", dy)?;
    let [inner, _] = matrix(OP, "down", down)?;
    exactly(OP, "down", down, &[inner, width])?;
    like_with_last(OP, "hidden", hidden, dy, inner)?;
    Ok(MlpDims { rows, width, hidden: inner })
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
