//! Linear layers.

use super::CudaDevice;
use super::gemm::{self, FORWARD, Outputs, Sizes, TRANSPOSED};
use super::gemm_group::WeightGemm;
use super::pointer::NULL;
use super::reduce_partials::sum_columns;
use super::splits::GROUP;
use super::tensor::{CudaTensor, Operand};
use super::weight_gradients;
use crate::device::ops::linear::{
    LinearDims, LinearOps, check, check_bias_gradient, check_input_gradient, check_weight, check_weight_gradient,
};
use crate::device::{Beta, Result, WeightGradient, WeightLayout};

impl LinearOps for CudaDevice {
    fn linear(
        &self,
        x: &CudaTensor,
        weight: &CudaTensor,
        layout: WeightLayout,
        bias: Option<&CudaTensor>,
    ) -> Result<CudaTensor> {
        let bias_shape = bias.map(CudaTensor::dimensions);
        let LinearDims { rows, inputs, outputs } = check(x.dimensions(), weight.dimensions(), layout, bias_shape)?;
        let y = self.tensor(x.shape.with_last(outputs))?;

        // y [rows, outputs] = x [rows, inputs] · W, plus the bias in the epilogue.
        let bias = self.maybe_floats(bias)?;
        let gemm = match layout {
            WeightLayout::InOut => &FORWARD,
            WeightLayout::OutIn => &TRANSPOSED,
        };
        let to = Outputs { bias: bias.as_ref().map_or(NULL, Operand::pointer), ..Outputs::to(y.pointer()) };
        let sizes = Sizes { m: rows, n: outputs, k: inputs };
        // SAFETY: `check` has checked the shapes, and `operand` the precision.
        unsafe { gemm::launch(self, gemm, [self.operand(x)?, self.operand(weight)?], sizes, to, 1)? };
        Ok(y)
    }

    /// Weights are read as they lie.
    fn prepare_decoding(&self, weight: &CudaTensor, layout: WeightLayout) -> Result<()> {
        check_weight("prepare_decoding", weight.dimensions(), layout)?;
        Ok(())
    }

    fn linear_input_gradient(&self, dy: &CudaTensor, weight: &CudaTensor, layout: WeightLayout) -> Result<CudaTensor> {
        let LinearDims { rows, inputs, outputs } = check_input_gradient(dy.dimensions(), weight.dimensions(), layout)?;
        let dx = self.tensor(dy.shape.with_last(inputs))?;
        let gemm = match layout {
            WeightLayout::InOut => &TRANSPOSED,
            WeightLayout::OutIn => &FORWARD,
        };
        let operands = [self.operand(dy)?, self.operand(weight)?];
        let sizes = Sizes { m: rows, n: inputs, k: outputs };
        // SAFETY: `check_input_gradient` has checked the shapes, and `operand` the precision.
        unsafe { gemm::launch(self, gemm, operands, sizes, Outputs::to(dx.pointer()), 1)? };
        Ok(dx)
    }

    const WEIGHTS_AT_ONCE: usize = GROUP;

    fn weight_gradients(&self, gradients: Vec<WeightGradient<'_, CudaTensor>>) -> Result<()> {
        let mut gemms = Vec::with_capacity(gradients.len());
        for WeightGradient { x, dy, layout, d_weight, beta } in gradients {
            let LinearDims { rows, inputs, outputs } =
                check_weight_gradient(x.dimensions(), dy.dimensions(), layout, d_weight.dimensions())?;
            let total = d_weight.floats_mut("weight_gradients", "d_weight")?;
            let (x, dy) = (self.operand(x)?, self.operand(dy)?);
            gemms.push(match layout {
                WeightLayout::InOut => {
                    WeightGemm { operands: [x, dy], sizes: Sizes { m: inputs, n: outputs, k: rows }, total, beta }
                }
                WeightLayout::OutIn => {
                    WeightGemm { operands: [dy, x], sizes: Sizes { m: outputs, n: inputs, k: rows }, total, beta }
                }
            });
        }
        // SAFETY: `check_weight_gradient` has checked the shapes, and `operand` the precision; totals are borrowed mutably, so
        // they are different ones.
        unsafe { weight_gradients::launch(self, &gemms) }
    }

    fn bias_gradient(&self, dy: &CudaTensor, d_bias: &mut CudaTensor, beta: Beta) -> Result<()> {
        let (rows, width) = check_bias_gradient(dy.dimensions(), d_bias.dimensions())?;
        let total = d_bias.floats_mut("bias_gradient", "d_bias")?;
        // SAFETY: `check_bias_gradient` has checked the shapes, and `operand` the precision.
        unsafe { sum_columns(self, self.operand(dy)?, rows, width, total, beta) }
    }
}
