//! What a GEMM needs of a kind of processor: its register tiles, and the packing of operands for them.

use super::matrix::Matrix;

/// Rows and columns of the largest register tile of all kernels.
pub(super) const MAX_TILE: usize = 14 * 32;

/// A register tile.
#[derive(Clone, Copy)]
pub(in crate::device::cpu) struct Tile {
    /// Rows, at most.
    pub rows: usize,
    pub columns: usize,
    /// Floats of a term of a packed left panel: the rows, rounded up to whole vectors. `None` where the left operand is read in place.
    pub left_width: Option<usize>,
}

/// The kernel of one kind of processor.
///
/// The right operand is packed into panels of as many columns as the register tile has, `[terms, columns]`, so that the tile reads them from one
/// end to the other. The left one is read where it lies if its rows are contiguous, which saves packing what most products of a step have
/// on the left, activations: the tile has few rows then, whose cache lines do not push each other out. If its columns are, as in
/// the gradient of a weight, a tile of many rows reads it in place too, one of few has it packed into panels of as many.
pub(in crate::device::cpu) trait Kernel: Sync {
    /// What it is for, as test failures name it.
    #[cfg(test)]
    fn name(&self) -> &'static str;

    /// Its register tile, for a left operand in rows or in columns; one in rows is read in place.
    fn tile(&self, in_rows: bool) -> Tile;

    /// Packs lanes, `[lanes, terms]` (rows of the left operand or columns of the right one), into panels of `count` lanes, `step` floats
    /// apart: `[terms, width]` each, with zeros in lanes that there are not.
    ///
    /// # Safety
    /// The processor is of this kind; `width` is that of its tile, and `count` no more. Panels of all lanes are there, and nothing else uses them.
    unsafe fn pack(&self, lanes: Matrix<'_>, count: usize, width: usize, step: usize, panels: *mut f32);

    /// Multiplies: `out = left · right`, or `out += left · right` if `add`.
    ///
    /// # Safety
    /// The processor is of this kind. `rows` is 1 to that of the tile; all operands are there; `out` is `rows` rows of as many floats as the
    /// tile has columns, `stride` apart, which nothing else uses.
    unsafe fn multiply(&self, operands: Operands, out: *mut f32, stride: usize, add: bool);
}

/// Rows of the left operand, and a panel of the right one.
#[derive(Clone, Copy)]
pub(in crate::device::cpu) struct Operands {
    pub rows: usize,
    pub terms: usize,
    pub left: Left,
    /// `[terms, columns]`.
    pub right: *const f32,
}

/// Rows of the left operand.
#[derive(Clone, Copy)]
pub(in crate::device::cpu) enum Left {
    /// Row after row, so many floats apart, the terms of each side by side.
    Rows(*const f32, usize),
    /// Term after term, so many floats apart, the rows of each side by side: in place, or a packed panel.
    Terms(*const f32, usize),
}

/// Computes `$call` with the constant `$height` set to what `$rows` is: a function for each height keeps its sums in registers.
macro_rules! of_height {
    ($rows:expr, [$($rows_of_tile:literal)*], $height:ident => $call:expr) => {
        match $rows {
            $($rows_of_tile => {
                const $height: usize = $rows_of_tile;
                $call
            })*
            rows => unreachable!("a register tile of {rows} rows"),
        }
    };
}
pub(super) use of_height;
