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

#include "../ptx_sm90.cuh"
#include "../reduce.cuh"
#include "head.cuh"

namespace attention_sm90 {

constexpr int STAGES = 2;
constexpr int GROUP_THREADS = 128;
// Queries of a consumer.
constexpr int ROWS = 64;

template <int COLUMNS, int TILE_KEYS, int COUNT, int QUERY_BUFFERS>
struct Shape {
    static constexpr int D = COLUMNS;
    static constexpr int KEYS = TILE_KEYS;
    static constexpr int CONSUMERS = COUNT;
    static constexpr int QUERIES = CONSUMERS * ROWS;
    static constexpr int THREADS = (1 + CONSUMERS) * GROUP_THREADS;
    static constexpr int BUFFERS = QUERY_BUFFERS;
    // What TMA copies at a time: columns as wide as the swizzle. 96 columns are three of 64 bytes.
    static constexpr int ROW_BYTES = D % 64 == 0 ? 128 : 64;
    static constexpr int SLAB = ROW_BYTES / 2;
    static constexpr int SLABS = D / SLAB;
    static constexpr int Q_SLAB = ROWS * ROW_BYTES;
    static constexpr int Q_BYTES = SLABS * Q_SLAB;
    static constexpr int KEYS_SLAB = KEYS * ROW_BYTES;
    static constexpr int TILE_BYTES = SLABS * KEYS_SLAB;
    // smem: queries [CONSUMERS][BUFFERS], keys [STAGES], values [STAGES], barriers.
    static constexpr int K_TILES = CONSUMERS * BUFFERS * Q_BYTES;
    static constexpr int V_TILES = K_TILES + STAGES * TILE_BYTES;
    static constexpr int BARRIERS = V_TILES + STAGES * TILE_BYTES;
    static constexpr int BARRIER_COUNT = 4 * STAGES + 2 * CONSUMERS * BUFFERS;
    // And the room to begin at a multiple of 1024.
    static constexpr int SHARED_BYTES = BARRIERS + BARRIER_COUNT * 8 + 1024;
    // Consumers are at most a tile apart.
    static_assert(QUERIES % KEYS == 0 ? QUERIES / KEYS - blocks_of(ROWS, KEYS) <= 1 : (CONSUMERS - 1) * ROWS <= KEYS);

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

// What a launch is about.
struct Problem {
    int tokens;
    int heads;
    int images;
    int causal;
    // Heads of all images whose keys and values stay in the L2 cache together.
    int section;
};

// A tile of queries of one head of one image.
struct Work {
    int first_query;
    int head;
    int image;
};

// The order of work: section after section, of each the last queries first (under a causal mask they have most keys). Blocks take turns
// forwards and backwards, so that none has the longest of each round.
template <class S>
struct Schedule {
    int tiles;
    int count;
    __device__ __forceinline__ explicit Schedule(const Problem& problem)
        : tiles(blocks_of(problem.tokens, S::QUERIES)), count(tiles * problem.heads * problem.images) {}

    // This block's work of a round; `count` or more if it has none, and then none of later rounds.
    __device__ __forceinline__ int index(int round) const {
        const int blocks = gridDim.x, block = blockIdx.x;
        return round * blocks + (round % 2 == 0 ? block : blocks - 1 - block);
    }
    __device__ __forceinline__ Work work(const Problem& problem, int index) const {
        const int first = index / (tiles * problem.section) * problem.section;
        const int within = index - first * tiles;
        const int pairs = min(problem.section, problem.heads * problem.images - first);
        const int tile = tiles - 1 - within / pairs, pair = first + within % pairs;
        return {tile * S::QUERIES, pair % problem.heads, pair / problem.heads};
    }
};

// How many tiles of keys the consumers of a piece of work see. Later consumers see as many as earlier ones or more.
template <class S>
struct Extent {
    // Consumers with queries.
    int active;
    int first_query;
    int tokens;
    int causal;
    __device__ __forceinline__ Extent(const Problem& problem, int first_query)
        : active(min(S::CONSUMERS, blocks_of(problem.tokens - first_query, ROWS))),
          first_query(first_query),
          tokens(problem.tokens),
          causal(problem.causal) {}

    __device__ __forceinline__ int tiles(int consumer) const {
        if (consumer >= active) return 0;
        return blocks_of(causal ? min(tokens, first_query + (consumer + 1) * ROWS) : tokens, S::KEYS);
    }
    __device__ __forceinline__ int all_tiles() const { return tiles(active - 1); }
    // Those of them that no mask cuts.
    __device__ __forceinline__ int whole_tiles(int consumer) const {
        return (causal ? min(tokens, first_query + consumer * ROWS + 1) : tokens) / S::KEYS;
    }
};

// Named barriers: of each consumer's threads, and for each one's turn.
constexpr int OWN = 1;
template <class S>
constexpr int TURNS = OWN + S::CONSUMERS;

// Ping-pong: turns go round by tiles, of each tile to all consumers that see it, and on to the next work. Consumers see as many tiles as the
// last or one less. No turn follows one of the same consumer.
template <class S>
struct Turns {
    int consumer;
    // Waits for its turn of the first tile, and of later tiles below this one.
    bool waits;
    int waits_below;
    // Passes the turn to `next`; from the tile before the last on, if it is the last consumer, to the first that sees the last tile, and then
    // to the next work's first.
    int next;
    int ends_from;
    int next_of_last;
    int next_of_all;

    // `before`: the consumer whose turn ended the work before, -1 if there was none.
    __device__ __forceinline__ Turns(const Extent<S>& extent, int consumer, int before, bool more)
        : consumer(consumer) {
        const int last = extent.active - 1, tiles = extent.all_tiles();
        waits = consumer > 0 || (before >= 0 && before != consumer);
        waits_below = consumer < last ? tiles : consumer > 0 ? extent.tiles(consumer - 1) : 0;
        next = consumer < last ? consumer + 1 : 0;
        ends_from = consumer < last ? tiles : tiles - 2;
        next_of_last = 0;
#pragma unroll
        for (int i = 0; i + 1 < S::CONSUMERS; ++i) next_of_last += i < last && extent.tiles(i) < tiles;
        next_of_all = more ? 0 : consumer;
    }

    __device__ __forceinline__ void wait_first() const {
        if (waits) named_barrier(TURNS<S> + consumer, 2 * GROUP_THREADS);
    }
    __device__ __forceinline__ void wait(int tile) const {
        if (tile < waits_below) named_barrier(TURNS<S> + consumer, 2 * GROUP_THREADS);
    }
    __device__ __forceinline__ void pass(int tile) const {
        const int to = tile < ends_from ? next : tile == ends_from ? next_of_last : next_of_all;
        if (to != consumer) named_barrier_arrive(TURNS<S> + to, 2 * GROUP_THREADS);
    }
};

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
            barrier_arrive_expect(full, S::TILE_BYTES);
            to += place_of<STAGES>(at + tile) * S::TILE_BYTES;
#pragma unroll
            for (int slab = 0; slab < S::SLABS; ++slab) {
                tile_load(
                    to + slab * S::KEYS_SLAB, keys, slab * S::SLAB, part * problem.heads + work.head, tile * S::KEYS,
                    work.image, full);
            }
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
            barrier_arrive_expect(full, S::Q_BYTES);
#pragma unroll
            for (int slab = 0; slab < S::SLABS; ++slab) {
                tile_load(
                    smem + (consumer * S::BUFFERS + buffer) * S::Q_BYTES + slab * S::Q_SLAB, queries, slab * S::SLAB,
                    work.head, work.first_query + consumer * ROWS, work.image, full);
            }
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
        return smem + (consumer * S::BUFFERS + place_of<S::BUFFERS>(filled)) * S::Q_BYTES;
    }

    // S = Q Kᵀ: asks for it.
    __device__ __forceinline__ void multiply_keys(int tile) {
        wgmma_hold(scores);
        wgmma_fence();
        const Operand<S::ROW_BYTES> q(queries(), 16);
        const Operand<S::ROW_BYTES> k(smem + S::K_TILES + place_of<STAGES>(at + tile) * S::TILE_BYTES, 16);
#pragma unroll
        for (int c = 0; c < D / 16; ++c) {
            const int slab = c * 16 / S::SLAB, within = c * 16 % S::SLAB * 2;
            wgmma<0, 0>(scores, q.at(slab * S::Q_SLAB + within), k.at(slab * S::KEYS_SLAB + within), c > 0);
        }
        wgmma_commit();
    }

    // O += P V: asks for it.
    __device__ __forceinline__ void multiply_values(int tile) {
        wgmma_hold(weights);
        wgmma_hold(out);
        wgmma_fence();
        const Operand<S::ROW_BYTES> v(smem + S::V_TILES + place_of<STAGES>(at + tile) * S::TILE_BYTES, S::KEYS_SLAB);
#pragma unroll
        for (int j = 0; j < KEYS / 16; ++j) wgmma<1>(out, weights[j], v.at(j * 16 * S::ROW_BYTES), true);
        wgmma_commit();
    }

    // mask: keys past the last, and under a causal mask those later than their query.
    __device__ __forceinline__ void mask(int first_query, int tile) {
        const int lane = threadIdx.x % WARP, warp = threadIdx.x % GROUP_THREADS / WARP;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int query = first_query + warp * 16 + lane / 4 + half * 8;
            const int seen = problem.causal ? min(problem.tokens, query + 1) : problem.tokens;
            const int limit = seen - tile * KEYS - lane % 4 * 2;
#pragma unroll
            for (int i = 0; i < KEYS / 8; ++i) {
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    float& score = scores[i * 4 + half * 2 + e];
                    if (i * 8 + e >= limit) score = -INFINITY;
                }
            }
        }
    }

    // online softmax: P = exp(S − max), and what came before is to shrink by `factor`
    template <bool FIRST>
    __device__ __forceinline__ void softmax(float (&factor)[2]) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float largest[2] = {scores[half * 2], scores[half * 2 + 1]};
#pragma unroll
            for (int i = 1; i < KEYS / 8; ++i) {
#pragma unroll
                for (int e = 0; e < 2; ++e) largest[e] = fmaxf(largest[e], scores[i * 4 + half * 2 + e]);
            }
            // Finite: every query sees key 0, which came first.
            float new_max = lane_max<4>(fmaxf(largest[0], largest[1])) * exponent_scale;
            if constexpr (!FIRST) {
                new_max = fmaxf(row_max[half], new_max);
                factor[half] = exp2_approximate(row_max[half] - new_max);
            }
            row_max[half] = new_max;
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            // Two sums, so that an addition need not wait for the one before.
            float total[2] = {};
#pragma unroll
            for (int i = 0; i < KEYS / 8; ++i) {
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    float& score = scores[i * 4 + half * 2 + e];
                    score = exp2_approximate(fmaf(score, exponent_scale, -row_max[half]));
                    total[e] += score;
                }
            }
            const float sum = total[0] + total[1];
            row_sum[half] = FIRST ? sum : fmaf(row_sum[half], factor[half], sum);
        }
    }

    // Values of the tile whose scores are done. The next product needs them; but waited for here, before the last one's end: ptxas would
    // move that up, before the exponentials, but not over a loop.
    __device__ __forceinline__ void wait_values(int tile) {
        wgmma_hold(scores);
        barrier_wait(S::v_full(smem, place_of<STAGES>(at + tile)), parity_of<STAGES>(at + tile));
    }

    // P, rounded, as A operands.
    __device__ __forceinline__ void pack() {
#pragma unroll
        for (int j = 0; j < KEYS / 16; ++j) {
#pragma unroll
            for (int i = 0; i < 4; ++i) weights[j][i] = pack_bf16(scores[j * 8 + i * 2], scores[j * 8 + i * 2 + 1]);
        }
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
        if (masked) mask(first_query, 0);
        float factor[2];
        softmax<true>(factor);
        wait_values(0);
        pack();
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
        if constexpr (MASKED) mask(first_query, tile);
        float factor[2];
        softmax<false>(factor);
        wait_values(tile);

        wgmma_wait<0>();
        wgmma_hold(out);
        if (is_first()) barrier_arrive(S::v_empty(smem, before));
        pack();
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

        // All warps have multiplied with the queries; registers -> smem, two groups of 8 columns at a time
        named_barrier(OWN + consumer, GROUP_THREADS);
        const int row = warp * 16 + lane % 16;
        const int swizzle = S::ROW_BYTES == 128 ? row % 8 : row / 2 % 4;
#pragma unroll
        for (int pair = 0; pair < D / 16; ++pair) {
            const int slab = pair * 16 / S::SLAB, chunk = pair * 2 % (S::SLAB / 8) + lane / 16;
            uint32_t packed[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int element = pair * 8 + i * 2;
                packed[i] = pack_bf16(out[element] * normalise[i % 2], out[element + 1] * normalise[i % 2]);
            }
            store_matrices(
                queries() + slab * S::Q_SLAB + row * S::ROW_BYTES + (chunk ^ swizzle) * 16, packed[0], packed[1],
                packed[2], packed[3]);
        }

        // smem -> global
        proxy_fence();
        named_barrier(OWN + consumer, GROUP_THREADS);
        if (is_first()) {
#pragma unroll
            for (int slab = 0; slab < S::SLABS; ++slab) {
                tile_store(output, slab * S::SLAB, work.head, first_query, work.image, queries() + slab * S::Q_SLAB);
            }
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
        const int first_query = work.first_query + consumer * ROWS;
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
    // The same in all lanes, which the compiler cannot know of a thread's number.
    const int group = __shfl_sync(ALL_LANES, static_cast<int>(threadIdx.x) / GROUP_THREADS, 0);

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

    if (group == 0) {
        registers_fewer<S::CONSUMERS == 3 ? 32 : 40>();
        if (threadIdx.x == 0) produce<S>(queries, keys, smem, problem);
        return;
    }
    registers_more<S::CONSUMERS == 3 ? 160 : 232>();
    consume<S>(output, logsumexp, problem, smem, group - 1, scale * LOG2_E);
}

}  // namespace attention_sm90
