//! The MLP of a block: `act(x · up + up_bias) · down + down_bias`.
//!
//! Forward keeps the hidden values before the activation; backward applies the same function again and gets the same bits.

use multiversion::{multiversion, target::target_cfg_f};

use super::CpuDevice;
use super::gemm::matrix;
use super::linear::{add_bias, add_column_sums};
use super::math::{exp, mul_add, normal_cdf, sigmoid};
use super::parallel::blocked;
use crate::device::Activation;
use crate::device::contract::MlpDims;

/// Elements of a task of the elementwise passes.
const BLOCK: usize = 16 * 1024;

/// Slope of quick-GELU's sigmoid.
const QUICK: f32 = 1.702;

/// [`MlpWeights`](crate::device::MlpWeights) as slices.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    pub up: &'a [f32],
    pub up_bias: Option<&'a [f32]>,
    pub down: &'a [f32],
    pub down_bias: Option<&'a [f32]>,
}

/// [`MlpGradients`](crate::device::MlpGradients) as slices.
pub(super) struct Gradients<'a> {
    pub up: &'a mut [f32],
    pub up_bias: Option<&'a mut [f32]>,
    pub down: &'a mut [f32],
    pub down_bias: Option<&'a mut [f32]>,
}

/// Sets `hidden` `[rows, hidden]` and `output` `[rows, width]`.
pub(super) fn mlp(
    device: &CpuDevice,
    dims: MlpDims,
    x: &[f32],
    weights: Weights<'_>,
    activation: Activation,
    hidden: &mut [f32],
    output: &mut [f32],
) {
    let MlpDims { rows, width, hidden: hidden_width } = dims;
    device.matmul(hidden, false, matrix(x, rows, width), matrix(weights.up, width, hidden_width));
    if let Some(bias) = weights.up_bias {
        add_bias(device, hidden, bias);
    }
    // [rows, hidden]
    let mut activated = device.scratch(hidden.len());
    let (hidden, blocks) = (&*hidden, hidden.len().div_ceil(BLOCK));
    device.for_each_block(blocks, hidden.len(), [blocked(&mut activated, BLOCK)], |index, [out]| {
        let hidden = &hidden[index * BLOCK..][..out.len()];
        match activation {
            Activation::QuickGelu => quick_gelu(hidden, out),
            Activation::Gelu => gelu(hidden, out),
        }
    });
    device.matmul(output, false, matrix(&activated, rows, hidden_width), matrix(weights.down, hidden_width, width));
    if let Some(bias) = weights.down_bias {
        add_bias(device, output, bias);
    }
}

/// Sets `dx` `[rows, width]` and adds to the weights' gradients.
#[allow(clippy::too_many_arguments)]
pub(super) fn mlp_backward(
    device: &CpuDevice,
    dims: MlpDims,
    dy: &[f32],
    x: &[f32],
    hidden: &[f32],
    weights: Weights<'_>,
    activation: Activation,
    gradients: Gradients<'_>,
    dx: &mut [f32],
) {
    let MlpDims { rows, width, hidden: hidden_width } = dims;
    let dy_matrix = matrix(dy, rows, width);
    // Both [rows, hidden].
    let mut activated = device.scratch(hidden.len());
    let mut d_hidden = device.scratch(hidden.len());
    device.matmul(&mut d_hidden, false, dy_matrix, matrix(weights.down, hidden_width, width).transpose());
    let outputs = [blocked(&mut activated, BLOCK), blocked(&mut d_hidden, BLOCK)];
    device.for_each_block(hidden.len().div_ceil(BLOCK), hidden.len(), outputs, |index, [activated, d_hidden]| {
        let hidden = &hidden[index * BLOCK..][..activated.len()];
        match activation {
            Activation::QuickGelu => quick_gelu_backward(hidden, activated, d_hidden),
            Activation::Gelu => gelu_backward(hidden, activated, d_hidden),
        }
    });
    device.matmul(gradients.down, true, matrix(&activated, rows, hidden_width).transpose(), dy_matrix);
    device.matmul(gradients.up, true, matrix(x, rows, width).transpose(), matrix(&d_hidden, rows, hidden_width));
    let up = matrix(weights.up, width, hidden_width);
    device.matmul(dx, false, matrix(&d_hidden, rows, hidden_width), up.transpose());
    if let Some(d_bias) = gradients.up_bias {
        add_column_sums(device, &d_hidden, d_bias);
    }
    if let Some(d_bias) = gradients.down_bias {
        add_column_sums(device, dy, d_bias);
    }
}

/// `y = x · σ(1.702 x)`.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
fn quick_gelu(x: &[f32], y: &mut [f32]) {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * sigmoid::<FMA>(QUICK * x));
}

/// Sets `y` to [`quick_gelu`] of `x`, and multiplies `dy` by its derivative `σ + 1.702 x σ (1 − σ)`.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
fn quick_gelu_backward(x: &[f32], y: &mut [f32], dy: &mut [f32]) {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    for ((y, dy), &x) in y.iter_mut().zip(dy).zip(x) {
        let s = sigmoid::<FMA>(QUICK * x);
        *y = x * s;
        *dy *= mul_add::<FMA>(QUICK * *y, 1.0 - s, s);
    }
}

/// `y = x · Φ(x)`.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
fn gelu(x: &[f32], y: &mut [f32]) {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * normal_cdf::<FMA>(x));
}

/// Sets `y` to [`gelu`] of `x`, and multiplies `dy` by its derivative `Φ + x φ`.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
fn gelu_backward(x: &[f32], y: &mut [f32], dy: &mut [f32]) {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    /// 1 / √(2π).
    const DENSITY: f32 = 0.398_942_3;
    for ((y, dy), &x) in y.iter_mut().zip(dy).zip(x) {
        let cdf = normal_cdf::<FMA>(x);
        *y = x * cdf;
        *dy *= mul_add::<FMA>(DENSITY * x, exp::<FMA>(-0.5 * x * x), cdf);
    }
}
