//! The MLP of a block: two GEMMs with the activation in the epilogue of one (`linear.cu`, `gemm/activation.cuh`).

use super::CudaDevice;
use super::gemm::{self, Outputs, Sizes};
use super::pointer::NULL;
use super::tensor::{CudaTensor, Operand};
use crate::device::ops::mlp::{MlpDims, MlpOps, MlpShapes, check, check_hidden_backward};
use crate::device::{Activation, HiddenGradients, MlpOutput, MlpWeights, Result};

/// As `activation.cuh` numbers them.
fn number(activation: Activation) -> i32 {
    match activation {
        Activation::QuickGelu => 0,
        Activation::Gelu => 1,
    }
}

pub(super) fn shapes<'a>(weights: &MlpWeights<'a, CudaTensor>) -> MlpShapes<'a> {
    MlpShapes {
        up: weights.up.dimensions(),
        up_bias: weights.up_bias.map(CudaTensor::dimensions),
        down: weights.down.dimensions(),
        down_bias: weights.down_bias.map(CudaTensor::dimensions),
    }
}

impl CudaDevice {
    /// The first half of an MLP: `x · up + up_bias` and its activation, `[.., h]` both.
    pub(super) fn mlp_up(
        &self,
        x: &CudaTensor,
        weights: &MlpWeights<'_, CudaTensor>,
        activation: Activation,
    ) -> Result<[CudaTensor; 2]> {
        let MlpDims { rows, width, hidden: inner } = check(x.dimensions(), shapes(weights))?;
        let hidden = self.tensor(x.shape.with_last(inner))?;
        let activated = self.tensor(hidden.shape)?;

        let bias = self.maybe_floats(weights.up_bias)?;
        let outputs = Outputs {
            bias: bias.as_ref().map_or(NULL, Operand::pointer),
            hidden: hidden.pointer(),
            activation: number(activation),
            ..Outputs::to(activated.pointer())
        };
        let operands = [self.operand(x)?, self.operand(weights.up)?];
        let sizes = Sizes { m: rows, n: inner, k: width };
        // SAFETY: `check` has checked the shapes, and `operand` the precision.
        unsafe { gemm::launch(self, &gemm::ACTIVATE, operands, sizes, outputs, 1)? };
        Ok([hidden, activated])
    }
}

impl MlpOps for CudaDevice {
    fn mlp(
        &self,
        x: &CudaTensor,
        weights: MlpWeights<'_, CudaTensor>,
        activation: Activation,
    ) -> Result<MlpOutput<CudaTensor>> {
        let MlpDims { rows, width, hidden: inner } = check(x.dimensions(), shapes(&weights))?;
        let [hidden, activated] = self.mlp_up(x, &weights, activation)?;
        let output = self.tensor(x.shape)?;

        let bias = self.maybe_floats(weights.down_bias)?;
        let outputs = Outputs { bias: bias.as_ref().map_or(NULL, Operand::pointer), ..Outputs::to(output.pointer()) };
        let operands = [activated.pointer(), self.operand(weights.down)?];
        let sizes = Sizes { m: rows, n: width, k: inner };
        // SAFETY: `check` has checked the shapes, and `operand` the precision.
        unsafe { gemm::launch(self, &gemm::FORWARD, operands, sizes, outputs, 1)? };
        Ok(MlpOutput { output, hidden })
    }

    fn mlp_hidden_backward(
        &self,
        dy: &CudaTensor,
        hidden: &CudaTensor,
        down: &CudaTensor,
        activation: Activation,
    ) -> Result<HiddenGradients<CudaTensor>> {
        let MlpDims { rows, width, hidden: inner } =
            check_hidden_backward(dy.dimensions(), hidden.dimensions(), down.dimensions())?;
        let (d_hidden, activated) = (self.tensor(hidden.shape)?, self.tensor(hidden.shape)?);

        // Epilogue: d_hidden = (dy · downᵀ) ∘ act'(hidden), and the activation once more.
        let outputs = Outputs {
            hidden: self.operand(hidden)?,
            activated: activated.pointer(),
            activation: number(activation),
            ..Outputs::to(d_hidden.pointer())
        };
        let operands = [self.operand(dy)?, self.operand(down)?];
        let sizes = Sizes { m: rows, n: inner, k: width };
        // SAFETY: `check_hidden_backward` has checked the shapes, and `operand` the precision.
        unsafe { gemm::launch(self, &gemm::ACTIVATE_BACKWARD, operands, sizes, outputs, 1)? };
        Ok(HiddenGradients { d_hidden, activated })
    }
}
