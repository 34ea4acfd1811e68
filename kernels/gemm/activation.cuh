// The MLP's activations and their derivatives. Forward and backward call the same functions on the same stored values, so
// that backward computes the very bits that forward multiplied with.
#pragma once

#include "../ptx.cuh"

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
// σ is good to a few ulp, and zero where it is less than 2⁻¹²⁶: five instructions for x σ. exp2f and __fdividef mind subnormal numbers, which
// 1 + 2^y has none of, and are twice as many; an IEEE division would be a call with a way of its own for small and large numbers.
__device__ __forceinline__ Activated quick_gelu(float x) {
    const float s = reciprocal_approximate(1.0f + exp2_approximate(-2.4554670f * x));  // 1.702 · log2 e
    const float value = x * s;
    return {value, fmaf(1.702f * value, 1.0f - s, s)};
}

// x Φ(x); its derivative is Φ + x φ. erfc keeps the digits of the left tail.
__device__ __forceinline__ Activated gelu(float x) {
    const float cdf = 0.5f * erfcf(-0.70710678f * x);
    return {x * cdf, fmaf(0.39894228f * x, expf(-0.5f * x * x), cdf)};
}

template <int ACTIVATION>
__device__ __forceinline__ Activated activate(float x) {
    return ACTIVATION == GELU ? gelu(x) : quick_gelu(x);
}

// Calls `body` with the activation as a constant: one branch for all elements of it, not one for each.
template <class Body>
__device__ __forceinline__ void with_activation(int activation, const Body& body) {
    if (activation == GELU) {
        body(Constant<GELU>());
    } else {
        body(Constant<QUICK_GELU>());
    }
}
