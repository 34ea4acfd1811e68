//! GEMM of x86 processors with AVX2 and FMA.
//!
//! The register tile is 6 × 16: of 16 registers 12 hold sums, 2 the right operand, 1 the left one, broadcast. The six rows have a cache line
//! each in the L1 cache for 16 terms; meanwhile the lines of the next six rows are asked for.
//!
//! A left operand in columns is packed. Six floats of each term where they lie are a part of a cache line, which is gone before the other rows
//! want theirs: on one thread of a Zen 4, by a program of the same loops, the gradients of S's weights 88 to 99 GFLOP/s packed, 51 to 94 in place.

use std::arch::x86_64::{
    __m256, __m256i, _MM_HINT_T0, _mm_prefetch, _mm256_add_ps, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_maskload_ps, _mm256_permute2f128_ps, _mm256_setzero_ps, _mm256_shuffle_ps,
    _mm256_storeu_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
};

use super::kernel::{Kernel, Left, Operands, Tile, of_height};
use super::matrix::Matrix;
use super::packing::packing;

/// Floats of a vector.
const LANES: usize = 8;

/// Columns of the register tile.
const COLUMNS: usize = 2 * LANES;

/// A processor with AVX2 and FMA.
pub(super) struct Avx2(());

impl Avx2 {
    /// If this is one.
    pub(super) fn new() -> Option<&'static Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(&Self(()))
    }
}

impl Kernel for Avx2 {
    #[cfg(test)]
    fn name(&self) -> &'static str {
        "AVX2"
    }

    fn tile(&self, in_rows: bool) -> Tile {
        Tile { rows: 6, columns: COLUMNS, left_width: (!in_rows).then_some(LANES) }
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
                    of_height!(operands.rows, [1 2 3 4 5 6], R => tile::<R, true>(operands, left, step, out, stride, add));
                }
                Left::Terms(left, step) => {
                    of_height!(operands.rows, [1 2 3 4 5 6], R => tile::<R, false>(operands, left, step, out, stride, add));
                }
            }
        }
    }
}

packing!("avx2,fma", _mm256_setzero_ps, _mm256_storeu_ps);

/// The first 8 floats, zeros where there are fewer.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn load(values: &[f32]) -> __m256 {
    /// Eight of them from `8 − n` on let `n` lanes pass.
    const MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: all 8 floats are there, or those that the mask leaves; a slice of 8 of the masks.
    unsafe {
        if values.len() >= LANES {
            return _mm256_loadu_ps(values.as_ptr());
        }
        let mask: *const __m256i = MASKS[LANES - values.len()..].as_ptr().cast();
        _mm256_maskload_ps(values.as_ptr(), _mm256_loadu_si256(mask))
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn transpose(rows: [__m256; LANES]) -> [__m256; LANES] {
    // In each half of the vectors: pairs of rows, then fours, whose column 0 to 3 of the half are now side by side. (Loops, not closures: the
    // compiler would leave those functions of their own.)
    let mut fours = [[_mm256_setzero_ps(); 4]; 2];
    for (four, rows) in fours.iter_mut().zip(rows.as_chunks::<4>().0) {
        let [a, b, c, d] = *rows;
        let (ab, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        *four = [
            _mm256_shuffle_ps::<0x44>(ab, cd),
            _mm256_shuffle_ps::<0xee>(ab, cd),
            _mm256_shuffle_ps::<0x44>(ab_high, cd_high),
            _mm256_shuffle_ps::<0xee>(ab_high, cd_high),
        ];
    }

    // Then the halves.
    let mut columns = [_mm256_setzero_ps(); LANES];
    for column in 0..4 {
        let (upper, lower) = (fours[0][column], fours[1][column]);
        columns[column] = _mm256_permute2f128_ps::<0x20>(upper, lower);
        columns[column + 4] = _mm256_permute2f128_ps::<0x31>(upper, lower);
    }
    columns
}

/// `R` rows of the left operand, which, or whose terms, lie `step` floats apart, by a panel.
///
/// # Safety
/// That of [`Kernel::multiply`].
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const R: usize, const IN_ROWS: bool>(
    operands: Operands,
    mut left: *const f32,
    step: usize,
    out: *mut f32,
    stride: usize,
    add: bool,
) {
    let mut right = operands.right;
    let (row_step, term_step) = if IN_ROWS { (step, 1) } else { (1, step) };
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    // SAFETY: as the caller promises; a prefetch may point anywhere.
    unsafe {
        for row in 0..R {
            _mm_prefetch::<_MM_HINT_T0>(out.wrapping_add(row * stride).cast());
        }
        for term in 0..operands.terms {
            // A cache line of each of the next rows.
            if IN_ROWS && term.is_multiple_of(2 * LANES) {
                for row in R..2 * R {
                    _mm_prefetch::<_MM_HINT_T0>(left.wrapping_add(row * row_step).cast());
                }
            }
            let columns = [_mm256_loadu_ps(right), _mm256_loadu_ps(right.add(LANES))];
            for (row, sums) in sums.iter_mut().enumerate() {
                let left = _mm256_broadcast_ss(&*left.add(row * row_step));
                sums[0] = _mm256_fmadd_ps(left, columns[0], sums[0]);
                sums[1] = _mm256_fmadd_ps(left, columns[1], sums[1]);
            }
            left = left.add(term_step);
            right = right.add(COLUMNS);
        }

        for (row, sums) in sums.iter().enumerate() {
            for (half, sum) in sums.iter().enumerate() {
                let out = out.add(row * stride + LANES * half);
                let sum = if add { _mm256_add_ps(_mm256_loadu_ps(out), *sum) } else { *sum };
                _mm256_storeu_ps(out, sum);
            }
        }
    }
}
