// attention backward in bf16 on tensor cores: weights are computed again, tile by tile.
//
// With P = exp(scale · Q Kᵀ − logsumexp), dP = dO Vᵀ and delta the row sums of dO ∘ O: dS = P ∘ (dP − delta), dQ = scale · dS K,
// dK = scale · dSᵀ Q, dV = Pᵀ dO (Dao et al. 2022, algorithm 4). Two kernels, one by queries and one by keys, so that each block
// owns its accumulators: no atomics, deterministic, for 7 GEMMs where a single kernel has 5. P and dS never leave the registers of
// the warp that computed them: a block's rows (queries in the one kernel, keys in the other) are the rows of every GEMM.
// The kernel by queries comes first: it has the rows of dO, computes delta of them, and writes it for the other.
#pragma once

#include "delta.cuh"
#include "tile_bf16.cuh"

namespace attention_bf16 {

constexpr int ROWS = WARPS * 16;

// BY_KEYS: this block's rows are keys and its columns queries; otherwise rows are queries and columns keys. COLUMNS: of a stage.
// CHUNK: columns of a stage that are worked on at once. HOLD: rows stay in registers. ONE, TWO: which accumulators are wanted,
// dK (or dQ) and dV.
template <int D, bool BY_KEYS, int COLUMNS, int CHUNK, bool HOLD, bool ONE, bool TWO>
__device__ __forceinline__ void backward(
    const bf16* qkv, const bf16* dy, const bf16* output, const float* logsumexp, float* delta, bf16* d_qkv, int tokens,
    int head_dim, int causal, int aligned, float scale) {
    using T = Tile<D>;
    constexpr int ROW_BYTES = ROWS * D * 2, TILE_BYTES = COLUMNS * D * 2;
    extern __shared__ __align__(128) char smem[];
    char* rows_one = smem;                                             // K, or Q
    char* rows_two = smem + ROW_BYTES;                                 // V, or dO
    char* stages = smem + 2 * ROW_BYTES;                               // [2][Q or K, dO or V]
    float* stats = reinterpret_cast<float*>(stages + 4 * TILE_BYTES);  // [2][logsumexp, delta][COLUMNS], if BY_KEYS

    // the head, and this warp's rows
    const int heads = gridDim.y, width = heads * head_dim;
    const size_t image = static_cast<size_t>(blockIdx.z) * tokens * 3 * width + blockIdx.y * head_dim;
    const Head<bf16> q{qkv + image, static_cast<size_t>(3 * width), tokens, head_dim, aligned != 0};
    const Head<bf16> k{q.rows + width, q.stride, tokens, head_dim, q.aligned};
    const Head<bf16> v{q.rows + 2 * width, q.stride, tokens, head_dim, q.aligned};
    const size_t of_image = static_cast<size_t>(blockIdx.z) * tokens * width + blockIdx.y * head_dim;
    const Head<bf16> d{dy + of_image, static_cast<size_t>(width), tokens, head_dim, q.aligned};
    const float* logs = logsumexp + (static_cast<size_t>(blockIdx.z) * heads + blockIdx.y) * tokens;
    float* deltas = delta + (static_cast<size_t>(blockIdx.z) * heads + blockIdx.y) * tokens;
    const int first_row = static_cast<int>(BY_KEYS ? blockIdx.x : gridDim.x - 1 - blockIdx.x) * ROWS;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int warp_row = first_row + warp * 16;
    const int begin = BY_KEYS && causal ? first_row / COLUMNS : 0;
    const int end = blocks_of(!BY_KEYS && causal ? min(tokens, first_row + ROWS) : tokens, COLUMNS);

    // stage k -> smem
    const auto load = [&](int block) {
        char* tiles = stages + block % 2 * 2 * TILE_BYTES;
        T::template load<COLUMNS>(tiles, BY_KEYS ? q : k, block * COLUMNS);
        T::template load<COLUMNS>(tiles + TILE_BYTES, BY_KEYS ? d : v, block * COLUMNS);
        if (BY_KEYS && threadIdx.x < 2 * COLUMNS) {
            const int column = threadIdx.x % COLUMNS, query = block * COLUMNS + column;
            const float* from = threadIdx.x < COLUMNS ? logs : deltas;
            float* to = stats + block % 2 * 2 * COLUMNS + threadIdx.x;
            copy_async_4(shared_address(to), from + (query < tokens ? query : 0), query < tokens);
        }
        copy_async_commit();
    };

    // rows, stage 0 -> smem; O, if rows are queries, in the place of stage 1
    T::template load<ROWS>(rows_one, BY_KEYS ? k : q, first_row);
    T::template load<ROWS>(rows_two, BY_KEYS ? v : d, first_row);
    char* rows_out = stages + 2 * TILE_BYTES;
    if constexpr (!BY_KEYS) {
        static_assert(ROW_BYTES <= 2 * TILE_BYTES);
        T::template load<ROWS>(
            rows_out, Head<bf16>{output + of_image, d.stride, tokens, head_dim, d.aligned}, first_row);
    }
    load(begin);

    const float exponent_scale = scale * LOG2_E;
    float acc_one[ONE ? D / 8 : 1][4] = {};  // dK, or dQ
    float acc_two[TWO ? D / 8 : 1][4] = {};  // dV

    // logsumexp and delta of rows lane / 4 and lane / 4 + 8, if rows are queries
    float row_log[2] = {}, row_delta[2] = {};
    if constexpr (!BY_KEYS) {
        copy_async_wait<0>();
        // The rows and O have landed for every warp; before stage 1 is loaded, there is another barrier.
        __syncthreads();
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = warp * 16 + lane / 4 + half * 8, query = first_row + row;
            row_log[half] = query < tokens ? logs[query] * LOG2_E : 0.0f;
            row_delta[half] =
                sum_of_row<bf16, D, 4>(D % 64 == 0 && row % 2 != 0, [&](int chunk, auto& of_output, auto& of_dy) {
                    load_vector(reinterpret_cast<const bf16*>(rows_out + T::at(row, chunk)), of_output);
                    load_vector(reinterpret_cast<const bf16*>(rows_two + T::at(row, chunk)), of_dy);
                });
            if (lane % 4 == 0 && query < tokens) deltas[query] = row_delta[half];
        }
    }

    // stages of COLUMNS columns
    uint32_t row_fragments_one[HOLD ? D / 16 : 1][4], row_fragments_two[HOLD ? D / 16 : 1][4];
#pragma unroll 1
    for (int block = begin; block < end; ++block) {
        copy_async_wait<0>();
        // This stage has landed for every warp, and no warp still reads the other one.
        __syncthreads();

        // stage k+1 -> smem
        if (block + 1 < end) load(block + 1);
        const uint32_t one = shared_address(stages + block % 2 * 2 * TILE_BYTES), two = one + TILE_BYTES;
        const float* column_stats = stats + block % 2 * 2 * COLUMNS;

        // rows -> registers
        if (HOLD && block == begin) {
#pragma unroll
            for (int c = 0; c < D / 16; ++c) {
                T::a_fragment(shared_address(rows_one), warp * 16, c * 16, row_fragments_one[c]);
                T::a_fragment(shared_address(rows_two), warp * 16, c * 16, row_fragments_two[c]);
            }
        }

        // chunks of CHUNK columns
#pragma unroll 1
        for (int chunk = 0; chunk < COLUMNS; chunk += CHUNK) {
            const int first_column = block * COLUMNS + chunk;
            if (first_column >= tokens) break;

            // mask: skip the chunk if it hides every pair
            if (causal && (BY_KEYS ? first_column + CHUNK <= warp_row : first_column > warp_row + 15)) continue;

            // S = Q Kᵀ, dP = dO Vᵀ (both transposed if BY_KEYS)
            float p[CHUNK / 8][4] = {}, ds[CHUNK / 8][4] = {};
#pragma unroll
            for (int c = 0; c < D / 16; ++c) {
                uint32_t a_one[4], a_two[4];
                if constexpr (HOLD) {
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        a_one[e] = row_fragments_one[c][e];
                        a_two[e] = row_fragments_two[c][e];
                    }
                } else {
                    T::a_fragment(shared_address(rows_one), warp * 16, c * 16, a_one);
                    if constexpr (ONE) T::a_fragment(shared_address(rows_two), warp * 16, c * 16, a_two);
                }
#pragma unroll
                for (int j = 0; j < CHUNK / 16; ++j) {
                    uint32_t b[4];
                    T::b_fragment_transposed(one, chunk + j * 16, c * 16, b);
                    mma(p[2 * j], a_one, b[0], b[1]);
                    mma(p[2 * j + 1], a_one, b[2], b[3]);
                    if constexpr (ONE) {
                        T::b_fragment_transposed(two, chunk + j * 16, c * 16, b);
                        mma(ds[2 * j], a_two, b[0], b[1]);
                        mma(ds[2 * j + 1], a_two, b[2], b[3]);
                    }
                }
            }

            // mask, P = exp(S − logsumexp), dS = P ∘ (dP − delta)
            const bool edge =
                first_column + CHUNK > tokens ||
                (causal && (BY_KEYS ? first_column < warp_row + 15 : first_column + CHUNK - 1 > warp_row));
#pragma unroll
            for (int j = 0; j < CHUNK / 8; ++j) {
                float2 column_log, column_delta;
                if (BY_KEYS) {
                    const float* pair = column_stats + chunk + j * 8 + lane % 4 * 2;
                    column_log = *reinterpret_cast<const float2*>(pair);
                    column_delta = *reinterpret_cast<const float2*>(pair + COLUMNS);
                }
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    const float log = BY_KEYS ? (e % 2 ? column_log.y : column_log.x) * LOG2_E : row_log[e / 2];
                    const float shift = BY_KEYS ? (e % 2 ? column_delta.y : column_delta.x) : row_delta[e / 2];
                    p[j][e] = exp2_approximate(fmaf(p[j][e], exponent_scale, -log));
                    if (edge) {
                        const int column = first_column + j * 8 + lane % 4 * 2 + e % 2;
                        const int row = warp_row + lane / 4 + e / 2 * 8;
                        const bool hidden = causal && (BY_KEYS ? row > column : column > row);
                        // For a key or query past the end it may be infinite.
                        if (hidden || column >= tokens || row >= tokens) p[j][e] = 0.0f;
                    }
                    ds[j][e] = p[j][e] * (ds[j][e] - shift);
                }
            }

            // dK += dSᵀ Q and dV += Pᵀ dO, or dQ += dS K
#pragma unroll
            for (int j = 0; j < CHUNK / 16; ++j) {
                uint32_t a[4], b[4];
                if constexpr (ONE) {
                    as_a_fragment(ds[2 * j], ds[2 * j + 1], a);
#pragma unroll
                    for (int c = 0; c < D / 16; ++c) {
                        T::b_fragment(one, chunk + j * 16, c * 16, b);
                        mma(acc_one[2 * c], a, b[0], b[1]);
                        mma(acc_one[2 * c + 1], a, b[2], b[3]);
                    }
                }
                if constexpr (TWO) {
                    as_a_fragment(p[2 * j], p[2 * j + 1], a);
#pragma unroll
                    for (int c = 0; c < D / 16; ++c) {
                        T::b_fragment(two, chunk + j * 16, c * 16, b);
                        mma(acc_two[2 * c], a, b[0], b[1]);
                        mma(acc_two[2 * c + 1], a, b[2], b[3]);
                    }
                }
            }
        }
    }
    copy_async_wait<0>();

    // epilogue: accumulators -> smem -> 16-byte stores
    bf16* out = d_qkv + image;
    if constexpr (ONE) {
#pragma unroll
        for (int j = 0; j < D / 8; ++j) {
#pragma unroll
            for (int e = 0; e < 4; ++e) acc_one[j][e] *= scale;
        }
        T::store(rows_one, warp * 16, acc_one, BY_KEYS ? out + width : out, q, warp_row);
    }
    if constexpr (TWO) T::store(rows_two, warp * 16, acc_two, out + 2 * width, q, warp_row);
}

// dK and dV in one pass, or in two passes where the registers do not hold both accumulators (D = 192 spilled 80 bytes).
template <int D, bool BY_KEYS, int COLUMNS, int CHUNK, bool HOLD>
__device__ __forceinline__ void backward(
    const bf16* qkv, const bf16* dy, const bf16* output, const float* logsumexp, float* delta, bf16* d_qkv, int tokens,
    int head_dim, int causal, int aligned, float scale) {
    if constexpr (BY_KEYS && D > 128) {
        backward<D, BY_KEYS, COLUMNS, CHUNK, HOLD, false, true>(
            qkv, dy, output, logsumexp, delta, d_qkv, tokens, head_dim, causal, aligned, scale);
        // No warp still reads shared memory.
        __syncthreads();
        backward<D, BY_KEYS, COLUMNS, CHUNK, HOLD, true, false>(
            qkv, dy, output, logsumexp, delta, d_qkv, tokens, head_dim, causal, aligned, scale);
    } else {
        backward<D, BY_KEYS, COLUMNS, CHUNK, HOLD, true, BY_KEYS>(
            qkv, dy, output, logsumexp, delta, d_qkv, tokens, head_dim, causal, aligned, scale);
    }
}

}  // namespace attention_bf16
