// attention forward for compute capability 9.0, in bf16: flash attention (Dao et al. 2022; on Hopper Shah et al. 2024) by wgmma and TMA.
//
// Persistent blocks of a producer and two or three consumers, a warpgroup each. One thread of the producer has TMA fill a ring of STAGES
// tiles of KEYS keys and one of as many values; each consumer has 64 queries of its own. Of tile j a consumer
//
//   asks for       S = Q Kᵀ of tile j, and O += P V of tile j - 1, at once
//   as S is there  P = exp(S - max) of tile j, while P V of tile j - 1 is multiplied
//   as O is there  shrinks O to the new maximum
//
// and in turns with the others (ping-pong): one asks for its products, and finds its exponentials while another's are multiplied. P stays in
// registers, as the A operand. Tiles that no mask cuts come first, and have a loop of their own.
//
// TMA reads zeros outside of a tensor and writes nothing there, so neither tokens past the last nor columns past head_dim need code; scores of
// keys past the last do.
#pragma once

#include "head.cuh"
#include "schedule_sm90.cuh"
#include "softmax_sm90.cuh"
#include "tile_sm90.cuh"

namespace attention_sm90 {

constexpr int STAGES = 2;

template <int COLUMNS, int TILE_KEYS, int COUNT, int QUERY_BUFFERS>
struct Shape {
    static constexpr int D = COLUMNS;
    static constexpr int KEYS = TILE_KEYS;
    static constexpr int CONSUMERS = COUNT;
    static constexpr int QUERIES = CONSUMERS * BOX;
    static constexpr int BUFFERS = QUERY_BUFFERS;
    using Rows = Tile<D, BOX>;
    using Columns = Tile<D, KEYS>;
    // smem: queries [CONSUMERS][BUFFERS], keys [STAGES], values [STAGES], barriers.
    static constexpr int K_TILES = CONSUMERS * BUFFERS * Rows::BYTES;
    static constexpr int V_TILES = K_TILES + STAGES * Columns::BYTES;
    static constexpr int BARRIERS = V_TILES + STAGES * Columns::BYTES;
    static constexpr int BARRIER_COUNT = 4 * STAGES + 2 * CONSUMERS * BUFFERS;
    // And the room to begin at a multiple of 1024.
    static constexpr int SHARED_BYTES = BARRIERS + BARRIER_COUNT * 8 + 1024;
    // Consumers are at most a tile apart.
    static_assert(QUERIES % KEYS == 0 ? QUERIES / KEYS - blocks_of(BOX, KEYS) <= 1 : (CONSUMERS - 1) * BOX <= KEYS);

    // mbarriers: that a stage or a buffer is full, and that it is empty.
    static __device__ __forceinline__ uint32_t k_full(uint32_t smem, int stage) { return smem + BARRIERS + stage * 8; }
    static __device__ __forceinline__ uint32_t v_full(uint32_t smem, int stage) { return k_full(smem, STAGES + stage); }
    static __device__ __forceinline__ uint32_t k_empty(uint32_t smem, int stage) {
        return k_full(smem, 2 * STAGES + stage);
    }
    static __device__ __forceinline__ uint32_t v_empty(uint32_t smem, int stage) {
        return k_full(smem, 3 * STAGES + stage);
    }
    static __device__ __forceinline__ uint32_t q_full(uint32_t smem, int consumer, int buffer) {
        return k_full(smem, 4 * STAGES + consumer * BUFFERS + buffer);
    }
    static __device__ __forceinline__ uint32_t q_empty(uint32_t smem, int consumer, int buffer) {
        return q_full(smem, CONSUMERS + consumer, buffer);
    }
};

// Where the `at`-th filling of a ring of SIZE lies, and the parity of its barriers' phase.
template <unsigned SIZE>
__device__ __forceinline__ int place_of(unsigned at) {
    return static_cast<int>(at % SIZE);
}
template <unsigned SIZE>
__device__ __forceinline__ int parity_of(unsigned at) {
    return static_cast<int>(at / SIZE & 1);
}

// The producer: queries, keys and values of each piece of work -> smem.
template <class S>
__device__ __forceinline__ void produce(
    const TensorMap& queries, const TensorMap& keys, uint32_t smem, const Problem& problem) {
    const Schedule<S> schedule(problem);
    int at = 0, filled[S::CONSUMERS] = {};
    for (int round = 0, index; (index = schedule.index(round)) < schedule.count; ++round) {
        const Work work = schedule.work(problem, index);
        const Extent<S> extent(problem, work.first_query);
        const int tiles = extent.all_tiles();

        // stage k -> smem
        const auto load = [&](uint32_t to, int part, int tile, uint32_t full, uint32_t empty) {
            barrier_wait(empty, parity_of<STAGES>(at + tile) ^ 1);
            barrier_arrive_expect(full, S::Columns::BYTES);
            to += place_of<STAGES>(at + tile) * S::Columns::BYTES;
            S::Columns::template load<S::KEYS>(
                to, keys, part * problem.heads + work.head, tile * S::KEYS, work.image, full);
        };
        const auto load_keys = [&](int tile) {
            const int stage = place_of<STAGES>(at + tile);
            load(smem + S::K_TILES, 1, tile, S::k_full(smem, stage), S::k_empty(smem, stage));
        };
        const auto load_values = [&](int tile) {
            const int stage = place_of<STAGES>(at + tile);
            load(smem + S::V_TILES, 2, tile, S::v_full(smem, stage), S::v_empty(smem, stage));
        };

        load_keys(0);
#pragma unroll
        for (int consumer = 0; consumer < S::CONSUMERS; ++consumer) {
            if (consumer >= extent.active) continue;
            // Q -> smem
            const int filling = filled[consumer]++, buffer = place_of<S::BUFFERS>(filling);
            const uint32_t full = S::q_full(smem, consumer, buffer);
            barrier_wait(S::q_empty(smem, consumer, buffer), parity_of<S::BUFFERS>(filling) ^ 1);
            barrier_arrive_expect(full, S::Rows::BYTES);
            S::Rows::load(
                smem + (consumer * S::BUFFERS + buffer) * S::Rows::BYTES, queries, work.head,
                work.first_query + consumer * BOX, work.image, full);
        }
        // In the order in which they are asked for.
        for (int tile = 1; tile < tiles; ++tile) {
            load_keys(tile);
            load_values(tile - 1);
        }
        load_values(tiles - 1);
        at += tiles;
    }
}

// A consumer.
template <class S>
struct Consumer {
    static constexpr int D = S::D;
    static constexpr int KEYS = S::KEYS;

    const Problem& problem;
    uint32_t smem;
    int consumer;
    float exponent_scale;
    // Tiles of keys, and buffers of queries, that came before this work.
    int at = 0;
    int filled = 0;

    float scores[KEYS / 2];
    uint32_t weights[KEYS / 16][4];
    float out[D / 2];
    // Of rows lane / 4 and lane / 4 + 8 of the warp's 16: the maximum so far, in units of ln 2, and the sum of exponentials.
    float row_max[2];
    float row_sum[2];

    __device__ __forceinline__ Consumer(const Problem& problem, uint32_t smem, int consumer, float exponent_scale)
        : problem(problem), smem(smem), consumer(consumer), exponent_scale(exponent_scale) {}

    __device__ __forceinline__ bool is_first() const { return threadIdx.x % GROUP_THREADS == 0; }
    __device__ __forceinline__ uint32_t queries() const {
        return smem + (consumer * S::BUFFERS + place_of<S::BUFFERS>(filled)) * S::Rows::BYTES;
    }

    // S = Q Kᵀ: asks for it.
    __device__ __forceinline__ void multiply_keys(int tile) {
        wgmma_hold(scores);
        wgmma_fence();
        const uint32_t keys = smem + S::K_TILES + place_of<STAGES>(at + tile) * S::Columns::BYTES;
        multiply<typename S::Rows, typename S::Columns, D>(
            scores, S::Rows::operand(queries()), S::Columns::operand(keys));
    }

    // O += P V: asks for it.
    __device__ __forceinline__ void multiply_values(int tile) {
        wgmma_hold(weights);
        wgmma_hold(out);
        wgmma_fence();
        const uint32_t values = smem + S::V_TILES + place_of<STAGES>(at + tile) * S::Columns::BYTES;
        const typename S::Columns::Operand operand = S::Columns::operand(values);
#pragma unroll
        for (int step = 0; step < KEYS / 16; ++step)
            wgmma<1>(out, weights[step], operand.at(S::Columns::by_tokens(step)), true);
        wgmma_commit();
    }

    // Values of the tile whose scores are done. The next product needs them; but waited for here, before the last one's end: ptxas would
    // move that up, before the exponentials, but not over a loop.
    __device__ __forceinline__ void wait_values(int tile) {
        wgmma_hold(scores);
        barrier_wait(S::v_full(smem, place_of<STAGES>(at + tile)), parity_of<STAGES>(at + tile));
    }

    __device__ __forceinline__ void shrink(const float (&factor)[2]) {
#pragma unroll
        for (int i = 0; i < D / 2; ++i) out[i] *= factor[i / 2 % 2];
    }

    // The first tile.
    __device__ __forceinline__ void begin(int first_query, bool masked, const Turns<S>& turns) {
        const int stage = place_of<STAGES>(at);
        barrier_wait(S::q_full(smem, consumer, place_of<S::BUFFERS>(filled)), parity_of<S::BUFFERS>(filled));
        barrier_wait(S::k_full(smem, stage), parity_of<STAGES>(at));
        turns.wait_first();
        multiply_keys(0);
        turns.pass(0);
        if (S::BUFFERS > 1 && is_first() && filled > 0) free_queries(filled - 1);

        wgmma_wait<0>();
        wgmma_hold(scores);
        if (is_first()) barrier_arrive(S::k_empty(smem, stage));
        if (masked) mask(scores, first_query, 0, problem.tokens, problem.causal);
        float factor[2];
        softmax<true>(scores, exponent_scale, row_max, row_sum, factor);
        wait_values(0);
        as_a_operands(weights, scores);
    }

    // A tile after the first: its scores beside the product of the weights before it.
    template <bool MASKED>
    __device__ __forceinline__ void step(int tile, int first_query, const Turns<S>& turns) {
        const int stage = place_of<STAGES>(at + tile), before = place_of<STAGES>(at + tile - 1);
        barrier_wait(S::k_full(smem, stage), parity_of<STAGES>(at + tile));
        turns.wait(tile);
        multiply_keys(tile);
        multiply_values(tile - 1);
        turns.pass(tile);

        wgmma_wait<1>();
        wgmma_hold(scores);
        if (is_first()) barrier_arrive(S::k_empty(smem, stage));
        if constexpr (MASKED) mask(scores, first_query, tile * KEYS, problem.tokens, problem.causal);
        float factor[2];
        softmax<false>(scores, exponent_scale, row_max, row_sum, factor);
        wait_values(tile);

        wgmma_wait<0>();
        wgmma_hold(out);
        if (is_first()) barrier_arrive(S::v_empty(smem, before));
        as_a_operands(weights, scores);
        shrink(factor);
    }

    // The last tile's product.
    __device__ __forceinline__ void finish(int tile) {
        const int stage = place_of<STAGES>(at + tile);
        multiply_values(tile);
        wgmma_wait<0>();
        wgmma_hold(out);
        if (is_first()) barrier_arrive(S::v_empty(smem, stage));
    }

    // Tiles that only others see. A stage's barrier tells no more than two fillings apart, so none may be passed over; and where no product
    // holds the warps together a barrier must.
    __device__ __forceinline__ void skip(int from, int to) {
        if (from == to) return;
        if (is_first()) {
            for (int tile = from; tile < to; ++tile) {
                const int stage = place_of<STAGES>(at + tile), parity = parity_of<STAGES>(at + tile);
                barrier_wait(S::k_full(smem, stage), parity);
                barrier_arrive(S::k_empty(smem, stage));
                barrier_wait(S::v_full(smem, stage), parity);
                barrier_arrive(S::v_empty(smem, stage));
            }
        }
        named_barrier(OWN + consumer, GROUP_THREADS);
    }

    // The output has left the buffer of queries that it was stored from.
    __device__ __forceinline__ void free_queries(int filling) {
        tile_store_wait<0>();
        barrier_arrive(S::q_empty(smem, consumer, place_of<S::BUFFERS>(filling)));
    }

    // epilogue: O / Σ and logsumexp; O by way of the queries' buffer
    __device__ __forceinline__ void store(
        const TensorMap& output, float* logsumexp, const Work& work, int first_query) {
        const int lane = threadIdx.x % WARP, warp = threadIdx.x % GROUP_THREADS / WARP;
        float normalise[2];
        float* logs = logsumexp + (static_cast<size_t>(work.image) * problem.heads + work.head) * problem.tokens;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float total = lane_sum<4>(row_sum[half]);
            normalise[half] = __fdividef(1.0f, total);
            const int query = first_query + warp * 16 + lane / 4 + half * 8;
            if (lane % 4 == 0 && query < problem.tokens) logs[query] = (row_max[half] + log2f(total)) * LN_2;
        }

        shrink(normalise);

        // All warps have multiplied with the queries; registers -> smem -> global
        named_barrier(OWN + consumer, GROUP_THREADS);
        put<typename S::Rows>(out, 1.0f, queries());
        proxy_fence();
        named_barrier(OWN + consumer, GROUP_THREADS);
        if (is_first()) {
            S::Rows::store(queries(), output, work.head, first_query, work.image);
            tile_store_commit();
            if (S::BUFFERS == 1) free_queries(filled);
        }
        ++filled;
    }
};

template <class S>
__device__ __forceinline__ void consume(
    const TensorMap& output, float* logsumexp, const Problem& problem, uint32_t smem, int consumer,
    float exponent_scale) {
    const Schedule<S> schedule(problem);
    Consumer<S> self(problem, smem, consumer, exponent_scale);
    int before = -1;
    for (int round = 0, index; (index = schedule.index(round)) < schedule.count; ++round) {
        const Work work = schedule.work(problem, index);
        const Extent<S> extent(problem, work.first_query);
        const Turns<S> turns(extent, consumer, before, schedule.index(round + 1) < schedule.count);
        const int first_query = work.first_query + consumer * BOX;
        const int tiles = extent.tiles(consumer), whole = extent.whole_tiles(consumer);

        if (tiles > 0) {
            for (float& x : self.out) x = 0.0f;
            self.begin(first_query, whole == 0, turns);
            int tile = 1;
#pragma unroll 1
            for (; tile < whole; ++tile) self.template step<false>(tile, first_query, turns);
#pragma unroll 1
            for (; tile < tiles; ++tile) self.template step<true>(tile, first_query, turns);
            self.finish(tiles - 1);
            self.store(output, logsumexp, work, first_query);
        }
        self.skip(tiles, extent.all_tiles());
        self.at += extent.all_tiles();
        before = extent.active - 1;
    }
    if (self.is_first()) tile_store_wait<0>();
}

template <class S>
__device__ __forceinline__ void forward(
    const TensorMap& queries, const TensorMap& keys, const TensorMap& output, float* logsumexp, const Problem& problem,
    float scale) {
    extern __shared__ char dynamic[];
    const uint32_t smem = (shared_address(dynamic) + 1023) & ~1023u;
    const int number = group() - 1;

    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; ++stage) {
            barrier_init(S::k_full(smem, stage), 1);
            barrier_init(S::v_full(smem, stage), 1);
            barrier_init(S::k_empty(smem, stage), S::CONSUMERS);
            barrier_init(S::v_empty(smem, stage), S::CONSUMERS);
        }
        for (int buffer = 0; buffer < S::CONSUMERS * S::BUFFERS; ++buffer) {
            barrier_init(S::q_full(smem, 0, buffer), 1);
            barrier_init(S::q_empty(smem, 0, buffer), 1);
        }
        barrier_init_fence();
    }
    __syncthreads();

    if (number < 0) {
        registers_fewer<S::CONSUMERS == 3 ? 32 : 40>();
        if (threadIdx.x == 0) produce<S>(queries, keys, smem, problem);
        return;
    }
    registers_more<S::CONSUMERS == 3 ? 160 : 232>();
    consume<S>(output, logsumexp, problem, smem, number, scale * LOG2_E);
}

}  // namespace attention_sm90
