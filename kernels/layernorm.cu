// layernorm: normalises the last dimension, alone or of a residual sum, and its backward.
//
// layernorm
//   reads   x [rows, width], delta [rows, width] or null, gain [width] f32, bias [width] f32 or null
//   writes  sum = x + delta (if delta), normed = (x − mean) · rstd · gain + bias, stats [rows, 2] f32 = (mean, rstd)
//           with rstd = 1/√(var + epsilon) of the sum as it is stored; mean = 0 unless `centre`
//   grid    x: blocks of rows, one row per group
// layernorm_backward
//   reads   dy, x [rows, width], gain, stats as forward left them; d_stream [rows, width] or null
//   writes  dx [rows, width] = d_stream + the gradient, in d_stream's place or another; d_gain, d_bias [gridDim.x, width] f32: this
//           block's partial sums, for sum_partials.cu (d_bias may be null)
//   grid    x: any; block b does rows b · groups, .. + gridDim.x · groups, ..: the sums depend on the grid, and on nothing else
//
// A group of 1, 2, 4 or 8 warps holds a row in registers, 16 columns per thread, so memory is read once. Sums are f32 in fixed
// order: deterministic. The variance is of differences from the mean: two passes over registers.
// block 8 warps; static shared memory: 32 B forward, 16.1 KiB backward.
// _odd: any width up to 512 · group, no alignment; else width divisible by 8 and pointers by 16.
#include "norm/row.cuh"

using row_norm::Columns;
using row_norm::VALUES;
constexpr int BLOCK_WARPS = 8;
constexpr int THREADS = BLOCK_WARPS * WARP;

template <class T, int WARPS, bool ALIGNED>
__device__ __forceinline__ void layernorm(
    const T* x, const T* delta, const float* gain, const float* bias, T* sum, T* normed, float* stats, int rows,
    int width, float epsilon, int centre) {
    __shared__ float smem[BLOCK_WARPS];
    const int group = threadIdx.x / (WARPS * WARP), warp = threadIdx.x / WARP % WARPS;
    float* group_smem = smem + group * WARPS;
    const Columns<WARPS, ALIGNED, VECTOR<T>> columns{static_cast<int>(threadIdx.x) % (WARPS * WARP), width};
    const int row = blockIdx.x * (BLOCK_WARPS / WARPS) + group;
    const bool in_bounds = row < rows;
    const size_t offset = static_cast<size_t>(row) * width;
    // A row past the end has no columns.
    const Columns<WARPS, ALIGNED, VECTOR<T>> row_columns{columns.thread, in_bounds ? width : 0};

    // x (+ delta) -> registers
    float v[VALUES];
    row_columns.load(x + offset, v);
    if (delta != nullptr) {
        float residual[VALUES];
        row_columns.load(delta + offset, residual);
        row_norm::add<T>(v, residual);
        row_columns.store(sum + offset, v);
    }

    const float mean = centre ? group_sum<WARPS>(row_norm::total(v), group_smem, warp) / width : 0.0f;
    const float squares = group_sum<WARPS>(row_norm::centred_squares(v, columns, mean), group_smem, warp);
    const float rstd = row_norm::rstd_of(squares, width, epsilon);

    // (x − mean) · rstd · gain + bias
    float gains[VALUES], biases[VALUES] = {};
    columns.load(gain, gains);
    if (bias != nullptr) columns.load(bias, biases);
    row_norm::scale(v, rstd, gains, biases);
    row_columns.store(normed + offset, v);
    if (in_bounds && columns.thread == 0) reinterpret_cast<float2*>(stats)[row] = make_float2(mean, rstd);
}

// With u = gain · dy and n = (x − mean) · rstd: dx = rstd · (u − mean(u) − n · mean(u · n)); without mean(u) unless `centre`.
template <class T, int WARPS, bool ALIGNED>
__device__ __forceinline__ void layernorm_backward(
    const T* dy, const T* x, const float* gain, const float* stats, const T* d_stream, T* dx, float* d_gain,
    float* d_bias, int rows, int width, int centre) {
    constexpr int GROUPS = BLOCK_WARPS / WARPS;
    __shared__ float smem[BLOCK_WARPS];
    const int group = threadIdx.x / (WARPS * WARP), warp = threadIdx.x / WARP % WARPS;
    float* group_smem = smem + group * WARPS;
    const Columns<WARPS, ALIGNED, VECTOR<T>> columns{static_cast<int>(threadIdx.x) % (WARPS * WARP), width};
    float scale[VALUES], gain_sum[VALUES] = {}, bias_sum[VALUES] = {};
    columns.load(gain, scale);

    for (int first = blockIdx.x * GROUPS; first < rows; first += gridDim.x * GROUPS) {
        const int row = first + group;
        const bool in_bounds = row < rows;
        const size_t offset = static_cast<size_t>(row) * width;
        // A row past the end has no columns.
        const Columns<WARPS, ALIGNED, VECTOR<T>> row_columns{columns.thread, in_bounds ? width : 0};
        const float2 saved = in_bounds ? reinterpret_cast<const float2*>(stats)[row] : make_float2(0.0f, 0.0f);

        // dy, x, d_stream -> registers: the last before the reductions, behind which it would wait for memory again
        float g[VALUES], n[VALUES], stream[VALUES] = {};
        row_columns.load(dy + offset, g);
        row_columns.load(x + offset, n);
        if (d_stream != nullptr) row_columns.load(d_stream + offset, stream);

        // d_gain += dy · n, d_bias += dy; u = gain · dy; Σ u · n and Σ u
        float dot = 0.0f, shift = 0.0f;
#pragma unroll
        for (int i = 0; i < VALUES; ++i) {
            n[i] = (n[i] - saved.x) * saved.y;
            if (row_columns.inside(i)) {
                gain_sum[i] = fmaf(g[i], n[i], gain_sum[i]);
                bias_sum[i] += g[i];
            }
            // Zero past the width.
            g[i] *= scale[i];
            dot = fmaf(g[i], n[i], dot);
            shift += g[i];
        }
        dot = group_sum<WARPS>(dot, group_smem, warp) / width;
        shift = centre ? group_sum<WARPS>(shift, group_smem, warp) / width : 0.0f;

        // dx = rstd · (u − mean(u) − n · mean(u · n)), + the residual stream's gradient
#pragma unroll
        for (int i = 0; i < VALUES; ++i) g[i] = fmaf(saved.y, g[i] - shift - n[i] * dot, stream[i]);
        row_columns.store(dx + offset, g);
    }

    // d_gain, d_bias: the groups' sums, in order
    const auto finish = [&](float (&sums)[VALUES], float* partials) {
        if constexpr (GROUPS > 1) {
            __shared__ float partial[VALUES][THREADS];
#pragma unroll
            for (int i = 0; i < VALUES; ++i) partial[i][threadIdx.x] = sums[i];
            __syncthreads();
            if (group == 0) {
#pragma unroll
                for (int i = 0; i < VALUES; ++i) {
                    float sum = 0.0f;
#pragma unroll
                    for (int g = 0; g < GROUPS; ++g) sum += partial[i][g * WARPS * WARP + threadIdx.x];
                    sums[i] = sum;
                }
            }
            __syncthreads();
        }
        if (group == 0) columns.store(partials + static_cast<size_t>(blockIdx.x) * width, sums);
    };
    finish(gain_sum, d_gain);
    if (d_bias != nullptr) finish(bias_sum, d_bias);
}

#define KERNELS(NAME, T, WARPS, ALIGNED)                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS) layernorm_##NAME(                                           \
        const T* x, const T* delta, const float* gain, const float* bias, T* sum, T* normed, float* stats, int rows,  \
        int width, float epsilon, int centre) {                                                                       \
        layernorm<T, WARPS, ALIGNED>(x, delta, gain, bias, sum, normed, stats, rows, width, epsilon, centre);         \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(THREADS) layernorm_backward_##NAME(                                  \
        const T* dy, const T* x, const float* gain, const float* stats, const T* d_stream, T* dx, float* d_gain,      \
        float* d_bias, int rows, int width, int centre) {                                                             \
        layernorm_backward<T, WARPS, ALIGNED>(dy, x, gain, stats, d_stream, dx, d_gain, d_bias, rows, width, centre); \
    }
#define TYPES(NAME, WARPS, ALIGNED)            \
    KERNELS(f32_##NAME, float, WARPS, ALIGNED) \
    KERNELS(bf16_##NAME, bf16, WARPS, ALIGNED)

TYPES(1, 1, true)
TYPES(2, 2, true)
TYPES(4, 4, true)
TYPES(8, 8, true)
TYPES(1_odd, 1, false)
TYPES(8_odd, 8, false)
