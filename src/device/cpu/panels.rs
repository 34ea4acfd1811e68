//! GEMM for x86 processors with AVX2 and FMA but no AVX-512.
//!
//! The register tile is 6 × 16: 12 registers of accumulators, 2 of the right operand, 1 of the left, broadcast. The right operand is packed
//! into panels of 16 columns. The left operand is read where it lies if its rows are contiguous: 16 steps read a cache line of each
//! of 6 rows, which saves the packing of what most products of a step have on the left, activations. If its columns are, as in
//! the gradient of a weight, it is packed into panels of 6 rows.

use std::arch::x86_64::{
    __m256, _MM_HINT_T0, _mm_prefetch, _mm256_add_ps, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_permute2f128_ps, _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_storeu_ps, _mm256_unpackhi_ps,
    _mm256_unpacklo_ps,
};

use faer::reborrow::ReborrowMut;
use faer::{MatMut, MatRef};

/// Rows and columns of the register tile.
pub(super) const ROWS: usize = 6;
pub(super) const COLUMNS: usize = 16;

/// Terms that are summed before the accumulators go to memory.
const DEPTH: usize = 512;
/// Rows that meet every panel of the right operand while they are in the L2 cache.
const BLOCK_ROWS: usize = 8 * ROWS;
/// Columns whose panels are packed at once.
const BLOCK_COLUMNS: usize = 16 * COLUMNS;

/// Floats that [`multiply`] packs operands into.
pub(super) const SCRATCH: usize = (BLOCK_ROWS + BLOCK_COLUMNS) * DEPTH;

/// Whether this processor is one that this is for.
pub(super) fn suits() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && !is_x86_feature_detected!("avx512f")
}

/// `out = a · b`, or `out += a · b` if `add`. `done` is called with the number of each finished row and a run of its columns, the first
/// of which is named, while they are in the cache.
///
/// Rows or columns of each operand are contiguous; those of `out` are its rows.
///
/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn multiply(
    scratch: &mut [f32],
    mut out: MatMut<'_, f32>,
    add: bool,
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    done: &impl Fn(usize, usize, &mut [f32]),
) {
    let (rows, columns, depth) = (a.nrows(), b.ncols(), a.ncols());
    let (left, right) = scratch.split_at_mut(BLOCK_ROWS * DEPTH);
    for column in (0..columns).step_by(BLOCK_COLUMNS) {
        let width = BLOCK_COLUMNS.min(columns - column);
        for term in (0..depth).step_by(DEPTH) {
            let terms = DEPTH.min(depth - term);
            pack_right(b.submatrix(term, column, terms, width), right);

            for row in (0..rows).step_by(BLOCK_ROWS) {
                let height = BLOCK_ROWS.min(rows - row);
                let left = Left::new(a.submatrix(row, term, height, terms), left);
                let mut block = out.rb_mut().submatrix_mut(row, column, height, width);
                let panels = right.chunks_exact(terms * COLUMNS);
                for (panel, first) in panels.zip((0..width).step_by(COLUMNS)) {
                    let columns = COLUMNS.min(width - first);
                    panel_product(&left, panel, block.rb_mut().subcols_mut(first, columns), add || term > 0);
                }

                // The last terms: these results are whole.
                if term + terms == depth {
                    for (index, row) in (row..row + height).enumerate() {
                        // SAFETY: the row's columns are contiguous, and borrowed with the block.
                        let values = unsafe {
                            std::slice::from_raw_parts_mut(block.rb_mut().row_mut(index).as_ptr_mut(), width)
                        };
                        done(row, column, values);
                    }
                }
            }
        }
    }
}

/// Rows of the left operand, as the register tile reads them.
struct Left {
    /// The first value of each [`ROWS`] rows.
    start: *const f32,
    /// Floats from one such panel to the next, from row to row, and from term to term.
    panel: usize,
    row: usize,
    term: usize,
    rows: usize,
    terms: usize,
}

impl Left {
    /// Rows that are contiguous stay where they are; others are packed into `scratch`.
    #[target_feature(enable = "avx2,fma")]
    fn new(a: MatRef<'_, f32>, scratch: &mut [f32]) -> Self {
        let (rows, terms) = (a.nrows(), a.ncols());
        if a.col_stride() == 1 {
            let stride = a.row_stride() as usize;
            return Self { start: a.as_ptr(), panel: ROWS * stride, row: stride, term: 1, rows, terms };
        }

        for (panel, first) in scratch.chunks_exact_mut(terms * ROWS).zip((0..rows).step_by(ROWS)) {
            let height = ROWS.min(rows - first);
            for (term, out) in panel.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
                // SAFETY: `height` rows from `first` on of this column, which are contiguous.
                let column = unsafe { std::slice::from_raw_parts(a.ptr_at(first, term), height) };
                match column.as_array::<ROWS>() {
                    Some(whole) => *out = *whole,
                    None => out[..height].copy_from_slice(column),
                }
            }
        }
        Self { start: scratch.as_ptr(), panel: terms * ROWS, row: 1, term: ROWS, rows, terms }
    }
}

/// Packs the right operand into panels of [`COLUMNS`] columns, the last padded by zeros: `[columns / 16, terms, 16]`.
#[target_feature(enable = "avx2,fma")]
fn pack_right(b: MatRef<'_, f32>, out: &mut [f32]) {
    let (terms, columns) = (b.nrows(), b.ncols());
    for (panel, first) in out.chunks_exact_mut(terms * COLUMNS).zip((0..columns).step_by(COLUMNS)) {
        let width = COLUMNS.min(columns - first);
        let (panel, _) = panel.as_chunks_mut::<COLUMNS>();

        // Rows that are contiguous are copied.
        if b.col_stride() == 1 {
            for (term, out) in panel.iter_mut().enumerate() {
                // SAFETY: `width` columns from `first` on of this row, which are contiguous.
                let row = unsafe { std::slice::from_raw_parts(b.ptr_at(term, first), width) };
                match row.as_array::<COLUMNS>() {
                    Some(whole) => *out = *whole,
                    None => {
                        out[..width].copy_from_slice(row);
                        out[width..].fill(0.0);
                    }
                }
            }
            continue;
        }

        // Columns that are contiguous are transposed, 8 × 8 at a time.
        let whole = if width == COLUMNS { terms - terms % 8 } else { 0 };
        for term in (0..whole).step_by(8) {
            for half in [0, 8] {
                // SAFETY: 8 terms of 8 columns of `b`, which are contiguous, and 8 rows of 8 floats of the panel.
                unsafe {
                    let stride = b.col_stride() as usize;
                    transpose(b.ptr_at(term, first + half), stride, panel[term][half..].as_mut_ptr());
                }
            }
        }
        for (term, out) in panel.iter_mut().enumerate().skip(whole) {
            *out = std::array::from_fn(|column| if column < width { b[(term, first + column)] } else { 0.0 });
        }
    }
}

/// Writes the transpose of 8 runs of 8 floats, `stride` apart, into 8 runs that are [`COLUMNS`] apart.
///
/// # Safety
/// All of them can be read and written.
#[target_feature(enable = "avx2,fma")]
unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32) {
    // SAFETY: as the caller promises.
    let rows: [__m256; 8] = std::array::from_fn(|row| unsafe { _mm256_loadu_ps(from.add(row * stride)) });

    // Pairs, then fours, then the halves of all eight.
    let pair = |i: usize| [_mm256_unpacklo_ps(rows[i], rows[i + 1]), _mm256_unpackhi_ps(rows[i], rows[i + 1])];
    let pairs = [pair(0), pair(2), pair(4), pair(6)];
    let four = |i: usize, half: usize| {
        let (low, high) = (pairs[i][half], pairs[i + 1][half]);
        [_mm256_shuffle_ps::<0x44>(low, high), _mm256_shuffle_ps::<0xee>(low, high)]
    };
    let fours = [four(0, 0), four(0, 1), four(2, 0), four(2, 1)];
    for column in 0..4 {
        let (upper, lower) = (fours[column / 2][column % 2], fours[2 + column / 2][column % 2]);
        // SAFETY: as the caller promises.
        unsafe {
            _mm256_storeu_ps(to.add(column * COLUMNS), _mm256_permute2f128_ps::<0x20>(upper, lower));
            _mm256_storeu_ps(to.add((column + 4) * COLUMNS), _mm256_permute2f128_ps::<0x31>(upper, lower));
        }
    }
}

/// The rows of `left` by one panel, into at most [`COLUMNS`] columns of `out`.
#[target_feature(enable = "avx2,fma")]
fn panel_product(left: &Left, panel: &[f32], mut out: MatMut<'_, f32>, add: bool) {
    let (columns, stride) = (out.ncols(), out.row_stride() as usize);
    let mut edge = [[0.0; COLUMNS]; ROWS];
    for first in (0..left.rows).step_by(ROWS) {
        let rows = ROWS.min(left.rows - first);

        // SAFETY: rows `first ..` of the left operand, `terms` rows of 16 floats of the panel, and `rows` rows of 16 floats of the output, or
        // of the edge's copy where the output has fewer.
        unsafe {
            let start = left.start.add(first / ROWS * left.panel);
            let whole = out.rb_mut().ptr_inbounds_at_mut(first, 0);
            let (to, to_stride) =
                if columns == COLUMNS { (whole, stride) } else { (edge.as_mut_ptr().cast(), COLUMNS) };
            let add_there = add && columns == COLUMNS;
            match rows {
                6 => register_tile::<6>(left, start, panel.as_ptr(), to, to_stride, add_there),
                5 => register_tile::<5>(left, start, panel.as_ptr(), to, to_stride, add_there),
                4 => register_tile::<4>(left, start, panel.as_ptr(), to, to_stride, add_there),
                3 => register_tile::<3>(left, start, panel.as_ptr(), to, to_stride, add_there),
                2 => register_tile::<2>(left, start, panel.as_ptr(), to, to_stride, add_there),
                _ => register_tile::<1>(left, start, panel.as_ptr(), to, to_stride, add_there),
            }
        }

        // From the copy into the columns that there are.
        if columns < COLUMNS {
            for (row, sums) in edge.iter().enumerate().take(rows) {
                for (column, sum) in sums.iter().enumerate().take(columns) {
                    let out = &mut out[(first + row, column)];
                    *out = if add { *out + sum } else { *sum };
                }
            }
        }
    }
}

/// `R` rows of the left operand by one panel.
///
/// # Safety
/// `R` rows from `start` on and the panel can be read, `R` rows of 16 floats of `out` written.
#[target_feature(enable = "avx2,fma")]
unsafe fn register_tile<const R: usize>(
    left: &Left,
    start: *const f32,
    panel: *const f32,
    out: *mut f32,
    stride: usize,
    add: bool,
) {
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    let (mut a, mut b) = (start, panel);
    // SAFETY: as the caller promises; a prefetch may point anywhere.
    unsafe {
        for row in 0..R {
            _mm_prefetch::<_MM_HINT_T0>(out.wrapping_add(row * stride).cast());
        }
        for _ in 0..left.terms {
            let right = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
            for (row, sums) in sums.iter_mut().enumerate() {
                let left = _mm256_broadcast_ss(&*a.add(row * left.row));
                sums[0] = _mm256_fmadd_ps(left, right[0], sums[0]);
                sums[1] = _mm256_fmadd_ps(left, right[1], sums[1]);
            }
            a = a.wrapping_add(left.term);
            b = b.wrapping_add(COLUMNS);
        }

        for (row, sums) in sums.iter().enumerate() {
            for (half, sum) in sums.iter().enumerate() {
                let to = out.add(row * stride + 8 * half);
                let sum = if add { _mm256_add_ps(_mm256_loadu_ps(to), *sum) } else { *sum };
                _mm256_storeu_ps(to, sum);
            }
        }
    }
}
