//! Of norms.

use super::{Found, Mutant, OUTSIDE, STALE, TWICE, WRONG, mutants};
use crate::ops::layernorm;

pub const MUTANTS: &[Mutant] = mutants! {
    "layernorm: a reduction's shared memory is not freed":
    "layernorm" "reduce.cuh" ["TYPES(2,", "KERNELS(f32_##NAME"], F32,
    |device| layernorm::check_forward(device, (1, true, true, 3, 1000)), STALE;
    "x += smem[other]; __syncthreads();" => "x += smem[other];"

    "layernorm: statistics of the sum before it was rounded":
    "layernorm" "norm/row.cuh" ["TYPES(1,", "KERNELS(bf16_##NAME"], Bf16,
    |device| layernorm::check_forward(device, (1, true, true, 9, 504)), WRONG;
    "v[i] = rounded<T>(v[i] + delta[i]);" => "v[i] = v[i] + delta[i];"

    "layernorm: epsilon is added to the deviation":
    "layernorm" "norm/row.cuh" ["TYPES(1,", "KERNELS(f32_##NAME"], F32, layernorm::small_rows, WRONG;
    "sqrtf(squares / width + epsilon)" => "(sqrtf(squares / width) + epsilon)"

    "layernorm: columns past the width are as far from the mean as zero":
    "layernorm" "norm/row.cuh" ["TYPES(1_odd,", "KERNELS(f32_##NAME"], F32,
    |device| layernorm::check_forward(device, (1, true, true, 3, 9)), WRONG;
    "if (columns.inside(i)) squares = fmaf(v[i], v[i], squares);" => "squares = fmaf(v[i], v[i], squares);"

    "layernorm: the mean of all columns that a row could have":
    "layernorm" "layernorm.cu" ["TYPES(1,", "KERNELS(f32_##NAME"], F32,
    |device| layernorm::check_forward(device, (1, true, true, 3, 504)), WRONG;
    "group_sum<WARPS>(row_norm::total(v), group_smem, warp) / width" =>
    "group_sum<WARPS>(row_norm::total(v), group_smem, warp) / (VALUES * WARPS * WARP)"

    "layernorm: the bias is rounded":
    "layernorm" "norm/row.cuh" ["TYPES(1,", "KERNELS(bf16_##NAME"], Bf16,
    |device| layernorm::check_forward(device, (1, true, true, 9, 504)), WRONG;
    "fmaf(v[i] * rstd, gain[i], bias[i])" => "fmaf(v[i] * rstd, gain[i], rounded<bf16>(bias[i]))"

    "layernorm: the normalised row is rounded before its gain":
    "layernorm" "norm/row.cuh" ["TYPES(1,", "KERNELS(bf16_##NAME"], Bf16,
    |device| layernorm::check_forward(device, (1, true, true, 9, 504)), WRONG;
    "fmaf(v[i] * rstd, gain[i], bias[i])" => "fmaf(rounded<bf16>(v[i] * rstd), gain[i], bias[i])"

    "layernorm: rows past the last are read":
    "layernorm" "layernorm.cu" ["TYPES(1,", "KERNELS(f32_##NAME"], F32,
    |device| layernorm::check_forward(device, (1, true, true, 3, 504)), OUTSIDE;
    "in_bounds ? width : 0}; float v[VALUES];" => "width}; float v[VALUES];"

    "layernorm backward: the gain comes too late":
    "layernorm" "layernorm.cu" ["TYPES(1,", "KERNELS(f32_##NAME"], F32,
    |device| layernorm::check_backward(device, (1, true, true, 9, 24)), WRONG;
    "g[i] *= scale[i]; dot = fmaf(g[i], n[i], dot);" => "dot = fmaf(g[i], n[i], dot); g[i] *= scale[i];"

    "layernorm backward: the gain's gradient has the gain in it":
    "layernorm" "layernorm.cu" ["TYPES(1,", "KERNELS(f32_##NAME"], F32,
    |device| layernorm::check_backward(device, (1, true, true, 9, 24)), WRONG;
    "gain_sum[i] = fmaf(g[i], n[i], gain_sum[i]);" => "gain_sum[i] = fmaf(g[i] * scale[i], n[i], gain_sum[i]);"

    "layernorm backward: the gain's gradient is of rounded rows":
    "layernorm" "layernorm.cu" ["TYPES(1,", "KERNELS(bf16_##NAME"], Bf16,
    |device| layernorm::check_backward(device, (1, true, true, 9, 504)), WRONG;
    "gain_sum[i] = fmaf(g[i], n[i], gain_sum[i]);" => "gain_sum[i] = fmaf(g[i], rounded<T>(n[i]), gain_sum[i]);"

    "layernorm backward: the stream's gradient is dropped":
    "layernorm" "layernorm.cu" ["TYPES(1,", "KERNELS(f32_##NAME"], F32,
    |device| layernorm::check_backward(device, (1, true, true, 9, 24)), WRONG;
    "fmaf(saved.y, g[i] - shift - n[i] * dot, stream[i])" => "saved.y * (g[i] - shift - n[i] * dot)"

    "layernorm backward: the gradient is rounded before the stream's is added":
    "layernorm" "layernorm.cu" ["TYPES(1,", "KERNELS(bf16_##NAME"], Bf16,
    |device| layernorm::check_backward(device, (1, true, true, 9, 504)), WRONG;
    "fmaf(saved.y, g[i] - shift - n[i] * dot, stream[i])" =>
    "rounded<T>(saved.y * (g[i] - shift - n[i] * dot)) + stream[i]"

    "layernorm backward: rows past those of a grid are forgotten":
    "layernorm" "layernorm.cu" ["TYPES(1,", "KERNELS(f32_##NAME"], F32,
    |device| layernorm::check_backward(device, (1, false, true, 2057, 8)), WRONG;
    "for (int first = blockIdx.x * GROUPS; first < rows; first += gridDim.x * GROUPS)" =>
    "if (int first = blockIdx.x * GROUPS; first < rows)"

    "layernorm backward: RMS norms are centred":
    "layernorm" "layernorm.cu" ["TYPES(1,", "KERNELS(f32_##NAME"], F32,
    |device| layernorm::check_backward(device, (1, false, true, 9, 24)), WRONG;
    "shift = centre ? group_sum<WARPS>(shift, group_smem, warp) / width : 0.0f;" =>
    "shift = group_sum<WARPS>(shift, group_smem, warp) / width;"

    "layernorm backward: the last group's rows are forgotten":
    "layernorm" "layernorm.cu" ["TYPES(1,", "KERNELS(f32_##NAME"], F32,
    |device| layernorm::check_backward(device, (1, false, true, 9, 24)), WRONG;
    "g < GROUPS; ++g) sum +=" => "g < GROUPS - 1; ++g) sum +="

    "layernorm backward: the groups' sums are overwritten while they are read":
    "layernorm" "layernorm.cu" ["TYPES(1,", "KERNELS(f32_##NAME"], F32,
    |device| layernorm::check_backward(device, (1, true, true, 9, 24)), STALE;
    "sums[i] = sum; } } __syncthreads();" => "sums[i] = sum; } }"

    "layernorm backward: blocks write one row of partial sums":
    "layernorm" "layernorm.cu" ["TYPES(1,", "KERNELS(f32_##NAME"], F32,
    |device| layernorm::check_backward(device, (1, true, true, 9, 24)), TWICE;
    "partials + static_cast<size_t>(blockIdx.x) * width" => "partials"

    "layernorm backward: columns past the width are summed":
    "layernorm" "layernorm.cu" ["TYPES(1_odd,", "KERNELS(f32_##NAME"], F32,
    |device| layernorm::check_backward(device, (1, true, true, 9, 13)),
    Found::Equivalent("Sums past the width are not stored, and rows past the last have zeros, which change no sum.");
    "if (row_columns.inside(i)) { gain_sum" => "{ gain_sum"
};
