// Small kernels, from a vector sum to what compilers make of calls, printing and assertions.

#include <cassert>
#include <cstdio>
#include <cuda_bf16.h>

// out = a + b, of n elements.
extern "C" __global__ void vector_add(const float* a, const float* b, float* out, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = a[i] + b[i];
}

// y = alpha x + y, of n elements.
extern "C" __global__ void saxpy(float alpha, const float* x, float* y, int n)
{
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] += alpha * x[i];
}

__device__ float warp_sum(float x)
{
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

// Sum over the threads of a block; shared memory for one float a warp. Every thread gets it.
__device__ float block_sum(float x)
{
    __shared__ float partial[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    x = warp_sum(x);
    if (lane == 0) partial[warp] = x;
    __syncthreads();
    x = lane < blockDim.x / 32 ? partial[lane] : 0.f;
    x = warp_sum(x);
    __syncthreads();
    return x;
}

// y[r] = (x[r] - mean) / sqrt(var + eps) * gain, a block for each row of d.
extern "C" __global__ void layernorm(const float* x, const float* gain, float* y, int d, float eps)
{
    x += (size_t)blockIdx.x * d;
    y += (size_t)blockIdx.x * d;
    float sum = 0.f;
    for (int i = threadIdx.x; i < d; i += blockDim.x) sum += x[i];
    const float mean = block_sum(sum) / d;
    float squares = 0.f;
    for (int i = threadIdx.x; i < d; i += blockDim.x) squares += (x[i] - mean) * (x[i] - mean);
    const float rstd = rsqrtf(block_sum(squares) / d + eps);
    for (int i = threadIdx.x; i < d; i += blockDim.x) y[i] = (x[i] - mean) * rstd * gain[i];
}

// Transcendental functions of the CUDA library, whose slow paths use local memory and tables: 6 results for each x.
extern "C" __global__ void library(const float* x, float* out, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    out[6 * i + 0] = expf(x[i]);
    out[6 * i + 1] = tanhf(x[i]);
    out[6 * i + 2] = sinf(1000.f * x[i]);
    out[6 * i + 3] = erff(x[i]);
    out[6 * i + 4] = powf(fabsf(x[i]) + 0.1f, x[i]);
    out[6 * i + 5] = log1pf(fabsf(x[i]));
}

__device__ __noinline__ int collatz(int n)
{
    int steps = 0;
    while (n != 1) {
        n = n % 2 ? 3 * n + 1 : n / 2;
        ++steps;
    }
    return steps;
}

using Unary = int (*)(int);
__device__ __noinline__ int twice(int n) { return 2 * n; }
__device__ __noinline__ int square(int n) { return n * n; }
__device__ Unary functions[3] = {twice, square, collatz};

// Calls: direct ones in divergent code, and through a table of function pointers.
extern "C" __global__ void calls(int* direct, int* indirect, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    direct[i] = i % 3 ? collatz(i + 1) : -1;
    indirect[i] = functions[i % 3](i + 1);
}

// Sum of everything, by the last block to finish; deterministic. partial: one float a block; arrivals: 0.
extern "C" __global__ void last_block_sum(const float* x, float* partial, unsigned* arrivals, float* out, int n)
{
    float sum = 0.f;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
    sum = block_sum(sum);
    __shared__ bool last;
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
        __threadfence();
        last = atomicInc(arrivals, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last) return;
    sum = 0.f;
    for (int i = threadIdx.x; i < gridDim.x; i += blockDim.x) sum += partial[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *out = sum;
}

// A histogram by atomics: shared first, then global.
extern "C" __global__ void histogram(const unsigned char* x, unsigned* counts, int n)
{
    __shared__ unsigned local[256];
    for (int i = threadIdx.x; i < 256; i += blockDim.x) local[i] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&local[x[i]], 1u);
    __syncthreads();
    for (int i = threadIdx.x; i < 256; i += blockDim.x) atomicAdd(&counts[i], local[i]);
}

// Says hello from the threads whose number is a multiple of 32, then asserts that x[0] is not negative.
extern "C" __global__ void speaks(const int* x)
{
    if (threadIdx.x % 32 == 0) printf("block %d thread %d: %.3f %s\n", blockIdx.x, threadIdx.x, 0.5 * x[0], "hello");
    assert(x[0] >= 0);
}

// bf16 there and back, packed.
extern "C" __global__ void bf16_scale(const __nv_bfloat162* x, __nv_bfloat162* y, float scale, int pairs)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < pairs) y[i] = __hmul2(x[i], __float2bfloat162_rn(scale));
}
