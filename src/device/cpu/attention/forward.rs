//! Forward: one block of 32 queries at a time against the keys that it sees, 128 at a time.
//!
//! Online softmax: when a tile of keys has a larger score than all before it, the sums so far are scaled down
//! (Milakov & Gimelshein 2018).

use multiversion::{multiversion, target::target_cfg_f};

use super::tile::{Block, HeadRows, Rows, STRIP, Strip, mix, scores};
use super::{Seen, Sizes};
use crate::device::cpu::math::{exp2, fold, mul_add};

/// Blocks of keys in a tile: the more, the fewer reductions across lanes; 4 keep the tile's scores in half of the L1
/// cache.
const TILE: usize = 4;

/// Keys in a tile.
const KEYS: usize = TILE * STRIP;

/// Packed operands of one head.
pub(super) struct Packed<'a> {
    /// By token.
    pub queries: &'a mut [Block],
    /// By dimension.
    pub keys: &'a mut [Strip],
    /// By token.
    pub values: &'a mut [Block],
}

/// The output of one block of queries.
pub(super) struct Mixed<'a> {
    /// By token, `[dimensions / 32]`.
    pub output: &'a mut [Block],
    /// Logarithms of the softmax denominators, to base 2.
    pub logsumexp: Strip,
}

impl Packed<'_> {
    pub(super) fn pack(&mut self, [q, k, v]: [HeadRows<'_>; 3]) {
        q.pack_by_token(self.queries);
        k.pack_by_dimension(self.keys);
        v.pack_by_token(self.values);
    }
}

/// Sets `mixed` for the queries of `block`: `O = softmax(Q · Kᵀ) · V` by online softmax over tiles of keys.
#[multiversion(targets("x86_64+avx512f+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn forward_block(packed: &Packed<'_>, sizes: Sizes, seen: Seen, block: usize, mixed: &mut Mixed<'_>) {
    const FMA: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    const WIDE: bool = target_cfg_f!(target_feature = "avx512f");
    let (dimensions, scale) = (sizes.dimensions, sizes.exponent_scale());

    // Row maximum and row sum of each query, and a tile of scores, [queries, keys].
    let queries = Rows { blocks: &packed.queries[block..], stride: sizes.padded_tokens / STRIP };
    let mut max: Strip = [f32::NEG_INFINITY; STRIP];
    let mut sum: Strip = [0.0; STRIP];
    let mut tile = [[0.0; KEYS]; STRIP];
    mixed.output.fill([[0.0; STRIP]; STRIP]);

    let visible = seen.key_blocks(block);
    for first in (0..visible).step_by(TILE) {
        let blocks = first..visible.min(first + TILE);
        let keys = blocks.len() * STRIP;

        // S = Q Kᵀ, masked.
        for key_block in blocks.clone() {
            let column = (key_block - first) * STRIP;
            let keys = &packed.keys[key_block * dimensions..][..dimensions];
            scores::<FMA, WIDE, KEYS>(queries, keys, &mut tile, column, |_, score| score);
            seen.fill_unseen(block, key_block, &mut tile, column, f32::NEG_INFINITY);
        }

        // Online softmax: P = 2^(scale · S − max), with the sums so far rescaled where the maximum has risen.
        for (query, scores) in tile.iter_mut().enumerate() {
            let scores = scores[..keys].as_chunks_mut::<STRIP>().0;
            online_softmax::<FMA>(scores, scale, query, &mut max[query], &mut sum[query], mixed.output);
        }

        // O += P V. `exp2` ends at 2⁻¹²⁶, so the weights of keys that are not seen are set to 0.
        for key_block in blocks.clone() {
            seen.fill_unseen(block, key_block, &mut tile, (key_block - first) * STRIP, 0.0);
        }
        let values = packed.values.chunks_exact(sizes.padded_tokens / STRIP);
        for (values, output) in values.zip(mixed.output.iter_mut()) {
            mix::<FMA, WIDE, KEYS>(&tile, keys, values[blocks.clone()].as_flattened(), output);
        }
    }

    // Epilogue: O /= row sum, and the log-sum-exp, which backward needs.
    for query in 0..STRIP {
        mixed.logsumexp[query] = max[query] + sum[query].log2();
        for block in mixed.output.iter_mut() {
            block[query].iter_mut().for_each(|value| *value /= sum[query]);
        }
    }
}

/// Turns a query's `scores` of one tile into weights, and brings its row maximum, its row sum and its row of `output`
/// up to date.
#[inline(always)]
fn online_softmax<const FMA: bool>(
    scores: &mut [Strip],
    scale: f32,
    query: usize,
    max: &mut f32,
    sum: &mut f32,
    output: &mut [Block],
) {
    // Row maximum of this tile.
    let mut lanes = [f32::NEG_INFINITY; STRIP];
    for strip in &*scores {
        for (lane, &score) in lanes.iter_mut().zip(strip) {
            *lane = if score > *lane { score } else { *lane };
        }
    }
    let row_max = scale * fold(lanes, |a, b| if b > a { b } else { a });

    // A new maximum: rescale what was summed under the old one.
    if row_max > *max {
        let factor = exp2::<FMA>(*max - row_max);
        *max = row_max;
        *sum *= factor;
        for block in output {
            rescale(&mut block[query], factor);
        }
    }

    // Weights, and their sum.
    let mut lanes = [0.0; STRIP];
    for strip in scores {
        for (lane, score) in lanes.iter_mut().zip(strip) {
            *score = exp2::<FMA>(mul_add::<FMA>(scale, *score, -*max));
            *lane += *score;
        }
    }
    *sum += fold(lanes, |a, b| a + b);
}

/// A function of its own: inlined, a loop over the blocks becomes one over their columns, float by float.
#[inline(never)]
fn rescale(row: &mut Strip, factor: f32) {
    row.iter_mut().for_each(|value| *value *= factor);
}
