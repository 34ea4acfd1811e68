// Sums of partial results, in order: the second stage of all sums over several blocks.
//
// sum_partials
//   reads   partials [count, length] f32
//   writes  total [length] += Σ_count partials
//   sums    f32, each element by 8 threads of one column, whose partial sums are added in order: deterministic
//   grid    x: blocks of 32 columns;  block 32 × 8 threads; static shared memory 1 KiB
// column_sums_f32, column_sums_bf16
//   reads   x [rows, width]
//   writes  partials [gridDim.y, width] = sums of blocks of `block_rows` rows
//   grid    x: blocks of 32 columns, y: blocks of rows;  block 32 × 8 threads; static shared memory 1 KiB
#include "common.cuh"

// Σ of the column's rows first .. end − 1, by the 8 warps in turn; the result is in warp 0.
template <class T>
__device__ __forceinline__ float column_sum(const T* x, int first, int end, int column, int width) {
    __shared__ float partial[8][WARP];

    // every eighth row
    float sum = 0.0f;
    if (column < width) {
#pragma unroll 4
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

extern "C" __global__ void __launch_bounds__(256)
    sum_partials(const float* partials, float* total, int count, int length) {
    const int column = blockIdx.x * WARP + threadIdx.x;
    const float sum = column_sum(partials, 0, count, column, length);
    if (threadIdx.y == 0 && column < length) total[column] += sum;
}

template <class T>
__device__ __forceinline__ void column_sums(const T* x, float* partials, int rows, int width, int block_rows) {
    const int column = blockIdx.x * WARP + threadIdx.x, first = blockIdx.y * block_rows;
    const float sum = column_sum(x, first, min(rows, first + block_rows), column, width);
    if (threadIdx.y == 0 && column < width) partials[static_cast<size_t>(blockIdx.y) * width + column] = sum;
}

extern "C" __global__ void __launch_bounds__(256)
    column_sums_f32(const float* x, float* partials, int rows, int width, int block_rows) {
    column_sums(x, partials, rows, width, block_rows);
}
extern "C" __global__ void __launch_bounds__(256)
    column_sums_bf16(const bf16* x, float* partials, int rows, int width, int block_rows) {
    column_sums(x, partials, rows, width, block_rows);
}
