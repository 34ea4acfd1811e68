//! Of the gradients of attention.

use super::{Device, Found, IMPRECISE, Mutant, PAST, STALE, WRONG, mutants, on_card};
use crate::far;
use crate::ops::attention;
use crate::ops::reference::Attention;
use igpt_engine::device::Mask;

const BF16_16: [&str; 2] = ["BF16(attention_backward_keys, 16,", "BF16(attention_backward_queries, 16,"];
const BF16_32: [&str; 2] = ["BF16(attention_backward_keys, 32,", "BF16(attention_backward_queries, 32,"];
const BF16_192: [&str; 2] = ["BF16(attention_backward_keys, 192,", "BF16(attention_backward_queries, 192,"];
const BF16_64: [&str; 2] = ["BF16(attention_backward_keys, 64,", "BF16(attention_backward_queries, 64,"];
const F32_32: [&str; 2] = ["F32(attention_backward_keys, 32,", "F32(attention_backward_queries, 32,"];
const F32_64: [&str; 2] = ["F32(attention_backward_keys, 64,", "F32(attention_backward_queries, 64,"];

fn backward(device: &Device, tokens: usize, head_dim: usize, mask: Mask) {
    attention::check(device, 1, Attention { batch: 1, tokens, heads: 2, head_dim, mask }, 1.0, false);
}
fn causal(device: &Device) {
    backward(device, 150, 32, Mask::Causal);
}
/// Columns of which the registers do not hold the gradients of both keys and values; no multiple of 8, of which compute capability 9.0 has
/// kernels of its own.
fn wide(device: &Device) {
    backward(device, 40, 132, Mask::Full);
}

/// Rows of eight vectors and more; no multiple of 8, of which compute capability 9.0 has kernels of its own.
fn wide_rows(device: &Device) {
    backward(device, 70, 60, Mask::Causal);
}

/// The same of 64 columns, on a card without wgmma.
fn on_an_a100(_: &Device) {
    on_card("a100", |device| backward(device, 70, 64, Mask::Causal));
}

pub const MUTANTS: &[Mutant] = mutants! {
    "attention backward: row sums of another stage":
    "attention_backward" "attention/backward_bf16.cuh" BF16_32, Bf16, causal, STALE;
    "*reinterpret_cast<const float2*>(pair + COLUMNS)" =>
    "*reinterpret_cast<const float2*>(stats + COLUMNS + chunk + j * 8 + lane % 4 * 2)"

    "attention backward: gradients are not scaled":
    "attention_backward" "attention/backward_bf16.cuh" BF16_32, Bf16, causal, WRONG;
    "acc_one[j][e] *= scale;" => "acc_one[j][e] *= 1.0f;"

    "attention backward: one tile too few":
    "attention_backward" "attention/backward_bf16.cuh" BF16_32, Bf16, causal, WRONG;
    "const int end = blocks_of(!BY_KEYS && causal ? min(tokens, first_row + ROWS) : tokens, COLUMNS);" =>
    "const int end = max(begin + 1, (!BY_KEYS && causal ? min(tokens, first_row + ROWS) : tokens) / COLUMNS);"

    "attention backward: logsumexp in bf16":
    "attention_backward" "attention/backward_bf16.cuh" BF16_32, Bf16, causal, IMPRECISE;
    "(e % 2 ? column_log.y : column_log.x) * LOG2_E : row_log[e / 2];" =>
    "rounded<bf16>((e % 2 ? column_log.y : column_log.x) * LOG2_E) : rounded<bf16>(row_log[e / 2]);"

    "attention backward: delta is not subtracted":
    "attention_backward" "attention/backward_bf16.cuh" BF16_32, Bf16, causal, WRONG;
    "p[j][e] * (ds[j][e] - shift)" => "p[j][e] * ds[j][e]"

    "attention backward: a query does not see itself":
    "attention_backward" "attention/backward_bf16.cuh" BF16_32, Bf16, causal, WRONG;
    "BY_KEYS ? row > column : column > row" => "BY_KEYS ? row >= column : column >= row"

    "attention backward: keys past the last weigh infinitely":
    "attention_backward" "attention/backward_bf16.cuh" BF16_16, Bf16, attention::low_scores, WRONG;
    "hidden || column >= tokens || row >= tokens" => "hidden || row >= tokens"

    "attention backward: a stage is not waited for":
    "attention_backward" "attention/backward_bf16.cuh" BF16_32, Bf16, causal, STALE;
    "copy_async_wait<0>(); __syncthreads(); if (block" => "__syncthreads(); if (block"

    "attention backward: no barrier between stages":
    "attention_backward" "attention/backward_bf16.cuh" BF16_32, Bf16, causal, STALE;
    "copy_async_wait<0>(); __syncthreads(); if (block" => "copy_async_wait<0>(); if (block"

    "attention backward: no barrier between two passes":
    "attention_backward" "attention/backward_bf16.cuh" BF16_192, Bf16, wide, STALE;
    "__syncthreads(); backward<D, BY_KEYS, COLUMNS, CHUNK, HOLD, true, false>(" =>
    "backward<D, BY_KEYS, COLUMNS, CHUNK, HOLD, true, false>("

    "attention backward: rows past the last are weighed":
    "attention_backward" "attention/backward_bf16.cuh" BF16_32, Bf16,
    causal, Found::Equivalent("A row of an mma is of its own row of A alone, and rows past the last are not stored.");
    "hidden || column >= tokens || row >= tokens" => "hidden || column >= tokens"

    "attention backward: stages before the first that is seen are worked on":
    "attention_backward" "attention/backward_bf16.cuh" BF16_32, Bf16,
    causal, Found::Equivalent("Their pairs are all hidden, chunk by chunk, and hidden chunks are skipped.");
    "BY_KEYS && causal ? first_row / COLUMNS : 0" => "0"

    "attention backward: the offset of an image in 32 bits":
    "attention_backward" "attention/backward_bf16.cuh" ["BF16(attention_backward_queries, \
    16,", "KERNEL_BF16(16,"], Bf16,
    far::attention_backward_bf16, Found::Elsewhere;
    "static_cast<size_t>(blockIdx.z) * tokens * 3 * width + blockIdx.y * head_dim" =>
    "static_cast<int>(blockIdx.z * tokens * 3 * width) + static_cast<int>(blockIdx.y * head_dim)"

    "attention delta: half of the lanes are forgotten":
    "attention_backward" "attention/delta.cuh" F32_32, F32, causal, WRONG;
    "lane_sum<LANES>(" => "lane_sum<LANES / 2>("

    "attention delta: columns past the first vectors are forgotten":
    "attention_backward" "attention/delta.cuh" F32_64, F32, |device| backward(device, 34, 60, Mask::Full), WRONG;
    "first < VECTORS; first += 8" => "first < 8; first += 8"

    "attention delta: the second of two partial sums is forgotten":
    "attention_backward" "attention/delta.cuh" BF16_64, Bf16, wide_rows, WRONG;
    "sums[0] + sums[PARTS - 1]" => "sums[0]"

    "attention delta: lanes without a vector read one past the row":
    "attention_backward" "attention/delta.cuh" BF16_16, Bf16, |device| backward(device, 70, 16, Mask::Full), STALE;
    "if (VECTORS % 8 != 0 && first + part >= VECTORS) break;" => ""

    "attention delta: all rows begin with the same half":
    "attention_backward" "attention/backward_bf16.cuh" BF16_64, Bf16, on_an_a100, Found::Conflicts;
    "D % 64 == 0 && row % 2 != 0" => "false"

    "attention delta: rows are not waited for":
    "attention_backward" "attention/backward_bf16.cuh" BF16_32, Bf16, causal, STALE;
    "if constexpr (!BY_KEYS) { copy_async_wait<0>(); __syncthreads();" => "if constexpr (!BY_KEYS) { __syncthreads();"

    "attention delta: rows of other warps' copies are read at once":
    "attention_backward" "attention/backward_bf16.cuh" BF16_32, Bf16, causal, STALE;
    "if constexpr (!BY_KEYS) { copy_async_wait<0>(); __syncthreads();" => "if constexpr (!BY_KEYS) { copy_async_wait<0>();"

    "attention delta: O lies where the first stage does":
    "attention_backward" "attention/backward_bf16.cuh" BF16_32, Bf16, causal,
    Found::Report(&["another asynchronous copy is on its way"]);
    "char* rows_out = stages + 2 * TILE_BYTES;" => "char* rows_out = stages;"

    "attention delta: of the rows of the first warp":
    "attention_backward" "attention/backward_bf16.cuh" BF16_32, Bf16, causal, WRONG;
    "const int row = warp * 16 + lane / 4 + half * 8, query = first_row + row;" =>
    "const int row = lane / 4 + half * 8, query = warp_row + row;"

    "attention delta: rows past the last are written":
    "attention_backward" "attention/backward_bf16.cuh" BF16_32, Bf16, causal, PAST;
    "if (lane % 4 == 0 && query < tokens)" => "if (lane % 4 == 0)"

    "attention delta f32: rows past the last are written":
    "attention_backward" "attention/backward_f32.cuh" F32_32, F32, causal, PAST;
    "if (row + r < tokens) delta" => "delta"

    "attention delta f32: O is read before it is there":
    "attention_backward" "attention/backward_f32.cuh" F32_32, F32, causal, STALE;
    "copy_async_commit(); copy_async_wait<0>(); __syncthreads();" => "copy_async_commit(); __syncthreads();"

    "attention delta f32: O is overwritten while it is read":
    "attention_backward" "attention/backward_f32.cuh" F32_32, F32, causal, STALE;
    "= sum; } } __syncthreads();" => "= sum; } }"

    "attention delta f32: of every other row":
    "attention_backward" "attention/backward_f32.cuh" F32_32, F32, causal, WRONG;
    "delta[head_stats + row + r] = sum" => "delta[head_stats + row] = sum"

    "attention backward f32: tiles are overwritten while they are read":
    "attention_backward" "attention/backward_f32.cuh" F32_32, F32, causal, STALE;
    "T::accumulate(p, columns_two, acc_two); __syncthreads();" => "T::accumulate(p, columns_two, acc_two);"

    "attention backward f32: gradients are not scaled":
    "attention_backward" "attention/backward_f32.cuh" F32_32, F32, causal, WRONG;
    "(ds[r][j] - stats[ROWS + query]) * scale" => "(ds[r][j] - stats[ROWS + query])"

    "attention backward f32: keys past the last weigh infinitely":
    "attention_backward" "attention/backward_f32.cuh" F32_32, F32, attention::low_scores, WRONG;
    "column < tokens && row + r < tokens && !hidden" => "row + r < tokens && !hidden"

    "attention backward f32: the first tile that is seen is forgotten":
    "attention_backward" "attention/backward_f32.cuh" F32_32, F32, causal, WRONG;
    "const int begin = BY_KEYS && causal ? first_row : 0;" =>
    "const int begin = BY_KEYS && causal ? first_row + ROWS : 0;"

    "attention backward f32: the offset of an image in 32 bits":
    "attention_backward" "attention/backward_f32.cuh" ["F32(attention_backward_queries, 32,"], F32,
    far::attention_backward_f32, Found::Elsewhere;
    "static_cast<size_t>(blockIdx.z) * tokens * 3 * width + blockIdx.y * head_dim" =>
    "static_cast<int>(blockIdx.z * tokens * 3 * width) + static_cast<int>(blockIdx.y * head_dim)"
};
