// GEMM in bf16 on tensor cores: C = A · B with f32 accumulators.
//
// A block of 4 warps computes a TILE_M × TILE_N tile, each warp a quarter of it in m16n8k16 mma. Tiles of 32 k's come through a
// multistage pipeline of STAGES stages by cp.async: all but one are in flight while one is multiplied, with one barrier per stage. A warp
// fetches the fragments of 16 k's while it multiplies those of the 16 before, across the barrier too; and no branch is in the main loop, so
// that the compiler puts all that brings operands between the products.
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

    // The same, tile after tile of k up to `end`, for rows of multiples of 16 bytes: what does not change from tile to tile is worked out
    // once. Past the end tiles are filled with zeros, so that no branch keeps copies apart from the products beside them.
    struct Stream {
        static constexpr int EACH = ROWS * CHUNKS / THREADS;
        // Rows from a thread's chunk to its next one; their places in a tile are swizzled alike.
        static constexpr int APART = THREADS / CHUNKS;
        static_assert(APART % 8 == 0);

        // Of this thread's first chunk in the next tile; elements from it to the next chunk and to the next tile.
        const bf16* source;
        size_t apart, next;
        // k's from there on, and the chunks that are there along the span, a bit each.
        int left;
        uint32_t inside;
        uint32_t place;

        __device__ __forceinline__ Stream(const bf16* from, int span, int k, int spans, int depth, int end)
            : inside(0) {
            const int row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
            const int first_row = (MAJOR == Major::K ? span : k) + row;
            const int column = (MAJOR == Major::K ? k : span) + chunk * 8;
            const int columns = MAJOR == Major::K ? depth : spans;
            source = from + static_cast<size_t>(first_row) * columns + column;
            apart = static_cast<size_t>(APART) * columns;
            next = MAJOR == Major::K ? TILE_K : static_cast<size_t>(TILE_K) * columns;
            left = min(depth, end) - (MAJOR == Major::K ? column : first_row);
#pragma unroll
            for (int i = 0; i < EACH; ++i)
                inside |= (MAJOR == Major::K ? first_row + i * APART < spans : column < spans) << i;
            place = at(row, chunk);
        }

        // Starts to fill `tile`, whose address in shared memory it is.
        __device__ __forceinline__ void load(uint32_t tile) {
            const uint32_t there = left > 0 ? inside : 0;
#pragma unroll
            for (int i = 0; i < EACH; ++i) {
                const bool valid = there >> i & 1 && (MAJOR == Major::K || left > i * APART);
                copy_async_16(tile + place + i * APART * CHUNKS * 16, source + i * apart, valid);
            }
            source += next;
            left -= TILE_K;
        }
    };

    // Where this lane's rows of the fragments of a tile begin, of A and of B (of which one fragment is two: r[0] and r[1] are the first 8
    // n's). `span` is a multiple of what a warp has of it.
    static __device__ __forceinline__ uint32_t a_place(int span) {
        const int lane = threadIdx.x % WARP;
        return MAJOR == Major::K ? at(span + lane % 16, lane / 16)
                                 : at(lane % 8 + lane / 16 * 8, span / 8 + lane / 8 % 2);
    }
    static __device__ __forceinline__ uint32_t b_place(int span) {
        const int lane = threadIdx.x % WARP;
        return MAJOR == Major::K ? at(span + lane % 8 + lane / 16 * 8, lane / 8 % 2)
                                 : at(lane % 16, span / 8 + lane / 16);
    }
    // smem -> registers: the fragment of 16 k's from `k` on, and the i-th 16 of the span from `place` on. Steps along rows are chunks, which the
    // swizzle permutes by an exclusive or, as they are; steps of rows are by multiples of its period.
    static __device__ __forceinline__ void fragment(uint32_t tile, uint32_t place, int i, int k, uint32_t (&r)[4]) {
        if constexpr (MAJOR == Major::K) {
            load_matrices(r, tile + (place ^ k / 8 * 16) + i * 16 * CHUNKS * 16);
        } else {
            load_matrices_transposed(r, tile + (place ^ i * 2 * 16) + k * CHUNKS * 16);
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
    typename A::Stream a_stream(a, first_m, range.begin * TILE_K, m, k, range.end * TILE_K);
    typename B::Stream b_stream(b, first_n, range.begin * TILE_K, n, k, range.end * TILE_K);
    const auto load = [&](int tile, int stage) {
        if constexpr (ALIGNED) {
            a_stream.load(shared_address(a_tiles) + stage * A::BYTES);
            b_stream.load(shared_address(b_tiles) + stage * B::BYTES);
        } else if (tile < range.end) {
            A::template load<false>(a_tiles + stage * A::BYTES, a, first_m, tile * TILE_K, m, k);
            B::template load<false>(b_tiles + stage * B::BYTES, b, first_n, tile * TILE_K, n, k);
        }
        copy_async_commit();
    };

    // smem -> registers: the fragments of one half of a stage's k's
    const uint32_t a_place = A::a_place(warp_m), b_place = B::b_place(warp_n);
    uint32_t a_fragments[2][FRAGMENTS_M][4], b_fragments[2][FRAGMENTS_N / 2][4];
    const auto fetch = [&](int stage, int half) {
        const uint32_t a_tile = shared_address(a_tiles) + stage * A::BYTES;
        const uint32_t b_tile = shared_address(b_tiles) + stage * B::BYTES;
#pragma unroll
        for (int i = 0; i < FRAGMENTS_M; ++i) A::fragment(a_tile, a_place, i, half * 16, a_fragments[half][i]);
#pragma unroll
        for (int j = 0; j < FRAGMENTS_N / 2; ++j) B::fragment(b_tile, b_place, j, half * 16, b_fragments[half][j]);
    };
    // C += A · B
    const auto multiply = [&](int half) {
#pragma unroll
        for (int i = 0; i < FRAGMENTS_M; ++i) {
#pragma unroll
            for (int j = 0; j < FRAGMENTS_N; ++j) {
                mma(accumulators[i][j], a_fragments[half][i], b_fragments[half][j / 2][j % 2 * 2],
                    b_fragments[half][j / 2][j % 2 * 2 + 1]);
            }
        }
    };
    static_assert(TILE_K == 2 * 16);

    // prologue: fill the pipeline
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; ++stage) load(range.begin + stage, stage);
    copy_async_wait<STAGES - 2>();
    __syncthreads();
    int stage = 0;
    if (range.begin < range.end) fetch(stage, 0);

    // main loop: while half of a stage is multiplied, the fragments of the next half are on their way
    for (int tile = range.begin; tile < range.end; ++tile) {
        fetch(stage, 1);
        load(tile + STAGES - 1, stage == 0 ? STAGES - 1 : stage - 1);
        multiply(0);

        // The next stage has landed for every warp, and all of them have read this one, which the next trip refills.
        copy_async_wait<STAGES - 2>();
        __syncthreads();
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        if (tile + 1 < range.end) fetch(stage, 0);
        multiply(1);
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
