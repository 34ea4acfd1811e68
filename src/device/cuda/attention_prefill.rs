//! Causal attention over prompts, which fills the cache (`attention_prefill.cu`).

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::pointer::Pointer;
use super::tensor::{CudaTensor, int};
use crate::device::ops::attention::{AttentionDims, AttentionOps};
use crate::device::ops::attention_prefill::{AttentionPrefillOps, check};
use crate::device::{Mask, Precision, Result};

type Prefill = Kernel<(Pointer, Pointer, Pointer, i32, i32, i32)>;
const F32: Prefill = kernel!(ATTENTION_PREFILL_F32);
const BF16: Prefill = kernel!(ATTENTION_PREFILL_BF16);

impl AttentionPrefillOps for CudaDevice {
    fn attention_prefill(
        &self,
        qkv: &CudaTensor,
        keys: &mut CudaTensor,
        values: &mut CudaTensor,
        first: usize,
        heads: usize,
    ) -> Result<CudaTensor> {
        let (key_shape, value_shape) = (keys.dimensions(), values.dimensions());
        let (dims, cache) = check(qkv.dimensions(), key_shape, value_shape, first, heads)?;
        let AttentionDims { batch, tokens, head_dim, .. } = dims;
        let kernel = match self.precision {
            Precision::F32 => &F32,
            Precision::Bf16 => &BF16,
        };

        // A block for each token and image.
        let skipped = first * dims.width() * cache.positions * self.precision.bytes();
        let [keys, values] = [self.cache_mut(keys, "keys")?, self.cache_mut(values, "values")?];
        let (keys, values) = (keys.offset(skipped), values.offset(skipped));
        let arguments = (self.operand(qkv)?, keys, values, int(cache.positions)?, int(heads)?, int(head_dim)?);
        let grid = Grid { blocks: [tokens, batch, 1], ..Grid::line(1, 128) };
        // SAFETY: `check` has checked the shapes and that the images are in the cache, `cache_mut` the precision.
        unsafe { self.driver.launch(kernel, grid, arguments)? };
        Ok(self.attention(qkv, heads, Mask::Causal)?.output)
    }
}
