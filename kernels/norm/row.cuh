// A row that is normalised, in the registers of a group of warps.
#pragma once

#include "../reduce.cuh"

namespace row_norm {

// Columns of a thread.
constexpr int VALUES = 16;

// The columns of one thread of a group of WARPS warps.
template <int WARPS, bool ALIGNED, int RUN>
struct Columns {
    int thread;  // of the group
    int width;
    // Values of which any are columns: those behind them need no registers.
    int values = VALUES;

    // Column of value i; values come in runs of neighbours if ALIGNED.
    __device__ __forceinline__ int at(int i) const {
        return ALIGNED ? (i / RUN * WARPS * WARP + thread) * RUN + i % RUN : i * WARPS * WARP + thread;
    }
    __device__ __forceinline__ bool inside(int i) const { return i < values && at(i) < width; }

    template <class T>
    __device__ __forceinline__ void load(const T* row, float (&v)[VALUES]) const {
        if constexpr (ALIGNED) {
            constexpr int STEP = VECTOR<T>;
#pragma unroll
            for (int i = 0; i < VALUES; i += STEP) {
                float part[STEP] = {};
                if (inside(i)) load_vector(row + at(i), part);
#pragma unroll
                for (int e = 0; e < STEP; ++e) v[i + e] = part[e];
            }
        } else {
#pragma unroll
            for (int i = 0; i < VALUES; ++i) v[i] = inside(i) ? to_float(row[at(i)]) : 0.0f;
        }
    }
    template <class T>
    __device__ __forceinline__ void store(T* row, const float (&v)[VALUES]) const {
        if constexpr (ALIGNED) {
            constexpr int STEP = VECTOR<T>;
#pragma unroll
            for (int i = 0; i < VALUES; i += STEP) {
                float part[STEP];
#pragma unroll
                for (int e = 0; e < STEP; ++e) part[e] = v[i + e];
                if (inside(i)) store_vector(row + at(i), part);
            }
        } else {
#pragma unroll
            for (int i = 0; i < VALUES; ++i) {
                if (inside(i)) row[at(i)] = from_float<T>(v[i]);
            }
        }
    }
};

// A row of bf16 as it lies in memory: half the registers, and nothing waits for it before it is used.
struct Packed {
    static constexpr int STEP = VECTOR<bf16>;
    uint4 vectors[VALUES / STEP];

    template <class C>
    __device__ __forceinline__ void load(const C& columns, const bf16* row) {
#pragma unroll
        for (int i = 0; i < VALUES; i += STEP) {
            vectors[i / STEP] = make_uint4(0, 0, 0, 0);
            if (columns.inside(i)) vectors[i / STEP] = *reinterpret_cast<const uint4*>(row + columns.at(i));
        }
    }
    template <class C>
    __device__ __forceinline__ void store(const C& columns, bf16* row) const {
#pragma unroll
        for (int i = 0; i < VALUES; i += STEP) {
            if (columns.inside(i)) *reinterpret_cast<uint4*>(row + columns.at(i)) = vectors[i / STEP];
        }
    }
    __device__ __forceinline__ void unpack(float (&v)[VALUES]) const {
#pragma unroll
        for (int i = 0; i < VALUES; i += STEP) {
            float part[STEP];
            unpack_vector(vectors[i / STEP], part);
#pragma unroll
            for (int e = 0; e < STEP; ++e) v[i + e] = part[e];
        }
    }
    __device__ __forceinline__ void pack(const float (&v)[VALUES]) {
#pragma unroll
        for (int i = 0; i < VALUES; i += STEP) {
            vectors[i / STEP] = make_uint4(
                pack_bf16(v[i], v[i + 1]), pack_bf16(v[i + 2], v[i + 3]), pack_bf16(v[i + 4], v[i + 5]),
                pack_bf16(v[i + 6], v[i + 7]));
        }
    }
};

// x + delta, as it is stored.
template <class T>
__device__ __forceinline__ void add(float (&v)[VALUES], const float (&delta)[VALUES]) {
#pragma unroll
    for (int i = 0; i < VALUES; ++i) v[i] = rounded<T>(v[i] + delta[i]);
}

// A thread's part of the sum of a row.
__device__ __forceinline__ float total(const float (&v)[VALUES]) {
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < VALUES; ++i) total += v[i];
    return total;
}

// Values become their differences from the mean.
__device__ __forceinline__ void centre(float (&v)[VALUES], float mean) {
#pragma unroll
    for (int i = 0; i < VALUES; ++i) v[i] -= mean;
}

// The same, and a thread's part of the sum of their squares: the variance is of differences from the mean.
template <class C>
__device__ __forceinline__ float centred_squares(float (&v)[VALUES], const C& columns, float mean) {
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < VALUES; ++i) {
        v[i] -= mean;
        if (columns.inside(i)) squares = fmaf(v[i], v[i], squares);
    }
    return squares;
}

__device__ __forceinline__ float rstd_of(float squares, int width, float epsilon) {
    return 1.0f / sqrtf(squares / width + epsilon);
}

// (x − mean) · rstd · gain + bias, of differences from the mean.
__device__ __forceinline__ void scale(
    float (&v)[VALUES], float rstd, const float (&gain)[VALUES], const float (&bias)[VALUES]) {
#pragma unroll
    for (int i = 0; i < VALUES; ++i) v[i] = fmaf(v[i] * rstd, gain[i], bias[i]);
}

}  // namespace row_norm
