//! Of attention.

use super::{Device, Found, Mutant, OUTSIDE, STALE, TWICE, WRONG, mutants};
use crate::far;
use crate::ops::attention;
use crate::ops::reference::Attention;
use igpt_engine::device::Mask;

fn forward(device: &Device, tokens: usize, head_dim: usize, mask: Mask) {
    attention::check_forward(device, 1, Attention { batch: 1, tokens, heads: 2, head_dim, mask });
}
fn causal(device: &Device) {
    forward(device, 150, 32, Mask::Causal);
}
fn full(device: &Device) {
    forward(device, 150, 32, Mask::Full);
}
/// Narrower than its tiles, in vectors.
fn narrow(device: &Device) {
    forward(device, 66, 24, Mask::Full);
}
/// The same beside vectors.
fn odd(device: &Device) {
    forward(device, 66, 31, Mask::Full);
}

pub const MUTANTS: &[Mutant] = mutants! {
    "attention: a query does not see itself":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, causal, WRONG;
    "(causal && key > query)" => "(causal && key >= query)"

    "attention: keys past the last are seen":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, full, WRONG;
    "key >= tokens || (causal && key > query)" => "causal && key > query"

    "attention: sums are not rescaled when the maximum rises":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, attention::rising_scores, WRONG;
    "out[i][j][2 * half] *= factor;" => ""

    "attention: the denominator is not rescaled when the maximum rises":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, attention::rising_scores, WRONG;
    "fmaf(row_sum[i][half], factor, total)" => "row_sum[i][half] + total"

    "attention: scores in the wrong unit":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, causal, WRONG;
    "const float exponent_scale = scale * LOG2_E;" => "const float exponent_scale = scale;"

    "attention: logsumexp in the wrong unit":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, full, WRONG;
    "(row_max[i][half] + log2f(total)) * LN_2" => "row_max[i][half] + log2f(total)"

    "attention: logsumexp is rounded":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, full, WRONG;
    "(row_max[i][half] + log2f(total)) * LN_2" => "rounded<bf16>((row_max[i][half] + log2f(total)) * LN_2)"

    "attention: each lane has a maximum of its own":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, full, WRONG;
    "lane_max<4>(new_max) * exponent_scale" => "new_max * exponent_scale"

    "attention: each lane has a denominator of its own":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, full, WRONG;
    "lane_sum<4>(row_sum[i][half])" => "row_sum[i][half]"

    "attention: half of the values twice":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, full, WRONG;
    "v_fragment[2], v_fragment[3]" => "v_fragment[0], v_fragment[1]"

    "attention: the first tiles are not waited for":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, causal, STALE;
    "copy_async_wait<0>();" => "copy_async_wait<1>();"

    "attention: no barrier between stages":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, causal, STALE;
    "copy_async_wait<0>(); __syncthreads();" => "copy_async_wait<0>();"

    "attention: a stage is refilled while it is read":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, causal, STALE;
    "(block + 1) % 2 * 2 * TILE_BYTES" => "block % 2 * 2 * TILE_BYTES"

    "attention: columns of the next head are read":
    "attention" "attention/tile_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, narrow, WRONG;
    "first + row < head.tokens && chunk * 8 < head.head_dim" => "first + row < head.tokens"

    "attention of odd widths: columns of the next head are read":
    "attention" "attention/tile_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, odd, WRONG;
    "first + row < head.tokens && chunk * 8 + e < head.head_dim" => "first + row < head.tokens"

    "attention: tokens past the last are read":
    "attention" "attention/tile_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, full, OUTSIDE;
    "first + row < head.tokens && chunk * 8 < head.head_dim" => "chunk * 8 < head.head_dim"

    "attention of odd widths: columns of the next head are written":
    "attention" "attention/tile_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, odd, TWICE;
    "e < min(8, head.head_dim - chunk * 8)" => "e < 8"

    "attention: lanes read results before all have written them":
    "attention" "attention/tile_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, full, STALE;
    "pack_bf16(accumulators[j][2], accumulators[j][3]); } __syncwarp();" =>
    "pack_bf16(accumulators[j][2], accumulators[j][3]); }"

    "attention: blocks of hidden keys are worked on":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16,
    causal, Found::Equivalent("Hidden keys weigh nothing: the maximum stays, so the factor is 1, and zeros are added.");
    "if (causal && first_key > warp_query + ROW_TILES * 16 - 1) continue;" => ""

    "attention: the offset of an image in 32 bits":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(16,"], Bf16, far::attention_bf16, Found::Elsewhere;
    "qkv + static_cast<size_t>(blockIdx.z) * tokens * 3 * width + blockIdx.y * head_dim" =>
    "qkv + static_cast<int>(blockIdx.z * tokens * 3 * width) + blockIdx.y * head_dim"

    "attention f32: tiles are overwritten while they are read":
    "attention" "attention/forward_f32.cuh" ["KERNEL_F32(32,"], F32, causal, STALE;
    "T::accumulate(scores, v_tile, out); __syncthreads();" => "T::accumulate(scores, v_tile, out);"

    "attention f32: keys past the last are seen":
    "attention" "attention/forward_f32.cuh" ["KERNEL_F32(32,"], F32, full, WRONG;
    "key >= tokens || (causal && key > row + r)" => "causal && key > row + r"

    "attention f32: the denominator is not rescaled when the maximum rises":
    "attention" "attention/forward_f32.cuh" ["KERNEL_F32(32,"], F32, attention::rising_scores, WRONG;
    "fmaf(row_sum[r], factor, lane_sum<8>(total))" => "row_sum[r] + lane_sum<8>(total)"

    "attention f32: logsumexp lacks the maximum":
    "attention" "attention/forward_f32.cuh" ["KERNEL_F32(32,"], F32, full, WRONG;
    "row_max[r] + logf(row_sum[r])" => "logf(row_sum[r])"

    "attention f32: columns of the next head are written":
    "attention" "attention/tile_f32.cuh" ["KERNEL_F32(32,"], F32, odd, TWICE;
    "if (column + e < head.head_dim) target[e] = v[e];" => "target[e] = v[e];"

    "attention f32: rows of tiles have no padding":
    "attention" "attention/tile_f32.cuh" ["KERNEL_F32(32,"], F32, full, Found::Conflicts;
    "ROW_STRIDE = D + 4" => "ROW_STRIDE = D"
};
