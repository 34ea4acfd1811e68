// What both GEMMs share: the layouts of operands, the tile of a block, and split-K.
#pragma once

#include "../common.cuh"

// How an operand of C[m, n] = Σ_k A[m, k] · B[k, n] lies in memory: rows of k (A is [m, k], B is [n, k]), or rows of the
// other dimension, its span (A is [k, m], B is [k, n]).
enum class Major { K, SPAN };

// The tile of this block, counted in tiles. Grouped rasterisation: blocks that run together work on a square of tiles, so that
// they share operands in the L2 cache: GROUP rows of tiles, column after column.
struct TileIndex {
    int m;
    int n;
};
__device__ __forceinline__ TileIndex tile_index(int rows, int columns) {
    constexpr int GROUP = 8;
    const int block = blockIdx.x;
    const int first = block / (GROUP * columns) * GROUP;
    const int height = min(GROUP, rows - first);
    const int within = block % (GROUP * columns);
    return {first + within % height, within / height};
}

// The tiles of k that this block accumulates: all of them, or with split-K those of split blockIdx.z of gridDim.z.
struct KRange {
    int begin;
    int end;
};
__device__ __forceinline__ KRange k_range(int tiles) {
    const int per_split = blocks_of(tiles, gridDim.z);
    const int begin = min(tiles, static_cast<int>(blockIdx.z) * per_split);
    return {begin, min(tiles, begin + per_split)};
}
