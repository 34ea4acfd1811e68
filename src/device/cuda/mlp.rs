//! The MLP of a block: two GEMMs with the activation in the epilogue of one (`linear.cu`, `gemm/activation.cuh`).

use super::CudaDevice;
use super::linear::{self, Outputs, Sizes, add_weight_gradient};
use super::pointer::{NULL, Pointer};
use super::reduce_partials::add_column_sums;
use super::tensor::{CudaTensor, Operand};
use crate::device::ops::mlp::{MlpDims, MlpOps, MlpShapes, check, check_backward};
use crate::device::{Activation, MlpGradients, MlpOutput, MlpWeights, Result};

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
            linear::launch(self, &linear::ACTIVATE, [x, up_weight], sizes, up, 1)?;
            let sizes = Sizes { m: rows, n: width, k: inner };
            linear::launch(self, &linear::FORWARD, [activated.pointer(), down_weight], sizes, down, 1)?;
        }
        Ok(MlpOutput { output, hidden })
    }

    fn mlp_backward(
        &self,
        dy: &CudaTensor,
        x: &CudaTensor,
        hidden: &CudaTensor,
        weights: MlpWeights<'_, CudaTensor>,
        activation: Activation,
        gradients: MlpGradients<'_, CudaTensor>,
    ) -> Result<CudaTensor> {
        const OP: &str = "mlp_backward";
        let gradient_shapes = MlpShapes {
            up: gradients.up.dimensions(),
            up_bias: gradients.up_bias.as_deref().map(CudaTensor::dimensions),
            down: gradients.down.dimensions(),
            down_bias: gradients.down_bias.as_deref().map(CudaTensor::dimensions),
        };
        let MlpDims { rows, width, hidden: inner } =
            check_backward(dy.dimensions(), x.dimensions(), hidden.dimensions(), shapes(&weights), gradient_shapes)?;
        let dx = self.tensor(x.shape)?;
        // The hidden values' gradient, and the activation once more: both [rows, inner].
        let (d_hidden, activated) = (self.tensor(hidden.shape)?, self.tensor(hidden.shape)?);

        // Where the gradients are accumulated, and the operands.
        let floats = |slot: Option<&mut CudaTensor>, name| -> Result<Option<Pointer>> {
            slot.map(|tensor| tensor.floats_mut(OP, name)).transpose()
        };
        let d_up = gradients.up.floats_mut(OP, "the gradient of up")?;
        let d_down = gradients.down.floats_mut(OP, "the gradient of down")?;
        let d_up_bias = floats(gradients.up_bias, "the gradient of up_bias")?;
        let d_down_bias = floats(gradients.down_bias, "the gradient of down_bias")?;
        let (dy, x) = (self.operand(dy)?, self.operand(x)?);
        let (up, down) = (self.operand(weights.up)?, self.operand(weights.down)?);

        // d_hidden = (dy · downᵀ) ∘ act'(hidden); d_down += act(hidden)ᵀ · dy, d_up += xᵀ · d_hidden, dx = d_hidden ·
        // upᵀ.
        let to_hidden = Outputs {
            hidden: self.operand(hidden)?,
            activated: activated.pointer(),
            activation: number(activation),
            ..Outputs::to(d_hidden.pointer())
        };
        let (d_hidden, activated) = (d_hidden.pointer(), activated.pointer());
        // SAFETY: `check_backward` has checked the shapes, and `operand` the precision.
        unsafe {
            let sizes = Sizes { m: rows, n: inner, k: width };
            linear::launch(self, &linear::ACTIVATE_BACKWARD, [dy, down], sizes, to_hidden, 1)?;
            add_weight_gradient(self, [activated, dy], Sizes { m: inner, n: width, k: rows }, d_down)?;
            add_weight_gradient(self, [x, d_hidden], Sizes { m: width, n: inner, k: rows }, d_up)?;
            let sizes = Sizes { m: rows, n: width, k: inner };
            linear::launch(self, &linear::TRANSPOSED, [d_hidden, up], sizes, Outputs::to(dx.pointer()), 1)?;
            if let Some(d_bias) = d_up_bias {
                add_column_sums(self, d_hidden, rows, inner, d_bias)?;
            }
            if let Some(d_bias) = d_down_bias {
                add_column_sums(self, dy, rows, width, d_bias)?;
            }
        }
        Ok(dx)
    }
}
