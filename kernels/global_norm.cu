// global_norm: the Euclidean norm of many tensors together; the result stays on the device.
//
// square_sums_f32, square_sums_bf16
//   reads   the tensors of a list, x [count] each;  writes partials [gridDim.x] f64: the sum of squares of block b's chunk
//   grid    x: the chunks of all tensors (tensor_list.cuh);  block 256 threads. Pointers divisible by 16.
// root_of_sum
//   reads   partials [count] f64;  writes norm [1] f32 = √Σ; skipped [2] f32, if not null: steps whose norm was not finite,
//           += 1 and, of those in a row, += 1 or = 0
//   grid    1;  block 1,024 threads
// sums    f64 (a product of two floats is exact there) in fixed order: deterministic. Static shared memory 64 and 256 B.
#include "reduce.cuh"
#include "tensor_list.cuh"

constexpr int THREADS = 256;
constexpr int ROOT_THREADS = 1024;

struct Summed {
    const void* x;
    uint32_t count;
    uint32_t end;  // chunks of this tensor and of those before
};
using Tensors = TensorList<Summed, 240>;

template <class T>
__device__ __forceinline__ void square_sums(const Tensors& list, double* partials) {
    __shared__ double smem[THREADS / WARP];
    const Chunk chunk = chunk_of(list, blockIdx.x);
    const T* x = static_cast<const T*>(list.entries[chunk.entry].x) + chunk.begin;

    // vectors of 16 bytes, then the tensor's last elements
    double sum = 0.0;
#pragma unroll 4
    for (int i = threadIdx.x; i < chunk.count / VECTOR<T>; i += THREADS) {
        float v[VECTOR<T>];
        load_vector(x + i * VECTOR<T>, v);
#pragma unroll
        for (int e = 0; e < VECTOR<T>; ++e) sum += static_cast<double>(v[e]) * v[e];
    }
    if (static_cast<int>(threadIdx.x) < chunk.count % VECTOR<T>) {
        const double last = to_float(x[chunk.count / VECTOR<T> * VECTOR<T> + threadIdx.x]);
        sum += last * last;
    }

    // block reduction
    sum = group_sum<THREADS / WARP>(sum, smem, threadIdx.x / WARP);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    square_sums_f32(const __grid_constant__ Tensors list, double* partials) {
    square_sums<float>(list, partials);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    square_sums_bf16(const __grid_constant__ Tensors list, double* partials) {
    square_sums<bf16>(list, partials);
}

extern "C" __global__ void __launch_bounds__(ROOT_THREADS)
    root_of_sum(const double* partials, float* norm, float* skipped, int count) {
    __shared__ double smem[ROOT_THREADS / WARP];
    double sum = 0.0;
#pragma unroll 8
    for (int i = threadIdx.x; i < count; i += ROOT_THREADS) sum += partials[i];
    sum = group_sum<ROOT_THREADS / WARP>(sum, smem, threadIdx.x / WARP);
    if (threadIdx.x != 0) return;

    const float root = static_cast<float>(sqrt(sum));
    *norm = root;
    if (skipped == nullptr) return;
    const bool finite = isfinite(root);
    skipped[0] += finite ? 0.0f : 1.0f;
    skipped[1] = finite ? 0.0f : skipped[1] + 1.0f;
}
