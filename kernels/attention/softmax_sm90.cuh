// Attention's forward on compute capability 9.0: masks and the online softmax of a tile of scores, in a warpgroup's accumulators. A thread has
// of rows lane / 4 and lane / 4 + 8 of its warp's 16 two neighbouring keys of each 8.
#pragma once

#include "../reduce.cuh"
#include "tile_sm90.cuh"

namespace attention_sm90 {

// mask: keys past the last, and under a causal mask those later than their query. As bits, which ptxas tests seven at a time, it made 562
// instructions of a masked trip's 579 at D 64: too little for what there was to read.
template <int COUNT>
__device__ __forceinline__ void mask(float (&scores)[COUNT], int first_query, int first_key, int tokens, bool causal) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x % GROUP_THREADS / WARP;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int query = first_query + warp * 16 + lane / 4 + half * 8;
        const int limit = (causal ? min(tokens, query + 1) : tokens) - first_key - lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < COUNT / 4; ++i) {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                if (i * 8 + e >= limit) scores[i * 4 + half * 2 + e] = -INFINITY;
            }
        }
    }
}

// online softmax: P = exp(S − max), and what came before is to shrink by `factor`. Maxima in units of ln 2.
template <bool FIRST, int COUNT>
__device__ __forceinline__ void softmax(
    float (&scores)[COUNT], float exponent_scale, float (&row_max)[2], float (&row_sum)[2], float (&factor)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float largest[2] = {scores[half * 2], scores[half * 2 + 1]};
#pragma unroll
        for (int i = 1; i < COUNT / 4; ++i) {
#pragma unroll
            for (int e = 0; e < 2; ++e) largest[e] = fmaxf(largest[e], scores[i * 4 + half * 2 + e]);
        }
        // Finite: every query sees key 0, which came first.
        float new_max = lane_max<4>(fmaxf(largest[0], largest[1])) * exponent_scale;
        if constexpr (!FIRST) {
            new_max = fmaxf(row_max[half], new_max);
            factor[half] = exp2_approximate(row_max[half] - new_max);
        }
        row_max[half] = new_max;
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float total = 0.0f;
#pragma unroll
        for (int i = 0; i < COUNT / 4; ++i) {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                float& score = scores[i * 4 + half * 2 + e];
                score = exp2_approximate(fmaf(score, exponent_scale, -row_max[half]));
                total += score;
            }
        }
        row_sum[half] = FIRST ? total : fmaf(row_sum[half], factor[half], total);
    }
}

}  // namespace attention_sm90
