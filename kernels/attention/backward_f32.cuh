// attention backward in full f32, for checking the bf16 kernels and for small models; tiles of 32 × 32.
#pragma once

#include "delta.cuh"
#include "tile_f32.cuh"

namespace attention_f32 {

// BY_KEYS: this block's rows are keys and its columns queries; otherwise rows are queries and columns keys. Names as in
// backward_bf16.cuh.
template <int D, bool BY_KEYS>
__device__ __forceinline__ void backward(
    const float* qkv, const float* dy, const float* output, const float* logsumexp, float* delta, float* d_qkv,
    int tokens, int head_dim, int causal, int aligned, float scale) {
    using T = Tile<D>;
    extern __shared__ __align__(16) float smem[];
    float *rows_one = smem, *rows_two = rows_one + T::FLOATS;                           // K, V or Q, dO
    float *columns_one = rows_two + T::FLOATS, *columns_two = columns_one + T::FLOATS;  // Q, dO or K, V
    float* stats = columns_two + T::FLOATS;  // [logsumexp, delta][ROWS] of the queries

    // the head, and this thread's rows
    const int heads = gridDim.y, width = heads * head_dim;
    const size_t image = static_cast<size_t>(blockIdx.z) * tokens * 3 * width + blockIdx.y * head_dim;
    const Head<float> q{qkv + image, static_cast<size_t>(3 * width), tokens, head_dim, aligned != 0};
    const Head<float> k{q.rows + width, q.stride, tokens, head_dim, q.aligned};
    const Head<float> v{q.rows + 2 * width, q.stride, tokens, head_dim, q.aligned};
    const size_t of_image = static_cast<size_t>(blockIdx.z) * tokens * width + blockIdx.y * head_dim;
    const Head<float> d{dy + of_image, static_cast<size_t>(width), tokens, head_dim, q.aligned};
    const size_t head_stats = (static_cast<size_t>(blockIdx.z) * heads + blockIdx.y) * tokens;
    const int first_row = static_cast<int>(BY_KEYS ? blockIdx.x : gridDim.x - 1 - blockIdx.x) * ROWS;
    const int row = first_row + threadIdx.x / 8 * 2, lane = threadIdx.x % 8;
    const int begin = BY_KEYS && causal ? first_row : 0;
    const int end = !BY_KEYS && causal ? min(tokens, first_row + ROWS) : tokens;

    // logsumexp, and of columns delta -> smem
    const auto load_stats = [&](int first_query) {
        if (threadIdx.x < (BY_KEYS ? 2 : 1) * ROWS) {
            const int query = first_query + threadIdx.x % ROWS;
            const float* from = (threadIdx.x < ROWS ? logsumexp : delta) + head_stats;
            stats[threadIdx.x] = query < tokens ? from[query] : 0.0f;
        }
    };

    // rows -> smem
    T::load(rows_one, BY_KEYS ? k : q, first_row);
    T::load(rows_two, BY_KEYS ? v : d, first_row);
    if constexpr (!BY_KEYS) {
        load_stats(first_row);

        // O -> smem, in the place of columns
        T::load(columns_one, Head<float>{output + of_image, d.stride, tokens, head_dim, d.aligned}, first_row);
        copy_async_commit();
        copy_async_wait<0>();
        __syncthreads();

        // delta -> smem, global
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int at = threadIdx.x / 8 * 2 + r;
            const float sum = sum_of_row<float, D, 8>(false, [&](int vector, auto& of_output, auto& of_dy) {
                load_shared(columns_one + at * T::ROW_STRIDE + vector * 4, of_output);
                load_shared(rows_two + at * T::ROW_STRIDE + vector * 4, of_dy);
            });
            if (lane == 0) {
                stats[ROWS + at] = sum;
                if (row + r < tokens) delta[head_stats + row + r] = sum;
            }
        }
        // No warp still reads O.
        __syncthreads();
    }
    float acc_one[2][D / 8] = {};                // dK, or dQ
    float acc_two[2][BY_KEYS ? D / 8 : 4] = {};  // dV

    // blocks of 32 columns
#pragma unroll 1
    for (int first_column = begin; first_column < end; first_column += ROWS) {
        // columns -> smem
        T::load(columns_one, BY_KEYS ? q : k, first_column);
        T::load(columns_two, BY_KEYS ? d : v, first_column);
        copy_async_commit();
        if (BY_KEYS) load_stats(first_column);
        copy_async_wait<0>();
        __syncthreads();

        // S = Q Kᵀ, dP = dO Vᵀ (both transposed if BY_KEYS)
        float p[2][4], ds[2][4];
        T::multiply_transposed(rows_one, columns_one, p);
        T::multiply_transposed(rows_two, columns_two, ds);

        // mask, P = exp(S − logsumexp), dS = P ∘ (dP − delta)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const int column = first_column + lane + 8 * j;
                const int query = BY_KEYS ? lane + 8 * j : threadIdx.x / 8 * 2 + r;  // of the tile
                const bool hidden = causal && (BY_KEYS ? row + r > column : column > row + r);
                const bool in_bounds = column < tokens && row + r < tokens && !hidden;
                p[r][j] = in_bounds ? expf(fmaf(p[r][j], scale, -stats[query])) : 0.0f;
                ds[r][j] = p[r][j] * (ds[r][j] - stats[ROWS + query]) * scale;
            }
        }

        // dK += dSᵀ Q and dV += Pᵀ dO, or dQ += dS K
        T::accumulate(ds, columns_one, acc_one);
        if constexpr (BY_KEYS) T::accumulate(p, columns_two, acc_two);
        // No warp still reads the tiles.
        __syncthreads();
    }

    // epilogue: accumulators -> 16-byte stores
    float* out = d_qkv + image;
    T::store(acc_one, BY_KEYS ? out + width : out, q, first_row);
    if constexpr (BY_KEYS) T::store(acc_two, out + 2 * width, q, first_row);
}

}  // namespace attention_f32
