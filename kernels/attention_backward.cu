// attention backward: the gradients of queries, keys and values, in bf16 on tensor cores (attention/backward_bf16.cuh) and in full
// f32 (attention/backward_f32.cuh).
//
// attention_backward_queries: writes columns q of d_qkv (=), delta (=);  rows queries, columns keys
// attention_backward_keys: writes columns k ‖ v of d_qkv (=), after that one;  rows keys, columns queries
//   reads   qkv [batch, tokens, 3 · heads · head_dim], dy [batch, tokens, heads · head_dim], logsumexp [batch, heads, tokens] f32;
//           queries: output as dy;  keys: delta, the row sums of dy ∘ output, as logsumexp
//   grid    x: blocks of 64 rows (f32: 32), those with most columns under a causal mask first, y: heads, z: images
//   block   bf16: 4 warps of 16 rows; dynamic shared memory: two tiles of rows and two stages of two tiles of columns
//           f32: 128 threads; dynamic shared memory: four tiles and 256 bytes
//
// _16 .. _192 and `aligned`: as attention.cu. _by_32, _by_16: stages of so many columns, for cards of which two blocks with longer
// ones would not fit a multiprocessor.
#include "attention/backward_bf16.cuh"
#include "attention/backward_f32.cuh"

#define KERNEL_BF16(NAME, SUFFIX, D, BY_KEYS, COLUMNS, CHUNK, HOLD, BLOCKS)                                     \
    extern "C" __global__ void __launch_bounds__(attention_bf16::THREADS, BLOCKS) NAME##_bf16_##SUFFIX(         \
        const bf16* qkv, const bf16* dy, const bf16* output, const float* logsumexp, float* delta, bf16* d_qkv, \
        int tokens, int head_dim, int causal, int aligned, float scale) {                                       \
        attention_bf16::backward<D, BY_KEYS, COLUMNS, CHUNK, HOLD>(                                             \
            qkv, dy, output, logsumexp, delta, d_qkv, tokens, head_dim, causal, aligned, scale);                \
    }
#define KERNEL_F32(NAME, D, BY_KEYS, BLOCKS)                                                                        \
    extern "C" __global__ void __launch_bounds__(attention_f32::THREADS, BLOCKS) NAME##_f32_##D(                    \
        const float* qkv, const float* dy, const float* output, const float* logsumexp, float* delta, float* d_qkv, \
        int tokens, int head_dim, int causal, int aligned, float scale) {                                           \
        attention_f32::backward<D, BY_KEYS>(                                                                        \
            qkv, dy, output, logsumexp, delta, d_qkv, tokens, head_dim, causal, aligned, scale);                    \
    }
KERNEL_BF16(attention_backward_keys, 16, 16, true, 64, 32, true, 3)
KERNEL_BF16(attention_backward_keys, 32, 32, true, 64, 32, true, 2)
KERNEL_BF16(attention_backward_keys, 64, 64, true, 64, 32, true, 2)
KERNEL_BF16(attention_backward_keys, 96, 96, true, 64, 16, false, 2)
KERNEL_BF16(attention_backward_keys, 96_by_32, 96, true, 32, 16, false, 2)
KERNEL_BF16(attention_backward_keys, 128, 128, true, 64, 16, false, 2)
KERNEL_BF16(attention_backward_keys, 128_by_32, 128, true, 32, 16, false, 2)
KERNEL_BF16(attention_backward_keys, 128_by_16, 128, true, 16, 16, false, 2)
KERNEL_BF16(attention_backward_keys, 192, 192, true, 32, 16, false, 2)
KERNEL_BF16(attention_backward_keys, 192_by_16, 192, true, 16, 16, false, 2)

KERNEL_BF16(attention_backward_queries, 16, 16, false, 64, 32, true, 3)
KERNEL_BF16(attention_backward_queries, 32, 32, false, 64, 32, true, 2)
KERNEL_BF16(attention_backward_queries, 64, 64, false, 64, 32, true, 2)
KERNEL_BF16(attention_backward_queries, 96, 96, false, 64, 32, true, 2)
KERNEL_BF16(attention_backward_queries, 96_by_32, 96, false, 32, 32, true, 2)
KERNEL_BF16(attention_backward_queries, 128, 128, false, 64, 32, false, 2)
KERNEL_BF16(attention_backward_queries, 128_by_32, 128, false, 32, 32, false, 2)
KERNEL_BF16(attention_backward_queries, 192, 192, false, 32, 32, false, 2)

KERNEL_F32(attention_backward_keys, 32, true, 4)
KERNEL_F32(attention_backward_keys, 64, true, 3)
KERNEL_F32(attention_backward_keys, 96, true, 3)
KERNEL_F32(attention_backward_keys, 128, true, 3)
KERNEL_F32(attention_backward_keys, 192, true, 2)
KERNEL_F32(attention_backward_queries, 32, false, 4)
KERNEL_F32(attention_backward_queries, 64, false, 3)
KERNEL_F32(attention_backward_queries, 96, false, 3)
KERNEL_F32(attention_backward_queries, 128, false, 3)
KERNEL_F32(attention_backward_queries, 192, false, 2)
