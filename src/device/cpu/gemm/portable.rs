//! GEMM of any processor, in arrays that the compiler turns into its vectors: on aarch64 those of NEON.

use super::kernel::{Kernel, Left, Operands, Tile, of_height};
use super::matrix::Matrix;
use crate::device::cpu::math::mul_add;

/// Rows of the register tile.
const ROWS: usize = 6;

/// Its columns: four vectors of NEON, whose 6 rows are 24 of its 32 registers; two of SSE, with 16.
const COLUMNS: usize = if cfg!(target_arch = "aarch64") { 16 } else { 8 };

/// Whether multiply-adds are one instruction.
const FMA: bool = cfg!(target_arch = "aarch64");

pub(super) struct Portable;

impl Kernel for Portable {
    #[cfg(test)]
    fn name(&self) -> &'static str {
        "any processor"
    }

    fn tile(&self, in_rows: bool) -> Tile {
        Tile { rows: ROWS, columns: COLUMNS, left_width: (!in_rows).then_some(ROWS) }
    }

    unsafe fn pack(&self, lanes: Matrix<'_>, count: usize, width: usize, step: usize, panels: *mut f32) {
        for (index, first) in (0..lanes.rows).step_by(count).enumerate() {
            let lanes = lanes.part([first, 0], [count.min(lanes.rows - first), lanes.columns]);
            // SAFETY: as the caller promises.
            let panel = unsafe { std::slice::from_raw_parts_mut(panels.add(index * step), lanes.columns * width) };
            if lanes.is_in_rows() {
                for lane in 0..width {
                    let values = if lane < lanes.rows { lanes.row(lane) } else { &[] };
                    let values = values.iter().chain(std::iter::repeat(&0.0));
                    panel[lane..].iter_mut().step_by(width).zip(values).for_each(|(to, from)| *to = *from);
                }
            } else {
                for (term, to) in panel.chunks_exact_mut(width).enumerate() {
                    to[..lanes.rows].copy_from_slice(lanes.column(term));
                    to[lanes.rows..].fill(0.0);
                }
            }
        }
    }

    unsafe fn multiply(&self, operands: Operands, out: *mut f32, stride: usize, add: bool) {
        // SAFETY: as the caller promises.
        unsafe { of_height!(operands.rows, [1 2 3 4 5 6], R => tile::<R>(operands, out, stride, add)) }
    }
}

/// `R` rows of the left operand by a panel.
///
/// # Safety
/// That of [`Kernel::multiply`].
unsafe fn tile<const R: usize>(operands: Operands, out: *mut f32, stride: usize, add: bool) {
    let (left, row_step, term_step) = match operands.left {
        Left::Rows(left, step) => (left, step, 1),
        Left::Terms(left, step) => (left, 1, step),
    };

    let mut sums = [[0.0; COLUMNS]; R];
    for term in 0..operands.terms {
        // SAFETY: as the caller promises.
        let right = unsafe { &*operands.right.add(term * COLUMNS).cast::<[f32; COLUMNS]>() };
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as the caller promises.
            let left = unsafe { *left.add(row * row_step + term * term_step) };
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = mul_add::<FMA>(left, *right, *sum);
            }
        }
    }

    for (row, sums) in sums.iter().enumerate() {
        // SAFETY: as the caller promises.
        let out = unsafe { &mut *out.add(row * stride).cast::<[f32; COLUMNS]>() };
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = if add { *out + sum } else { *sum };
        }
    }
}
