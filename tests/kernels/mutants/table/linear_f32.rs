//! Of the GEMMs in f32.

use super::{Device, Found, Mutant, PAST, STALE, TWICE, WRONG, mutants};
use crate::far;
use crate::ops::linear;

/// Two tiles of k and a part of one.
fn forward(device: &Device) {
    linear::check_forward(device, (1, false, false, 70, 40, 72));
}

pub const MUTANTS: &[Mutant] = mutants! {
    "linear f32: no barrier between stages":
    "linear" "gemm/f32.cuh" ["linear_forward", "KERNEL_F32(NAME"], F32, forward, STALE;
    "copy_async_wait<STAGES - 2>(); __syncthreads();" => "copy_async_wait<STAGES - 2>();"

    "linear f32: one copy too few is waited for":
    "linear" "gemm/f32.cuh" ["linear_forward", "KERNEL_F32(NAME"], F32, forward, STALE;
    "copy_async_wait<STAGES - 2>();" => "copy_async_wait<STAGES - 1>();"

    "linear f32: the last, short tile of k is forgotten":
    "linear" "gemm/f32.cuh" ["linear_forward", "KERNEL_F32(NAME"], F32, forward, WRONG;
    "k_range(blocks_of(k, TILE_K), blockIdx.z, gridDim.z)" => "k_range(k / TILE_K, blockIdx.z, gridDim.z)"

    "linear f32: terms past the row's end are read":
    "linear" "gemm/f32.cuh" ["linear_transposed", "KERNEL_F32(NAME"], F32,
    |device| linear::check_forward(device, (1, true, false, 70, 35, 33)), WRONG;
    "const bool valid = k + row < depth && span + column < spans;" => "const bool valid = span + column < spans;"

    "linear f32: columns past the result's end are written":
    "linear" "gemm/f32.cuh" ["linear_forward", "KERNEL_F32(NAME"], F32, forward, PAST;
    "if (row >= m || column >= n) continue;" => "if (row >= m) continue;"

    "linear f32: a thread's second half is its first":
    "linear" "gemm/f32.cuh" ["linear_forward", "KERNEL_F32(NAME"], F32, forward, WRONG;
    "load_vector(b_row + TILE / 2, w);" => "load_vector(b_row, w);"

    "linear f32: vectors whatever the width":
    "linear" "gemm/f32.cuh" ["linear_forward", "KERNEL_F32(NAME"], F32,
    |device| linear::check_forward(device, (1, false, false, 70, 19, 35)), Found::Report(&["misaligned"]);
    "if (vectors)" => "if (true)"

    "linear f32: tiles have no padding":
    "linear" "gemm/f32.cuh" ["linear_transposed", "KERNEL_F32(NAME"], F32,
    |device| linear::check_forward(device, (1, true, false, 70, 40, 72)), Found::Conflicts;
    "ROW_STRIDE = TILE + 4" => "ROW_STRIDE = TILE"

    "linear f32: copies past the last tile are not waited for":
    "linear" "gemm/f32.cuh" ["linear_forward", "KERNEL_F32(NAME"], F32,
    forward, Found::Equivalent("Past the last tile nothing is copied: the groups that are left are empty.");
    "copy_async_wait<0>();" => ""

    "linear f32: splits of k write to one place":
    "linear" "gemm/f32.cuh" ["linear_weight", "linear_transposed", "KERNEL_F32(NAME"], F32,
    |device| linear::check_backward(device, (1, false, false, 600, 24, 24)), TWICE;
    "to.total += static_cast<size_t>(blockIdx.z) * m * n;" => ""

    "linear f32: the offset of an operand's row in 32 bits":
    "linear" "gemm/f32.cuh" ["linear_forward", "linear_weight", "KERNEL_F32(NAME"], F32,
    far::linear_f32, Found::Elsewhere;
    "static_cast<size_t>(k + row) * spans + span + column" =>
    "static_cast<int>((k + row) * static_cast<unsigned>(spans)) + span + column"
};
