//! Of the GEMM of few rows.

use super::{Device, Found, Mutant, OUTSIDE, PAST, STALE, TWICE, WRONG, mutants};
use crate::ops::{linear, mlp};
use igpt_engine::device::Activation;

/// `y = x · W`: two blocks of rows, five of columns, and seven tiles of k for the first warps, which go once through the stages and on.
fn forward(device: &Device) {
    linear::check_forward(device, (1, false, true, 20, 1672, 72));
}
/// The same of `Wᵀ`.
fn transposed(device: &Device) {
    linear::check_forward(device, (1, true, false, 20, 1672, 72));
}
/// The activation's epilogue.
fn activate(device: &Device) {
    mlp::check_forward_roundings(device, Activation::QuickGelu, 20, 16);
}

pub const MUTANTS: &[Mutant] = mutants! {
    "linear of few rows: one copy too few is waited for":
    "linear" "gemm/few_rows.cuh" ["KERNEL_FEW(linear_forward"], Bf16, forward, STALE;
    "copy_async_wait<STAGES - 2>();" => "copy_async_wait<STAGES - 1>();"

    "linear of few rows: other lanes' copies are not waited for":
    "linear" "gemm/few_rows.cuh" ["KERNEL_FEW(linear_forward"], Bf16, forward, STALE;
    "copy_async_wait<STAGES - 2>(); __syncwarp();" => "copy_async_wait<STAGES - 2>();"

    "linear of few rows: a stage is refilled while it is read":
    "linear" "gemm/few_rows.cuh" ["KERNEL_FEW(linear_transposed"], Bf16, transposed, STALE;
    "load(i + STAGES - 1);" => "load(i + STAGES);"

    "linear of few rows: all warps have the first one's tiles":
    "linear" "gemm/few_rows.cuh" ["KERNEL_FEW(linear_forward"], Bf16, forward, WRONG;
    "const int tile = warp + i * WARPS;" => "const int tile = i * WARPS;"

    "linear of few rows: the last tile of k is forgotten":
    "linear" "gemm/few_rows.cuh" ["KERNEL_FEW(linear_transposed"], Bf16, transposed, WRONG;
    "tiles = blocks_of(k, TILE_K);" => "tiles = k / TILE_K;"

    "linear of few rows: all blocks have the first rows":
    "linear" "gemm/few_rows.cuh" ["KERNEL_FEW(linear_forward"], Bf16, forward, TWICE;
    "first_m = blockIdx.y * TILE" => "first_m = blockIdx.y / 2 * TILE"

    "linear of few rows: sums take the place of stages that are read":
    "linear" "gemm/few_rows.cuh" ["KERNEL_FEW(linear_forward"], Bf16, forward, STALE;
    "copy_async_wait<0>(); __syncthreads();" => "copy_async_wait<0>();"

    "linear of few rows: sums are read before they are there":
    "linear" "gemm/few_rows.cuh" ["KERNEL_FEW(linear_forward"], Bf16, forward, STALE;
    "} __syncthreads(); const int row = threadIdx.x / TILE" => "} const int row = threadIdx.x / TILE"

    "linear of few rows: the last warp's sums are forgotten":
    "linear" "gemm/few_rows.cuh" ["KERNEL_FEW(linear_forward"], Bf16, forward, WRONG;
    "other < WARPS; ++other" => "other < WARPS - 1; ++other"

    "linear of few rows: the lower rows' sums are the upper ones'":
    "linear" "gemm/few_rows.cuh" ["KERNEL_FEW(linear_transposed"], Bf16, transposed, Found::Elsewhere;
    "sum_at(row + 8, column)" => "sum_at(row, column)"

    "linear of few rows: sums are not swizzled":
    "linear" "gemm/few_rows.cuh" ["KERNEL_FEW(linear_forward"], Bf16, forward, Found::Conflicts;
    "(column ^ row / 2 % 2 * 8)" => "column"

    "linear of few rows: rows of 16 columns are not swizzled":
    "linear" "gemm/bf16.cuh" ["KERNEL_FEW(linear_forward"], Bf16, forward, Found::Conflicts;
    "row / 2 % 4 : row / 4 % 2" => "row / 2 % 4 : 0"

    "linear of few rows: both rows of a warp are the first":
    "linear" "gemm/few_rows.cuh" ["KERNEL_FEW(linear_forward"], Bf16, forward, WRONG;
    "lane % 4 * 8 + i" => "lane % 2 * 8 + i"

    "linear of few rows: the activation's columns are in another order":
    "linear" "gemm/few_rows.cuh" ["KERNEL_FEW(linear_forward", "KERNEL_FEW(linear_activate"], Bf16, activate, WRONG;
    "lane % 4 * 8 + i" => "lane % 4 * 8 + 7 - i"

    "linear of few rows: rows past the last are written":
    "linear" "gemm/few_rows.cuh" ["KERNEL_FEW(linear_forward"], Bf16, forward, OUTSIDE;
    "lane < 4 && out_row < m &&" => "lane < 4 &&"

    "linear of few rows: columns past the last are written":
    "linear" "gemm/few_rows.cuh" ["KERNEL_FEW(linear_forward"], Bf16, forward, PAST;
    "&& out_column < n)" => ")"
};
