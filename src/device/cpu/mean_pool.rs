//! Mean over an image's tokens.

use super::CpuDevice;
use super::math::axpy;
use super::parallel::{ROW_BLOCK, blocked};
use super::tensor::CpuTensor;
use crate::device::Result;
use crate::device::ops::mean_pool::{MeanPoolOps, PoolDims, check, check_backward};

impl MeanPoolOps for CpuDevice {
    fn mean_pool(&self, x: &CpuTensor) -> Result<CpuTensor> {
        let PoolDims { batch, tokens, width } = check(x.dimensions())?;
        let mut y = self.shaped("mean_pool", &[batch, width])?;

        // Sums of blocks, then of their sums: the rounding error grows with the root of the tokens. [batch, width].
        let x = x.values();
        let mut partial = self.scratch(batch * width);
        let outputs = [blocked(&mut y.values, width), blocked(&mut partial, width)];
        self.for_each_block(batch, x.len(), outputs, |image, [y, partial]| {
            y.fill(0.0);
            for block in x[image * tokens * width..][..tokens * width].chunks(ROW_BLOCK * width) {
                partial.fill(0.0);
                block.chunks_exact(width).for_each(|row| axpy(1.0, row, partial));
                axpy(1.0, partial, y);
            }
            let tokens = tokens as f32;
            y.iter_mut().for_each(|y| *y /= tokens);
        });
        Ok(y)
    }

    fn mean_pool_backward(&self, dy: &CpuTensor, tokens: usize) -> Result<CpuTensor> {
        let PoolDims { batch, tokens, width } = check_backward(dy.dimensions(), tokens)?;
        let mut dx = self.shaped("mean_pool_backward", &[batch, tokens, width])?;

        let (dy, work) = (dy.values(), dx.values.len());
        let divisor = tokens as f32;
        self.for_each_block(batch, work, [blocked(&mut dx.values, tokens * width)], |image, [dx]| {
            let dy = &dy[image * width..][..width];
            for row in dx.chunks_exact_mut(width) {
                row.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = dy / divisor);
            }
        });
        Ok(dx)
    }
}
