// adam: the whole update of many parameters in one pass (Kingma & Ba 2015, algorithm 1).
//
// reads   of each tensor of the list gradient [count] f32; factors, norm [1] f32 or null
// writes  parameter, first, second [count] f32 in place; copy [count] bf16 = the new parameter, if not null. Nothing if the norm
//         is infinite or NaN: such a gradient must not reach the weights
// grid    x: the chunks of all tensors (tensor_list.cuh);  block 256 threads. Pointers divisible by 16.
//
// The step's numbers are read from memory, not passed, so that a captured graph can be replayed with those of the next step. So
// is the norm that gradients are clipped by: the host reads it when the step is long done.
#include "tensor_list.cuh"

constexpr int THREADS = 256;

// A parameter with its gradient, moments and copy.
struct Updated {
    float* parameter;
    const float* gradient;
    float* first;
    float* second;
    bf16* copy;
    uint32_t count;
    uint32_t end;  // chunks of this tensor and of those before
};
using Parameters = TensorList<Updated, 80>;

// The numbers of a step, as the host writes them.
struct Factors {
    float beta1;
    float beta2;
    float rate;  // learning rate / (1 − β₁ᵗ)
    float root;  // 1 / √(1 − β₂ᵗ)
    float epsilon;
};

// m = β₁ m + (1 − β₁) g, v = β₂ v + (1 − β₂) g²; returns p − rate · m / (√v · root + ε).
__device__ __forceinline__ float update(float p, float g, float& m, float& v, const Factors& f) {
    m = fmaf(f.beta1, m, (1.0f - f.beta1) * g);
    v = fmaf(f.beta2, v, (1.0f - f.beta2) * g * g);
    return p - f.rate * m / fmaf(sqrtf(v), f.root, f.epsilon);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    adam(const __grid_constant__ Parameters list, const Factors* factors, const float* norm, float max_norm) {
    if (norm != nullptr && !isfinite(*norm)) return;
    const Factors f = *factors;
    // clip threshold / gradient norm; a norm of zero clips nothing, nor does an infinite threshold.
    const float clip = norm != nullptr ? fminf(max_norm / *norm, 1.0f) : 1.0f;

    // this block's chunk
    const Chunk chunk = chunk_of(list, blockIdx.x);
    const Updated& tensor = list.entries[chunk.entry];
    float *parameter = tensor.parameter + chunk.begin, *first = tensor.first + chunk.begin;
    float* second = tensor.second + chunk.begin;
    const float* gradient = tensor.gradient + chunk.begin;
    bf16* copy = tensor.copy != nullptr ? tensor.copy + chunk.begin : nullptr;

    // 4 elements at a time
    for (int i = threadIdx.x; i < chunk.count / 4; i += THREADS) {
        float p[4], g[4], m[4], v[4];
        load_vector(parameter + 4 * i, p);
        load_vector(gradient + 4 * i, g);
        load_vector(first + 4 * i, m);
        load_vector(second + 4 * i, v);

#pragma unroll
        for (int e = 0; e < 4; ++e) p[e] = update(p[e], g[e] * clip, m[e], v[e], f);

        store_vector(parameter + 4 * i, p);
        store_vector(first + 4 * i, m);
        store_vector(second + 4 * i, v);
        if (copy != nullptr) {
            *reinterpret_cast<uint2*>(copy + 4 * i) = make_uint2(pack_bf16(p[0], p[1]), pack_bf16(p[2], p[3]));
        }
    }

    // the tensor's last count % 4 elements
    if (static_cast<int>(threadIdx.x) < chunk.count % 4) {
        const int i = chunk.count / 4 * 4 + threadIdx.x;
        parameter[i] = update(parameter[i], gradient[i] * clip, first[i], second[i], f);
        if (copy != nullptr) copy[i] = from_float<bf16>(parameter[i]);
    }
}
