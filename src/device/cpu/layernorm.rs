//! Normalisation over the last dimension, alone or of a residual sum.

use std::rc::Rc;

use multiversion::{multiversion, target::target_cfg_f};

use super::CpuDevice;
use super::math::{mul_add, sum_lanes};
use super::parallel::{ROW_BLOCK, add_partial_sums, blocked};
use super::tensor::CpuTensor;
use crate::device::ops::layernorm::{
    LayerNormOps, LayerNormed, NORM_EPSILON, Norm, NormDims, NormGradients, PartialSum, ResidualLayerNormed, check,
    check_gradients, check_partials, check_residual,
};
use crate::device::{Beta, Result};

impl LayerNormOps for CpuDevice {
    fn layernorm(
        &self,
        norm: Norm,
        x: &CpuTensor,
        gain: &CpuTensor,
        bias: Option<&CpuTensor>,
    ) -> Result<LayerNormed<CpuTensor>> {
        let NormDims { rows, width } = check(x.dimensions(), gain.dimensions(), bias.map(CpuTensor::dimensions))?;
        let _timed = self.time("layernorm", 0.0, 2 * rows * width);
        let (mut normed, mut stats) = (self.tensor(x.shape), self.shaped("layernorm", &[rows, 2])?);

        let (x, gain, bias) = (x.values(), gain.values(), bias.map(CpuTensor::values));
        let block = ROW_BLOCK * width;
        let outputs = [blocked(&mut normed.values, block), blocked(&mut stats.values, ROW_BLOCK * 2)];
        self.for_each_block(rows.div_ceil(ROW_BLOCK), x.len(), outputs, |index, [normed, stats]| {
            let x = &x[index * block..][..normed.len()];
            let rows = x.chunks_exact(width).zip(normed.chunks_exact_mut(width)).zip(stats.chunks_exact_mut(2));
            for ((x, normed), stats) in rows {
                stats.copy_from_slice(&normalise(norm, x, gain, bias, normed));
            }
        });
        Ok(LayerNormed { normed, stats })
    }

    fn residual_layernorm(
        &self,
        norm: Norm,
        x: &CpuTensor,
        delta: &CpuTensor,
        gain: &CpuTensor,
        bias: Option<&CpuTensor>,
    ) -> Result<ResidualLayerNormed<CpuTensor>> {
        let bias_shape = bias.map(CpuTensor::dimensions);
        let dims = check_residual(x.dimensions(), delta.dimensions(), gain.dimensions(), bias_shape)?;
        let NormDims { rows, width } = dims;
        let _timed = self.time("residual_layernorm", 0.0, 4 * rows * width);
        let (mut sum, mut normed) = (self.tensor(x.shape), self.tensor(x.shape));
        let mut stats = self.shaped("residual_layernorm", &[rows, 2])?;

        let (x, delta) = (x.values(), delta.values());
        let (gain, bias) = (gain.values(), bias.map(CpuTensor::values));
        let block = ROW_BLOCK * width;
        let outputs = [
            blocked(&mut sum.values, block),
            blocked(&mut normed.values, block),
            blocked(&mut stats.values, ROW_BLOCK * 2),
        ];
        self.for_each_block(rows.div_ceil(ROW_BLOCK), x.len(), outputs, |index, [sum, normed, stats]| {
            let x = x[index * block..][..sum.len()].chunks_exact(width);
            let delta = delta[index * block..][..sum.len()].chunks_exact(width);

            // Row by row: the sum, then its normalised form while it is in the cache.
            let outputs =
                sum.chunks_exact_mut(width).zip(normed.chunks_exact_mut(width)).zip(stats.chunks_exact_mut(2));
            for ((x, delta), ((sum, normed), stats)) in x.zip(delta).zip(outputs) {
                sum.iter_mut().zip(x).zip(delta).for_each(|((sum, x), delta)| *sum = x + delta);
                stats.copy_from_slice(&normalise(norm, sum, gain, bias, normed));
            }
        });
        Ok(ResidualLayerNormed { sum, normed, stats })
    }

    fn layernorm_gradients(
        &self,
        norm: Norm,
        dy: &CpuTensor,
        x: &CpuTensor,
        gain: &CpuTensor,
        stats: &CpuTensor,
        d_stream: Option<Rc<CpuTensor>>,
        biased: bool,
    ) -> Result<NormGradients<CpuTensor>> {
        let NormDims { rows, width } = check_gradients(
            dy.dimensions(),
            x.dimensions(),
            gain.dimensions(),
            stats.dimensions(),
            d_stream.as_deref().map(CpuTensor::dimensions),
        )?;
        let _timed = self.time("layernorm_gradients", 0.0, (3 + usize::from(d_stream.is_some())) * rows * width);

        // dx takes the place of the stream's gradient, where there is one and nobody else holds it.
        let add = d_stream.is_some();
        let mut dx = match d_stream.map(Rc::try_unwrap) {
            Some(Ok(sole)) => sole,
            Some(Err(shared)) => {
                let mut copy = self.tensor(x.shape);
                copy.values.copy_from_slice(shared.values());
                copy
            }
            None => self.tensor(x.shape),
        };

        // The input's gradient, and each block's sums of those of gain and bias: [blocks, width] each.
        let (dy, x, gain, stats) = (dy.values(), x.values(), gain.values(), stats.values());
        let blocks = rows.div_ceil(ROW_BLOCK);
        let partials = || self.shaped("layernorm_backward", &[blocks, width]);
        let (mut d_gain, mut d_bias) = (partials()?, partials()?);
        let outputs = [
            blocked(&mut dx.values, ROW_BLOCK * width),
            blocked(&mut d_gain.values, width),
            blocked(&mut d_bias.values, width),
        ];
        self.for_each_block(blocks, rows * width, outputs, |index, [dx, d_gain, d_bias]| {
            d_gain.fill(0.0);
            d_bias.fill(0.0);
            for (row, dx) in dx.chunks_exact_mut(width).enumerate() {
                let row = index * ROW_BLOCK + row;
                let (dy, x) = (&dy[row * width..][..width], &x[row * width..][..width]);
                let stats = [stats[2 * row], stats[2 * row + 1]];
                normalise_backward(norm, dy, x, gain, stats, add, dx, d_gain, d_bias);
            }
        });
        Ok(NormGradients { dx, d_gain, d_bias: biased.then_some(d_bias) })
    }

    fn sum_partials(&self, sums: Vec<PartialSum<'_, CpuTensor>>) -> Result<()> {
        for PartialSum { partials, total, beta } in sums {
            check_partials(partials.dimensions(), total.dimensions())?;
            if beta == Beta::Zero {
                total.values.fill(0.0);
            }
            // The blocks' sums, in order.
            add_partial_sums(&mut total.values, partials.values());
        }
        Ok(())
    }
}

/// Normalises one row; returns its mean (0 for RMS) and rstd, the reciprocal standard deviation.
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
    let rstd = 1.0 / (squares / width as f32 + NORM_EPSILON).sqrt();

    match bias {
        None => {
            for i in 0..width {
                y[i] = (x[i] - mean) * rstd * gain[i];
            }
        }
        Some(bias) => {
            let bias = &bias[..width];
            for i in 0..width {
                y[i] = mul_add::<FMA>((x[i] - mean) * rstd, gain[i], bias[i]);
            }
        }
    }
    [mean, rstd]
}

/// With `u = gain · dy` and `n = (x − mean) / deviation`: `dx = (u − mean(u) − n · mean(u · n)) / deviation`, where RMS
/// has no `mean(u)`.
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
    let [mean, rstd] = stats;

    // mean(u · n) and mean(u)
    let normed = |i: usize| (x[i] - mean) * rstd;
    let dot = sum_lanes(width, |i, sum| mul_add::<FMA>(dy[i] * gain[i], normed(i), sum)) / width as f32;
    let shift = match norm {
        Norm::Rms => 0.0,
        Norm::Layer => sum_lanes(width, |i, sum| mul_add::<FMA>(dy[i], gain[i], sum)) / width as f32,
    };

    for i in 0..width {
        let n = normed(i);
        d_gain[i] = mul_add::<FMA>(dy[i], n, d_gain[i]);
        d_bias[i] += dy[i];
        let gradient = rstd * (mul_add::<FMA>(dy[i], gain[i], -shift) - n * dot);
        dx[i] = if add { dx[i] + gradient } else { gradient };
    }
}
