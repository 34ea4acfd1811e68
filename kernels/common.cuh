// Shared by all kernels: the number types, rounding, and 16-byte accesses.
#pragma once

#include <cuda_bf16.h>
#include <stdint.h>

using bf16 = __nv_bfloat16;

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// Elements of T in 16 bytes, the widest access.
template <class T>
constexpr int VECTOR = 16 / sizeof(T);

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }

template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
    return x;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
    return __float2bfloat16_rn(x);
}

// x rounded to T.
template <class T>
__device__ __forceinline__ float rounded(float x);

// Two floats as bf16, the first in the lower half.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<uint32_t*>(&pair);
}
__device__ __forceinline__ float low_bf16(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_bf16(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

template <>
__device__ __forceinline__ float rounded<float>(float x) {
    return x;
}
// As one of a pair: from compute capability 9.0 on the conversion of a single float takes the pipe of special functions (F2F).
template <>
__device__ __forceinline__ float rounded<bf16>(float x) {
    return low_bf16(pack_bf16(x, 0.0f));
}

// 16 bytes at an address divisible by 16, as floats.
__device__ __forceinline__ void unpack_vector(uint4 raw, float (&v)[4]) {
    v[0] = __uint_as_float(raw.x);
    v[1] = __uint_as_float(raw.y);
    v[2] = __uint_as_float(raw.z);
    v[3] = __uint_as_float(raw.w);
}
__device__ __forceinline__ void unpack_vector(uint4 raw, float (&v)[8]) {
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        v[2 * i] = low_bf16(words[i]);
        v[2 * i + 1] = high_bf16(words[i]);
    }
}
template <class T>
__device__ __forceinline__ void load_vector(const T* from, float (&v)[VECTOR<T>]) {
    unpack_vector(*reinterpret_cast<const uint4*>(from), v);
}
__device__ __forceinline__ void store_vector(float* to, const float (&v)[4]) {
    *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
}
__device__ __forceinline__ void store_vector(bf16* to, const float (&v)[8]) {
    *reinterpret_cast<uint4*>(to) =
        make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
}

// A number that is known when the code is compiled, as an argument.
template <int VALUE>
struct Constant {
    static constexpr int value = VALUE;
};

// Number of blocks of `size` that cover `count`.
__host__ __device__ constexpr int blocks_of(int count, int size) { return (count + size - 1) / size; }
