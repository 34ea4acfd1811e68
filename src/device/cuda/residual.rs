//! What is added to the residual stream: in the GEMM's launch where there is a kernel for it.

use super::CudaDevice;
use super::linear_layernorm_sm90 as fused;
use super::pointer::NULL;
use super::splits::Sizes;
use super::tensor::{CudaTensor, Operand};
use crate::device::ops::layernorm::check_residual;
use crate::device::ops::linear::{LinearDims, check as check_linear};
use crate::device::ops::mlp::{MlpDims, check as check_mlp};
use crate::device::ops::residual::{
    ResidualMlpOutput, ResidualNorm, ResidualOps, linear_then_layernorm, mlp_then_layernorm,
};
use crate::device::{Activation, MlpWeights, ResidualLayerNormed, Result, WeightLayout};

/// Checks that what has this shape can be added and normalised.
fn check_stream(delta: &[usize], to: &ResidualNorm<'_, CudaTensor>) -> Result<()> {
    check_residual(to.x.dimensions(), delta, to.gain.dimensions(), to.bias.map(CudaTensor::dimensions))?;
    Ok(())
}

impl ResidualOps for CudaDevice {
    fn linear_residual_layernorm(
        &self,
        input: &CudaTensor,
        weight: &CudaTensor,
        bias: Option<&CudaTensor>,
        to: ResidualNorm<'_, CudaTensor>,
    ) -> Result<ResidualLayerNormed<CudaTensor>> {
        let bias_shape = bias.map(CudaTensor::dimensions);
        let LinearDims { rows, inputs, outputs } =
            check_linear(input.dimensions(), weight.dimensions(), WeightLayout::InOut, bias_shape)?;
        let sizes = Sizes { m: rows, n: outputs, k: inputs };
        if !fused::suits(self, sizes) {
            return linear_then_layernorm(self, input, weight, bias, to);
        }
        check_stream(input.shape.with_last(outputs).as_slice(), &to)?;

        let bias = self.maybe_floats(bias)?;
        let operands = [self.operand(input)?, self.operand(weight)?];
        // SAFETY: the shapes are checked, and `operand` checks the precision.
        unsafe { fused::launch(self, operands, sizes, bias.as_ref().map_or(NULL, Operand::pointer), to) }
    }

    fn mlp_residual_layernorm(
        &self,
        input: &CudaTensor,
        weights: MlpWeights<'_, CudaTensor>,
        activation: Activation,
        to: ResidualNorm<'_, CudaTensor>,
    ) -> Result<ResidualMlpOutput<CudaTensor>> {
        let MlpDims { rows, width, hidden: inner } = check_mlp(input.dimensions(), super::mlp::shapes(&weights))?;
        let sizes = Sizes { m: rows, n: width, k: inner };
        if !fused::suits(self, sizes) {
            return mlp_then_layernorm(self, input, weights, activation, to);
        }
        check_stream(input.dimensions(), &to)?;

        let (down, down_bias) = (self.operand(weights.down)?, self.maybe_floats(weights.down_bias)?);
        let [hidden, activated] = self.mlp_up(input, &weights, activation)?;
        let bias = down_bias.as_ref().map_or(NULL, Operand::pointer);
        // SAFETY: the shapes are checked, and `operand` checks the precision.
        let stream = unsafe { fused::launch(self, [activated.pointer(), down], sizes, bias, to)? };
        Ok(ResidualMlpOutput { hidden, stream })
    }
}
