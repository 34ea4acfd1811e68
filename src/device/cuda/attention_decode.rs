//! One step of causal attention from a cache (`attention_decode.cu`).

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::pointer::Pointer;
use super::tensor::{CudaTensor, int};
use crate::device::ops::attention_decode::{AttentionDecodeOps, DecodeDims, check};
use crate::device::{Precision, Result};

type Decode = Kernel<(Pointer, Pointer, Pointer, Pointer, i32, i32, i32, i32, f32)>;
const F32: Decode = kernel!(ATTENTION_DECODE_F32);
const BF16: Decode = kernel!(ATTENTION_DECODE_BF16);

impl AttentionDecodeOps for CudaDevice {
    fn attention_decode(
        &self,
        qkv: &CudaTensor,
        keys: &mut CudaTensor,
        values: &mut CudaTensor,
        position: usize,
        heads: usize,
    ) -> Result<CudaTensor> {
        const OP: &str = "attention_decode";
        let (key_shape, value_shape) = (keys.dimensions(), values.dimensions());
        let dims = check(qkv.dimensions(), key_shape, value_shape, position, heads)?;
        let DecodeDims { batch, positions, heads, head_dim } = dims;
        let width = heads * head_dim;
        let output = self.tensor(qkv.shape.with_last(width))?;

        let kernel = match self.precision {
            Precision::F32 => &F32,
            Precision::Bf16 => &BF16,
        };

        // A block per head and image. Its shared memory holds the query, four partial outputs, a number per warp, and
        // the scores.
        let shared = (5 * head_dim + 4 + position + 1) * size_of::<f32>();
        let grid = Grid { blocks: [heads, batch, 1], ..Grid::line(1, 128).with_shared(shared) };

        let arguments = (
            self.operand(qkv)?,
            keys.floats_mut(OP, "keys")?,
            values.floats_mut(OP, "values")?,
            output.pointer(),
            int(position)?,
            int(positions)?,
            int(width)?,
            int(head_dim)?,
            1.0 / (head_dim as f32).sqrt(),
        );
        // SAFETY: `check` has checked the shapes and the position.
        unsafe { self.driver.launch(kernel, grid, arguments)? };
        Ok(output)
    }
}
