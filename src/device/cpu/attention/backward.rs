//! Backward: the weights are computed again from the scores and the forward's logarithms, one tile of 64 queries and 64
//! keys at a time.
//!
//! With `P` the weights, `dP = dO · Vᵀ` and `D` the row sums of `dO ∘ O`: `dS = P ∘ (dP − D)`, `dQ = dS · K`,
//! `dK = dSᵀ · Q` (both over √head_dim), `dV = Pᵀ · dO` (Dao et al. 2022, algorithm 4).

use std::ops::Range;

use multiversion::{multiversion, target::target_cfg_f};

use super::tile::{Block, HeadRows, STRIP, Strip, mix, mix_transposed, scores};
use super::{Seen, Sizes};
use crate::device::cpu::math::exp2;

/// Blocks on a side of a tile.
const TILE: usize = super::BACKWARD_BLOCKS;

/// Queries and keys of a tile.
const SIDE: usize = TILE * STRIP;

const EMPTY: Block = [[0.0; STRIP]; STRIP];

/// Packed operands and accumulators of one head.
pub(super) struct Packed<'a> {
    /// By dimension, in units of `log₂ e / √head_dim`.
    pub scaled_queries: &'a mut [Strip],
    /// By dimension.
    pub keys: &'a mut [Strip],
    /// By dimension.
    pub values: &'a mut [Strip],
    /// Gradient of the output, by dimension.
    pub dy: &'a mut [Strip],
    /// By token.
    pub queries_by_token: &'a mut [Block],
    /// By token.
    pub keys_by_token: &'a mut [Block],
    /// By token.
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
    pub(super) fn pack(&mut self, [q, k, v]: [HeadRows<'_>; 3], dy: HeadRows<'_>, sizes: Sizes) {
        q.pack_by_dimension(sizes.exponent_scale(), self.scaled_queries);
        k.pack_by_dimension(1.0, self.keys);
        v.pack_by_dimension(1.0, self.values);
        dy.pack_by_dimension(1.0, self.dy);
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
    let blocks = sizes.padded_tokens / STRIP;
    let queries = block..blocks.min(block + TILE);
    let visible = seen.key_blocks(queries.end - 1);
    d_queries.fill(EMPTY);

    // P and dS of a tile, [queries, keys].
    let (mut p, mut ds) = ([[0.0; SIDE]; SIDE], [[0.0; SIDE]; SIDE]);
    for first in (0..visible).step_by(TILE) {
        let keys = first..visible.min(first + TILE);
        tile_gradients::<FMA>(packed, numbers, sizes, seen, queries.clone(), keys.clone(), &mut p, &mut ds);

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
                mix_transposed::<FMA, SIDE>(&p[rows.clone()], column, dy.as_flattened(), d_value);
                mix_transposed::<FMA, SIDE>(&ds[rows], column, q.as_flattened(), d_key);
            }

            // dQ += dS K
            for query_block in queries.clone() {
                let query = query_block - block;
                let end = keys.end.min(seen.key_blocks(query_block));
                if first < end {
                    let k = packed.keys_by_token[at(first)..at(end)].as_flattened();
                    let rows = &ds[query * STRIP..(query + 1) * STRIP];
                    mix::<FMA, SIDE>(rows, k.len(), k, &mut d_queries[c * TILE + query]);
                }
            }
        }
    }
}

/// `P` and `dS` of the tile of the blocks `queries` and `keys`; 0 for keys that are not seen.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn tile_gradients<const FMA: bool>(
    packed: &Packed<'_>,
    numbers: &QueryNumbers<'_>,
    sizes: Sizes,
    seen: Seen,
    queries: Range<usize>,
    keys: Range<usize>,
    p: &mut [[f32; SIDE]; SIDE],
    ds: &mut [[f32; SIDE]; SIDE],
) {
    let dimensions = sizes.dimensions;
    for query_block in queries.clone() {
        let rows = (query_block - queries.start) * STRIP..(query_block - queries.start + 1) * STRIP;
        let (p, ds) = (&mut p[rows.clone()], &mut ds[rows]);
        let query = query_block * dimensions..(query_block + 1) * dimensions;
        let (logsumexp, output_dot) = (&numbers.logsumexp[query_block], &numbers.output_dot[query_block]);
        for key_block in keys.start..keys.end.min(seen.key_blocks(query_block)) {
            // S = Q Kᵀ and dP = dO Vᵀ
            let column = (key_block - keys.start) * STRIP;
            let key = key_block * dimensions..(key_block + 1) * dimensions;
            scores::<FMA, SIDE>(&packed.scaled_queries[query.clone()], &packed.keys[key.clone()], p, column);
            scores::<FMA, SIDE>(&packed.dy[query.clone()], &packed.values[key], ds, column);

            // P = 2^(S − log-sum-exp) and dS = P ∘ (dP − D)
            for (query, (p, ds)) in p.iter_mut().zip(ds.iter_mut()).enumerate() {
                let (p, ds) = (&mut p[column..column + STRIP], &mut ds[column..column + STRIP]);
                for (p, ds) in p.iter_mut().zip(ds) {
                    *p = exp2::<FMA>(*p - logsumexp[query]);
                    *ds = *p * (*ds - output_dot[query]);
                }
            }

            // Mask.
            seen.fill_unseen(query_block, key_block, p, column, 0.0);
            seen.fill_unseen(query_block, key_block, ds, column, 0.0);
        }
    }
}
