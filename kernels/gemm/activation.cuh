// The MLP's activations and their derivatives. Forward and backward call the same functions on the same stored values, so
// that backward computes the very bits that forward multiplied with.
#pragma once

#include "../common.cuh"

// Values of the launches' argument `activation`.
constexpr int QUICK_GELU = 0;
constexpr int GELU = 1;

// value = act(x), slope = act'(x).
struct Activated {
    float value;
    float slope;
};

// x σ(1.702 x); its derivative is σ + 1.702 x σ (1 − σ).
//
// The division is good to 2 ulp, and zero where σ < 2⁻¹²⁶. An IEEE division would be a call with a way of its own for small and large
// numbers: of 8 elements in a row 8 regions of divergence, one after another.
__device__ __forceinline__ Activated quick_gelu(float x) {
    const float s = __fdividef(1.0f, 1.0f + exp2f(-2.4554670f * x));  // 1.702 · log2 e
    const float value = x * s;
    return {value, fmaf(1.702f * value, 1.0f - s, s)};
}

// x Φ(x); its derivative is Φ + x φ. erfc keeps the digits of the left tail.
__device__ __forceinline__ Activated gelu(float x) {
    const float cdf = 0.5f * erfcf(-0.70710678f * x);
    return {x * cdf, fmaf(0.39894228f * x, expf(-0.5f * x * x), cdf)};
}

__device__ __forceinline__ Activated activate(int activation, float x) {
    return activation == GELU ? gelu(x) : quick_gelu(x);
}
