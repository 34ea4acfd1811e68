// GEMM in bf16 of few rows, which is what drawing does at every pixel: as many rows as images. C = A · B with f32 accumulators.
//
// There is nothing to do but to read B once, and the time is that of the way to memory and back; so all of a card must ask for it at
// once. A block has 16 rows and 16 columns of C, and each of its 8 warps every eighth tile of 32 k's, through a pipeline of its own
// (cp.async, STAGES stages, no barrier of the block): with the 3 stages that are in flight a block asks for 48 KB, and 512 k's of all
// 16 columns are under way before the first product. The warps' sums are added up in the order of the warps.
//
// C of [16, 512] is 32 blocks here, and 8 by the 64 × 64 tile, of which each would have to read four times as much.
#pragma once

#include "bf16.cuh"

namespace gemm_few_rows {

constexpr int WARPS = 8;
constexpr int THREADS = WARPS * WARP;
constexpr int STAGES = 4;
// Rows and columns of a block.
constexpr int TILE = 16;
using gemm_bf16::TILE_K;

// Dynamic shared memory of a block, in bytes: the stages of all warps. Their sums take less.
constexpr int SHARED_BYTES = WARPS * STAGES * 2 * TILE * TILE_K * 2;

// Where element (row, column) of a warp's sums stands, in floats: swizzled, so that the pairs of a fragment (4 rows of 4 pairs at a
// time) are written to different banks, and 2 rows read from different ones.
__device__ __forceinline__ int sum_at(int row, int column) { return row * TILE + (column ^ row / 2 % 2 * 8); }

template <Major B_MAJOR, Epilogue E>
__device__ __forceinline__ void gemm(const bf16* a, const bf16* b, int m, int n, int k, EpilogueArguments<bf16> to) {
    using A = gemm_bf16::Operand<TILE, Major::K>;
    using B = gemm_bf16::Operand<TILE, B_MAJOR>;
    constexpr int STAGE = A::BYTES + B::BYTES;
    extern __shared__ __align__(128) char smem[];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int first_m = blockIdx.y * TILE, first_n = blockIdx.x * TILE;
    const int tiles = blocks_of(k, TILE_K);
    char* stages = smem + warp * STAGES * STAGE;  // [STAGES][A::BYTES + B::BYTES]

    float accumulators[TILE / 8][4] = {};
    const uint32_t a_place = A::a_place(0), b_place = B::b_place(0);

    // this warp's tile `i` of k -> smem
    const auto load = [&](int i) {
        const int tile = warp + i * WARPS;
        if (tile < tiles) {
            char* stage = stages + i % STAGES * STAGE;
            B::template load<true, WARP>(stage + A::BYTES, b, first_n, tile * TILE_K, n, k, lane);
            A::template load<true, WARP>(stage, a, first_m, tile * TILE_K, m, k, lane);
        }
        copy_async_commit();
    };

    // prologue: fill the pipeline
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; ++stage) load(stage);

    // main loop
    for (int i = 0; warp + i * WARPS < tiles; ++i) {
        copy_async_wait<STAGES - 2>();
        // This stage has landed for every lane, and no lane still reads the stage we refill.
        __syncwarp();
        load(i + STAGES - 1);

        // C += A · B
        const uint32_t a_tile = shared_address(stages + i % STAGES * STAGE), b_tile = a_tile + A::BYTES;
#pragma unroll
        for (int inner = 0; inner < TILE_K; inner += 16) {
            uint32_t a_fragment[4], b_fragment[4];
            A::fragment(a_tile, a_place, 0, inner, a_fragment);
            B::fragment(b_tile, b_place, 0, inner, b_fragment);
            mma(accumulators[0], a_fragment, b_fragment[0], b_fragment[1]);
            mma(accumulators[1], a_fragment, b_fragment[2], b_fragment[3]);
        }
    }
    copy_async_wait<0>();
    // No warp still reads its stages.
    __syncthreads();

    // accumulators -> smem: [WARPS][TILE × TILE] floats
    float* sums = reinterpret_cast<float*>(smem);
#pragma unroll
    for (int j = 0; j < TILE / 8; ++j) {
        const int row = lane / 4, column = j * 8 + lane % 4 * 2;
        const uint32_t of_warp = shared_address(sums + warp * TILE * TILE);
        store_pair(of_warp + sum_at(row, column) * sizeof(float), accumulators[j][0], accumulators[j][1]);
        store_pair(of_warp + sum_at(row + 8, column) * sizeof(float), accumulators[j][2], accumulators[j][3]);
    }
    __syncthreads();

    // Σ over the warps, an element per thread: each warp has two rows
    const int row = threadIdx.x / TILE, column = threadIdx.x % TILE;
    float sum = sums[sum_at(row, column)];
#pragma unroll
    for (int other = 1; other < WARPS; ++other) sum += sums[other * TILE * TILE + sum_at(row, column)];

    // epilogue: 8 columns to each of four lanes, and from there to memory
    float v[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = __shfl_sync(ALL_LANES, sum, lane % 4 * 8 + i);
    const int out_row = first_m + warp * 2 + lane / 2, out_column = first_n + lane % 2 * 8;
    if (lane < 4 && out_row < m && out_column < n) finish<E, bf16, 8, true>(to, out_row, out_column, n, v);
}

}  // namespace gemm_few_rows
