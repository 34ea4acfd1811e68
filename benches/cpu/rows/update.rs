//! The end of a step: the norm of all gradients, and Adam.

use std::hint::black_box;

use anyhow::Result;
use igpt_engine::device::prelude::*;
use igpt_engine::device::{AdamStep, Clip};

use super::model::device;
use super::{Bound, Row, Work};

/// Parameters: matrices of 1024 × 1024.
const MATRICES: usize = 24;
const SIDE: usize = 1024;

pub fn row() -> Row {
    Row {
        name: "update",
        what: "gradient norm and Adam, 25,165,824 parameters",
        peer: Some("PyTorch, fused"),
        uses_mkl: false,
        // The norm reads the gradient; Adam reads it, the parameter and two moments, and writes these three.
        bound: Bound::Bytes((8 * MATRICES * SIDE * SIDE * size_of::<f32>()) as f64),
        prepare,
    }
}

fn prepare() -> Result<Work> {
    let tensors = |value: f32| -> Result<Vec<_>> {
        (0..MATRICES).map(|_| Ok(device().upload(&[SIDE, SIDE], &vec![value; SIDE * SIDE])?)).collect()
    };
    let (mut parameters, gradients) = (tensors(0.5)?, tensors(1e-3)?);
    let (mut first, mut second) = (tensors(0.0)?, tensors(0.0)?);
    let mut step = AdamStep { learning_rate: 1e-4, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, step: 0 };
    Ok(Box::new(move || {
        step.step += 1;
        let norm = device().global_norm(&gradients).expect("a norm");
        let clip = Some(Clip { norm: &norm, max_norm: 1e9 });
        device().adam(&mut parameters, &gradients, &mut first, &mut second, step, clip).expect("an update");
        black_box(&parameters);
    }))
}
