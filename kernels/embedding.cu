// embedding: token and position embeddings, and their backward without atomics.
//
// embedding
//   reads   table [rows, width] f32, positions [positions, width] f32, first [1] u16 or null for 0, ids [batch · tokens] u16
//   writes  y [batch · tokens, width] = table[id] + positions[first + token]; BLANK (65535) has no row and adds nothing
//   grid    x: tokens of the batch;  block 128 threads
// embedding_table
//   reads   dy [batch · tokens, width], ids [batch · tokens]
//   writes  block (row, chunk): partials [chunk, row, width] = Σ dy over the chunk's tokens whose id is row, and
//           counts [chunk, row] = the number of these tokens (if it is 0 the partials are not written); with a single chunk
//           d_table [row, width] = or, if `add`, += the sum instead
//   sums    f32, token after token: deterministic
//   grid    x: rows of the table, y: chunks of CHUNK tokens;  block 256 threads; static shared memory 8 KiB
// embedding_chunks
//   reads   partials, counts;  writes d_table [rows, width] = or, if `add`, += their sum, chunk after chunk
//   grid    x: blocks of 256 columns, y: rows;  block 256 threads
// embedding_positions
//   reads   dy [batch, tokens, width]
//   writes  d_positions [positions, width] = or, if `add`, += Σ_batch dy, image after image; of positions without tokens the sum is 0
//   grid    x: blocks of 256 elements of [positions, width], or of [tokens, width] if `add`;  block 256 threads
//
// A row of the table that many tokens name would keep a single block busy, so tokens are cut into chunks. The block of each row
// searches the ids of the whole chunk: 8 KiB, from the L2 cache.
#include "common.cuh"

constexpr uint16_t BLANK = 65535;
constexpr int CHUNK = 4096;
constexpr int THREADS = 256;
constexpr int WARPS = THREADS / WARP;
// Tokens of a chunk that one warp searches.
constexpr int PER_WARP = CHUNK / WARPS;

template <class T>
__device__ __forceinline__ void embedding(
    const float* table, const float* positions, const uint16_t* first, const uint16_t* ids, T* y, int tokens,
    int width) {
    const int token = blockIdx.x;  // of the batch
    const int id = ids[token];
    const float* content = table + static_cast<size_t>(id) * width;
    const float* position = positions + static_cast<size_t>((first ? *first : 0) + token % tokens) * width;
    T* row = y + static_cast<size_t>(token) * width;
    if (width % 8 == 0) {
        for (int column = threadIdx.x * VECTOR<T>; column < width; column += blockDim.x * VECTOR<T>) {
            float v[VECTOR<T>];
#pragma unroll
            for (int i = 0; i < VECTOR<T>; i += 4) {
                float p[4], c[4] = {};
                load_vector(position + column + i, p);
                if (id != BLANK) load_vector(content + column + i, c);
#pragma unroll
                for (int e = 0; e < 4; ++e) v[i + e] = c[e] + p[e];
            }
            store_vector(row + column, v);
        }
    } else {
        for (int column = threadIdx.x; column < width; column += blockDim.x) {
            row[column] = from_float<T>((id != BLANK ? content[column] : 0.0f) + position[column]);
        }
    }
}

template <class T>
__device__ __forceinline__ void embedding_table(
    const T* dy, const uint16_t* ids, float* d_table, float* partials, int* counts, int tokens, int width, int add) {
    // The chunk's tokens that name this row, in order: found[w] are those of warp w.
    __shared__ uint16_t found[WARPS][PER_WARP];
    __shared__ int found_by[WARPS];
    const int row = blockIdx.x, rows = gridDim.x;
    const int first = blockIdx.y * CHUNK;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;

    // search: ballot, and each lane's rank among the lanes before it
    int count = 0;
    for (int i = lane; i < PER_WARP; i += WARP) {
        const int token = warp * PER_WARP + i;
        const bool here = first + token < tokens && ids[first + token] == row;
        const unsigned lanes = __ballot_sync(ALL_LANES, here);
        if (here) found[warp][count + __popc(lanes & ((1u << lane) - 1))] = token;
        count += __popc(lanes);
    }
    if (lane == 0) found_by[warp] = count;
    __syncthreads();

    // the number of tokens that all warps found
    int total = 0;
#pragma unroll
    for (int w = 0; w < WARPS; ++w) total += found_by[w];
    const bool alone = gridDim.y == 1;
    if (!alone && threadIdx.x == 0) counts[blockIdx.y * rows + row] = total;
    // Nothing to add. A row of the table that is to be stored is zero then.
    if (total == 0 && (!alone || add)) return;

    // Σ dy in order, a thread per column
    float* out = alone ? d_table + static_cast<size_t>(row) * width
                       : partials + (static_cast<size_t>(blockIdx.y) * rows + row) * width;
    for (int column = threadIdx.x; column < width; column += THREADS) {
        const T* from = dy + static_cast<size_t>(first) * width + column;
        float sum = 0.0f;
        for (int w = 0; w < WARPS; ++w) {
#pragma unroll 4
            for (int i = 0; i < found_by[w]; ++i) sum += to_float(from[static_cast<size_t>(found[w][i]) * width]);
        }
        out[column] = alone && add ? out[column] + sum : sum;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    embedding_chunks(const float* partials, const int* counts, float* d_table, int chunks, int width, int add) {
    const int column = blockIdx.x * THREADS + threadIdx.x, row = blockIdx.y, rows = gridDim.y;
    if (column >= width) return;
    float sum = 0.0f;
    for (int chunk = 0; chunk < chunks; ++chunk) {
        const int partial = chunk * rows + row;
        if (counts[partial] != 0) sum += partials[static_cast<size_t>(partial) * width + column];
    }
    float* out = d_table + static_cast<size_t>(row) * width + column;
    *out = add ? *out + sum : sum;
}

template <class T>
__device__ __forceinline__ void embedding_positions(
    const T* dy, float* d_positions, int batch, int length, int whole, int add) {
    const int at = blockIdx.x * THREADS + threadIdx.x;
    if (at >= whole) return;
    float sum = 0.0f;
    if (at < length) {
#pragma unroll 4
        for (int image = 0; image < batch; ++image) sum += to_float(dy[static_cast<size_t>(image) * length + at]);
    }
    d_positions[at] = add ? d_positions[at] + sum : sum;
}

#define KERNELS(NAME, T)                                                                                          \
    extern "C" __global__ void __launch_bounds__(128) embedding_##NAME(                                           \
        const float* table, const float* positions, const uint16_t* first, const uint16_t* ids, T* y, int tokens, \
        int width) {                                                                                              \
        embedding(table, positions, first, ids, y, tokens, width);                                                \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS) embedding_table_##NAME(                                 \
        const T* dy, const uint16_t* ids, float* d_table, float* partials, int* counts, int tokens, int width,    \
        int add) {                                                                                                \
        embedding_table(dy, ids, d_table, partials, counts, tokens, width, add);                                  \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                         \
        embedding_positions_##NAME(const T* dy, float* d_positions, int batch, int length, int whole, int add) {  \
        embedding_positions(dy, d_positions, batch, length, whole, add);                                          \
    }

KERNELS(f32, float)
KERNELS(bf16, bf16)
