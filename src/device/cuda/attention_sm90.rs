//! The forward of attention on compute capability 9.0 (`attention_sm90.cu`).

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::limits::{LARGE, shared_of};
use super::pointer::Pointer;
use super::tensor::int;
use super::tensor_map::TensorMap;
use crate::device::ops::attention::AttentionDims;
use crate::device::{Mask, Precision, Result};

type Forward = Kernel<(TensorMap, TensorMap, TensorMap, Pointer, i32, i32, i32, i32, i32, f32)>;

/// The kernel for heads of up to `columns` columns, and the tiles that it was built with.
pub(super) struct Sm90 {
    columns: usize,
    /// Keys of a tile.
    keys: usize,
    /// Warpgroups that have [`ROWS`] queries each.
    consumers: usize,
    /// Buffers of each one's queries.
    buffers: usize,
    kernel: Forward,
}

macro_rules! sm90 {
    ($columns:literal, $keys:literal, $consumers:literal, $buffers:literal, $kernel:ident) => {
        Sm90 { columns: $columns, keys: $keys, consumers: $consumers, buffers: $buffers, kernel: kernel!($kernel) }
    };
}
// As the KERNEL_BF16 lines of attention_sm90.cu.
const WIDTHS: [Sm90; 4] = [
    sm90!(64, 128, 3, 2, ATTENTION_SM90_64),
    sm90!(96, 96, 3, 2, ATTENTION_SM90_96),
    sm90!(128, 128, 2, 2, ATTENTION_SM90_128),
    sm90!(192, 112, 2, 1, ATTENTION_SM90_192),
];

/// Queries of a consumer, threads of a warpgroup, stages of the ring: as in `attention/forward_sm90.cuh`.
const ROWS: usize = 64;
const GROUP_THREADS: usize = 128;
const STAGES: usize = 2;
/// Narrower heads would be mostly zeros in the tiles of the first width: the kernels for all cards have tiles of 16 and of 32 columns.
const LEAST_COLUMNS: usize = 33;
/// Keys and values that are worked on together: they stay in the L2 cache, of 50 MB on an H100, beside queries and outputs that pass by.
const SECTION_BYTES: usize = 32 << 20;

impl Sm90 {
    /// Dynamic shared memory in bytes, `SHARED_BYTES`: queries, stages of keys and of values, 8 bytes a barrier, and room to begin at a
    /// multiple of 1024.
    const fn shared(&self) -> usize {
        let (row, buffers) = (self.columns * 2, self.consumers * self.buffers);
        buffers * ROWS * row + 2 * STAGES * self.keys * row + (4 * STAGES + 2 * buffers) * 8 + 1024
    }
}

/// Columns of a head that TMA copies at a time, of tiles of `columns`: as wide as the widest swizzle that divides them.
pub(super) const fn slab(columns: usize) -> u32 {
    if columns.is_multiple_of(64) { 64 } else { 32 }
}

const _: () = {
    let mut index = 0;
    while index < WIDTHS.len() {
        assert!(shared_of(&WIDTHS[index].kernel, WIDTHS[index].shared()) <= LARGE);
        index += 1;
    }
};

/// Whether heads of this width are for wgmma and TMA, forwards and backwards: rows of a head must be multiples of 16 bytes.
pub(super) fn suits(device: &CudaDevice, head_dim: usize) -> bool {
    let computes = device.driver.is_hopper() && device.precision == Precision::Bf16;
    computes && head_dim >= LEAST_COLUMNS && head_dim.is_multiple_of(8)
}

/// The kernel that this card has for heads of this width.
pub(super) fn of(device: &CudaDevice, head_dim: usize) -> Option<&'static Sm90> {
    WIDTHS.iter().find(|width| suits(device, head_dim) && head_dim <= width.columns)
}

/// Launches it.
///
/// # Safety
/// `qkv` must be `[batch, tokens, 3 * heads * head_dim]` and `output` `[batch, tokens, heads * head_dim]`, in bf16, `logsumexp`
/// `[batch, heads, tokens]` in f32; all must begin at multiples of 16 bytes.
pub(super) unsafe fn launch(
    device: &CudaDevice,
    width: &Sm90,
    [qkv, output, logsumexp]: [Pointer; 3],
    dims: AttentionDims,
    mask: Mask,
) -> Result<()> {
    let AttentionDims { batch, tokens, heads, head_dim } = dims;
    let map = |at, heads, rows: usize| {
        TensorMap::heads(at, [batch, tokens, heads, head_dim], [rows as u32, slab(width.columns)])
    };
    let section = (SECTION_BYTES / (2 * 2 * tokens * head_dim)).max(1);
    let arguments = (
        map(qkv, 3 * heads, ROWS)?,
        map(qkv, 3 * heads, width.keys)?,
        map(output, heads, ROWS)?,
        logsumexp,
        int(tokens)?,
        int(heads)?,
        int(batch)?,
        i32::from(mask == Mask::Causal),
        int(section.min(heads * batch))?,
        1.0 / (head_dim as f32).sqrt(),
    );

    // One block a multiprocessor; they share the tiles of queries.
    let tiles = tokens.div_ceil(width.consumers * ROWS) * heads * batch;
    let blocks = (int(tiles)? as usize).min(device.driver.multiprocessors);
    let threads = ((1 + width.consumers) * GROUP_THREADS) as u32;
    let grid = Grid::line(blocks, threads).with_shared(width.shared());
    // SAFETY: as the caller says; the maps describe these tensors, and nothing is copied outside of them.
    unsafe { device.driver.launch(&width.kernel, grid, arguments) }
}
