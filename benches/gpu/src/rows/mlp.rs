//! The GEMMs of an MLP that do the activation on the way: what `mlp` and `mlp_backward` take beyond the same GEMMs without it.

use std::cell::RefCell;
use std::rc::Rc;

use igpt_engine::device::cuda::CudaTensor;
use igpt_engine::device::prelude::*;
use igpt_engine::device::{Activation, Beta, CudaDevice, MlpGradients, MlpWeights, Result};

use super::Prepared;
use super::gemm::{self, Layer, Operands, Shared};
use crate::check::Checked;
use crate::graph::Work;
use crate::normals::Normals;
use crate::peers::cublaslt::Kind;

/// The official activation, `x · σ(1.702 x)`.
const ACTIVATION: Activation = Activation::QuickGelu;

fn activation(x: f64) -> f64 {
    x / (1.0 + (-1.702 * x).exp())
}

fn derivative(x: f64) -> f64 {
    let sigmoid = 1.0 / (1.0 + (-1.702 * x).exp());
    sigmoid * (1.0 + 1.702 * x * (1.0 - sigmoid))
}

/// Both layers' operands, sets in step.
fn operands(device: &CudaDevice, layers: [Layer; 2], sets: usize, normals: &mut Normals) -> Result<[Shared; 2]> {
    let [up, down] = layers;
    Ok([
        Rc::new(RefCell::new(Operands::new(device, up, sets, normals)?)),
        Rc::new(RefCell::new(Operands::new(device, down, sets, normals)?)),
    ])
}

/// `act(x · up)`: the MLP without its second GEMM.
pub fn forward<'a>(
    device: &'a CudaDevice,
    layers: [Layer; 2],
    sets: usize,
    normals: &mut Normals,
) -> Result<Prepared<'a>> {
    let both = operands(device, layers, sets, normals)?;
    let mlp = {
        let [up, down] = both.clone();
        move |set: usize| {
            let (up, down) = (up.borrow(), down.borrow());
            let weights =
                MlpWeights { up: &up.sets[set].weight, up_bias: None, down: &down.sets[set].weight, down_bias: None };
            device.mlp(&up.sets[set].x, weights, ACTIVATION)
        }
    };

    // The hidden values, and a row of the result.
    let result = mlp(0)?;
    let hidden = device.download(&result.hidden)?;
    let output = device.download(&result.output)?;
    let (up, down) = (both[0].borrow(), both[1].borrow());
    let row: Vec<f64> = hidden[..layers[0].outputs].iter().map(|value| activation(f64::from(*value))).collect();
    let want = |column: usize| -> f64 {
        row.iter().enumerate().map(|(i, value)| value * f64::from(down.weight[i * layers[1].outputs + column])).sum()
    };
    let of_row = Checked::of((0..layers[1].outputs).map(|column| (output[column], want(column))), 2.0);
    let checked = up.check(Kind::Forward, &hidden).and(of_row);
    drop((up, down));

    let without: Work<'a> = gemm::forward(device, &both[1]);
    let work: Work<'a> = Box::new(move |set| mlp(set).map(|result| Some(result.output)));
    Ok(Prepared { checked, works: vec![(1.0, work), (-1.0, without)], sets, product: None })
}

/// `(dy · downᵀ) ∘ act'(hidden)`: the MLP's backward without its other three GEMMs.
pub fn backward<'a>(
    device: &'a CudaDevice,
    layers: [Layer; 2],
    sets: usize,
    normals: &mut Normals,
) -> Result<Prepared<'a>> {
    let both = operands(device, layers, sets, normals)?;
    let mlp_backward = {
        let [up, down] = both.clone();
        move |set: usize| -> Result<CudaTensor> {
            let (up, down) = (&mut *up.borrow_mut(), &mut *down.borrow_mut());
            let (up, down) = (&mut up.sets[set], &mut down.sets[set]);
            let weights = MlpWeights { up: &up.weight, up_bias: None, down: &down.weight, down_bias: None };
            let gradients =
                MlpGradients { up: &mut up.d_weight, up_bias: None, down: &mut down.d_weight, down_bias: None };
            // Any hidden values will do: N(0, 1), as the down layer's inputs are.
            device.mlp_backward(&down.dy, &up.x, &down.x, weights, ACTIVATION, gradients, Beta::One)
        }
    };

    // The first row of dx, whose GEMM takes what is measured, and is rounded in between.
    let dx = device.download(&mlp_backward(0)?)?;
    let (up, down) = (both[0].borrow(), both[1].borrow());
    let (inner, width) = (layers[0].outputs, layers[0].inputs);
    let d_hidden: Vec<f64> = (0..inner)
        .map(|i| {
            let weight = &down.weight[i * width..(i + 1) * width];
            let sum: f64 = down.dy.iter().zip(weight).map(|(dy, w)| f64::from(*dy) * f64::from(*w)).sum();
            sum * derivative(f64::from(down.x[i]))
        })
        .collect();
    let want = |column: usize| -> f64 {
        let weight = &up.weight[column * inner..(column + 1) * inner];
        d_hidden.iter().zip(weight).map(|(d, w)| d * f64::from(*w)).sum()
    };
    let checked = Checked::of((0..width).map(|column| (dx[column], want(column))), 2.0);
    drop((up, down));

    let works: Vec<(f64, Work<'a>)> = vec![
        (1.0, Box::new(move |set| mlp_backward(set).map(Some))),
        (-1.0, gemm::both_gradients(device, &both[0])),
        (-1.0, gemm::both_gradients(device, &both[1])),
        (1.0, gemm::input_gradient(device, &both[1])),
    ];
    Ok(Prepared { checked, works, sets, product: None })
}
