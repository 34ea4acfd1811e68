// Several GEMMs in one launch for compute capability 9.0 (group.cuh), by the cooperative form of sm90.cuh.
//
// Clusters share the tiles of all. Where a last wave of them would leave clusters without one, its tiles are cut along k, and those clusters
// have the last parts. Each part's sums go to memory, by warps; the warp that comes second finds those of the other part there and adds up
// both, in the order of k. Nobody waits for anybody, so it does not matter which blocks run at once, or in which order they begin.
#pragma once

#include "group.cuh"
#include "sm90.cuh"

namespace gemm_sm90 {

// The pieces of work of a cluster that shares tiles with others, of which the last are cut: tiles one after another, with all of their sums
// or the first parts, then last parts. Clusters that have a tile less than others have the last parts of as many as take its time; all
// share what is left. Which cluster has which changes no bit.
struct Pieces {
    int cluster;
    int clusters;
    int tiles;
    Cut cut;

    // Of a turn: a tile, or behind the tiles the last part of one of those that are cut; -1 if there is no more.
    __device__ __forceinline__ int at(int turn) const {
        const int over = tiles % clusters, own = tiles / clusters + (cluster < over);
        if (turn < own) return cluster + turn * clusters;
        turn -= own;

        const int idle = over > 0 ? clusters - over : 0, room = cut.parts - 1;
        int last = cluster - over + turn * idle;
        if (idle == 0 || cluster < over || turn >= room) {
            if (idle > 0 && cluster >= over) turn -= room;
            last = idle * room + cluster + turn * clusters;
        }
        return cut.whole + last < tiles ? tiles + last : -1;
    }
};

// A piece of several GEMMs' work. `cut` is the number of its tile among those that are cut, or -1.
struct GroupedWork {
    int gemm;
    int cut;
    bool is_last;
    Work work;
};
__device__ __forceinline__ GroupedWork
grouped_work(const Gemms<TensorMap>& gemms, const Pieces& pieces, int piece, int rank, int k) {
    using S = Shape<false>;
    const bool is_last = piece >= pieces.tiles;
    const int index = is_last ? pieces.cut.whole + piece - pieces.tiles : piece;
    const GroupedTile at = grouped_tile<CLUSTER * S::TILE_M, S::TILE_N>(gemms, index);
    const bool is_cut = index >= pieces.cut.whole;
    Work work = work_at<S>(at.tile, rank, gemms.m[at.gemm], gemms.n[at.gemm], k, 1);
    work.k = k_of(!is_cut ? Part::ALL : is_last ? Part::LAST : Part::FIRST, k, pieces.cut.parts);
    return {at.gemm, is_cut ? index - pieces.cut.whole : -1, is_last, work};
}

// Where the parts of tiles that are cut meet: sums of each warp's two parts, and whether one of them is there.
struct Meeting {
    float* sums;
    int* arrivals;
};

// This warp's sums of one part -> memory. If the other part is there already: where; else null, and who brings that adds up both.
template <int COUNT>
__device__ __forceinline__ OtherPart
meet(const float (&accumulators)[1][COUNT], const Meeting& meeting, const GroupedWork& piece, int rank) {
    constexpr int WARPS = CONSUMERS * GROUP_THREADS / WARP;
    const int warp = (piece.cut * CLUSTER + rank) * WARPS + threadIdx.x / WARP - GROUP_THREADS / WARP;
    float* parts = meeting.sums + static_cast<size_t>(warp) * 2 * PART_SUMS;
    float2* own = reinterpret_cast<float2*>(parts + piece.is_last * PART_SUMS);

    // this part -> memory
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int group = 0; group < COUNT / 4; ++group) {
            own[part_at(half, group)] =
                make_float2(accumulators[0][group * 4 + half * 2], accumulators[0][group * 4 + half * 2 + 1]);
        }
    }

    // The first leaves a mark, the second takes it away.
    __syncwarp();
    int other = 0;
    if (threadIdx.x % WARP == 0) {
        __threadfence();
        other = atomicXor(meeting.arrivals + warp, 1);
        __threadfence();
    }
    other = __shfl_sync(ALL_LANES, other, 0);
    __syncwarp();
    const float2* waiting = reinterpret_cast<const float2*>(parts + !piece.is_last * PART_SUMS);
    return {other ? waiting : nullptr, piece.is_last};
}

// Several GEMMs into f32 in the cooperative form (gemm/group.cuh), both operands with rows of their spans.
__device__ __forceinline__ void gemm_group(
    const Gemms<TensorMap>& gemms, int k, bool add, Cut cut, const Meeting& meeting) {
    using S = Shape<false>;
    static_assert(CLUSTER * S::TILE_M == CUT_TILE && S::TILE_N == CUT_TILE);
    extern __shared__ char dynamic[];
    const uint32_t smem = (shared_address(dynamic) + 1023) & ~1023u;
    const uint32_t empty = smem + S::BARRIERS + S::STAGES * 8;
    const int rank = cluster_rank();
    Pieces pieces = {static_cast<int>(blockIdx.x) / CLUSTER, static_cast<int>(gridDim.x) / CLUSTER, 0, cut};
    for (int gemm = 0; gemm < GROUP; ++gemm) pieces.tiles += tiles_of<CUT_TILE, CUT_TILE>(gemms, gemm);
    set_up_barriers<S>(smem, CONSUMERS);

    // The producer runs ahead through the pieces of all.
    Ring<S::STAGES> ring;
    if (threadIdx.x < GROUP_THREADS) {
        registers_fewer<40>();
        if (threadIdx.x == 0) {
            for (int turn = 0, piece; (piece = pieces.at(turn)) >= 0; ++turn) {
                const GroupedWork at = grouped_work(gemms, pieces, piece, rank, k);
                load_tile<S, Major::SPAN, Major::SPAN>(gemms.a[at.gemm], gemms.b[at.gemm], smem, rank, at.work, ring);
            }
        }
        cluster_sync();
        return;
    }

    registers_more<232>();
    const int first_row = (threadIdx.x / GROUP_THREADS - 1) * 64;
    for (int turn = 0, piece; (piece = pieces.at(turn)) >= 0; ++turn) {
        const GroupedWork at = grouped_work(gemms, pieces, piece, rank, k);
        float accumulators[S::PARTS][S::TILE_N / 2] = {};
        const int last =
            multiply<S, Major::SPAN, Major::SPAN>(accumulators, at.work, first_row, smem, ring, [](int) {});
        finish_products(last, empty);

        OtherPart other = {};
        if (at.cut >= 0) {
            other = meet(accumulators, meeting, at, rank);
            if (other.sums == nullptr) continue;
        }
        const EpilogueArguments<bf16> to = {nullptr, nullptr, nullptr, nullptr, gemms.totals[at.gemm], 0, add};
        const int row = at.work.first_m + first_row, m = gemms.m[at.gemm], n = gemms.n[at.gemm];
        accumulate_tile<S>(accumulators, to, row, at.work.first_n, m, n, other);
    }
    cluster_sync();
}

}  // namespace gemm_sm90
