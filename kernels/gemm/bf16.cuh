// GEMM in bf16 on tensor cores: C = A · B with f32 accumulators.
//
// A block of 4 warps computes a TILE_M × TILE_N tile, each warp a quarter of it in m16n8k16 mma. Tiles of 32 k's come through a
// multistage pipeline of STAGES stages by cp.async: all but one are in flight while one is multiplied, with one barrier per stage.
// Shared memory is swizzled: the 16-byte chunks of a row are permuted by the row's number, so that the 8 rows of an ldmatrix, and
// the 8 chunks that a quarter warp writes, lie in different banks. The epilogue brings the tile to memory in PARTS parts. Stages
// and parts change no sum: the bits are the same for all.
//
// Per 1024 multiply-adds a 128 × 128 tile reads 32 bytes of operands, a 64 × 64 tile 64 bytes. The large tile is faster for GEMMs
// with many rows; the small one fills the chip when there are few tiles.
#pragma once

#include "../ptx.cuh"
#include "epilogue.cuh"
#include "group.cuh"
#include "tiles.cuh"

namespace gemm_bf16 {

constexpr int TILE_K = 32;
constexpr int THREADS = 128;

// One operand's tile of SPAN × 32 elements in shared memory.
template <int SPAN, Major MAJOR>
struct Operand {
    static constexpr int ROWS = MAJOR == Major::K ? SPAN : TILE_K;
    static constexpr int CHUNKS = (MAJOR == Major::K ? TILE_K : SPAN) / 8;  // of 16 bytes, per row
    static constexpr int BYTES = SPAN * TILE_K * 2;

    // Byte offset of a chunk, swizzled.
    static __device__ __forceinline__ uint32_t at(int row, int chunk) {
        const int swizzle = CHUNKS >= 8 ? row % 8 : CHUNKS == 4 ? row / 2 % 4 : row / 4 % 2;
        return (row * CHUNKS + (chunk ^ swizzle)) * 16;
    }

    // global -> smem: starts to fill `tile` with the operand's tile at (span, k), zeros past its end. The operand is `spans` ×
    // `depth`. This is thread `thread` of THREADS that do it together.
    template <bool ALIGNED, int THREADS = gemm_bf16::THREADS>
    static __device__ __forceinline__ void load(
        char* tile, const bf16* from, int span, int k, int spans, int depth, int thread = threadIdx.x) {
        const int first_row = MAJOR == Major::K ? span : k, first_column = MAJOR == Major::K ? k : span;
        const int rows = MAJOR == Major::K ? spans : depth, columns = MAJOR == Major::K ? depth : spans;
#pragma unroll
        for (int i = 0; i < ROWS * CHUNKS / THREADS; ++i) {
            const int index = thread + i * THREADS;
            const int row = index / CHUNKS, chunk = index % CHUNKS;
            const int column = first_column + chunk * 8;
            const bool inside = first_row + row < rows;
            const bf16* source = from + static_cast<size_t>(inside ? first_row + row : 0) * columns + column;
            if constexpr (ALIGNED) {
                const bool valid = inside && column < columns;
                copy_async_16(shared_address(tile) + at(row, chunk), valid ? source : from, valid);
            } else {
                float v[8];
#pragma unroll
                for (int e = 0; e < 8; ++e) v[e] = inside && column + e < columns ? to_float(source[e]) : 0.0f;
                store_vector(reinterpret_cast<bf16*>(tile + at(row, chunk)), v);
            }
        }
        // Edge lanes may have diverged; ldmatrix needs a converged warp.
        if constexpr (!ALIGNED) __syncwarp();
    }

    // smem -> registers: fragment of A, 16 m's from `span` on, 16 k's from `k` on.
    static __device__ __forceinline__ void a_fragment(uint32_t tile, int span, int k, uint32_t (&r)[4]) {
        const int lane = threadIdx.x % WARP;
        if constexpr (MAJOR == Major::K) {
            load_matrices(r, tile + at(span + lane % 16, k / 8 + lane / 16));
        } else {
            load_matrices_transposed(r, tile + at(k + lane % 8 + lane / 16 * 8, span / 8 + lane / 8 % 2));
        }
    }
    // smem -> registers: fragments of B, 16 n's from `span` on (r[0], r[1] the first 8), 16 k's from `k` on.
    static __device__ __forceinline__ void b_fragment(uint32_t tile, int span, int k, uint32_t (&r)[4]) {
        const int lane = threadIdx.x % WARP;
        if constexpr (MAJOR == Major::K) {
            load_matrices(r, tile + at(span + lane % 8 + lane / 16 * 8, k / 8 + lane / 8 % 2));
        } else {
            load_matrices_transposed(r, tile + at(k + lane % 16, span / 8 + lane / 16));
        }
    }
};

// Row stride of the epilogue's staging tile, in floats: 8 more than a tile's columns, so that the lanes of a fragment (8 rows of
// 4 pairs) write to different banks.
template <int TILE_N>
constexpr int ROW_STRIDE = TILE_N + 8;

// Dynamic shared memory of a block, in bytes: the pipeline's stages, or the staging tile of a part that takes their place.
template <int TILE_M, int TILE_N, int STAGES>
constexpr int PIPELINE_BYTES = STAGES * (TILE_M + TILE_N) * TILE_K * 2;
template <int TILE_M, int TILE_N, int PARTS>
constexpr int STAGING_BYTES = 4 * TILE_M / PARTS * ROW_STRIDE<TILE_N>;
template <int TILE_M, int TILE_N, int STAGES, int PARTS>
constexpr int SHARED_BYTES = PIPELINE_BYTES<TILE_M, TILE_N, STAGES> > STAGING_BYTES<TILE_M, TILE_N, PARTS>
                                 ? PIPELINE_BYTES<TILE_M, TILE_N, STAGES>
                                 : STAGING_BYTES<TILE_M, TILE_N, PARTS>;

// A tile of C: the sum over `split`, which is in tiles of SPLIT_K.
template <int TILE_M, int TILE_N, int STAGES, int PARTS, Major A_MAJOR, Major B_MAJOR, Epilogue E, bool ALIGNED>
__device__ __forceinline__ void gemm_tile(
    const bf16* a, const bf16* b, int m, int n, int k, KRange split, EpilogueArguments<bf16> to, int tile_index) {
    using A = Operand<TILE_M, A_MAJOR>;
    using B = Operand<TILE_N, B_MAJOR>;
    constexpr int WARP_M = TILE_M / 2, WARP_N = TILE_N / 2;
    constexpr int FRAGMENTS_M = WARP_M / 16, FRAGMENTS_N = WARP_N / 8;
    extern __shared__ __align__(128) char smem[];
    char* a_tiles = smem;                      // [STAGES][A::BYTES]
    char* b_tiles = smem + STAGES * A::BYTES;  // [STAGES][B::BYTES]

    const TileIndex index = tile_at(tile_index, blocks_of(m, TILE_M), blocks_of(n, TILE_N));
    const int first_m = index.m * TILE_M, first_n = index.n * TILE_N;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int warp_m = warp / 2 * WARP_M, warp_n = warp % 2 * WARP_N;
    constexpr int EACH = SPLIT_K / TILE_K;
    const KRange range = {split.begin * EACH, min(split.end * EACH, blocks_of(k, TILE_K))};

    float accumulators[FRAGMENTS_M][FRAGMENTS_N][4] = {};

    // stage k -> smem
    const auto load = [&](int tile) {
        if (tile < range.end) {
            const int stage = (tile - range.begin) % STAGES;
            A::template load<ALIGNED>(a_tiles + stage * A::BYTES, a, first_m, tile * TILE_K, m, k);
            B::template load<ALIGNED>(b_tiles + stage * B::BYTES, b, first_n, tile * TILE_K, n, k);
        }
        copy_async_commit();
    };

    // prologue: fill the pipeline
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; ++stage) load(range.begin + stage);

    // main loop
    for (int tile = range.begin; tile < range.end; ++tile) {
        copy_async_wait<STAGES - 2>();
        // This stage has landed for every warp, and no warp still reads the stage we refill.
        __syncthreads();

        // stage k + STAGES - 1 -> smem
        load(tile + STAGES - 1);

        // C += A · B
        const int stage = (tile - range.begin) % STAGES;
        const uint32_t a_tile = shared_address(a_tiles + stage * A::BYTES);
        const uint32_t b_tile = shared_address(b_tiles + stage * B::BYTES);
#pragma unroll
        for (int inner = 0; inner < TILE_K; inner += 16) {
            uint32_t a_fragments[FRAGMENTS_M][4], b_fragments[FRAGMENTS_N / 2][4];
#pragma unroll
            for (int i = 0; i < FRAGMENTS_M; ++i) A::a_fragment(a_tile, warp_m + i * 16, inner, a_fragments[i]);
#pragma unroll
            for (int j = 0; j < FRAGMENTS_N / 2; ++j) B::b_fragment(b_tile, warp_n + j * 16, inner, b_fragments[j]);
#pragma unroll
            for (int i = 0; i < FRAGMENTS_M; ++i) {
#pragma unroll
                for (int j = 0; j < FRAGMENTS_N; ++j) {
                    mma(accumulators[i][j], a_fragments[i], b_fragments[j / 2][j % 2 * 2],
                        b_fragments[j / 2][j % 2 * 2 + 1]);
                }
            }
        }
    }
    copy_async_wait<0>();
    __syncthreads();

    float* out = reinterpret_cast<float*>(smem);
    // Rows of a part are whole rows of warps.
    constexpr int PART_ROWS = TILE_M / PARTS;
    static_assert(PARTS == 1 || PART_ROWS == WARP_M);
#pragma unroll 1
    for (int part = 0; part < PARTS; ++part) {
        // No warp still reads the part before.
        if (part > 0) __syncthreads();

        // epilogue: accumulators -> smem, where they take the tiles' place
        if (PARTS == 1 || warp / 2 == part) {
            const int first_row = warp_m - part * PART_ROWS;
#pragma unroll
            for (int i = 0; i < FRAGMENTS_M; ++i) {
#pragma unroll
                for (int j = 0; j < FRAGMENTS_N; ++j) {
                    const int offset =
                        (first_row + i * 16 + lane / 4) * ROW_STRIDE<TILE_N> + warp_n + j * 8 + lane % 4 * 2;
                    const uint32_t pair = shared_address(smem) + offset * sizeof(float);
                    store_pair(pair, accumulators[i][j][0], accumulators[i][j][1]);
                    store_pair(
                        pair + 8 * ROW_STRIDE<TILE_N> * sizeof(float), accumulators[i][j][2], accumulators[i][j][3]);
                }
            }
        }
        __syncthreads();

        // epilogue: smem -> 16-byte stores, 4 floats or 8 bf16 per thread, so that a warp's stores fill whole sectors
        constexpr int WIDE = E == Epilogue::ACCUMULATE ? 4 : 8;
        // Not unrolled: the code of an epilogue with erf is long.
#pragma unroll 1
        for (int index = threadIdx.x; index < PART_ROWS * TILE_N / WIDE; index += THREADS) {
            const int row = part * PART_ROWS + index / (TILE_N / WIDE), column = index % (TILE_N / WIDE) * WIDE;
            if (first_m + row >= m || first_n + column >= n) continue;
            const float* from = out + (row - part * PART_ROWS) * ROW_STRIDE<TILE_N> + column;
            if constexpr (WIDE == 4) {
                const float4 four = *reinterpret_cast<const float4*>(from);
                float v[4] = {four.x, four.y, four.z, four.w};
                finish<E, bf16, 4, ALIGNED>(to, first_m + row, first_n + column, n, v);
            } else {
                // Four lanes read their second half first: 8 lanes that read 32 bytes each in order would conflict in the banks.
                const int swap = lane / 4 % 2 * 4;
                const float4 one = *reinterpret_cast<const float4*>(from + swap);
                const float4 two = *reinterpret_cast<const float4*>(from + 4 - swap);
                const float4 low = swap ? two : one, high = swap ? one : two;
                float v[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
                finish<E, bf16, 8, ALIGNED>(to, first_m + row, first_n + column, n, v);
            }
        }
    }
}

// A GEMM of a grid of tiles × 1 × splits. With split-K each split writes its own partial sums.
template <int TILE_M, int TILE_N, int STAGES, int PARTS, Major A_MAJOR, Major B_MAJOR, Epilogue E, bool ALIGNED>
__device__ __forceinline__ void gemm(const bf16* a, const bf16* b, int m, int n, int k, EpilogueArguments<bf16> to) {
    const KRange split = k_range(blocks_of(k, SPLIT_K), blockIdx.z, gridDim.z);
    to.total += static_cast<size_t>(blockIdx.z) * m * n;
    gemm_tile<TILE_M, TILE_N, STAGES, PARTS, A_MAJOR, B_MAJOR, E, ALIGNED>(a, b, m, n, k, split, to, blockIdx.x);
}

// Several GEMMs into f32 (group.cuh), both operands with rows of their spans. A block adds up both parts of a tile that is cut.
template <int STAGES, int PARTS>
__device__ __forceinline__ void gemm_group(const Gemms<const bf16*>& gemms, int k, bool add, Cut cut) {
    constexpr int TILE = 128;
    const GroupedTile at = grouped_tile<TILE, TILE>(gemms, blockIdx.x);
    const int m = gemms.m[at.gemm], n = gemms.n[at.gemm];

    // The number of the larger tile that it is a part of.
    constexpr int EACH = CUT_TILE / TILE;
    const TileIndex tile = tile_at(at.tile, blocks_of(m, TILE), blocks_of(n, TILE));
    int number = index_of({tile.m / EACH, tile.n / EACH}, blocks_of(m, CUT_TILE), blocks_of(n, CUT_TILE));
    for (int gemm = 0; gemm < at.gemm; ++gemm) number += tiles_of<CUT_TILE, CUT_TILE>(gemms, gemm);

    const bool is_cut = number >= cut.whole;
#pragma unroll 1
    for (int part = 0; part <= is_cut; ++part) {
        // No warp still reads the part before.
        if (part > 0) __syncthreads();
        const KRange range = k_of(!is_cut ? Part::ALL : part == 0 ? Part::FIRST : Part::LAST, k, cut.parts);
        gemm_tile<TILE, TILE, STAGES, PARTS, Major::SPAN, Major::SPAN, Epilogue::ACCUMULATE, true>(
            gemms.a[at.gemm], gemms.b[at.gemm], m, n, k, range,
            {nullptr, nullptr, nullptr, nullptr, gemms.totals[at.gemm], 0, add || part > 0}, at.tile);
    }
}

}  // namespace gemm_bf16
