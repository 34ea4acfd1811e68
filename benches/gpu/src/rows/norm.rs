//! The residual's norm, forward and backward, and with the layer before it.

use std::cell::RefCell;

use igpt_engine::device::cuda::CudaTensor;
use igpt_engine::device::prelude::*;
use igpt_engine::device::{Beta, CudaDevice, NORM_EPSILON, Norm, ResidualLayerNormed, ResidualNorm, Result};

use super::{Bench, Case, Prepared};
use crate::check::Checked;
use crate::graph::Work;
use crate::normals::Normals;

struct Set {
    x: CudaTensor,
    delta: CudaTensor,
    gain: CudaTensor,
}

/// 1 / √(mean of squares + ε).
fn rstd(row: &[f64]) -> f64 {
    let mean = row.iter().map(|value| value * value).sum::<f64>() / row.len() as f64;
    1.0 / (mean + f64::from(NORM_EPSILON)).sqrt()
}

/// The last row of a tensor of rows of `width`.
fn last(values: &[f32], width: usize) -> &[f32] {
    &values[values.len() - width..]
}

/// The norm of a sum.
fn normalised(sum: &[f64], gain: &[f32]) -> Vec<f64> {
    let rstd = rstd(sum);
    sum.iter().zip(gain).map(|(sum, gain)| sum * rstd * f64::from(*gain)).collect()
}

/// Work that keeps both results, or the second would be written to a buffer that is in the cache.
fn keeping_sums<'a>(run: impl Fn(usize) -> Result<ResidualLayerNormed<CudaTensor>> + 'a, sets: usize) -> Work<'a> {
    let sums: RefCell<Vec<Option<CudaTensor>>> = RefCell::new((0..sets).map(|_| None).collect());
    Box::new(move |set| {
        let out = run(set)?;
        sums.borrow_mut()[set] = Some(out.sum);
        Ok(Some(out.normed))
    })
}

fn forward<'a>(device: &'a CudaDevice, [rows, width, sets]: [usize; 3], normals: &mut Normals) -> Result<Prepared<'a>> {
    let mut on_device = Vec::new();
    let mut exact: Vec<f64> = Vec::new();
    for set in 0..sets {
        let [x, delta] = [(); 2].map(|()| normals.take(rows * width, 1.0));
        let gain = normals.take(width, 1.0);
        if set == 0 {
            let sum: Vec<f64> =
                last(&x, width).iter().zip(last(&delta, width)).map(|(x, d)| f64::from(*x) + f64::from(*d)).collect();
            exact = normalised(&sum, &gain);
        }
        let of_rows = |values: &[f32]| device.upload(&[rows, width], values);
        on_device.push(Set { x: of_rows(&x)?, delta: of_rows(&delta)?, gain: device.upload(&[width], &gain)? });
    }

    let run = move |set: usize| {
        let Set { x, delta, gain } = &on_device[set];
        device.residual_layernorm(Norm::Rms, x, delta, gain, None)
    };
    let normed = device.download(&run(0)?.normed)?;
    let checked = Checked::of(last(&normed, width).iter().copied().zip(exact), 2.0);
    Ok(Prepared { checked, works: vec![(1.0, keeping_sums(run, sets))], sets, product: None })
}

/// A square layer, whose result is added and normalised.
fn after_layer<'a>(
    device: &'a CudaDevice,
    [rows, width, sets]: [usize; 3],
    normals: &mut Normals,
) -> Result<Prepared<'a>> {
    let mut on_device = Vec::new();
    let mut exact: Vec<f64> = Vec::new();
    for set in 0..sets {
        let [input, x] = [(); 2].map(|()| normals.take(rows * width, 1.0));
        let weight = normals.take(width * width, 0.0625);
        let gain = normals.take(width, 1.0);
        if set == 0 {
            let product = |column: usize| -> f64 {
                let weights = weight.iter().skip(column).step_by(width);
                last(&input, width).iter().zip(weights).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum()
            };
            let sum: Vec<f64> =
                last(&x, width).iter().enumerate().map(|(column, x)| f64::from(*x) + product(column)).collect();
            exact = normalised(&sum, &gain);
        }
        let of_rows = |values: &[f32]| device.upload(&[rows, width], values);
        let set = Set { x: of_rows(&x)?, delta: of_rows(&input)?, gain: device.upload(&[width], &gain)? };
        on_device.push((set, device.upload(&[width, width], &weight)?));
    }

    let run = move |set: usize| {
        let (Set { x, delta: input, gain }, weight) = &on_device[set];
        let to = ResidualNorm { norm: Norm::Rms, x, gain, bias: None };
        device.linear_residual_layernorm(input, weight, None, to)
    };
    let normed = device.download(&run(0)?.normed)?;
    let checked = Checked::of(last(&normed, width).iter().copied().zip(exact), 3.0);
    Ok(Prepared { checked, works: vec![(1.0, keeping_sums(run, sets))], sets, product: None })
}

struct BackwardSet {
    x: CudaTensor,
    dy: CudaTensor,
    gain: CudaTensor,
    stats: CudaTensor,
    d_gain: CudaTensor,
    /// The gradient of the residual stream, which is added to in place.
    stream: Option<CudaTensor>,
}

fn backward<'a>(
    device: &'a CudaDevice,
    [rows, width, sets]: [usize; 3],
    normals: &mut Normals,
) -> Result<Prepared<'a>> {
    let mut on_device = Vec::new();
    let mut exact: Vec<f64> = Vec::new();
    for set in 0..sets {
        let [x, dy, stream] = [(); 3].map(|()| normals.take(rows * width, 1.0));
        let gain = normals.take(width, 1.0);
        if set == 0 {
            let row: Vec<f64> = last(&x, width).iter().map(|value| f64::from(*value)).collect();
            let rstd = rstd(&row);
            let g: Vec<f64> =
                last(&dy, width).iter().zip(&gain).map(|(dy, gain)| f64::from(*dy) * f64::from(*gain)).collect();
            let mean = row.iter().zip(&g).map(|(x, g)| x * rstd * g).sum::<f64>() / width as f64;
            let of_stream = last(&stream, width).iter().map(|value| f64::from(*value));
            exact = row.iter().zip(&g).zip(of_stream).map(|((x, g), s)| s + rstd * (g - x * rstd * mean)).collect();
        }
        let of_rows = |values: &[f32]| device.upload(&[rows, width], values);
        let (x, gain) = (of_rows(&x)?, device.upload(&[width], &gain)?);
        let stats = device.layernorm(Norm::Rms, &x, &gain, None)?.stats;
        let (dy, d_gain, stream) = (of_rows(&dy)?, device.zeros(&[width])?, Some(of_rows(&stream)?));
        on_device.push(BackwardSet { x, dy, gain, stats, d_gain, stream });
    }

    let run = move |set: &mut BackwardSet| -> Result<()> {
        let BackwardSet { x, dy, gain, stats, d_gain, stream } = set;
        let residual = stream.take();
        *stream = Some(device.layernorm_backward(Norm::Rms, dy, x, gain, stats, residual, d_gain, None, Beta::One)?);
        Ok(())
    };
    run(&mut on_device[0])?;
    let dx = on_device[0].stream.as_ref().map(|stream| device.download(stream)).transpose()?.unwrap_or_default();
    let checked = Checked::of(last(&dx, width).iter().copied().zip(exact), 2.0);
    let work: Work<'a> = Box::new(move |set| run(&mut on_device[set]).map(|()| None));
    Ok(Prepared { checked, works: vec![(1.0, work)], sets, product: None })
}

impl Bench<'_> {
    /// All widths.
    pub fn norms(&mut self) {
        let (device, effort) = (self.device, self.effort);
        let (widths, rows) = (&effort.norms.0, effort.norms.1);
        for &width in widths {
            // In bf16: x and delta in, their sum and its norm out; three tensors in and one out.
            let bytes = (4 * 2 * rows * width) as f64;
            let sets = effort.sets(bytes);
            let case = |op: &str| Case {
                op: op.to_owned(),
                model: format!("d {width}"),
                shape: format!("{rows} rows"),
                flops: 0.0,
                bytes,
            };
            self.row(case("residual + norm forward"), |normals| forward(device, [rows, width, sets], normals));
            let layer = Case {
                flops: (2 * rows * width * width) as f64,
                bytes: bytes + (2 * width * width) as f64,
                ..case("layer + residual + norm")
            };
            self.row(layer, |normals| after_layer(device, [rows, width, sets], normals));
            self.row(case("norm backward + residual"), |normals| backward(device, [rows, width, sets], normals));
        }
    }
}
