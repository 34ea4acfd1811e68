//! Linear layers: `y = x · W (+ bias)`.

use super::CpuDevice;
use super::few_rows::{Weight, is_one_position};
use super::gemm::matrix;
use super::parallel::{ROW_BLOCK, add_partial_sums, blocked};
use super::tensor::CpuTensor;
use crate::device::ops::linear::{
    LinearDims, LinearOps, WeightGradient, WeightLayout, check, check_bias_gradient, check_input_gradient,
    check_weight, check_weight_gradient,
};
use crate::device::{Beta, Result};

impl LinearOps for CpuDevice {
    fn linear(
        &self,
        x: &CpuTensor,
        weight: &CpuTensor,
        layout: WeightLayout,
        bias: Option<&CpuTensor>,
    ) -> Result<CpuTensor> {
        let bias_shape = bias.map(CpuTensor::dimensions);
        let LinearDims { rows, inputs, outputs } = check(x.dimensions(), weight.dimensions(), layout, bias_shape)?;
        let floats = rows * (inputs + outputs) + self.floats_of_weights(x.dimensions(), inputs * outputs);
        let _timed = self.time("linear", 2.0 * rows as f64 * (inputs * outputs) as f64, floats);
        let mut y = self.tensor(x.shape.with_last(outputs));
        if is_one_position(x.dimensions()) {
            let (dims, weight) =
                (LinearDims { rows, inputs, outputs }, Weight { tensor: weight, layout, inputs, outputs });
            self.linear_of_few_rows(dims, x.values(), weight, bias.map(CpuTensor::values), &mut y.values);
            return Ok(y);
        }

        let weight = match layout {
            WeightLayout::InOut => matrix(weight.values(), inputs, outputs),
            WeightLayout::OutIn => matrix(weight.values(), outputs, inputs).transpose(),
        };
        self.matmul(&mut y.values, false, matrix(x.values(), rows, inputs), weight);
        if let Some(bias) = bias {
            add_bias(self, &mut y.values, bias.values());
        }
        Ok(y)
    }

    fn linear_input_gradient(&self, dy: &CpuTensor, weight: &CpuTensor, layout: WeightLayout) -> Result<CpuTensor> {
        let LinearDims { rows, inputs, outputs } = check_input_gradient(dy.dimensions(), weight.dimensions(), layout)?;
        let _timed = self.time_gemm("linear_input_gradient", rows, outputs, inputs);
        let mut dx = self.tensor(dy.shape.with_last(inputs));
        let weight = match layout {
            WeightLayout::InOut => matrix(weight.values(), inputs, outputs).transpose(),
            WeightLayout::OutIn => matrix(weight.values(), outputs, inputs),
        };
        self.matmul(&mut dx.values, false, matrix(dy.values(), rows, outputs), weight);
        Ok(dx)
    }

    fn prepare_decoding(&self, weight: &CpuTensor, layout: WeightLayout) -> Result<()> {
        let [inputs, outputs] = check_weight("prepare_decoding", weight.dimensions(), layout)?;
        self.make_panels(Weight { tensor: weight, layout, inputs, outputs });
        Ok(())
    }

    /// Nothing is launched here.
    const WEIGHTS_AT_ONCE: usize = 1;

    fn weight_gradients(&self, gradients: Vec<WeightGradient<'_, CpuTensor>>) -> Result<()> {
        for WeightGradient { x, dy, layout, d_weight, beta } in gradients {
            let LinearDims { rows, inputs, outputs } =
                check_weight_gradient(x.dimensions(), dy.dimensions(), layout, d_weight.dimensions())?;
            let _timed = self.time_gemm("weight_gradients", inputs, rows, outputs);
            let (x, dy) = (matrix(x.values(), rows, inputs), matrix(dy.values(), rows, outputs));
            match layout {
                WeightLayout::InOut => self.matmul(&mut d_weight.values, beta.adds(), x.transpose(), dy),
                WeightLayout::OutIn => self.matmul(&mut d_weight.values, beta.adds(), dy.transpose(), x),
            }
        }
        Ok(())
    }

    fn bias_gradient(&self, dy: &CpuTensor, d_bias: &mut CpuTensor, beta: Beta) -> Result<()> {
        check_bias_gradient(dy.dimensions(), d_bias.dimensions())?;
        let (dy, sums) = (dy.values(), &mut d_bias.values);
        let _timed = self.time("bias_gradient", 0.0, dy.len());
        let (width, block) = (sums.len(), ROW_BLOCK * sums.len());

        // Sums of blocks of rows, then those in order.
        let blocks = dy.len().div_ceil(block);
        let mut partial = self.scratch(blocks * width);
        self.for_each_block(blocks, dy.len(), [blocked(&mut partial, width)], |index, [partial]| {
            partial.fill(0.0);
            let end = dy.len().min((index + 1) * block);
            add_partial_sums(partial, &dy[index * block..end]);
        });
        if beta == Beta::Zero {
            sums.fill(0.0);
        }
        add_partial_sums(sums, &partial);
        Ok(())
    }
}

/// Adds `bias` to every row of `y`.
pub(super) fn add_bias(device: &CpuDevice, y: &mut [f32], bias: &[f32]) {
    let block = ROW_BLOCK * bias.len();
    device.for_each_block(y.len().div_ceil(block), y.len(), [blocked(y, block)], |_, [y]| {
        for row in y.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
        }
    });
}
