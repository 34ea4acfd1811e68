//! The norm of many tensors together (`global_norm.cu`).

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::pointer::Pointer;
use super::tensor::{CudaTensor, int};
use crate::device::GlobalNormOps;
use crate::device::{Precision, Result};

type SquareSums = Kernel<(Pointer, Pointer, u64)>;
const F32: SquareSums = kernel!(SQUARE_SUMS_F32);
const BF16: SquareSums = kernel!(SQUARE_SUMS_BF16);

const ROOT_OF_SUM: Kernel<(Pointer, Pointer, i32)> = kernel!(ROOT_OF_SUM);

impl GlobalNormOps for CudaDevice {
    fn global_norm(&self, tensors: &[CudaTensor]) -> Result<CudaTensor> {
        let norm = self.floats_of("global_norm", &[1])?;

        // One partial sum per block of every tensor, in f64: two floats each.
        let grids: Vec<Grid> =
            tensors.iter().map(|tensor| self.strided(tensor.shape.volume(), tensor.precision.vector())).collect();
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
        // SAFETY: the launches above have written `count` partial sums.
        unsafe {
            self.driver.launch(&ROOT_OF_SUM, Grid::line(1, 256), (partials.pointer(), norm.pointer(), int(count)?))?
        };
        Ok(norm)
    }
}
