//! Of attention over prompts, which fills the cache.

use super::{Device, Found, Mutant, TWICE, WRONG, mutants};
use crate::far;
use crate::ops::attention_prefill;

fn vectors(device: &Device) {
    attention_prefill::check(device, [2, 2, 40], 3, 5, [1, 4]);
}
fn odd(device: &Device) {
    attention_prefill::check(device, [2, 3, 33], 3, 5, [1, 4]);
}

pub const MUTANTS: &[Mutant] = mutants! {
    "prefill: queries are cached for keys":
    "attention_prefill" "attention_prefill.cu" ["KERNEL(f32,"], F32, vectors, WRONG;
    "token * 3 * width + width" => "token * 3 * width"

    "prefill: values are keys, in vectors":
    "attention_prefill" "attention_prefill.cu" ["KERNEL(f32,"], F32, vectors, WRONG;
    "reinterpret_cast<const uint4*>(row + width + column)" => "reinterpret_cast<const uint4*>(row + column)"

    "prefill: values are keys, one by one":
    "attention_prefill" "attention_prefill.cu" ["KERNEL(bf16,"], Bf16, odd, WRONG;
    "values[at] = row[width + column];" => "values[at] = row[column];"

    "prefill: positions are as many as tokens":
    "attention_prefill" "attention_prefill.cu" ["KERNEL(f32,"], F32, odd, WRONG;
    "(head * positions + blockIdx.x)" => "(head * gridDim.x + blockIdx.x)"

    "prefill: heads stand side by side":
    "attention_prefill" "attention_prefill.cu" ["KERNEL(f32,"], F32, odd, TWICE;
    "+ column / head_dim" => "+ column % heads"

    "prefill: the offset of a head in 32 bits":
    "attention_prefill" "attention_prefill.cu" ["KERNEL(f32,"], F32, far::attention_prefill, Found::Elsewhere;
    "return (head * positions + blockIdx.x) * head_dim + column % head_dim;" =>
    "return static_cast<size_t>(static_cast<int>((static_cast<unsigned>(head) * positions + blockIdx.x) * head_dim) + column % head_dim);"
};
