// GEMM in f32: C = A · B in fused multiply-adds, full precision, for checking the bf16 path and for small models.
//
// A block of 128 threads computes a 64 × 64 tile, each thread 4 rows × 2 times 4 columns. Tiles of 16 k's come through a
// multistage pipeline of 3 stages by cp.async. Both operands lie in shared memory as rows of their span, [16][64 + 4]: an operand
// with rows of k is transposed by the copy, element by element, 8 k's × 4 rows per warp so that both sides are free of conflicts.
#pragma once

#include "../ptx.cuh"
#include "epilogue.cuh"
#include "tiles.cuh"

namespace gemm_f32 {

constexpr int TILE = 64;
constexpr int TILE_K = 16;
constexpr int STAGES = 3;
constexpr int THREADS = 128;
// Row stride of a tile in floats: 4 more than its columns, so that the lanes' 8 k's fall into different banks.
constexpr int ROW_STRIDE = TILE + 4;
constexpr int OPERAND = TILE_K * ROW_STRIDE;  // floats

// global -> smem: starts to fill `tile` with the operand's tile at (span, k), zeros past its end. The operand is `spans` × `depth`.

template <Major MAJOR>
__device__ __forceinline__ void load(float* tile, const float* from, int span, int k, int spans, int depth) {
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
#pragma unroll
    for (int i = 0; i < TILE * TILE_K / THREADS; ++i) {
        int row, column;  // within the tile: k, span
        if constexpr (MAJOR == Major::K) {
            const int patch = warp + i * (THREADS / WARP);  // of 8 k's × 4 rows
            row = patch % 2 * 8 + lane % 8;
            column = patch / 2 * 4 + lane / 8;
        } else {
            const int strip = warp + i * (THREADS / WARP);  // of 32 columns
            row = strip / 2;
            column = strip % 2 * WARP + lane;
        }
        const bool valid = k + row < depth && span + column < spans;
        const size_t at = MAJOR == Major::K ? static_cast<size_t>(span + column) * depth + k + row
                                            : static_cast<size_t>(k + row) * spans + span + column;
        copy_async_4(shared_address(tile + row * ROW_STRIDE + column), valid ? from + at : from, valid);
    }
}

template <Major A_MAJOR, Major B_MAJOR, Epilogue E>
__device__ __forceinline__ void gemm(
    const float* a, const float* b, int m, int n, int k, bool vectors, EpilogueArguments<float> to) {
    __shared__ __align__(16) float a_tiles[STAGES][OPERAND];
    __shared__ __align__(16) float b_tiles[STAGES][OPERAND];

    const TileIndex index = tile_at(blockIdx.x, blocks_of(m, TILE), blocks_of(n, TILE));
    const int first_m = index.m * TILE, first_n = index.n * TILE;
    const int thread_n = threadIdx.x % 8 * 4, thread_m = threadIdx.x / 8 * 4;
    const KRange range = k_range(blocks_of(k, TILE_K), blockIdx.z, gridDim.z);

    float accumulators[4][8] = {};

    // stage k -> smem
    const auto load_stage = [&](int tile) {
        if (tile < range.end) {
            const int stage = (tile - range.begin) % STAGES;
            load<A_MAJOR>(a_tiles[stage], a, first_m, tile * TILE_K, m, k);
            load<B_MAJOR>(b_tiles[stage], b, first_n, tile * TILE_K, n, k);
        }
        copy_async_commit();
    };

    // prologue: fill the pipeline
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; ++stage) load_stage(range.begin + stage);

    // main loop
    for (int tile = range.begin; tile < range.end; ++tile) {
        copy_async_wait<STAGES - 2>();
        // This stage has landed for every warp, and no warp still reads the stage we refill.
        __syncthreads();

        // stage k+2 -> smem
        load_stage(tile + STAGES - 1);

        // C += A · B
        const int stage = (tile - range.begin) % STAGES;
#pragma unroll
        for (int inner = 0; inner < TILE_K; ++inner) {
            const float* a_row = a_tiles[stage] + inner * ROW_STRIDE + thread_m;
            const float* b_row = b_tiles[stage] + inner * ROW_STRIDE + thread_n;
            float u[4], v[4], w[4];
            load_vector(a_row, u);
            load_vector(b_row, v);
            load_vector(b_row + TILE / 2, w);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    accumulators[i][j] = fmaf(u[i], v[j], accumulators[i][j]);
                    accumulators[i][4 + j] = fmaf(u[i], w[j], accumulators[i][4 + j]);
                }
            }
        }
    }
    copy_async_wait<0>();

    // epilogue: accumulators -> 16-byte stores. With split-K each split writes its own partial sums.
    to.total += static_cast<size_t>(blockIdx.z) * m * n;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = first_m + thread_m + i, column = first_n + half * (TILE / 2) + thread_n;
            if (row >= m || column >= n) continue;
            float v[4] = {
                accumulators[i][half * 4], accumulators[i][half * 4 + 1], accumulators[i][half * 4 + 2],
                accumulators[i][half * 4 + 3]};
            if (vectors) {
                finish<E, float, 4, true>(to, row, column, n, v);
            } else {
                finish<E, float, 4, false>(to, row, column, n, v);
            }
        }
    }
}

}  // namespace gemm_f32
