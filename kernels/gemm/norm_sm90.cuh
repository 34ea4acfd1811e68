// A GEMM of 9.0 and the norm of what it adds to: sum = x + (A · B + bias), normed = norm(sum), in one launch.
//
// The cooperative form of sm90.cuh, whose producer is one warp; the other three of its warpgroup normalise. A row of the norm has the columns
// of several tiles, of as many blocks: so tiles go to memory (delta), and where all of a panel, 128 rows, are there, their blocks share its rows.
// Of S, whose rows are two tiles wide:
//
//   block 0    consumers     | tile (0, 0)     | tile (2, 0)     |
//              normalisers                         | rows 0-63       | rows 256-319 |
//   block 1    consumers     | tile (0, 1)     | tile (2, 1)     |
//              normalisers                         | rows 64-127     | rows 320-383 |
//
// So what the norm reads and writes passes while tensor cores multiply, and the rows that are left at the end are shared by all blocks.
//
// arrivals: an integer of each panel, zero between launches. A consumer adds one when its part of a tile is in memory, which it looks at in
// the midst of its next tile, so that it waits for nothing; a warp of normalisers when it has seen that all consumers have; and the last of
// all makes it zero. Normalisers wait for other blocks: all must run at once (a cooperative launch).
#pragma once

#include "../norm/row.cuh"
#include "sm90.cuh"

namespace gemm_sm90 {

constexpr int NORM_WARPS = GROUP_THREADS / WARP - 1;
// Stages of a tile after which the stores of the tile before are looked at: they took some microseconds, and are done.
constexpr int LOOK_AT = 4;

struct NormArguments {
    const bf16* x;      // [m, n]
    const bf16* delta;  // [m, n]
    const float* gain;  // [n]
    const float* bias;  // [n], or null
    bf16* sum;          // [m, n]
    bf16* normed;       // [m, n]
    float2* stats;      // [m]: mean, rstd
    unsigned* arrivals;
    // Those of consumers that normalisers wait for, of a panel.
    unsigned needed;
    float epsilon;
    int centre;
};

// The arrivals of a panel: of both consumers of each tile's block, and of its normalisers.
__device__ __forceinline__ unsigned arrivals_of(int columns) { return (CONSUMERS + NORM_WARPS) * columns; }

// What a warp of normalisers holds at once: pieces of 512 columns. A row of several is what as many warps of layernorm.cu have, with the
// same sums; of narrow ones it holds several, so that as much is under way.
constexpr int PIECES = 4;

// Rows from `first` on: x + delta -> sum; its norm -> normed, stats. A row has ROW_PIECES pieces.
template <int ROW_PIECES>
__device__ __forceinline__ void normalise(const NormArguments& with, int first, int end, int width) {
    constexpr int ROWS = PIECES / ROW_PIECES;
    using Columns = row_norm::Columns<ROW_PIECES, true, VECTOR<bf16>>;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP - 1;
    // Of four pieces of 1536 columns the last two are half full.
    const auto values = [](int piece) { return piece % ROW_PIECES < 2 ? row_norm::VALUES : row_norm::VALUES / 2; };
    float gain[ROW_PIECES][row_norm::VALUES];
#pragma unroll
    for (int piece = 0; piece < ROW_PIECES; ++piece)
        Columns{piece * WARP + lane, width, values(piece)}.load(with.gain, gain[piece]);

    for (int row = first + warp * ROWS; row < end; row += NORM_WARPS * ROWS) {
        // A row past the end has no columns.
        const auto columns = [&](int piece) {
            return Columns{piece % ROW_PIECES * WARP + lane, row + piece / ROW_PIECES < end ? width : 0, values(piece)};
        };
        const auto at = [&](int piece) { return static_cast<size_t>(row + piece / ROW_PIECES) * width; };

        // x, delta -> registers
        row_norm::Packed stream[PIECES], delta[PIECES];
#pragma unroll
        for (int piece = 0; piece < PIECES; ++piece) {
            stream[piece].load(columns(piece), with.x + at(piece));
            delta[piece].load(columns(piece), with.delta + at(piece));
        }

        // x + delta -> sum
#pragma unroll
        for (int piece = 0; piece < PIECES; ++piece) {
            float v[row_norm::VALUES], added[row_norm::VALUES];
            stream[piece].unpack(v);
            delta[piece].unpack(added);
            row_norm::add<bf16>(v, added);
            stream[piece].pack(v);
            stream[piece].store(columns(piece), with.sum + at(piece));
        }

        // mean, rstd: the sums of a row's pieces, in order
        const auto sum_of_row = [&](float (&sums)[PIECES]) {
#pragma unroll
            for (float& part : sums) part = lane_sum(part);
#pragma unroll
            for (int piece = 0; piece < PIECES; ++piece) {
                if (piece % ROW_PIECES > 0) sums[piece] += sums[piece - 1];
            }
        };
        const auto last_of_row = [](int piece) { return (piece / ROW_PIECES + 1) * ROW_PIECES - 1; };
        float means[PIECES] = {}, squares[PIECES];
        if (with.centre) {
#pragma unroll
            for (int piece = 0; piece < PIECES; ++piece) {
                float v[row_norm::VALUES];
                stream[piece].unpack(v);
                means[piece] = row_norm::total(v);
            }
            sum_of_row(means);
#pragma unroll
            for (float& mean : means) mean /= width;
        }
#pragma unroll
        for (int piece = 0; piece < PIECES; ++piece) {
            float v[row_norm::VALUES];
            stream[piece].unpack(v);
            squares[piece] = row_norm::centred_squares(v, columns(piece), means[last_of_row(piece)]);
        }
        sum_of_row(squares);

        // (x − mean) · rstd · gain + bias -> normed
#pragma unroll
        for (int piece = 0; piece < PIECES; ++piece) {
            const float mean = means[last_of_row(piece)];
            const float rstd = row_norm::rstd_of(squares[last_of_row(piece)], width, with.epsilon);
            float v[row_norm::VALUES], bias[row_norm::VALUES] = {};
            if (with.bias != nullptr) columns(piece).load(with.bias, bias);
            stream[piece].unpack(v);
            row_norm::centre(v, mean);
            row_norm::scale(v, rstd, gain[piece % ROW_PIECES], bias);
            columns(piece).store(with.normed + at(piece), v);
            if (lane == 0 && piece % ROW_PIECES == 0 && row + piece / ROW_PIECES < end)
                with.stats[row + piece / ROW_PIECES] = make_float2(mean, rstd);
        }
    }
}

// A warp of normalisers: of each tile of its block, a share of the panel's rows.
template <class S>
__device__ __forceinline__ void normalise_tiles(
    const NormArguments& with, int first, int count, int step, int rank, int m, int n, int k) {
    const int columns = blocks_of(n, S::TILE_N), share = blocks_of(S::TILE_M, columns);
    for (int index = first; index < count; index += step) {
        const Work work = work_at<S>(index, rank, m, n, k, 1);

        // Until the panel is there.
        if (threadIdx.x % WARP == 0) {
            unsigned* arrivals = with.arrivals + work.first_m / S::TILE_M;
            while (load_acquire(arrivals) < with.needed) __nanosleep(100);
            atomicInc(arrivals, arrivals_of(columns) - 1);
        }
        __syncwarp();

        const int row = work.first_m + work.first_n / S::TILE_N * share;
        const int end = min(m, min(work.first_m + S::TILE_M, row + share));
        if (n <= row_norm::VALUES * WARP) {
            normalise<1>(with, row, end, n);
        } else if (n <= 2 * row_norm::VALUES * WARP) {
            normalise<2>(with, row, end, n);
        } else {
            normalise<4>(with, row, end, n);
        }
    }
}

// Sums of A [m, k] · B [k, n] + bias -> delta, and the norm.
__device__ __forceinline__ void gemm_norm(
    const TensorMap& a, const TensorMap& b, const TensorMap& delta, int m, int n, int k, const float* bias,
    const NormArguments& with) {
    using S = Shape<false>;
    extern __shared__ char dynamic[];
    const uint32_t smem = (shared_address(dynamic) + 1023) & ~1023u;
    const uint32_t empty = smem + S::BARRIERS + S::STAGES * 8, loaded = empty + S::STAGES * 8;
    const int group = threadIdx.x / GROUP_THREADS, thread = threadIdx.x % GROUP_THREADS;
    const int rank = cluster_rank(), first = blockIdx.x / CLUSTER, step = gridDim.x / CLUSTER;
    const int columns = blocks_of(n, S::TILE_N), count = blocks_of(m, CLUSTER * S::TILE_M) * columns;
    set_up_barriers<S>(smem, CONSUMERS);

    if (group == 0) {
        if (thread >= WARP) normalise_tiles<S>(with, first, count, step, rank, m, n, k);
        if (thread == 0) {
            Ring<S::STAGES> ring;
            for (int index = first; index < count; index += step)
                load_tile<S, Major::K, Major::SPAN>(a, b, smem, rank, work_at<S>(index, rank, m, n, k, 1), ring);
        }
        cluster_sync();
        return;
    }

    // All have the 168 registers that they begin with: normalisers need as many as consumers.
    const int first_row = (group - 1) * 64;
    const uint32_t staging = smem + S::STAGING + (group - 1) * 2 * SLAB_BYTES;
    Ring<S::STAGES> ring;
    int slabs = 0;
    // The panel of the tile whose stores are under way, or -1.
    int panel = -1;
    const auto arrive = [&] {
        if (thread == 0 && panel >= 0) {
            tile_store_finish();
            __threadfence();
            atomicInc(with.arrivals + panel, arrivals_of(columns) - 1);
        }
    };
    for (int index = first; index < count; index += step) {
        const Work work = work_at<S>(index, rank, m, n, k, 1);
        const int look_at = min(work.k.end - 1, LOOK_AT);

        float accumulators[S::PARTS][S::TILE_N / 2] = {};
        const int last = multiply<S, Major::K, Major::SPAN>(accumulators, work, first_row, smem, ring, [&](int tile) {
            if (tile == look_at) arrive();
        });
        finish_products(last, empty);

        if (bias != nullptr) add_bias<S>(accumulators, bias, work.first_n, n);
        store_tile<S, Epilogue::STORE, 0>(
            accumulators, delta, delta, delta, work.first_m + first_row, work.first_n, m, n, staging, loaded, slabs);
        panel = work.first_m / S::TILE_M;
    }
    arrive();
    // No block ends while another still sends to it.
    cluster_sync();
}

}  // namespace gemm_sm90
