//! GEMMs, by faer.
//!
//! Measured at the shapes of training steps (two threads, Zen 4, of 221 GFLOP/s): faer 0.24 165 to 207, gemm 0.19 95 to
//! 204, matrixmultiply 0.3 92 to 187.
//!
//! faer's own threads split the GEMM once and wait for each other; our tiles are stolen. A training step of the tiny
//! model (4 images of 1,024 tokens, two threads): alone on the machine 224 ms with faer's threads and 227 ms with
//! tiles, beside other load 756 ms and 446 ms.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::CpuDevice;

/// Multiply-adds of a task: enough to pay for packing its operands, few enough that a thread whose core is busy
/// elsewhere does not keep the others waiting.
const TASK: usize = 16 << 20;
/// Rows and columns of the smallest task: two of faer's register tiles (8 × 48 with AVX-512).
const MIN_ROWS: usize = 16;
const MIN_COLUMNS: usize = 96;

/// A row-major `[rows, columns]` matrix.
pub(super) fn matrix(data: &[f32], rows: usize, columns: usize) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(data, rows, columns)
}

impl CpuDevice {
    /// `out = a · b`, or `out += a · b` if `add`; `out` is row-major `[a's rows, b's columns]`.
    pub(super) fn matmul(&self, out: &mut [f32], add: bool, a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
        let accumulate = if add { Accum::Add } else { Accum::Replace };
        let out = MatMut::from_row_major_slice_mut(out, a.nrows(), b.ncols());
        if a.nrows() * a.ncols() * b.ncols() <= TASK {
            tiles(out, accumulate, a, b);
        } else {
            self.pool.install(|| tiles(out, accumulate, a, b));
        }
    }
}

/// Halves the output until each part is a task of its own that an idle thread can steal. The sum is never split, so
/// results do not depend on the threads.
fn tiles(out: MatMut<'_, f32>, accumulate: Accum, a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
    let (rows, columns) = (out.nrows(), out.ncols());

    // Small enough, or too small to halve.
    let splits = (rows >= 2 * MIN_ROWS, columns >= 2 * MIN_COLUMNS);
    if rows * columns * a.ncols() <= TASK || splits == (false, false) {
        return matmul(out, accumulate, a, b, 1.0, Par::Seq);
    }

    // Halves of the longer side.
    if splits.0 && (rows >= columns || !splits.1) {
        let half = (rows / 2).next_multiple_of(MIN_ROWS);
        let ((upper, lower), (a_upper, a_lower)) = (out.split_at_row_mut(half), a.split_at_row(half));
        rayon::join(|| tiles(upper, accumulate, a_upper, b), || tiles(lower, accumulate, a_lower, b));
    } else {
        let half = (columns / 2).next_multiple_of(MIN_COLUMNS);
        let ((left, right), (b_left, b_right)) = (out.split_at_col_mut(half), b.split_at_col(half));
        rayon::join(|| tiles(left, accumulate, a, b_left), || tiles(right, accumulate, a, b_right));
    }
}
