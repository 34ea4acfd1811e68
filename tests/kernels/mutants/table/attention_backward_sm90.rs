//! Of the gradients of attention on compute capability 9.0.

use super::{Device, Found, Mutant, PAST, STALE, TWICE, WRONG, mutants};
use crate::ops::attention;
use crate::ops::reference::Attention;
use igpt_engine::device::Mask;

const D_64: [&str; 1] = ["(64)"];
const D_96: [&str; 1] = ["(96)"];
const D_128: [&str; 1] = ["(128)"];
const D_192: [&str; 1] = ["(192)"];

fn backward(device: &Device, tokens: usize, head_dim: usize, mask: Mask) {
    attention::check(device, 1, Attention { batch: 1, tokens, heads: 2, head_dim, mask }, 1.0, false);
}
/// Tiles on the diagonal, a last one that is short, and a consumer whose rows are past the end.
fn edges(device: &Device) {
    backward(device, 150, 64, Mask::Causal);
}
/// A ring that comes round.
fn ring(device: &Device) {
    backward(device, 400, 64, Mask::Causal);
}
/// Slabs of 32 columns.
fn narrow_slabs(device: &Device) {
    backward(device, 150, 96, Mask::Causal);
}
/// Two slabs, and products that are waited for in each tile.
fn two_slabs(device: &Device) {
    backward(device, 150, 128, Mask::Causal);
}
/// A consumer for each of dK and dV.
fn split(device: &Device) {
    backward(device, 70, 192, Mask::Causal);
}

/// A stage's barriers are out of step.
const RING: Found = Found::Report(&["arrivals at an mbarrier", "race in shared memory", "was not waited for"]);
const FENCE: Found = Found::Report(&["missing fence"]);
const STUCK: Found = Found::Report(&["every thread waits for something that cannot come"]);
const IN_FLIGHT: Found = Found::Report(&["in flight accumulates in it"]);
const RACE: Found = Found::Report(&["race in shared memory"]);

pub const MUTANTS: &[Mutant] = mutants! {
    "attention backward sm90: rows are multiplied before they are there":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges, STALE;
    "barrier_wait(consumer.smem + S::LOADED + turn * 8, 0);" => ""

    "attention backward sm90: a stage is multiplied before it is full":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges, STALE;
    "barrier_wait(smem + S::FULL + ring.stage * 8, ring.parity); float p[COUNT]" => "float p[COUNT]"

    "attention backward sm90: a stage is full before its row sums are there":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges,
    Found::Report(&["every thread waits for something that cannot come", "was not waited for"]);
    "S::STAGE_BYTES + S::STATS_BYTES" => "S::STAGE_BYTES"

    "attention backward sm90: a stage is filled before it is empty":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, ring, RING;
    "{ barrier_wait(smem + S::EMPTY + ring.stage * 8, ring.parity ^ 1);" => "{"

    "attention backward sm90: O is loaded before its stage is empty":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, ring, RING;
    "barrier_wait(smem + S::EMPTY + ring.stage * 8, ring.parity ^ 1); barrier_arrive_expect" => "barrier_arrive_expect"

    "attention backward sm90: O is waited for as a stage of columns":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges, STUCK;
    "barrier_arrive_expect(full, S::Rows::BYTES);" => "barrier_arrive_expect(full, S::STAGE_BYTES);"

    "attention backward sm90: delta is computed before O is there":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges, STALE;
    "Rows::ROW_BYTES; barrier_wait(smem + S::FULL + ring.stage * 8, ring.parity);" => "Rows::ROW_BYTES;"

    "attention backward sm90: the stage of O is not given back":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, ring, STUCK;
    "release(ring.stage); ring.advance(1); } __device__" => "ring.advance(1); } __device__"

    "attention backward sm90: the stage of O is given back while it is read":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, ring, RING;
    "Rows::ROW_BYTES; barrier_wait(smem + S::FULL + ring.stage * 8, ring.parity);" =>
    "Rows::ROW_BYTES; barrier_wait(smem + S::FULL + ring.stage * 8, ring.parity); release(ring.stage);"

    "attention backward sm90: delta of the first consumer's rows":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges, WRONG;
    "(group() - 1) * BOX * Rows::ROW_BYTES" => "0"

    "attention backward sm90: delta of the rows of another turn":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, ring, WRONG;
    "const char* d_rows = memory + (rows_two - smem);" =>
    "const char* d_rows = memory + (rows_two - smem) % S::ROWS_BYTES;"

    "attention backward sm90: delta of slabs of 32 columns as of those of 64":
    "attention_backward_sm90" "attention/tile_sm90.cuh" D_96, Bf16, narrow_slabs, WRONG;
    "chunk * 8 / COLUMNS * SLAB_BYTES" => "chunk / 8 * SLAB_BYTES"

    "attention backward sm90: delta of rows past the last is written":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges, PAST;
    "if (lane % 4 == 0 && query < with.tokens)" => "if (lane % 4 == 0)"

    "attention backward sm90: all rows begin with the same half":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges, Found::Conflicts;
    "D % 64 == 0 && at % 2 != 0" => "false"

    "attention backward sm90: the ring's parity never changes":
    "attention_backward_sm90" "ring.cuh" D_64, Bf16, ring, RING;
    "parity ^= stage / STAGES & 1;" => ""

    "attention backward sm90: a stage is given back while it is read":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, ring, RACE;
    "if (before >= 0) release(before); before = ring.stage;" => "release(ring.stage);"

    "attention backward sm90: the stage before is given back while it is multiplied":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, ring, IN_FLIGHT;
    "wgmma_wait<ONE>();" => "wgmma_wait<ONE + 1>();"

    "attention backward sm90: a tile's products are not waited for":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_128, Bf16, two_slabs, IN_FLIGHT;
    "wgmma_wait<0>(); release(ring.stage);" => "release(ring.stage);"

    "attention backward sm90: dP is used before it is there":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges, IN_FLIGHT;
    "wgmma_wait<TWO>();" => ""

    "attention backward sm90: tiles of the other consumer alone are not given back":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, ring, STUCK;
    "release(ring.stage); ring.advance(1); } for (int tile = range.begin;" =>
    "ring.advance(1); } for (int tile = range.begin;"

    "attention backward sm90: tiles of the other consumer alone are given back before they are full":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_96, Bf16,
    |device| backward(device, 300, 96, Mask::Causal), RING;
    "barrier_wait(smem + S::FULL + ring.stage * 8, ring.parity); release(ring.stage);" => "release(ring.stage);"

    "attention backward sm90: a stage is empty when one consumer has read it":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, ring, RING;
    "CONSUMERS * GROUP_WARPS" => "GROUP_WARPS"

    "attention backward sm90: rows past the end are worked on":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges,
    Found::Equivalent("They are zeros, of which nothing is stored.");
    "if (row >= tokens) return {tiles, tiles, tiles, tiles};" => ""

    "attention backward sm90: the second turn has the rows of the first":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges,
    Found::Report(&["may still read it", "race in shared memory"]);
    "rows_one = smem + turn * S::ROWS_BYTES" => "rows_one = smem"

    "attention backward sm90: rows between the first and the last have two turns":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16,
    |device| backward(device, 260, 64, Mask::Causal), Found::Equivalent("Their results are the same both times.");
    "if (turn > 0 && mirrored == blockIdx.x) return tokens;" => ""

    "attention backward sm90: the main loop's last stage is not given back":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, ring, STUCK;
    "if (before >= 0) release(before); before = -1;" => "before = -1;"

    "attention backward sm90: warps give back what some of their lanes read":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, ring,
    Found::Equivalent("A wgmma.wait_group of the whole warp comes before; PTX does not say that it orders what lanes read.");
    "__syncwarp(); if (threadIdx.x % WARP == 0) barrier_arrive" => "if (threadIdx.x % WARP == 0) barrier_arrive"

    "attention backward sm90: no fence before S":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges, FENCE;
    "wgmma_fence(); multiply" => "multiply"

    "attention backward sm90: no fence after P and dS":
    "attention_backward_sm90" "attention/tile_sm90.cuh" D_64, Bf16, edges, FENCE;
    "wgmma_fence(); #pragma unroll" => "#pragma unroll"

    "attention backward sm90: barriers are used before TMA can see them":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges, FENCE;
    "barrier_init_fence();" => ""

    "attention backward sm90: a query does not see itself":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges, WRONG;
    "column >= from[half]" => "column > from[half]"

    "attention backward sm90: a query sees the next key":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges, WRONG;
    "column < to[half]" => "column <= to[half]"

    "attention backward sm90: hidden pairs have a weight":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges, WRONG;
    "-shift)); if (MASKED && !seen.at(j * 4 + e)) value = 0.0f;" => "-shift));"

    "attention backward sm90: past the end lies another head's delta":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16,
    attention::a_nan_stays_in_its_head, Found::Values(", not ");
    "(value - shift); if (MASKED && !seen.at(j * 4 + e)) value = 0.0f;" => "(value - shift);"

    "attention backward sm90: no tile of the diagonal is masked":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges, WRONG;
    "row / COLUMNS + 1, whole" => "row / COLUMNS, whole"

    "attention backward sm90: keys past the last weigh infinitely":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, attention::low_scores, WRONG;
    "whole = tokens / COLUMNS" => "whole = tiles"

    "attention backward sm90: row sums of another stage":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges, STALE;
    "memory + S::STATS + ring.stage * S::STATS_BYTES" => "memory + S::STATS"

    "attention backward sm90: row sums of another head":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges, TWICE;
    "blockIdx.z) * gridDim.y + blockIdx.y) * tokens" => "blockIdx.z) * gridDim.y) * tokens"

    "attention backward sm90: both consumers have the first half":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges, RACE;
    "rows_one = smem + turn * S::ROWS_BYTES + half * BOX * Rows::ROW_BYTES" => "rows_one = smem + turn * S::ROWS_BYTES"

    "attention backward sm90: a step of tokens is too short":
    "attention_backward_sm90" "attention/tile_sm90.cuh" D_64, Bf16, edges, WRONG;
    "step * 16 * ROW_BYTES" => "step * 8 * ROW_BYTES"

    "attention backward sm90: a step of columns is too short":
    "attention_backward_sm90" "attention/tile_sm90.cuh" D_64, Bf16, edges, WRONG;
    "step * 16 % COLUMNS * 2" => "step * 16 % COLUMNS"

    "attention backward sm90: slabs of 32 columns are read as those of 64":
    "attention_backward_sm90" "ptx_sm90.cuh" D_96, Bf16, narrow_slabs, STALE;
    "(ROW_BYTES == 128 ? 1ull : 2ull) << 30" => "1ull << 30"

    "attention backward sm90: slabs of 32 columns are swizzled as those of 64":
    "attention_backward_sm90" "attention/tile_sm90.cuh" D_96, Bf16, narrow_slabs, WRONG;
    "row / 2 % 4" => "row % 4"

    "attention backward sm90: results are not swizzled":
    "attention_backward_sm90" "attention/tile_sm90.cuh" D_64, Bf16, edges, WRONG;
    "ROW_BYTES == 128 ? row % 8 : row / 2 % 4" => "0"

    "attention backward sm90: dK is not scaled":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges, WRONG;
    "put<Rows>(one, with.scale, rows_one)" => "put<Rows>(one, 1.0f, rows_one)"

    "attention backward sm90: results lie over rows that the other consumer reads":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_192, Bf16, split, RACE;
    "if constexpr (S::SPLIT) named_barrier(BOTH, CONSUMERS * GROUP_THREADS);" => ""

    "attention backward sm90: results are stored without a fence":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges, FENCE;
    "proxy_fence();" => ""

    "attention backward sm90: results are stored before all have written them":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges,
    Found::Report(&["race in shared memory", "missing fence", "may still read it"]);
    "named_barrier(OWN + number, GROUP_THREADS);" => ""

    "attention backward sm90: a block ends while its results are read":
    "attention_backward_sm90" "attention/backward_sm90.cuh" D_64, Bf16, edges,
    Found::Report(&["may still read shared memory"]);
    "if (threadIdx.x % GROUP_THREADS == 0) tile_store_wait<0>();" => ""
};
