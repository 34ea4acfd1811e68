//! What is added to the residual stream and normalised: the ops of a block that end with
//! [`residual_layernorm`](LayerNormOps::residual_layernorm), which a device may have finish it in the same pass.

use crate::device::{
    Activation, LayerNormOps, LinearOps, MlpOps, MlpOutput, MlpWeights, Norm, ResidualLayerNormed, Result, WeightLayout,
};

/// The residual stream that something is added to, and the norm of the sum.
pub struct ResidualNorm<'a, T> {
    /// How the sum is normalised.
    pub norm: Norm,
    /// The stream so far, `[.., d]`.
    pub x: &'a T,
    /// `[d]`.
    pub gain: &'a T,
    /// `[d]`.
    pub bias: Option<&'a T>,
}

/// Output of [`ResidualOps::mlp_residual_layernorm`].
pub struct ResidualMlpOutput<T> {
    /// As in [`MlpOutput::hidden`].
    pub hidden: T,
    /// The stream with the MLP's output, and its norm.
    pub stream: ResidualLayerNormed<T>,
}

/// Ops whose result is added to the residual stream. Bits are those of the two ops one after the other.
pub trait ResidualOps: LayerNormOps + LinearOps + MlpOps {
    /// [`LayerNormOps::residual_layernorm`] of [`LinearOps::linear`] of `input` `[.., inputs]`, `weight` `[inputs, d]`, `bias` `[d]`.
    fn linear_residual_layernorm(
        &self,
        input: &Self::Tensor,
        weight: &Self::Tensor,
        bias: Option<&Self::Tensor>,
        to: ResidualNorm<'_, Self::Tensor>,
    ) -> Result<ResidualLayerNormed<Self::Tensor>> {
        linear_then_layernorm(self, input, weight, bias, to)
    }

    /// [`LayerNormOps::residual_layernorm`] of [`MlpOps::mlp`] of `input` `[.., d]`.
    fn mlp_residual_layernorm(
        &self,
        input: &Self::Tensor,
        weights: MlpWeights<'_, Self::Tensor>,
        activation: Activation,
        to: ResidualNorm<'_, Self::Tensor>,
    ) -> Result<ResidualMlpOutput<Self::Tensor>> {
        mlp_then_layernorm(self, input, weights, activation, to)
    }
}

/// [`ResidualOps::linear_residual_layernorm`] as two ops.
pub fn linear_then_layernorm<D: ResidualOps>(
    device: &D,
    input: &D::Tensor,
    weight: &D::Tensor,
    bias: Option<&D::Tensor>,
    to: ResidualNorm<'_, D::Tensor>,
) -> Result<ResidualLayerNormed<D::Tensor>> {
    let delta = device.linear(input, weight, WeightLayout::InOut, bias)?;
    device.residual_layernorm(to.norm, to.x, &delta, to.gain, to.bias)
}

/// [`ResidualOps::mlp_residual_layernorm`] as two ops.
pub fn mlp_then_layernorm<D: ResidualOps>(
    device: &D,
    input: &D::Tensor,
    weights: MlpWeights<'_, D::Tensor>,
    activation: Activation,
    to: ResidualNorm<'_, D::Tensor>,
) -> Result<ResidualMlpOutput<D::Tensor>> {
    let MlpOutput { output, hidden } = device.mlp(input, weights, activation)?;
    let stream = device.residual_layernorm(to.norm, to.x, &output, to.gain, to.bias)?;
    Ok(ResidualMlpOutput { hidden, stream })
}
