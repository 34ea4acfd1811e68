// attention backward, bf16: the gradients of queries, keys and values; weights are computed again, tile by tile.
//
// With P = exp(scale · q · kᵀ − logsumexp), dP = dO · vᵀ and delta the row sums of dO ∘ O: dS = P ∘ (dP − delta), dq = scale · dS · k,
// dk = scale · dSᵀ · q, dv = Pᵀ · dO (Dao et al. 2022, algorithm 4). Two kernels, so that each block owns what it sums: no
// atomics, deterministic, for 7 products where a single kernel has 5. P and dS never leave the registers of the warp that
// made them: a block's own rows (keys in the one, queries in the other) are rows of every product.
//
// attention_backward_keys: writes columns k ‖ v of d_qkv (=);    own rows keys, columns queries
// attention_backward_queries: writes columns q of d_qkv (=);    own rows queries, columns keys
//   reads   qkv [batch, tokens, 3 · heads · head_dim], dy [batch, tokens, heads · head_dim], logsumexp, delta
//           [batch, heads, tokens] f32
//   grid    x: blocks of 64 own rows (those with most columns under a causal mask first), y: heads, z: images
//   block   4 warps of 16 own rows; dynamic shared memory: two tiles of own rows and two stages of two tiles of columns
// attention_delta (also f32): reads output, dy; writes delta [batch, heads, tokens] f32
//   grid    x: blocks of 32 (image, token, head)s;  block 256 threads, 8 a row
//
// _16 .. _192 and `aligned`: as attention_bf16.cu.
#include "attention/tile_bf16.cuh"

namespace attention_bf16 {

constexpr int ROWS = WARPS * 16;

// BY_KEYS: own rows are keys. COLUMNS: of a stage; CHUNK: of those, how many are worked on at once. HOLD: own rows stay in
// registers. ONE, TWO: which sums are wanted, dk (or dq) and dv.
template <int D, bool BY_KEYS, int COLUMNS, int CHUNK, bool HOLD, bool ONE, bool TWO>
__device__ __forceinline__ void backward(
    const bf16* qkv, const bf16* dy, const float* logsumexp, const float* delta, bf16* d_qkv, int tokens, int head_dim,
    int causal, int aligned, float scale) {
    using T = Tile<D>;
    constexpr int OWN_BYTES = ROWS * D * 2, TILE_BYTES = COLUMNS * D * 2;
    extern __shared__ __align__(128) char shared[];
    char* own_one = shared;                         // keys, or queries
    char* own_two = shared + OWN_BYTES;             // values, or dy
    char* stages = shared + 2 * OWN_BYTES;          // [2][queries or keys, dy or values]
    float* numbers = reinterpret_cast<float*>(stages + 4 * TILE_BYTES);    // [2][logsumexp, delta][COLUMNS], if BY_KEYS

    const int heads = gridDim.y, width = heads * head_dim;
    const size_t image = static_cast<size_t>(blockIdx.z) * tokens * 3 * width + blockIdx.y * head_dim;
    const Head q{qkv + image, static_cast<size_t>(3 * width), tokens, head_dim, aligned != 0};
    const Head k{q.rows + width, q.stride, tokens, head_dim, q.aligned};
    const Head v{q.rows + 2 * width, q.stride, tokens, head_dim, q.aligned};
    const Head d{dy + static_cast<size_t>(blockIdx.z) * tokens * width + blockIdx.y * head_dim, static_cast<size_t>(width),
                 tokens, head_dim, q.aligned};
    const float* logs = logsumexp + (static_cast<size_t>(blockIdx.z) * heads + blockIdx.y) * tokens;
    const float* deltas = delta + (static_cast<size_t>(blockIdx.z) * heads + blockIdx.y) * tokens;
    const int first_row = static_cast<int>(BY_KEYS ? blockIdx.x : gridDim.x - 1 - blockIdx.x) * ROWS;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int warp_row = first_row + warp * 16;
    const int begin = BY_KEYS && causal ? first_row / COLUMNS : 0;
    const int end = blocks_of(!BY_KEYS && causal ? min(tokens, first_row + ROWS) : tokens, COLUMNS);

    const auto load = [&](int block) {
        char* tiles = stages + block % 2 * 2 * TILE_BYTES;
        T::template load<COLUMNS>(tiles, BY_KEYS ? q : k, block * COLUMNS);
        T::template load<COLUMNS>(tiles + TILE_BYTES, BY_KEYS ? d : v, block * COLUMNS);
        if (BY_KEYS && threadIdx.x < 2 * COLUMNS) {
            const int column = threadIdx.x % COLUMNS, query = block * COLUMNS + column;
            const float* from = threadIdx.x < COLUMNS ? logs : deltas;
            float* to = numbers + block % 2 * 2 * COLUMNS + threadIdx.x;
            copy_async_4(shared_address(to), from + (query < tokens ? query : 0), query < tokens);
        }
        copy_async_commit();
    };
    T::template load<ROWS>(own_one, BY_KEYS ? k : q, first_row);
    T::template load<ROWS>(own_two, BY_KEYS ? v : d, first_row);
    load(begin);

    const float exponent_scale = scale * LOG2_E;
    float sum_one[ONE ? D / 8 : 1][4] = {};    // dk, or dq
    float sum_two[TWO ? D / 8 : 1][4] = {};    // dv
    // Of own rows lane / 4 and lane / 4 + 8, if those are queries.
    float row_log[2] = {}, row_delta[2] = {};
    if (!BY_KEYS) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int query = warp_row + lane / 4 + half * 8;
            row_log[half] = query < tokens ? logs[query] * LOG2_E : 0.0f;
            row_delta[half] = query < tokens ? deltas[query] : 0.0f;
        }
    }
    uint32_t held_one[HOLD ? D / 16 : 1][4], held_two[HOLD ? D / 16 : 1][4];
#pragma unroll 1
    for (int block = begin; block < end; ++block) {
        copy_async_wait<0>();
        // The stage is here for all, and all are done with the other one.
        __syncthreads();
        if (block + 1 < end) load(block + 1);
        const uint32_t one = shared_address(stages + block % 2 * 2 * TILE_BYTES), two = one + TILE_BYTES;
        const float* column_numbers = numbers + block % 2 * 2 * COLUMNS;
        if (HOLD && block == begin) {
#pragma unroll
            for (int c = 0; c < D / 16; ++c) {
                T::left(shared_address(own_one), warp * 16, c * 16, held_one[c]);
                T::left(shared_address(own_two), warp * 16, c * 16, held_two[c]);
            }
        }
#pragma unroll 1
        for (int chunk = 0; chunk < COLUMNS; chunk += CHUNK) {
            const int first_column = block * COLUMNS + chunk;
            if (first_column >= tokens) break;
            // Nothing here sees, or is seen.
            if (causal && (BY_KEYS ? first_column + CHUNK <= warp_row : first_column > warp_row + 15)) continue;
            float p[CHUNK / 8][4] = {}, ds[CHUNK / 8][4] = {};
#pragma unroll
            for (int c = 0; c < D / 16; ++c) {
                uint32_t left_one[4], left_two[4];
                if constexpr (HOLD) {
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        left_one[e] = held_one[c][e];
                        left_two[e] = held_two[c][e];
                    }
                } else {
                    T::left(shared_address(own_one), warp * 16, c * 16, left_one);
                    if constexpr (ONE) T::left(shared_address(own_two), warp * 16, c * 16, left_two);
                }
#pragma unroll
                for (int j = 0; j < CHUNK / 16; ++j) {
                    uint32_t right[4];
                    T::right_transposed(one, chunk + j * 16, c * 16, right);
                    mma(p[2 * j], left_one, right[0], right[1]);
                    mma(p[2 * j + 1], left_one, right[2], right[3]);
                    if constexpr (ONE) {
                        T::right_transposed(two, chunk + j * 16, c * 16, right);
                        mma(ds[2 * j], left_two, right[0], right[1]);
                        mma(ds[2 * j + 1], left_two, right[2], right[3]);
                    }
                }
            }
            const bool edge = first_column + CHUNK > tokens ||
                              (causal && (BY_KEYS ? first_column < warp_row + 15 : first_column + CHUNK - 1 > warp_row));
#pragma unroll
            for (int j = 0; j < CHUNK / 8; ++j) {
                float2 column_log, column_delta;
                if (BY_KEYS) {
                    const float* pair = column_numbers + chunk + j * 8 + lane % 4 * 2;
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
                        // A key or query that does not exist may have made it infinite.
                        if (hidden || column >= tokens || row >= tokens) p[j][e] = 0.0f;
                    }
                    ds[j][e] = p[j][e] * (ds[j][e] - shift);
                }
            }
#pragma unroll
            for (int j = 0; j < CHUNK / 16; ++j) {
                uint32_t left[4], right[4];
                if constexpr (ONE) {
                    as_left(ds[2 * j], ds[2 * j + 1], left);
#pragma unroll
                    for (int c = 0; c < D / 16; ++c) {
                        T::right(one, chunk + j * 16, c * 16, right);
                        mma(sum_one[2 * c], left, right[0], right[1]);
                        mma(sum_one[2 * c + 1], left, right[2], right[3]);
                    }
                }
                if constexpr (TWO) {
                    as_left(p[2 * j], p[2 * j + 1], left);
#pragma unroll
                    for (int c = 0; c < D / 16; ++c) {
                        T::right(two, chunk + j * 16, c * 16, right);
                        mma(sum_two[2 * c], left, right[0], right[1]);
                        mma(sum_two[2 * c + 1], left, right[2], right[3]);
                    }
                }
            }
        }
    }
    copy_async_wait<0>();
    bf16* out = d_qkv + image;
    if constexpr (ONE) {
#pragma unroll
        for (int j = 0; j < D / 8; ++j) {
#pragma unroll
            for (int e = 0; e < 4; ++e) sum_one[j][e] *= scale;
        }
        T::store(own_one, warp * 16, sum_one, BY_KEYS ? out + width : out, q, warp_row);
    }
    if constexpr (TWO) T::store(own_two, warp * 16, sum_two, out + 2 * width, q, warp_row);
}

// Both sums of BY_KEYS in one pass, or where the registers do not hold both (D = 192 spilled 80 bytes), in two.
template <int D, bool BY_KEYS, int COLUMNS, int CHUNK, bool HOLD>
__device__ __forceinline__ void backward(
    const bf16* qkv, const bf16* dy, const float* logsumexp, const float* delta, bf16* d_qkv, int tokens, int head_dim,
    int causal, int aligned, float scale) {
    if constexpr (BY_KEYS && D > 128) {
        backward<D, BY_KEYS, COLUMNS, CHUNK, HOLD, false, true>(
            qkv, dy, logsumexp, delta, d_qkv, tokens, head_dim, causal, aligned, scale);
        // Shared memory is free again.
        __syncthreads();
        backward<D, BY_KEYS, COLUMNS, CHUNK, HOLD, true, false>(
            qkv, dy, logsumexp, delta, d_qkv, tokens, head_dim, causal, aligned, scale);
    } else {
        backward<D, BY_KEYS, COLUMNS, CHUNK, HOLD, true, BY_KEYS>(
            qkv, dy, logsumexp, delta, d_qkv, tokens, head_dim, causal, aligned, scale);
    }
}

}    // namespace attention_bf16

template <class T>
__device__ __forceinline__ void attention_delta(
    const T* output, const T* dy, float* delta, int rows, int tokens, int heads, int head_dim, int aligned) {
    const int index = blockIdx.x * 32 + threadIdx.x / 8, part = threadIdx.x % 8;
    float sum = 0.0f;
    if (index < rows) {
        const size_t at = static_cast<size_t>(index) * head_dim;
        if (aligned) {
            for (int e = part * VECTOR<T>; e < head_dim; e += 8 * VECTOR<T>) {
                float o[VECTOR<T>], d[VECTOR<T>];
                load_vector(output + at + e, o);
                load_vector(dy + at + e, d);
#pragma unroll
                for (int i = 0; i < VECTOR<T>; ++i) sum = fmaf(o[i], d[i], sum);
            }
        } else {
            for (int e = part; e < head_dim; e += 8) sum = fmaf(to_float(output[at + e]), to_float(dy[at + e]), sum);
        }
    }
    sum = lane_sum<8>(sum);
    if (index < rows && part == 0) {
        // [batch, tokens, heads] to [batch, heads, tokens]
        const int head = index % heads, token = index / heads % tokens, image = index / heads / tokens;
        delta[(static_cast<size_t>(image) * heads + head) * tokens + token] = sum;
    }
}

extern "C" __global__ void __launch_bounds__(256) attention_delta_bf16(
    const bf16* output, const bf16* dy, float* delta, int rows, int tokens, int heads, int head_dim, int aligned) {
    attention_delta(output, dy, delta, rows, tokens, heads, head_dim, aligned);
}
extern "C" __global__ void __launch_bounds__(256) attention_delta_f32(
    const float* output, const float* dy, float* delta, int rows, int tokens, int heads, int head_dim, int aligned) {
    attention_delta(output, dy, delta, rows, tokens, heads, head_dim, aligned);
}

#define KERNEL(NAME, D, BY_KEYS, COLUMNS, CHUNK, HOLD, BLOCKS)                                                         \
    extern "C" __global__ void __launch_bounds__(attention_bf16::THREADS, BLOCKS)                                     \
        NAME##_bf16_##D(const bf16* qkv, const bf16* dy, const float* logsumexp, const float* delta, bf16* d_qkv,      \
                        int tokens, int head_dim, int causal, int aligned, float scale) {                              \
        attention_bf16::backward<D, BY_KEYS, COLUMNS, CHUNK, HOLD>(                                                    \
            qkv, dy, logsumexp, delta, d_qkv, tokens, head_dim, causal, aligned, scale);                               \
    }

KERNEL(attention_backward_keys, 16, true, 64, 32, true, 3)
KERNEL(attention_backward_keys, 32, true, 64, 32, true, 2)
KERNEL(attention_backward_keys, 64, true, 64, 32, true, 2)
KERNEL(attention_backward_keys, 96, true, 64, 16, false, 2)
KERNEL(attention_backward_keys, 128, true, 64, 16, false, 2)
KERNEL(attention_backward_keys, 192, true, 32, 16, false, 2)
KERNEL(attention_backward_queries, 16, false, 64, 32, true, 3)
KERNEL(attention_backward_queries, 32, false, 64, 32, true, 2)
KERNEL(attention_backward_queries, 64, false, 64, 32, true, 2)
KERNEL(attention_backward_queries, 96, false, 64, 32, true, 2)
KERNEL(attention_backward_queries, 128, false, 64, 32, false, 2)
KERNEL(attention_backward_queries, 192, false, 32, 32, false, 2)
