// What both matrix products share: operands, their layouts, and which tile a block computes.
#pragma once

#include "../common.cuh"

// How an operand of C[m, n] = Σ_k A[m, k] · B[k, n] lies in memory: rows of k (A is [m, k], B is [n, k]), or rows of the
// other dimension, its span (A is [k, m], B is [k, n]).
enum class Major { K, SPAN };

// The tile of this block. Blocks that run together work on a square of tiles, so that they share operands in the L2 cache:
// GROUP rows of tiles, column after column.
struct TilePlace {
    int m;
    int n;
};
__device__ __forceinline__ TilePlace tile_place(int rows, int columns) {
    constexpr int GROUP = 8;
    const int place = blockIdx.x;
    const int first = place / (GROUP * columns) * GROUP;
    const int height = min(GROUP, rows - first);
    const int within = place % (GROUP * columns);
    return {first + within % height, within / height};
}

// The tiles of k that this block sums: all of them, or the share of one of gridDim.z.
struct KRange {
    int begin;
    int end;
};
__device__ __forceinline__ KRange k_range(int tiles) {
    const int share = blocks_of(tiles, gridDim.z);
    const int begin = min(tiles, static_cast<int>(blockIdx.z) * share);
    return {begin, min(tiles, begin + share)};
}
