// attention, bf16: multi-head attention that never holds more than a tile of scores (flash attention, Dao et al. 2022).
//
// reads   qkv [batch, tokens, 3 · heads · head_dim]: columns q ‖ k ‖ v
// writes  output [batch, tokens, heads · head_dim], logsumexp [batch, heads, tokens] f32 = ln Σ exp(scale · q · k)
// sums    f32; a query's keys tile after tile: deterministic
// grid    x: blocks of queries, the last first (under a causal mask they have most keys), y: heads, z: images
// block   4 warps of 16 or 32 queries each; dynamic shared memory: the block's queries, and two stages of keys and values,
//         the second copied (cp.async) while the first is multiplied; one barrier a stage
//
// _16 .. _192: columns D that a head is padded to in shared memory; head_dim <= D. `aligned`: head_dim divisible by 8, qkv and
// output by 16 bytes.
#include "attention/tile_bf16.cuh"

namespace attention_bf16 {

// ROW_TILES: 16-row tiles of queries a warp. HOLD: queries stay in registers.
template <int D, int ROW_TILES, int KEYS, bool HOLD>
__device__ __forceinline__ void forward(
    const bf16* qkv, bf16* output, float* logsumexp, int tokens, int head_dim, int causal, int aligned, float scale) {
    using T = Tile<D>;
    constexpr int QUERIES = WARPS * ROW_TILES * 16;
    constexpr int TILE_BYTES = KEYS * D * 2;
    extern __shared__ __align__(128) char shared[];
    char* q_tile = shared;
    char* stages = shared + QUERIES * D * 2;    // [2][keys, values]

    const int heads = gridDim.y, width = heads * head_dim;
    const bf16* image = qkv + static_cast<size_t>(blockIdx.z) * tokens * 3 * width + blockIdx.y * head_dim;
    const Head q{image, static_cast<size_t>(3 * width), tokens, head_dim, aligned != 0};
    const Head k{image + width, q.stride, tokens, head_dim, q.aligned};
    const Head v{image + 2 * width, q.stride, tokens, head_dim, q.aligned};
    const int first_query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * QUERIES;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int warp_row = warp * ROW_TILES * 16;
    const int warp_query = first_query + warp_row;
    const int blocks = blocks_of(causal ? min(tokens, first_query + QUERIES) : tokens, KEYS);

    T::template load<QUERIES>(q_tile, q, first_query);
    T::template load<KEYS>(stages, k, 0);
    T::template load<KEYS>(stages + TILE_BYTES, v, 0);
    copy_async_commit();

    const float exponent_scale = scale * LOG2_E;
    float out[ROW_TILES][D / 8][4] = {};
    // Of rows lane / 4 and lane / 4 + 8 of each tile, in units of ln 2.
    float max[ROW_TILES][2], sum[ROW_TILES][2];
    uint32_t held[HOLD ? D / 16 : 1][ROW_TILES][4];
#pragma unroll
    for (int i = 0; i < ROW_TILES; ++i) {
        max[i][0] = max[i][1] = -INFINITY;
        sum[i][0] = sum[i][1] = 0.0f;
    }
#pragma unroll 1
    for (int block = 0; block < blocks; ++block) {
        copy_async_wait<0>();
        // The stage is here for all, and all are done with the other one.
        __syncthreads();
        const uint32_t k_tile = shared_address(stages + block % 2 * 2 * TILE_BYTES), v_tile = k_tile + TILE_BYTES;
        const int first_key = block * KEYS;
        if (block + 1 < blocks) {
            char* next = stages + (block + 1) % 2 * 2 * TILE_BYTES;
            T::template load<KEYS>(next, k, first_key + KEYS);
            T::template load<KEYS>(next + TILE_BYTES, v, first_key + KEYS);
        }
        copy_async_commit();
        if (HOLD && block == 0) {
#pragma unroll
            for (int c = 0; c < D / 16; ++c) {
#pragma unroll
                for (int i = 0; i < ROW_TILES; ++i) T::left(shared_address(q_tile), warp_row + i * 16, c * 16, held[c][i]);
            }
        }
        if (causal && first_key > warp_query + ROW_TILES * 16 - 1) continue;

        float scores[ROW_TILES][KEYS / 8][4] = {};
#pragma unroll
        for (int c = 0; c < D / 16; ++c) {
            uint32_t left[ROW_TILES][4];
#pragma unroll
            for (int i = 0; i < ROW_TILES; ++i) {
                if constexpr (HOLD) {
#pragma unroll
                    for (int e = 0; e < 4; ++e) left[i][e] = held[c][i][e];
                } else {
                    T::left(shared_address(q_tile), warp_row + i * 16, c * 16, left[i]);
                }
            }
#pragma unroll
            for (int j = 0; j < KEYS / 16; ++j) {
                uint32_t right[4];
                T::right_transposed(k_tile, j * 16, c * 16, right);
#pragma unroll
                for (int i = 0; i < ROW_TILES; ++i) {
                    mma(scores[i][2 * j], left[i], right[0], right[1]);
                    mma(scores[i][2 * j + 1], left[i], right[2], right[3]);
                }
            }
        }
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
#pragma unroll
        for (int i = 0; i < ROW_TILES; ++i) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                float most = -INFINITY;
#pragma unroll
                for (int j = 0; j < KEYS / 8; ++j) {
                    most = fmaxf(most, fmaxf(scores[i][j][2 * half], scores[i][j][2 * half + 1]));
                }
                // Finite: every query sees key 0, which came first.
                most = fmaxf(max[i][half], lane_max<4>(most) * exponent_scale);
                const float factor = exp2_approximate(max[i][half] - most);
                max[i][half] = most;
                float total = 0.0f;
#pragma unroll
                for (int j = 0; j < KEYS / 8; ++j) {
#pragma unroll
                    for (int e = 2 * half; e < 2 * half + 2; ++e) {
                        scores[i][j][e] = exp2_approximate(fmaf(scores[i][j][e], exponent_scale, -most));
                        total += scores[i][j][e];
                    }
                }
                sum[i][half] = fmaf(sum[i][half], factor, total);
#pragma unroll
                for (int j = 0; j < D / 8; ++j) {
                    out[i][j][2 * half] *= factor;
                    out[i][j][2 * half + 1] *= factor;
                }
            }
        }
#pragma unroll
        for (int j = 0; j < KEYS / 16; ++j) {
            uint32_t left[ROW_TILES][4];
#pragma unroll
            for (int i = 0; i < ROW_TILES; ++i) as_left(scores[i][2 * j], scores[i][2 * j + 1], left[i]);
#pragma unroll
            for (int c = 0; c < D / 16; ++c) {
                uint32_t right[4];
                T::right(v_tile, j * 16, c * 16, right);
#pragma unroll
                for (int i = 0; i < ROW_TILES; ++i) {
                    mma(out[i][2 * c], left[i], right[0], right[1]);
                    mma(out[i][2 * c + 1], left[i], right[2], right[3]);
                }
            }
        }
    }

    const Head o{nullptr, static_cast<size_t>(width), tokens, head_dim, q.aligned};
    bf16* out_rows = output + static_cast<size_t>(blockIdx.z) * tokens * width + blockIdx.y * head_dim;
    float* logs = logsumexp + (static_cast<size_t>(blockIdx.z) * heads + blockIdx.y) * tokens;
#pragma unroll
    for (int i = 0; i < ROW_TILES; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float total = lane_sum<4>(sum[i][half]);
            const float share = 1.0f / total;
#pragma unroll
            for (int j = 0; j < D / 8; ++j) {
                out[i][j][2 * half] *= share;
                out[i][j][2 * half + 1] *= share;
            }
            const int query = warp_query + i * 16 + lane / 4 + half * 8;
            if (lane % 4 == 0 && query < tokens) logs[query] = (max[i][half] + log2f(total)) * LN_2;
        }
        T::store(q_tile, warp_row + i * 16, out[i], out_rows, o, warp_query + i * 16);
    }
}

}    // namespace attention_bf16

#define KERNEL(D, ROW_TILES, KEYS, HOLD, BLOCKS)                                                                       \
    extern "C" __global__ void __launch_bounds__(attention_bf16::THREADS, BLOCKS)                                     \
        attention_bf16_##D(const bf16* qkv, bf16* output, float* logsumexp, int tokens, int head_dim, int causal,      \
                           int aligned, float scale) {                                                                 \
        attention_bf16::forward<D, ROW_TILES, KEYS, HOLD>(                                                             \
            qkv, output, logsumexp, tokens, head_dim, causal, aligned, scale);                                         \
    }

KERNEL(16, 1, 64, true, 3)
KERNEL(32, 2, 64, true, 2)
KERNEL(64, 2, 64, true, 2)
KERNEL(96, 1, 64, true, 2)
KERNEL(128, 1, 64, true, 2)
KERNEL(192, 1, 32, false, 2)
