// attention_decode: one step of causal attention from a cache of keys and values.
//
// reads   qkv [batch, 3 · width], keys, values [batch, positions, width] f32 up to `position`
// writes  keys, values at `position`; output [batch, width]
// sums    f32 in fixed order: deterministic
// grid    x: heads, y: images;  block 128 threads
// shared  dynamic: position + 1 floats of scores, head_dim of the query, 4 · head_dim of partial outputs, 4
//
// No other block touches this head's keys and values, so a barrier of the block is enough to read back those at `position`.
#include "common.cuh"
#include "reduce.cuh"

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;

template <class T>
__device__ __forceinline__ void attention_decode(
    const T* qkv, float* keys, float* values, T* output, int position, int positions, int width, int head_dim,
    float scale) {
    extern __shared__ float smem[];
    float* query = smem;                                // [head_dim]
    float* partial_out = query + head_dim;              // [WARPS, head_dim]
    float* reduction = partial_out + WARPS * head_dim;  // [WARPS]
    float* scores = reduction + WARPS;                  // [position + 1]
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const size_t column = static_cast<size_t>(blockIdx.x) * head_dim;
    const T* token_qkv = qkv + static_cast<size_t>(blockIdx.y) * 3 * width + column;
    float* key = keys + static_cast<size_t>(blockIdx.y) * positions * width + column;
    float* value = values + static_cast<size_t>(blockIdx.y) * positions * width + column;

    // q -> smem; k, v -> cache
    for (int e = threadIdx.x; e < head_dim; e += blockDim.x) {
        query[e] = to_float(token_qkv[e]);
        key[static_cast<size_t>(position) * width + e] = to_float(token_qkv[width + e]);
        value[static_cast<size_t>(position) * width + e] = to_float(token_qkv[2 * width + e]);
    }
    __syncthreads();

    // s = K q, a warp per token, and its maximum
    float max = -INFINITY;
    for (int token = warp; token <= position; token += WARPS) {
        float score = 0.0f;
        for (int e = lane; e < head_dim; e += WARP)
            score = fmaf(query[e], key[static_cast<size_t>(token) * width + e], score);
        score = lane_sum(score) * scale;
        if (lane == 0) scores[token] = score;
        max = fmaxf(max, score);
    }
    if (lane == 0) reduction[warp] = max;
    __syncthreads();
    max = fmaxf(fmaxf(reduction[0], reduction[1]), fmaxf(reduction[2], reduction[3]));
    __syncthreads();

    // softmax: exp(s − max) and its sum
    float sum = 0.0f;
    for (int token = threadIdx.x; token <= position; token += blockDim.x) {
        scores[token] = expf(scores[token] - max);
        sum += scores[token];
    }
    // The barriers in group_sum also publish the scores.
    sum = group_sum<WARPS>(sum, reduction, warp);

    // o = p V: each warp its tokens, then the partial outputs of all warps
    for (int e = lane; e < head_dim; e += WARP) {
        float out = 0.0f;
#pragma unroll 4
        for (int token = warp; token <= position; token += WARPS) {
            out = fmaf(scores[token], value[static_cast<size_t>(token) * width + e], out);
        }
        partial_out[warp * head_dim + e] = out;
    }
    __syncthreads();
    for (int e = threadIdx.x; e < head_dim; e += blockDim.x) {
        const float out =
            partial_out[e] + partial_out[head_dim + e] + partial_out[2 * head_dim + e] + partial_out[3 * head_dim + e];
        output[static_cast<size_t>(blockIdx.y) * width + column + e] = from_float<T>(out / sum);
    }
}

#define KERNEL(NAME, T)                                                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS) attention_decode_##NAME(                                 \
        const T* qkv, float* keys, float* values, T* output, int position, int positions, int width, int head_dim, \
        float scale) {                                                                                             \
        attention_decode(qkv, keys, values, output, position, positions, width, head_dim, scale);                  \
    }

KERNEL(f32, float)
KERNEL(bf16, bf16)
