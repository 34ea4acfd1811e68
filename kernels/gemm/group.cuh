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

// Tiles of 256 × 256 from `whole` on, by the numbers that they have then, are cut along k: of `parts` equal parts of it the last one is a sum
// of its own, which is added to that of the others. So a last wave that has not tiles enough for all multiprocessors has work for them
// (`cut` of src/device/cuda/splits.rs).
struct Cut {
    int whole;
    int parts;
};
constexpr int CUT_TILE = 256;

// All of a sum over k, or a part of it, in tiles of SPLIT_K.
enum class Part { ALL, FIRST, LAST };
__device__ __forceinline__ KRange k_of(Part part, int k, int parts) {
    const int tiles = blocks_of(k, SPLIT_K), first = tiles - tiles / parts;
    return {part == Part::LAST ? first : 0, part == Part::FIRST ? first : tiles};
}
