//! GEMM of x86 processors with AVX-512.
//!
//! The register tile is 6 × 64 for a left operand in rows: of 32 registers 24 hold sums, 4 the right operand, 1 the left one,
//! broadcast. Its six rows have a cache line each in the L1 cache for 16 terms, and meanwhile the lines of the next six rows are asked
//! for. For one in columns it is 14 × 32, with 28 sums and half the right operand to read for each of them: a term of its rows is a cache line
//! or two, and those of a term to come are asked for.
//!
//! One thread of a Zen 4 of 117 GFLOP/s, by a program of the same loops: x · W of S 109 (packed, 14 × 32: 106), of tiny's projections, 128 by 128
//! weights, 107 (92); without asking for the next rows 82. The gradient of a weight of S 92 by 6 × 64, and by 14 × 32 102 to 107 (packed: 103 to
//! 107); of tiny's 97 to 99 (86 to 95). Lost: the right operand in place as well, or alone (S's first 84 and 98, tiny's 81 to 97).

use std::arch::x86_64::{
    __m512, __mmask16, _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_shuffle_ps,
    _mm512_storeu_ps, _mm512_unpackhi_ps, _mm512_unpacklo_ps,
};

use super::kernel::{Kernel, Left, Operands, Tile, of_height};
use super::matrix::Matrix;
use super::packing::packing;

/// Floats of a vector.
const LANES: usize = 16;

/// How many terms ahead are asked for, where terms lie apart.
const AHEAD: usize = 8;

/// A processor with AVX-512 (F).
pub(super) struct Avx512(());

impl Avx512 {
    /// If this is one.
    pub(super) fn new() -> Option<&'static Self> {
        is_x86_feature_detected!("avx512f").then_some(&Self(()))
    }
}

impl Kernel for Avx512 {
    #[cfg(test)]
    fn name(&self) -> &'static str {
        "AVX-512"
    }

    fn tile(&self, in_rows: bool) -> Tile {
        let (rows, columns) = if in_rows { (6, 64) } else { (14, 32) };
        Tile { rows, columns, left_width: None }
    }

    unsafe fn pack(&self, lanes: Matrix<'_>, count: usize, width: usize, step: usize, panels: *mut f32) {
        assert!(count <= width && width.is_multiple_of(LANES) && lanes.columns * width <= step, "panels too short");
        // SAFETY: as the caller promises.
        unsafe { pack(lanes, count, width, step, panels) }
    }

    unsafe fn multiply(&self, operands: Operands, out: *mut f32, stride: usize, add: bool) {
        // SAFETY: as the caller promises.
        unsafe {
            match operands.left {
                Left::Rows(left, step) => {
                    of_height!(operands.rows, [1 2 3 4 5 6], R => rows_apart::<R>(operands, left, step, out, stride, add));
                }
                Left::Terms(left, step) => of_height!(
                    operands.rows,
                    [1 2 3 4 5 6 7 8 9 10 11 12 13 14],
                    R => terms_apart::<R>(operands, left, step, out, stride, add)
                ),
            }
        }
    }
}

packing!("avx512f", _mm512_setzero_ps, _mm512_storeu_ps);

/// The first 16 floats, zeros where there are fewer.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32]) -> __m512 {
    let mask = if values.len() < LANES { (1 << values.len()) - 1 } else { __mmask16::MAX };
    // SAFETY: what the mask leaves is inside.
    unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: [__m512; LANES]) -> [__m512; LANES] {
    // In each quarter of the vectors: pairs of rows, then fours, whose column 0 to 3 of the quarter are now side by side. (Loops, not closures:
    // the compiler would leave those functions of their own.)
    let mut fours = [[_mm512_setzero_ps(); 4]; 4];
    for (four, rows) in fours.iter_mut().zip(rows.as_chunks::<4>().0) {
        let [a, b, c, d] = *rows;
        let (ab, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let (cd, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        *four = [
            _mm512_shuffle_ps::<0x44>(ab, cd),
            _mm512_shuffle_ps::<0xee>(ab, cd),
            _mm512_shuffle_ps::<0x44>(ab_high, cd_high),
            _mm512_shuffle_ps::<0xee>(ab_high, cd_high),
        ];
    }

    // Then the quarters: of all sixteen rows one quarter each.
    let mut columns = [_mm512_setzero_ps(); LANES];
    for column in 0..4 {
        let [a, b, c, d] = [fours[0][column], fours[1][column], fours[2][column], fours[3][column]];
        let (even_ab, odd_ab) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
        let (even_cd, odd_cd) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
        columns[column] = _mm512_shuffle_f32x4::<0x88>(even_ab, even_cd);
        columns[4 + column] = _mm512_shuffle_f32x4::<0x88>(odd_ab, odd_cd);
        columns[8 + column] = _mm512_shuffle_f32x4::<0xdd>(even_ab, even_cd);
        columns[12 + column] = _mm512_shuffle_f32x4::<0xdd>(odd_ab, odd_cd);
    }
    columns
}

/// `R` rows that lie `step` floats apart, by a panel of 64 columns.
///
/// # Safety
/// That of [`Kernel::multiply`].
#[target_feature(enable = "avx512f")]
unsafe fn rows_apart<const R: usize>(
    operands: Operands,
    mut left: *const f32,
    step: usize,
    out: *mut f32,
    stride: usize,
    add: bool,
) {
    let mut right = operands.right;
    let mut sums = [[_mm512_setzero_ps(); 4]; R];
    // SAFETY: as the caller promises; a prefetch may point anywhere.
    unsafe {
        prefetch(out, stride, &sums);
        for term in 0..operands.terms {
            // A cache line of each of the next rows.
            if term.is_multiple_of(LANES) {
                for row in R..2 * R {
                    _mm_prefetch::<_MM_HINT_T0>(left.wrapping_add(row * step).cast());
                }
            }

            let mut columns = [_mm512_setzero_ps(); 4];
            for (index, vector) in columns.iter_mut().enumerate() {
                *vector = _mm512_loadu_ps(right.add(LANES * index));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let left = _mm512_set1_ps(*left.add(row * step));
                for (sum, right) in sums.iter_mut().zip(columns) {
                    *sum = _mm512_fmadd_ps(left, right, *sum);
                }
            }
            left = left.add(1);
            right = right.add(4 * LANES);
        }
        store(&sums, out, stride, add);
    }
}

/// `R` rows, whose terms lie `step` floats apart, by a panel of 32 columns.
///
/// # Safety
/// That of [`Kernel::multiply`].
#[target_feature(enable = "avx512f")]
unsafe fn terms_apart<const R: usize>(
    operands: Operands,
    mut left: *const f32,
    step: usize,
    out: *mut f32,
    stride: usize,
    add: bool,
) {
    let mut right = operands.right;
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    // SAFETY: as the caller promises; a prefetch may point anywhere.
    unsafe {
        prefetch(out, stride, &sums);
        for _ in 0..operands.terms {
            // The lines of a term to come.
            for row in [0, R - 1] {
                _mm_prefetch::<_MM_HINT_T0>(left.wrapping_add(AHEAD * step + row).cast());
            }

            let columns = [_mm512_loadu_ps(right), _mm512_loadu_ps(right.add(LANES))];
            for (row, sums) in sums.iter_mut().enumerate() {
                let left = _mm512_set1_ps(*left.add(row));
                sums[0] = _mm512_fmadd_ps(left, columns[0], sums[0]);
                sums[1] = _mm512_fmadd_ps(left, columns[1], sums[1]);
            }
            left = left.add(step);
            right = right.add(2 * LANES);
        }
        store(&sums, out, stride, add);
    }
}

/// Asks for the rows of the output that the sums go to.
#[inline]
#[target_feature(enable = "avx512f")]
fn prefetch<const V: usize, const R: usize>(out: *const f32, stride: usize, sums: &[[__m512; V]; R]) {
    for (row, sums) in sums.iter().enumerate() {
        for vector in 0..sums.len() {
            _mm_prefetch::<_MM_HINT_T0>(out.wrapping_add(row * stride + LANES * vector).cast());
        }
    }
}

/// Writes the sums, or adds them.
///
/// # Safety
/// `out` is as many rows, `stride` apart, of as many vectors.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store<const V: usize, const R: usize>(sums: &[[__m512; V]; R], out: *mut f32, stride: usize, add: bool) {
    for (row, sums) in sums.iter().enumerate() {
        for (index, sum) in sums.iter().enumerate() {
            // SAFETY: as the caller promises.
            unsafe {
                let out = out.add(row * stride + LANES * index);
                let sum = if add { _mm512_add_ps(_mm512_loadu_ps(out), *sum) } else { *sum };
                _mm512_storeu_ps(out, sum);
            }
        }
    }
}
