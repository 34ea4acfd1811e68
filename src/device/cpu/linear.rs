//! Linear layers: `y = x · W (+ bias)`.

use super::CpuDevice;
use super::gemm::matrix;
use super::parallel::{ROW_BLOCK, add_partial_sums, blocked};
use super::tensor::CpuTensor;
use crate::device::Result;
use crate::device::ops::linear::{LinearDims, LinearOps, WeightLayout, check, check_backward};

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
        let mut y = self.tensor(x.shape.with_last(outputs));

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

    fn linear_backward(
        &self,
        dy: &CpuTensor,
        x: &CpuTensor,
        weight: &CpuTensor,
        layout: WeightLayout,
        d_weight: &mut CpuTensor,
        d_bias: Option<&mut CpuTensor>,
    ) -> Result<CpuTensor> {
        let LinearDims { rows, inputs, outputs } = check_backward(
            dy.dimensions(),
            x.dimensions(),
            weight.dimensions(),
            layout,
            d_weight.dimensions(),
            d_bias.as_deref().map(CpuTensor::dimensions),
        )?;
        let mut dx = self.tensor(x.shape);

        // dx = dy · Wᵀ, d_weight += xᵀ · dy (or its transpose, as the weight lies), d_bias += Σ_rows dy.
        let dy_matrix = matrix(dy.values(), rows, outputs);
        let x = matrix(x.values(), rows, inputs);
        match layout {
            WeightLayout::InOut => {
                let weight = matrix(weight.values(), inputs, outputs);
                self.matmul(&mut dx.values, false, dy_matrix, weight.transpose());
                self.matmul(&mut d_weight.values, true, x.transpose(), dy_matrix);
            }
            WeightLayout::OutIn => {
                let weight = matrix(weight.values(), outputs, inputs);
                self.matmul(&mut dx.values, false, dy_matrix, weight);
                self.matmul(&mut d_weight.values, true, dy_matrix.transpose(), x);
            }
        }

        if let Some(d_bias) = d_bias {
            add_column_sums(self, dy.values(), &mut d_bias.values);
        }
        Ok(dx)
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

/// `sums += Σ_rows dy`.
pub(super) fn add_column_sums(device: &CpuDevice, dy: &[f32], sums: &mut [f32]) {
    let (width, block) = (sums.len(), ROW_BLOCK * sums.len());
    let blocks = dy.len().div_ceil(block);
    let mut partial = device.scratch(blocks * width);
    device.for_each_block(blocks, dy.len(), [blocked(&mut partial, width)], |index, [partial]| {
        partial.fill(0.0);
        let end = dy.len().min((index + 1) * block);
        add_partial_sums(partial, &dy[index * block..end]);
    });
    add_partial_sums(sums, &partial);
}
