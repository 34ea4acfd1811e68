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
        let grids: Vec<Grid> =
            tensors.iter().map(|tensor| self.strided(tensor.shape.volume(), tensor.precision.vector())).collect();
        let count: usize = grids.iter().map(|grid| grid.blocks[0]).sum();
        // f64 each.
        let partials = self.scratch(2 * count.max(1))?;
        let mut next = partials.pointer();
        for (tensor, grid) in tensors.iter().zip(&grids) {
            let kernel = match tensor.precision {
                Precision::F32 => &F32,
                Precision::Bf16 => &BF16,
            };
            let arguments = (tensor.pointer(), next, tensor.shape.volume() as u64);
            // SAFETY: the tensor is whole; the grid's blocks have their places among the partial sums.
            unsafe { self.driver.launch(kernel, *grid, arguments)? };
            next = next.offset(grid.blocks[0] * size_of::<f64>());
        }
        // SAFETY: so many were written.
        unsafe {
            self.driver.launch(&ROOT_OF_SUM, Grid::line(1, 256), (partials.pointer(), norm.pointer(), int(count)?))?
        };
        Ok(norm)
    }
}
