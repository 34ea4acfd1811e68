// Attention's forward on compute capability 9.0: which tiles of queries a block works on, what its consumers see of the keys, and whose turn
// it is.
#pragma once

#include "tile_sm90.cuh"

namespace attention_sm90 {

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

// The order of work: section after section, of each the last queries first (under a causal mask they have most keys). The shorter half of a
// causal mask's comes after all sections: it evens out what blocks have to do, and reads a quarter of the keys. Blocks take turns forwards and
// backwards, so that none has the longest of each round.
template <class S>
struct Schedule {
    int tiles;
    int pairs;
    int count;
    // Tiles of queries that come after all sections.
    int late;
    __device__ __forceinline__ explicit Schedule(const Problem& problem)
        : tiles(blocks_of(problem.tokens, S::QUERIES)),
          pairs(problem.heads * problem.images),
          count(tiles * pairs),
          late(problem.causal ? tiles / 2 : 0) {}

    // This block's work of a round; `count` or more if it has none, and then none of later rounds.
    __device__ __forceinline__ int index(int round) const {
        const int blocks = gridDim.x, block = blockIdx.x;
        return round * blocks + (round % 2 == 0 ? block : blocks - 1 - block);
    }
    __device__ __forceinline__ Work work(const Problem& problem, int index) const {
        const int early = tiles - late;
        const bool is_late = index >= early * pairs;
        const int first = is_late ? 0 : index / (early * problem.section) * problem.section;
        const int within = index - (is_late ? early * pairs : first * early);
        const int together = is_late ? pairs : min(problem.section, pairs - first);
        const int tile = (is_late ? late : tiles) - 1 - within / together, pair = first + within % together;
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
        : active(min(S::CONSUMERS, blocks_of(problem.tokens - first_query, BOX))),
          first_query(first_query),
          tokens(problem.tokens),
          causal(problem.causal) {}

    __device__ __forceinline__ int tiles(int consumer) const {
        if (consumer >= active) return 0;
        return blocks_of(causal ? min(tokens, first_query + (consumer + 1) * BOX) : tokens, S::KEYS);
    }
    __device__ __forceinline__ int all_tiles() const { return tiles(active - 1); }
    // Those of them that no mask cuts.
    __device__ __forceinline__ int whole_tiles(int consumer) const {
        return (causal ? min(tokens, first_query + consumer * BOX + 1) : tokens) / S::KEYS;
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

}  // namespace attention_sm90
