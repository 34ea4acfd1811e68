// What both GEMMs share: the layouts of operands, the tile of a block, and split-K.
#pragma once

#include "../common.cuh"

// How an operand of C[m, n] = Σ_k A[m, k] · B[k, n] lies in memory: rows of k (A is [m, k], B is [n, k]), or rows of the
// other dimension, its span (A is [k, m], B is [k, n]).
enum class Major { K, SPAN };

// A tile of C, counted in tiles. Grouped rasterisation: blocks that run together work on a square of tiles, so that they share
// operands in the L2 cache: RASTER rows of tiles, column after column.
struct TileIndex {
    int m;
    int n;
};
constexpr int RASTER = 8;
__device__ __forceinline__ TileIndex tile_at(int index, int rows, int columns) {
    const int first = index / (RASTER * columns) * RASTER;
    const int height = min(RASTER, rows - first);
    const int within = index % (RASTER * columns);
    return {first + within % height, within / height};
}
// The other way round.
__device__ __forceinline__ int index_of(TileIndex tile, int rows, int columns) {
    const int first = tile.m / RASTER * RASTER;
    return first * columns + tile.n * min(RASTER, rows - first) + tile.m - first;
}

// The tiles of k that one of `splits` splits accumulates (split-K).
struct KRange {
    int begin;
    int end;
};
__device__ __forceinline__ KRange k_range(int tiles, int split, int splits) {
    const int per_split = blocks_of(tiles, splits);
    const int begin = min(tiles, split * per_split);
    return {begin, min(tiles, begin + per_split)};
}

// k's of the tiles by which the GEMMs in bf16 are split: one for all of them, so that they add up the same sums.
constexpr int SPLIT_K = 64;
