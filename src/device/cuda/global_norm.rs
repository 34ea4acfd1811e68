//! The norm of many tensors together (`global_norm.cu`).

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::pointer::{NULL, Pointer};
use super::tensor::{CudaTensor, int};
use crate::device::ops::global_norm::{GlobalNormOps, check_verdict};
use crate::device::{Precision, Result};

type SquareSums = Kernel<(Pointer, Pointer, u64)>;
const F32: SquareSums = kernel!(SQUARE_SUMS_F32);
const BF16: SquareSums = kernel!(SQUARE_SUMS_BF16);

const ROOT_OF_SUM: Kernel<(Pointer, Pointer, Pointer, i32)> = kernel!(ROOT_OF_SUM);

/// Blocks of a tensor at most. How a sum is cut decides its bits, so this is a constant, and not what a card takes at once:
/// 8 blocks for each of 96 multiprocessors, which cards from there on run in one wave.
const MAX_BLOCKS: usize = 768;

/// The grid that adds up the squares of `count` elements, `vector` at a time: a function of the shape alone.
fn grid(count: usize, vector: usize) -> Grid {
    Grid::line(count.div_ceil(256 * vector).clamp(1, MAX_BLOCKS), 256)
}

impl GlobalNormOps for CudaDevice {
    fn global_norm(&self, tensors: &[CudaTensor]) -> Result<CudaTensor> {
        let mut norm = self.floats_of("global_norm", &[1])?;
        self.write_norm(tensors, norm.pointer_mut(), NULL)?;
        Ok(norm)
    }

    fn judge_gradients(&self, tensors: &[CudaTensor], verdict: &mut CudaTensor) -> Result<()> {
        check_verdict(verdict.dimensions())?;
        let norm = verdict.floats_mut("judge_gradients", "verdict")?;
        self.write_norm(tensors, norm, norm.offset(size_of::<f32>()))
    }
}

impl CudaDevice {
    /// The norm of `tensors` to `norm`, and whether it is finite into the counts `skipped` unless that is null.
    fn write_norm(&self, tensors: &[CudaTensor], norm: Pointer, skipped: Pointer) -> Result<()> {
        // One partial sum per block of every tensor, in f64: two floats each.
        let grids: Vec<Grid> =
            tensors.iter().map(|tensor| grid(tensor.shape.volume(), tensor.precision.vector())).collect();
        let count: usize = grids.iter().map(|grid| grid.blocks[0]).sum();
        let partials = self.scratch(2 * count.max(1))?;

        // Σ x² of each tensor's blocks.
        let mut next = partials.pointer();
        for (tensor, grid) in tensors.iter().zip(&grids) {
            let kernel = match tensor.precision {
                Precision::F32 => &F32,
                Precision::Bf16 => &BF16,
            };
            let arguments = (tensor.pointer(), next, tensor.shape.volume() as u64);
            // SAFETY: the tensor holds that many elements, and the partial sums have room for each of the grid's
            // blocks.
            unsafe { self.driver.launch(kernel, *grid, arguments)? };
            next = next.offset(grid.blocks[0] * size_of::<f64>());
        }

        // Their sum, in order, and its root.
        let arguments = (partials.pointer(), norm, skipped, int(count)?);
        // SAFETY: the launches above have written `count` partial sums; the norm is one float, and the counts are two or none.
        unsafe { self.driver.launch(&ROOT_OF_SUM, Grid::line(1, 256), arguments) }
    }
}
