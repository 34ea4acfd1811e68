//! Partial sums of several blocks, added in order (`sum_partials.cu`).

use super::CudaDevice;
use super::kernel::{Argument, Grid, Kernel, Kind, kernel};
use super::pointer::{NULL, Pointer};
use super::tensor::int;
use crate::device::{Beta, Precision, Result};

const SUM_SPLITS: Kernel<(Pointer, Pointer, i32, i32, i32)> = kernel!(SUM_SPLITS);
const SUM_PARTIALS: Kernel<(Sums, i32, i32, i32)> = kernel!(SUM_PARTIALS);

/// Sums of one launch of `sum_partials`.
const SUMS: usize = 128;

/// `Sums` of `sum_partials.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Sums {
    partials: [Pointer; SUMS],
    totals: [Pointer; SUMS],
}

impl Argument for Sums {
    const KIND: Kind = Kind::structure::<Self>();
}

type ColumnSums = Kernel<(Pointer, Pointer, i32, i32, i32)>;
const COLUMN_SUMS_F32: ColumnSums = kernel!(COLUMN_SUMS_F32);
const COLUMN_SUMS_BF16: ColumnSums = kernel!(COLUMN_SUMS_BF16);

/// Columns of a block, and threads per column.
const BLOCK: [u32; 2] = [32, 8];

/// `total` `[length] = or += Σ partials` `[count, length]`, both f32: a few long rows.
///
/// # Safety
/// Both must be of these shapes.
pub(super) unsafe fn sum_splits(
    device: &CudaDevice,
    partials: Pointer,
    count: usize,
    length: usize,
    total: Pointer,
    beta: Beta,
) -> Result<()> {
    let grid = Grid::line(length.div_ceil(1024), 256);
    let arguments = (partials, total, int(count)?, int(length)?, i32::from(beta.adds()));
    // SAFETY: as the caller says.
    unsafe { device.driver.launch(&SUM_SPLITS, grid, arguments) }
}

/// Of each of `sums`, partials and total: `total` `[length] = or += Σ partials` `[count, length]`, all f32: many short rows.
///
/// # Safety
/// All must be of these shapes, and the totals different ones.
pub(super) unsafe fn sum_partials(
    device: &CudaDevice,
    sums: &[[Pointer; 2]],
    count: usize,
    length: usize,
    beta: Beta,
) -> Result<()> {
    for sums in sums.chunks(SUMS) {
        let mut list = Sums { partials: [NULL; SUMS], totals: [NULL; SUMS] };
        for (index, [partials, total]) in sums.iter().enumerate() {
            (list.partials[index], list.totals[index]) = (*partials, *total);
        }
        let grid = Grid { blocks: [length.div_ceil(32), sums.len(), 1], threads: BLOCK, ..Grid::line(1, 1) };
        // SAFETY: as the caller says.
        unsafe {
            let arguments = (list, int(count)?, int(length)?, i32::from(beta.adds()));
            device.driver.launch(&SUM_PARTIALS, grid, arguments)?;
        }
    }
    Ok(())
}

/// `total` `[width] = or += Σ_rows x` `[rows, width]`; `x` in the device's precision, `total` f32.
///
/// # Safety
/// Both must be of these shapes.
pub(super) unsafe fn sum_columns(
    device: &CudaDevice,
    x: Pointer,
    rows: usize,
    width: usize,
    total: Pointer,
    beta: Beta,
) -> Result<()> {
    // Partial sums of blocks of rows, [blocks, width]: at least 64 rows per block, and no more than 64 blocks.
    let block_rows = rows.div_ceil(64).max(64);
    let blocks = rows.div_ceil(block_rows);
    let partials = device.scratch(blocks * width)?;

    let kernel = match device.precision {
        Precision::F32 => &COLUMN_SUMS_F32,
        Precision::Bf16 => &COLUMN_SUMS_BF16,
    };
    let grid = Grid { blocks: [width.div_ceil(32), blocks, 1], threads: BLOCK, ..Grid::line(1, 1) };
    // SAFETY: `x` as the caller says; the partials have `blocks` rows.
    unsafe {
        let arguments = (x, partials.pointer(), int(rows)?, int(width)?, int(block_rows)?);
        device.driver.launch(kernel, grid, arguments)?;
        sum_partials(device, &[[partials.pointer(), total]], blocks, width, beta)
    }
}
