// global_norm: the Euclidean norm of many tensors together; the result stays on the device.
//
// square_sums_f32, square_sums_bf16
//   reads   x [count];  writes partials [gridDim.x] f64: block b's sum of squares
//   grid    x: any number of blocks of 256 threads, which stride over the elements; the sum depends on the grid
// root_of_sum
//   reads   partials [count] f64;  writes norm [1] f32 = √Σ; skipped [2] f32, if not null: steps whose norm was not finite,
//           += 1 and, of those in a row, += 1 or = 0
//   grid    1;  block 256 threads
// sums    f64 (a product of two floats is exact there) in fixed order: deterministic. Static shared memory 64 B.
#include "common.cuh"
#include "reduce.cuh"

constexpr int THREADS = 256;

template <class T>
__device__ __forceinline__ void square_sums(const T* x, double* partials, size_t count) {
    __shared__ double smem[THREADS / WARP];
    const size_t thread = blockIdx.x * static_cast<size_t>(THREADS) + threadIdx.x;
    const size_t threads = static_cast<size_t>(gridDim.x) * THREADS;

    // vectors of 16 bytes, then the remainder
    double sum = 0.0;
    for (size_t i = thread; i < count / VECTOR<T>; i += threads) {
        float v[VECTOR<T>];
        load_vector(x + i * VECTOR<T>, v);
#pragma unroll
        for (int e = 0; e < VECTOR<T>; ++e) sum += static_cast<double>(v[e]) * v[e];
    }
    if (thread < count % VECTOR<T>) {
        const double last = to_float(x[count / VECTOR<T> * VECTOR<T> + thread]);
        sum += last * last;
    }

    // block reduction
    sum = group_sum<THREADS / WARP>(sum, smem, threadIdx.x / WARP);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    square_sums_f32(const float* x, double* partials, uint64_t count) {
    square_sums(x, partials, count);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    square_sums_bf16(const bf16* x, double* partials, uint64_t count) {
    square_sums(x, partials, count);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    root_of_sum(const double* partials, float* norm, float* skipped, int count) {
    __shared__ double smem[THREADS / WARP];
    double sum = 0.0;
    for (int i = threadIdx.x; i < count; i += THREADS) sum += partials[i];
    sum = group_sum<THREADS / WARP>(sum, smem, threadIdx.x / WARP);
    if (threadIdx.x != 0) return;

    const float root = static_cast<float>(sqrt(sum));
    *norm = root;
    if (skipped == nullptr) return;
    const bool finite = isfinite(root);
    skipped[0] += finite ? 0.0f : 1.0f;
    skipped[1] = finite ? 0.0f : skipped[1] + 1.0f;
}
