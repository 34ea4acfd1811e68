// attention: multi-head attention, in bf16 on tensor cores (attention/forward_bf16.cuh) and in full f32 (attention/forward_f32.cuh).
//
// reads   qkv [batch, tokens, 3 · heads · head_dim]: columns q ‖ k ‖ v
// writes  output [batch, tokens, heads · head_dim], logsumexp [batch, heads, tokens] f32 = ln Σ exp(scale · q · k)
// sums    f32; a query's keys tile after tile: deterministic
// grid    x: blocks of queries, the last first (under a causal mask they have most keys), y: heads, z: images
// block   bf16: 4 warps of 16 or 32 queries each; dynamic shared memory: the block's queries, and two stages of keys and values,
//         the second copied (cp.async) while the first is multiplied; one barrier per stage
//         f32: 128 threads for 32 queries; dynamic shared memory: three tiles, 12 · 32 · (D + 4) bytes
//
// _16 .. _192: columns D that a head is padded to in shared memory; head_dim <= D. `aligned`: head_dim divisible by 8 (f32: 4),
// qkv and output by 16 bytes.
#include "attention/forward_bf16.cuh"
#include "attention/forward_f32.cuh"

#define KERNEL_BF16(D, ROW_TILES, KEYS, HOLD, BLOCKS)                                                       \
    extern "C" __global__ void __launch_bounds__(attention_bf16::THREADS, BLOCKS) attention_bf16_##D(       \
        const bf16* qkv, bf16* output, float* logsumexp, int tokens, int head_dim, int causal, int aligned, \
        float scale) {                                                                                      \
        attention_bf16::forward<D, ROW_TILES, KEYS, HOLD>(                                                  \
            qkv, output, logsumexp, tokens, head_dim, causal, aligned, scale);                              \
    }
#define KERNEL_F32(D, BLOCKS)                                                                                 \
    extern "C" __global__ void __launch_bounds__(attention_f32::THREADS, BLOCKS) attention_f32_##D(           \
        const float* qkv, float* output, float* logsumexp, int tokens, int head_dim, int causal, int aligned, \
        float scale) {                                                                                        \
        attention_f32::forward<D>(qkv, output, logsumexp, tokens, head_dim, causal, aligned, scale);          \
    }

KERNEL_BF16(16, 1, 64, true, 3)
KERNEL_BF16(32, 2, 64, true, 2)
KERNEL_BF16(64, 2, 64, true, 2)
KERNEL_BF16(96, 1, 64, true, 2)
KERNEL_BF16(128, 1, 64, true, 2)
KERNEL_BF16(192, 1, 32, false, 2)

KERNEL_F32(32, 4)
KERNEL_F32(64, 3)
KERNEL_F32(96, 3)
KERNEL_F32(128, 3)
KERNEL_F32(192, 2)
