//! Of embeddings.

use super::{Device, Found, Mutant, OUTSIDE, STALE, WRONG, mutants};
use crate::far;
use crate::ops::embedding;

/// Two chunks, the second of a lone token.
fn tokens(device: &Device) {
    embedding::check_tokens(device, 4097);
}

pub const MUTANTS: &[Mutant] = mutants! {
    "embedding: columns past those that a block takes at once are forgotten":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32,
    |device| embedding::check_forward(device, 1, [2, 3, 520, 5, 2]), WRONG;
    "for (int column = threadIdx.x * VECTOR<T>; column < width; column += blockDim.x * VECTOR<T>)" =>
    "if (const int column = threadIdx.x * VECTOR<T>; column < width)"

    "embedding of odd widths: a blank has a row":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32,
    |device| embedding::check_forward(device, 1, [2, 3, 9, 5, 2]), OUTSIDE;
    "(id != BLANK ? content[column] : 0.0f)" => "content[column]"

    "embedding: a blank has a row":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32,
    |device| embedding::check_forward(device, 1, [2, 3, 16, 5, 2]), OUTSIDE;
    "if (id != BLANK) load_vector(content + column + i, c);" => "load_vector(content + column + i, c);"

    "embedding: positions go on from image to image":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32,
    |device| embedding::check_forward(device, 1, [2, 1, 16, 5, 0]), WRONG;
    ": 0) + token % tokens)" => ": 0) + token)"

    "embedding: the first position is 0, whatever is in memory":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32,
    |device| embedding::check_forward(device, 1, [2, 1, 16, 5, 3]), WRONG;
    "(first ? *first : 0) + token % tokens" => "token % tokens"

    "embedding of odd widths: the content is rounded before it is added":
    "embedding" "embedding.cu" ["KERNELS(bf16,"], Bf16,
    |device| embedding::check_forward(device, 1, [2, 3, 129, 5, 2]), WRONG;
    "id != BLANK ? content[column] : 0.0f" => "id != BLANK ? rounded<T>(content[column]) : 0.0f"

    "embedding: the position is rounded before it is added":
    "embedding" "embedding.cu" ["KERNELS(bf16,"], Bf16,
    |device| embedding::check_forward(device, 1, [2, 3, 136, 5, 2]), WRONG;
    "v[i + e] = c[e] + p[e];" => "v[i + e] = c[e] + rounded<T>(p[e]);"

    "embedding backward: a token's rank counts itself":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32,
    |device| embedding::check_backward(device, 1, 2, 50, 9, 4), Found::Report(&["nothing was written to"]);
    "((1u << lane) - 1)" => "((2u << lane) - 1)"

    "embedding backward: partial sums of no tokens are added":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32, tokens, WRONG;
    "if (counts[partial] != 0)" => ""

    "embedding backward: the last token is forgotten":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32, tokens, WRONG;
    "first + token < tokens &&" => "first + token + 1 < tokens &&"

    "embedding backward: chunks overlap":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32, tokens, WRONG;
    "const int first = blockIdx.y * CHUNK;" => "const int first = blockIdx.y * (CHUNK - 1);"

    "embedding backward: the last warp's tokens alone are none":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32, tokens, WRONG;
    "w < WARPS; ++w) total += found_by[w];" => "w < WARPS - 1; ++w) total += found_by[w];"

    "embedding backward: a row's old gradient is dropped":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32, |device| embedding::check_backward(device, 1, 2, 3, 9, 5), WRONG;
    "alone && add ? out[column] + sum : sum" => "sum"

    "embedding backward: a row that is to be stored is added":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32, |device| embedding::check_backward(device, 1, 2, 3, 9, 5), WRONG;
    "alone && add ? out[column] + sum : sum" => "alone ? out[column] + sum : sum"

    "embedding backward: a row of no token is not stored":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32, |device| embedding::check_backward(device, 1, 2, 3, 9, 50), WRONG;
    "if (total == 0 && (!alone || add)) return;" => "if (total == 0) return;"

    "embedding backward: chunks that are to be stored are added":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32, tokens, WRONG;
    "*out = add ? *out + sum : sum;" => "*out += sum;"

    "embedding backward: positions of no token are not stored":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32, |device| embedding::check_backward(device, 1, 2, 3, 9, 5), WRONG;
    "if (at >= whole) return;" => "if (at >= length) return;"

    "embedding backward: positions that are to be stored are added":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32, |device| embedding::check_backward(device, 1, 2, 3, 9, 5), WRONG;
    "add ? d_positions[at] + sum : sum" => "d_positions[at] + sum"

    "embedding backward: no barrier behind the search":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32, tokens, STALE;
    "if (lane == 0) found_by[warp] = count; __syncthreads();" => "if (lane == 0) found_by[warp] = count;"

    "embedding backward: positions of the last image are forgotten":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32, |device| embedding::check_backward(device, 1, 2, 3, 9, 5), WRONG;
    "image < batch; ++image" => "image + 1 < batch; ++image"

    "embedding: the offset of a row in 32 bits":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32, far::embedding, Found::Elsewhere;
    "static_cast<size_t>(id) * width" => "static_cast<int>(id * static_cast<unsigned>(width))"

    "embedding backward: the offset of a row's gradient in 32 bits":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32, far::embedding_table, Found::Elsewhere;
    "d_table + static_cast<size_t>(row) * width :" =>
    "d_table + static_cast<int>(row * static_cast<unsigned>(width)) :"

    "embedding backward: the offset of partial sums in 32 bits":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32, far::embedding_table, Found::Elsewhere;
    "(static_cast<size_t>(blockIdx.y) * rows + row) * width" => "static_cast<int>((blockIdx.y * rows + row) * width)"

    "embedding backward: the offset of a token in 32 bits":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32, far::embedding_table, Found::Elsewhere;
    "static_cast<size_t>(found[w][i]) * width" => "static_cast<int>(found[w][i] * static_cast<unsigned>(width))"

    "embedding backward: the offset of a chunk's sums in 32 bits":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32, far::embedding_chunks, Found::Elsewhere;
    "static_cast<size_t>(partial) * width" => "static_cast<int>(partial * static_cast<unsigned>(width))"

    "embedding backward: the offset of an image in 32 bits":
    "embedding" "embedding.cu" ["KERNELS(f32,"], F32, far::embedding_positions, Found::Elsewhere;
    "static_cast<size_t>(image) * length" => "static_cast<int>(image * static_cast<unsigned>(length))"
};
