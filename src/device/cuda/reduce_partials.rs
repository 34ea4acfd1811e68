//! Partial sums of several blocks, added in order (`sum_partials.cu`).

use super::CudaDevice;
use super::kernel::{Grid, Kernel, kernel};
use super::pointer::Pointer;
use super::tensor::int;
use crate::device::{Precision, Result};

const SUM_PARTIALS: Kernel<(Pointer, Pointer, i32, i32)> = kernel!(SUM_PARTIALS);

type ColumnSums = Kernel<(Pointer, Pointer, i32, i32, i32)>;
const COLUMN_SUMS_F32: ColumnSums = kernel!(COLUMN_SUMS_F32);
const COLUMN_SUMS_BF16: ColumnSums = kernel!(COLUMN_SUMS_BF16);

/// Columns of a block, and threads per column.
const BLOCK: [u32; 2] = [32, 8];

/// `total` `[length] += Σ partials` `[count, length]`, both f32.
///
/// # Safety
/// Both must be of these shapes.
pub(super) unsafe fn sum_partials(
    device: &CudaDevice,
    partials: Pointer,
    count: usize,
    length: usize,
    total: Pointer,
) -> Result<()> {
    let grid = Grid { blocks: [length.div_ceil(32), 1, 1], threads: BLOCK, shared: 0 };
    // SAFETY: as the caller says.
    unsafe { device.driver.launch(&SUM_PARTIALS, grid, (partials, total, int(count)?, int(length)?)) }
}

/// `total` `[width] += Σ_rows x` `[rows, width]`; `x` in the device's precision, `total` f32.
///
/// # Safety
/// Both must be of these shapes.
pub(super) unsafe fn add_column_sums(
    device: &CudaDevice,
    x: Pointer,
    rows: usize,
    width: usize,
    total: Pointer,
) -> Result<()> {
    // Partial sums of blocks of rows, [blocks, width]: at least 64 rows per block, and no more than 64 blocks.
    let block_rows = rows.div_ceil(64).max(64);
    let blocks = rows.div_ceil(block_rows);
    let partials = device.scratch(blocks * width)?;

    let kernel = match device.precision {
        Precision::F32 => &COLUMN_SUMS_F32,
        Precision::Bf16 => &COLUMN_SUMS_BF16,
    };
    let grid = Grid { blocks: [width.div_ceil(32), blocks, 1], threads: BLOCK, shared: 0 };
    // SAFETY: `x` as the caller says; the partials have `blocks` rows.
    unsafe {
        let arguments = (x, partials.pointer(), int(rows)?, int(width)?, int(block_rows)?);
        device.driver.launch(kernel, grid, arguments)?;
        sum_partials(device, partials.pointer(), blocks, width, total)
    }
}
