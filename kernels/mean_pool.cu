// mean_pool: the mean over an image's tokens, and its backward.
//
// mean_pool
//   reads   x [batch, tokens, width];  writes y [batch, width] = Σ_tokens x / tokens
//   sums    f32: each column by 8 threads, whose partial sums are added in order: deterministic
//   grid    x: blocks of 32 columns, y: images;  block 32 × 8 threads; static shared memory 1 KiB
// mean_pool_backward
//   reads   dy [batch, width];  writes dx [batch, tokens, width] = dy / tokens
//   grid    x: blocks of 256 columns, y: tokens, z: images;  block 256 threads
#include "common.cuh"

template <class T>
__device__ __forceinline__ void mean_pool(const T* x, T* y, int tokens, int width) {
    __shared__ float partial[8][WARP];
    const int column = blockIdx.x * WARP + threadIdx.x, image = blockIdx.y;
    const T* from = x + static_cast<size_t>(image) * tokens * width + column;

    // every eighth token
    float sum = 0.0f;
    if (column < width) {
#pragma unroll 4
        for (int token = threadIdx.y; token < tokens; token += 8)
            sum += to_float(from[static_cast<size_t>(token) * width]);
    }
    partial[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();

    // the 8 partial sums in order
    if (threadIdx.y == 0 && column < width) {
        sum = 0.0f;
#pragma unroll
        for (int part = 0; part < 8; ++part) sum += partial[part][threadIdx.x];
        y[static_cast<size_t>(image) * width + column] = from_float<T>(sum / tokens);
    }
}

template <class T>
__device__ __forceinline__ void mean_pool_backward(const T* dy, T* dx, int tokens, int width) {
    const int column = blockIdx.x * 256 + threadIdx.x, token = blockIdx.y, image = blockIdx.z;
    if (column >= width) return;
    const float gradient = to_float(dy[static_cast<size_t>(image) * width + column]) / tokens;
    dx[(static_cast<size_t>(image) * tokens + token) * width + column] = from_float<T>(gradient);
}

#define KERNELS(NAME, T)                                                                                          \
    extern "C" __global__ void __launch_bounds__(256) mean_pool_##NAME(const T* x, T* y, int tokens, int width) { \
        mean_pool(x, y, tokens, width);                                                                           \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
        mean_pool_backward_##NAME(const T* dy, T* dx, int tokens, int width) {                                    \
        mean_pool_backward(dy, dx, tokens, width);                                                                \
    }

KERNELS(f32, float)
KERNELS(bf16, bf16)
