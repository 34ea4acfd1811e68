//! The norm of all gradients together.

use multiversion::multiversion;

use super::CpuDevice;
use super::parallel::blocked;
use super::tensor::CpuTensor;
use crate::device::ops::global_norm::{GlobalNormOps, NORM_BLOCK, check_count, check_sums, check_verdict};
use crate::device::{Result, Tensors};

/// Elements whose squares one task sums.
const BLOCK: usize = NORM_BLOCK;

impl GlobalNormOps for CpuDevice {
    fn global_norm(&self, tensors: &[CpuTensor]) -> Result<CpuTensor> {
        self.upload(&[1], &[norm(self, tensors)])
    }

    fn judge_gradients(&self, tensors: &[CpuTensor], verdict: &mut CpuTensor) -> Result<()> {
        check_verdict(verdict.dimensions())?;
        let _timed = self.time("judge_gradients", 0.0, tensors.iter().map(|tensor| tensor.values.len()).sum());
        judge(norm(self, tensors), verdict);
        Ok(())
    }

    fn square_sums(&self, tensors: &[CpuTensor], sums: &mut CpuTensor) -> Result<()> {
        check_sums(tensors.iter().map(|tensor| tensor.values.len()), sums.dimensions())?;
        let _timed = self.time("square_sums", 0.0, tensors.iter().map(|tensor| tensor.values.len()).sum());
        let mut rest = &mut sums.values[..];
        for tensor in tensors {
            let (own, others) = rest.split_at_mut(2 * tensor.values.len().div_ceil(BLOCK));
            self.for_each_block(own.len() / 2, tensor.values.len(), [blocked(own, 2)], |index, [sum]| {
                sum.copy_from_slice(&bytemuck::cast::<f64, [f32; 2]>(squares(block(&tensor.values, index))));
            });
            rest = others;
        }
        Ok(())
    }

    fn judge_sums(&self, sums: &CpuTensor, count: usize, verdict: &mut CpuTensor) -> Result<()> {
        check_verdict(verdict.dimensions())?;
        check_count(sums.dimensions(), count)?;
        let of = |pair: &[f32; 2]| bytemuck::cast::<[f32; 2], f64>(*pair);
        let sum: f64 = sums.values.as_chunks().0.iter().take(count).map(of).sum();
        judge(sum.sqrt() as f32, verdict);
        Ok(())
    }
}

/// Writes a norm, and counts it if it is not finite.
fn judge(norm: f32, verdict: &mut CpuTensor) {
    let skipped = if norm.is_finite() { 0.0 } else { 1.0 };
    verdict.values[0] = norm;
    verdict.values[1] += skipped;
    verdict.values[2] = skipped * (verdict.values[2] + 1.0);
}

/// Block `index` of a tensor's elements.
fn block(values: &[f32], index: usize) -> &[f32] {
    &values[index * BLOCK..values.len().min((index + 1) * BLOCK)]
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
        bytemuck::cast_slice_mut(sum)[0] = squares(block(values, index));
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
