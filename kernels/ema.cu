// ema: the exponential moving average of a parameter.
//
// reads   parameter [count] f32, norm [1] f32
// writes  average [count] f32 in place: average + rate · (parameter − average). Nothing if the norm of the gradients is infinite
//         or NaN: that step was skipped, and so is it here
// grid    x: any number of blocks of 256 threads, which stride over the elements. Pointers divisible by 16.
//
// The master weights are averaged, never their bf16 copy: steps of rate 1e-4 would be lost in 8 bits.
#include "common.cuh"

__device__ __forceinline__ float approach(float average, float parameter, float rate) {
    return fmaf(rate, parameter - average, average);
}

extern "C" __global__ void __launch_bounds__(256)
    ema(float* average, const float* parameter, const float* norm, float rate, uint64_t count) {
    if (!isfinite(*norm)) return;
    const size_t thread = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x;
    const size_t threads = static_cast<size_t>(gridDim.x) * blockDim.x;

    // 4 elements at a time
    for (size_t i = thread; i < count / 4; i += threads) {
        float a[4], p[4];
        load_vector(average + 4 * i, a);
        load_vector(parameter + 4 * i, p);
#pragma unroll
        for (int e = 0; e < 4; ++e) a[e] = approach(a[e], p[e], rate);
        store_vector(average + 4 * i, a);
    }

    // the last count % 4 elements
    if (thread < count % 4) {
        const size_t i = count / 4 * 4 + thread;
        average[i] = approach(average[i], parameter[i], rate);
    }
}
