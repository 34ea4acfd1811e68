//! Of the norm of all gradients.

use super::{Found, Mutant, STALE, TWICE, UNEQUAL, WRONG, mutants};
use crate::ops::global_norm;

pub const MUTANTS: &[Mutant] = mutants! {
    "global_norm: more partial sums than threads are forgotten":
    "global_norm" "global_norm.cu" [], F32, |device| global_norm::check_tensors(device, 1025), WRONG;
    "i += ROOT_THREADS" => "i += count"

    "global_norm: the very last element is forgotten":
    "global_norm" "global_norm.cu" [], F32, |device| global_norm::check_length(device, 7), WRONG;
    "threadIdx.x) < chunk.count % VECTOR<T>" => "threadIdx.x) + 1 < chunk.count % VECTOR<T>"

    "global_norm: the rest begins too early":
    "global_norm" "global_norm.cu" [], Bf16, |device| global_norm::check_length(device, 17), WRONG;
    "chunk.count / VECTOR<T> * VECTOR<T> + threadIdx.x" => "chunk.count / VECTOR<T> + threadIdx.x"

    "global_norm: squares of vectors in f32":
    "global_norm" "global_norm.cu" [], F32, global_norm::ends_of_the_range, WRONG;
    "static_cast<double>(v[e]) * v[e]" => "v[e] * v[e]"

    "global_norm: squares of the rest in f32":
    "global_norm" "global_norm.cu" [], F32, global_norm::ends_of_the_range, WRONG;
    "const double last =" => "const float last ="

    "global_norm: the root in f32":
    "global_norm" "global_norm.cu" [], F32, global_norm::ends_of_the_range, WRONG;
    "static_cast<float>(sqrt(sum))" => "sqrtf(static_cast<float>(sum))"

    "global_norm: blocks write one partial sum":
    "global_norm" "global_norm.cu" [], F32, |device| global_norm::check_length(device, 16_385), TWICE;
    "partials[blockIdx.x] = sum" => "partials[0] = sum"

    "global_norm: every chunk is the first":
    "global_norm" "global_norm.cu" [], F32, |device| global_norm::check_length(device, 16_385), WRONG;
    "(list.entries[chunk.entry].x) + chunk.begin" => "(list.entries[chunk.entry].x)"

    "global_norm: a norm that is infinite passes":
    "global_norm" "global_norm.cu" [], F32, global_norm::verdicts, UNEQUAL;
    "isfinite(root)" => "!isnan(root)"

    "global_norm: skipped steps in a row are not counted anew":
    "global_norm" "global_norm.cu" [], F32, global_norm::verdicts, UNEQUAL;
    "finite ? 0.0f : skipped[1] + 1.0f" => "skipped[1] + (finite ? 0.0f : 1.0f)"

    "global_norm: a norm is counted where none is asked":
    "global_norm" "global_norm.cu" [], F32,
    |device| global_norm::check_length(device, 7), Found::Report(&["null", "out of bounds", "illegal"]);
    "if (skipped == nullptr) return;" => ""

    "reduce: the last warp's sum is forgotten":
    "global_norm" "reduce.cuh" [], F32, |device| global_norm::check_length(device, 1023), WRONG;
    "other < WARPS; ++other" => "other < WARPS - 1; ++other"

    "reduce: no barrier before the warps' sums are read":
    "global_norm" "reduce.cuh" [], F32, |device| global_norm::check_length(device, 1023), STALE;
    "smem[warp] = x; __syncthreads();" => "smem[warp] = x;"
};
