// Attention in bf16 on tensor cores: tiles of tokens in shared memory, and the mma fragments of a warp's 16 rows.
//
// Operands of a head are rows of head_dim columns, 3 · width apart in qkv. A tile holds them as rows of D >= head_dim columns,
// zeros past head_dim and past the last token, in 16-byte chunks permuted within a row so that the 8 rows of an ldmatrix
// lie in different banks.
#pragma once

#include "../ptx.cuh"
#include "../reduce.cuh"
#include "head.cuh"

namespace attention_bf16 {

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;

template <int D>
struct Tile {
    static constexpr int CHUNKS = D / 8;

    // Byte offset of a chunk, swizzled.
    static __device__ __forceinline__ uint32_t at(int row, int chunk) {
        const int swizzle = CHUNKS % 8 == 0 ? row % 8 : CHUNKS % 4 == 0 ? row / 2 % 4 : row / 4 % 2;
        return (row * CHUNKS + (chunk ^ swizzle)) * 16;
    }

    // global -> smem: starts to fill `tile` with ROWS tokens from `first` on.
    template <int ROWS>
    static __device__ __forceinline__ void load(char* tile, const Head<bf16>& head, int first) {
        if (head.aligned) {
            const uint32_t to = shared_address(tile);
#pragma unroll
            for (int i = 0; i < blocks_of(ROWS * CHUNKS, THREADS); ++i) {
                const int index = threadIdx.x + i * THREADS;
                if (ROWS * CHUNKS % THREADS != 0 && index >= ROWS * CHUNKS) break;
                const int row = index / CHUNKS, chunk = index % CHUNKS;
                const bool valid = first + row < head.tokens && chunk * 8 < head.head_dim;
                copy_async_16(
                    to + at(row, chunk), head.rows + (valid ? (first + row) * head.stride + chunk * 8 : 0), valid);
            }
        } else {
#pragma unroll 1
            for (int index = threadIdx.x; index < ROWS * CHUNKS; index += THREADS) {
                const int row = index / CHUNKS, chunk = index % CHUNKS;
                float v[8];
#pragma unroll
                for (int e = 0; e < 8; ++e) {
                    const bool valid = first + row < head.tokens && chunk * 8 + e < head.head_dim;
                    v[e] = valid ? to_float(head.rows[(first + row) * head.stride + chunk * 8 + e]) : 0.0f;
                }
                store_vector(reinterpret_cast<bf16*>(tile + at(row, chunk)), v);
            }
            // Edge lanes may have diverged; ldmatrix needs a converged warp.
            __syncwarp();
        }
    }

    // smem -> registers: 16 rows × 16 columns as the A operand of an mma.
    static __device__ __forceinline__ void a_fragment(uint32_t tile, int row, int column, uint32_t (&r)[4]) {
        const int lane = threadIdx.x % WARP;
        load_matrices(r, tile + at(row + lane % 16, column / 8 + lane / 16));
    }
    // smem -> registers: 16 rows × 16 columns, transposed, as the B operand of A · tileᵀ: r[0], r[1] are the first 8 rows.
    static __device__ __forceinline__ void b_fragment_transposed(uint32_t tile, int row, int column, uint32_t (&r)[4]) {
        const int lane = threadIdx.x % WARP;
        load_matrices(r, tile + at(row + lane % 8 + lane / 16 * 8, column / 8 + lane / 8 % 2));
    }
    // smem -> registers: 16 rows × 16 columns as the B operand of A · tile: r[0], r[1] are the first 8 columns.
    static __device__ __forceinline__ void b_fragment(uint32_t tile, int row, int column, uint32_t (&r)[4]) {
        const int lane = threadIdx.x % WARP;
        load_matrices_transposed(r, tile + at(row + lane % 16, column / 8 + lane / 16));
    }

    // Epilogue: a warp's 16 rows of accumulators to the tokens from `first` on, by way of rows row .. row + 15 of `tile`, which
    // no other warp uses.
    static __device__ __forceinline__ void store(
        char* tile, int row, const float (&accumulators)[D / 8][4], bf16* to, const Head<bf16>& head, int first) {
        const int lane = threadIdx.x % WARP;

        // accumulators -> smem
        __syncwarp();
#pragma unroll
        for (int j = 0; j < D / 8; ++j) {
            *reinterpret_cast<uint32_t*>(tile + at(row + lane / 4, j) + lane % 4 * 4) =
                pack_bf16(accumulators[j][0], accumulators[j][1]);
            *reinterpret_cast<uint32_t*>(tile + at(row + lane / 4 + 8, j) + lane % 4 * 4) =
                pack_bf16(accumulators[j][2], accumulators[j][3]);
        }
        __syncwarp();

        // smem -> 16-byte stores
#pragma unroll 1
        for (int index = lane; index < 16 * CHUNKS; index += WARP) {
            const int r = index / CHUNKS, chunk = index % CHUNKS;
            if (first + r >= head.tokens || chunk * 8 >= head.head_dim) continue;
            const bf16* from = reinterpret_cast<const bf16*>(tile + at(row + r, chunk));
            bf16* target = to + (first + r) * head.stride + chunk * 8;
            if (head.aligned) {
                *reinterpret_cast<uint4*>(target) = *reinterpret_cast<const uint4*>(from);
            } else {
                for (int e = 0; e < min(8, head.head_dim - chunk * 8); ++e) target[e] = from[e];
            }
        }
        __syncwarp();
    }
};

// Two neighbouring 16 × 8 accumulators, rounded, as one 16 × 16 A operand.
__device__ __forceinline__ void as_a_fragment(const float (&one)[4], const float (&two)[4], uint32_t (&r)[4]) {
    r[0] = pack_bf16(one[0], one[1]);
    r[1] = pack_bf16(one[2], one[3]);
    r[2] = pack_bf16(two[0], two[1]);
    r[3] = pack_bf16(two[2], two[3]);
}

}  // namespace attention_bf16
