// attention_decode: one step of causal attention from a cache of keys and values.
//
// reads   qkv [batch, 3 · width], keys, values [batch, positions, width] f32 up to `position`
// writes  keys, values at `position`; output [batch, width]
// sums    f32 in fixed order: deterministic
// grid    x: heads, y: images;  block 128 threads
// shared  dynamic: position + 1 floats of scores, head_dim of the query, 4 · head_dim of partial outputs, 4
//
// A head's keys and values at `position` are this block's alone, so its own barrier is enough to read them back.
#include "common.cuh"
#include "reduce.cuh"

constexpr int WARPS = 4;

template <class T>
__device__ __forceinline__ void attention_decode(
    const T* qkv, float* keys, float* values, T* output, int position, int positions, int width, int head_dim, float scale) {
    extern __shared__ float shared[];
    float* query = shared;                            // [head_dim]
    float* shares = query + head_dim;                 // [WARPS, head_dim]
    float* room = shares + WARPS * head_dim;          // [WARPS]
    float* scores = room + WARPS;                     // [position + 1]
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const size_t column = static_cast<size_t>(blockIdx.x) * head_dim;
    const T* own = qkv + static_cast<size_t>(blockIdx.y) * 3 * width + column;
    float* key = keys + static_cast<size_t>(blockIdx.y) * positions * width + column;
    float* value = values + static_cast<size_t>(blockIdx.y) * positions * width + column;
    for (int e = threadIdx.x; e < head_dim; e += blockDim.x) {
        query[e] = to_float(own[e]);
        key[static_cast<size_t>(position) * width + e] = to_float(own[width + e]);
        value[static_cast<size_t>(position) * width + e] = to_float(own[2 * width + e]);
    }
    __syncthreads();

    float max = -INFINITY;
    for (int token = warp; token <= position; token += WARPS) {
        float score = 0.0f;
        for (int e = lane; e < head_dim; e += WARP) score = fmaf(query[e], key[static_cast<size_t>(token) * width + e], score);
        score = lane_sum(score) * scale;
        if (lane == 0) scores[token] = score;
        max = fmaxf(max, score);
    }
    if (lane == 0) room[warp] = max;
    __syncthreads();
    max = fmaxf(fmaxf(room[0], room[1]), fmaxf(room[2], room[3]));
    __syncthreads();
    float sum = 0.0f;
    for (int token = threadIdx.x; token <= position; token += blockDim.x) {
        scores[token] = expf(scores[token] - max);
        sum += scores[token];
    }
    // Its barriers also publish the scores.
    sum = group_sum<WARPS>(sum, room, warp);
    for (int e = lane; e < head_dim; e += WARP) {
        float mixed = 0.0f;
#pragma unroll 4
        for (int token = warp; token <= position; token += WARPS) {
            mixed = fmaf(scores[token], value[static_cast<size_t>(token) * width + e], mixed);
        }
        shares[warp * head_dim + e] = mixed;
    }
    __syncthreads();
    for (int e = threadIdx.x; e < head_dim; e += blockDim.x) {
        const float mixed = shares[e] + shares[head_dim + e] + shares[2 * head_dim + e] + shares[3 * head_dim + e];
        output[static_cast<size_t>(blockIdx.y) * width + column + e] = from_float<T>(mixed / sum);
    }
}

#define KERNEL(NAME, T)                                                                                                \
    extern "C" __global__ void __launch_bounds__(WARPS* WARP)                                                          \
        attention_decode_##NAME(const T* qkv, float* keys, float* values, T* output, int position, int positions,      \
                                int width, int head_dim, float scale) {                                                \
        attention_decode(qkv, keys, values, output, position, positions, width, head_dim, scale);                      \
    }

KERNEL(f32, float)
KERNEL(bf16, bf16)
