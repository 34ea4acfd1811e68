// attention forward in full f32, for checking the bf16 kernels and for small models; tiles of 32 × 32.
#pragma once

#include "tile_f32.cuh"

namespace attention_f32 {

template <int D>
__device__ __forceinline__ void forward(
    const float* qkv, float* output, float* logsumexp, int tokens, int head_dim, int causal, int aligned, float scale) {
    using T = Tile<D>;
    extern __shared__ __align__(16) float smem[];
    float *q_tile = smem, *k_tile = q_tile + T::FLOATS, *v_tile = k_tile + T::FLOATS;

    // the head, and this thread's queries
    const int heads = gridDim.y, width = heads * head_dim;
    const float* image = qkv + static_cast<size_t>(blockIdx.z) * tokens * 3 * width + blockIdx.y * head_dim;
    const Head<float> q{image, static_cast<size_t>(3 * width), tokens, head_dim, aligned != 0};
    const Head<float> k{image + width, q.stride, tokens, head_dim, q.aligned};
    const Head<float> v{image + 2 * width, q.stride, tokens, head_dim, q.aligned};
    const int first_query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * ROWS;
    const int row = first_query + threadIdx.x / 8 * 2, lane = threadIdx.x % 8;
    const int end = causal ? min(tokens, first_query + ROWS) : tokens;

    // Q -> smem
    T::load(q_tile, q, first_query);
    float out[2][D / 8] = {};
    float row_max[2] = {-INFINITY, -INFINITY}, row_sum[2] = {};

    // blocks of 32 keys
#pragma unroll 1
    for (int first_key = 0; first_key < end; first_key += ROWS) {
        // K, V -> smem
        T::load(k_tile, k, first_key);
        T::load(v_tile, v, first_key);
        copy_async_commit();
        copy_async_wait<0>();
        __syncthreads();

        // S = Q Kᵀ
        float scores[2][4];
        T::multiply_transposed(q_tile, k_tile, scores);

        // mask, online softmax
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            float new_max = -INFINITY;
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const int key = first_key + lane + 8 * j;
                scores[r][j] = key >= tokens || (causal && key > row + r) ? -INFINITY : scores[r][j] * scale;
                new_max = fmaxf(new_max, scores[r][j]);
            }
            // Finite: every query sees key 0, which came first.
            new_max = fmaxf(row_max[r], lane_max<8>(new_max));
            const float factor = expf(row_max[r] - new_max);
            row_max[r] = new_max;

            float total = 0.0f;
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                scores[r][j] = expf(scores[r][j] - new_max);
                total += scores[r][j];
            }
            row_sum[r] = fmaf(row_sum[r], factor, lane_sum<8>(total));
#pragma unroll
            for (int i = 0; i < D / 8; ++i) out[r][i] *= factor;
        }

        // O += P V
        T::accumulate(scores, v_tile, out);
        // No warp still reads the tiles.
        __syncthreads();
    }

    // epilogue: O / Σ and logsumexp
    float* logs = logsumexp + (static_cast<size_t>(blockIdx.z) * heads + blockIdx.y) * tokens;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
        for (int i = 0; i < D / 8; ++i) out[r][i] /= row_sum[r];
        if (lane == 0 && row + r < tokens) logs[row + r] = row_max[r] + logf(row_sum[r]);
    }
    const Head<float> o{nullptr, static_cast<size_t>(width), tokens, head_dim, q.aligned};
    T::store(out, output + static_cast<size_t>(blockIdx.z) * tokens * width + blockIdx.y * head_dim, o, first_query);
}

}  // namespace attention_f32
