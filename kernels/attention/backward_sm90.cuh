// attention backward in bf16 for compute capability 9.0: the two kernels of backward_bf16.cuh by wgmma, fed by TMA.
//
// A block has 128 rows of one head (keys in the one kernel, queries in the other) in shared memory, 64 for each of two warpgroups, the
// consumers. Where there is room it has a second turn with 128 more, which are loaded meanwhile: as far from the last rows as the first were
// from the first ones, so that under a causal mask all blocks have as much to do. One thread of a third warpgroup, the producer, has TMA fill
// a ring of stages with tiles of columns. S and dP are products of tiles in shared memory; P and dS stay in the registers of the warpgroup
// that computed them, as the first operand of the next product. So nothing is written to shared memory but what TMA brings, and the results.
//
// A consumer's products of P and dS are in flight while it asks for S and dP of the next tile, and while one consumer is at its exponentials
// the other one multiplies. Tiles that the mask or the end cuts have code of their own.
//
// The kernel by queries comes first: O passes through a stage of the ring before a turn's columns, each consumer adds up delta of its rows
// from it and from dO, and writes it for the other kernel.
//
// TMA reads zeros past a head's columns and past the last token, and writes nothing there. The sums are those of backward_bf16.cuh: 16 terms
// at a time in the same order. Where tensor cores add 16 products exactly, the bits are the same.
#pragma once

#include "../ring.cuh"
#include "delta.cuh"
#include "head.cuh"
#include "tile_sm90.cuh"

namespace attention_sm90 {

constexpr int CONSUMERS = 2;
constexpr int THREADS = (1 + CONSUMERS) * GROUP_THREADS;
// Named barriers: of both consumers, and of each one's threads.
constexpr int BOTH = 1;
constexpr int OWN = 2;

// Of a block. SPLIT: both consumers have the same rows, and one of them dK, the other dV; one's registers do not hold both.
template <int D, bool BY_KEYS>
struct Shape {
    static constexpr bool SPLIT = BY_KEYS && D > 128;
    static constexpr int ROWS = SPLIT ? BOX : CONSUMERS * BOX;
    // Times that it has so many rows: twice, where there is shared memory for both. Keys of D 128 have it, but then spilled 12 bytes.
    static constexpr int TURNS = SPLIT || D < 128 ? 2 : 1;
    static constexpr int COLUMNS = BY_KEYS || D > 128 ? 64 : 128;
    static constexpr int STAGES = BY_KEYS && D <= 128 || D == 64 ? 3 : 2;
    // Whether the registers hold the products of P and dS in flight beside the next tile's S and dP.
    static constexpr bool DEFERS = D != 128;
    using Rows = Tile<D, ROWS>;
    using Columns = Tile<D, COLUMNS>;
    // Before another turn both consumers give back all tiles: those of queries have the same.
    static_assert(TURNS == 1 || BY_KEYS || COLUMNS == ROWS);
    // [K, V or Q, dO] of each turn, then [Q, dO or K, V] of each stage, then its [logsumexp, delta] of the columns, if these are queries.
    static constexpr int ROWS_BYTES = 2 * Rows::BYTES;
    static constexpr int RING = TURNS * ROWS_BYTES;
    static constexpr int STAGE_BYTES = 2 * Columns::BYTES;
    // O passes through a stage.
    static_assert(BY_KEYS || Rows::BYTES <= STAGE_BYTES);
    static constexpr int STATS = RING + STAGES * STAGE_BYTES;
    static constexpr int STATS_BYTES = BY_KEYS ? 2 * COLUMNS * 4 : 0;
    // mbarriers: that the rows of a turn are there, that a stage is full, that it is empty.
    static constexpr int LOADED = STATS + STAGES * STATS_BYTES;
    static constexpr int FULL = LOADED + TURNS * 8;
    static constexpr int EMPTY = FULL + STAGES * 8;
    // And the room to begin at a multiple of 1024.
    static constexpr int SHARED_BYTES = EMPTY + STAGES * 8 + 1024;

    // The block's first row in a turn; past the last one if there is none. Of two, that with most columns under a causal mask comes first.
    static __device__ __forceinline__ int first_row(int turn, int tokens) {
        const int blocks = blocks_of(tokens, ROWS), mirrored = blocks - 1 - static_cast<int>(blockIdx.x);
        if (turn > 0 && mirrored == blockIdx.x) return tokens;
        return (BY_KEYS == (turn == 0) ? static_cast<int>(blockIdx.x) : mirrored) * ROWS;
    }
};

struct Arguments {
    // Tensors as TMA sees them, in boxes of BOX tokens × a slab of a head's columns: [batch, tokens, 3 · heads, head_dim], and dy and output
    // [batch, tokens, heads, head_dim]. Only queries read output.
    const TensorMap& qkv;
    const TensorMap& dy;
    const TensorMap& output;
    const TensorMap& d_qkv;
    // logsumexp and delta [batch · heads · tokens]: in boxes of COLUMNS, which only keys read, and in memory, where queries read the one
    // and write the other.
    const TensorMap& logsumexp_map;
    const TensorMap& delta_map;
    const float* logsumexp;
    float* delta;
    int tokens;
    bool causal;
    float scale;
};

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
    if (row >= tokens) return {tiles, tiles, tiles, tiles};
    if (!causal) return {0, tiles, 0, whole};
    if (BY_KEYS) return {row / COLUMNS, tiles, row / COLUMNS + 1, whole};
    return {0, blocks_of(min(tokens, row + rows), COLUMNS), 0, min(whole, row / COLUMNS)};
}

// The producer: the block's rows, and the tiles of columns -> smem.
template <int D, bool BY_KEYS>
__device__ __forceinline__ void produce(const Arguments& with, uint32_t smem) {
    using S = Shape<D, BY_KEYS>;
    const int head = blockIdx.y, image = blockIdx.z, tokens = with.tokens;
    Ring<S::STAGES> ring;
#pragma unroll 1
    for (int turn = 0; turn < S::TURNS; ++turn) {
        const int row = S::first_row(turn, tokens);
        if (row >= tokens) return;

        // rows -> smem
        const uint32_t rows = smem + turn * S::ROWS_BYTES, loaded = smem + S::LOADED + turn * 8;
        barrier_arrive_expect(loaded, S::ROWS_BYTES);
        S::Rows::load(rows, with.qkv, head_of(BY_KEYS ? K : Q), row, image, loaded);
        S::Rows::load(
            rows + S::Rows::BYTES, BY_KEYS ? with.qkv : with.dy, BY_KEYS ? head_of(V) : head, row, image, loaded);

        // O -> smem, as a stage of its own
        if constexpr (!BY_KEYS) {
            const uint32_t full = smem + S::FULL + ring.stage * 8;
            barrier_wait(smem + S::EMPTY + ring.stage * 8, ring.parity ^ 1);
            barrier_arrive_expect(full, S::Rows::BYTES);
            S::Rows::load(smem + S::RING + ring.stage * S::STAGE_BYTES, with.output, head, row, image, full);
            ring.advance(1);
        }

        const Range range = range_of<BY_KEYS, S::COLUMNS>(row, S::ROWS, tokens, with.causal);
        for (int tile = range.begin; tile < range.end; ++tile) {
            barrier_wait(smem + S::EMPTY + ring.stage * 8, ring.parity ^ 1);

            // stage k -> smem
            const int first = tile * S::COLUMNS;
            const uint32_t full = smem + S::FULL + ring.stage * 8;
            const uint32_t one = smem + S::RING + ring.stage * S::STAGE_BYTES, two = one + S::Columns::BYTES;
            barrier_arrive_expect(full, S::STAGE_BYTES + S::STATS_BYTES);
            S::Columns::load(one, with.qkv, head_of(BY_KEYS ? Q : K), first, image, full);
            S::Columns::load(two, BY_KEYS ? with.dy : with.qkv, BY_KEYS ? head : head_of(V), first, image, full);
            if constexpr (BY_KEYS) {
                // Past the last token they are the next head's: masked.
                const int at = static_cast<int>(first_stat(tokens)) + first;
                const uint32_t stats = smem + S::STATS + ring.stage * S::STATS_BYTES;
                tile_load(stats, with.logsumexp_map, at, full);
                tile_load(stats + S::COLUMNS * 4, with.delta_map, at, full);
            }
            ring.advance(1);
        }
    }
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

    const Arguments& with;
    char* memory;
    uint32_t smem;  // the same
    Ring<S::STAGES> ring = {};
    // Of a turn: its first row, and the tiles with it.
    int row;
    uint32_t rows_one, rows_two;
    // logsumexp and delta of the thread's rows, if they are queries.
    float row_log[2], row_delta[2];
    // The stage whose products are in flight; -1 if there is none.
    int before;
    float one[ONE ? D / 2 : 1];  // dK, or dQ
    float two[TWO ? D / 2 : 1];  // dV

    // This warp reads the stage no more.
    __device__ __forceinline__ void release(int stage) {
        __syncwarp();
        if (threadIdx.x % WARP == 0) barrier_arrive(smem + S::EMPTY + stage * 8);
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
                value = exp2_approximate(fmaf(value, with.scale * LOG2_E, -shift));
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
        const uint32_t tiles = smem + S::RING + ring.stage * S::STAGE_BYTES;
        const auto columns_one = Columns::operand(tiles), columns_two = Columns::operand(tiles + Columns::BYTES);
        const int lane = threadIdx.x % WARP, warp = threadIdx.x % GROUP_THREADS / WARP;
        const float2* logs =
            reinterpret_cast<const float2*>(memory + S::STATS + ring.stage * S::STATS_BYTES) + lane % 4;
        const float2* deltas = logs + S::COLUMNS / 2;
        const Seen seen =
            seen_of<BY_KEYS>(row + warp * 16 + lane / 4, tile * S::COLUMNS + lane % 4 * 2, with.tokens, with.causal);
        barrier_wait(smem + S::FULL + ring.stage * 8, ring.parity);

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

    // All tiles of columns of a turn that its rows have to do with. The block has some more from `first` on, which only the other
    // consumer's rows see.
    __device__ __forceinline__ void work_all(int first) {
        const Range range = range_of<BY_KEYS, S::COLUMNS>(row, BOX, with.tokens, with.causal);
        for (int tile = first; tile < range.begin; ++tile) {
            // Not before: given back a round early, it would count for the filling before.
            barrier_wait(smem + S::FULL + ring.stage * 8, ring.parity);
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

    // The turn's rows; the sums become zeros.
    __device__ __forceinline__ void begin(int turn, int first_row, int half) {
        row = first_row + half * BOX;
        rows_one = smem + turn * S::ROWS_BYTES + half * BOX * Rows::ROW_BYTES;
        rows_two = rows_one + Rows::BYTES;
        before = -1;
#pragma unroll
        for (float& sum : one) sum = 0.0f;
#pragma unroll
        for (float& sum : two) sum = 0.0f;
    }

    // logsumexp and delta of the thread's rows, which are queries: dO is there, O comes in a stage.
    __device__ __forceinline__ void look_at_rows() {
        const int lane = threadIdx.x % WARP, first = threadIdx.x % GROUP_THREADS / WARP * 16 + lane / 4;
        const char* d_rows = memory + (rows_two - smem);
        const char* o_rows = memory + S::RING + ring.stage * S::STAGE_BYTES + (group() - 1) * BOX * Rows::ROW_BYTES;
        barrier_wait(smem + S::FULL + ring.stage * 8, ring.parity);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int at = first + i * 8, query = row + at;
            const size_t stat = first_stat(with.tokens) + query;
            row_log[i] = query < with.tokens ? with.logsumexp[stat] * LOG2_E : 0.0f;
            row_delta[i] =
                sum_of_row<bf16, D, 4>(D % 64 == 0 && at % 2 != 0, [&](int chunk, auto& of_output, auto& of_dy) {
                    const int place = Rows::of_chunk(at, chunk);
                    load_vector(reinterpret_cast<const bf16*>(o_rows + place), of_output);
                    load_vector(reinterpret_cast<const bf16*>(d_rows + place), of_dy);
                });
            if (lane % 4 == 0 && query < with.tokens) with.delta[stat] = row_delta[i];
        }
        release(ring.stage);
        ring.advance(1);
    }

    // Sums -> smem, over the turn's rows, which are read no more; smem -> d_qkv by TMA, which may read it until the block ends.
    __device__ __forceinline__ void finish(int number) {
        if constexpr (S::SPLIT) named_barrier(BOTH, CONSUMERS * GROUP_THREADS);
        if constexpr (ONE) {
            wgmma_hold(one);
            put<Rows>(one, with.scale, rows_one);
        }
        if constexpr (TWO) {
            wgmma_hold(two);
            put<Rows>(two, 1.0f, rows_two);
        }
        proxy_fence();
        named_barrier(OWN + number, GROUP_THREADS);
        if (threadIdx.x % GROUP_THREADS == 0) {
            if constexpr (ONE) Rows::store(rows_one, with.d_qkv, head_of(BY_KEYS ? K : Q), row, blockIdx.z);
            if constexpr (TWO) Rows::store(rows_two, with.d_qkv, head_of(V), row, blockIdx.z);
            tile_store_commit();
        }
    }
};

template <int D, bool BY_KEYS, bool ONE, bool TWO>
__device__ __forceinline__ void consume(const Arguments& with, char* memory, int number) {
    using S = Shape<D, BY_KEYS>;
    Consumer<D, BY_KEYS, ONE, TWO> consumer{with, memory, shared_address(memory)};
#pragma unroll 1
    for (int turn = 0; turn < S::TURNS; ++turn) {
        const int row = S::first_row(turn, with.tokens);
        if (row >= with.tokens) break;
        consumer.begin(turn, row, S::SPLIT ? 0 : number);
        barrier_wait(consumer.smem + S::LOADED + turn * 8, 0);
        if constexpr (!BY_KEYS) consumer.look_at_rows();
        consumer.work_all(range_of<BY_KEYS, S::COLUMNS>(row, S::ROWS, with.tokens, with.causal).begin);
        consumer.finish(number);
    }
    if (threadIdx.x % GROUP_THREADS == 0) tile_store_wait<0>();
}

template <int D, bool BY_KEYS>
__device__ __forceinline__ void backward(const Arguments& with) {
    using S = Shape<D, BY_KEYS>;
    extern __shared__ char dynamic[];
    char* memory = dynamic + (-shared_address(dynamic) & 1023u);
    const uint32_t smem = shared_address(memory);
    const int number = group() - 1;

    if (threadIdx.x == 0) {
        for (int turn = 0; turn < S::TURNS; ++turn) barrier_init(smem + S::LOADED + turn * 8, 1);
        for (int stage = 0; stage < S::STAGES; ++stage) {
            barrier_init(smem + S::FULL + stage * 8, 1);
            barrier_init(smem + S::EMPTY + stage * 8, CONSUMERS * GROUP_WARPS);
        }
        barrier_init_fence();
    }
    __syncthreads();

    if (number < 0) {
        registers_fewer<24>();
        if (threadIdx.x == 0) produce<D, BY_KEYS>(with, smem);
        return;
    }

    registers_more<240>();
    if constexpr (!S::SPLIT) {
        consume<D, BY_KEYS, true, BY_KEYS>(with, memory, number);
    } else if (number == 0) {
        consume<D, BY_KEYS, false, true>(with, memory, number);
    } else {
        consume<D, BY_KEYS, true, false>(with, memory, number);
    }
}

}  // namespace attention_sm90
