//! Of sampling.

use super::{Found, Mutant, STALE, UNEQUAL, mutants};
use crate::ops::sample;

pub const MUTANTS: &[Mutant] = mutants! {
    "sample: the last of the largest is taken":
    "sample" "sample.cu" ["KERNEL(f32,"], F32, sample::equal_logits, UNEQUAL;
    "if (key > best_key)" => "if (key >= best_key)"

    "sample: the last run with a largest is taken":
    "sample" "sample.cu" ["KERNEL(f32,"], F32, sample::equal_logits, UNEQUAL;
    "return x > y ? x : y;" => "return x >> 32 > y >> 32 || (x >> 32 == y >> 32 && x < y) ? x : y;"

    "sample: NaN is the largest":
    "sample" "sample.cu" ["KERNEL(f32,"], F32, sample::argmax_of_no_numbers, UNEQUAL;
    "isnan(logit) ? 1 : ordered(logit + 0.0f)" => "ordered(logit + 0.0f)"

    "sample: negative zero is less than zero":
    "sample" "sample.cu" ["KERNEL(f32,"], F32, sample::argmax_takes_the_first, UNEQUAL;
    "ordered(logit + 0.0f)" => "ordered(logit)"

    "sample: the threshold is that of one candidate more":
    "sample" "sample.cu" ["KERNEL(f32,"], F32,
    sample::top_k_of_many,
    Found::Equivalent("What is above a lower threshold is k or fewer, and the first of its equals make it k.");
    "group_sum<WARPS>(above, counts, warp) >= top_k" => "group_sum<WARPS>(above, counts, warp) > top_k"

    "sample: top k takes one of the equals too many":
    "sample" "sample.cu" ["KERNEL(f32,"], F32, sample::top_k_keeps_the_best, UNEQUAL;
    "seen < equals" => "seen <= equals"

    "sample: every run counts equals anew":
    "sample" "sample.cu" ["KERNEL(f32,"], F32, sample::top_k_of_many, UNEQUAL;
    "equals = top_k - group_sum<WARPS>(above, counts, warp); equals_before = sum_before(same, counts);" =>
    "equals = top_k - group_sum<WARPS>(above, counts, warp);"

    "sample: a run counts its own equals as before it":
    "sample" "sample.cu" ["KERNEL(f32,"], F32, sample::top_k_of_many, UNEQUAL;
    "sum -= x;" => ""

    "sample: runs do not know of equals in the warps before":
    "sample" "sample.cu" ["KERNEL(f32,"], F32, sample::top_k_of_many, UNEQUAL;
    "sum += other < warp ? smem[other] : 0;" => ""

    "sample: the first token can be drawn without probability":
    "sample" "sample.cu" ["KERNEL(f32,"], F32, sample::follows_the_distribution, UNEQUAL;
    "weights[threadIdx.x] + cumulative > wanted" => "weights[threadIdx.x] + cumulative >= wanted"

    "sample: logits are multiplied by the temperature":
    "sample" "sample.cu" ["KERNEL(f32,"], F32, sample::follows_the_distribution, UNEQUAL;
    "static_cast<double>(max)) / static_cast<double>(temperature)" =>
    "static_cast<double>(max)) * static_cast<double>(temperature)"

    "sample: only the first warp is looked at":
    "sample" "sample.cu" ["KERNEL(f32,"], F32, sample::every_token_can_be_drawn, UNEQUAL;
    "x = op(x, smem[other]);" => "x = op(x, smem[0]);"

    "sample: runs do not know of the runs before":
    "sample" "sample.cu" ["KERNEL(bf16,"], Bf16, sample::equal_logits, UNEQUAL;
    "weights[other] = before;" => "weights[other] = other == THREADS ? before : 0.0;"

    "sample: a thread without a token has the say":
    "sample" "sample.cu" ["KERNEL(f32,"], F32, sample::equal_logits, UNEQUAL;
    "return min(x, y);" => "return x > y ? x : y;"

    "sample: no barrier before the warps' results are read":
    "sample" "sample.cu" ["KERNEL(f32,"], F32, sample::equal_logits, STALE;
    "if (threadIdx.x % WARP == 0) smem[threadIdx.x / WARP] = x; __syncthreads();" =>
    "if (threadIdx.x % WARP == 0) smem[threadIdx.x / WARP] = x;"

    "sample: the nucleus is that of all tokens and not of the k likeliest":
    "sample" "sample.cu" ["KERNEL(f32,"], F32, sample::top_p_draws_from_the_nucleus, UNEQUAL;
    "for_candidates([&](int, float logit) { all += weight(logit); });" =>
    "for (int token = begin; token < end; ++token) all += weight(to_float(row_logits[token]));"

    "sample: all of the tokens that are equal at top-p's edge are taken":
    "sample" "sample.cu" ["KERNEL(f32,"], F32, sample::top_p_keeps_as_many_equals_as_it_needs, UNEQUAL;
    "fmin(ceil(missing / each), static_cast<double>(vocabulary)) : 1.0" => "static_cast<double>(vocabulary) : 1.0"
};
