//! Mean over an image's tokens.

use super::CpuDevice;
use super::math::axpy;
use super::parallel::{ROW_BLOCK, blocked};
use crate::device::contract::PoolDims;

/// Sets `y` `[batch, width]`.
pub(super) fn mean_pool(device: &CpuDevice, dims: PoolDims, x: &[f32], y: &mut [f32]) {
    let PoolDims { batch, tokens, width } = dims;
    // Sums of blocks, then of their sums: the rounding error grows with the root of the tokens. [batch, width].
    let mut partial = device.scratch(batch * width);
    device.for_each_block(batch, x.len(), [blocked(y, width), blocked(&mut partial, width)], |image, [y, partial]| {
        y.fill(0.0);
        for block in x[image * tokens * width..][..tokens * width].chunks(ROW_BLOCK * width) {
            partial.fill(0.0);
            block.chunks_exact(width).for_each(|row| axpy(1.0, row, partial));
            axpy(1.0, partial, y);
        }
        let tokens = tokens as f32;
        y.iter_mut().for_each(|y| *y /= tokens);
    });
}

/// Sets `dx` `[batch, tokens, width]`.
pub(super) fn mean_pool_backward(device: &CpuDevice, dims: PoolDims, dy: &[f32], dx: &mut [f32]) {
    let PoolDims { batch, tokens, width } = dims;
    let work = dx.len();
    let divisor = tokens as f32;
    device.for_each_block(batch, work, [blocked(dx, tokens * width)], |image, [dx]| {
        let dy = &dy[image * width..][..width];
        for row in dx.chunks_exact_mut(width) {
            row.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = dy / divisor);
        }
    });
}
