// Sums and maxima over lanes and warps. The order is fixed, so the same numbers give the same bits.
#pragma once

#include "common.cuh"

// Warp reductions over groups of WIDTH lanes; every lane gets the result.
template <int WIDTH = WARP, class T>
__device__ __forceinline__ T lane_sum(T x) {
#pragma unroll
    for (int distance = WIDTH / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(ALL_LANES, x, distance);
    return x;
}
template <int WIDTH = WARP>
__device__ __forceinline__ float lane_max(float x) {
#pragma unroll
    for (int distance = WIDTH / 2; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, distance));
    return x;
}

// Block reduction over a group of WARPS warps; `warp` is this one's index in the group. Every thread gets the result. `smem` is
// shared memory, one element per warp of the group, and all threads of the block must call this. The second of its two barriers
// frees the memory again.
template <int WARPS, class T>
__device__ __forceinline__ T group_sum(T x, T* smem, int warp) {
    x = lane_sum(x);
    if constexpr (WARPS > 1) {
        if (threadIdx.x % WARP == 0) smem[warp] = x;
        __syncthreads();
        x = smem[0];
#pragma unroll
        for (int other = 1; other < WARPS; ++other) x += smem[other];
        __syncthreads();
    }
    return x;
}
