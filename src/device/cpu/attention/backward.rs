//! Backward: the weights are computed again from the scores and the forward's logarithms, one tile of 64 queries and 64
//! keys at a time.
//!
//! With `P` the weights, `dP = dO · Vᵀ` and `D` the row sums of `dO ∘ O`: `dS = P ∘ (dP − D)`, `dQ = dS · K`,
//! `dK = dSᵀ · Q` (both over √head_dim), `dV = Pᵀ · dO` (Dao et al. 2022, algorithm 4).

use std::ops::Range;

use multiversion::{multiversion, target::target_cfg_f};

use super::tile::{Block, HeadRows, Rows, STRIP, Strip, mix, mix_transposed, score_gradients, scores};
use super::{Seen, Sizes};
use crate::device::cpu::math::{exp2, mul_add};

/// Blocks on a side of a tile.
const TILE: usize = super::BACKWARD_BLOCKS;

/// Queries and keys of a tile.
const SIDE: usize = TILE * STRIP;

const EMPTY: Block = [[0.0; STRIP]; STRIP];

/// Packed operands and accumulators of one head.
pub(super) struct Packed<'a> {
    /// By dimension.
    pub keys: &'a mut [Strip],
    /// By dimension.
    pub values: &'a mut [Strip],
    /// By token.
    pub queries_by_token: &'a mut [Block],
    /// By token.
    pub keys_by_token: &'a mut [Block],
    /// Gradient of the output, by token.
    pub dy_by_token: &'a mut [Block],
    /// By token, accumulated here; still to be scaled.
    pub d_keys: &'a mut [Block],
    /// By token, accumulated here.
    pub d_values: &'a mut [Block],
}

/// Two numbers per query, `[padded tokens / 32]` strips each.
pub(super) struct QueryNumbers<'a> {
    /// `log₂` of the softmax denominators.
    pub logsumexp: &'a mut [Strip],
    /// `D`, the row sums of `dO ∘ O`.
    pub output_dot: &'a mut [Strip],
}

impl Packed<'_> {
    pub(super) fn pack(&mut self, [q, k, v]: [HeadRows<'_>; 3], dy: HeadRows<'_>) {
        k.pack_by_dimension(self.keys);
        v.pack_by_dimension(self.values);
        q.pack_by_token(self.queries_by_token);
        k.pack_by_token(self.keys_by_token);
        dy.pack_by_token(self.dy_by_token);
        self.d_keys.fill(EMPTY);
        self.d_values.fill(EMPTY);
    }
}

/// Sets `d_queries` (`[dimensions / 32, 2]` blocks; still to be scaled) for the queries of `block` and the one after
/// it, and adds to `d_keys` and `d_values`.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn backward_blocks(
    packed: &mut Packed<'_>,
    numbers: &QueryNumbers<'_>,
    sizes: Sizes,
    seen: Seen,
    block: usize,
    d_queries: &mut [Block],
) {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    const WIDE: bool = target_cfg_f!(target_feature = "avx512f");
    let blocks = sizes.padded_tokens / STRIP;
    let queries = block..blocks.min(block + TILE);
    let visible = seen.key_blocks(queries.end - 1);
    d_queries.fill(EMPTY);

    // P and dS of a tile, [queries, keys].
    let (mut p, mut ds) = ([[0.0; SIDE]; SIDE], [[0.0; SIDE]; SIDE]);
    for first in (0..visible).step_by(TILE) {
        let keys = first..visible.min(first + TILE);
        tile_gradients::<FMA, WIDE>(packed, numbers, sizes, seen, queries.clone(), keys.clone(), &mut p, &mut ds);

        for c in 0..sizes.dimensions / STRIP {
            let at = |block: usize| c * blocks + block;

            // dV += Pᵀ dO and dK += dSᵀ Q
            for key_block in keys.clone() {
                // The first query that sees these keys.
                let from = if seen.causal { key_block.max(block) } else { block };
                let rows = (from - block) * STRIP..queries.len() * STRIP;
                let (queries, column) = (at(from)..at(queries.end), (key_block - first) * STRIP);
                let (dy, q) = (&packed.dy_by_token[queries.clone()], &packed.queries_by_token[queries]);
                let (d_value, d_key) = (&mut packed.d_values[at(key_block)], &mut packed.d_keys[at(key_block)]);
                mix_transposed::<FMA, WIDE, SIDE>(&p[rows.clone()], column, dy.as_flattened(), d_value);
                mix_transposed::<FMA, WIDE, SIDE>(&ds[rows], column, q.as_flattened(), d_key);
            }

            // dQ += dS K
            for query_block in queries.clone() {
                let query = query_block - block;
                let end = keys.end.min(seen.key_blocks(query_block));
                if first < end {
                    let k = packed.keys_by_token[at(first)..at(end)].as_flattened();
                    let rows = &ds[query * STRIP..(query + 1) * STRIP];
                    mix::<FMA, WIDE, SIDE>(rows, k.len(), k, &mut d_queries[c * TILE + query]);
                }
            }
        }
    }
}

/// `P` and `dS` of the tile of the blocks `queries` and `keys`; 0 for keys that are not seen.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn tile_gradients<const FMA: bool, const WIDE: bool>(
    packed: &Packed<'_>,
    numbers: &QueryNumbers<'_>,
    sizes: Sizes,
    seen: Seen,
    queries: Range<usize>,
    keys: Range<usize>,
    p: &mut [[f32; SIDE]; SIDE],
    ds: &mut [[f32; SIDE]; SIDE],
) {
    let (dimensions, scale, stride) = (sizes.dimensions, sizes.exponent_scale(), sizes.padded_tokens / STRIP);
    for query_block in queries.clone() {
        let rows = (query_block - queries.start) * STRIP..(query_block - queries.start + 1) * STRIP;
        let (p, ds) = (&mut p[rows.clone()], &mut ds[rows]);
        let rows_of = |packed| Rows { blocks: packed, stride };
        let q = rows_of(&packed.queries_by_token[query_block..]);
        let dy = rows_of(&packed.dy_by_token[query_block..]);
        let (logsumexp, output_dot) = (&numbers.logsumexp[query_block], &numbers.output_dot[query_block]);
        for key_block in keys.start..keys.end.min(seen.key_blocks(query_block)) {
            let column = (key_block - keys.start) * STRIP;
            let key = key_block * dimensions..(key_block + 1) * dimensions;

            // P = 2^(S − log-sum-exp) with S = Q Kᵀ, masked.
            scores::<FMA, WIDE, SIDE>(q, &packed.keys[key.clone()], p, column, |query, score| {
                exp2::<FMA>(mul_add::<FMA>(scale, score, -logsumexp[query]))
            });
            seen.fill_unseen(query_block, key_block, p, column, 0.0);

            // dS = P ∘ (dP − D) with dP = dO Vᵀ, masked: 0 times a NaN of an unseen token would not be 0.
            score_gradients::<FMA, WIDE, SIDE>(dy, &packed.values[key], p, output_dot, ds, column);
            seen.fill_unseen(query_block, key_block, ds, column, 0.0);
        }
    }
}
