//! The mutants.

use igpt_engine::device::{Activation, CudaDevice, Mask, Precision};

use crate::ops::reference::Attention;
use crate::ops::support::Tested;
use crate::ops::{adam, attention, cross_entropy, ema, embedding, global_norm, layernorm, linear, mlp, sample};

type Device = Tested<CudaDevice>;

/// How a bug is found.
#[derive(Debug)]
pub enum Found {
    /// The op table's comparison fails, in these words, and nothing is reported.
    Values(&'static str),
    /// The simulator reports one of these: whichever warp or block comes first.
    Report(&'static [&'static str]),
    /// Results are right, but the simulator counts bank conflicts.
    Conflicts,
}

/// A bug: in `file`, the code `from` becomes `to`. Only code counts: `from` is found whatever the spaces, line ends and comments
/// between its tokens.
pub struct Mutant {
    pub name: &'static str,
    /// The `.cu` file that is compiled, without its ending.
    pub module: &'static str,
    pub file: &'static str,
    pub from: &'static str,
    pub to: &'static str,
    /// Only kernels whose line has one of these are compiled, for speed; all if there are none.
    pub keep: &'static [&'static str],
    pub precision: Precision,
    pub check: fn(&Device),
    pub found: Found,
}

const WRONG: Found = Found::Values("off by");
/// Every element is as near as it must be, but the errors together are more than twice the naive computation's.
const IMPRECISE: Found = Found::Values("and the naive computation by");
/// Shared memory is read too early, or overwritten too early.
const STALE: Found = Found::Report(&[
    "race in shared memory",
    "shared memory is read that nothing was written to",
    "was not waited for",
]);

const BACKWARD_BF16_32: [&str; 3] =
    ["BF16(attention_backward_keys, 32,", "BF16(attention_backward_queries, 32,", "DELTA(bf16,"];

/// `y = x · W`, six tiles of k and a part of one.
fn forward(device: &Device) {
    linear::check_forward(device, (1, false, false, 70, 200, 72));
}
/// The same of `Wᵀ`.
fn transposed(device: &Device) {
    linear::check_forward(device, (1, true, false, 70, 200, 72));
}
/// Both gradients.
fn gradients(device: &Device) {
    linear::check_backward(device, (1, false, false, 70, 72, 72));
}
/// The same, the weight's in two splits of k.
fn split_k(device: &Device) {
    linear::check_backward(device, (1, false, false, 600, 72, 72));
}
fn causal(device: &Device) {
    attention::check(
        device,
        1,
        Attention { batch: 1, tokens: 150, heads: 2, head_dim: 32, mask: Mask::Causal },
        1.0,
        false,
    );
}

fn full(device: &Device) {
    attention::check(
        device,
        1,
        Attention { batch: 1, tokens: 150, heads: 2, head_dim: 32, mask: Mask::Full },
        1.0,
        false,
    );
}

/// A bug of the module's own file, or of its headers if `file` is another.
macro_rules! mutants {
    ($($name:literal: $module:literal $file:literal $keep:expr, $precision:ident, $check:expr, $found:expr; $from:literal => $to:literal)*) => {
        &[$(Mutant {
            name: $name,
            module: $module,
            file: $file,
            from: $from,
            to: $to,
            keep: &$keep,
            precision: Precision::$precision,
            check: $check,
            found: $found,
        }),*]
    };
}

pub const MUTANTS: &[Mutant] = mutants! {
    "linear: no barrier between stages":
    "linear" "gemm/bf16.cuh" ["linear_forward"], Bf16, forward, STALE;
    "copy_async_wait<STAGES - 2>(); __syncthreads();" => "copy_async_wait<STAGES - 2>();"

    "linear: one copy too few is waited for":
    "linear" "gemm/bf16.cuh" ["linear_forward"], Bf16, forward, STALE;
    "copy_async_wait<STAGES - 2>();" => "copy_async_wait<STAGES - 1>();"

    "linear: swizzle of narrow rows leaves the row":
    "linear" "gemm/bf16.cuh" ["linear_forward"], Bf16, forward, STALE;
    "CHUNKS >= 8 ? row % 8 : row / 2 % 4" => "row % 8"

    "linear: no swizzle":
    "linear" "gemm/bf16.cuh" ["linear_forward"], Bf16, forward, Found::Conflicts;
    "return (row * CHUNKS + (chunk ^ swizzle)) * 16;" => "return (row * CHUNKS + chunk + 0 * swizzle) * 16;"

    "linear: the last, short tile of k is forgotten":
    "linear" "gemm/bf16.cuh" ["linear_forward"], Bf16, forward, WRONG;
    "k_range(blocks_of(k, TILE_K))" => "k_range(k / TILE_K)"

    "linear: columns past the row's end are read":
    "linear" "gemm/bf16.cuh" ["linear_transposed"], Bf16, transposed, WRONG;
    "const bool valid = inside && column < columns;" => "const bool valid = inside;"

    "linear: rows past the result's end are written":
    "linear" "gemm/bf16.cuh" ["linear_forward"], Bf16, forward, Found::Report(&["race in global memory"]);
    "if (first_m + row >= m || first_n + column >= n) continue;" => "if (first_m + row >= m) continue;"

    "linear: the old gradient is dropped":
    "linear" "gemm/epilogue.cuh" ["linear_weight", "linear_transposed"], Bf16, gradients, WRONG;
    "make_float4(old.x + sum.x," => "make_float4(sum.x,"

    "linear: splits of k write to one place":
    "linear" "gemm/bf16.cuh" ["linear_weight", "linear_transposed"], Bf16, split_k, Found::Report(&["race in global memory"]);
    "to.total += static_cast<size_t>(blockIdx.z) * m * n;" => ""

    "mlp: the activation's slope is forgotten":
    "linear" "gemm/epilogue.cuh" ["linear_activate", "linear_weight", "linear_transposed", "linear_forward"], Bf16,
    |device| mlp::check_backward(device, (1, Activation::QuickGelu, false, 33, 16, 64)), WRONG;
    "out[i] *= act.slope;" => ""

    "attention: a query does not see itself":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, causal, WRONG;
    "(causal && key > query)" => "(causal && key >= query)"

    "attention: keys past the last are seen":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, full, WRONG;
    "key >= tokens || (causal && key > query)" => "causal && key > query"

    "attention: sums are not rescaled when the maximum rises":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, attention::rising_scores, WRONG;
    "out[i][j][2 * half] *= factor;" => ""

    "attention: scores in the wrong unit":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, causal, WRONG;
    "const float exponent_scale = scale * LOG2_E;" => "const float exponent_scale = scale;"

    "attention: the first tiles are not waited for":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, causal, STALE;
    "copy_async_wait<0>();" => "copy_async_wait<1>();"

    "attention: no barrier between stages":
    "attention" "attention/forward_bf16.cuh" ["KERNEL_BF16(32,"], Bf16, causal, STALE;
    "copy_async_wait<0>(); __syncthreads();" => "copy_async_wait<0>();"

    "attention backward: row sums of another stage":
    "attention_backward" "attention/backward_bf16.cuh" BACKWARD_BF16_32, Bf16, causal, STALE;
    "*reinterpret_cast<const float2*>(pair + COLUMNS)" =>
    "*reinterpret_cast<const float2*>(stats + COLUMNS + chunk + j * 8 + lane % 4 * 2)"

    "attention backward: gradients are not scaled":
    "attention_backward" "attention/backward_bf16.cuh" BACKWARD_BF16_32, Bf16, causal, WRONG;
    "acc_one[j][e] *= scale;" => "acc_one[j][e] *= 1.0f;"

    "attention backward: one tile too few":
    "attention_backward" "attention/backward_bf16.cuh" BACKWARD_BF16_32, Bf16, causal, WRONG;
    "const int end = blocks_of(!BY_KEYS && causal ? min(tokens, first_row + ROWS) : tokens, COLUMNS);" =>
    "const int end = max(begin + 1, (!BY_KEYS && causal ? min(tokens, first_row + ROWS) : tokens) / COLUMNS);"

    "attention backward: logsumexp in bf16":
    "attention_backward" "attention/backward_bf16.cuh" BACKWARD_BF16_32, Bf16, causal, IMPRECISE;
    "(e % 2 ? column_log.y : column_log.x) * LOG2_E : row_log[e / 2];" =>
    "rounded<bf16>((e % 2 ? column_log.y : column_log.x) * LOG2_E) : rounded<bf16>(row_log[e / 2]);"

    "attention f32: tiles are overwritten while they are read":
    "attention" "attention/forward_f32.cuh" ["KERNEL_F32(32,"], F32, causal, STALE;
    "T::accumulate(scores, v_tile, out); __syncthreads();" => "T::accumulate(scores, v_tile, out);"

    "layernorm: a reduction's shared memory is not freed":
    "layernorm" "reduce.cuh" ["TYPES(2,"], F32, |device| layernorm::check_forward(device, (1, true, true, 3, 1000)),
    STALE;
    "x += smem[other]; __syncthreads();" => "x += smem[other];"

    "cross entropy: the maximum is not subtracted":
    "cross_entropy" "cross_entropy.cu" [], F32, |device| cross_entropy::check(device, 1, 21, 512, 2), WRONG;
    "v[i] = expf(v[i] - max);" => "v[i] = expf(v[i]);"

    "embedding backward: a token's rank counts itself":
    "embedding" "embedding.cu" [], F32, |device| embedding::check_backward(device, 1, 2, 50, 9, 4), Found::Report(&["nothing was written to"]);
    "((1u << lane) - 1)" => "((2u << lane) - 1)"

    "adam: the rest is not clipped":
    "adam" "adam.cu" [], F32, adam::clipping, Found::Values("assertion");
    "update(parameter[i], gradient[i] * clip," => "update(parameter[i], gradient[i],"

    "adam: a gradient that is NaN is applied":
    "adam" "adam.cu" [], Bf16, adam::norms_that_are_not_finite_change_nothing, Found::Values("assertion");
    "!isfinite(*norm)" => "isinf(*norm)"

    "ema: a norm that is NaN moves the average":
    "ema" "ema.cu" [], F32, ema::norms_that_are_not_finite_change_nothing, Found::Values("assertion");
    "!isfinite(*norm)" => "isinf(*norm)"

    "ema: the rest stays where it is":
    "ema" "ema.cu" [], Bf16, ema::approaches_the_parameter, WRONG;
    "average[i] = approach(average[i], parameter[i], rate);" => "average[i] = approach(average[i], average[i], rate);"

    "global_norm: a norm that is infinite passes":
    "global_norm" "global_norm.cu" [], F32, global_norm::verdicts, Found::Values("assertion");
    "isfinite(root)" => "!isnan(root)"

    "global_norm: skipped steps in a row are not counted anew":
    "global_norm" "global_norm.cu" [], F32, global_norm::verdicts, Found::Values("assertion");
    "finite ? 0.0f : skipped[1] + 1.0f" => "skipped[1] + (finite ? 0.0f : 1.0f)"

    "sample: the nucleus is that of all tokens and not of the k likeliest":
    "sample" "sample.cu" [], F32, sample::top_p_draws_from_the_nucleus, Found::Values("assertion");
    "for_candidates([&](int, float logit) { all += weight(logit); });" => "for (int token = begin; token < end; ++token) all += weight(to_float(row_logits[token]));"

    "sample: all of the tokens that are equal at top-p's edge are taken":
    "sample" "sample.cu" [], Bf16, sample::top_p_keeps_as_many_equals_as_it_needs, Found::Values("assertion");
    "fmin(ceil(missing / each), static_cast<double>(vocabulary)) : 1.0" => "static_cast<double>(vocabulary) : 1.0"

    "cross_entropy: a loss that is infinite has a gradient":
    "cross_entropy" "cross_entropy.cu" [], F32, cross_entropy::losses_that_are_not_finite, Found::Values("assertion");
    "isfinite(weight * nll) ? weight / sum : __int_as_float(0x7fffffff)" => "weight / sum"
};
