// attention and its backward, f32: attention_bf16.cu and attention_backward_bf16.cu in full f32, for checking them and for small
// models. Same arguments, same determinism; tiles of 32 × 32.
//
// attention: writes output, logsumexp
//   grid    x: blocks of 32 queries, the last first, y: heads, z: images
//   block   128 threads; dynamic shared memory: three tiles, 12 · 32 · (D + 4) bytes
// attention_backward_keys: writes columns k ‖ v of d_qkv (=);  attention_backward_queries: columns q (=)
//   grid    x: blocks of 32 keys or queries, y: heads, z: images
//   block   128 threads; dynamic shared memory: four tiles and 256 bytes
//
// _32 .. _192: D >= head_dim. `aligned`: head_dim divisible by 4, pointers by 16 bytes.
#include "attention/tile_f32.cuh"

namespace attention_f32 {

template <int D>
__device__ __forceinline__ void forward(
    const float* qkv, float* output, float* logsumexp, int tokens, int head_dim, int causal, int aligned, float scale) {
    using T = Tile<D>;
    extern __shared__ __align__(16) float shared[];
    float *q_tile = shared, *k_tile = q_tile + T::FLOATS, *v_tile = k_tile + T::FLOATS;
    const int heads = gridDim.y, width = heads * head_dim;
    const float* image = qkv + static_cast<size_t>(blockIdx.z) * tokens * 3 * width + blockIdx.y * head_dim;
    const Head q{image, static_cast<size_t>(3 * width), tokens, head_dim, aligned != 0};
    const Head k{image + width, q.stride, tokens, head_dim, q.aligned};
    const Head v{image + 2 * width, q.stride, tokens, head_dim, q.aligned};
    const int first_query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * ROWS;
    const int row = first_query + threadIdx.x / 8 * 2, lane = threadIdx.x % 8;
    const int end = causal ? min(tokens, first_query + ROWS) : tokens;

    T::load(q_tile, q, first_query);
    float out[2][D / 8] = {};
    float max[2] = {-INFINITY, -INFINITY}, sum[2] = {};
#pragma unroll 1
    for (int first_key = 0; first_key < end; first_key += ROWS) {
        T::load(k_tile, k, first_key);
        T::load(v_tile, v, first_key);
        copy_async_commit();
        copy_async_wait<0>();
        __syncthreads();
        float scores[2][4];
        T::products(q_tile, k_tile, scores);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            float most = -INFINITY;
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const int key = first_key + lane + 8 * j;
                scores[r][j] = key >= tokens || (causal && key > row + r) ? -INFINITY : scores[r][j] * scale;
                most = fmaxf(most, scores[r][j]);
            }
            // Finite: every query sees key 0, which came first.
            most = fmaxf(max[r], lane_max<8>(most));
            const float factor = expf(max[r] - most);
            max[r] = most;
            float total = 0.0f;
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                scores[r][j] = expf(scores[r][j] - most);
                total += scores[r][j];
            }
            sum[r] = fmaf(sum[r], factor, lane_sum<8>(total));
#pragma unroll
            for (int i = 0; i < D / 8; ++i) out[r][i] *= factor;
        }
        T::mix(scores, v_tile, out);
        // All are done with the tiles.
        __syncthreads();
    }
    float* logs = logsumexp + (static_cast<size_t>(blockIdx.z) * heads + blockIdx.y) * tokens;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
        for (int i = 0; i < D / 8; ++i) out[r][i] /= sum[r];
        if (lane == 0 && row + r < tokens) logs[row + r] = max[r] + logf(sum[r]);
    }
    const Head o{nullptr, static_cast<size_t>(width), tokens, head_dim, q.aligned};
    T::store(out, output + static_cast<size_t>(blockIdx.z) * tokens * width + blockIdx.y * head_dim, o, first_query);
}

// BY_KEYS: own rows are keys, columns queries; else the other way round. Names as in attention_backward_bf16.cu.
template <int D, bool BY_KEYS>
__device__ __forceinline__ void backward(
    const float* qkv, const float* dy, const float* logsumexp, const float* delta, float* d_qkv, int tokens, int head_dim,
    int causal, int aligned, float scale) {
    using T = Tile<D>;
    extern __shared__ __align__(16) float shared[];
    float *own_one = shared, *own_two = own_one + T::FLOATS, *one = own_two + T::FLOATS, *two = one + T::FLOATS;
    float* numbers = two + T::FLOATS;    // [logsumexp, delta][ROWS] of the queries
    const int heads = gridDim.y, width = heads * head_dim;
    const size_t image = static_cast<size_t>(blockIdx.z) * tokens * 3 * width + blockIdx.y * head_dim;
    const Head q{qkv + image, static_cast<size_t>(3 * width), tokens, head_dim, aligned != 0};
    const Head k{q.rows + width, q.stride, tokens, head_dim, q.aligned};
    const Head v{q.rows + 2 * width, q.stride, tokens, head_dim, q.aligned};
    const Head d{dy + static_cast<size_t>(blockIdx.z) * tokens * width + blockIdx.y * head_dim, static_cast<size_t>(width),
                 tokens, head_dim, q.aligned};
    const size_t query_numbers = (static_cast<size_t>(blockIdx.z) * heads + blockIdx.y) * tokens;
    const int first_row = static_cast<int>(BY_KEYS ? blockIdx.x : gridDim.x - 1 - blockIdx.x) * ROWS;
    const int row = first_row + threadIdx.x / 8 * 2, lane = threadIdx.x % 8;
    const int begin = BY_KEYS && causal ? first_row : 0;
    const int end = !BY_KEYS && causal ? min(tokens, first_row + ROWS) : tokens;
    const auto load_numbers = [&](int first_query) {
        if (threadIdx.x < 2 * ROWS) {
            const int query = first_query + threadIdx.x % ROWS;
            const float* from = (threadIdx.x < ROWS ? logsumexp : delta) + query_numbers;
            numbers[threadIdx.x] = query < tokens ? from[query] : 0.0f;
        }
    };

    T::load(own_one, BY_KEYS ? k : q, first_row);
    T::load(own_two, BY_KEYS ? v : d, first_row);
    if (!BY_KEYS) load_numbers(first_row);
    float sum_one[2][D / 8] = {};                  // dk, or dq
    float sum_two[2][BY_KEYS ? D / 8 : 4] = {};    // dv
#pragma unroll 1
    for (int first_column = begin; first_column < end; first_column += ROWS) {
        T::load(one, BY_KEYS ? q : k, first_column);
        T::load(two, BY_KEYS ? d : v, first_column);
        copy_async_commit();
        if (BY_KEYS) load_numbers(first_column);
        copy_async_wait<0>();
        __syncthreads();
        float p[2][4], ds[2][4];
        T::products(own_one, one, p);
        T::products(own_two, two, ds);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const int column = first_column + lane + 8 * j;
                const int query = BY_KEYS ? lane + 8 * j : threadIdx.x / 8 * 2 + r;    // of the tile
                const bool hidden = causal && (BY_KEYS ? row + r > column : column > row + r);
                const bool real = column < tokens && row + r < tokens && !hidden;
                p[r][j] = real ? expf(fmaf(p[r][j], scale, -numbers[query])) : 0.0f;
                ds[r][j] = p[r][j] * (ds[r][j] - numbers[ROWS + query]) * scale;
            }
        }
        T::mix(ds, one, sum_one);
        if constexpr (BY_KEYS) T::mix(p, two, sum_two);
        // All are done with the tiles.
        __syncthreads();
    }
    float* out = d_qkv + image;
    T::store(sum_one, BY_KEYS ? out + width : out, q, first_row);
    if constexpr (BY_KEYS) T::store(sum_two, out + 2 * width, q, first_row);
}

}    // namespace attention_f32

#define KERNELS(D, BLOCKS)                                                                                                     \
    extern "C" __global__ void __launch_bounds__(attention_f32::THREADS, BLOCKS)                                              \
        attention_f32_##D(const float* qkv, float* output, float* logsumexp, int tokens, int head_dim, int causal,     \
                          int aligned, float scale) {                                                                  \
        attention_f32::forward<D>(qkv, output, logsumexp, tokens, head_dim, causal, aligned, scale);                   \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(attention_f32::THREADS, BLOCKS) attention_backward_keys_f32_##D(             \
        const float* qkv, const float* dy, const float* logsumexp, const float* delta, float* d_qkv, int tokens,       \
        int head_dim, int causal, int aligned, float scale) {                                                          \
        attention_f32::backward<D, true>(                                                                              \
            qkv, dy, logsumexp, delta, d_qkv, tokens, head_dim, causal, aligned, scale);                               \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(attention_f32::THREADS, BLOCKS) attention_backward_queries_f32_##D(          \
        const float* qkv, const float* dy, const float* logsumexp, const float* delta, float* d_qkv, int tokens,       \
        int head_dim, int causal, int aligned, float scale) {                                                          \
        attention_f32::backward<D, false>(                                                                             \
            qkv, dy, logsumexp, delta, d_qkv, tokens, head_dim, causal, aligned, scale);                               \
    }

KERNELS(32, 4)
KERNELS(64, 3)
KERNELS(96, 3)
KERNELS(128, 3)
KERNELS(192, 2)
