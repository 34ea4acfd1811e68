// Sums of partial results, in order: the second stage of all sums over several blocks.
//
// sum_splits
//   reads   partials [count, length] f32
//   writes  total [length] = or, if `add`, += Σ_count partials, one after the other
//   grid    x: blocks of 1,024 elements;  block 256 threads of 4 each: 16 bytes at a time where `length` is divisible by 4
// sum_partials
//   reads   for each of a list of sums partials [count, length] f32
//   writes  its total [length] = or, if `add`, += Σ_count partials
//   grid    x: blocks of 32 columns, y: sums of the list;  block 32 × 8 threads; static shared memory 1 KiB
// column_sums_f32, column_sums_bf16
//   reads   x [rows, width]
//   writes  partials [gridDim.y, width] = sums of blocks of `block_rows` rows
//   grid    x: blocks of 32 columns, y: blocks of rows;  block 32 × 8 threads; static shared memory 1 KiB
// sums    f32. sum_splits is for few long rows: a thread has all of an element's. The others are for many short ones: an element's
//         are added by 8 threads of one column, whose partial sums are added in order. Deterministic.
#include "common.cuh"

constexpr int THREADS = 256;

// Rows that a thread loads before it adds the first.
constexpr int IN_FLIGHT = 8;

// Σ of COUNT neighbouring columns, from `partials` on, of `rows` rows.
template <int COUNT>
__device__ __forceinline__ void add_rows(const float* partials, int rows, size_t length, float (&sum)[COUNT]) {
    for (int first = 0; first < rows; first += IN_FLIGHT) {
        float v[IN_FLIGHT][COUNT] = {};
#pragma unroll
        for (int i = 0; i < IN_FLIGHT; ++i) {
            if (first + i < rows) {
                const float* from = partials + (first + i) * length;
                if constexpr (COUNT == 4)
                    load_vector(from, v[i]);
                else
                    v[i][0] = *from;
            }
        }
#pragma unroll
        for (int i = 0; i < IN_FLIGHT; ++i) {
#pragma unroll
            for (int e = 0; e < COUNT; ++e) sum[e] += v[i][e];
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    sum_splits(const float* partials, float* total, int count, int length, int add) {
    const int block = blockIdx.x * THREADS * 4;
    if (length % 4 == 0) {
        const int at = block + threadIdx.x * 4;
        if (at >= length) return;
        float sum[4] = {}, old[4] = {};
        if (add) load_vector(total + at, old);
        add_rows(partials + at, count, length, sum);
#pragma unroll
        for (int e = 0; e < 4; ++e) sum[e] = old[e] + sum[e];
        store_vector(total + at, sum);
        return;
    }

    // rows of which not all begin at a multiple of 16 bytes
    for (int at = block + threadIdx.x; at < min(length, block + THREADS * 4); at += THREADS) {
        float sum[1] = {};
        add_rows(partials + at, count, length, sum);
        total[at] = add ? total[at] + sum[0] : sum[0];
    }
}

// Σ of the column's rows first .. end − 1, by the 8 warps in turn; the result is in warp 0.
template <class T>
__device__ __forceinline__ float column_sum(const T* x, int first, int end, int column, int width) {
    __shared__ float partial[8][WARP];

    // every eighth row
    float sum = 0.0f;
    if (column < width) {
#pragma unroll 8
        for (int row = first + threadIdx.y; row < end; row += 8)
            sum += to_float(x[static_cast<size_t>(row) * width + column]);
    }
    partial[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();

    // the 8 partial sums in order
    sum = 0.0f;
    if (threadIdx.y == 0) {
#pragma unroll
        for (int part = 0; part < 8; ++part) sum += partial[part][threadIdx.x];
    }
    return sum;
}

// Sums of one launch.
constexpr int SUMS = 128;
struct Sums {
    const float* partials[SUMS];
    float* totals[SUMS];
};

extern "C" __global__ void __launch_bounds__(THREADS)
    sum_partials(const __grid_constant__ Sums sums, int count, int length, int add) {
    const int column = blockIdx.x * WARP + threadIdx.x;
    const float sum = column_sum(sums.partials[blockIdx.y], 0, count, column, length);
    float* total = sums.totals[blockIdx.y];
    if (threadIdx.y == 0 && column < length) total[column] = add ? total[column] + sum : sum;
}

template <class T>
__device__ __forceinline__ void column_sums(const T* x, float* partials, int rows, int width, int block_rows) {
    const int column = blockIdx.x * WARP + threadIdx.x, first = blockIdx.y * block_rows;
    const float sum = column_sum(x, first, min(rows, first + block_rows), column, width);
    if (threadIdx.y == 0 && column < width) partials[static_cast<size_t>(blockIdx.y) * width + column] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    column_sums_f32(const float* x, float* partials, int rows, int width, int block_rows) {
    column_sums(x, partials, rows, width, block_rows);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    column_sums_bf16(const bf16* x, float* partials, int rows, int width, int block_rows) {
    column_sums(x, partials, rows, width, block_rows);
}
