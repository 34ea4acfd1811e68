// attention_prefill: keys and values of prompts, from where attention reads them into the cache that drawing goes on from.
//
// reads   qkv [batch, tokens, 3 · width]
// writes  keys, values [batch, heads, positions, head_dim] at positions 0..tokens
// grid    x: tokens, y: images;  block 128 threads
//
// 16 bytes at a time where head_dim divides into such.
#include "common.cuh"

constexpr int THREADS = 128;

template <class T>
__device__ __forceinline__ void attention_prefill(
    const T* qkv, T* keys, T* values, int positions, int heads, int head_dim) {
    const int width = heads * head_dim;
    const size_t token = static_cast<size_t>(blockIdx.y) * gridDim.x + blockIdx.x;
    const T* row = qkv + token * 3 * width + width;

    // Where a column of this token stands in a cache.
    const auto cached = [&](int column) {
        const size_t head = static_cast<size_t>(blockIdx.y) * heads + column / head_dim;
        return (head * positions + blockIdx.x) * head_dim + column % head_dim;
    };
    if (head_dim % VECTOR<T> == 0) {
        for (int column = threadIdx.x * VECTOR<T>; column < width; column += THREADS * VECTOR<T>) {
            const size_t at = cached(column);
            *reinterpret_cast<uint4*>(keys + at) = *reinterpret_cast<const uint4*>(row + column);
            *reinterpret_cast<uint4*>(values + at) = *reinterpret_cast<const uint4*>(row + width + column);
        }
    } else {
        for (int column = threadIdx.x; column < width; column += THREADS) {
            const size_t at = cached(column);
            keys[at] = row[column];
            values[at] = row[width + column];
        }
    }
}

#define KERNEL(NAME, T)                                                                                      \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                    \
        attention_prefill_##NAME(const T* qkv, T* keys, T* values, int positions, int heads, int head_dim) { \
        attention_prefill(qkv, keys, values, positions, heads, head_dim);                                    \
    }

KERNEL(f32, float)
KERNEL(bf16, bf16)
