// attention backward for compute capability 9.0: attention_backward.cu in bf16, by wgmma and TMA (attention/backward_sm90.cuh).
//
// attention_backward_queries: writes columns q of d_qkv (=), delta (=);  rows queries, columns keys
// attention_backward_keys: writes columns k ‖ v of d_qkv (=), after that one;  rows keys, columns queries
//   reads   qkv, dy, logsumexp, and output or delta as attention_backward.cu
//   maps    of qkv, dy, output and d_qkv as heads: boxes of 64 tokens × 64 columns of a head, swizzled in 128 bytes (D 96: 32 columns, 64
//           bytes); head_dim a multiple of 8. Of logsumexp and delta as vectors: boxes of 64 (only keys)
//   grid    x: blocks of twice 128 rows (D 128 and queries of D 192: once; keys of D 192: twice 64), y: heads, z: images
//   block   384 threads; dynamic shared memory SHARED_BYTES of the shape
//
// _64 .. _192: the largest head_dim.
#include "attention/backward_sm90.cuh"

#define KERNEL_KEYS(D)                                                                                         \
    extern "C" __global__ void __launch_bounds__(attention_sm90::THREADS, 1) attention_backward_keys_sm90_##D( \
        const __grid_constant__ TensorMap qkv, const __grid_constant__ TensorMap dy,                           \
        const __grid_constant__ TensorMap d_qkv, const __grid_constant__ TensorMap logsumexp,                  \
        const __grid_constant__ TensorMap delta, int tokens, int causal, float scale) {                        \
        attention_sm90::backward<D, true>(                                                                     \
            {qkv, dy, dy, d_qkv, logsumexp, delta, nullptr, nullptr, tokens, causal != 0, scale});             \
    }
#define KERNEL_QUERIES(D)                                                                                          \
    extern "C" __global__ void __launch_bounds__(attention_sm90::THREADS, 1) attention_backward_queries_sm90_##D(  \
        const __grid_constant__ TensorMap qkv, const __grid_constant__ TensorMap dy,                               \
        const __grid_constant__ TensorMap output, const __grid_constant__ TensorMap d_qkv, const float* logsumexp, \
        float* delta, int tokens, int causal, float scale) {                                                       \
        attention_sm90::backward<D, false>(                                                                        \
            {qkv, dy, output, d_qkv, qkv, qkv, logsumexp, delta, tokens, causal != 0, scale});                     \
    }

KERNEL_KEYS(64)
KERNEL_KEYS(96)
KERNEL_KEYS(128)
KERNEL_KEYS(192)
KERNEL_QUERIES(64)
KERNEL_QUERIES(96)
KERNEL_QUERIES(128)
KERNEL_QUERIES(192)
