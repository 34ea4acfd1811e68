//! Of attention with a cache.

use super::{Device, Found, Mutant, STALE, WRONG, mutants};
use crate::far;
use crate::ops::attention_decode;

fn short(device: &Device) {
    attention_decode::check(device, 2, [2, 2, 33], 5, 1.0);
}
/// More positions than threads.
fn long(device: &Device) {
    attention_decode::check(device, 3, [2, 1, 40], 129, 1.0);
}

pub const MUTANTS: &[Mutant] = mutants! {
    "decode: the maximum is not subtracted":
    "attention_decode" "attention_decode.cu" ["KERNEL(f32,"], F32, attention_decode::large_scores, WRONG;
    "expf(scores[token] - max)" => "expf(scores[token])"

    "decode: positions past the number of threads keep their scores":
    "attention_decode" "attention_decode.cu" ["KERNEL(f32,"], F32, long, WRONG;
    "for (int token = threadIdx.x; token <= position; token += blockDim.x)" =>
    "if (const int token = threadIdx.x; token <= position)"

    "decode: a position does not see itself":
    "attention_decode" "attention_decode.cu" ["KERNEL(f32,"], F32, short, STALE;
    "token <= position; token += WARPS) { float score" => "token < position; token += WARPS) { float score"

    "decode: scores are not scaled":
    "attention_decode" "attention_decode.cu" ["KERNEL(f32,"], F32, short, WRONG;
    "lane_sum(score) * scale" => "lane_sum(score)"

    "decode: maxima are overwritten while they are read":
    "attention_decode" "attention_decode.cu" ["KERNEL(f32,"], F32, short, STALE;
    "fmaxf(reduction[2], reduction[3])); __syncthreads();" => "fmaxf(reduction[2], reduction[3]));"

    "decode: the position's value is not stored":
    "attention_decode" "attention_decode.cu" ["KERNEL(f32,"], F32, short, WRONG;
    "value[static_cast<size_t>(position) * width + e] = to_float(token_qkv[2 * width + e]);" => ""

    "decode: the last warp's values are forgotten":
    "attention_decode" "attention_decode.cu" ["KERNEL(f32,"], F32, short, WRONG;
    "+ partial_out[3 * head_dim + e]" => ""

    "decode: the cache is rounded when it is read":
    "attention_decode" "attention_decode.cu" ["KERNEL(bf16,"], Bf16, short, WRONG;
    "score = fmaf(query[e], key[static_cast<size_t>(token) * width + e], score)" =>
    "score = fmaf(query[e], rounded<T>(key[static_cast<size_t>(token) * width + e]), score)"

    "decode: the output is rounded before it is divided":
    "attention_decode" "attention_decode.cu" ["KERNEL(bf16,"], Bf16, long, WRONG;
    "from_float<T>(out / sum)" => "from_float<T>(rounded<T>(out) / sum)"

    "decode: no barrier behind the cache's new row":
    "attention_decode" "attention_decode.cu" ["KERNEL(f32,"], F32,
    short, Found::Report(&["race in global memory", "race in shared memory", "nothing was written to"]);
    "= to_float(token_qkv[2 * width + e]); } __syncthreads();" => "= to_float(token_qkv[2 * width + e]); }"

    "decode: the offset of an image in 32 bits":
    "attention_decode" "attention_decode.cu" ["KERNEL(f32,"], F32, far::attention_decode, Found::Elsewhere;
    "keys + static_cast<size_t>(blockIdx.y) * positions * width + column" =>
    "keys + static_cast<int>(blockIdx.y * positions * width) + column"

    "decode: the offset of a token in 32 bits":
    "attention_decode" "attention_decode.cu" ["KERNEL(f32,"], F32, far::attention_decode, Found::Elsewhere;
    "value[static_cast<size_t>(position) * width + e] =" =>
    "value[static_cast<int>(position * static_cast<unsigned>(width)) + e] ="
};
