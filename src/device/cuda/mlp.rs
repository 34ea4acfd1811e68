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

fn shapes<'a>(weights: &MlpWeights<'a, CudaTensor>) -> MlpShapes<'a> {
    MlpShapes {
        up: weights.up.dimensions(),
        up_bias: weights.up_bias.map(CudaTensor::dimensions),
        down: weights.down.dimensions(),
        down_bias: weights.down_bias.map(CudaTensor::dimensions),
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
        let hidden = self.tensor(x.shape.with_last(inner))?;
        let activated = self.tensor(hidden.shape)?;
        let output = self.tensor(x.shape)?;

        // Epilogues: hidden = x · up + up_bias and act(hidden), both [rows, inner]; output = act(hidden) · down +
        // down_bias.
        let (up_bias, down_bias) = (self.maybe_floats(weights.up_bias)?, self.maybe_floats(weights.down_bias)?);
        let pointer = |bias: Option<&Operand>| bias.map_or(NULL, Operand::pointer);
        let up = Outputs {
            bias: pointer(up_bias.as_ref()),
            hidden: hidden.pointer(),
            activation: number(activation),
            ..Outputs::to(activated.pointer())
        };
        let down = Outputs { bias: pointer(down_bias.as_ref()), ..Outputs::to(output.pointer()) };

        let (x, up_weight, down_weight) = (self.operand(x)?, self.operand(weights.up)?, self.operand(weights.down)?);
        // SAFETY: `check` has checked the shapes, and `operand` the precision.
        unsafe {
            let sizes = Sizes { m: rows, n: inner, k: width };
            gemm::launch(self, &gemm::ACTIVATE, [x, up_weight], sizes, up, 1)?;
            let sizes = Sizes { m: rows, n: width, k: inner };
            gemm::launch(self, &gemm::FORWARD, [activated.pointer(), down_weight], sizes, down, 1)?;
        }
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
