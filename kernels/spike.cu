// judge_spike: whether a step's loss or gradient is far above those of the steps before it. The rule: src/device/ops/spike.rs.
//
// reads    losses [count] f32, whose sum is the loss
// updates  recent [7] f32: steps skipped in a row; the norm; steps that the rest is of; mean and variance of loss and norm
//          verdict [3] f32: of a spike infinity, one step more skipped, and one more in a row
// grid     1;  block 32 threads. Sums and statistics in f64, in fixed order: deterministic
#include "reduce.cuh"

__device__ __forceinline__ bool is_above(double value, float mean, float variance, float sigmas) {
    return value > mean + static_cast<double>(sigmas) * sqrt(static_cast<double>(variance));
}

// mean and variance at `of`, with one value more
__device__ __forceinline__ void take_in(float* of, double value, double rate) {
    const double off = value - of[0];
    of[0] = static_cast<float>(of[0] + rate * off);
    of[1] = static_cast<float>((1.0 - rate) * (of[1] + rate * off * off));
}

extern "C" __global__ void __launch_bounds__(32)
    judge_spike(const float* losses, int count, float sigmas, float* recent, float* verdict, int known, int window) {
    double loss = 0.0;
    for (int i = threadIdx.x; i < count; i += WARP) loss += losses[i];
    loss = lane_sum(loss);
    if (threadIdx.x != 0) return;

    const float norm = verdict[0];
    recent[1] = norm;
    if (isfinite(norm)) {
        const bool above = is_above(loss, recent[3], recent[4], sigmas) || is_above(norm, recent[5], recent[6], sigmas);
        if (above && recent[2] >= static_cast<float>(known)) {
            verdict[0] = INFINITY;
            verdict[1] += 1.0f;
            verdict[2] = recent[0] + 1.0f;
        } else {
            recent[2] += 1.0f;
            const double rate = fmax(1.0 / recent[2], 2.0 / (window + 1));
            take_in(recent + 3, loss, rate);
            take_in(recent + 5, norm, rate);
        }
    }
    recent[0] = verdict[2];
}
