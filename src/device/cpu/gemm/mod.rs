//! GEMMs, of our own.
//!
//! The right operand is packed once for all threads, a part of at most 4 MiB at a time, and so is the left one where its rows are not
//! contiguous and the register tile is low. Then tasks multiply blocks of rows by the panels, in register tiles ([`kernel`]). Every sum is over the terms in
//! order, in pieces of [`TERMS`], whatever the threads and the other rows and columns: results depend on neither.
//!
//! GFLOP/s in training steps (two threads of a Zen 4 of 235, alone on the machine, in turn, two runs), faer 0.24 in tasks of 16 Mi multiply-adds and
//! ours: of tiny x · W 178-181 and 203-206, dy · Wᵀ 191-200 and 207-212, xᵀ · dy 138-152 and 152-158; of S 199-203 and 205-215, 191 and 206-210, and
//! of xᵀ · dy no more than faer's, 184-187 and 181-185, as long as both operands were packed. With xᵀ read in place (AVX-512), in turn, three runs: of tiny
//! 148-158 -> 163-181, of S 178-189 -> 190-200. Before that were measured, at the same shapes: faer 165 to 207, gemm 0.19 95 to 204,
//! matrixmultiply 0.3 92 to 187. What others reach who are not written in Rust, by themselves and not in a step: oneDNN 3.12 (PyTorch's mkldnn linear) x · W
//! 212 to 218, in its own layout 217 to 224, and xᵀ · dy by way of copies 75 to 173; MKL, told that the processor is one of Intel's, 214 to 226 and 198 to 216.
//!
//! Lost: groups of columns before blocks of rows where both operands are packed, so that a task reads less (tiny's xᵀ · dy 139), parts of 512 terms,
//! which stay in the L2 caches (140), 1,024 terms at a time in registers (S's x · W 204), and a left operand packed by each task (tiny's x · W 168).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod kernel;
mod matrix;
#[cfg(target_arch = "x86_64")]
mod packing;
mod portable;
mod processor;

use std::ops::Range;

pub(super) use self::kernel::Kernel;
use self::kernel::{Left, MAX_TILE, Operands, Tile};
pub(super) use self::matrix::{Matrix, matrix};
pub(super) use self::processor::fastest;
use super::CpuDevice;
use super::parallel::Scattered;

/// Terms that are summed in registers before they are added to the output.
const TERMS: usize = 512;

/// Terms that a task packs at once of an operand whose lanes lie side by side.
const PACKED_TERMS: usize = 64;

/// Rows of a block, about, at most: their terms fill a fraction of an L2 cache.
const BLOCK_ROWS: usize = 96;

/// Floats of an operand that are packed at once.
const PACKED: usize = 1 << 20;

/// Columns whose results are finished while they are in the L2 cache, and that a task has at least.
const STRIP: usize = 128;

/// Multiply-adds that a task is worth.
const SMALL: usize = 1 << 20;

/// Tasks for each thread, where there is so much to do: the last ones leave few idle, and threads whose core is busy elsewhere keep
/// nobody waiting.
const TASKS: usize = 8;

/// Gets each finished run of columns of a row while it is in the cache: the row, the first column, and the values.
type Finish<'a> = dyn Fn(usize, usize, &mut [f32]) + Sync + 'a;

/// `out = a · b`, or `out += a · b` if `add`.
struct Product<'a> {
    out: Scattered<'a>,
    add: bool,
    a: Matrix<'a>,
    b: Matrix<'a>,
    finish: Option<&'a Finish<'a>>,
    tile: Tile,
}

/// Some terms and columns of a product, for which the operands are packed: for each [`TERMS`] terms its panels one after the other.
struct Part<'a> {
    terms: Range<usize>,
    columns: Range<usize>,
    /// All rows of the left operand; nothing where it is read in place.
    left: &'a [f32],
    right: &'a [f32],
}

/// Floats that operands are packed into at most.
#[cfg(test)]
pub(crate) fn scratch() -> usize {
    2 * (PACKED + TERMS * STRIP)
}

impl CpuDevice {
    /// `out = a · b`, or `out += a · b` if `add`; `out` is row-major `[a's rows, b's columns]`.
    pub(super) fn matmul(&self, out: &mut [f32], add: bool, a: Matrix<'_>, b: Matrix<'_>) {
        self.product(out, add, a, b, None);
    }

    /// [`CpuDevice::matmul`] with an epilogue: `finish` gets all finished values, a run of columns of a row at a time, while
    /// they are in the cache. It is told the row and the first of the columns.
    pub(super) fn matmul_then(
        &self,
        out: &mut [f32],
        add: bool,
        a: Matrix<'_>,
        b: Matrix<'_>,
        finish: impl Fn(usize, usize, &mut [f32]) + Sync,
    ) {
        self.product(out, add, a, b, Some(&finish));
    }

    fn product(&self, out: &mut [f32], add: bool, a: Matrix<'_>, b: Matrix<'_>, finish: Option<&Finish<'_>>) {
        assert!(a.columns == b.rows && out.len() == a.rows * b.columns, "operands of a product that do not fit");
        let tile = self.kernel.tile(a.is_in_rows());
        let product = Product { out: Scattered::new(out), add, a, b, finish, tile };
        if self.threads == 1 || a.rows * a.columns * b.columns <= SMALL {
            self.parts(&product);
        } else {
            self.pool.install(|| self.parts(&product));
        }
    }

    /// Part after part: as many terms as may be packed of all columns, or of some of them.
    fn parts(&self, product: &Product<'_>) {
        let Product { a, b, tile, .. } = *product;
        let (terms, columns) = (b.rows, b.columns.next_multiple_of(tile.columns));
        let rows = a.rows.div_ceil(tile.rows) * tile.left_width.unwrap_or(0);
        let part_terms = terms.min((PACKED / columns.max(rows) / TERMS).max(1) * TERMS);
        let part_columns = columns.min((PACKED / part_terms / STRIP).max(1) * STRIP);

        let (mut left, mut right) = (self.scratch(part_terms * rows), self.scratch(part_terms * part_columns));
        for first in (0..terms).step_by(part_terms) {
            let terms = first..terms.min(first + part_terms);
            if let Some(width) = tile.left_width {
                let lanes = a.part([0, terms.start], [a.rows, terms.len()]);
                self.pack(lanes, tile.rows, width, &mut left);
            }
            for first in (0..b.columns).step_by(part_columns) {
                let columns = first..b.columns.min(first + part_columns);
                let lanes = b.part([terms.start, columns.start], [terms.len(), columns.len()]).transpose();
                self.pack(lanes, tile.columns, tile.columns, &mut right);
                self.multiply(product, &Part { terms: terms.clone(), columns, left: &left, right: &right });
            }
        }
    }

    /// Packs `[lanes, terms]` for each [`TERMS`] terms into panels of `count` lanes, `width` floats a term.
    fn pack(&self, lanes: Matrix<'_>, count: usize, width: usize, packed: &mut [f32]) {
        let panels = lanes.rows.div_ceil(count);
        // What is read from one end to the other: a panel's lanes, or some terms of all lanes.
        let (pieces, piece_terms) =
            if lanes.is_in_rows() { (panels, TERMS) } else { (TERMS / PACKED_TERMS, PACKED_TERMS) };
        let packed = Scattered::new(packed);
        let tasks = lanes.columns.div_ceil(TERMS) * pieces;

        self.for_each_block(tasks, lanes.columns * lanes.rows, [], |index, []| {
            // Which lanes and terms this is about.
            let (block, piece) = (index / pieces * TERMS, index % pieces);
            let step = TERMS.min(lanes.columns - block) * width;
            let (lane, term) = if lanes.is_in_rows() { (piece * count, 0) } else { (0, piece * piece_terms) };
            let lane_count = if lanes.is_in_rows() { count.min(lanes.rows - lane) } else { lanes.rows };
            let terms = piece_terms.min((step / width).saturating_sub(term));

            // Where they go.
            if terms > 0 {
                let first = block * panels * width + lane / count * step + term * width;
                let last = (lane_count.div_ceil(count) - 1) * step + terms * width;
                let to = packed.pointer(first, last);
                let lanes = lanes.part([lane, block + term], [lane_count, terms]);
                // SAFETY: the processor has this kernel; so much was just found to be there; these terms of these panels are this task's alone.
                unsafe { self.kernel.pack(lanes, count, width, step, to) };
            }
        });
    }

    /// Multiplies all rows of the left operand by the part's columns.
    fn multiply(&self, product: &Product<'_>, part: &Part<'_>) {
        // As many tasks as leave each thread some, in blocks of rows as long as these are no lower than two register tiles, and in
        // groups of columns if that does not make enough.
        let (tile, columns) = (product.tile, part.columns.len());
        let wanted = (product.a.rows * columns * part.terms.len() / SMALL).clamp(1, TASKS * self.threads);
        let tiles = product.a.rows.div_ceil(tile.rows);
        let blocks = wanted.clamp(tiles.div_ceil(BLOCK_ROWS / tile.rows), tiles.div_ceil(2));
        let groups = wanted.div_ceil(blocks).min(columns.div_ceil(STRIP));

        let (work, strips) = (if wanted == 1 { 0 } else { usize::MAX }, columns.div_ceil(STRIP));
        self.for_each_block(blocks * groups, work, [], |index, []| {
            let (block, group) = (index / groups, index % groups);
            let tiles = tiles * block / blocks..tiles * (block + 1) / blocks;
            self.block(product, part, tiles, strips * group / groups..strips * (group + 1) / groups);
        });
    }

    /// Some register tiles above each other by some strips of columns.
    fn block(&self, product: &Product<'_>, part: &Part<'_>, tiles: Range<usize>, strips: Range<usize>) {
        let Product { a, b, tile, .. } = product;
        let panels = part.columns.len().div_ceil(tile.columns);
        for first in (0..part.terms.len()).step_by(TERMS) {
            let (terms, term) = (TERMS.min(part.terms.len() - first), part.terms.start + first);
            let left = |index: usize| match tile.left_width {
                None if a.is_in_rows() => Left::Rows(a.place(index * tile.rows, term), a.step()),
                None => Left::Terms(a.place(index * tile.rows, term), a.step()),
                Some(width) => {
                    let all = a.rows.div_ceil(tile.rows) * width;
                    Left::Terms(part.left[first * all + index * terms * width..].as_ptr(), width)
                }
            };

            for strip in strips.clone() {
                let columns = strip * STRIP..part.columns.len().min((strip + 1) * STRIP);
                for panel in columns.start / tile.columns..columns.end.div_ceil(tile.columns) {
                    let right = &part.right[(first * panels + panel * terms) * tile.columns..][..terms * tile.columns];
                    for index in tiles.clone() {
                        let row = index * tile.rows;
                        let rows = tile.rows.min(a.rows - row);
                        let operands = Operands { rows, terms, left: left(index), right: right.as_ptr() };
                        let column = part.columns.start + panel * tile.columns;
                        self.tile(product, operands, [row, column], product.add || term > 0);
                    }
                }

                // The last terms: these results are whole.
                if let Some(finish) = product.finish.filter(|_| term + terms == b.rows) {
                    let column = part.columns.start + columns.start;
                    for row in tiles.start * tile.rows..a.rows.min(tiles.end * tile.rows) {
                        // SAFETY: these columns of these rows are this task's alone.
                        let values = unsafe { product.out.part(row * b.columns + column, columns.len()) };
                        finish(row, column, values);
                    }
                }
            }
        }
    }

    /// One register tile of the output, from `row` and `column` on.
    fn tile(&self, product: &Product<'_>, operands: Operands, [row, column]: [usize; 2], add: bool) {
        let (width, stride) = (product.tile.columns, product.b.columns);
        let columns = width.min(stride - column);
        if columns == width {
            let out = product.out.pointer(row * stride + column, (operands.rows - 1) * stride + columns);
            // SAFETY: the processor has this kernel; the operands have so many rows and terms; these columns of these rows are this task's alone.
            return unsafe { self.kernel.multiply(operands, out, stride, add) };
        }

        // At the edge into a tile of its own, and from there into the columns that there are.
        let mut edge = [0.0; MAX_TILE];
        // SAFETY: as above, and the edge has room for the largest tile.
        unsafe { self.kernel.multiply(operands, edge.as_mut_ptr(), width, false) };
        for (sums, row) in edge.chunks_exact(width).zip(row..row + operands.rows) {
            // SAFETY: as above.
            let out = unsafe { product.out.part(row * stride + column, columns) };
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = if add { *out + sum } else { *sum };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A product of every kind of view, added or not, by `multiply`, beside f64; every element is finished once.
    fn multiplies(
        [m, k, n]: [usize; 3],
        multiply: impl Fn(&mut [f32], bool, Matrix<'_>, Matrix<'_>, &(dyn Fn(usize, usize, &mut [f32]) + Sync)),
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
                let exact = (0..k).fold(start, |sum, i| sum + f64::from(a.at(row, i)) * f64::from(b.at(i, column)));
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
        for (kernel, threads) in processor::all().into_iter().flat_map(|kernel| [(kernel, 1), (kernel, 3)]) {
            let device = CpuDevice { kernel, ..CpuDevice::poisoned(Some(threads)).unwrap() };
            println!("{}", kernel.name());
            for shape in SHAPES {
                multiplies(shape, |out, add, a, b, done| device.matmul_then(out, add, a, b, done));
            }
        }
    }

    /// However the threads cut a product, and whatever rows stand beside one.
    #[test]
    fn bits_depend_on_neither_threads_nor_other_rows() {
        for [m, k, n] in [[17, 2048, 1024], [50, 1024, 1024], [60, 600, 1500], [97, 1030, 400]] {
            let values =
                |len: usize| -> Vec<f32> { (0..len).map(|i| (i * 7919 % 1009) as f32 / 504.5 - 1.0).collect() };
            let (a, b) = (values(m * k), values(k * n));
            for kernel in processor::all() {
                let product = |threads: usize, rows: usize| {
                    let device = CpuDevice { kernel, ..CpuDevice::new(Some(threads)).unwrap() };
                    let mut out = vec![0.0; rows * n];
                    device.matmul(&mut out, false, matrix(&a[..rows * k], rows, k), matrix(&b, k, n));
                    out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                let whole = product(1, m);
                for (threads, rows) in [(2, m), (3, m), (7, m), (2, 1), (3, 14)] {
                    assert!(product(threads, rows) == whole[..rows * n], "{} {m} {k} {n}: {threads}", kernel.name());
                }
            }
        }
    }
}
