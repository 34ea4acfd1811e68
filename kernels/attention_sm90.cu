// attention for compute capability 9.0: the forward of attention.cu in bf16, by wgmma and TMA (attention/forward_sm90.cuh).
//
// reads   qkv [batch, tokens, 3, heads, head_dim]: q ‖ k ‖ v
// writes  output [batch, tokens, heads, head_dim], logsumexp [batch, heads, tokens] f32 = ln Σ exp(scale · q · k)
// maps    of qkv as [batch, tokens, 3 · heads, head_dim], boxes of 64 tokens (queries) and of a tile's keys (keys, values); of output
//         boxes of 64 tokens; all of 64 columns, swizzled in 128 bytes, and at D 96 of 32 in 64. Rows are multiples of 16 bytes.
// sums    f32; a query's keys tile after tile: deterministic, and the same for any grid. Tiles are longer than those of attention.cu, so
//         its bits are others.
// grid    any number of blocks: they share the tiles of queries × heads × images. `section`: heads of all images that are worked on
//         together
// block   128 threads and 128 for each 64 queries; dynamic shared memory SHARED_BYTES
//
// At D 96 tiles of 128 keys spilled 240 bytes, and the products were waited for one by one.
//
// _64 .. _192: columns D that a head is padded to in shared memory; head_dim <= D, divisible by 8.
#include "attention/forward_sm90.cuh"

#define KERNEL_BF16(D, KEYS, CONSUMERS, BUFFERS)                                                                       \
    extern "C" __global__ void __launch_bounds__((1 + CONSUMERS) * attention_sm90::GROUP_THREADS, 1)                   \
        attention_sm90_##D(                                                                                            \
            const __grid_constant__ TensorMap queries, const __grid_constant__ TensorMap keys,                         \
            const __grid_constant__ TensorMap output, float* logsumexp, int tokens, int heads, int images, int causal, \
            int section, float scale) {                                                                                \
        attention_sm90::forward<attention_sm90::Shape<D, KEYS, CONSUMERS, BUFFERS>>(                                   \
            queries, keys, output, logsumexp, {tokens, heads, images, causal, section}, scale);                        \
    }

KERNEL_BF16(64, 128, 3, 2)
KERNEL_BF16(96, 96, 3, 2)
KERNEL_BF16(128, 128, 2, 2)
KERNEL_BF16(192, 112, 2, 1)
