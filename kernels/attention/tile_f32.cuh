// Attention in f32: tiles of 32 tokens in shared memory, and GEMMs of 32 rows with them in fused multiply-adds.
//
// Thread t has rows 2(t / 8) and the next. Of 32 × 32 scores it computes columns t % 8 + 8j, of results the columns
// 4(t % 8) + 32i .. + 3. The scores of a row are spread over 8 neighbouring lanes, which pass them on by shuffles.
#pragma once

#include "../ptx.cuh"
#include "../reduce.cuh"
#include "head.cuh"

namespace attention_f32 {

constexpr int THREADS = 128;
constexpr int ROWS = 32;

// Rows of D >= head_dim columns, zeros past the head and the last token. The row stride is 4 floats more, which puts the 8 rows
// that 8 lanes read into different banks.
template <int D>
struct Tile {
    static constexpr int ROW_STRIDE = D + 4;
    static constexpr int FLOATS = ROWS * ROW_STRIDE;

    // global -> smem: starts to fill `tile` with 32 tokens from `first` on.
    static __device__ __forceinline__ void load(float* tile, const Head<float>& head, int first) {
        if (head.aligned) {
#pragma unroll 4
            for (int index = threadIdx.x; index < ROWS * D / 4; index += THREADS) {
                const int row = index / (D / 4), column = index % (D / 4) * 4;
                const bool valid = first + row < head.tokens && column < head.head_dim;
                const float* from = head.rows + (valid ? (first + row) * head.stride + column : 0);
                copy_async_16(shared_address(tile + row * ROW_STRIDE + column), from, valid);
            }
        } else {
#pragma unroll 4
            for (int index = threadIdx.x; index < ROWS * D; index += THREADS) {
                const int row = index / D, column = index % D;
                const bool valid = first + row < head.tokens && column < head.head_dim;
                const float* from = head.rows + (valid ? (first + row) * head.stride + column : 0);
                copy_async_4(shared_address(tile + row * ROW_STRIDE + column), from, valid);
            }
        }
    }

    // scores = rows · columnsᵀ: scores[r][j] is of row r of this thread's two, and row t % 8 + 8j of `columns`.
    static __device__ __forceinline__ void multiply_transposed(
        const float* rows, const float* columns, float (&scores)[2][4]) {
        const float* thread_rows = rows + threadIdx.x / 8 * 2 * ROW_STRIDE;
        const float* thread_columns = columns + threadIdx.x % 8 * ROW_STRIDE;
#pragma unroll
        for (int j = 0; j < 4; ++j) scores[0][j] = scores[1][j] = 0.0f;
#pragma unroll 4
        for (int e = 0; e < D; e += 4) {
            float u[2][4];
            load_shared(thread_rows + e, u[0]);
            load_shared(thread_rows + ROW_STRIDE + e, u[1]);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                float v[4];
                load_shared(thread_columns + 8 * j * ROW_STRIDE + e, v);
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    scores[0][j] = fmaf(u[0][i], v[i], scores[0][j]);
                    scores[1][j] = fmaf(u[1][i], v[i], scores[1][j]);
                }
            }
        }
    }

    // accumulators += weights · tile, whose 32 rows are read.
    static __device__ __forceinline__ void accumulate(
        const float (&weights)[2][4], const float* tile, float (&accumulators)[2][D / 8]) {
        const float* thread_columns = tile + threadIdx.x % 8 * 4;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
#pragma unroll 2
            for (int lane = 0; lane < 8; ++lane) {
                const float w0 = __shfl_sync(ALL_LANES, weights[0][j], lane, 8);
                const float w1 = __shfl_sync(ALL_LANES, weights[1][j], lane, 8);
#pragma unroll
                for (int i = 0; i < D / 32; ++i) {
                    float v[4];
                    load_shared(thread_columns + (8 * j + lane) * ROW_STRIDE + 32 * i, v);
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        accumulators[0][4 * i + e] = fmaf(w0, v[e], accumulators[0][4 * i + e]);
                        accumulators[1][4 * i + e] = fmaf(w1, v[e], accumulators[1][4 * i + e]);
                    }
                }
            }
        }
    }

    // Epilogue: this thread's part of 32 rows of accumulators to the tokens from `first` on.
    static __device__ __forceinline__ void store(
        const float (&accumulators)[2][D / 8], float* to, const Head<float>& head, int first) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int token = first + threadIdx.x / 8 * 2 + r;
            if (token >= head.tokens) continue;
#pragma unroll
            for (int i = 0; i < D / 32; ++i) {
                const int column = threadIdx.x % 8 * 4 + 32 * i;
                float* target = to + token * head.stride + column;
                const float v[4] = {
                    accumulators[r][4 * i], accumulators[r][4 * i + 1], accumulators[r][4 * i + 2],
                    accumulators[r][4 * i + 3]};
                if (head.aligned) {
                    if (column < head.head_dim) store_vector(target, v);
                } else {
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        if (column + e < head.head_dim) target[e] = v[e];
                    }
                }
            }
        }
    }
};

}  // namespace attention_f32
