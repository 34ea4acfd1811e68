// attention_decode: one step of causal attention from a cache of keys and values, cut into chunks of keys.
//
// attention_decode
//   reads   qkv [batch, 3 · width], keys, values [batch, heads, positions, head_dim] up to `position`, which is one u16 in memory: a
//           captured step reads another at each replay
//   writes  keys, values at `position`; partials [batch, heads, chunks, head_dim + 2] f32 of the chunks up to that of `position`: the sum
//           of the chunk's values, weighted by exp(score − maximum), the sum of these weights, and the maximum
//   sums    f32 in fixed order: deterministic
//   grid    x: chunks of CHUNK positions of the cache, y: heads, z: images;  block 128 threads; static shared memory 1 KiB
//   shared  dynamic: skewed_size(head_dim) floats of the query, 4 times as many of partial outputs
// attention_decode_combine
//   reads   partials of the chunks up to that of `position`, chunk after chunk
//   writes  output [batch, width]
//   grid    x: heads, y: images;  block 128 threads
//
// Where the chunks end is a function of the cache alone, and so are the bits: not of the card, nor of how many blocks it holds. Blocks
// of chunks past `position` leave at once. The one block whose chunk has `position` stores its key and value; no other reads them, so a
// barrier of the block is enough to read them back.
//
// 8 lanes read a row, 16 bytes each where head_dim divides into such (V elements a lane): a warp has 4 rows under way, and 32 in all.
#include "common.cuh"
#include "reduce.cuh"

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
// Positions of a chunk, and of a warp's part of it.
constexpr int CHUNK = 128;
constexpr int PER_WARP = CHUNK / WARPS;
// Lanes that share a row, and rows that a warp has under way.
constexpr int LANES = 8;
constexpr int ROWS = WARP / LANES;

// Where column e of the query, or of a partial output, stands in shared memory: 4 floats of padding every 32, so that 8 lanes that are
// 8 floats apart fall into different banks; and what so many columns take.
__host__ __device__ constexpr int skewed(int e) { return e + e / 32 * 4; }
__host__ __device__ constexpr int skewed_size(int count) { return skewed(blocks_of(count, 32) * 32); }

// V elements from `from` on, as floats.
template <int V, class T>
__device__ __forceinline__ void load(const T* from, float (&v)[V]) {
    if constexpr (V == VECTOR<T>) {
        load_vector(from, v);
    } else {
        static_assert(V == 1);
        v[0] = to_float(*from);
    }
}

// The scores of this warp's positions, from `first` on and before `end`, into `scores`; their maximum.
template <int V, class T>
__device__ __forceinline__ float scores_of(
    const T* key, const float* query, float* scores, int first, int end, int head_dim, float scale) {
    const int row = threadIdx.x % WARP / LANES, lane = threadIdx.x % LANES;
    float max = -INFINITY;
#pragma unroll 2
    for (int at = 0; at < PER_WARP; at += ROWS) {
        const int token = first + at + row;
        float score = 0.0f;
        if (token < end) {
            for (int e = lane * V; e < head_dim; e += LANES * V) {
                float k[V];
                load<V>(key + static_cast<size_t>(token) * head_dim + e, k);
#pragma unroll
                for (int i = 0; i < V; ++i) score = fmaf(query[skewed(e) + i], k[i], score);
            }
        }
        score = lane_sum<LANES>(score) * scale;
        if (token < end) {
            if (lane == 0) scores[at + row] = score;
            max = fmaxf(max, score);
        }
    }
    return lane_max(max);
}

// The sum of this warp's values, weighted, into `out` [head_dim].
template <int V, class T>
__device__ __forceinline__ void mix(
    const T* value, const float* weights, float* out, int first, int end, int head_dim) {
    const int row = threadIdx.x % WARP / LANES, lane = threadIdx.x % LANES;
    for (int column = 0; column < head_dim; column += LANES * V) {
        const int e = column + lane * V;
        float sum[V] = {};
        if (e < head_dim) {
#pragma unroll 2
            for (int at = row; at < min(PER_WARP, end - first); at += ROWS) {
                float v[V];
                load<V>(value + static_cast<size_t>(first + at) * head_dim + e, v);
#pragma unroll
                for (int i = 0; i < V; ++i) sum[i] = fmaf(weights[at], v[i], sum[i]);
            }
        }
        // The rows that were under way together.
#pragma unroll
        for (int i = 0; i < V; ++i) {
            sum[i] += __shfl_xor_sync(ALL_LANES, sum[i], LANES);
            sum[i] += __shfl_xor_sync(ALL_LANES, sum[i], 2 * LANES);
            if (row == 0 && e < head_dim) out[skewed(e) + i] = sum[i];
        }
    }
}

template <class T>
__device__ __forceinline__ void attention_decode(
    const T* qkv, T* keys, T* values, float* partials, const uint16_t* at, int positions, int head_dim, float scale) {
    extern __shared__ float smem[];
    __shared__ float scores[CHUNK];
    __shared__ float reduction[WARPS];
    const int padded = skewed_size(head_dim);
    float* query = smem;                 // [padded]
    float* partial_out = smem + padded;  // [WARPS, padded]
    // A plain load would have ptxas spill a register in f32.
    const int position = __ldg(at);
    const int first = blockIdx.x * CHUNK, end = min(position + 1, first + CHUNK);
    if (first > position) return;
    const int warp = threadIdx.x / WARP;
    const int width = gridDim.y * head_dim;
    const size_t head = static_cast<size_t>(blockIdx.z) * gridDim.y + blockIdx.y;
    const T* token_qkv = qkv + static_cast<size_t>(blockIdx.z) * 3 * width + blockIdx.y * head_dim;
    T* key = keys + head * positions * head_dim;
    T* value = values + head * positions * head_dim;

    // q -> smem; k, v -> cache
    for (int e = threadIdx.x; e < head_dim; e += THREADS) {
        query[skewed(e)] = to_float(token_qkv[e]);
        if (end > position) {
            key[static_cast<size_t>(position) * head_dim + e] = token_qkv[width + e];
            value[static_cast<size_t>(position) * head_dim + e] = token_qkv[2 * width + e];
        }
    }
    __syncthreads();

    // s = K q, and the maximum
    const int mine = first + warp * PER_WARP;
    const bool aligned = head_dim % VECTOR<T> == 0;
    float* my_scores = scores + warp * PER_WARP;
    float max = aligned ? scores_of<VECTOR<T>>(key, query, my_scores, mine, end, head_dim, scale)
                        : scores_of<1>(key, query, my_scores, mine, end, head_dim, scale);
    if (threadIdx.x % WARP == 0) reduction[warp] = max;
    __syncthreads();
    max = fmaxf(fmaxf(reduction[0], reduction[1]), fmaxf(reduction[2], reduction[3]));
    __syncthreads();

    // p = exp(s − max), and its sum; where all scores are −inf nothing is subtracted, so that other chunks decide
    const float base = max == -INFINITY ? 0.0f : max;
    float sum = 0.0f;
    if (first + static_cast<int>(threadIdx.x) < end) {
        sum = expf(scores[threadIdx.x] - base);
        scores[threadIdx.x] = sum;
    }
    // The barriers in group_sum also publish the weights.
    sum = group_sum<WARPS>(sum, reduction, warp);

    // o = p V: each warp its positions, then all warps in order
    float* my_out = partial_out + warp * padded;
    if (aligned) {
        mix<VECTOR<T>>(value, my_scores, my_out, mine, end, head_dim);
    } else {
        mix<1>(value, my_scores, my_out, mine, end, head_dim);
    }
    __syncthreads();
    float* partial = partials + (head * gridDim.x + blockIdx.x) * (head_dim + 2);
    for (int e = threadIdx.x; e < head_dim; e += THREADS) {
        const float* out = partial_out + skewed(e);
        partial[e] = out[0] + out[padded] + out[2 * padded] + out[3 * padded];
    }
    if (threadIdx.x == 0) {
        partial[head_dim] = sum;
        partial[head_dim + 1] = max;
    }
}

template <class T>
__device__ __forceinline__ void attention_decode_combine(
    const float* partials, T* output, const uint16_t* at, int chunks, int head_dim) {
    const int used = *at / CHUNK + 1;
    const size_t head = static_cast<size_t>(blockIdx.y) * gridDim.x + blockIdx.x;
    const float* partial = partials + head * chunks * (head_dim + 2);

    for (int e = threadIdx.x; e < head_dim; e += THREADS) {
        // what the first chunks have for this column, asked for at once: it is memory that all of this waits for
        constexpr int FIRST = 8;
        float outs[FIRST], sums[FIRST], maxima[FIRST];
#pragma unroll
        for (int chunk = 0; chunk < FIRST; ++chunk) {
            const float* numbers = partial + chunk * (head_dim + 2);
            const bool there = chunk < used;
            outs[chunk] = there ? numbers[e] : 0.0f;
            sums[chunk] = there ? numbers[head_dim] : 0.0f;
            maxima[chunk] = there ? numbers[head_dim + 1] : -INFINITY;
        }

        // the maximum of all chunks
        float max = maxima[0];
#pragma unroll
        for (int chunk = 1; chunk < FIRST; ++chunk) max = fmaxf(max, maxima[chunk]);
        for (int chunk = FIRST; chunk < used; ++chunk) max = fmaxf(max, partial[chunk * (head_dim + 2) + head_dim + 1]);

        // under it the sum of all weights, and o = Σ o of each chunk
        float sum = 0.0f, out = 0.0f;
        const auto add = [&](float of_out, float of_sum, float of_max) {
            const float scale = expf(of_max - max);
            sum = fmaf(of_sum, scale, sum);
            out = fmaf(of_out, scale, out);
        };
#pragma unroll
        for (int chunk = 0; chunk < FIRST; ++chunk) {
            if (chunk < used) add(outs[chunk], sums[chunk], maxima[chunk]);
        }
        for (int chunk = FIRST; chunk < used; ++chunk) {
            const float* numbers = partial + chunk * (head_dim + 2);
            add(numbers[e], numbers[head_dim], numbers[head_dim + 1]);
        }
        output[head * head_dim + e] = from_float<T>(out / sum);
    }
}

#define KERNELS(NAME, T)                                                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS) attention_decode_##NAME(                          \
        const T* qkv, T* keys, T* values, float* partials, const uint16_t* at, int positions, int head_dim, \
        float scale) {                                                                                      \
        attention_decode(qkv, keys, values, partials, at, positions, head_dim, scale);                      \
    }                                                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS) attention_decode_combine_##NAME(                  \
        const float* partials, T* output, const uint16_t* at, int chunks, int head_dim) {                   \
        attention_decode_combine(partials, output, at, chunks, head_dim);                                   \
    }

KERNELS(f32, float)
KERNELS(bf16, bf16)
