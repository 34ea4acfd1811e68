//! Of what GEMMs in both precisions share: epilogues, activations, tiles and splits.

use super::{Device, Found, Mutant, TWICE, WRONG, mutants};
use crate::far;
use crate::ops::{linear, mlp};
use igpt_engine::device::Activation;

/// The kernels of an MLP and its gradients.
const MLP_BF16: [&str; 5] =
    ["linear_activate", "linear_weight", "linear_transposed", "linear_forward", "NAME##_bf16_64"];
const MLP_F32: [&str; 5] =
    ["linear_activate", "linear_weight", "linear_transposed", "linear_forward", "KERNEL_F32(NAME"];

fn with_bias(device: &Device) {
    linear::check_forward(device, (1, false, true, 70, 40, 72));
}
fn odd_forward(device: &Device) {
    linear::check_forward(device, (1, false, true, 70, 19, 35));
}
/// Both gradients.
fn gradients(device: &Device) {
    linear::check_backward(device, (1, false, false, 70, 72, 72));
}
fn odd_gradients(device: &Device) {
    linear::check_backward(device, (1, false, false, 70, 33, 35));
}
fn rounded_hidden(device: &Device) {
    mlp::check_forward_roundings(device, Activation::QuickGelu, 37, 16);
}
/// The weight's in two splits of k.
fn split_k(device: &Device) {
    linear::check_backward(device, (1, false, false, 700, 72, 72));
}

pub const MUTANTS: &[Mutant] = mutants! {
    "linear: the old gradient is dropped":
    "linear" "gemm/epilogue.cuh" ["linear_weight", "linear_transposed", "NAME##_bf16_64"], Bf16, gradients, WRONG;
    "make_float4(old.x + sum.x," => "make_float4(sum.x,"

    "linear of odd widths: the old gradient is dropped":
    "linear" "gemm/epilogue.cuh" ["linear_weight", "linear_transposed", "NAME##_bf16_odd"], Bf16, odd_gradients, WRONG;
    "add ? total[at + i] + v[i] : v[i]" => "v[i]"

    "linear of odd widths: gradients past a row's end are written":
    "linear" "gemm/epilogue.cuh" ["linear_weight", "linear_transposed", "NAME##_bf16_odd"], Bf16, odd_gradients, TWICE;
    "if (i < left) total[at + i]" => "total[at + i]"

    "linear of odd widths: results past a row's end are written":
    "linear" "gemm/epilogue.cuh" ["linear_forward", "KERNEL_F32(NAME"], F32, odd_forward, TWICE;
    "if (column + first + i < n) {" => "if (true) {"

    "linear: a vector has the bias of its first column":
    "linear" "gemm/epilogue.cuh" ["linear_forward", "KERNEL_F32(NAME"], F32, with_bias, WRONG;
    "? to.bias[column + i] : 0.0f" => "? to.bias[column] : 0.0f"

    "linear: the bias is rounded":
    "linear" "gemm/epilogue.cuh" ["linear_forward", "NAME##_bf16_64"], Bf16, with_bias, WRONG;
    "? to.bias[column + i] : 0.0f" => "? rounded<T>(to.bias[column + i]) : 0.0f"

    "linear: the sum is rounded before the bias is added":
    "linear" "gemm/epilogue.cuh" ["linear_forward", "NAME##_bf16_64"], Bf16, with_bias, WRONG;
    "v[i] += VECTORS || column + i < n ? to.bias[column + i] : 0.0f;" =>
    "v[i] = rounded<T>(v[i]) + (VECTORS || column + i < n ? to.bias[column + i] : 0.0f);"

    "linear: the gradient's sum is rounded before it is added":
    "linear" "gemm/epilogue.cuh" ["linear_weight", "linear_transposed", "NAME##_bf16_64"], Bf16, gradients, WRONG;
    "make_float4(v[i], v[i + 1]," => "make_float4(rounded<bf16>(v[i]), v[i + 1],"

    "mlp: the activation is of hidden values before they were rounded":
    "linear" "gemm/epilogue.cuh" ["linear_activate,", "linear_forward", "NAME##_bf16_64"], Bf16,
    rounded_hidden, WRONG;
    "other[i] = rounded<T>(out[i]);" => "other[i] = out[i];"

    "mlp: the activation's slope is forgotten":
    "linear" "gemm/epilogue.cuh" MLP_BF16, Bf16,
    |device| mlp::check_backward(device, (1, Activation::QuickGelu, false, 33, 16, 64)), WRONG;
    "out[i] *= act.slope;" => ""

    "mlp: the gradient is rounded before the slope":
    "linear" "gemm/epilogue.cuh" MLP_BF16, Bf16,
    |device| mlp::check_roundings(device, Activation::QuickGelu, 37, 16), WRONG;
    "out[i] *= act.slope;" => "out[i] = rounded<T>(out[i]) * act.slope;"

    "mlp: the slope is rounded":
    "linear" "gemm/epilogue.cuh" MLP_BF16, Bf16,
    |device| mlp::check_roundings(device, Activation::QuickGelu, 37, 16), WRONG;
    "out[i] *= act.slope;" => "out[i] *= rounded<T>(act.slope);"

    "mlp: backward has another activation than forward":
    "linear" "gemm/epilogue.cuh" MLP_BF16, Bf16,
    |device| mlp::check_roundings(device, Activation::QuickGelu, 37, 16), WRONG;
    "other[i] = act.value;" => "other[i] = act.value * 1.0625f;"

    "mlp: the second result goes to the hidden values":
    "linear" "gemm/epilogue.cuh" MLP_BF16, Bf16,
    |device| mlp::check_roundings(device, Activation::QuickGelu, 37, 16), WRONG;
    "E == Epilogue::ACTIVATE ? to.hidden : to.activated" => "to.hidden"

    "mlp: quick-GELU's slope is its sigmoid":
    "linear" "gemm/activation.cuh" MLP_F32, F32,
    |device| mlp::check_roundings(device, Activation::QuickGelu, 21, 13), WRONG;
    "fmaf(1.702f * value, 1.0f - s, s)" => "s"

    "mlp: GELU's slope lacks x":
    "linear" "gemm/activation.cuh" MLP_F32, F32,
    |device| mlp::check_roundings(device, Activation::Gelu, 21, 13), WRONG;
    "fmaf(0.39894228f * x," => "fmaf(0.39894228f,"

    "mlp: GELU's left tail loses its digits":
    "linear" "gemm/activation.cuh" MLP_F32, F32,
    mlp::large_values, WRONG;
    "0.5f * erfcf(-0.70710678f * x)" => "0.5f + 0.5f * erff(0.70710678f * x)"

    "linear: the last rows of tiles are as many as the others":
    "linear" "gemm/tiles.cuh" ["linear_forward", "KERNEL_F32(NAME"], F32, with_bias, WRONG;
    "const int height = min(RASTER, rows - first);" => "const int height = RASTER;"

    "linear: the last tiles of k belong to no split":
    "linear" "gemm/tiles.cuh" ["linear_weight", "linear_transposed", "NAME##_bf16_64"], Bf16, split_k, WRONG;
    "blocks_of(tiles, splits)" => "tiles / splits"

    "linear: splits of k overlap":
    "linear" "gemm/tiles.cuh" ["linear_weight", "linear_transposed", "NAME##_bf16_64"], Bf16, split_k, WRONG;
    "min(tiles, begin + per_split)" => "min(tiles, begin + per_split + 1)"

    "linear: a split may begin behind the last tile":
    "linear" "gemm/tiles.cuh" ["linear_weight", "linear_transposed", "NAME##_bf16_64"], Bf16,
    |device| linear::check_backward(device, (1, false, false, 16_416, 8, 8)),
    Found::Equivalent("A split that begins there ends before it begins, and adds up no tile.");
    "min(tiles, split * per_split)" => "split * per_split"

    "linear: the offset of a result in 32 bits":
    "linear" "gemm/epilogue.cuh" ["linear_forward", "linear_weight", "KERNEL_F32(NAME"], F32,
    far::linear_f32, Found::Elsewhere;
    "static_cast<size_t>(row) * n + column" => "static_cast<int>(row * static_cast<unsigned>(n)) + column"
};
