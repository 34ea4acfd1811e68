//! One step of causal attention from a cache (`attention_decode.cu`).

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::pointer::Pointer;
use super::tensor::{CudaTensor, int};
use super::tokens::CudaTokens;
use crate::device::ops::attention_decode::{AttentionDecodeOps, CacheDims, check};
use crate::device::shape::Shape;
use crate::device::{Error, Precision, Result};
use crate::named::Named;

type Decode = Kernel<(Pointer, Pointer, Pointer, Pointer, Pointer, i32, i32, f32)>;
const F32: Decode = kernel!(ATTENTION_DECODE_F32);
const BF16: Decode = kernel!(ATTENTION_DECODE_BF16);
type Combine = Kernel<(Pointer, Pointer, Pointer, i32, i32)>;
const COMBINE_F32: Combine = kernel!(ATTENTION_DECODE_COMBINE_F32);
const COMBINE_BF16: Combine = kernel!(ATTENTION_DECODE_COMBINE_BF16);

/// Positions of a chunk: `CHUNK` of `attention_decode.cu`.
const CHUNK: usize = 128;

impl AttentionDecodeOps for CudaDevice {
    fn attention_cache(&self, dims: CacheDims) -> Result<CudaTensor> {
        self.tensor(Shape::new("attention_cache", &dims.shape())?)
    }

    fn cache_precision(&self) -> Precision {
        self.precision()
    }

    fn attention_decode(
        &self,
        qkv: &CudaTensor,
        keys: &mut CudaTensor,
        values: &mut CudaTensor,
        position: &CudaTokens,
        heads: usize,
    ) -> Result<CudaTensor> {
        let (key_shape, value_shape) = (keys.dimensions(), values.dimensions());
        let dims = check(qkv.dimensions(), key_shape, value_shape, position.shape, heads)?;
        let CacheDims { batch, positions, heads, head_dim } = dims;
        position.check_position(positions)?;
        let output = self.tensor(qkv.shape.with_last(dims.width()))?;
        let (decode, combine) = match self.precision {
            Precision::F32 => (&F32, &COMBINE_F32),
            Precision::Bf16 => (&BF16, &COMBINE_BF16),
        };

        // A block for each chunk of the cache, head and image. Its shared memory holds the query and four partial outputs, 36 floats for 32.
        let chunks = positions.div_ceil(CHUNK);
        let partials = self.scratch(batch * heads * chunks * (head_dim + 2))?;
        let grid = Grid { blocks: [chunks, heads, batch], ..Grid::line(1, 128) };
        let grid = grid.with_shared(5 * head_dim.div_ceil(32) * 36 * size_of::<f32>());
        let [keys, values] = [self.cache_mut(keys, "keys")?, self.cache_mut(values, "values")?];
        let (qkv, scale) = (self.operand(qkv)?, 1.0 / (head_dim as f32).sqrt());
        let (position, columns) = (position.ids.pointer(), int(head_dim)?);
        let arguments = (qkv, keys, values, partials.pointer(), position, int(positions)?, columns, scale);

        // SAFETY: `check` has checked the shapes, `check_position` the position (of replays their caller), `cache_mut` the precision; the
        // partials are as many as the kernels say.
        unsafe {
            self.driver.launch(decode, grid, arguments)?;
            let grid = Grid { blocks: [heads, batch, 1], ..Grid::line(1, 128) };
            let arguments = (partials.pointer(), output.pointer(), position, int(chunks)?, columns);
            self.driver.launch(combine, grid, arguments)?;
        }
        Ok(output)
    }
}

impl CudaDevice {
    /// A cache, to be written: it must be in the device's precision.
    pub(super) fn cache_mut(&self, cache: &mut CudaTensor, argument: &str) -> Result<Pointer> {
        if cache.precision == self.precision {
            return Ok(cache.pointer_mut());
        }
        let problem = format!("{argument} of a cache must be in {}", self.precision.name());
        Err(Error::unavailable(problem, "make it with attention_cache"))
    }
}
