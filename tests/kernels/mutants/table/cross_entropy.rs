//! Of cross-entropy.

use super::{Device, Found, Mutant, OUTSIDE, UNEQUAL, WRONG, mutants};
use crate::ops::cross_entropy;

/// Rows that stay in registers.
fn of_512(device: &Device) {
    cross_entropy::check(device, 512, 3, 512, 1);
}
/// Rows that are read three times.
fn of_33(device: &Device) {
    cross_entropy::check(device, 33, 9, 33, 1);
}

pub const MUTANTS: &[Mutant] = mutants! {
    "cross entropy: the maximum is not subtracted":
    "cross_entropy" "cross_entropy.cu" ["KERNELS(f32,"], F32,
    |device| cross_entropy::check(device, 1, 21, 512, 2), WRONG;
    "v[i] = expf(v[i] - max);" => "v[i] = expf(v[i]);"

    "cross entropy of any classes: the maximum is not subtracted":
    "cross_entropy" "cross_entropy.cu" ["KERNELS(f32,"], F32,
    |device| cross_entropy::check(device, 1, 21, 33, 2), WRONG;
    "sum += expf(to_float(row_logits[column]) - max);" => "sum += expf(to_float(row_logits[column]));"

    "cross entropy: the target's gradient has no weight":
    "cross_entropy" "cross_entropy.cu" ["KERNELS(f32,"], F32, of_512, WRONG;
    "(column + e == target ? weight : 0.0f)" => "(column + e == target ? 1.0f : 0.0f)"

    "cross entropy of any classes: the target has no gradient":
    "cross_entropy" "cross_entropy.cu" ["KERNELS(f32,"], F32, of_33, WRONG;
    "softmax - (column == target ? weight : 0.0f)" => "softmax"

    "cross entropy: what lies past the classes has logits of zero":
    "cross_entropy" "cross_entropy.cu" ["KERNELS(f32,"], F32,
    |device| cross_entropy::check(device, 1, 3, 504, 0), WRONG;
    "column < vocabulary ? part[e] : -INFINITY" => "column < vocabulary ? part[e] : 0.0f"

    "cross entropy: rows past the last are worked on":
    "cross_entropy" "cross_entropy.cu" ["KERNELS(f32,"], F32, of_512, OUTSIDE;
    "constexpr int VALUES = 512 / WARP, STEP = VECTOR<T>; const int row = blockIdx.x * ROWS + threadIdx.x / WARP, \
    lane = threadIdx.x % WARP; if (row >= rows) return;" =>
    "constexpr int VALUES = 512 / WARP, STEP = VECTOR<T>; const int row = blockIdx.x * ROWS + threadIdx.x / WARP, \
    lane = threadIdx.x % WARP;"

    "cross entropy: a loss that is infinite has a gradient":
    "cross_entropy" "cross_entropy.cu" ["KERNELS(f32,"], F32, cross_entropy::losses_that_are_not_finite, UNEQUAL;
    "isfinite(weight * nll) ? weight / sum : __int_as_float(0x7fffffff)" => "weight / sum"

    "cross entropy: NaN logits of a row without weight have a gradient":
    "cross_entropy" "cross_entropy.cu" ["KERNELS(f32,"], F32,
    cross_entropy::losses_that_are_not_finite, Found::Values("NaN");
    "weight == 0.0f ? 0.0f : v[i + e] * scale" => "v[i + e] * scale"

    "weighted_sum: NaN logits of a row without weight count":
    "cross_entropy" "cross_entropy.cu" ["KERNELS(f32,"], F32,
    cross_entropy::losses_that_are_not_finite, Found::Values("NaN");
    "if (weights[i] != 0.0f) sum +=" => "sum +="

    "weighted_sum: rows past the number of threads are forgotten":
    "cross_entropy" "cross_entropy.cu" ["KERNELS(f32,"], F32,
    |device| cross_entropy::check(device, 1, 1025, 8, 0), WRONG;
    "for (int i = threadIdx.x; i < count; i += 1024)" => "if (const int i = threadIdx.x; i < count)"

    "cross entropy: a target that is no class has a loss":
    "cross_entropy" "cross_entropy.cu" ["KERNELS(f32,"], F32, cross_entropy::rows_without_weight, UNEQUAL;
    "target < vocabulary ? negative_log_likelihood(sum, logit, max) : 0.0f" =>
    "negative_log_likelihood(sum, logit, max)"

    "cross entropy: the maximum is added before the logit is subtracted":
    "cross_entropy" "cross_entropy.cu" ["KERNELS(f32,"], F32, cross_entropy::extreme_logits, WRONG;
    "logf(sum) - (logit - max)" => "logf(sum) + max - logit"

    "cross entropy of any classes: the target's logit is read after it was overwritten":
    "cross_entropy" "cross_entropy.cu" ["KERNELS(f32,"], F32, of_33, Found::Report(&["race in global memory"]);
    "__syncwarp();" => ""

    "cross entropy of any classes: the loss is of the logit as it is stored":
    "cross_entropy" "cross_entropy.cu" ["KERNELS(bf16,"], Bf16, of_33, WRONG;
    "if (lane == 0) nll[row] = row_nll; __syncwarp();" =>
    "if (lane == 0) nll[row] = rounded<T>(row_nll); __syncwarp();"

    "cross entropy: softmax is rounded before the target is subtracted":
    "cross_entropy" "cross_entropy.cu" ["KERNELS(bf16,"], Bf16,
    |device| cross_entropy::check(device, 1025, 1025, 8, 0), WRONG;
    "v[i + e] * scale - (" => "rounded<T>(v[i + e] * scale) - ("

    "reduce: sums of lanes reach the first lane alone":
    "cross_entropy" "reduce.cuh" ["KERNELS(f32,"], F32, of_512, WRONG;
    "x += __shfl_xor_sync(ALL_LANES, x, distance)" => "x += __shfl_down_sync(ALL_LANES, x, distance)"
};
