// GEMM in bf16 for compute capability 9.0: C = A · B by wgmma, with f32 accumulators.
//
// Persistent blocks of three warpgroups. One thread of the first, the producer, has TMA fill a ring of STAGES stages with tiles of 64 k's;
// the other two, the consumers, multiply. An mbarrier for each stage says that it is full, another that it is empty, so the producer runs
// ahead into the next tile of C while the consumers finish one.
//
//   cooperative   both consumers multiply the two halves of one tile of 128 × 256: 64 multiply-adds a byte of operands from L2
//   ping-pong     each consumer has tiles of 128 × 128 of its own: one multiplies while the other finishes its tile; 43
//
// Two blocks are a cluster: their tiles lie below one another, and have the tile of B in common. Each has TMA bring half of it from L2 to
// both (multicast); without, it would be 43 and 32 multiply-adds a byte. So a stage is full when both producers' copies are there, and
// empty when the consumers of both blocks have read it.
//
// Finished tiles of bf16 go through shared memory, 64 × 64 elements at a time, to TMA stores. TMA reads zeros outside of a tensor and
// writes nothing there, so edges need no code; but rows must be multiples of 16 bytes.
//
// The sums are those of gemm/bf16.cuh: 16 k's at a time in the same order, split at the same k's. Where tensor cores add the products of 16
// k's exactly, the bits are the same.
#pragma once

#include "../ptx_sm90.cuh"
#include "../ring.cuh"
#include "epilogue.cuh"
#include "tiles.cuh"

namespace gemm_sm90 {

constexpr int TILE_K = 64;
static_assert(TILE_K == SPLIT_K);
constexpr int THREADS = 384;
constexpr int CONSUMERS = 2;
constexpr int GROUP_THREADS = 128;
constexpr int CLUSTER = 2;
// Named barriers: of each consumer's threads, and of both for each one's turn.
constexpr int OWN = 1;
constexpr int TURNS = OWN + CONSUMERS;

// A tile of 64 rows of 128 bytes: what TMA moves at a time where rows are of the span, and what an epilogue stores.
constexpr int SLAB = 64;
constexpr int SLAB_BYTES = SLAB * 128;

template <bool PING_PONG>
struct Shape {
    static constexpr int TILE_M = 128;
    static constexpr int TILE_N = PING_PONG ? 128 : 256;
    static constexpr int STAGES = PING_PONG ? 5 : 4;
    // 64 rows each, of a consumer's part of the tile.
    static constexpr int PARTS = PING_PONG ? 2 : 1;
    static constexpr int A_BYTES = TILE_M * 128;
    static constexpr int STAGE_BYTES = A_BYTES + TILE_N * 128;
    // Two slabs for each consumer's epilogue.
    static constexpr int STAGING = STAGES * STAGE_BYTES;
    static constexpr int BARRIERS = STAGING + CONSUMERS * 2 * SLAB_BYTES;
    // And the room to begin at a multiple of 1024.
    static constexpr int SHARED_BYTES = BARRIERS + (2 * STAGES + CONSUMERS) * 8 + 1024;
};

// One tile of C, or of a split of it: this block's of the cluster's, which lie below one another.
struct Work {
    int first_m;
    int first_n;
    int split;
    KRange k;  // in tiles
};
template <class S>
__device__ __forceinline__ Work work_at(int index, int rank, int m, int n, int k, int splits) {
    const int rows = blocks_of(m, CLUSTER * S::TILE_M), columns = blocks_of(n, S::TILE_N);
    const TileIndex tile = tile_at(index % (rows * columns), rows, columns);
    const int split = index / (rows * columns);
    const KRange range = k_range(blocks_of(k, TILE_K), split, splits);
    return {(tile.m * CLUSTER + rank) * S::TILE_M, tile.n * S::TILE_N, split, range};
}

// The producer's part of one tile of work: its tiles of k -> smem, those of B by halves to all blocks of the cluster.
template <class S, Major A_MAJOR, Major B_MAJOR>
__device__ __forceinline__ void load_tile(
    const TensorMap& a, const TensorMap& b, uint32_t smem, int rank, const Work& work, Ring<S::STAGES>& ring) {
    constexpr uint16_t ALL_BLOCKS = (1 << CLUSTER) - 1;
    constexpr int SHARE = S::TILE_N / CLUSTER;
    const uint32_t full = smem + S::BARRIERS, empty = full + S::STAGES * 8;
    for (int tile = work.k.begin; tile < work.k.end; ++tile) {
        barrier_wait(empty + ring.stage * 8, ring.parity ^ 1);

        // stage k -> smem
        const uint32_t barrier = full + ring.stage * 8;
        const uint32_t a_tile = smem + ring.stage * S::STAGE_BYTES, b_tile = a_tile + S::A_BYTES;
        barrier_arrive_expect(barrier, S::STAGE_BYTES);
        if constexpr (A_MAJOR == Major::K) {
            tile_load(a_tile, a, tile * TILE_K, work.first_m, barrier);
        } else {
#pragma unroll
            for (int i = 0; i < S::TILE_M / SLAB; ++i)
                tile_load(a_tile + i * SLAB_BYTES, a, work.first_m + i * SLAB, tile * TILE_K, barrier);
        }
        const uint32_t share = b_tile + rank * SHARE * 128;
        const int first = work.first_n + rank * SHARE;
        if constexpr (B_MAJOR == Major::K) {
            tile_load_multicast(share, b, tile * TILE_K, first, barrier, ALL_BLOCKS);
        } else {
#pragma unroll
            for (int i = 0; i < SHARE / SLAB; ++i)
                tile_load_multicast(share + i * SLAB_BYTES, b, first + i * SLAB, tile * TILE_K, barrier, ALL_BLOCKS);
        }
        ring.advance(1);
    }
}

// Gives a stage back to the producers of all blocks of the cluster, whose copies go to all of them.
__device__ __forceinline__ void give_back(uint32_t barrier) {
    const int thread = threadIdx.x % GROUP_THREADS;
    if (thread < CLUSTER) barrier_arrive_in(barrier, thread);
}

// A consumer's products of one tile of work: its PARTS × 64 rows, from `first_row` of the tile on. The last of them are in flight, and
// with them the stage that is returned; -1 if there is none. `meanwhile` is called with the number of each tile of k when its products
// are in flight.
template <class S, Major A_MAJOR, Major B_MAJOR, int COUNT, class Meanwhile>
__device__ __forceinline__ int multiply(
    float (&accumulators)[S::PARTS][COUNT], const Work& work, int first_row, uint32_t smem, Ring<S::STAGES>& ring,
    const Meanwhile& meanwhile) {
    constexpr bool A_SPAN = A_MAJOR == Major::SPAN, B_SPAN = B_MAJOR == Major::SPAN;
    // Bytes from 16 k's to the next.
    constexpr int A_STEP = A_SPAN ? 16 * 128 : 32, B_STEP = B_SPAN ? 16 * 128 : 32;
    const uint32_t full = smem + S::BARRIERS, empty = full + S::STAGES * 8;

    // A split may be empty.
    if (work.k.begin == work.k.end) {
#pragma unroll
        for (int i = 0; i < S::PARTS * COUNT; ++i) accumulators[i / COUNT][i % COUNT] = 0.0f;
    }

    int before = -1;
    for (int tile = work.k.begin; tile < work.k.end; ++tile) {
        barrier_wait(full + ring.stage * 8, ring.parity);

        // C += A · B
        const uint32_t a_tile = smem + ring.stage * S::STAGE_BYTES + first_row * 128;
        const uint32_t b_tile = smem + ring.stage * S::STAGE_BYTES + S::A_BYTES;
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < TILE_K / 16; ++step) {
            const uint64_t b = operand_descriptor(b_tile + step * B_STEP, SLAB_BYTES);
#pragma unroll
            for (int part = 0; part < S::PARTS; ++part) {
                const uint64_t a = operand_descriptor(a_tile + part * SLAB_BYTES + step * A_STEP, SLAB_BYTES);
                wgmma<A_SPAN, B_SPAN>(accumulators[part], a, b, tile > work.k.begin || step > 0);
            }
        }
        wgmma_commit();
        meanwhile(tile);

        // The products of the stage before are done: it may be filled again.
        wgmma_wait<1>();
        if (before >= 0) give_back(empty + before * 8);
        before = ring.stage;
        ring.advance(1);
    }
    return before;
}

// Waits for the products in flight, and gives back their stage.
__device__ __forceinline__ void finish_products(int stage, uint32_t empty) {
    wgmma_wait<0>();
    if (stage >= 0) give_back(empty + stage * 8);
}

__device__ __forceinline__ float2 added(float2 x, float2 y) { return make_float2(x.x + y.x, x.y + y.y); }

// A warp's sums of one part of a tile that is cut (gemm/group.cuh), as they wait in memory for those of the other part: by halves of its
// rows, groups of 8 columns and lanes.
constexpr int PART_SUMS = 16 * Shape<false>::TILE_N;
__device__ __forceinline__ int part_at(int half, int group) {
    return (half * (Shape<false>::TILE_N / 8) + group) * WARP + threadIdx.x % WARP;
}
struct OtherPart {
    const float2* sums;  // null if there is none
    bool is_first;
};

// ACCUMULATE: straight from the accumulators; four lanes write the 32 bytes of 8 columns. The other part of the sum comes before or behind.
template <class S, int COUNT>
__device__ __forceinline__ void accumulate_tile(
    const float (&accumulators)[S::PARTS][COUNT], const EpilogueArguments<bf16>& to, int row, int column, int m, int n,
    OtherPart other) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x % GROUP_THREADS / WARP;
#pragma unroll
    for (int part = 0; part < S::PARTS; ++part) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int at_row = row + part * 64 + warp * 16 + half * 8 + lane / 4;
            if (at_row >= m) continue;
            float* total = to.total + static_cast<size_t>(at_row) * n;
#pragma unroll
            for (int group = 0; group < COUNT / 4; ++group) {
                const int at = column + group * 8 + lane % 4 * 2;
                if (at >= n) continue;
                float2* target = reinterpret_cast<float2*>(total + at);
                float2 sum =
                    make_float2(accumulators[part][group * 4 + half * 2], accumulators[part][group * 4 + half * 2 + 1]);
                float2 last = {};
                if (other.sums != nullptr) {
                    const float2 waiting = other.sums[part_at(half, group)];
                    last = other.is_first ? sum : waiting;
                    if (other.is_first) sum = waiting;
                }
                if (to.add) sum = added(*target, sum);
                *target = other.sums != nullptr ? added(sum, last) : sum;
            }
        }
    }
}

// Calls `body` with each index below COUNT, known when it is compiled: nvcc 12.4 does not unroll long loops, and accumulators whose index
// is not known lie in local memory.
template <int COUNT, class Body>
__device__ __forceinline__ void unrolled(const Body& body) {
    if constexpr (COUNT > 0) {
        unrolled<COUNT - 1>(body);
        body(Constant<COUNT - 1>());
    }
}

// + bias
template <class S, int COUNT>
__device__ __forceinline__ void add_bias(float (&accumulators)[S::PARTS][COUNT], const float* bias, int column, int n) {
#pragma unroll
    for (int group = 0; group < COUNT / 4; ++group) {
        const int at = column + group * 8 + threadIdx.x % 4 * 2;
        if (at >= n) continue;
        const float2 two = *reinterpret_cast<const float2*>(bias + at);
#pragma unroll
        for (int part = 0; part < S::PARTS; ++part) {
#pragma unroll
            for (int i = 0; i < 4; ++i) accumulators[part][group * 4 + i] += i % 2 ? two.y : two.x;
        }
    }
}

// STORE, ACTIVATE, ACTIVATE_BACKWARD: a slab at a time, through shared memory. `slabs`: those that this consumer has stored.
template <class S, Epilogue E, int ACTIVATION, int COUNT>
__device__ __forceinline__ void store_tile(
    const float (&accumulators)[S::PARTS][COUNT], const TensorMap& out, const TensorMap& hidden_map,
    const TensorMap& activated, int row, int column, int m, int n, uint32_t staging, uint32_t barrier, int& slabs) {
    const int thread = threadIdx.x % GROUP_THREADS, lane = thread % WARP, warp = thread / WARP;
    const int id = OWN + threadIdx.x / GROUP_THREADS - 1;
    const uint32_t second_slab = staging + SLAB_BYTES;
    // The row of a matrix that this lane addresses.
    const int matrix_row = warp * 16 + lane % 16;

#pragma unroll
    for (int part = 0; part < S::PARTS; ++part) {
#pragma unroll
        for (int slab = 0; slab < COUNT / 32; ++slab) {
            const int first_row = row + part * 64, first_column = column + slab * SLAB;
            if (first_row >= m || first_column >= n) continue;
            // One output has both slabs in turn; of two each has its own.
            const uint32_t first_slab = E == Epilogue::STORE ? staging + slabs % 2 * SLAB_BYTES : staging;

            // The last stores have read the slabs; of two in turn the one may still be read. hidden -> smem
            if (thread == 0) {
                tile_store_wait<E == Epilogue::STORE ? 1 : 0>();
                if constexpr (E == Epilogue::ACTIVATE_BACKWARD) {
                    barrier_arrive_expect(barrier, SLAB_BYTES);
                    tile_load(second_slab, hidden_map, first_column, first_row, barrier);
                }
            }
            if constexpr (E == Epilogue::ACTIVATE_BACKWARD) {
                barrier_wait(barrier, slabs % 2);
            } else {
                named_barrier(id, GROUP_THREADS);
            }

            // Two groups of 8 columns at a time, which are four matrices: registers -> smem
            const auto place = [&](int pair) {
                return matrix_row * 128 + ((pair * 2 + lane / 16) ^ matrix_row % 8) * 16;
            };
            unrolled<4>([&](auto index) {
                constexpr int pair = decltype(index)::value;
                uint32_t packed[4];
                [[maybe_unused]] uint32_t hidden[4];
                if constexpr (E == Epilogue::ACTIVATE_BACKWARD) load_matrices(hidden, second_slab + place(pair));
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const int at = (slab * 8 + pair * 2 + i / 2) * 4 + i % 2 * 2;
                    float x = accumulators[part][at], y = accumulators[part][at + 1];
                    if constexpr (E == Epilogue::ACTIVATE_BACKWARD) {
                        const Activated low = activate<ACTIVATION>(low_bf16(hidden[i]));
                        const Activated high = activate<ACTIVATION>(high_bf16(hidden[i]));
                        x *= low.slope;
                        y *= high.slope;
                        hidden[i] = pack_bf16(low.value, high.value);
                    }
                    packed[i] = pack_bf16(x, y);
                }
                store_matrices((E == Epilogue::ACTIVATE ? second_slab : first_slab) + place(pair), packed);
                if constexpr (E == Epilogue::ACTIVATE_BACKWARD) store_matrices(second_slab + place(pair), hidden);
            });

            // What a warp has put there is activated apart from the accumulators, so that erfc need not be there for each of them.
            if constexpr (E == Epilogue::ACTIVATE) {
#pragma unroll ACTIVATION == GELU ? 1 : 4
                for (int pair = 0; pair < 4; ++pair) {
                    uint32_t r[4];
                    load_matrices(r, second_slab + place(pair));
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        const float x = activate<ACTIVATION>(low_bf16(r[i])).value;
                        r[i] = pack_bf16(x, activate<ACTIVATION>(high_bf16(r[i])).value);
                    }
                    store_matrices(first_slab + place(pair), r);
                }
            }

            // smem -> global
            proxy_fence();
            named_barrier(id, GROUP_THREADS);
            if (thread == 0) {
                tile_store(out, first_column, first_row, first_slab);
                if constexpr (E == Epilogue::ACTIVATE) tile_store(hidden_map, first_column, first_row, second_slab);
                if constexpr (E == Epilogue::ACTIVATE_BACKWARD)
                    tile_store(activated, first_column, first_row, second_slab);
                tile_store_commit();
            }
            ++slabs;
        }
    }
}

// The block's barriers; `readers` consumers of each block of the cluster read a stage.
template <class S>
__device__ __forceinline__ void set_up_barriers(uint32_t smem, int readers) {
    const uint32_t full = smem + S::BARRIERS, empty = full + S::STAGES * 8, loaded = empty + S::STAGES * 8;
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < S::STAGES; ++stage) {
            barrier_init(full + stage * 8, 1);
            barrier_init(empty + stage * 8, CLUSTER * readers);
        }
        for (int consumer = 0; consumer < CONSUMERS; ++consumer) barrier_init(loaded + consumer * 8, 1);
        barrier_init_fence();
    }
    // No block arrives at a barrier that is not there yet.
    cluster_sync();
}

// The maps of tensors that an epilogue does not use are not read. EpilogueArguments has the bias, the total and the activation.
template <bool PING_PONG, Major A_MAJOR, Major B_MAJOR, Epilogue E>
__device__ __forceinline__ void gemm(
    const TensorMap& a, const TensorMap& b, const TensorMap& out, const TensorMap& hidden, const TensorMap& activated,
    int m, int n, int k, int splits, EpilogueArguments<bf16> to) {
    using S = Shape<PING_PONG>;
    extern __shared__ char dynamic[];
    const uint32_t smem = (shared_address(dynamic) + 1023) & ~1023u;
    const uint32_t empty = smem + S::BARRIERS + S::STAGES * 8, loaded = empty + S::STAGES * 8;
    const int group = threadIdx.x / GROUP_THREADS;
    const int rank = cluster_rank(), first = blockIdx.x / CLUSTER, step = gridDim.x / CLUSTER;
    const int count = blocks_of(m, CLUSTER * S::TILE_M) * blocks_of(n, S::TILE_N) * splits;

    // In the cooperative form both consumers read a stage.
    set_up_barriers<S>(smem, PING_PONG ? 1 : CONSUMERS);

    if (group == 0) {
        registers_fewer<40>();
        if (threadIdx.x == 0) {
            Ring<S::STAGES> ring;
            for (int index = first; index < count; index += step)
                load_tile<S, A_MAJOR, B_MAJOR>(a, b, smem, rank, work_at<S>(index, rank, m, n, k, splits), ring);
        }
        cluster_sync();
        return;
    }

    registers_more<232>();
    const int consumer = group - 1;
    const uint32_t staging = smem + S::STAGING + consumer * 2 * SLAB_BYTES;
    Ring<S::STAGES> ring;
    int slabs = 0, turn = 0;
    for (int index = first; index < count; index += step, ++turn) {
        const Work work = work_at<S>(index, rank, m, n, k, splits);
        if (PING_PONG && turn % CONSUMERS != consumer) {
            ring.advance(work.k.end - work.k.begin);
            continue;
        }

        float accumulators[S::PARTS][S::TILE_N / 2] = {};
        const int first_row = PING_PONG ? 0 : consumer * 64;
        // In ping-pong a consumer multiplies when the other has: they read the same ring, a stage of which tells only two fillings apart.
        if (PING_PONG && turn > 0) named_barrier(TURNS + consumer, CONSUMERS * GROUP_THREADS);
        const int last = multiply<S, A_MAJOR, B_MAJOR>(accumulators, work, first_row, smem, ring, [](int) {});
        if (PING_PONG && index + step < count) named_barrier_arrive(TURNS + (consumer ^ 1), CONSUMERS * GROUP_THREADS);
        finish_products(last, empty);

        const int row = work.first_m + first_row;
        if constexpr (E == Epilogue::ACCUMULATE) {
            EpilogueArguments<bf16> part = to;
            part.total += static_cast<size_t>(work.split) * m * n;
            accumulate_tile<S>(accumulators, part, row, work.first_n, m, n, {});
        } else {
            if (to.bias != nullptr) add_bias<S>(accumulators, to.bias, work.first_n, n);
            const auto store = [&](auto activation) {
                store_tile<S, E, decltype(activation)::value>(
                    accumulators, out, hidden, activated, row, work.first_n, m, n, staging, loaded + consumer * 8,
                    slabs);
            };
            if constexpr (E == Epilogue::STORE) {
                store(Constant<0>());
            } else {
                with_activation(to.activation, store);
            }
        }
    }
    if (threadIdx.x % GROUP_THREADS == 0) tile_store_wait<0>();
    // No block ends while another still sends to it.
    cluster_sync();
}

}  // namespace gemm_sm90
