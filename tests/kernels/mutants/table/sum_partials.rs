//! Of sums over several blocks.

use super::{Device, Found, Mutant, OUTSIDE, STALE, TWICE, WRONG, mutants};
use crate::far;
use crate::ops::{layernorm, linear};

/// A bias's gradient by two blocks of rows, the second of a lone row.
fn bias(device: &Device) {
    linear::check_backward(device, (1, false, true, 65, 5, 33));
}

/// A weight's gradient by 64 splits, in vectors.
fn splits(device: &Device) {
    linear::check_backward(device, (1, false, false, 16_416, 8, 9));
}
/// The same by two, beside vectors.
fn odd_splits(device: &Device) {
    linear::check_backward(device, (1, false, false, 513, 9, 7));
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
    "add ? total[column] + sum : sum" => "sum"

    "sum_partials: what is to be stored is added":
    "sum_partials" "sum_partials.cu" [], F32, bias, WRONG;
    "add ? total[column] + sum : sum" => "total[column] + sum"

    "sum_partials: all sums of a list go to the first":
    "sum_partials" "sum_partials.cu" [], F32, |device| layernorm::check_sums(device, 3), TWICE;
    "sums.totals[blockIdx.y]" => "sums.totals[0]"

    "sum_partials: all sums of a list are of the first":
    "sum_partials" "sum_partials.cu" [], F32, |device| layernorm::check_sums(device, 3), WRONG;
    "sums.partials[blockIdx.y]" => "sums.partials[0]"

    "sum_splits: rows past those in flight are forgotten":
    "sum_partials" "sum_partials.cu" [], Bf16, splits, WRONG;
    "first += IN_FLIGHT" => "first += rows"

    "sum_splits: the old gradient of a vector is dropped":
    "sum_partials" "sum_partials.cu" [], F32, splits, WRONG;
    "sum[e] = old[e] + sum[e];" => "sum[e] = sum[e];"

    "sum_splits: a vector that is to be stored is added":
    "sum_partials" "sum_partials.cu" [], F32, splits, WRONG;
    "if (add) load_vector(total + at, old);" => "load_vector(total + at, old);"

    "sum_splits: the old gradient beside vectors is dropped":
    "sum_partials" "sum_partials.cu" [], F32, odd_splits, WRONG;
    "add ? total[at] + sum[0] : sum[0]" => "sum[0]"

    "sum_splits: what is to be stored beside vectors is added":
    "sum_partials" "sum_partials.cu" [], F32, odd_splits, WRONG;
    "add ? total[at] + sum[0] : sum[0]" => "total[at] + sum[0]"

    "sum_splits: rows of odd lengths are read in vectors":
    "sum_partials" "sum_partials.cu" [], F32, odd_splits, Found::Report(&["misaligned"]);
    "if (length % 4 == 0)" => "if (true)"

    "sum_splits: elements past the last are written":
    "sum_partials" "sum_partials.cu" [], F32, splits, OUTSIDE;
    "if (at >= length) return;" => ""

    "sum_splits: the offset of a row in 32 bits":
    "sum_partials" "sum_partials.cu" [], F32, far::sum_splits, Found::Elsewhere;
    "(first + i) * length" => "static_cast<int>((first + i) * static_cast<unsigned>(length))"

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
