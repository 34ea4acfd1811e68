//! GEMMs: our own on processors with AVX2 but no AVX-512 (`panels`), faer's on all others.
//!
//! A tiny training step on two threads of a Zen 3, in turn, quiet: 424 and 432 ms with faer's, 414 and 396 ms with ours; of S faer's and ours
//! differ by less than the machine does.
//!
//! Measured at the shapes of training steps (two threads, Zen 4, of 221 GFLOP/s): faer 0.24 165 to 207, gemm 0.19 95 to
//! 204, matrixmultiply 0.3 92 to 187.
//!
//! faer's own threads split the GEMM once and wait for each other; our tiles are stolen. A training step of the tiny
//! model (4 images of 1,024 tokens, two threads): alone on the machine 224 ms with faer's threads and 227 ms with
//! tiles, beside other load 756 ms and 446 ms.

use faer::linalg::matmul::matmul;
use faer::reborrow::ReborrowMut;
use faer::{Accum, MatMut, MatRef, Par};

use super::CpuDevice;
#[cfg(target_arch = "x86_64")]
use super::panels;

/// Multiply-adds of a task: enough to pay for packing its operands, few enough that a thread whose core is busy
/// elsewhere does not keep the others waiting.
const TASK: usize = 16 << 20;
/// The same of our own GEMM, at most: it packs for itself in each task. The gradients of a tiny step's weights, whose operands are both
/// packed, took 213 and 222 ms in tasks of 16 Mi, and 158 and 153 ms in larger ones, in turn, beside other load.
const LARGE_TASK: usize = 64 << 20;
/// What halves of the rows and columns are multiples of: register tiles of all kinds (6 × 16; faer's 8 × 48 with AVX-512).
const MIN_ROWS: usize = 24;
const MIN_COLUMNS: usize = 96;

/// Rows of a product below which our own GEMM would spend its time on packing.
const FEW_ROWS: usize = 32;

/// Whose GEMM computes a product: a question of its shape and the processor, so that all parts of it, however they are cut, are added
/// up alike.
#[derive(Clone, Copy)]
enum Gemm {
    Own,
    Faer,
}

impl Gemm {
    fn of(rows: usize) -> Self {
        if rows >= FEW_ROWS && own_suits() { Self::Own } else { Self::Faer }
    }
}

/// Whether this processor is one that our own GEMM is for.
fn own_suits() -> bool {
    #[cfg(target_arch = "x86_64")]
    let suits = panels::suits();
    #[cfg(not(target_arch = "x86_64"))]
    let suits = false;
    suits
}

/// Has this thread reserve the addresses that faer's GEMM packs into: twice the last cache of the processor, of which it touches as much
/// as operands are large. Of a server's cache of 480 MiB they are most of what a shell's limit may leave; reserved when threads start,
/// they are known when a run is fitted to the rest.
pub(super) fn reserve() {
    let ones = [1.0_f32; 64 * 64];
    let mut out = [0.0_f32; 64 * 64];
    let out = MatMut::from_row_major_slice_mut(&mut out, 64, 64);
    matmul(out, Accum::Replace, matrix(&ones, 64, 64), matrix(&ones, 64, 64), 1.0, Par::Seq);
}

/// Bytes that each thread packs operands into.
#[cfg(test)]
pub(crate) fn scratch_of_a_thread() -> usize {
    #[cfg(target_arch = "x86_64")]
    let floats = if own_suits() { panels::SCRATCH } else { 0 };
    #[cfg(not(target_arch = "x86_64"))]
    let floats = 0;
    floats * size_of::<f32>()
}

/// A row-major `[rows, columns]` matrix.
pub(super) fn matrix(data: &[f32], rows: usize, columns: usize) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(data, rows, columns)
}

/// A part of a product: the output, its first row and column in the whole, and the operands.
struct Tile<'a> {
    out: MatMut<'a, f32>,
    row: usize,
    column: usize,
    a: MatRef<'a, f32>,
    b: MatRef<'a, f32>,
}

impl CpuDevice {
    /// `out = a · b`, or `out += a · b` if `add`; `out` is row-major `[a's rows, b's columns]`.
    pub(super) fn matmul(&self, out: &mut [f32], add: bool, a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
        self.matmul_then(out, add, a, b, |_, _, _| ());
    }

    /// [`CpuDevice::matmul`] with an epilogue: `done` gets all finished values, a run of columns of a row at a time, while
    /// they are in the cache. It is told the row and the first of the columns.
    pub(super) fn matmul_then(
        &self,
        out: &mut [f32],
        add: bool,
        a: MatRef<'_, f32>,
        b: MatRef<'_, f32>,
        done: impl Fn(usize, usize, &mut [f32]) + Sync,
    ) {
        let out = MatMut::from_row_major_slice_mut(out, a.nrows(), b.ncols());
        let whole = Tile { out, row: 0, column: 0, a, b };
        let (products, gemm) = (a.nrows() * a.ncols() * b.ncols(), Gemm::of(a.nrows()));
        // On this thread, unless the library would reserve memory for it too; see `reserve`.
        if products <= TASK && matches!(gemm, Gemm::Own) {
            return self.tiles(whole, TASK, gemm, add, &done);
        }

        // Of our own GEMM as much in a task as leaves each thread some of them.
        let task = match gemm {
            Gemm::Own => (products / (4 * self.threads)).clamp(TASK, LARGE_TASK),
            Gemm::Faer => TASK,
        };
        self.pool.install(|| self.tiles(whole, task, gemm, add, &done));
    }

    /// Halves the output until each part is a task of its own that an idle thread can steal. The sum is never split, so
    /// results do not depend on the threads.
    fn tiles(
        &self,
        tile: Tile<'_>,
        task: usize,
        gemm: Gemm,
        add: bool,
        done: &(impl Fn(usize, usize, &mut [f32]) + Sync),
    ) {
        let (rows, columns) = (tile.out.nrows(), tile.out.ncols());

        // Small enough, or too small to halve.
        let splits = (rows >= 2 * MIN_ROWS, columns >= 2 * MIN_COLUMNS);
        if rows * columns * tile.a.ncols() <= task || splits == (false, false) {
            return self.task(tile, gemm, add, done);
        }

        // Halves of the longer side.
        let Tile { out, row, column, a, b } = tile;
        let [first, second] = if splits.0 && (rows >= columns || !splits.1) {
            let half = (rows / 2).next_multiple_of(MIN_ROWS);
            let ((upper, lower), (a_upper, a_lower)) = (out.split_at_row_mut(half), a.split_at_row(half));
            [
                Tile { out: upper, row, column, a: a_upper, b },
                Tile { out: lower, row: row + half, column, a: a_lower, b },
            ]
        } else {
            let half = (columns / 2).next_multiple_of(MIN_COLUMNS);
            let ((left, right), (b_left, b_right)) = (out.split_at_col_mut(half), b.split_at_col(half));
            [
                Tile { out: left, row, column, a, b: b_left },
                Tile { out: right, row, column: column + half, a, b: b_right },
            ]
        };
        rayon::join(|| self.tiles(first, task, gemm, add, done), || self.tiles(second, task, gemm, add, done));
    }

    /// One tile by one thread.
    fn task(&self, tile: Tile<'_>, gemm: Gemm, add: bool, done: &impl Fn(usize, usize, &mut [f32])) {
        match gemm {
            #[cfg(target_arch = "x86_64")]
            Gemm::Own => {
                let Tile { out, row, column, a, b } = tile;
                let done = |tile_row: usize, tile_column: usize, values: &mut [f32]| {
                    done(row + tile_row, column + tile_column, values);
                };
                // SAFETY: the processor has what it needs.
                unsafe { panels::multiply(&mut self.scratch(panels::SCRATCH), out, add, a, b, &done) };
            }
            _ => by_faer(tile, add, done),
        }
    }
}

/// One tile by faer, then the epilogue of its rows.
fn by_faer(tile: Tile<'_>, add: bool, done: &impl Fn(usize, usize, &mut [f32])) {
    let Tile { mut out, row, column, a, b } = tile;
    matmul(out.rb_mut(), if add { Accum::Add } else { Accum::Replace }, a, b, 1.0, Par::Seq);
    let columns = out.ncols();
    for tile_row in 0..out.nrows() {
        // SAFETY: the output is row-major, and this its row.
        let values = unsafe { std::slice::from_raw_parts_mut(out.rb_mut().row_mut(tile_row).as_ptr_mut(), columns) };
        done(row + tile_row, column, values);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A product of every kind of view, added or not, by `multiply`, beside f64; every element is finished once.
    fn multiplies(
        [m, k, n]: [usize; 3],
        multiply: impl Fn(&mut [f32], bool, MatRef<'_, f32>, MatRef<'_, f32>, &(dyn Fn(usize, usize, &mut [f32]) + Sync)),
    ) {
        let values = |len: usize, seed: usize| -> Vec<f32> {
            (0..len).map(|i| ((i + seed) * 7919 % 1009) as f32 / 504.5 - 1.0).collect()
        };
        let (a, b, before) = (values(m * k, 0), values(k * n, 5), values(m * n, 11));
        for (flip_a, flip_b, add) in (0..8).map(|i| (i & 1 != 0, i & 2 != 0, i & 4 != 0)) {
            let a = if flip_a { matrix(&a, k, m).transpose() } else { matrix(&a, m, k) };
            let b = if flip_b { matrix(&b, n, k).transpose() } else { matrix(&b, k, n) };
            let (mut out, finished) = (before.clone(), Mutex::new(vec![0; m * n]));
            multiply(&mut out, add, a, b, &|row, column, values| {
                let mut finished = finished.lock().unwrap();
                finished[row * n + column..][..values.len()].iter_mut().for_each(|times| *times += 1);
                values.iter_mut().for_each(|value| *value *= 2.0);
            });

            assert_eq!(finished.into_inner().unwrap(), vec![1; m * n], "{m} {k} {n}");
            for (index, value) in out.iter().enumerate() {
                let (row, column) = (index / n, index % n);
                let start = if add { f64::from(before[index]) } else { 0.0 };
                let exact = (0..k).fold(start, |sum, i| sum + f64::from(a[(row, i)]) * f64::from(b[(i, column)]));
                let error = (f64::from(*value) - 2.0 * exact).abs();
                assert!(
                    error < 1e-5 * (k as f64 + 1.0),
                    "{m} {k} {n} {flip_a} {flip_b} {add} at {row} {column}: {error}"
                );
            }
        }
    }

    /// Edges of register tiles, panels, blocks of rows, columns and terms.
    const SHAPES: [[usize; 3]; 8] =
        [[1, 1, 1], [32, 3, 15], [33, 9, 16], [49, 513, 17], [53, 8, 257], [97, 1030, 40], [400, 130, 500], [64, 7, 2]];

    #[test]
    fn products_are_right_at_every_edge() {
        for threads in [1, 3] {
            let device = CpuDevice::poisoned(Some(threads)).unwrap();
            for shape in SHAPES {
                multiplies(shape, |out, add, a, b, done| device.matmul_then(out, add, a, b, done));
            }
        }
    }

    /// However the threads cut a product, also where its parts have fewer rows than our own GEMM wants.
    #[test]
    fn bits_do_not_depend_on_threads() {
        for [m, k, n] in [[17, 2048, 1024], [50, 1024, 1024], [60, 600, 1500], [97, 1030, 400]] {
            let values =
                |len: usize| -> Vec<f32> { (0..len).map(|i| (i * 7919 % 1009) as f32 / 504.5 - 1.0).collect() };
            let (a, b) = (values(m * k), values(k * n));
            let products = [1, 2, 3, 7].map(|threads| {
                let mut out = vec![0.0; m * n];
                CpuDevice::new(Some(threads)).unwrap().matmul(&mut out, false, matrix(&a, m, k), matrix(&b, k, n));
                out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            });
            assert!(products.iter().all(|product| *product == products[0]), "{m} {k} {n}");
        }
    }

    #[test]
    fn so_are_those_of_other_processors() {
        for shape in SHAPES {
            multiplies(shape, |out, add, a, b, done| {
                let out = MatMut::from_row_major_slice_mut(out, a.nrows(), b.ncols());
                by_faer(Tile { out, row: 0, column: 0, a, b }, add, &done);
            });
        }
    }
}
