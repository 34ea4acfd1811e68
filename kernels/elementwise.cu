// add_assign and the conversions between f32 and bf16.
//
// add_assign_f32, add_assign_bf16: into [count] += other [count]
// to_bf16, to_f32:                 to [count] = from [count], rounded to nearest
// grid x: any number of blocks of 256 threads, which stride over the elements. Pointers divisible by 16.
//
// A thread takes 16 bytes of the wider side at a time, so that a warp's accesses fill whole sectors.
#include "common.cuh"

// `vectors(first)` for each COUNT elements, `single(index)` for what is left.
template <int COUNT, class Vectors, class Single>
__device__ __forceinline__ void for_each(size_t count, Vectors vectors, Single single) {
    const size_t thread = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x;
    const size_t threads = static_cast<size_t>(gridDim.x) * blockDim.x;
    for (size_t i = thread; i < count / COUNT; i += threads) vectors(i * COUNT);
    if (thread < count % COUNT) single(count / COUNT * COUNT + thread);
}

template <class T>
__device__ __forceinline__ void add_assign(T* into, const T* other, size_t count) {
    for_each<VECTOR<T>>(
        count,
        [=](size_t i) {
            float a[VECTOR<T>], b[VECTOR<T>];
            load_vector(into + i, a);
            load_vector(other + i, b);
#pragma unroll
            for (int e = 0; e < VECTOR<T>; ++e) a[e] += b[e];
            store_vector(into + i, a);
        },
        [=](size_t i) { into[i] = from_float<T>(to_float(into[i]) + to_float(other[i])); });
}

__device__ __forceinline__ void to_bf16_4(bf16* to, const float* from) {
    float v[4];
    load_vector(from, v);
    *reinterpret_cast<uint2*>(to) = make_uint2(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]));
}
__device__ __forceinline__ void to_f32_4(float* to, const bf16* from) {
    const uint2 raw = *reinterpret_cast<const uint2*>(from);
    store_vector(to, {low_bf16(raw.x), high_bf16(raw.x), low_bf16(raw.y), high_bf16(raw.y)});
}

extern "C" __global__ void __launch_bounds__(256) add_assign_f32(float* into, const float* other, uint64_t count) {
    add_assign(into, other, count);
}
extern "C" __global__ void __launch_bounds__(256) add_assign_bf16(bf16* into, const bf16* other, uint64_t count) {
    add_assign(into, other, count);
}
extern "C" __global__ void __launch_bounds__(256) to_bf16(bf16* to, const float* from, uint64_t count) {
    for_each<4>(
        count, [=](size_t i) { to_bf16_4(to + i, from + i); }, [=](size_t i) { to[i] = from_float<bf16>(from[i]); });
}
extern "C" __global__ void __launch_bounds__(256) to_f32(float* to, const bf16* from, uint64_t count) {
    for_each<4>(count, [=](size_t i) { to_f32_4(to + i, from + i); }, [=](size_t i) { to[i] = to_float(from[i]); });
}
