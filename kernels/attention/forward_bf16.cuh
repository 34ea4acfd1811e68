// attention forward in bf16 on tensor cores: never holds more than a tile of scores (flash attention, Dao et al. 2022).
#pragma once

#include "tile_bf16.cuh"

namespace attention_bf16 {

// ROW_TILES: 16-row tiles of queries per warp. HOLD: queries stay in registers.
template <int D, int ROW_TILES, int KEYS, bool HOLD>
__device__ __forceinline__ void forward(
    const bf16* qkv, bf16* output, float* logsumexp, int tokens, int head_dim, int causal, int aligned, float scale) {
    using T = Tile<D>;
    constexpr int QUERIES = WARPS * ROW_TILES * 16;
    constexpr int TILE_BYTES = KEYS * D * 2;
    extern __shared__ __align__(128) char smem[];
    char* q_tile = smem;                    // [QUERIES][D]
    char* stages = smem + QUERIES * D * 2;  // [2][keys, values][KEYS][D]

    // the head, and this warp's queries
    const int heads = gridDim.y, width = heads * head_dim;
    const bf16* image = qkv + static_cast<size_t>(blockIdx.z) * tokens * 3 * width + blockIdx.y * head_dim;
    const Head<bf16> q{image, static_cast<size_t>(3 * width), tokens, head_dim, aligned != 0};
    const Head<bf16> k{image + width, q.stride, tokens, head_dim, q.aligned};
    const Head<bf16> v{image + 2 * width, q.stride, tokens, head_dim, q.aligned};
    const int first_query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * QUERIES;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int warp_row = warp * ROW_TILES * 16;
    const int warp_query = first_query + warp_row;
    const int blocks = blocks_of(causal ? min(tokens, first_query + QUERIES) : tokens, KEYS);

    // Q, stage 0 -> smem
    T::template load<QUERIES>(q_tile, q, first_query);
    T::template load<KEYS>(stages, k, 0);
    T::template load<KEYS>(stages + TILE_BYTES, v, 0);
    copy_async_commit();

    const float exponent_scale = scale * LOG2_E;
    float out[ROW_TILES][D / 8][4] = {};
    // Of rows lane / 4 and lane / 4 + 8 of each tile: the maximum so far, in units of ln 2, and the sum of exponentials.
    float row_max[ROW_TILES][2], row_sum[ROW_TILES][2];
    uint32_t q_fragments[HOLD ? D / 16 : 1][ROW_TILES][4];
#pragma unroll
    for (int i = 0; i < ROW_TILES; ++i) {
        row_max[i][0] = row_max[i][1] = -INFINITY;
        row_sum[i][0] = row_sum[i][1] = 0.0f;
    }

    // blocks of KEYS keys
#pragma unroll 1
    for (int block = 0; block < blocks; ++block) {
        copy_async_wait<0>();
        // This stage has landed for every warp, and no warp still reads the other one.
        __syncthreads();

        // stage k+1 -> smem
        const uint32_t k_tile = shared_address(stages + block % 2 * 2 * TILE_BYTES), v_tile = k_tile + TILE_BYTES;
        const int first_key = block * KEYS;
        if (block + 1 < blocks) {
            char* next = stages + (block + 1) % 2 * 2 * TILE_BYTES;
            T::template load<KEYS>(next, k, first_key + KEYS);
            T::template load<KEYS>(next + TILE_BYTES, v, first_key + KEYS);
        }
        copy_async_commit();

        // Q -> registers
        if (HOLD && block == 0) {
#pragma unroll
            for (int c = 0; c < D / 16; ++c) {
#pragma unroll
                for (int i = 0; i < ROW_TILES; ++i)
                    T::a_fragment(shared_address(q_tile), warp_row + i * 16, c * 16, q_fragments[c][i]);
            }
        }

        // mask: skip the block if all its keys are later than this warp's queries
        if (causal && first_key > warp_query + ROW_TILES * 16 - 1) continue;

        // S = Q Kᵀ
        float scores[ROW_TILES][KEYS / 8][4] = {};
#pragma unroll
        for (int c = 0; c < D / 16; ++c) {
            uint32_t q_fragment[ROW_TILES][4];
#pragma unroll
            for (int i = 0; i < ROW_TILES; ++i) {
                if constexpr (HOLD) {
#pragma unroll
                    for (int e = 0; e < 4; ++e) q_fragment[i][e] = q_fragments[c][i][e];
                } else {
                    T::a_fragment(shared_address(q_tile), warp_row + i * 16, c * 16, q_fragment[i]);
                }
            }
#pragma unroll
            for (int j = 0; j < KEYS / 16; ++j) {
                uint32_t k_fragment[4];
                T::b_fragment_transposed(k_tile, j * 16, c * 16, k_fragment);
#pragma unroll
                for (int i = 0; i < ROW_TILES; ++i) {
                    mma(scores[i][2 * j], q_fragment[i], k_fragment[0], k_fragment[1]);
                    mma(scores[i][2 * j + 1], q_fragment[i], k_fragment[2], k_fragment[3]);
                }
            }
        }

        // mask
        if (first_key + KEYS > tokens || (causal && first_key + KEYS - 1 > warp_query)) {
#pragma unroll
            for (int i = 0; i < ROW_TILES; ++i) {
#pragma unroll
                for (int j = 0; j < KEYS / 8; ++j) {
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        const int key = first_key + j * 8 + lane % 4 * 2 + e % 2;
                        const int query = warp_query + i * 16 + lane / 4 + e / 2 * 8;
                        if (key >= tokens || (causal && key > query)) scores[i][j][e] = -INFINITY;
                    }
                }
            }
        }

        // online softmax: P = exp(S − max), and what came before shrinks to the new maximum
#pragma unroll
        for (int i = 0; i < ROW_TILES; ++i) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                float new_max = -INFINITY;
#pragma unroll
                for (int j = 0; j < KEYS / 8; ++j) {
                    new_max = fmaxf(new_max, fmaxf(scores[i][j][2 * half], scores[i][j][2 * half + 1]));
                }
                // Finite: every query sees key 0, which came first.
                new_max = fmaxf(row_max[i][half], lane_max<4>(new_max) * exponent_scale);
                const float factor = exp2_approximate(row_max[i][half] - new_max);
                row_max[i][half] = new_max;

                float total = 0.0f;
#pragma unroll
                for (int j = 0; j < KEYS / 8; ++j) {
#pragma unroll
                    for (int e = 2 * half; e < 2 * half + 2; ++e) {
                        scores[i][j][e] = exp2_approximate(fmaf(scores[i][j][e], exponent_scale, -new_max));
                        total += scores[i][j][e];
                    }
                }
                row_sum[i][half] = fmaf(row_sum[i][half], factor, total);
#pragma unroll
                for (int j = 0; j < D / 8; ++j) {
                    out[i][j][2 * half] *= factor;
                    out[i][j][2 * half + 1] *= factor;
                }
            }
        }

        // O += P V
#pragma unroll
        for (int j = 0; j < KEYS / 16; ++j) {
            uint32_t p[ROW_TILES][4];
#pragma unroll
            for (int i = 0; i < ROW_TILES; ++i) as_a_fragment(scores[i][2 * j], scores[i][2 * j + 1], p[i]);
#pragma unroll
            for (int c = 0; c < D / 16; ++c) {
                uint32_t v_fragment[4];
                T::b_fragment(v_tile, j * 16, c * 16, v_fragment);
#pragma unroll
                for (int i = 0; i < ROW_TILES; ++i) {
                    mma(out[i][2 * c], p[i], v_fragment[0], v_fragment[1]);
                    mma(out[i][2 * c + 1], p[i], v_fragment[2], v_fragment[3]);
                }
            }
        }
    }

    // epilogue: O / Σ and logsumexp
    const Head<bf16> o{nullptr, static_cast<size_t>(width), tokens, head_dim, q.aligned};
    bf16* out_rows = output + static_cast<size_t>(blockIdx.z) * tokens * width + blockIdx.y * head_dim;
    float* logs = logsumexp + (static_cast<size_t>(blockIdx.z) * heads + blockIdx.y) * tokens;
#pragma unroll
    for (int i = 0; i < ROW_TILES; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float total = lane_sum<4>(row_sum[i][half]);
            const float normalise = 1.0f / total;
#pragma unroll
            for (int j = 0; j < D / 8; ++j) {
                out[i][j][2 * half] *= normalise;
                out[i][j][2 * half + 1] *= normalise;
            }
            const int query = warp_query + i * 16 + lane / 4 + half * 8;
            if (lane % 4 == 0 && query < tokens) logs[query] = (row_max[i][half] + log2f(total)) * LN_2;
        }
        T::store(q_tile, warp_row + i * 16, out[i], out_rows, o, warp_query + i * 16);
    }
}

}  // namespace attention_bf16
