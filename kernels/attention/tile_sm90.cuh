// Attention on compute capability 9.0: tiles of tokens in shared memory, as TMA leaves them and wgmma reads them, and a warpgroup's products
// with them.
#pragma once

#include "../ptx_sm90.cuh"

namespace attention_sm90 {

constexpr int GROUP_THREADS = 128;
constexpr int GROUP_WARPS = GROUP_THREADS / WARP;
// Rows of a warpgroup's product, and tokens that TMA copies at a time.
constexpr int BOX = 64;

// The warpgroup, as what all lanes have in common: its descriptors are made by the uniform datapath.
__device__ __forceinline__ int group() { return __shfl_sync(ALL_LANES, threadIdx.x / GROUP_THREADS, 0); }

// Tokens of a head in shared memory: slabs of 64 columns (of 32, where they divide D better), in each row after row, swizzled.
template <int D, int ROWS>
struct Tile {
    static constexpr int COLUMNS = D % 64 == 0 ? 64 : 32;
    static constexpr int SLABS = D / COLUMNS;
    static constexpr int ROW_BYTES = COLUMNS * 2;
    static constexpr int SLAB_BYTES = ROWS * ROW_BYTES;
    static constexpr int BYTES = SLABS * SLAB_BYTES;

    // Byte offset in a slab of 8 columns of a row.
    static __device__ __forceinline__ uint32_t at(int row, int chunk) {
        return row * ROW_BYTES + (chunk ^ (ROW_BYTES == 128 ? row % 8 : row / 2 % 4)) * 16;
    }

    // The same in all slabs.
    static __device__ __forceinline__ uint32_t of_chunk(int row, int chunk) {
        return chunk * 8 / COLUMNS * SLAB_BYTES + at(row, chunk % (COLUMNS / 8));
    }

    // TMA: tokens from `first` on -> smem, as many at a time as the map has.
    template <int AT_ONCE = BOX>
    static __device__ __forceinline__ void load(
        uint32_t tile, const TensorMap& map, int head, int first, int image, uint32_t barrier) {
        static_assert(ROWS % AT_ONCE == 0);
#pragma unroll
        for (int slab = 0; slab < SLABS; ++slab) {
#pragma unroll
            for (int row = 0; row < ROWS; row += AT_ONCE) {
                tile_load(
                    tile + slab * SLAB_BYTES + row * ROW_BYTES, map, slab * COLUMNS, head, first + row, image, barrier);
            }
        }
    }

    // smem -> TMA: BOX tokens from `first` on.
    static __device__ __forceinline__ void store(uint32_t tile, const TensorMap& map, int head, int first, int image) {
#pragma unroll
        for (int slab = 0; slab < SLABS; ++slab)
            tile_store(map, slab * COLUMNS, head, first, image, tile + slab * SLAB_BYTES);
    }

    using Operand = ::Operand<ROW_BYTES>;
    static __device__ __forceinline__ Operand operand(uint32_t tile) { return {tile, SLAB_BYTES}; }
    // Bytes on in it: 16 columns are the k's of step `step`, tokens the span.
    static constexpr __device__ int by_columns(int step) {
        return step * 16 / COLUMNS * SLAB_BYTES + step * 16 % COLUMNS * 2;
    }
    // 16 tokens are the k's, all columns the span.
    static constexpr __device__ int by_tokens(int step) { return step * 16 * ROW_BYTES; }
};

// product [64, COLUMNS] = rows [64, D] · columnsᵀ
template <class Rows, class Columns, int D, int COUNT>
__device__ __forceinline__ void multiply(
    float (&product)[COUNT], typename Rows::Operand rows, typename Columns::Operand columns) {
#pragma unroll
    for (int step = 0; step < D / 16; ++step)
        wgmma<0, 0>(product, rows.at(Rows::by_columns(step)), columns.at(Columns::by_columns(step)), step > 0);
    wgmma_commit();
}

// Weights, rounded, as A operands of 16 columns each.
template <int STEPS>
__device__ __forceinline__ void as_a_operands(uint32_t (&operands)[STEPS][4], const float (&weights)[STEPS * 8]) {
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
            operands[step][i] = pack_bf16(weights[step * 8 + i * 2], weights[step * 8 + i * 2 + 1]);
    }
}

// sums [64, D] += weights [64, COLUMNS], rounded, · columns
template <class Columns, int COUNT, int SUMS>
__device__ __forceinline__ void accumulate(
    float (&sums)[SUMS], const float (&weights)[COUNT], typename Columns::Operand columns) {
    uint32_t operands[COUNT / 8][4];
    as_a_operands(operands, weights);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < COUNT / 8; ++step)
        wgmma<1>(sums, operands[step], columns.at(Columns::by_tokens(step)), true);
    wgmma_commit();
}

// A warpgroup's sums of BOX tokens, times `factor` and rounded -> smem.
template <class Tile, int COUNT>
__device__ __forceinline__ void put(const float (&sums)[COUNT], float factor, uint32_t tile) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x % GROUP_THREADS / WARP;
    const int row = warp * 16 + lane % 16;
#pragma unroll
    for (int pair = 0; pair < COUNT / 8; ++pair) {
        uint32_t packed[4];
#pragma unroll
        for (int i = 0; i < 4; ++i)
            packed[i] = pack_bf16(sums[pair * 8 + i * 2] * factor, sums[pair * 8 + i * 2 + 1] * factor);
        const int slab = pair * 16 / Tile::COLUMNS, chunk = pair * 16 % Tile::COLUMNS / 8 + lane / 16;
        store_matrices(tile + slab * Tile::SLAB_BYTES + Tile::at(row, chunk), packed);
    }
}

}  // namespace attention_sm90
