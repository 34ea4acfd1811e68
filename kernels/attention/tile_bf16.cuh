// Attention in bf16 on tensor cores: tiles of tokens in shared memory, and the products of a warp's 16 rows with them.
//
// Operands of a head are rows of head_dim columns, 3 · width apart in qkv. A tile holds them as rows of D >= head_dim columns,
// zeros past head_dim and past the last token, in 16-byte chunks permuted within a row so that the 8 rows of an ldmatrix
// lie in different banks.
#pragma once

#include "../ptx.cuh"
#include "../reduce.cuh"

namespace attention_bf16 {

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
constexpr float LOG2_E = 1.44269504f;
constexpr float LN_2 = 0.69314718f;

// One head of one image: its first token's columns, and the elements from a token to the next.
struct Head {
    const bf16* rows;
    size_t stride;
    int tokens;
    int head_dim;
    // head_dim divisible by 8, everything by 16 bytes.
    bool aligned;
};

template <int D>
struct Tile {
    static constexpr int CHUNKS = D / 8;

    static __device__ __forceinline__ uint32_t at(int row, int chunk) {
        const int swizzle = CHUNKS % 8 == 0 ? row % 8 : CHUNKS % 4 == 0 ? row / 2 % 4 : row / 4 % 2;
        return (row * CHUNKS + (chunk ^ swizzle)) * 16;
    }

    // Starts to fill `tile` with ROWS tokens from `first` on.
    template <int ROWS>
    static __device__ __forceinline__ void load(char* tile, const Head& head, int first) {
        if (head.aligned) {
            const uint32_t to = shared_address(tile);
#pragma unroll
            for (int i = 0; i < blocks_of(ROWS * CHUNKS, THREADS); ++i) {
                const int index = threadIdx.x + i * THREADS;
                if (ROWS * CHUNKS % THREADS != 0 && index >= ROWS * CHUNKS) break;
                const int row = index / CHUNKS, chunk = index % CHUNKS;
                const bool valid = first + row < head.tokens && chunk * 8 < head.head_dim;
                copy_async_16(to + at(row, chunk), head.rows + (valid ? (first + row) * head.stride + chunk * 8 : 0), valid);
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
            // Lanes at an edge went ways of their own; what follows (ldmatrix) takes a warp that goes together.
            __syncwarp();
        }
    }

    // 16 rows × 16 columns as the left operand.
    static __device__ __forceinline__ void left(uint32_t tile, int row, int column, uint32_t (&r)[4]) {
        const int lane = threadIdx.x % WARP;
        load_matrices(r, tile + at(row + lane % 16, column / 8 + lane / 16));
    }
    // 16 rows × 16 columns, transposed, as right operand of rows · columnsᵀ: r[0], r[1] are the first 8 rows.
    static __device__ __forceinline__ void right_transposed(uint32_t tile, int row, int column, uint32_t (&r)[4]) {
        const int lane = threadIdx.x % WARP;
        load_matrices(r, tile + at(row + lane % 8 + lane / 16 * 8, column / 8 + lane / 8 % 2));
    }
    // 16 rows × 16 columns as right operand: r[0], r[1] are the first 8 columns.
    static __device__ __forceinline__ void right(uint32_t tile, int row, int column, uint32_t (&r)[4]) {
        const int lane = threadIdx.x % WARP;
        load_matrices_transposed(r, tile + at(row + lane % 16, column / 8 + lane / 16));
    }

    // Writes a warp's 16 rows of sums to the tokens from `first` on, by way of rows row .. row + 15 of `tile`, which are
    // the warp's own.
    static __device__ __forceinline__ void store(
        char* tile, int row, const float (&sums)[D / 8][4], bf16* to, const Head& head, int first) {
        const int lane = threadIdx.x % WARP;
        __syncwarp();
#pragma unroll
        for (int j = 0; j < D / 8; ++j) {
            *reinterpret_cast<uint32_t*>(tile + at(row + lane / 4, j) + lane % 4 * 4) = pack_bf16(sums[j][0], sums[j][1]);
            *reinterpret_cast<uint32_t*>(tile + at(row + lane / 4 + 8, j) + lane % 4 * 4) = pack_bf16(sums[j][2], sums[j][3]);
        }
        __syncwarp();
#pragma unroll 1
        for (int index = lane; index < 16 * CHUNKS; index += WARP) {
            const int r = index / CHUNKS, chunk = index % CHUNKS;
            if (first + r >= head.tokens || chunk * 8 >= head.head_dim) continue;
            const bf16* from = reinterpret_cast<const bf16*>(tile + at(row + r, chunk));
            bf16* place = to + (first + r) * head.stride + chunk * 8;
            if (head.aligned) {
                *reinterpret_cast<uint4*>(place) = *reinterpret_cast<const uint4*>(from);
            } else {
                for (int e = 0; e < min(8, head.head_dim - chunk * 8); ++e) place[e] = from[e];
            }
        }
        __syncwarp();
    }
};

// Two neighbouring 16×8 products, rounded, as one 16×16 left operand.
__device__ __forceinline__ void as_left(const float (&one)[4], const float (&two)[4], uint32_t (&r)[4]) {
    r[0] = pack_bf16(one[0], one[1]);
    r[1] = pack_bf16(one[2], one[3]);
    r[2] = pack_bf16(two[0], two[1]);
    r[3] = pack_bf16(two[2], two[3]);
}

}    // namespace attention_bf16
