//! The GEMMs inside attention: packed operands, and the register tiles that multiply them.
//!
//! Operands are packed per head into strips of 32 floats, with tokens and head dimension padded by zeros to multiples
//! of 32, so that no GEMM has an edge. A matrix `[tokens, head_dim]` is packed
//! * by token: strip `[c][t]` holds columns `32c..` of row `t`: the left operand of any GEMM, whose values are broadcast, and the right
//!   one of a GEMM that sums over tokens;
//! * by dimension: strip `[b][e]` holds column `e` of rows `32b..`, the right operand of a GEMM that sums over dimensions.
//!
//! The register tile is 8 × 32 with 32 registers of 16 floats (AVX-512): 16 of accumulators, 2 of the right operand. Elsewhere it is
//! 6 × 16, which with 16 registers of 8 floats (AVX2) is 12 of accumulators, 2 of the right operand and 1 of the left; 32 rows
//! are four of these and two of 4 × 16. (8 × 32 on AVX2, whose accumulators do not fit, ran at half of that.)

use crate::device::cpu::math::mul_add;

/// Floats of a strip, and tokens of a block.
pub(super) const STRIP: usize = 32;

/// 32 floats side by side.
pub(super) type Strip = [f32; STRIP];

/// 32 tokens of a matrix packed by token.
pub(super) type Block = [Strip; STRIP];

/// Calls `$tile` for each register tile of 32 × 32 results, with its first row and column at the end of the arguments.
macro_rules! for_each_register_tile {
    ($wide:expr, $tile:ident::<$fma:ident, $keys:ident>($($argument:expr),*)) => {
        if $wide {
            for first in (0..STRIP).step_by(8) {
                $tile::<$fma, $keys, 8, 32>($($argument,)* first, 0);
            }
        } else {
            for column in [0, 16] {
                for first in (0..24).step_by(6) {
                    $tile::<$fma, $keys, 6, 16>($($argument,)* first, column);
                }
                for first in [24, 28] {
                    $tile::<$fma, $keys, 4, 16>($($argument,)* first, column);
                }
            }
        }
    };
}

/// Computes `$body` for each row of a register tile, written out one by one: the vectors of a loop over rows would be columns, which are
/// gathered and scattered float by float. (Of backward that was a third of the time.)
macro_rules! for_each_row {
    (@ $count:ident, $row:ident, $body:block, $($index:literal)*) => {
        const { assert!($count <= [$($index),*].len(), "a register tile of more rows than are written out") };
        $(if $index < $count {
            let $row = $index;
            $body
        })*
    };
    ($count:ident, |$row:ident| $body:block) => { for_each_row!(@ $count, $row, $body, 0 1 2 3 4 5 6 7) };
}

/// The left operand of a register tile, whose values are broadcast: that of row `i` and term `k` is
/// `values[i · by_row + k · by_term]`.
#[derive(Clone, Copy)]
struct Left<'a> {
    values: &'a [f32],
    by_row: usize,
    by_term: usize,
}

/// `sums[i][j] += Σ left[i][k] · right[k][column + j]` over the terms of `right`.
#[inline(always)]
fn accumulate<const FMA: bool, const ROWS: usize, const COLUMNS: usize>(
    mut sums: [[f32; COLUMNS]; ROWS],
    left: Left<'_>,
    right: &[Strip],
    column: usize,
) -> [[f32; COLUMNS]; ROWS] {
    let Left { values, by_row, by_term } = left;
    let last = (ROWS - 1) * by_row + right.len().saturating_sub(1) * by_term;
    assert!(last < values.len() && column + COLUMNS <= STRIP, "a register tile past its operands");

    // Left to the compiler, this tile has a twentieth of its speed at the optimisation level of the tests.
    #[cfg(target_arch = "x86_64")]
    if FMA && COLUMNS == 16 {
        // SAFETY: FMA is only set where AVX2 and FMA are there; the operands are long enough by the assertion, and `sums` is `ROWS` rows of
        // 16 floats.
        unsafe { accumulate_avx2::<ROWS>(sums.as_flattened_mut().as_mut_ptr(), left, right, column) };
        return sums;
    }

    // Written out row by row: the compiler then keeps every row in registers, which it does not for a loop.
    macro_rules! rows {
        ($right:ident, $start:expr, $($row:literal)*) => {
            $(if $row < ROWS {
                // SAFETY: inside the values by the assertion above.
                let left = unsafe { *values.get_unchecked($start + $row * by_row) };
                for lane in 0..COLUMNS {
                    sums[$row][lane] = mul_add::<FMA>(left, $right[lane], sums[$row][lane]);
                }
            })*
        };
    }
    for (term, right) in right.iter().enumerate() {
        let right = part::<COLUMNS>(right, column);
        rows!(right, term * by_term, 0 1 2 3 4 5 6 7);
    }
    sums
}

/// [`accumulate`] of `ROWS` rows of 16 columns.
///
/// # Safety
/// The processor has AVX2 and FMA; all values of `left` are there, and `sums` is `ROWS` rows of 16 floats.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn accumulate_avx2<const ROWS: usize>(sums: *mut f32, left: Left<'_>, right: &[Strip], column: usize) {
    use std::arch::x86_64::{_mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_storeu_ps};

    // SAFETY: as the caller promises; `column` leaves 16 floats of a strip.
    unsafe {
        let mut registers: [_; ROWS] =
            std::array::from_fn(|row| [_mm256_loadu_ps(sums.add(16 * row)), _mm256_loadu_ps(sums.add(16 * row + 8))]);
        let mut at = left.values.as_ptr();
        for right in right {
            let right = right.as_ptr().add(column);
            let right = [_mm256_loadu_ps(right), _mm256_loadu_ps(right.add(8))];
            for (row, sums) in registers.iter_mut().enumerate() {
                let left = _mm256_broadcast_ss(&*at.add(row * left.by_row));
                sums[0] = _mm256_fmadd_ps(left, right[0], sums[0]);
                sums[1] = _mm256_fmadd_ps(left, right[1], sums[1]);
            }
            at = at.wrapping_add(left.by_term);
        }
        for (row, registers) in registers.iter().enumerate() {
            _mm256_storeu_ps(sums.add(16 * row), registers[0]);
            _mm256_storeu_ps(sums.add(16 * row + 8), registers[1]);
        }
    }
}

/// `COLUMNS` floats of a strip.
#[inline(always)]
fn part<const COLUMNS: usize>(strip: &Strip, column: usize) -> &[f32; COLUMNS] {
    &strip.as_chunks::<COLUMNS>().0[column / COLUMNS]
}

/// A block of queries, packed by token: for each 32 dimensions a block, `stride` blocks apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub blocks: &'a [Block],
    pub stride: usize,
}

/// One register tile of `left · rightᵀ`, where `right` is packed by dimension.
#[inline(always)]
fn scores_tile<const FMA: bool, const ROWS: usize, const COLUMNS: usize>(
    left: Rows<'_>,
    right: &[Strip],
    first: usize,
    column: usize,
) -> [[f32; COLUMNS]; ROWS] {
    let mut sums = [[0.0; COLUMNS]; ROWS];
    for (block, right) in left.blocks.iter().step_by(left.stride).zip(right.as_chunks::<STRIP>().0) {
        let left = Left { values: block[first..].as_flattened(), by_row: STRIP, by_term: 1 };
        sums = accumulate::<FMA, ROWS, COLUMNS>(sums, left, right, column);
    }
    sums
}

/// The scores of a block of queries and a block of keys, `left · rightᵀ`, through `map(query, score)` while they are in registers, into the
/// columns from `at` on of 32 rows of a tile.
#[inline(always)]
pub(super) fn scores<const FMA: bool, const WIDE: bool, const KEYS: usize>(
    left: Rows<'_>,
    right: &[Strip],
    rows: &mut [[f32; KEYS]],
    at: usize,
    map: impl Fn(usize, f32) -> f32,
) {
    #[inline(always)]
    fn tile<const FMA: bool, const KEYS: usize, const ROWS: usize, const COLUMNS: usize>(
        left: Rows<'_>,
        right: &[Strip],
        rows: &mut [[f32; KEYS]],
        at: usize,
        map: &impl Fn(usize, f32) -> f32,
        first: usize,
        column: usize,
    ) {
        let sums = scores_tile::<FMA, ROWS, COLUMNS>(left, right, first, column);
        let columns = (at + column) / COLUMNS;
        for_each_row!(ROWS, |index| {
            let (out, sums) = (&mut rows[first + index].as_chunks_mut::<COLUMNS>().0[columns], &sums[index]);
            for lane in 0..COLUMNS {
                out[lane] = map(first + index, sums[lane]);
            }
        });
    }
    for_each_register_tile!(WIDE, tile::<FMA, KEYS>(left, right, rows, at, &map));
}

/// `dS = P ∘ (dP − D)` where `dP = left · rightᵀ`, for a block of queries and a block of keys, in the columns from `at` on of 32 rows of
/// two tiles.
#[inline(always)]
pub(super) fn score_gradients<const FMA: bool, const WIDE: bool, const KEYS: usize>(
    left: Rows<'_>,
    right: &[Strip],
    p: &[[f32; KEYS]],
    d: &Strip,
    ds: &mut [[f32; KEYS]],
    at: usize,
) {
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn tile<const FMA: bool, const KEYS: usize, const ROWS: usize, const COLUMNS: usize>(
        left: Rows<'_>,
        right: &[Strip],
        p: &[[f32; KEYS]],
        d: &Strip,
        ds: &mut [[f32; KEYS]],
        at: usize,
        first: usize,
        column: usize,
    ) {
        let sums = scores_tile::<FMA, ROWS, COLUMNS>(left, right, first, column);
        let columns = (at + column) / COLUMNS;
        for_each_row!(ROWS, |index| {
            let row = first + index;
            let (p, ds) = (&p[row].as_chunks::<COLUMNS>().0[columns], &mut ds[row].as_chunks_mut().0[columns]);
            let (sums, d, ds): (_, _, &mut [f32; COLUMNS]) = (&sums[index], d[row], ds);
            for lane in 0..COLUMNS {
                ds[lane] = p[lane] * (sums[lane] - d);
            }
        });
    }
    for_each_register_tile!(WIDE, tile::<FMA, KEYS>(left, right, p, d, ds, at));
}

/// `out += weights · right` over the weights' first `keys` columns; `weights` are 32 rows of a tile, `right` is packed
/// by token.
#[inline(always)]
pub(super) fn mix<const FMA: bool, const WIDE: bool, const KEYS: usize>(
    weights: &[[f32; KEYS]],
    keys: usize,
    right: &[Strip],
    out: &mut Block,
) {
    #[inline(always)]
    fn tile<const FMA: bool, const KEYS: usize, const ROWS: usize, const COLUMNS: usize>(
        weights: &[[f32; KEYS]],
        keys: usize,
        right: &[Strip],
        out: &mut Block,
        first: usize,
        column: usize,
    ) {
        let left = Left { values: weights[first..].as_flattened(), by_row: KEYS, by_term: 1 };
        add_tile::<FMA, ROWS, COLUMNS>(out, first, column, left, &right[..keys]);
    }
    for_each_register_tile!(WIDE, tile::<FMA, KEYS>(weights, keys, right, out));
}

/// `out += weightsᵀ · right` over the weights' rows, for the 32 keys from `at` on.
#[inline(always)]
pub(super) fn mix_transposed<const FMA: bool, const WIDE: bool, const KEYS: usize>(
    weights: &[[f32; KEYS]],
    at: usize,
    right: &[Strip],
    out: &mut Block,
) {
    #[inline(always)]
    fn tile<const FMA: bool, const KEYS: usize, const ROWS: usize, const COLUMNS: usize>(
        weights: &[[f32; KEYS]],
        at: usize,
        right: &[Strip],
        out: &mut Block,
        first: usize,
        column: usize,
    ) {
        let left = Left { values: &weights.as_flattened()[at + first..], by_row: 1, by_term: KEYS };
        add_tile::<FMA, ROWS, COLUMNS>(out, first, column, left, &right[..weights.len()]);
    }
    for_each_register_tile!(WIDE, tile::<FMA, KEYS>(weights, at, right, out));
}

/// Adds to one register tile of `out`.
#[inline(always)]
fn add_tile<const FMA: bool, const ROWS: usize, const COLUMNS: usize>(
    out: &mut Block,
    first: usize,
    column: usize,
    left: Left<'_>,
    right: &[Strip],
) {
    let rows = &mut out[first..first + ROWS];
    let sums = std::array::from_fn(|row| *part::<COLUMNS>(&rows[row], column));
    let sums = accumulate::<FMA, ROWS, COLUMNS>(sums, left, right, column);
    for (row, sums) in rows.iter_mut().zip(&sums) {
        row[column..column + COLUMNS].copy_from_slice(sums);
    }
}

/// One head's `[tokens, head_dim]` in the columns of wider rows.
#[derive(Clone, Copy)]
pub(super) struct HeadRows<'a> {
    /// From the first element of the first row.
    pub data: &'a [f32],
    /// Floats from row to row.
    pub stride: usize,
    pub tokens: usize,
    pub head_dim: usize,
}

impl<'a> HeadRows<'a> {
    pub(super) fn row(&self, token: usize) -> &'a [f32] {
        &self.data[token * self.stride..][..self.head_dim]
    }

    /// Packs by token: `out` is `[dimensions / 32, padded tokens / 32]` blocks.
    pub(super) fn pack_by_token(&self, out: &mut [Block]) {
        let blocks = self.tokens.div_ceil(STRIP);
        for (c, blocks) in out.chunks_exact_mut(blocks).enumerate() {
            let columns = c * STRIP..self.head_dim.min((c + 1) * STRIP);
            for (token, strip) in blocks.iter_mut().flatten().enumerate() {
                let row = if token < self.tokens { &self.row(token)[columns.clone()] } else { &[] };
                fill(strip, row);
            }
        }
    }

    /// Packs by dimension: `out` is `[padded tokens / 32, dimensions]` strips.
    pub(super) fn pack_by_dimension(&self, out: &mut [Strip]) {
        let dimensions = self.head_dim.next_multiple_of(STRIP);
        // 32 × 32 at a time, through the L1 cache: rows of activations lie far apart.
        let mut square: Block = [[0.0; STRIP]; STRIP];
        for (index, strips) in out.as_chunks_mut::<STRIP>().0.iter_mut().enumerate() {
            let (block, c) = (index * STRIP / dimensions, index * STRIP % dimensions);
            for (lane, strip) in square.iter_mut().enumerate() {
                let token = block * STRIP + lane;
                let columns = c..self.head_dim.min(c + STRIP);
                let row = if token < self.tokens { &self.row(token)[columns] } else { &[] };
                fill(strip, row);
            }
            transpose(&square, strips);
        }
    }
}

/// Sets a strip to `values` and zeros behind them.
#[inline(always)]
fn fill(strip: &mut Strip, values: &[f32]) {
    match values.as_array::<STRIP>() {
        Some(whole) => *strip = *whole,
        None => {
            strip[..values.len()].copy_from_slice(values);
            strip[values.len()..].fill(0.0);
        }
    }
}

/// Sets `out` to the transpose of `square`.
#[inline(always)]
fn transpose(square: &Block, out: &mut Block) {
    for (e, strip) in out.iter_mut().enumerate() {
        *strip = std::array::from_fn(|lane| square[lane][e]);
    }
}
