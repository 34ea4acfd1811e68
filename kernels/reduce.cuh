// Sums and maxima over lanes and warps. The order is fixed, so the same numbers give the same bits.
#pragma once

#include "common.cuh"

// Over groups of WIDTH lanes; every lane gets the result.
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

// Over a group of WARPS warps, whose `warp` is this one; every thread gets the result. `room` is shared, one place a warp of
// the group, and all threads of the block must come here. Two barriers: the second frees the room.
template <int WARPS, class T>
__device__ __forceinline__ T group_sum(T x, T* room, int warp) {
    x = lane_sum(x);
    if constexpr (WARPS > 1) {
        if (threadIdx.x % WARP == 0) room[warp] = x;
        __syncthreads();
        x = room[0];
#pragma unroll
        for (int other = 1; other < WARPS; ++other) x += room[other];
        __syncthreads();
    }
    return x;
}
