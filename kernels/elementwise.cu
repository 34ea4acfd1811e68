// add_assign and the conversions between f32 and bf16.
//
// add_assign_f32, add_assign_bf16: into [count] += other [count]
// to_bf16, to_f32:                 to [count] = from [count], rounded to nearest
// grid x: any number of blocks of 256 threads, which stride over the elements. Pointers divisible by 16.
#include "common.cuh"

// `vectors(first)` for each 8 elements, `single(index)` for what is left.
template <class Vectors, class Single>
__device__ __forceinline__ void for_each(size_t count, Vectors vectors, Single single) {
    const size_t thread = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x;
    const size_t threads = static_cast<size_t>(gridDim.x) * blockDim.x;
    for (size_t i = thread; i < count / 8; i += threads) vectors(i * 8);
    if (thread < count % 8) single(count / 8 * 8 + thread);
}

__device__ __forceinline__ void load_8(const float* from, float (&v)[8]) {
#pragma unroll
    for (int half = 0; half < 8; half += 4) {
        float part[4];
        load_vector(from + half, part);
#pragma unroll
        for (int e = 0; e < 4; ++e) v[half + e] = part[e];
    }
}
__device__ __forceinline__ void load_8(const bf16* from, float (&v)[8]) { load_vector(from, v); }
__device__ __forceinline__ void store_8(float* to, const float (&v)[8]) {
    store_vector(to, {v[0], v[1], v[2], v[3]});
    store_vector(to + 4, {v[4], v[5], v[6], v[7]});
}
__device__ __forceinline__ void store_8(bf16* to, const float (&v)[8]) { store_vector(to, v); }

template <class T>
__device__ __forceinline__ void add_assign(T* into, const T* other, size_t count) {
    for_each(
        count,
        [=](size_t i) {
            float a[8], b[8];
            load_8(into + i, a);
            load_8(other + i, b);
#pragma unroll
            for (int e = 0; e < 8; ++e) a[e] += b[e];
            store_8(into + i, a);
        },
        [=](size_t i) { into[i] = from_float<T>(to_float(into[i]) + to_float(other[i])); });
}

template <class To, class From>
__device__ __forceinline__ void convert(To* to, const From* from, size_t count) {
    for_each(
        count,
        [=](size_t i) {
            float v[8];
            load_8(from + i, v);
            store_8(to + i, v);
        },
        [=](size_t i) { to[i] = from_float<To>(to_float(from[i])); });
}

extern "C" __global__ void __launch_bounds__(256) add_assign_f32(float* into, const float* other, uint64_t count) {
    add_assign(into, other, count);
}
extern "C" __global__ void __launch_bounds__(256) add_assign_bf16(bf16* into, const bf16* other, uint64_t count) {
    add_assign(into, other, count);
}
extern "C" __global__ void __launch_bounds__(256) to_bf16(bf16* to, const float* from, uint64_t count) {
    convert(to, from, count);
}
extern "C" __global__ void __launch_bounds__(256) to_f32(float* to, const bf16* from, uint64_t count) {
    convert(to, from, count);
}
