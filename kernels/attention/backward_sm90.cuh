// attention backward in bf16 for compute capability 9.0: the two kernels of backward_bf16.cuh by wgmma, fed by TMA.
//
// A block has 128 rows of one head (keys in the one kernel, queries in the other) in shared memory, 64 for each of two warpgroups, the
// consumers. One thread of a third, the producer, has TMA fill a ring of stages with tiles of columns. S and dP are products of tiles in
// shared memory; P and dS stay in the registers of the warpgroup that computed them and are the first operand of the next product. So
// nothing is written to shared memory but what TMA brings, and at the end the results.
//
// A consumer's products of P and dS are in flight while it asks for S and dP of the next tile, and while one consumer is at its exponentials
// the other one multiplies. Tiles that the mask or the end cuts have a code of their own.
//
// TMA reads zeros past a head's columns and past the last token, and writes nothing there. The sums are those of backward_bf16.cuh: 16 terms
// at a time in the same order. Where tensor cores add 16 products exactly, the bits are the same.
#pragma once

#include "../ptx_sm90.cuh"
#include "../ring.cuh"
#include "head.cuh"

namespace attention_sm90 {

constexpr int GROUP_THREADS = 128;
constexpr int GROUP_WARPS = GROUP_THREADS / WARP;
constexpr int CONSUMERS = 2;
constexpr int THREADS = (1 + CONSUMERS) * GROUP_THREADS;
// Rows of a consumer, and of what TMA copies at a time.
constexpr int BOX = 64;
// Named barriers: of both consumers, and of each one's threads.
constexpr int BOTH = 1;
constexpr int OWN = 2;

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

    // TMA: tokens from `first` on -> smem.
    static __device__ __forceinline__ void load(
        uint32_t tile, const TensorMap& map, int head, int first, uint32_t barrier) {
#pragma unroll
        for (int slab = 0; slab < SLABS; ++slab) {
#pragma unroll
            for (int row = 0; row < ROWS; row += BOX) {
                tile_load(
                    tile + slab * SLAB_BYTES + row * ROW_BYTES, map, slab * COLUMNS, head, first + row, blockIdx.z,
                    barrier);
            }
        }
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

// Of a block. SPLIT: both consumers have the same rows, and one of them dK, the other dV; one's registers do not hold both.
template <int D, bool BY_KEYS>
struct Shape {
    static constexpr bool SPLIT = BY_KEYS && D > 128;
    static constexpr int ROWS = SPLIT ? BOX : CONSUMERS * BOX;
    static constexpr int COLUMNS = BY_KEYS || D > 128 ? 64 : 128;
    static constexpr int STAGES = BY_KEYS || D <= 96 ? 3 : 2;
    // Whether the registers hold the products of P and dS in flight beside the next tile's S and dP.
    static constexpr bool DEFERS = D != 128;
    using Rows = Tile<D, ROWS>;
    using Columns = Tile<D, COLUMNS>;
    // [K, V or Q, dO], then [Q, dO or K, V] of each stage, then its [logsumexp, delta] of the columns, if these are queries.
    static constexpr int RING = 2 * Rows::BYTES;
    static constexpr int STAGE_BYTES = 2 * Columns::BYTES;
    static constexpr int STATS = RING + STAGES * STAGE_BYTES;
    static constexpr int STATS_BYTES = BY_KEYS ? 2 * COLUMNS * 4 : 0;
    static constexpr int BARRIERS = STATS + STAGES * STATS_BYTES;
    // And the room to begin at a multiple of 1024.
    static constexpr int SHARED_BYTES = BARRIERS + (1 + 2 * STAGES) * 8 + 1024;
};

// Tensors as TMA sees them, in boxes of BOX tokens × a slab of a head's columns: qkv and d_qkv [batch, tokens, 3 · heads, head_dim], dy
// [batch, tokens, heads, head_dim]; logsumexp and delta [batch · heads · tokens] in boxes of COLUMNS, if columns are queries.
struct Maps {
    const TensorMap& qkv;
    const TensorMap& dy;
    const TensorMap& d_qkv;
    const TensorMap& logsumexp;
    const TensorMap& delta;
};

// The warpgroup, as what all lanes have in common: its descriptors are made by the uniform datapath.
__device__ __forceinline__ int group() { return __shfl_sync(ALL_LANES, threadIdx.x / GROUP_THREADS, 0); }

// Heads of qkv: those of the queries come first, then those of the keys and of the values.
enum { Q, K, V };
__device__ __forceinline__ int head_of(int part) { return part * gridDim.y + blockIdx.y; }
// This head's first number in logsumexp and delta.
__device__ __forceinline__ size_t first_stat(int tokens) {
    return (static_cast<size_t>(blockIdx.z) * gridDim.y + blockIdx.y) * tokens;
}

// Tiles of columns that rows from `row` on have something to do with, and those of them that no mask and no end cuts.
struct Range {
    int begin;
    int end;
    int whole_begin;
    int whole_end;
};
template <bool BY_KEYS, int COLUMNS>
__device__ __forceinline__ Range range_of(int row, int rows, int tokens, bool causal) {
    const int tiles = blocks_of(tokens, COLUMNS), whole = tokens / COLUMNS;
    if (!causal) return {0, tiles, 0, whole};
    if (BY_KEYS) return {row / COLUMNS, tiles, row / COLUMNS + 1, whole};
    return {0, blocks_of(min(tokens, row + rows), COLUMNS), 0, min(whole, row / COLUMNS)};
}

// The producer: the block's rows, and the tiles of columns -> smem.
template <int D, bool BY_KEYS>
__device__ __forceinline__ void produce(const Maps& maps, uint32_t smem, Range range, int first_row, int tokens) {
    using S = Shape<D, BY_KEYS>;
    const uint32_t rows = smem + S::BARRIERS, full = rows + 8, empty = full + S::STAGES * 8;

    barrier_arrive_expect(rows, 2 * S::Rows::BYTES);
    S::Rows::load(smem, maps.qkv, head_of(BY_KEYS ? K : Q), first_row, rows);
    S::Rows::load(
        smem + S::Rows::BYTES, BY_KEYS ? maps.qkv : maps.dy, BY_KEYS ? head_of(V) : blockIdx.y, first_row, rows);

    Ring<S::STAGES> ring;
    for (int tile = range.begin; tile < range.end; ++tile) {
        barrier_wait(empty + ring.stage * 8, ring.parity ^ 1);

        // stage k -> smem
        const int first = tile * S::COLUMNS;
        const uint32_t barrier = full + ring.stage * 8;
        const uint32_t one = smem + S::RING + ring.stage * S::STAGE_BYTES, two = one + S::Columns::BYTES;
        barrier_arrive_expect(barrier, S::STAGE_BYTES + S::STATS_BYTES);
        S::Columns::load(one, maps.qkv, head_of(BY_KEYS ? Q : K), first, barrier);
        S::Columns::load(two, BY_KEYS ? maps.dy : maps.qkv, BY_KEYS ? blockIdx.y : head_of(V), first, barrier);
        if constexpr (BY_KEYS) {
            // Past the last token they are the next head's: masked.
            const int at = static_cast<int>(first_stat(tokens)) + first;
            const uint32_t stats = smem + S::STATS + ring.stage * S::STATS_BYTES;
            tile_load(stats, maps.logsumexp, at, barrier);
            tile_load(stats + S::COLUMNS * 4, maps.delta, at, barrier);
        }
        ring.advance(1);
    }
}

// product [64, COLUMNS] = rows [64, D] · columnsᵀ
template <class Rows, class Columns, int D, int COUNT>
__device__ __forceinline__ void multiply(
    float (&product)[COUNT], typename Rows::Operand rows, typename Columns::Operand columns) {
#pragma unroll
    for (int step = 0; step < D / 16; ++step)
        wgmma<0, 0>(product, rows.at(Rows::by_columns(step)), columns.at(Columns::by_columns(step)), step > 0);
    wgmma_commit();
}

// sums [64, D] += weights [64, COLUMNS], rounded, · columns
template <class Columns, int COUNT, int SUMS>
__device__ __forceinline__ void accumulate(
    float (&sums)[SUMS], const float (&weights)[COUNT], typename Columns::Operand columns) {
    uint32_t fragments[COUNT / 8][4];
#pragma unroll
    for (int step = 0; step < COUNT / 8; ++step) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
            fragments[step][i] = pack_bf16(weights[step * 8 + i * 2], weights[step * 8 + i * 2 + 1]);
    }
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < COUNT / 8; ++step)
        wgmma<1>(sums, fragments[step], columns.at(Columns::by_tokens(step)), true);
    wgmma_commit();
}

// The columns of a tile that are seen: of a thread's first row, and of the one 8 rows on, from its first column on.
struct Seen {
    int from[2];
    int to[2];
    // By the place of an element in a product's accumulators.
    __device__ __forceinline__ bool at(int element) const {
        const int column = element / 4 * 8 + element % 2, half = element / 2 % 2;
        return column >= from[half] && column < to[half];
    }
};
template <bool BY_KEYS>
__device__ __forceinline__ Seen seen_of(int row, int column, int tokens, bool causal) {
    Seen seen;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int diagonal = row + half * 8 - column;
        seen.from[half] = BY_KEYS && causal ? diagonal : 0;
        seen.to[half] = !BY_KEYS && causal ? min(tokens - column, diagonal + 1) : tokens - column;
    }
    return seen;
}

// A consumer, of its 64 rows from `row` on. ONE, TWO: which sums it has, dK (or dQ) and dV.
template <int D, bool BY_KEYS, bool ONE, bool TWO>
struct Consumer {
    using S = Shape<D, BY_KEYS>;
    using Rows = typename S::Rows;
    using Columns = typename S::Columns;
    // Of a product of its rows and a tile of columns: numbers of a thread.
    static constexpr int COUNT = S::COLUMNS / 2;

    char* memory;
    uint32_t full, empty, rows_one, rows_two;
    int row, tokens;
    bool causal;
    float exponent_scale;
    // logsumexp and delta of the thread's rows, if they are queries.
    float row_log[2], row_delta[2];
    Ring<S::STAGES> ring;
    // The stage whose products are in flight; -1 if there is none.
    int before;
    float one[ONE ? D / 2 : 1];  // dK, or dQ
    float two[TWO ? D / 2 : 1];  // dV

    // This warp reads the stage no more.
    __device__ __forceinline__ void release(int stage) {
        __syncwarp();
        if (threadIdx.x % WARP == 0) barrier_arrive(empty + stage * 8);
    }

    // P = exp(S − logsumexp), in place
    template <bool MASKED>
    __device__ __forceinline__ void weigh(float (&p)[COUNT], const float2* logs, const Seen& seen) {
#pragma unroll
        for (int j = 0; j < COUNT / 4; ++j) {
            float2 log = {};
            if constexpr (BY_KEYS) log = logs[j * 4];
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const float shift = BY_KEYS ? (e % 2 ? log.y : log.x) * LOG2_E : row_log[e / 2];
                float& value = p[j * 4 + e];
                value = exp2_approximate(fmaf(value, exponent_scale, -shift));
                // Past the end it may be infinite.
                if (MASKED && !seen.at(j * 4 + e)) value = 0.0f;
            }
        }
    }

    // dS = P ∘ (dP − delta), in the place of dP
    template <bool MASKED>
    __device__ __forceinline__ void slope(
        float (&ds)[COUNT], const float (&p)[COUNT], const float2* deltas, const Seen& seen) {
#pragma unroll
        for (int j = 0; j < COUNT / 4; ++j) {
            float2 delta = {};
            if constexpr (BY_KEYS) delta = deltas[j * 4];
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const float shift = BY_KEYS ? (e % 2 ? delta.y : delta.x) : row_delta[e / 2];
                float& value = ds[j * 4 + e];
                value = p[j * 4 + e] * (value - shift);
                // Past the end delta may be that of another head, and not a number.
                if (MASKED && !seen.at(j * 4 + e)) value = 0.0f;
            }
        }
    }

    // A tile of columns. If it is not masked, the last products may be in flight when it is done, and with them the stage `before`.
    template <bool MASKED>
    __device__ __forceinline__ void work(int tile) {
        constexpr bool DEFERS = S::DEFERS && !MASKED;
        const uint32_t tiles = shared_address(memory) + S::RING + ring.stage * S::STAGE_BYTES;
        const auto columns_one = Columns::operand(tiles), columns_two = Columns::operand(tiles + Columns::BYTES);
        const int lane = threadIdx.x % WARP, warp = threadIdx.x % GROUP_THREADS / WARP;
        const float2* logs =
            reinterpret_cast<const float2*>(memory + S::STATS + ring.stage * S::STATS_BYTES) + lane % 4;
        const float2* deltas = logs + S::COLUMNS / 2;
        const Seen seen =
            seen_of<BY_KEYS>(row + warp * 16 + lane / 4, tile * S::COLUMNS + lane % 4 * 2, tokens, causal);
        barrier_wait(full + ring.stage * 8, ring.parity);

        // S = Q Kᵀ, dP = dO Vᵀ (both transposed if BY_KEYS)
        float p[COUNT], ds[ONE ? COUNT : 1];
        wgmma_fence();
        multiply<Rows, Columns, D>(p, Rows::operand(rows_one), columns_one);
        if constexpr (ONE) multiply<Rows, Columns, D>(ds, Rows::operand(rows_two), columns_two);

        // S is there, and the products of the stage before are done: it may be filled again.
        wgmma_wait<ONE>();
        wgmma_hold(p);
        if constexpr (DEFERS) {
            if (before >= 0) release(before);
            before = ring.stage;
        }

        // P, dV += Pᵀ dO
        weigh<MASKED>(p, logs, seen);
        if constexpr (TWO) accumulate<Columns>(two, p, columns_two);

        // dS, dK += dSᵀ Q or dQ += dS K
        if constexpr (ONE) {
            wgmma_wait<TWO>();
            wgmma_hold(ds);
            slope<MASKED>(ds, p, deltas, seen);
            accumulate<Columns>(one, ds, columns_one);
        }
        if constexpr (!DEFERS) {
            wgmma_wait<0>();
            release(ring.stage);
        }
        ring.advance(1);
    }

    // All tiles of columns that its rows have to do with, of those that the block has from `first` on.
    __device__ __forceinline__ void work_all(int first) {
        const Range range = range_of<BY_KEYS, S::COLUMNS>(row, BOX, tokens, causal);
        // What only the other consumer's rows see.
        for (int tile = first; tile < range.begin; ++tile) {
            release(ring.stage);
            ring.advance(1);
        }
        for (int tile = range.begin; tile < range.end; ++tile) {
            if (tile >= range.whole_begin) {
#pragma unroll 1
                for (; tile < range.whole_end; ++tile) work<false>(tile);
                // No products are in flight from one loop into the other: nvcc would wait for each one of them.
                wgmma_wait<0>();
                if (before >= 0) release(before);
                before = -1;
            }
            if (tile < range.end) work<true>(tile);
        }
    }
};

// A consumer's sums, times `factor` and rounded -> smem, over rows that are read no more.
template <class Rows, int COUNT>
__device__ __forceinline__ void stage(const float (&sums)[COUNT], float factor, uint32_t rows) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x % GROUP_THREADS / WARP;
    const int row = warp * 16 + lane % 16;
#pragma unroll
    for (int pair = 0; pair < COUNT / 8; ++pair) {
        uint32_t packed[4];
#pragma unroll
        for (int i = 0; i < 4; ++i)
            packed[i] = pack_bf16(sums[pair * 8 + i * 2] * factor, sums[pair * 8 + i * 2 + 1] * factor);
        const int slab = pair * 16 / Rows::COLUMNS, chunk = pair * 16 % Rows::COLUMNS / 8 + lane / 16;
        store_matrices(
            rows + slab * Rows::SLAB_BYTES + Rows::at(row, chunk), packed[0], packed[1], packed[2], packed[3]);
    }
}

// smem -> d_qkv
template <class Rows>
__device__ __forceinline__ void store(const TensorMap& d_qkv, int head, int row, uint32_t rows) {
#pragma unroll
    for (int slab = 0; slab < Rows::SLABS; ++slab)
        tile_store(d_qkv, slab * Rows::COLUMNS, head, row, blockIdx.z, rows + slab * Rows::SLAB_BYTES);
}

// The maps that a kernel has no use for are not read; nor are logsumexp and delta if its columns are queries.
template <int D, bool BY_KEYS, bool ONE, bool TWO>
__device__ __forceinline__ void consume(
    const Maps& maps, const float* logsumexp, const float* delta, char* memory, int first_tile, int row, int tokens,
    bool causal, float scale) {
    using C = Consumer<D, BY_KEYS, ONE, TWO>;
    using S = typename C::S;
    const int number = group() - 1, lane = threadIdx.x % WARP;
    C consumer = {};
    consumer.memory = memory;
    consumer.full = shared_address(memory) + S::BARRIERS + 8;
    consumer.empty = consumer.full + S::STAGES * 8;
    consumer.rows_one = shared_address(memory) + (S::SPLIT ? 0 : number * BOX * S::Rows::ROW_BYTES);
    consumer.rows_two = consumer.rows_one + S::Rows::BYTES;
    consumer.row = row;
    consumer.tokens = tokens;
    consumer.causal = causal;
    consumer.exponent_scale = scale * LOG2_E;
    consumer.before = -1;
    if constexpr (!BY_KEYS) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int query = row + threadIdx.x % GROUP_THREADS / WARP * 16 + lane / 4 + half * 8;
            if (query >= tokens) continue;
            consumer.row_log[half] = logsumexp[first_stat(tokens) + query] * LOG2_E;
            consumer.row_delta[half] = delta[first_stat(tokens) + query];
        }
    }

    barrier_wait(shared_address(memory) + S::BARRIERS, 0);
    consumer.work_all(first_tile);

    // epilogue: accumulators -> smem -> TMA stores
    if constexpr (S::SPLIT) named_barrier(BOTH, CONSUMERS * GROUP_THREADS);
    if constexpr (ONE) {
        wgmma_hold(consumer.one);
        stage<typename S::Rows>(consumer.one, scale, consumer.rows_one);
    }
    if constexpr (TWO) {
        wgmma_hold(consumer.two);
        stage<typename S::Rows>(consumer.two, 1.0f, consumer.rows_two);
    }
    proxy_fence();
    named_barrier(OWN + number, GROUP_THREADS);
    if (threadIdx.x % GROUP_THREADS == 0) {
        if constexpr (ONE) store<typename S::Rows>(maps.d_qkv, head_of(BY_KEYS ? K : Q), row, consumer.rows_one);
        if constexpr (TWO) store<typename S::Rows>(maps.d_qkv, head_of(V), row, consumer.rows_two);
        tile_store_commit();
        tile_store_wait<0>();
    }
}

template <int D, bool BY_KEYS>
__device__ __forceinline__ void backward(
    const Maps& maps, const float* logsumexp, const float* delta, int tokens, int causal, float scale) {
    using S = Shape<D, BY_KEYS>;
    extern __shared__ char dynamic[];
    char* memory = dynamic + (-shared_address(dynamic) & 1023u);
    const uint32_t smem = shared_address(memory);
    // Those with most columns under a causal mask first.
    const int first_row = static_cast<int>(BY_KEYS ? blockIdx.x : gridDim.x - 1 - blockIdx.x) * S::ROWS;
    const Range range = range_of<BY_KEYS, S::COLUMNS>(first_row, S::ROWS, tokens, causal);
    const int number = group();
    // The second half of the last rows may lie past the end.
    const int consumers = S::SPLIT || first_row + BOX < tokens ? CONSUMERS : 1;

    if (threadIdx.x == 0) {
        const uint32_t rows = smem + S::BARRIERS, full = rows + 8, empty = full + S::STAGES * 8;
        barrier_init(rows, 1);
        for (int stage = 0; stage < S::STAGES; ++stage) {
            barrier_init(full + stage * 8, 1);
            barrier_init(empty + stage * 8, consumers * GROUP_WARPS);
        }
        barrier_init_fence();
    }
    __syncthreads();

    if (number == 0) {
        registers_fewer<24>();
        if (threadIdx.x == 0) produce<D, BY_KEYS>(maps, smem, range, first_row, tokens);
        return;
    }

    registers_more<240>();
    if (number > consumers) return;
    if constexpr (S::SPLIT) {
        if (number == 1) {
            consume<D, BY_KEYS, false, true>(
                maps, logsumexp, delta, memory, range.begin, first_row, tokens, causal, scale);
        } else {
            consume<D, BY_KEYS, true, false>(
                maps, logsumexp, delta, memory, range.begin, first_row, tokens, causal, scale);
        }
    } else {
        const int row = first_row + (number - 1) * BOX;
        consume<D, BY_KEYS, true, BY_KEYS>(maps, logsumexp, delta, memory, range.begin, row, tokens, causal, scale);
    }
}

}  // namespace attention_sm90
