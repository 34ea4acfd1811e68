//! The backward of attention on compute capability 9.0 (`attention_backward_sm90.cu`).

use super::CudaDevice;
use super::attention_sm90::{slab, suits};
use super::kernel::{Grid, Kernel, kernel};
use super::limits::{LARGE, shared_of};
use super::pointer::Pointer;
use super::tensor::int;
use super::tensor_map::TensorMap;
use crate::device::ops::attention::AttentionDims;
use crate::device::{Mask, Result};

type Keys = Kernel<(TensorMap, TensorMap, TensorMap, TensorMap, TensorMap, i32, i32, f32)>;
type Queries = Kernel<(TensorMap, TensorMap, TensorMap, TensorMap, Pointer, Pointer, i32, i32, f32)>;

/// The two kernels for heads of up to `columns` columns.
pub(super) struct Sm90 {
    columns: usize,
    keys: Keys,
    queries: Queries,
}

macro_rules! sm90 {
    ($columns:literal, $keys:ident, $queries:ident) => {
        Sm90 { columns: $columns, keys: kernel!($keys), queries: kernel!($queries) }
    };
}
const WIDTHS: [Sm90; 4] = [
    sm90!(64, ATTENTION_BACKWARD_KEYS_SM90_64, ATTENTION_BACKWARD_QUERIES_SM90_64),
    sm90!(96, ATTENTION_BACKWARD_KEYS_SM90_96, ATTENTION_BACKWARD_QUERIES_SM90_96),
    sm90!(128, ATTENTION_BACKWARD_KEYS_SM90_128, ATTENTION_BACKWARD_QUERIES_SM90_128),
    sm90!(192, ATTENTION_BACKWARD_KEYS_SM90_192, ATTENTION_BACKWARD_QUERIES_SM90_192),
];

/// Threads of a block; tokens that TMA copies at a time.
const THREADS: u32 = 384;
const BOX: u32 = 64;

/// Tiles of a block, `Shape` of `attention/backward_sm90.cuh`.
struct Shape {
    rows: usize,
    /// Times that it has so many rows.
    turns: usize,
    columns: usize,
    stages: usize,
    /// Bytes of logsumexp and delta in a stage.
    stats: usize,
}

impl Sm90 {
    const fn keys_shape(&self) -> Shape {
        let (rows, turns, stages) = match self.columns {
            192 => (64, 2, 2),
            128 => (128, 1, 3),
            _ => (128, 2, 3),
        };
        Shape { rows, turns, columns: 64, stages, stats: 2 * 64 * 4 }
    }

    const fn queries_shape(&self) -> Shape {
        let (turns, columns, stages) = match self.columns {
            192 => (1, 64, 2),
            128 => (1, 128, 2),
            96 => (2, 128, 2),
            _ => (2, 128, 3),
        };
        Shape { rows: 128, turns, columns, stages, stats: 0 }
    }

    /// Dynamic shared memory in bytes: two tiles of rows for each turn, stages of two tiles of columns, 8 bytes a barrier, and room to
    /// begin at a multiple of 1024.
    const fn shared(&self, shape: &Shape) -> usize {
        let tile_row = 2 * self.columns * 2;
        let Shape { rows, turns, columns, stages, stats } = *shape;
        turns * rows * tile_row + stages * (columns * tile_row + stats) + (turns + 2 * stages) * 8 + 1024
    }
}

const _: () = {
    let mut index = 0;
    while index < WIDTHS.len() {
        let width = &WIDTHS[index];
        assert!(shared_of(&width.keys, width.shared(&width.keys_shape())) <= LARGE);
        assert!(shared_of(&width.queries, width.shared(&width.queries_shape())) <= LARGE);
        index += 1;
    }
};

/// The kernels that this card has for heads of this width.
pub(super) fn of(device: &CudaDevice, head_dim: usize) -> Option<&'static Sm90> {
    WIDTHS.iter().find(|width| suits(device, head_dim) && head_dim <= width.columns)
}

/// What both kernels read and write.
pub(super) struct Operands {
    /// `[batch, tokens, 3 * heads * head_dim]`.
    pub qkv: Pointer,
    /// `[batch, tokens, heads * head_dim]`.
    pub dy: Pointer,
    /// As `dy`.
    pub output: Pointer,
    /// `[batch, heads, tokens]`, f32.
    pub logsumexp: Pointer,
    /// The row sums of `dy` times `output`, `[batch, heads, tokens]`, f32; written by the first kernel, read by the second.
    pub delta: Pointer,
    /// As `qkv`; written.
    pub d_qkv: Pointer,
}

/// Launches both: the gradients of queries by blocks that each own a tile of queries, then those of keys and values.
///
/// # Safety
/// The operands must be of these dimensions, in bf16 but for those in f32, and begin at multiples of 16 bytes.
pub(super) unsafe fn launch(
    device: &CudaDevice,
    width: &Sm90,
    operands: &Operands,
    dims: AttentionDims,
    mask: Mask,
) -> Result<()> {
    let AttentionDims { batch, tokens, heads, head_dim } = dims;
    let Operands { logsumexp, delta, .. } = *operands;
    let of_heads = |at, heads| TensorMap::heads(at, [batch, tokens, heads, head_dim], [BOX, slab(width.columns)]);
    let (qkv, d_qkv) = (of_heads(operands.qkv, 3 * heads)?, of_heads(operands.d_qkv, 3 * heads)?);
    let (dy, output) = (of_heads(operands.dy, heads)?, of_heads(operands.output, heads)?);
    let (keys, queries) = (width.keys_shape(), width.queries_shape());
    let statistics = |at| TensorMap::vector(at, batch * heads * tokens, keys.columns as u32);
    let (token_count, causal) = (int(tokens)?, i32::from(mask == Mask::Causal));
    let scale = 1.0 / (head_dim as f32).sqrt();

    let grid = |shape: &Shape| {
        let blocks = [tokens.div_ceil(shape.rows).div_ceil(shape.turns), heads, batch];
        Grid { blocks, ..Grid::line(1, THREADS).with_shared(width.shared(shape)) }
    };
    let of_queries = (qkv, dy, output, d_qkv, logsumexp, delta, token_count, causal, scale);
    let of_keys = (qkv, dy, d_qkv, statistics(logsumexp)?, statistics(delta)?, token_count, causal, scale);
    // SAFETY: as the caller says; the maps describe these tensors, and nothing is copied outside of them.
    unsafe {
        device.driver.launch(&width.queries, grid(&queries), of_queries)?;
        device.driver.launch(&width.keys, grid(&keys), of_keys)
    }
}
