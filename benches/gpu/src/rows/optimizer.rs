//! The optimiser on the parameters of a whole model: the gradient's norm, and Adam on every tensor.

use std::slice::{from_mut, from_ref};

use igpt_engine::device::cuda::CudaTensor;
use igpt_engine::device::prelude::*;
use igpt_engine::device::{AdamStep, CudaDevice, Result, WeightLayout};
use igpt_engine::model::parameter_specs;

use super::{Bench, Case, Prepared};
use crate::check::{Checked, spread_over};
use crate::effort::Model;
use crate::graph::Work;
use crate::normals::Normals;

/// A step in the middle of a run.
const STEP: AdamStep = AdamStep { learning_rate: 1e-3, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, step: 1000 };

/// Shapes of a model's parameters.
fn shapes(model: &Model) -> Vec<Vec<usize>> {
    parameter_specs(&model.config).into_iter().map(|spec| spec.shape).collect()
}

fn norm<'a>(device: &'a CudaDevice, shapes: &[Vec<usize>], normals: &mut Normals) -> Result<Prepared<'a>> {
    let mut squares = 0.0_f64;
    let mut gradients = Vec::new();
    for shape in shapes {
        let values = normals.take(shape.iter().product(), 1.0);
        squares += values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        gradients.push(device.upload(shape, &values)?);
    }
    let got = device.download(&device.global_norm(&gradients)?)?;
    let checked = Checked::of([(got[0], squares.sqrt())], 0.01);
    let work: Work<'a> = Box::new(move |_| device.global_norm(&gradients).map(Some));
    Ok(Prepared { checked, works: vec![(1.0, work)], sets: 1, product: None })
}

struct State {
    parameter: CudaTensor,
    gradient: CudaTensor,
    first: CudaTensor,
    second: CudaTensor,
}

fn adam<'a>(device: &'a CudaDevice, shapes: &[Vec<usize>], normals: &mut Normals) -> Result<Prepared<'a>> {
    let mut all = Vec::new();
    let mut sample = Vec::new();
    for shape in shapes {
        let count = shape.iter().product();
        let (values, gradient) = (normals.take(count, 1.0), normals.take(count, 1.0));
        if sample.is_empty() {
            sample = spread_over(count, 64).map(|at| (at, values[at], gradient[at])).collect();
        }
        let tensors = State {
            parameter: device.upload(shape, &values)?,
            gradient: device.upload(shape, &gradient)?,
            first: device.zeros(shape)?,
            second: device.zeros(shape)?,
        };
        // Matrices have a copy in bf16, as they have after a GEMM, and Adam writes both.
        if let [inputs, _] = shape[..] {
            let x = device.zeros(&[1, inputs])?;
            device.linear(&x, &tensors.parameter, WeightLayout::InOut, None)?;
        }
        all.push(tensors);
    }

    let update = move |all: &mut [State]| -> Result<()> {
        for State { parameter, gradient, first, second } in all {
            device.adam(from_mut(parameter), from_ref(gradient), from_mut(first), from_mut(second), STEP, None)?;
        }
        Ok(())
    };
    update(&mut all)?;

    // From zero moments, so m = (1 - β₁) g and v = (1 - β₂) g², before their correction.
    let got = all.first().map(|tensors| device.download(&tensors.parameter)).transpose()?.unwrap_or_default();
    let pairs =
        sample.into_iter().map(|(at, value, gradient)| (got[at], updated(f64::from(value), f64::from(gradient))));
    let checked = Checked::of(pairs, 0.001);
    let work: Work<'a> = Box::new(move |_| update(&mut all).map(|()| None));
    Ok(Prepared { checked, works: vec![(1.0, work)], sets: 1, product: None })
}

/// A parameter after [`STEP`] from zero moments.
fn updated(value: f64, gradient: f64) -> f64 {
    let AdamStep { learning_rate, beta1, beta2, epsilon, step } = STEP;
    let [rate, beta1, beta2, epsilon] = [learning_rate, beta1, beta2, epsilon].map(f64::from);
    let first = (1.0 - beta1) * gradient / (1.0 - beta1.powf(step as f64));
    let second = (1.0 - beta2) * gradient * gradient / (1.0 - beta2.powf(step as f64));
    value - rate * first / (second.sqrt() + epsilon)
}

impl Bench<'_> {
    /// On each model's parameters.
    pub fn optimizer(&mut self) {
        let (device, effort) = (self.device, self.effort);
        for model in &effort.models {
            let shapes = shapes(model);
            let elements = |wanted: &dyn Fn(&[usize]) -> bool| -> usize {
                shapes.iter().filter(|shape| wanted(shape)).map(|shape| shape.iter().product::<usize>()).sum()
            };
            let (all, matrices) = (elements(&|_| true), elements(&|shape| shape.len() == 2));
            let case = |op: &str, bytes: usize| Case {
                op: op.to_owned(),
                model: model.name.to_owned(),
                shape: format!("{all} parameters in {} tensors", shapes.len()),
                flops: 0.0,
                bytes: bytes as f64,
            };
            // f32 in; four in and three out, and a copy in bf16 of the matrices.
            self.row(case("gradient norm", 4 * all), |normals| norm(device, &shapes, normals));
            self.row(case("Adam", 28 * all + 2 * matrices), |normals| adam(device, &shapes, normals));
        }
    }
}
