//! Backward: the weights are computed again from the scores and the forward's logarithms, one tile of 64 queries and 64
//! keys at a time.
//!
//! With `P` the weights, `dP = dO · Vᵀ` and `D` the row sums of `dO ∘ O`: `dS = P ∘ (dP − D)`, `dQ = dS · K`, `dK = dSᵀ · Q` (both
//! over √head_dim), `dV = Pᵀ · dO` (Dao et al. 2022, algorithm 4).

use multiversion::{multiversion, target::target_cfg_f};

use super::tile::{Block, HeadRows, STRIP, Strip, mix, mix_transposed, scores};
use super::{Seen, Sizes};
use crate::device::cpu::math::exp2;

/// Blocks on a side of a tile.
const TILE: usize = 2;

/// Packed operands and sums of one head.
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
    pub queries_by_token: &'a mut [Strip],
    /// By token.
    pub keys_by_token: &'a mut [Strip],
    /// By token.
    pub dy_by_token: &'a mut [Strip],
    /// By token, summed here; still to be scaled.
    pub d_keys: &'a mut [Strip],
    /// By token, summed here.
    pub d_values: &'a mut [Strip],
}

/// Two numbers a query, `[padded tokens / 32]` strips each.
pub(super) struct QueryNumbers<'a> {
    /// `log₂` of the softmax denominators.
    pub logsumexp: &'a mut [Strip],
    /// `D`, the row sums of `dO ∘ O`.
    pub along: &'a mut [Strip],
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
        self.d_keys.fill([0.0; STRIP]);
        self.d_values.fill([0.0; STRIP]);
    }
}

/// Sets `d_queries` (`[dimensions / 32, 64]` by token; still to be scaled) for the queries of `block` and the one after it,
/// and adds to `d_keys` and `d_values`.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn backward_blocks(
    packed: &mut Packed<'_>,
    numbers: &QueryNumbers<'_>,
    sizes: Sizes,
    seen: Seen,
    block: usize,
    d_queries: &mut [Strip],
) {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let (dimensions, padded) = (sizes.dimensions, sizes.padded_tokens);
    let blocks = padded / STRIP;
    let by_dimension = |strips: &[Strip], block: usize| -> std::ops::Range<usize> {
        debug_assert!(strips.len() >= (block + 1) * dimensions);
        block * dimensions..(block + 1) * dimensions
    };
    let empty: Block = [[0.0; STRIP]; STRIP];
    // [key block][query block]
    let (mut p, mut ds) = ([[empty; TILE]; TILE], [[empty; TILE]; TILE]);
    d_queries.fill([0.0; STRIP]);
    let queries = block..blocks.min(block + TILE);
    let visible = seen.key_blocks(queries.end - 1);
    for first in (0..visible).step_by(TILE) {
        let keys = first..visible.min(first + TILE);
        for key_block in keys.clone() {
            let key = by_dimension(packed.keys, key_block);
            for query_block in queries.clone().filter(|&query_block| key_block < seen.key_blocks(query_block)) {
                let query = by_dimension(packed.dy, query_block);
                let p = &mut p[key_block - first][query_block - block];
                let ds = &mut ds[key_block - first][query_block - block];
                scores::<FMA>(&packed.scaled_queries[query.clone()], &packed.keys[key.clone()], p);
                scores::<FMA>(&packed.dy[query], &packed.values[key.clone()], ds);
                let (logsumexp, along) = (&numbers.logsumexp[query_block], &numbers.along[query_block]);
                for (query, (p, ds)) in p.iter_mut().zip(ds.iter_mut()).enumerate() {
                    for (p, ds) in p.iter_mut().zip(ds) {
                        *p = exp2::<FMA>(*p - logsumexp[query]);
                        *ds = *p * (*ds - along[query]);
                    }
                }
                seen.fill_unseen(query_block, key_block, p, 0.0);
                seen.fill_unseen(query_block, key_block, ds, 0.0);
            }
        }
        for c in 0..dimensions / STRIP {
            let strips = |block: usize| c * padded + block * STRIP..c * padded + (block + 1) * STRIP;
            for key_block in keys.clone() {
                for query_block in queries.clone().filter(|&query_block| key_block < seen.key_blocks(query_block)) {
                    let (index, query) = (key_block - first, query_block - block);
                    let (p, ds) = (&p[index][query], &ds[index][query]);
                    let (key, rows) = (strips(key_block), strips(query_block));
                    mix_transposed::<FMA>(p, &packed.dy_by_token[rows.clone()], &mut packed.d_values[key.clone()]);
                    mix_transposed::<FMA>(ds, &packed.queries_by_token[rows], &mut packed.d_keys[key.clone()]);
                    let d_queries = &mut d_queries[(c * TILE + query) * STRIP..][..STRIP];
                    mix::<FMA>(ds, &packed.keys_by_token[key], d_queries);
                }
            }
        }
    }
}
