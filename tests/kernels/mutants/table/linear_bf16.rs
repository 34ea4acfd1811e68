//! Of the GEMMs on tensor cores.

use super::{Device, Found, Mutant, STALE, TWICE, WRONG, mutants, on_card};
use crate::far;
use crate::ops::linear;

/// `y = x · W`, six tiles of k and a part of one.
fn forward(device: &Device) {
    linear::check_forward(device, (1, false, false, 70, 200, 72));
}
/// The same of `Wᵀ`.
fn transposed(device: &Device) {
    linear::check_forward(device, (1, true, false, 70, 200, 72));
}
/// The weight's gradient in two splits of k.
fn split_k(device: &Device) {
    linear::check_backward(device, (1, false, false, 700, 72, 72));
}
/// The gradients of several weights, with sums in two parts, on a card without wgmma.
fn weights_in_parts(_: &Device) {
    on_card("a100", linear::weights_in_parts);
}
/// Large tiles, on a card that has not the shared memory for those of the others.
fn short(_: &Device) {
    on_card("rtx4090", |device| linear::check_forward(device, (1, false, false, 128, 32, 6912)));
}

pub const MUTANTS: &[Mutant] = mutants! {
    "linear: no barrier between stages":
    "linear" "gemm/bf16.cuh" ["linear_forward", "NAME##_bf16_64"], Bf16, forward, STALE;
    "copy_async_wait<STAGES - 2>(); __syncthreads(); stage = stage" => "copy_async_wait<STAGES - 2>(); stage = stage"

    "linear: no barrier before the first stage":
    "linear" "gemm/bf16.cuh" ["linear_forward", "NAME##_bf16_64"], Bf16, forward, STALE;
    "copy_async_wait<STAGES - 2>(); __syncthreads(); int stage = 0;" => "copy_async_wait<STAGES - 2>(); int stage = 0;"

    "linear: one copy too few is waited for":
    "linear" "gemm/bf16.cuh" ["linear_forward", "NAME##_bf16_64"], Bf16, forward, STALE;
    "copy_async_wait<STAGES - 2>(); __syncthreads(); stage = stage" =>
    "copy_async_wait<STAGES - 1>(); __syncthreads(); stage = stage"

    "linear: a stage is refilled while it is read":
    "linear" "gemm/bf16.cuh" ["linear_forward", "NAME##_bf16_64"], Bf16, forward, STALE;
    "stage == 0 ? STAGES - 1 : stage - 1" => "stage"

    "linear: swizzle of narrow rows leaves the row":
    "linear" "gemm/bf16.cuh" ["linear_forward", "NAME##_bf16_64"], Bf16, forward, STALE;
    "CHUNKS >= 8 ? row % 8 : CHUNKS == 4 ? row / 2 % 4 : row / 4 % 2" => "row % 8"

    "linear: no swizzle":
    "linear" "gemm/bf16.cuh" ["linear_forward", "NAME##_bf16_64"], Bf16, forward, Found::Conflicts;
    "return (row * CHUNKS + (chunk ^ swizzle)) * 16;" => "return (row * CHUNKS + chunk + 0 * swizzle) * 16;"

    "linear: the staging tile has no padding":
    "linear" "gemm/bf16.cuh" ["linear_forward", "NAME##_bf16_64"], Bf16, forward, Found::Conflicts;
    "ROW_STRIDE = TILE_N + 8" => "ROW_STRIDE = TILE_N"

    "linear: lanes read the staging tile in order":
    "linear" "gemm/bf16.cuh" ["linear_forward", "NAME##_bf16_64"], Bf16, forward, Found::Conflicts;
    "const int swap = lane / 4 % 2 * 4;" => "const int swap = lane / 64 * 4;"

    "linear: the last, short tile of k is forgotten":
    "linear" "gemm/bf16.cuh" ["linear_forward", "NAME##_bf16_64"], Bf16, forward, WRONG;
    "min(split.end * EACH, blocks_of(k, TILE_K))" => "min(split.end * EACH, k / TILE_K)"

    "linear: columns past the row's end are read":
    "linear" "gemm/bf16.cuh" ["linear_transposed", "NAME##_bf16_64"], Bf16, transposed, Found::Elsewhere;
    "const uint32_t there = left > 0 ? inside : 0;" => "const uint32_t there = inside;"

    "linear: rows past the last k are read":
    "linear" "gemm/bf16.cuh" ["linear_forward", "NAME##_bf16_64"], Bf16, forward, Found::Elsewhere;
    "MAJOR == Major::K || left > i * APART" => "true"

    "linear: the second half of a stage's columns is the first":
    "linear" "gemm/bf16.cuh" ["linear_transposed", "NAME##_bf16_64"], Bf16, transposed, WRONG;
    "place ^ k / 8 * 16" => "place"

    "linear: steps along swizzled rows are added":
    "linear" "gemm/bf16.cuh" ["linear_forward", "NAME##_bf16_64"], Bf16, forward, STALE;
    "place ^ i * 2 * 16" => "place + i * 2 * 16"

    "linear of odd widths: columns past the row's end are read":
    "linear" "gemm/bf16.cuh" ["linear_transposed", "NAME##_bf16_odd"], Bf16,
    |device| linear::check_forward(device, (1, true, false, 70, 35, 33)), WRONG;
    "inside && column + e < columns ? to_float(source[e]) : 0.0f" => "inside ? to_float(source[e]) : 0.0f"

    "linear: rows past the result's end are written":
    "linear" "gemm/bf16.cuh" ["linear_forward", "NAME##_bf16_64"], Bf16, forward, TWICE;
    "if (first_m + row >= m || first_n + column >= n) continue;" => "if (first_m + row >= m) continue;"

    "linear: a pair of fragments is one twice":
    "linear" "gemm/bf16.cuh" ["linear_forward", "NAME##_bf16_64"], Bf16, forward, WRONG;
    "b_fragments[half][j / 2][j % 2 * 2 + 1]" => "b_fragments[half][j / 2][j % 2 * 2]"

    "linear: the staging tile is written while operands are read":
    "linear" "gemm/bf16.cuh" ["linear_forward", "NAME##_bf16_64"], Bf16, forward, STALE;
    "copy_async_wait<0>(); __syncthreads();" => "copy_async_wait<0>();"

    "linear: the staging tile is read while it is written":
    "linear" "gemm/bf16.cuh" ["linear_forward", "NAME##_bf16_64"], Bf16, forward, STALE;
    "accumulators[i][j][2], accumulators[i][j][3]); } } } __syncthreads();" =>
    "accumulators[i][j][2], accumulators[i][j][3]); } } }"

    "linear: a part of the staging tile is overwritten while it is read":
    "linear" "gemm/bf16.cuh" ["linear_forward", "NAME##_bf16_128_short"], Bf16, short, STALE;
    "if (part > 0) __syncthreads(); if (PARTS" => "if (PARTS"

    "linear: splits of k write to one place":
    "linear" "gemm/bf16.cuh" ["linear_weight", "linear_transposed", "NAME##_bf16_64"], Bf16, split_k, TWICE;
    "to.total += static_cast<size_t>(blockIdx.z) * m * n;" => ""

    "linear: copies past the last tile are not waited for":
    "linear" "gemm/bf16.cuh" ["linear_forward", "NAME##_bf16_64"], Bf16,
    forward, STALE;
    "copy_async_wait<0>();" => ""

    "linear: the offset of a split's sums in 32 bits":
    "linear" "gemm/bf16.cuh" ["linear_forward", "linear_weight", "NAME##_bf16_64"], Bf16,
    far::linear_bf16, Found::Elsewhere;
    "static_cast<size_t>(blockIdx.z) * m * n" => "static_cast<int>(blockIdx.z * m * n)"

    "linear: the step from a tile to the next in bytes of 32 bits":
    "linear" "gemm/bf16.cuh" ["linear_forward", "linear_weight", "NAME##_bf16_64"], Bf16,
    far::linear_bf16, Found::Elsewhere;
    "source += next;" =>
    "source = reinterpret_cast<const bf16*>(reinterpret_cast<const char*>(source) + static_cast<int>(2 * next));"

    "linear_weights bf16: the second part is loaded while the first is stored":
    "linear" "gemm/bf16.cuh" ["KERNEL_WEIGHTS(linear_weights_bf16_128,"], Bf16, weights_in_parts, STALE;
    "if (part > 0) __syncthreads(); const KRange range" => "const KRange range"

    "linear_weights bf16: the second part is not added":
    "linear" "gemm/bf16.cuh" ["KERNEL_WEIGHTS(linear_weights_bf16_128,"], Bf16, weights_in_parts, WRONG;
    "add || part > 0" => "add"

    "linear_weights bf16: both parts are the first":
    "linear" "gemm/bf16.cuh" ["KERNEL_WEIGHTS(linear_weights_bf16_128,"], Bf16, weights_in_parts, WRONG;
    "part == 0 ? Part::FIRST : Part::LAST" => "Part::FIRST"
};
