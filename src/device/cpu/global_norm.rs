//! The norm of all gradients together.

use multiversion::multiversion;

use super::CpuDevice;
use super::parallel::blocked;
use super::tensor::CpuTensor;
use crate::device::ops::global_norm::{GlobalNormOps, check_verdict};
use crate::device::{Result, Tensors};

/// Elements whose squares one task sums.
const BLOCK: usize = 16 * 1024;

impl GlobalNormOps for CpuDevice {
    fn global_norm(&self, tensors: &[CpuTensor]) -> Result<CpuTensor> {
        self.upload(&[1], &[norm(self, tensors)])
    }

    fn judge_gradients(&self, tensors: &[CpuTensor], verdict: &mut CpuTensor) -> Result<()> {
        check_verdict(verdict.dimensions())?;
        let _timed = self.time("judge_gradients", 0.0, tensors.iter().map(|tensor| tensor.values.len()).sum());
        let norm = norm(self, tensors);
        verdict.values[0] = norm;
        let skipped = if norm.is_finite() { 0.0 } else { 1.0 };
        verdict.values[1] += skipped;
        verdict.values[2] = skipped * (verdict.values[2] + 1.0);
        Ok(())
    }
}

fn norm(device: &CpuDevice, tensors: &[CpuTensor]) -> f32 {
    tensors.iter().map(|tensor| sum_of_squares(device, &tensor.values)).sum::<f64>().sqrt() as f32
}

/// `Σ x²` in f64.
fn sum_of_squares(device: &CpuDevice, values: &[f32]) -> f64 {
    let blocks = values.len().div_ceil(BLOCK);
    // One f64 per block, in the memory of two floats: [blocks, 2].
    let mut sums = device.scratch(blocks * 2);
    device.for_each_block(blocks, values.len(), [blocked(&mut sums, 2)], |index, [sum]| {
        let block = &values[index * BLOCK..values.len().min((index + 1) * BLOCK)];
        bytemuck::cast_slice_mut(sum)[0] = squares(block);
    });
    bytemuck::cast_slice::<f32, f64>(&sums).iter().sum()
}

/// `Σ x²` of one block, in 32 interleaved sums.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
fn squares(values: &[f32]) -> f64 {
    const LANES: usize = 32;
    let mut lanes = [0.0f64; LANES];
    let chunks = values.chunks_exact(LANES);
    for (lane, &value) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane += f64::from(value) * f64::from(value);
    }
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            // Exact: a product of two floats fits a double.
            *lane += f64::from(value) * f64::from(value);
        }
    }
    lanes.iter().sum()
}
