// Attention in f32: tiles of 32 tokens in shared memory and products of 32 rows with them, in fused multiply-adds.
//
// Thread t has rows 2(t / 8) and the next. Of 32 × 32 scores it computes columns t % 8 + 8j, of results the columns
// 4(t % 8) + 32i .. + 3. A row's scores so lie in 8 neighbouring lanes, and go from lane to lane by shuffles.
#pragma once

#include "../ptx.cuh"
#include "../reduce.cuh"

namespace attention_f32 {

constexpr int THREADS = 128;
constexpr int ROWS = 32;

// One head of one image: its first token's columns, and the elements from a token to the next.
struct Head {
    const float* rows;
    size_t stride;
    int tokens;
    int head_dim;
    // head_dim divisible by 4, everything by 16 bytes.
    bool aligned;
};

// Rows of D >= head_dim columns, zeros past the head and the last token. The 4 floats more put the 8 rows that 8 lanes read
// into different banks.
template <int D>
struct Tile {
    static constexpr int PITCH = D + 4;
    static constexpr int FLOATS = ROWS * PITCH;

    static __device__ __forceinline__ void load(float* tile, const Head& head, int first) {
        if (head.aligned) {
#pragma unroll 4
            for (int index = threadIdx.x; index < ROWS * D / 4; index += THREADS) {
                const int row = index / (D / 4), column = index % (D / 4) * 4;
                const bool valid = first + row < head.tokens && column < head.head_dim;
                const float* from = head.rows + (valid ? (first + row) * head.stride + column : 0);
                copy_async_16(shared_address(tile + row * PITCH + column), from, valid);
            }
        } else {
#pragma unroll 4
            for (int index = threadIdx.x; index < ROWS * D; index += THREADS) {
                const int row = index / D, column = index % D;
                const bool valid = first + row < head.tokens && column < head.head_dim;
                const float* from = head.rows + (valid ? (first + row) * head.stride + column : 0);
                copy_async_4(shared_address(tile + row * PITCH + column), from, valid);
            }
        }
    }

    // products[r][j] = row r of this thread's two · row t % 8 + 8j of `columns`.
    static __device__ __forceinline__ void products(const float* rows, const float* columns, float (&products)[2][4]) {
        const float* own = rows + threadIdx.x / 8 * 2 * PITCH;
        const float* other = columns + threadIdx.x % 8 * PITCH;
#pragma unroll
        for (int j = 0; j < 4; ++j) products[0][j] = products[1][j] = 0.0f;
#pragma unroll 4
        for (int e = 0; e < D; e += 4) {
            float u[2][4];
            load_vector(own + e, u[0]);
            load_vector(own + PITCH + e, u[1]);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                float v[4];
                load_vector(other + 8 * j * PITCH + e, v);
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    products[0][j] = fmaf(u[0][i], v[i], products[0][j]);
                    products[1][j] = fmaf(u[1][i], v[i], products[1][j]);
                }
            }
        }
    }

    // sums += weights · rows of `from`, 32 of them.
    static __device__ __forceinline__ void mix(const float (&weights)[2][4], const float* from, float (&sums)[2][D / 8]) {
        const float* own = from + threadIdx.x % 8 * 4;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
#pragma unroll 2
            for (int lane = 0; lane < 8; ++lane) {
                const float w0 = __shfl_sync(ALL_LANES, weights[0][j], lane, 8);
                const float w1 = __shfl_sync(ALL_LANES, weights[1][j], lane, 8);
#pragma unroll
                for (int i = 0; i < D / 32; ++i) {
                    float v[4];
                    load_vector(own + (8 * j + lane) * PITCH + 32 * i, v);
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        sums[0][4 * i + e] = fmaf(w0, v[e], sums[0][4 * i + e]);
                        sums[1][4 * i + e] = fmaf(w1, v[e], sums[1][4 * i + e]);
                    }
                }
            }
        }
    }

    // Writes this thread's part of 32 rows of results to the tokens from `first` on.
    static __device__ __forceinline__ void store(const float (&sums)[2][D / 8], float* to, const Head& head, int first) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int token = first + threadIdx.x / 8 * 2 + r;
            if (token >= head.tokens) continue;
#pragma unroll
            for (int i = 0; i < D / 32; ++i) {
                const int column = threadIdx.x % 8 * 4 + 32 * i;
                float* place = to + token * head.stride + column;
                const float v[4] = {sums[r][4 * i], sums[r][4 * i + 1], sums[r][4 * i + 2], sums[r][4 * i + 3]};
                if (head.aligned) {
                    if (column < head.head_dim) store_vector(place, v);
                } else {
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        if (column + e < head.head_dim) place[e] = v[e];
                    }
                }
            }
        }
    }
};

}    // namespace attention_f32
