//! Of sums over several blocks.

use super::{Device, Found, Mutant, OUTSIDE, STALE, TWICE, WRONG, mutants};
use crate::far;
use crate::ops::linear;

/// A bias's gradient by two blocks of rows, the second of a lone row.
fn bias(device: &Device) {
    linear::check_backward(device, (1, false, true, 65, 5, 33));
}

pub const MUTANTS: &[Mutant] = mutants! {
    "sum_partials: rows past the threads of a column are forgotten":
    "sum_partials" "sum_partials.cu" [], F32, bias, WRONG;
    "row < end; row += 8" => "row < end; row += end"

    "sum_partials: the last thread's sum is forgotten":
    "sum_partials" "sum_partials.cu" [], Bf16, bias, WRONG;
    "part < 8; ++part" => "part < 7; ++part"

    "sum_partials: the old gradient is dropped":
    "sum_partials" "sum_partials.cu" [], F32, bias, WRONG;
    "total[column] += sum" => "total[column] = sum"

    "sum_partials: no barrier before the sums are read":
    "sum_partials" "sum_partials.cu" [], F32, bias, STALE;
    "partial[threadIdx.y][threadIdx.x] = sum; __syncthreads();" => "partial[threadIdx.y][threadIdx.x] = sum;"

    "column_sums: rows past the last are read":
    "sum_partials" "sum_partials.cu" [], F32, bias, OUTSIDE;
    "min(rows, first + block_rows)" => "first + block_rows"

    "column_sums: columns past the last are written":
    "sum_partials" "sum_partials.cu" [], F32, bias, TWICE;
    "if (threadIdx.y == 0 && column < width)" => "if (threadIdx.y == 0)"

    "column_sums: terms are rounded":
    "sum_partials" "sum_partials.cu" [], F32, bias, WRONG;
    "sum += to_float(x[" => "sum += rounded<bf16>(x["

    "sum_partials: the offset of a row in 32 bits":
    "sum_partials" "sum_partials.cu" [], F32, far::sum_partials, Found::Elsewhere;
    "static_cast<size_t>(row) * width + column" => "static_cast<int>(row * static_cast<unsigned>(width)) + column"

    "column_sums: the offset of a partial sum in 32 bits":
    "sum_partials" "sum_partials.cu" [], F32, far::column_sums, Found::Elsewhere;
    "static_cast<size_t>(blockIdx.y) * width + column" => "static_cast<int>(blockIdx.y * width) + column"
};
