//! Of Adam.

use super::{Device, Found, Mutant, OUTSIDE, TWICE, UNEQUAL, WRONG, mutants};
use crate::ops::adam;

/// A vector of four elements, and three beside it.
fn seven(device: &Device) {
    adam::check(device, 7, 7, 2);
}

/// Tensors that end beside a chunk.
fn chunks(device: &Device) {
    adam::check_tensors(device, &[16_385, 1, 16_384, 3]);
}

pub const MUTANTS: &[Mutant] = mutants! {
    "adam: the copy of a tensor's last elements is not written":
    "adam" "adam.cu" [], Bf16, seven, WRONG;
    "if (copy != nullptr) copy[i] = from_float<bf16>(parameter[i]);" => ""

    "adam: two elements of the copy change places":
    "adam" "adam.cu" [], Bf16, seven, WRONG;
    "pack_bf16(p[0], p[1])" => "pack_bf16(p[1], p[0])"

    "adam: the copy of a tensor's last elements is cut off":
    "adam" "adam.cu" [], Bf16, |device| (1..7).for_each(|seed| adam::check(device, seed, 7, 2)), WRONG;
    "from_float<bf16>(parameter[i])" => "__float2bfloat16_rz(parameter[i])"

    "adam: vectors are not clipped":
    "adam" "adam.cu" [], F32, adam::clipping, WRONG;
    "g[e] * clip" => "g[e]"

    "adam: the rest is not clipped":
    "adam" "adam.cu" [], F32, adam::clipping, WRONG;
    "update(parameter[i], gradient[i] * clip," => "update(parameter[i], gradient[i],"

    "adam: short gradients are lengthened":
    "adam" "adam.cu" [], F32, adam::clipping, WRONG;
    "fminf(max_norm / *norm, 1.0f)" => "max_norm / *norm"

    "adam: a gradient that is NaN is applied":
    "adam" "adam.cu" [], Bf16, adam::norms_that_are_not_finite_change_nothing, UNEQUAL;
    "!isfinite(*norm)" => "isinf(*norm)"

    "adam: a gradient that is infinite is applied":
    "adam" "adam.cu" [], F32, adam::norms_that_are_not_finite_change_nothing, UNEQUAL;
    "!isfinite(*norm)" => "isnan(*norm)"

    "adam: the very last element is forgotten":
    "adam" "adam.cu" [], F32, seven, WRONG;
    "threadIdx.x) < chunk.count % 4" => "threadIdx.x) + 1 < chunk.count % 4"

    "adam: the rest begins too early":
    "adam" "adam.cu" [], F32, seven, TWICE;
    "chunk.count / 4 * 4 + threadIdx.x" => "chunk.count / 4 + threadIdx.x"

    "adam: every chunk has the first gradients":
    "adam" "adam.cu" [], F32, chunks, WRONG;
    "tensor.gradient + chunk.begin" => "tensor.gradient"

    "adam: every chunk updates the first second moments":
    "adam" "adam.cu" [], F32, chunks, TWICE;
    "tensor.second + chunk.begin" => "tensor.second"

    "adam: the copy of every chunk is the first":
    "adam" "adam.cu" [], Bf16, |device| adam::check(device, 1, 16_390, 1), TWICE;
    "tensor.copy + chunk.begin" => "tensor.copy"

    "tensor_list: a chunk past a tensor's end is its own":
    "adam" "tensor_list.cuh" [], F32, chunks, OUTSIDE;
    "list.entries[next - 1].end <= block" => "list.entries[next - 1].end < block"

    "tensor_list: chunks count from the first tensor":
    "adam" "tensor_list.cuh" [], F32, chunks, OUTSIDE;
    "(block - first) * CHUNK" => "(block) * CHUNK"

    "tensor_list: the last chunk of a tensor is as long as the others":
    "adam" "tensor_list.cuh" [], F32, chunks, OUTSIDE;
    "min(static_cast<size_t>(CHUNK), list.entries[entry].count - begin)" => "CHUNK"

    "tensor_list: the last tensors of a list are forgotten":
    "adam" "tensor_list.cuh" [], F32, |device| adam::check_tensors(device, &[5; 80]), OUTSIDE;
    "int step = 128" => "int step = 32"

    "adam: epsilon is added before the bias correction":
    "adam" "adam.cu" [], F32, seven, WRONG;
    "fmaf(sqrtf(v), f.root, f.epsilon)" => "f.root * (sqrtf(v) + f.epsilon)"

    "adam: the square overflows before it is weighted":
    "adam" "adam.cu" [], F32, adam::ends_of_the_range, WRONG;
    "(1.0f - f.beta2) * g * g" => "(1.0f - f.beta2) * (g * g)"

    "adam: the second moment forgets as fast as the first":
    "adam" "adam.cu" [], F32, seven, WRONG;
    "fmaf(f.beta2, v, (1.0f - f.beta2)" => "fmaf(f.beta1, v, (1.0f - f.beta2)"

    "adam: the second moments of vectors are not kept":
    "adam" "adam.cu" [], F32, seven, WRONG;
    "store_vector(second + 4 * i, v);" => ""

    "adam: the factor is chosen by a comparison":
    "adam" "adam.cu" [], F32,
    adam::clipping,
    Found::Equivalent("The quotient is below 1 where the threshold is below the norm, and 1 is taken for 0 / 0 \
    either way.");
    "fminf(max_norm / *norm, 1.0f)" => "(max_norm < *norm ? max_norm / *norm : 1.0f)"
};
