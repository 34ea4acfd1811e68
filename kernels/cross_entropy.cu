// cross_entropy: softmax cross-entropy of rows of logits and its gradient, in the logits' memory.
//
// cross_entropy
//   reads   logits [rows, vocabulary], targets [rows] u16, weights [rows] f32
//   writes  nll [rows] f32 = −ln softmax(logits)[target], 0 if the target is not a class; logits = weight · (softmax − onehot),
//           NaN if weight · nll is not finite: no update may be made from a loss that is no number, and the gradient alone can
//           be finite (the target's logit far below the others)
//   grid    x: blocks of 8 rows;  block 8 warps, one row each
//   _512: at most 512 classes, which stay in registers between their one read and one write; vocabulary divisible by 8 and
//   logits by 16 bytes. _any: everything else, the row is read three times.
// weighted_sum
//   reads   values, weights [count] f32;  writes total [1] f32 = Σ values · weights; a weight of 0 leaves out even a NaN
//   grid    1;  block 1024 threads; static shared memory 256 B
// sums    f32 within a row, f64 of the rows, in fixed order: deterministic
#include "common.cuh"
#include "reduce.cuh"

constexpr int ROWS = 8;
constexpr int THREADS = ROWS * WARP;

// −ln(exp(logit − max) / sum). The difference of logits first: both are far larger than the nll when the model is sure.
__device__ __forceinline__ float negative_log_likelihood(float sum, float logit, float max) {
    return logf(sum) - (logit - max);
}

// What exp(logit − max) is multiplied by to give weight · softmax; NaN where the row's loss is not finite.
__device__ __forceinline__ float gradient_scale(float weight, float sum, float nll) {
    return isfinite(weight * nll) ? weight / sum : __int_as_float(0x7fffffff);
}

template <class T>
__device__ __forceinline__ void cross_entropy_512(
    T* logits, const uint16_t* targets, const float* weights, float* nll, int rows, int vocabulary) {
    constexpr int VALUES = 512 / WARP, STEP = VECTOR<T>;
    const int row = blockIdx.x * ROWS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    T* row_logits = logits + static_cast<size_t>(row) * vocabulary;
    const int target = targets[row];
    const float weight = weights[row];

    // logits -> registers, and their maximum
    float v[VALUES];
    float max = -INFINITY;
#pragma unroll
    for (int i = 0; i < VALUES; i += STEP) {
        const int column = (i / STEP * WARP + lane) * STEP;
        float part[STEP];
        if (column < vocabulary) load_vector(row_logits + column, part);
#pragma unroll
        for (int e = 0; e < STEP; ++e) {
            v[i + e] = column < vocabulary ? part[e] : -INFINITY;
            max = fmaxf(max, v[i + e]);
        }
    }
    max = lane_max(max);

    // softmax: exp(v − max) and its sum; the target's logit
    float sum = 0.0f, logit = 0.0f;
#pragma unroll
    for (int i = 0; i < VALUES; ++i) {
        if ((i / STEP * WARP + lane) * STEP + i % STEP == target) logit = v[i];
        v[i] = expf(v[i] - max);
        sum += v[i];
    }
    sum = lane_sum(sum);
    // One lane has it; the others add zero.
    logit = lane_sum(logit);
    const float row_nll = target < vocabulary ? negative_log_likelihood(sum, logit, max) : 0.0f;
    if (lane == 0) nll[row] = row_nll;

    // gradient: weight · (softmax − onehot)
    const float scale = gradient_scale(weight, sum, row_nll);
#pragma unroll
    for (int i = 0; i < VALUES; i += STEP) {
        const int column = (i / STEP * WARP + lane) * STEP;
        float part[STEP];
#pragma unroll
        for (int e = 0; e < STEP; ++e) {
            part[e] = weight == 0.0f ? 0.0f : v[i + e] * scale - (column + e == target ? weight : 0.0f);
        }
        if (column < vocabulary) store_vector(row_logits + column, part);
    }
}

template <class T>
__device__ __forceinline__ void cross_entropy_any(
    T* logits, const uint16_t* targets, const float* weights, float* nll, int rows, int vocabulary) {
    const int row = blockIdx.x * ROWS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    T* row_logits = logits + static_cast<size_t>(row) * vocabulary;
    const int target = targets[row];
    const float weight = weights[row];

    // maximum
    float max = -INFINITY;
    for (int column = lane; column < vocabulary; column += WARP) max = fmaxf(max, to_float(row_logits[column]));
    max = lane_max(max);

    // sum of exponentials
    float sum = 0.0f;
    for (int column = lane; column < vocabulary; column += WARP) sum += expf(to_float(row_logits[column]) - max);
    sum = lane_sum(sum);
    const float row_nll = target < vocabulary ? negative_log_likelihood(sum, to_float(row_logits[target]), max) : 0.0f;
    if (lane == 0) nll[row] = row_nll;
    // The target's logit has been read before it is overwritten.
    __syncwarp();

    // gradient: weight · (softmax − onehot)
    const float scale = gradient_scale(weight, sum, row_nll);
    for (int column = lane; column < vocabulary; column += WARP) {
        const float softmax = expf(to_float(row_logits[column]) - max) * scale;
        row_logits[column] = from_float<T>(weight == 0.0f ? 0.0f : softmax - (column == target ? weight : 0.0f));
    }
}

#define KERNELS(NAME, T)                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) cross_entropy_##NAME##_512(                     \
        T* logits, const uint16_t* targets, const float* weights, float* nll, int rows, int vocabulary) { \
        cross_entropy_512(logits, targets, weights, nll, rows, vocabulary);                               \
    }                                                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS) cross_entropy_##NAME##_any(                     \
        T* logits, const uint16_t* targets, const float* weights, float* nll, int rows, int vocabulary) { \
        cross_entropy_any(logits, targets, weights, nll, rows, vocabulary);                               \
    }

KERNELS(f32, float)
KERNELS(bf16, bf16)

extern "C" __global__ void __launch_bounds__(1024)
    weighted_sum(const float* values, const float* weights, float* total, int count) {
    __shared__ double smem[1024 / WARP];
    double sum = 0.0;
    for (int i = threadIdx.x; i < count; i += 1024) {
        if (weights[i] != 0.0f) sum += static_cast<double>(values[i]) * weights[i];
    }
    sum = group_sum<1024 / WARP>(sum, smem, threadIdx.x / WARP);
    if (threadIdx.x == 0) *total = static_cast<float>(sum);
}
