//! Linear layers: `y = x · W (+ bias)`.

use super::CpuDevice;
use super::gemm::matrix;
use super::parallel::{ROW_BLOCK, add_partial_sums, blocked};
use crate::device::WeightLayout;
use crate::device::contract::LinearDims;

/// `y` `[rows, outputs]`.
pub(super) fn linear(
    device: &CpuDevice,
    dims: LinearDims,
    x: &[f32],
    weight: &[f32],
    layout: WeightLayout,
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let LinearDims { rows, inputs, outputs } = dims;
    let weight = match layout {
        WeightLayout::InOut => matrix(weight, inputs, outputs),
        WeightLayout::OutIn => matrix(weight, outputs, inputs).transpose(),
    };
    device.matmul(y, false, matrix(x, rows, inputs), weight);
    if let Some(bias) = bias {
        add_bias(device, y, bias);
    }
}

/// `dx` `[rows, inputs]` is set, `d_weight` and `d_bias` are added to.
#[allow(clippy::too_many_arguments)]
pub(super) fn linear_backward(
    device: &CpuDevice,
    dims: LinearDims,
    dy: &[f32],
    x: &[f32],
    weight: &[f32],
    layout: WeightLayout,
    dx: &mut [f32],
    d_weight: &mut [f32],
    d_bias: Option<&mut [f32]>,
) {
    let LinearDims { rows, inputs, outputs } = dims;
    let (dy_matrix, x) = (matrix(dy, rows, outputs), matrix(x, rows, inputs));
    match layout {
        WeightLayout::InOut => {
            device.matmul(dx, false, dy_matrix, matrix(weight, inputs, outputs).transpose());
            device.matmul(d_weight, true, x.transpose(), dy_matrix);
        }
        WeightLayout::OutIn => {
            device.matmul(dx, false, dy_matrix, matrix(weight, outputs, inputs));
            device.matmul(d_weight, true, dy_matrix.transpose(), x);
        }
    }
    if let Some(d_bias) = d_bias {
        add_column_sums(device, dy, d_bias);
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
