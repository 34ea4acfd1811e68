// attention's delta: the row sums of dO ∘ O, which backward subtracts from dP.
#pragma once

#include "../reduce.cuh"

// The sum of a row of D columns, of which LANES neighbouring lanes have the 8 partial sums: each adds up every eighth vector of 16 bytes.
// All of them get it. `load` gives vector v of O and of dO. A lane of two partial sums begins with the second where `swap` is set:
// rows that are read together can then lie in different banks. The order of the sum is the same for all LANES.
template <class T, int D, int LANES, class Load>
__device__ __forceinline__ float sum_of_row(bool swap, const Load& load) {
    constexpr int PARTS = 8 / LANES, VECTORS = D / VECTOR<T>;
    static_assert(PARTS == 1 || PARTS == 2);
    float sums[PARTS] = {};
#pragma unroll
    for (int i = 0; i < PARTS; ++i) {
        const int part = threadIdx.x % LANES + (swap ? PARTS - 1 - i : i) * LANES;
#pragma unroll
        for (int first = 0; first < VECTORS; first += 8) {
            if (VECTORS % 8 != 0 && first + part >= VECTORS) break;
            float o[VECTOR<T>], d[VECTOR<T>];
            load(first + part, o, d);
#pragma unroll
            for (int e = 0; e < VECTOR<T>; ++e) sums[i] = fmaf(o[e], d[e], sums[i]);
        }
    }
    return lane_sum<LANES>(PARTS == 2 ? sums[0] + sums[PARTS - 1] : sums[0]);
}
