//! Of attention with a cache.

use super::{Device, Found, Mutant, STALE, TWICE, WRONG, mutants};
use crate::far;
use crate::ops::attention_decode;

fn short(device: &Device) {
    attention_decode::check(device, 2, [2, 2, 33], 5, 1.0);
}
/// Two chunks, and columns that vectors divide.
fn long(device: &Device) {
    attention_decode::check(device, 3, [2, 2, 40], 200, 1.0);
}
/// More chunks than are looked at together.
fn many_chunks(device: &Device) {
    attention_decode::check(device, 5, [1, 2, 16], 1200, 1.0);
}
/// The last position of a chunk.
fn whole(device: &Device) {
    attention_decode::check(device, 4, [1, 2, 64], 127, 1.0);
}

pub const MUTANTS: &[Mutant] = mutants! {
    "decode: the maximum is not subtracted":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, attention_decode::large_scores, WRONG;
    "expf(scores[threadIdx.x] - base)" => "expf(scores[threadIdx.x])"

    "decode: minus infinity is subtracted from itself":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, attention_decode::chunks_of_no_weight, WRONG;
    "const float base = max == -INFINITY ? 0.0f : max;" => "const float base = max;"

    "decode: a position does not see itself":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, short, WRONG;
    "end = min(position + 1, first + CHUNK);" => "end = min(position, first + CHUNK);"

    "decode: scores are not scaled":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, short, WRONG;
    "lane_sum<LANES>(score) * scale" => "lane_sum<LANES>(score)"

    "decode: a score is the sum of half of its lanes":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, long, WRONG;
    "lane_sum<LANES>(score) * scale" => "lane_sum<LANES / 2>(score) * scale"

    "decode: rows of a warp are read twice":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, long, WRONG;
    "const int token = first + at + row;" => "const int token = first + at;"

    "decode: maxima are overwritten while they are read":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, short, STALE;
    "fmaxf(reduction[2], reduction[3])); __syncthreads();" => "fmaxf(reduction[2], reduction[3]));"

    "decode: the position's value is not stored":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, short, WRONG;
    "value[static_cast<size_t>(position) * head_dim + e] = token_qkv[2 * width + e];" => ""

    "decode: every chunk stores the position's key":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, long, TWICE;
    "if (end > position)" => "if (end >= 0)"

    "decode: the last warp's values are forgotten":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, long, WRONG;
    "+ out[3 * padded]" => ""

    "decode: half of the rows under way are forgotten":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, long, WRONG;
    "sum[i] += __shfl_xor_sync(ALL_LANES, sum[i], 2 * LANES);" => ""

    "decode: columns past the lanes' first vectors are left out":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, whole, WRONG;
    "for (int e = lane * V; e < head_dim; e += LANES * V)" => "if (const int e = lane * V; e < head_dim)"

    "decode: no padding between columns":
    "attention_decode" "attention_decode.cu" ["KERNELS(bf16,"], Bf16, whole, Found::Conflicts;
    "return e + e / 32 * 4;" => "return e;"

    "decode: the output is rounded before it is divided":
    "attention_decode" "attention_decode.cu" ["KERNELS(bf16,"], Bf16, long, WRONG;
    "from_float<T>(out / sum)" => "from_float<T>(rounded<T>(out) / sum)"

    "decode: no barrier behind the cache's new row":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32,
    short, Found::Report(&["race in global memory", "race in shared memory", "nothing was written to"]);
    "= token_qkv[2 * width + e]; } } __syncthreads();" => "= token_qkv[2 * width + e]; } }"

    "decode: no barrier behind the outputs of the warps":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, long, STALE;
    "mine, end, head_dim); } __syncthreads();" => "mine, end, head_dim); }"

    "combine: the last chunk is left out":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, long, WRONG;
    "const int used = *at / CHUNK + 1;" => "const int used = max(1, *at / CHUNK);"

    "combine: a chunk too many behind a whole one":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, whole, WRONG;
    "const int used = *at / CHUNK + 1;" => "const int used = (*at + 1) / CHUNK + 1;"

    "combine: chunks are added up without their maxima":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, long, WRONG;
    "out = fmaf(of_out, scale, out);" => "out += of_out;"

    "combine: weights are added up without their maxima":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, long, WRONG;
    "sum = fmaf(of_sum, scale, sum);" => "sum += of_sum;"

    "combine: chunks past the first eight are left out":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, many_chunks, WRONG;
    "for (int chunk = FIRST; chunk < used; ++chunk) { const float* numbers" =>
    "for (int chunk = FIRST; chunk < FIRST; ++chunk) { const float* numbers"

    "combine: the maximum is that of the first eight chunks":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, attention_decode::chunks_of_no_weight, WRONG;
    "max = fmaxf(max, partial[chunk * (head_dim + 2) + head_dim + 1]);" => ";"

    "decode: the offset of a head in 32 bits":
    "attention_decode" "attention_decode.cu" ["KERNELS(f32,"], F32, far::attention_decode, Found::Elsewhere;
    "T* value = values + head * positions * head_dim;" =>
    "T* value = values + static_cast<int>(static_cast<unsigned>(head) * positions * head_dim);"
};
