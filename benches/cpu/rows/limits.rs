//! What this machine can do: the rate of a large matrix product, and of a read of much memory.

use std::hint::black_box;
use std::thread;

use anyhow::Result;
use igpt_engine::device::WeightLayout;
use igpt_engine::device::prelude::*;

use super::model::device;
use super::{Bound, Row, Work};

/// Side of the matrices.
const SIDE: usize = 1536;

/// FLOPs of the product.
pub const GEMM_FLOPS: f64 = 2.0 * (SIDE * SIDE * SIDE) as f64;

/// Bytes that are read: many times a cache.
pub const MEMORY_BYTES: f64 = (256 << 20) as f64;

pub fn rows() -> [Row; 2] {
    let row = |name, what, prepare| Row { name, what, peer: None, uses_mkl: true, bound: Bound::None, prepare };
    [row("gemm", "a matrix product", gemm), row("memory", "a read", memory)]
}

fn gemm() -> Result<Work> {
    let matrix = device().upload(&[SIDE, SIDE], &vec![0.5; SIDE * SIDE])?;
    Ok(Box::new(move || {
        black_box(device().linear(&matrix, &matrix, WeightLayout::InOut, None).expect("a product"));
    }))
}

fn memory() -> Result<Work> {
    let values = vec![1.0_f32; MEMORY_BYTES as usize / size_of::<f32>()];
    let threads = thread::available_parallelism().map_or(1, usize::from);
    Ok(Box::new(move || {
        thread::scope(|scope| {
            for part in values.chunks(values.len().div_ceil(threads)) {
                // Eight sums side by side, so that additions do not wait for each other.
                scope.spawn(|| {
                    let mut sums = [0.0_f32; 64];
                    for chunk in part.as_chunks::<64>().0 {
                        sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += value);
                    }
                    black_box(sums);
                });
            }
        });
    }))
}
