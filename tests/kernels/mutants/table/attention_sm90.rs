//! Of attention's forward on compute capability 9.0.

use super::{Device, Found, Mutant, PAST, STALE, WRONG, mutants};
use crate::ops::attention;
use crate::ops::reference::Attention;
use igpt_engine::device::Mask;
use igpt_engine::device::prelude::*;

const D_64: [&str; 1] = ["KERNEL_BF16(64,"];
const D_96: [&str; 1] = ["KERNEL_BF16(96,"];
const D_128: [&str; 1] = ["KERNEL_BF16(128,"];
const D_192: [&str; 1] = ["KERNEL_BF16(192,"];

fn forward(device: &Device, heads: usize, tokens: usize, head_dim: usize, mask: Mask) {
    attention::check_forward(device, 1, Attention { batch: 1, tokens, heads, head_dim, mask });
}
/// Tiles on the diagonal, and a last one that is short; the last consumer sees one that the others do not.
fn edges(device: &Device) {
    forward(device, 2, 150, 64, Mask::Causal);
}
/// Keys past the last.
fn full(device: &Device) {
    forward(device, 2, 150, 64, Mask::Full);
}
/// A ring that comes round; in the last tile of queries two consumers have none.
fn ring(device: &Device) {
    forward(device, 1, 577, 64, Mask::Full);
}
/// More work than multiprocessors: up to three pieces in a block, of which the last consumer sees more tiles than the others.
fn rounds(device: &Device) {
    forward(device, 268, 130, 64, Mask::Causal);
}
/// Slabs of 32 columns.
fn narrow_slabs(device: &Device) {
    forward(device, 2, 150, 96, Mask::Causal);
}
/// Two slabs.
fn two_slabs(device: &Device) {
    forward(device, 2, 150, 128, Mask::Causal);
}
/// One buffer of queries, and more work than multiprocessors.
fn one_buffer(device: &Device) {
    forward(device, 140, 40, 192, Mask::Full);
}
/// More keys and values than a section has: two images that are the same, of which the second is partly in another section.
fn sections(device: &Device) {
    let (tokens, heads, head_dim) = (257, 86, 192);
    let image: Vec<f32> =
        (0..tokens * 3 * heads * head_dim).map(|at| (at * 7 % 23 + at / 192 % 5) as f32 / 16.0 - 0.8).collect();
    let qkv = device.upload(&[2, tokens, 3 * heads * head_dim], &[&image[..], &image].concat()).unwrap();
    let out = device.attention(&qkv, heads, Mask::Causal).unwrap();
    for tensor in [out.output, out.logsumexp] {
        let values = device.download(&tensor).unwrap();
        let (one, other) = values.split_at(values.len() / 2);
        assert!(one == other, "two images that are the same have other results");
    }
}

/// A stage's barriers are out of step.
const RING: Found = Found::Report(&["arrivals at an mbarrier", "race in shared memory", "was not waited for"]);
const FENCE: Found = Found::Report(&["missing fence"]);
const MAY_READ: Found = Found::Report(&["may still read"]);
const STUCK: Found = Found::Report(&["every thread waits for something that cannot come"]);
const IN_FLIGHT: Found =
    Found::Report(&["in flight accumulates in it", "in flight reads A from it", "race in shared memory"]);

pub const MUTANTS: &[Mutant] = mutants! {
    "attention sm90: queries are multiplied before they are there":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, edges, STALE;
    "barrier_wait(S::q_full(smem, consumer, place_of<S::BUFFERS>(filled)), parity_of<S::BUFFERS>(filled));" => ""

    "attention sm90: keys are multiplied before they are there":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, ring, STALE;
    "barrier_wait(S::k_full(smem, stage), parity_of<STAGES>(at + tile));" => ""

    "attention sm90: values are multiplied before they are there":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, edges, STALE;
    "barrier_wait(S::v_full(smem, place_of<STAGES>(at + tile)), parity_of<STAGES>(at + tile));" => ""

    "attention sm90: a stage is full one slab early":
    "attention_sm90" "attention/forward_sm90.cuh" D_128, Bf16, two_slabs, STALE;
    "barrier_arrive_expect(full, S::Columns::BYTES);" => "barrier_arrive_expect(full, S::Columns::BYTES - S::Columns::SLAB_BYTES);"

    "attention sm90: a stage is filled before it is empty":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, ring, RING;
    "barrier_wait(empty, parity_of<STAGES>(at + tile) ^ 1);" => ""

    "attention sm90: queries are replaced before their output is stored":
    "attention_sm90" "attention/forward_sm90.cuh" D_192, Bf16, one_buffer, RING;
    "barrier_wait(S::q_empty(smem, consumer, buffer), parity_of<S::BUFFERS>(filling) ^ 1);" => ""

    "attention sm90: the rings' parity never changes":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, ring, RING;
    "at / SIZE & 1" => "0"

    "attention sm90: keys are given back while they are multiplied":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, ring, IN_FLIGHT;
    "wgmma_wait<1>();" => "wgmma_wait<2>();"

    "attention sm90: values are given back while they are multiplied":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, ring, IN_FLIGHT;
    "wgmma_wait<0>(); wgmma_hold(out); if (is_first()) barrier_arrive(S::v_empty(smem, before));" =>
    "wgmma_hold(out); if (is_first()) barrier_arrive(S::v_empty(smem, before));"

    "attention sm90: keys are not given back":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, ring, STUCK;
    "if (is_first()) barrier_arrive(S::k_empty(smem, stage)); if constexpr (MASKED)" => "if constexpr (MASKED)"

    "attention sm90: tiles of other consumers are not given back":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, ring, STUCK;
    "self.skip(tiles, extent.all_tiles());" => ""

    "attention sm90: warps pass over tiles of other consumers, each by itself":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, ring,
    Found::Report(&["race in shared memory", "every thread waits for something that cannot come"]);
    "if (from == to) return; if (is_first()) {" => "if (from == to) return; {"

    "attention sm90: a consumer without queries is waited for in turns":
    "attention_sm90" "attention/schedule_sm90.cuh" D_64, Bf16, ring, STUCK;
    "const int last = extent.active - 1, tiles = extent.all_tiles();" => "const int last = S::CONSUMERS - 1, tiles = extent.all_tiles();"

    "attention sm90: turns are not passed on":
    "attention_sm90" "attention/schedule_sm90.cuh" D_64, Bf16, ring, STUCK;
    "if (to != consumer) named_barrier_arrive(TURNS<S> + to, 2 * GROUP_THREADS);" => ""

    "attention sm90: the next work's first turn does not come":
    "attention_sm90" "attention/schedule_sm90.cuh" D_64, Bf16, rounds, STUCK;
    "next_of_all = more ? 0 : consumer;" => "next_of_all = consumer;"

    "attention sm90: the turn goes to a consumer that is done":
    "attention_sm90" "attention/schedule_sm90.cuh" D_64, Bf16, |device| forward(device, 1, 530, 64, Mask::Causal), STUCK;
    "next_of_last += i < last && extent.tiles(i) < tiles;" => "next_of_last += 0;"

    "attention sm90: a turn is passed on before its products are asked for":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, rounds,
    Found::Equivalent("Turns are for speed alone: what is shared has barriers of its own.");
    "multiply_keys(tile); multiply_values(tile - 1); turns.pass(tile);" =>
    "turns.pass(tile); multiply_keys(tile); multiply_values(tile - 1);"

    "attention sm90: the first queries come first":
    "attention_sm90" "attention/schedule_sm90.cuh" D_64, Bf16, ring,
    Found::Equivalent("No tile of queries knows of another, in whatever order they come.");
    "(is_late ? late : tiles) - 1 - within / together" => "(is_late ? 0 : late) + within / together"

    "attention sm90: the second section is the first":
    "attention_sm90" "attention/schedule_sm90.cuh" D_192, Bf16, sections, PAST;
    "pair = first + within % together;" => "pair = within % together;"

    "attention sm90: the last section is as large as the others":
    "attention_sm90" "attention/schedule_sm90.cuh" D_192, Bf16, sections, PAST;
    "min(problem.section, pairs - first)" => "problem.section"

    "attention sm90: no fence before S":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, edges, FENCE;
    "wgmma_hold(scores); wgmma_fence();" => "wgmma_hold(scores);"

    "attention sm90: no fence before the last O":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, edges, FENCE;
    "wgmma_hold(out); wgmma_fence();" => "wgmma_hold(out);"

    "attention sm90: barriers are used before TMA can see them":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, edges, FENCE;
    "barrier_init_fence();" => ""

    "attention sm90: a query does not see itself":
    "attention_sm90" "attention/softmax_sm90.cuh" D_64, Bf16, edges, WRONG;
    "min(tokens, query + 1)" => "min(tokens, query)"

    "attention sm90: a query sees the next key":
    "attention_sm90" "attention/softmax_sm90.cuh" D_64, Bf16, edges, WRONG;
    "min(tokens, query + 1)" => "min(tokens, query + 2)"

    "attention sm90: a key past the last is seen":
    "attention_sm90" "attention/softmax_sm90.cuh" D_64, Bf16, full, WRONG;
    "min(tokens, query + 1) : tokens)" => "min(tokens, query + 1) : tokens + 1)"

    "attention sm90: tiles on the diagonal are not masked":
    "attention_sm90" "attention/schedule_sm90.cuh" D_64, Bf16, |device| forward(device, 2, 256, 64, Mask::Causal), WRONG;
    "first_query + consumer * BOX + 1) : tokens) / S::KEYS" => "first_query + (consumer + 1) * BOX) : tokens) / S::KEYS"

    "attention sm90: the last, short tile is not masked":
    "attention_sm90" "attention/schedule_sm90.cuh" D_64, Bf16, full, WRONG;
    ": tokens) / S::KEYS" => ": tokens + S::KEYS - 1) / S::KEYS"

    "attention sm90: all tiles are masked":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, ring,
    Found::Equivalent("A mask changes nothing in a tile that it does not cut.");
    "whole = extent.whole_tiles(consumer)" => "whole = 0"

    "attention sm90: a consumer does not see its last tile":
    "attention_sm90" "attention/schedule_sm90.cuh" D_96, Bf16, narrow_slabs, WRONG;
    "min(tokens, first_query + (consumer + 1) * BOX) : tokens, S::KEYS" => "min(tokens, first_query + consumer * BOX + 1) : tokens, S::KEYS"

    "attention sm90: both halves of a warp's rows have the mask of the first":
    "attention_sm90" "attention/softmax_sm90.cuh" D_64, Bf16, edges, WRONG;
    "lane / 4 + half * 8" => "lane / 4"

    "attention sm90: sums are not rescaled when the maximum rises":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, attention::rising_scores, WRONG;
    "shrink(factor);" => ""

    "attention sm90: the denominator is not rescaled when the maximum rises":
    "attention_sm90" "attention/softmax_sm90.cuh" D_64, Bf16, attention::rising_scores, WRONG;
    "fmaf(row_sum[half], factor[half], total)" => "row_sum[half] + total"

    "attention sm90: scores in the wrong unit":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, edges, WRONG;
    "scale * LOG2_E" => "scale"

    "attention sm90: logsumexp in the wrong unit":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, full, WRONG;
    "(row_max[half] + log2f(total)) * LN_2" => "row_max[half] + log2f(total)"

    "attention sm90: each lane has a maximum of its own":
    "attention_sm90" "attention/softmax_sm90.cuh" D_64, Bf16, full, WRONG;
    "lane_max<4>(fmaxf(largest[0], largest[1]))" => "fmaxf(largest[0], largest[1])"

    "attention sm90: each lane has a denominator of its own":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, full, WRONG;
    "lane_sum<4>(row_sum[half])" => "row_sum[half]"

    "attention sm90: logsumexp of queries past the last":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, full, Found::Report(&["race in global memory", "out of bounds"]);
    "lane % 4 == 0 && query < problem.tokens" => "lane % 4 == 0"

    "attention sm90: a step of columns is too short":
    "attention_sm90" "attention/tile_sm90.cuh" D_64, Bf16, edges, WRONG;
    "step * 16 % COLUMNS * 2" => "step * 16 % COLUMNS"

    "attention sm90: a step of keys is too short":
    "attention_sm90" "attention/tile_sm90.cuh" D_64, Bf16, edges, WRONG;
    "step * 16 * ROW_BYTES" => "step * 8 * ROW_BYTES"

    "attention sm90: slabs of values lie too near":
    "attention_sm90" "attention/tile_sm90.cuh" D_128, Bf16, two_slabs, WRONG;
    "{tile, SLAB_BYTES}" => "{tile, SLAB_BYTES / 2}"

    "attention sm90: slabs of 32 columns are read as those of 64":
    "attention_sm90" "ptx_sm90.cuh" D_96, Bf16, narrow_slabs, Found::Report(&["race in shared memory", "that nothing was written to"]);
    "(ROW_BYTES == 128 ? 1ull : 2ull) << 30" => "1ull << 30"

    "attention sm90: output in slabs of 32 columns is swizzled as in those of 64":
    "attention_sm90" "attention/tile_sm90.cuh" D_96, Bf16, narrow_slabs, WRONG;
    "row / 2 % 4" => "row % 4"

    "attention sm90: output is not swizzled":
    "attention_sm90" "attention/tile_sm90.cuh" D_64, Bf16, edges, WRONG;
    "ROW_BYTES == 128 ? row % 8 : row / 2 % 4" => "0"

    "attention sm90: output is stored without a fence":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, edges, FENCE;
    "proxy_fence();" => ""

    "attention sm90: output is stored before all have written it":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, edges,
    Found::Report(&["may still read", "missing fence"]);
    "proxy_fence(); named_barrier(OWN + consumer, GROUP_THREADS);" => "proxy_fence();"

    "attention sm90: output lies over queries that other warps multiply with":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, edges,
    Found::Equivalent("A warp's rows of output lie over the rows of queries that it alone multiplied with, if wgmma is as in the simulator.");
    "named_barrier(OWN + consumer, GROUP_THREADS); put" => "put"

    "attention sm90: queries are loaded over output that is being stored":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, rounds, MAY_READ;
    "tile_store_wait<0>(); barrier_arrive(S::q_empty" => "barrier_arrive(S::q_empty"

    "attention sm90: the only buffer of queries is not given back":
    "attention_sm90" "attention/forward_sm90.cuh" D_192, Bf16, one_buffer, STUCK;
    "if (S::BUFFERS == 1) free_queries(filled);" => ""

    "attention sm90: the wrong buffer of queries is given back":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, rounds, STUCK;
    "free_queries(filled - 1);" => "free_queries(filled);"

    "attention sm90: a block ends while its output is read":
    "attention_sm90" "attention/forward_sm90.cuh" D_64, Bf16, edges, MAY_READ;
    "if (self.is_first()) tile_store_wait<0>();" => ""
};
