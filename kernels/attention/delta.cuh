// attention's delta: the row sums of dO ∘ O, which backward subtracts from dP.
#pragma once

#include "../reduce.cuh"

template <class T>
__device__ __forceinline__ void attention_delta(
    const T* output, const T* dy, float* delta, int rows, int tokens, int heads, int head_dim, int aligned) {
    const int index = blockIdx.x * 32 + threadIdx.x / 8, part = threadIdx.x % 8;

    // this thread's part of dO · O
    float sum = 0.0f;
    if (index < rows) {
        const size_t at = static_cast<size_t>(index) * head_dim;
        if (aligned) {
            for (int e = part * VECTOR<T>; e < head_dim; e += 8 * VECTOR<T>) {
                float o[VECTOR<T>], d[VECTOR<T>];
                load_vector(output + at + e, o);
                load_vector(dy + at + e, d);
#pragma unroll
                for (int i = 0; i < VECTOR<T>; ++i) sum = fmaf(o[i], d[i], sum);
            }
        } else {
            for (int e = part; e < head_dim; e += 8) sum = fmaf(to_float(output[at + e]), to_float(dy[at + e]), sum);
        }
    }

    // reduction over 8 lanes; [batch, tokens, heads] -> [batch, heads, tokens]
    sum = lane_sum<8>(sum);
    if (index < rows && part == 0) {
        const int head = index % heads, token = index / heads % tokens, image = index / heads / tokens;
        delta[(static_cast<size_t>(image) * heads + head) * tokens + token] = sum;
    }
}
