//! The linear layers of a block: each forward, and both of its gradients.
//!
//! The engine's ops join some GEMMs: `mlp` is two of them, `linear_backward` both gradients. What one takes is the difference
//! of two graphs that are timed in turn.

use std::cell::RefCell;
use std::rc::Rc;

use half::bf16;
use igpt_engine::device::cuda::CudaTensor;
use igpt_engine::device::prelude::*;
use igpt_engine::device::{Beta, CudaDevice, Result, WeightLayout};

use super::{Bench, Case, Prepared};
use crate::check::{Checked, spread_over};
use crate::effort::Model;
use crate::graph::Work;
use crate::normals::Normals;
use crate::peers::cublaslt::{Kind, Product};

/// How many elements of a result are compared with f64.
const COMPARED: usize = 64;

/// A linear layer: name, inputs, outputs.
#[derive(Clone, Copy)]
pub(super) struct Layer {
    name: &'static str,
    pub rows: usize,
    pub inputs: usize,
    pub outputs: usize,
}

impl Layer {
    fn flops(&self) -> f64 {
        2.0 * (self.rows * self.inputs * self.outputs) as f64
    }

    /// Bytes of x, y and the weight in bf16, and of the weight's gradient in f32 read and written.
    fn bytes(&self, kind: Kind) -> f64 {
        let Self { rows, inputs, outputs, .. } = *self;
        let (x, y, weight) = (2 * rows * inputs, 2 * rows * outputs, 2 * inputs * outputs);
        match kind {
            Kind::Forward | Kind::InputGradient => (x + y + weight) as f64,
            Kind::WeightGradient => (x + y + 4 * weight) as f64,
        }
    }

    fn case(&self, op: &str, model: &Model, kind: Kind) -> Case {
        let Self { name, rows, inputs, outputs } = *self;
        let shape = match kind {
            Kind::Forward => format!("{rows} x {outputs} x {inputs}"),
            Kind::InputGradient => format!("{rows} x {inputs} x {outputs}"),
            Kind::WeightGradient => format!("{inputs} x {outputs} x {rows}"),
        };
        let model = model.name.to_owned();
        Case { op: format!("{name} {op}"), model, shape, flops: self.flops(), bytes: self.bytes(kind) }
    }
}

/// Host's and device's operands of one set.
pub(super) struct Set {
    pub x: CudaTensor,
    pub weight: CudaTensor,
    pub dy: CudaTensor,
    pub d_weight: CudaTensor,
}

/// Operands of a layer, the first set's on the host too.
pub(super) struct Operands {
    layer: Layer,
    pub x: Vec<f32>,
    pub weight: Vec<f32>,
    pub dy: Vec<f32>,
    pub sets: Vec<Set>,
}

impl Operands {
    pub fn new(device: &CudaDevice, layer: Layer, sets: usize, normals: &mut Normals) -> Result<Self> {
        let Layer { rows, inputs, outputs, .. } = layer;
        // Weights of about 1 / √d keep results near 1.
        let scale = 2.0_f32.powi(-((inputs as f32).log2() / 2.0) as i32);
        let mut on_host = Vec::new();
        let mut on_device = Vec::new();
        for set in 0..sets {
            let x = normals.take(rows * inputs, 1.0);
            let weight = normals.take(inputs * outputs, scale);
            let dy = normals.take(rows * outputs, 1.0);
            on_device.push(Set {
                x: device.upload(&[rows, inputs], &x)?,
                weight: device.upload(&[inputs, outputs], &weight)?,
                dy: device.upload(&[rows, outputs], &dy)?,
                d_weight: device.zeros(&[inputs, outputs])?,
            });
            if set == 0 {
                on_host = vec![x, weight, dy];
            }
        }
        let [x, weight, dy] = <[Vec<f32>; 3]>::try_from(on_host).unwrap_or_default();
        Ok(Self { layer, x, weight, dy, sets: on_device })
    }

    /// Compares a result with f64 at some places.
    pub fn check(&self, kind: Kind, got: &[f32]) -> Checked {
        let Layer { rows, inputs, outputs, .. } = self.layer;
        let (x, weight, dy) = (&self.x, &self.weight, &self.dy);
        let dot = |count: usize, term: &dyn Fn(usize) -> (f32, f32)| -> f64 {
            (0..count).map(term).map(|(a, b)| f64::from(a) * f64::from(b)).sum()
        };
        let want = |at: usize| match kind {
            Kind::Forward => {
                let (row, column) = (at / outputs, at % outputs);
                dot(inputs, &|i| (x[row * inputs + i], weight[i * outputs + column]))
            }
            Kind::InputGradient => {
                let (row, column) = (at / inputs, at % inputs);
                dot(outputs, &|i| (dy[row * outputs + i], weight[column * outputs + i]))
            }
            Kind::WeightGradient => {
                let (row, column) = (at / outputs, at % outputs);
                dot(rows, &|i| (x[i * inputs + row], dy[i * outputs + column]))
            }
        };
        Checked::of(spread_over(got.len(), COMPARED).map(|at| (got[at], want(at))), 1.0)
    }

    /// What a library is given to do the same.
    fn product(&self, kind: Kind) -> Product {
        let Layer { rows, inputs, outputs, .. } = self.layer;
        let rounded = |values: &[f32]| values.iter().map(|value| bf16::from_f32(*value)).collect::<Vec<_>>();
        let (a, b) = match kind {
            Kind::Forward => (&self.x, &self.weight),
            Kind::InputGradient => (&self.dy, &self.weight),
            Kind::WeightGradient => (&self.x, &self.dy),
        };
        Product { kind, rows, inputs, outputs, a: rounded(a), b: rounded(b) }
    }
}

/// Operands that several works share.
pub(super) type Shared = Rc<RefCell<Operands>>;

pub(super) fn forward<'a>(device: &'a CudaDevice, operands: &Shared) -> Work<'a> {
    let operands = Rc::clone(operands);
    Box::new(move |set| {
        let set = &operands.borrow().sets[set];
        device.linear(&set.x, &set.weight, WeightLayout::InOut, None).map(Some)
    })
}

/// `dy · Wᵀ`: the weight as it lies is that of a layer the other way whose layout is the other.
pub(super) fn input_gradient<'a>(device: &'a CudaDevice, operands: &Shared) -> Work<'a> {
    let operands = Rc::clone(operands);
    Box::new(move |set| {
        let set = &operands.borrow().sets[set];
        device.linear(&set.dy, &set.weight, WeightLayout::OutIn, None).map(Some)
    })
}

pub(super) fn both_gradients<'a>(device: &'a CudaDevice, operands: &Shared) -> Work<'a> {
    let operands = Rc::clone(operands);
    Box::new(move |set| {
        let Set { x, weight, dy, d_weight } = &mut operands.borrow_mut().sets[set];
        device.linear_backward(dy, x, weight, WeightLayout::InOut, d_weight, None, Beta::One).map(Some)
    })
}

/// A row of one GEMM, which a library does as well.
fn plain<'a>(
    device: &'a CudaDevice,
    (layer, kind, sets): (Layer, Kind, usize),
    normals: &mut Normals,
) -> Result<Prepared<'a>> {
    let operands = Operands::new(device, layer, sets, normals)?;
    let product = operands.product(kind);
    let operands: Shared = Rc::new(RefCell::new(operands));

    // Once, beside f64, while gradients are still zero.
    let mut works = match kind {
        Kind::Forward => vec![(1.0, forward(device, &operands))],
        Kind::InputGradient => vec![(1.0, input_gradient(device, &operands))],
        Kind::WeightGradient => {
            vec![(1.0, both_gradients(device, &operands)), (-1.0, input_gradient(device, &operands))]
        }
    };
    let result = works[0].1(0)?;
    let got = match (kind, &result) {
        (Kind::WeightGradient, _) | (_, None) => device.download(&operands.borrow().sets[0].d_weight)?,
        (_, Some(result)) => device.download(result)?,
    };
    let checked = operands.borrow().check(kind, &got);
    Ok(Prepared { checked, works, sets, product: Some(product) })
}

impl Bench<'_> {
    /// All rows of all models.
    pub fn gemms(&mut self) {
        let (device, effort) = (self.device, self.effort);
        for model in &effort.models {
            let (rows, width) = (model.rows(), model.config.width);
            let layer = |name, inputs, outputs| Layer { name, rows, inputs, outputs };
            let (up, down) = (layer("fc", width, 4 * width), layer("down", 4 * width, width));
            for layer in [layer("qkv", width, 3 * width), layer("proj", width, width), up, down] {
                for (kind, op) in [
                    (Kind::Forward, "forward"),
                    (Kind::InputGradient, "input gradient"),
                    (Kind::WeightGradient, "weight gradient"),
                ] {
                    let sets = effort.sets(layer.bytes(kind));
                    self.row(layer.case(op, model, kind), |normals| plain(device, (layer, kind, sets), normals));
                }
            }

            // With the activation, as a block has them.
            let sets = effort.sets(up.bytes(Kind::Forward) + down.bytes(Kind::Forward));
            let mut case = up.case("+ activation, forward", model, Kind::Forward);
            // The hidden values before the activation are written besides.
            case.bytes += (2 * rows * up.outputs) as f64;
            self.row(case, |normals| super::mlp::forward(device, [up, down], sets, normals));
            let mut case = down.case("input gradient x activation\'", model, Kind::InputGradient);
            // The hidden values are read and their activation is written once more.
            case.bytes += (4 * rows * up.outputs) as f64;
            self.row(case, |normals| super::mlp::backward(device, [up, down], sets, normals));
        }
    }
}
