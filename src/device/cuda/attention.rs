//! Multi-head attention and its backward (`attention.cu`, `attention_backward.cu`).

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::pointer::Pointer;
use super::tensor::{CudaTensor, int};
use crate::device::ops::attention::{AttentionDims, AttentionOps, check, check_backward};
use crate::device::{Attended, Error, Mask, Precision, Result};

type Forward = Kernel<(Pointer, Pointer, Pointer, i32, i32, i32, i32, f32)>;
type Backward = Kernel<(Pointer, Pointer, Pointer, Pointer, Pointer, i32, i32, i32, i32, f32)>;
type Delta = Kernel<(Pointer, Pointer, Pointer, i32, i32, i32, i32, i32)>;

const DELTA_F32: Delta = kernel!(ATTENTION_DELTA_F32);
const DELTA_BF16: Delta = kernel!(ATTENTION_DELTA_BF16);

/// Kernels for heads of up to `columns` columns, and the tiles they were built with.
struct Variant {
    columns: usize,
    /// Queries of a block of the forward, and keys of a stage.
    tile: [usize; 2],
    /// Columns of a stage of the backward.
    stage: usize,
    forward: Forward,
    keys: Backward,
    queries: Backward,
}

macro_rules! variant {
    ($columns:literal, $tile:expr, $stage:literal, $forward:ident, $keys:ident, $queries:ident) => {
        Variant {
            columns: $columns,
            tile: $tile,
            stage: $stage,
            forward: kernel!($forward),
            keys: kernel!($keys),
            queries: kernel!($queries),
        }
    };
}
macro_rules! f32 {
    ($columns:literal, $forward:ident, $keys:ident, $queries:ident) => {
        variant!($columns, [32, 32], 32, $forward, $keys, $queries)
    };
}
const F32: [Variant; 5] = [
    f32!(32, ATTENTION_F32_32, ATTENTION_BACKWARD_KEYS_F32_32, ATTENTION_BACKWARD_QUERIES_F32_32),
    f32!(64, ATTENTION_F32_64, ATTENTION_BACKWARD_KEYS_F32_64, ATTENTION_BACKWARD_QUERIES_F32_64),
    f32!(96, ATTENTION_F32_96, ATTENTION_BACKWARD_KEYS_F32_96, ATTENTION_BACKWARD_QUERIES_F32_96),
    f32!(128, ATTENTION_F32_128, ATTENTION_BACKWARD_KEYS_F32_128, ATTENTION_BACKWARD_QUERIES_F32_128),
    f32!(192, ATTENTION_F32_192, ATTENTION_BACKWARD_KEYS_F32_192, ATTENTION_BACKWARD_QUERIES_F32_192),
];
// Tiles as in the KERNEL_BF16 lines of attention.cu (4 warps of 16 or 32 queries) and attention_backward.cu.
const BF16: [Variant; 6] = [
    variant!(16, [64, 64], 64, ATTENTION_BF16_16, ATTENTION_BACKWARD_KEYS_BF16_16, ATTENTION_BACKWARD_QUERIES_BF16_16),
    variant!(32, [128, 64], 64, ATTENTION_BF16_32, ATTENTION_BACKWARD_KEYS_BF16_32, ATTENTION_BACKWARD_QUERIES_BF16_32),
    variant!(64, [128, 64], 64, ATTENTION_BF16_64, ATTENTION_BACKWARD_KEYS_BF16_64, ATTENTION_BACKWARD_QUERIES_BF16_64),
    variant!(96, [64, 64], 64, ATTENTION_BF16_96, ATTENTION_BACKWARD_KEYS_BF16_96, ATTENTION_BACKWARD_QUERIES_BF16_96),
    variant!(
        128,
        [64, 64],
        64,
        ATTENTION_BF16_128,
        ATTENTION_BACKWARD_KEYS_BF16_128,
        ATTENTION_BACKWARD_QUERIES_BF16_128
    ),
    variant!(
        192,
        [64, 32],
        32,
        ATTENTION_BF16_192,
        ATTENTION_BACKWARD_KEYS_BF16_192,
        ATTENTION_BACKWARD_QUERIES_BF16_192
    ),
];

impl Variant {
    fn of(device: &CudaDevice, head_dim: usize) -> Result<&'static Self> {
        let variants: &[Self] = match device.precision {
            Precision::F32 => &F32,
            Precision::Bf16 => &BF16,
        };
        variants.iter().find(|variant| head_dim <= variant.columns).ok_or_else(|| {
            let max_columns = variants.iter().map(|variant| variant.columns).max().unwrap_or(0);
            Error::unavailable(
                format!("attention: heads of {head_dim} columns are wider than the {max_columns} of the CUDA kernels"),
                "use more heads",
            )
        })
    }

    /// Dynamic shared memory of the forward, in bytes.
    fn forward_shared(&self, precision: Precision) -> usize {
        let [queries, keys] = self.tile;
        match precision {
            Precision::F32 => 3 * 32 * (self.columns + 4) * 4,
            Precision::Bf16 => (queries + 4 * keys) * self.columns * 2,
        }
    }

    /// Rows that a block of the backward owns, and its dynamic shared memory in bytes.
    fn backward_block(&self, precision: Precision) -> (usize, usize) {
        match precision {
            Precision::F32 => (32, 4 * 32 * (self.columns + 4) * 4 + 2 * 32 * 4),
            Precision::Bf16 => (64, (2 * 64 + 4 * self.stage) * self.columns * 2 + 4 * self.stage * 4),
        }
    }
}

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

        let (tokens, head_dim, causal, aligned, scale) = common(self, dims, mask)?;
        let arguments =
            (self.operand(qkv)?, output.pointer(), logsumexp.pointer(), tokens, head_dim, causal, aligned, scale);

        // A block per tile of queries, head and image.
        let blocks = [dims.tokens.div_ceil(variant.tile[0]), heads, dims.batch];
        let grid = Grid { blocks, ..Grid::line(1, 128).with_shared(variant.forward_shared(self.precision)) };
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

        // D, the row sums of dO ∘ O: [batch, heads, tokens].
        let rows = dims.batch * heads * dims.tokens;
        let delta = self.scratch(rows)?;
        let (dy, qkv, output) = (self.operand(dy)?, self.operand(qkv)?, self.operand(output)?);
        let logsumexp = self.floats(logsumexp)?;
        let (tokens, head_dim, causal, aligned, scale) = common(self, dims, mask)?;
        let delta_arguments = (output, dy, delta.pointer(), int(rows)?, tokens, int(heads)?, head_dim, aligned);
        let delta_kernel = match self.precision {
            Precision::F32 => &DELTA_F32,
            Precision::Bf16 => &DELTA_BF16,
        };

        // dK and dV by blocks that each own a tile of keys, then dQ by blocks that each own a tile of queries.
        let (own_rows, shared) = variant.backward_block(self.precision);
        let blocks = [dims.tokens.div_ceil(own_rows), heads, dims.batch];
        let grid = Grid { blocks, ..Grid::line(1, 128).with_shared(shared) };
        let arguments =
            (qkv, dy, logsumexp.pointer(), delta.pointer(), d_qkv.pointer(), tokens, head_dim, causal, aligned, scale);
        // SAFETY: as in `attention`.
        unsafe {
            self.driver.launch(delta_kernel, Grid::line(rows.div_ceil(32), 256), delta_arguments)?;
            self.driver.launch(&variant.keys, grid, arguments)?;
            self.driver.launch(&variant.queries, grid, arguments)?;
        }
        Ok(d_qkv)
    }
}
