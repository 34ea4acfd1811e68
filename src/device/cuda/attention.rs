//! Multi-head attention and its backward (`attention.cu`, `attention_backward.cu`, and for compute capability 9.0 their `_sm90.cu`).

use super::CudaDevice;
use super::attention_backward_sm90::{self, Operands};
use super::attention_sm90;
use super::attention_variants::Variant;
use super::kernel::Grid;
use super::tensor::{CudaTensor, int};
use crate::device::ops::attention::{AttentionDims, AttentionOps, check, check_backward};
use crate::device::{Attended, Mask, Result};

/// What all kernels want of the dimensions: tokens, head_dim, causal, aligned, scale.
fn common(device: &CudaDevice, dims: AttentionDims, mask: Mask) -> Result<(i32, i32, i32, i32, f32)> {
    let aligned = dims.head_dim.is_multiple_of(device.precision.vector());
    let scale = 1.0 / (dims.head_dim as f32).sqrt();
    Ok((int(dims.tokens)?, int(dims.head_dim)?, i32::from(mask == Mask::Causal), i32::from(aligned), scale))
}

impl AttentionOps for CudaDevice {
    fn attention(&self, qkv: &CudaTensor, heads: usize, mask: Mask) -> Result<Attended<CudaTensor>> {
        let dims = check(qkv.dimensions(), heads)?;
        let variant = Variant::of(self, dims.head_dim)?;
        let output = self.tensor(qkv.shape.with_last(dims.width()))?;
        let logsumexp = self.floats_of("attention", &[dims.batch, heads, dims.tokens])?;
        if let Some(width) = attention_sm90::of(self, dims.head_dim) {
            let operands = [self.operand(qkv)?, output.pointer(), logsumexp.pointer()];
            // SAFETY: `check` has checked the shapes, and `operand` the precision; buffers begin at multiples of 16 bytes.
            unsafe { attention_sm90::launch(self, width, operands, dims, mask)? };
            return Ok(Attended { output, logsumexp });
        }

        let (tokens, head_dim, causal, aligned, scale) = common(self, dims, mask)?;
        let arguments =
            (self.operand(qkv)?, output.pointer(), logsumexp.pointer(), tokens, head_dim, causal, aligned, scale);

        // A block per tile of queries, head and image.
        let blocks = [dims.tokens.div_ceil(variant.tile[0]), heads, dims.batch];
        let grid = Grid { blocks, ..Grid::line(1, 128).with_shared(variant.forward_shared()) };
        // SAFETY: `check` has checked the shapes; the variant's tile holds the head, and its shared memory is what its
        // tiles take.
        unsafe { self.driver.launch(&variant.forward, grid, arguments)? };
        Ok(Attended { output, logsumexp })
    }

    fn attention_backward(
        &self,
        dy: &CudaTensor,
        qkv: &CudaTensor,
        output: &CudaTensor,
        logsumexp: &CudaTensor,
        heads: usize,
        mask: Mask,
    ) -> Result<CudaTensor> {
        let (saved, lse) = (output.dimensions(), logsumexp.dimensions());
        let dims = check_backward(dy.dimensions(), qkv.dimensions(), saved, lse, heads)?;
        let variant = Variant::of(self, dims.head_dim)?;
        let d_qkv = self.tensor(qkv.shape)?;

        // The row sums of dO ∘ O, [batch, heads, tokens]: the first kernel writes them, the second reads them.
        let delta = self.scratch(dims.batch * heads * dims.tokens)?;
        let (dy, qkv, output) = (self.operand(dy)?, self.operand(qkv)?, self.operand(output)?);
        let logsumexp = self.floats(logsumexp)?;
        let (logs, to) = (logsumexp.pointer(), d_qkv.pointer());
        if let Some(width) = attention_backward_sm90::of(self, dims.head_dim) {
            let operands = Operands { qkv, dy, output, logsumexp: logs, delta: delta.pointer(), d_qkv: to };
            // SAFETY: as in `attention`; buffers begin at multiples of 16 bytes.
            unsafe { attention_backward_sm90::launch(self, width, &operands, dims, mask)? };
            return Ok(d_qkv);
        }

        // dQ by blocks that each own a tile of queries, then dK and dV by blocks that each own a tile of keys.
        let (tokens, head_dim, causal, aligned, scale) = common(self, dims, mask)?;
        let blocks = [dims.tokens.div_ceil(variant.backward_rows()), heads, dims.batch];
        let grid = |pass| Grid { blocks, ..Grid::line(1, 128).with_shared(variant.backward_shared(pass)) };
        let arguments = (qkv, dy, output, logs, delta.pointer(), to, tokens, head_dim, causal, aligned, scale);
        // SAFETY: as in `attention`.
        unsafe {
            self.driver.launch(&variant.queries.kernel, grid(&variant.queries), arguments)?;
            self.driver.launch(&variant.keys.kernel, grid(&variant.keys), arguments)?;
        }
        Ok(d_qkv)
    }
}
