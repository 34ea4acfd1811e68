// What attention has in common in both precisions.
#pragma once

#include "../common.cuh"

// exp(x) = exp2(LOG2_E · x), ln(x) = LN_2 · log2(x).
constexpr float LOG2_E = 1.44269504f;
constexpr float LN_2 = 0.69314718f;

// One head of one image: its first token's columns, and the elements from a token to the next.
template <class T>
struct Head {
    const T* rows;
    size_t stride;
    int tokens;
    int head_dim;
    // Rows can be read in 16 bytes: head_dim divisible by the elements of 16 bytes, everything by 16 bytes.
    bool aligned;
};
