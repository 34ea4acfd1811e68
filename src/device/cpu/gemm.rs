//! Matrix products, by faer.
//!
//! Measured at the shapes of training steps (two threads, Zen 4, of 221 GFLOP/s): faer 0.24 165 to 207, gemm 0.19 95 to 204,
//! matrixmultiply 0.3 92 to 187. Its tiles split rows and columns, never the sum, so results do not depend on the threads.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::CpuDevice;

/// Multiply-adds below which a product stays on one thread.
const SMALL: usize = 64 * 64 * 64;

/// A row-major `[rows, columns]` matrix.
pub(super) fn matrix(data: &[f32], rows: usize, columns: usize) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(data, rows, columns)
}

impl CpuDevice {
    /// `out = a · b`, or `out += a · b` if `add`; `out` is row-major `[a's rows, b's columns]`.
    pub(super) fn matmul(&self, out: &mut [f32], add: bool, a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
        let accumulate = if add { Accum::Add } else { Accum::Replace };
        let out = MatMut::from_row_major_slice_mut(out, a.nrows(), b.ncols());
        if self.threads == 1 || a.nrows() * a.ncols() * b.ncols() < SMALL {
            matmul(out, accumulate, a, b, 1.0, Par::Seq);
        } else {
            self.pool.install(|| matmul(out, accumulate, a, b, 1.0, Par::rayon(self.threads)));
        }
    }
}
