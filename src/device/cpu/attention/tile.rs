//! The GEMMs inside attention: packed operands, and the register tile that multiplies them.
//!
//! Operands are packed per head into strips of 32 floats, with tokens and head dimension padded by zeros to multiples
//! of 32, so that no GEMM has an edge. A matrix `[tokens, head_dim]` is packed
//! * by token: strip `[c][t]` holds columns `32c..` of row `t`, the right operand of a GEMM that sums over tokens;
//! * by dimension: strip `[b][e]` holds column `e` of rows `32b..`, either operand of a GEMM that sums over dimensions.
//!
//! The register tile is 8 × 32: 16 AVX-512 registers of accumulators, 2 of the right operand, the left one broadcast.

use crate::device::cpu::math::mul_add;

/// Floats of a strip, and tokens of a block.
pub(super) const STRIP: usize = 32;

/// Rows of the register tile.
const ROWS: usize = 8;

/// 32 floats side by side.
pub(super) type Strip = [f32; STRIP];

/// 32 tokens of a matrix packed by token.
pub(super) type Block = [Strip; STRIP];

/// The accumulators of a register tile.
type Accumulators = [Strip; ROWS];

/// `sums[i][j] += Σ left[i] · right[j]` over `terms`, the columns of one operand and the rows of the other.
#[inline(always)]
fn accumulate<'a, const FMA: bool>(
    mut sums: Accumulators,
    terms: impl Iterator<Item = ([f32; ROWS], &'a Strip)>,
) -> Accumulators {
    // Written out row by row: the compiler then keeps every row in registers, which it does not for a loop.
    macro_rules! rows {
        ($left:ident, $right:ident: $($row:literal)*) => {
            $(for lane in 0..STRIP {
                sums[$row][lane] = mul_add::<FMA>($left[$row], $right[lane], sums[$row][lane]);
            })*
        };
    }
    for (left, right) in terms {
        rows!(left, right: 0 1 2 3 4 5 6 7);
    }
    sums
}

/// The scores of a block of queries and a block of keys, `left · rightᵀ` of operands packed by dimension, into the
/// columns from `column` on of 32 rows of a tile.
#[inline(always)]
pub(super) fn scores<const FMA: bool, const KEYS: usize>(
    left: &[Strip],
    right: &[Strip],
    rows: &mut [[f32; KEYS]],
    column: usize,
) {
    for first in (0..STRIP).step_by(ROWS) {
        let columns = left.iter().map(|left| std::array::from_fn(|row| left[first + row]));
        let sums = accumulate::<FMA>([[0.0; STRIP]; ROWS], columns.zip(right));
        for (row, sums) in rows[first..first + ROWS].iter_mut().zip(&sums) {
            row[column..column + STRIP].copy_from_slice(sums);
        }
    }
}

/// `out += weights · right` over the weights' first `keys` columns; `weights` are 32 rows of a tile, `right` is packed
/// by token.
#[inline(always)]
pub(super) fn mix<const FMA: bool, const KEYS: usize>(
    weights: &[[f32; KEYS]],
    keys: usize,
    right: &[Strip],
    out: &mut Block,
) {
    for (rows, sums) in weights.as_chunks::<ROWS>().0.iter().zip(out.as_chunks_mut::<ROWS>().0) {
        let columns = (0..keys.min(KEYS)).map(|column| std::array::from_fn(|row| rows[row][column]));
        *sums = accumulate::<FMA>(*sums, columns.zip(right));
    }
}

/// `out += weightsᵀ · right` over the weights' rows, for the 32 keys from `column` on.
#[inline(always)]
pub(super) fn mix_transposed<const FMA: bool, const KEYS: usize>(
    weights: &[[f32; KEYS]],
    column: usize,
    right: &[Strip],
    out: &mut Block,
) {
    for (tile, sums) in out.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
        let first = (column + tile * ROWS).min(KEYS - ROWS);
        let rows = weights.iter().map(|weights| std::array::from_fn(|row| weights[first + row]));
        *sums = accumulate::<FMA>(*sums, rows.zip(right));
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
                strip[..row.len()].copy_from_slice(row);
                strip[row.len()..].fill(0.0);
            }
        }
    }

    /// Packs `factor` times the rows by dimension: `out` is `[padded tokens / 32, dimensions]` strips.
    pub(super) fn pack_by_dimension(&self, factor: f32, out: &mut [Strip]) {
        let dimensions = self.head_dim.next_multiple_of(STRIP);
        // 32 × 32 at a time, through the L1 cache: rows of activations lie far apart.
        let mut square: Block = [[0.0; STRIP]; STRIP];
        for (index, strips) in out.chunks_exact_mut(STRIP).enumerate() {
            let (block, c) = (index * STRIP / dimensions, index * STRIP % dimensions);
            for (lane, strip) in square.iter_mut().enumerate() {
                let token = block * STRIP + lane;
                let columns = c..self.head_dim.min(c + STRIP);
                let row = if token < self.tokens { &self.row(token)[columns] } else { &[] };
                strip[..row.len()].copy_from_slice(row);
                strip[row.len()..].fill(0.0);
            }
            for (e, strip) in strips.iter_mut().enumerate() {
                *strip = std::array::from_fn(|lane| factor * square[lane][e]);
            }
        }
    }
}
