//! Normalisation over the last dimension, alone or of a residual sum.

use multiversion::{multiversion, target::target_cfg_f};

use super::CpuDevice;
use super::math::{mul_add, sum_lanes};
use super::parallel::{ROW_BLOCK, add_partial_sums, blocked};
use crate::device::contract::NormDims;
use crate::device::{NORM_EPSILON, Norm};

/// Sets `normed` `[rows, width]` and `stats` `[rows, 2]`.
#[allow(clippy::too_many_arguments)]
pub(super) fn layernorm(
    device: &CpuDevice,
    dims: NormDims,
    norm: Norm,
    x: &[f32],
    gain: &[f32],
    bias: Option<&[f32]>,
    normed: &mut [f32],
    stats: &mut [f32],
) {
    let block = ROW_BLOCK * dims.width;
    let outputs = [blocked(normed, block), blocked(stats, ROW_BLOCK * 2)];
    device.for_each_block(dims.rows.div_ceil(ROW_BLOCK), x.len(), outputs, |index, [normed, stats]| {
        let x = &x[index * block..][..normed.len()];
        let rows = x.chunks_exact(dims.width).zip(normed.chunks_exact_mut(dims.width)).zip(stats.chunks_exact_mut(2));
        for ((x, normed), stats) in rows {
            stats.copy_from_slice(&normalise(norm, x, gain, bias, normed));
        }
    });
}

/// Sets `sum` to `x + delta`, and `normed` and `stats` to its normalisation.
#[allow(clippy::too_many_arguments)]
pub(super) fn residual_layernorm(
    device: &CpuDevice,
    dims: NormDims,
    norm: Norm,
    x: &[f32],
    delta: &[f32],
    gain: &[f32],
    bias: Option<&[f32]>,
    sum: &mut [f32],
    normed: &mut [f32],
    stats: &mut [f32],
) {
    let (width, block) = (dims.width, ROW_BLOCK * dims.width);
    let outputs = [blocked(sum, block), blocked(normed, block), blocked(stats, ROW_BLOCK * 2)];
    device.for_each_block(dims.rows.div_ceil(ROW_BLOCK), x.len(), outputs, |index, [sum, normed, stats]| {
        let x = x[index * block..][..sum.len()].chunks_exact(width);
        let delta = delta[index * block..][..sum.len()].chunks_exact(width);
        let outputs = sum.chunks_exact_mut(width).zip(normed.chunks_exact_mut(width)).zip(stats.chunks_exact_mut(2));
        for ((x, delta), ((sum, normed), stats)) in x.zip(delta).zip(outputs) {
            sum.iter_mut().zip(x).zip(delta).for_each(|((sum, x), delta)| *sum = x + delta);
            stats.copy_from_slice(&normalise(norm, sum, gain, bias, normed));
        }
    });
}

/// Normalises one row; returns its mean (0 for RMS) and reciprocal deviation.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
fn normalise(norm: Norm, x: &[f32], gain: &[f32], bias: Option<&[f32]>, y: &mut [f32]) -> [f32; 2] {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let width = y.len();
    let (x, gain) = (&x[..width], &gain[..width]);
    let mean = match norm {
        Norm::Rms => 0.0,
        Norm::Layer => sum_lanes(width, |i, sum| sum + x[i]) / width as f32,
    };
    // Squares of differences, not a difference of squares: a mean far from zero costs no digits.
    let squares = sum_lanes(width, |i, sum| mul_add::<FMA>(x[i] - mean, x[i] - mean, sum));
    let reciprocal = 1.0 / (squares / width as f32 + NORM_EPSILON).sqrt();
    match bias {
        None => {
            for i in 0..width {
                y[i] = (x[i] - mean) * reciprocal * gain[i];
            }
        }
        Some(bias) => {
            let bias = &bias[..width];
            for i in 0..width {
                y[i] = mul_add::<FMA>((x[i] - mean) * reciprocal, gain[i], bias[i]);
            }
        }
    }
    [mean, reciprocal]
}

/// What [`layernorm_backward`] reads.
#[derive(Clone, Copy)]
pub(super) struct Saved<'a> {
    /// `[rows, width]`.
    pub dy: &'a [f32],
    /// `[rows, width]`.
    pub x: &'a [f32],
    /// `[width]`.
    pub gain: &'a [f32],
    /// `[rows, 2]`.
    pub stats: &'a [f32],
}

/// Sets `dx` `[rows, width]`, or adds to it if `add`; adds to `d_gain` and `d_bias`.
#[allow(clippy::too_many_arguments)]
pub(super) fn layernorm_backward(
    device: &CpuDevice,
    dims: NormDims,
    norm: Norm,
    saved: Saved<'_>,
    add: bool,
    dx: &mut [f32],
    d_gain: &mut [f32],
    d_bias: Option<&mut [f32]>,
) {
    let NormDims { rows, width } = dims;
    let blocks = rows.div_ceil(ROW_BLOCK);
    // [blocks, width] each.
    let (mut gains, mut biases) = (device.scratch(blocks * width), device.scratch(blocks * width));
    let outputs = [blocked(dx, ROW_BLOCK * width), blocked(&mut gains, width), blocked(&mut biases, width)];
    device.for_each_block(blocks, rows * width, outputs, |index, [dx, d_gain, d_bias]| {
        d_gain.fill(0.0);
        d_bias.fill(0.0);
        for (row, dx) in dx.chunks_exact_mut(width).enumerate() {
            let row = index * ROW_BLOCK + row;
            let (dy, x) = (&saved.dy[row * width..][..width], &saved.x[row * width..][..width]);
            let stats = [saved.stats[2 * row], saved.stats[2 * row + 1]];
            normalise_backward(norm, dy, x, saved.gain, stats, add, dx, d_gain, d_bias);
        }
    });
    add_partial_sums(d_gain, &gains);
    if let Some(d_bias) = d_bias {
        add_partial_sums(d_bias, &biases);
    }
}

/// With `u = gain · dy` and `n = (x − mean) / deviation`: `dx = (u − mean(u) − n · mean(u · n)) / deviation`, where RMS has no
/// `mean(u)`.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
#[allow(clippy::too_many_arguments)]
fn normalise_backward(
    norm: Norm,
    dy: &[f32],
    x: &[f32],
    gain: &[f32],
    stats: [f32; 2],
    add: bool,
    dx: &mut [f32],
    d_gain: &mut [f32],
    d_bias: &mut [f32],
) {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let width = dx.len();
    let (dy, x, gain) = (&dy[..width], &x[..width], &gain[..width]);
    let (d_gain, d_bias) = (&mut d_gain[..width], &mut d_bias[..width]);
    let [mean, reciprocal] = stats;
    let normed = |i: usize| (x[i] - mean) * reciprocal;
    let along = sum_lanes(width, |i, sum| mul_add::<FMA>(dy[i] * gain[i], normed(i), sum)) / width as f32;
    let shift = match norm {
        Norm::Rms => 0.0,
        Norm::Layer => sum_lanes(width, |i, sum| mul_add::<FMA>(dy[i], gain[i], sum)) / width as f32,
    };
    for i in 0..width {
        let n = normed(i);
        d_gain[i] = mul_add::<FMA>(dy[i], n, d_gain[i]);
        d_bias[i] += dy[i];
        let gradient = reciprocal * (mul_add::<FMA>(dy[i], gain[i], -shift) - n * along);
        dx[i] = if add { dx[i] + gradient } else { gradient };
    }
}
