//! Mean over an image's tokens (`mean_pool.cu`).

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::pointer::Pointer;
use super::tensor::{CudaTensor, int};
use crate::device::ops::mean_pool::{MeanPoolOps, check, check_backward};
use crate::device::shape::Shape;
use crate::device::{Precision, Result};

type Pool = Kernel<(Pointer, Pointer, i32, i32)>;
const F32: [Pool; 2] = [kernel!(MEAN_POOL_F32), kernel!(MEAN_POOL_BACKWARD_F32)];
const BF16: [Pool; 2] = [kernel!(MEAN_POOL_BF16), kernel!(MEAN_POOL_BACKWARD_BF16)];

fn kernels(device: &CudaDevice) -> &'static [Pool; 2] {
    match device.precision {
        Precision::F32 => &F32,
        Precision::Bf16 => &BF16,
    }
}

impl MeanPoolOps for CudaDevice {
    fn mean_pool(&self, x: &CudaTensor) -> Result<CudaTensor> {
        let dims = check(x.dimensions())?;
        let y = self.tensor(Shape::new("mean_pool", &[dims.batch, dims.width])?)?;

        let [forward, _] = kernels(self);
        let grid = Grid { blocks: [dims.width.div_ceil(32), dims.batch, 1], threads: [32, 8], ..Grid::line(1, 1) };
        let arguments = (self.operand(x)?, y.pointer(), int(dims.tokens)?, int(dims.width)?);
        // SAFETY: `check` has checked the shape.
        unsafe { self.driver.launch(forward, grid, arguments)? };
        Ok(y)
    }

    fn mean_pool_backward(&self, dy: &CudaTensor, tokens: usize) -> Result<CudaTensor> {
        let dims = check_backward(dy.dimensions(), tokens)?;
        let dx = self.tensor(Shape::new("mean_pool_backward", &[dims.batch, tokens, dims.width])?)?;

        let [_, backward] = kernels(self);
        let grid = Grid { blocks: [dims.width.div_ceil(256), tokens, dims.batch], ..Grid::line(1, 256) };
        let arguments = (self.operand(dy)?, dx.pointer(), int(tokens)?, int(dims.width)?);
        // SAFETY: `check_backward` has checked the shape.
        unsafe { self.driver.launch(backward, grid, arguments)? };
        Ok(dx)
    }
}
