// Several GEMMs over the same k as one launch: the gradients of a block's weights. Each alone has too few tiles for a card, or ends with
// a wave that is half empty.
#pragma once

#include "tiles.cuh"

// GEMMs of one launch; those past the last have no rows.
constexpr int GROUP = 4;

// GEMM i is totals[i] [m[i], n[i]] = or += a[i] · b[i]. An operand is a pointer or a tensor map.
template <class Operand>
struct Gemms {
    Operand a[GROUP];
    Operand b[GROUP];
    float* totals[GROUP];
    int m[GROUP];
    int n[GROUP];
};

// A GEMM of the group, and a tile of it.
struct GroupedTile {
    int gemm;
    int tile;
};
template <int TILE_M, int TILE_N, class Operand>
__device__ __forceinline__ int tiles_of(const Gemms<Operand>& group, int gemm) {
    return blocks_of(group.m[gemm], TILE_M) * blocks_of(group.n[gemm], TILE_N);
}
// Tile `index` of all: the GEMMs one after another.
template <int TILE_M, int TILE_N, class Operand>
__device__ __forceinline__ GroupedTile grouped_tile(const Gemms<Operand>& group, int index) {
    int gemm = 0;
    for (; gemm < GROUP - 1; ++gemm) {
        const int tiles = tiles_of<TILE_M, TILE_N>(group, gemm);
        if (index < tiles) break;
        index -= tiles;
    }
    return {gemm, index};
}
