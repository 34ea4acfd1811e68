// What a matrix product does with its sums before they leave the chip.
#pragma once

#include "activation.cuh"
#include "../common.cuh"

enum class Epilogue {
    STORE,                // out = sum (+ bias)
    ACTIVATE,             // hidden = sum (+ bias), out = act(hidden)
    ACTIVATE_BACKWARD,    // out = sum · act'(hidden), activated = act(hidden)
    ACCUMULATE,           // total (= or +=) sum, in f32
};

// Where the results go; what an epilogue does not use is null.
template <class T>
struct EpilogueArguments {
    T* out;                // [m, n]
    const float* bias;     // [n], or null
    T* hidden;             // [m, n]; written by ACTIVATE, read by ACTIVATE_BACKWARD
    T* activated;          // [m, n]
    float* total;          // [m, n]
    int activation;
    bool add;              // ACCUMULATE: += instead of =
};

// COUNT sums to neighbouring columns, the first of which is at `at`. VECTORS: all of them exist, and rows are 16-byte aligned;
// else `left` are left of the row.
template <int COUNT, bool VECTORS>
__device__ __forceinline__ void accumulate(float* total, bool add, size_t at, int left, const float (&v)[COUNT]) {
    if constexpr (VECTORS) {
#pragma unroll
        for (int i = 0; i < COUNT; i += 4) {
            float4* place = reinterpret_cast<float4*>(total + at + i);
            float4 sum = make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
            if (add) {
                const float4 old = *place;
                sum = make_float4(old.x + sum.x, old.y + sum.y, old.z + sum.z, old.w + sum.w);
            }
            *place = sum;
        }
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            if (i < left) total[at + i] = add ? total[at + i] + v[i] : v[i];
        }
    }
}

template <Epilogue E, class T, int COUNT, bool VECTORS>
__device__ __forceinline__ void store(
    const EpilogueArguments<T>& to, size_t at, int column, int n, float (&v)[COUNT]) {
    if constexpr (E == Epilogue::STORE || E == Epilogue::ACTIVATE) {
        if (to.bias != nullptr) {
#pragma unroll
            for (int i = 0; i < COUNT; ++i) v[i] += VECTORS || column + i < n ? to.bias[column + i] : 0.0f;
        }
    }
    // Slices of one vector: few registers live at a time.
#pragma unroll
    for (int first = 0; first < COUNT; first += VECTOR<T>) {
        float out[VECTOR<T>], other[VECTOR<T>];
        if constexpr (E == Epilogue::ACTIVATE_BACKWARD) {
            if constexpr (VECTORS) {
                load_vector(to.hidden + at + first, other);
            } else {
#pragma unroll
                for (int i = 0; i < VECTOR<T>; ++i)
                    other[i] = column + first + i < n ? to_float(to.hidden[at + first + i]) : 0.0f;
            }
        }
#pragma unroll
        for (int i = 0; i < VECTOR<T>; ++i) {
            out[i] = v[first + i];
            if constexpr (E == Epilogue::ACTIVATE) {
                other[i] = rounded<T>(out[i]);
                out[i] = activate(to.activation, other[i]).value;
            }
            if constexpr (E == Epilogue::ACTIVATE_BACKWARD) {
                const Activated act = activate(to.activation, other[i]);
                out[i] *= act.slope;
                other[i] = act.value;
            }
        }
        T* second = E == Epilogue::ACTIVATE ? to.hidden : to.activated;
        if constexpr (VECTORS) {
            store_vector(to.out + at + first, out);
            if constexpr (E != Epilogue::STORE) store_vector(second + at + first, other);
        } else {
#pragma unroll
            for (int i = 0; i < VECTOR<T>; ++i) {
                if (column + first + i < n) {
                    to.out[at + first + i] = from_float<T>(out[i]);
                    if constexpr (E != Epilogue::STORE) second[at + first + i] = from_float<T>(other[i]);
                }
            }
        }
    }
}

// COUNT neighbouring columns of a row, from `column` on.
template <Epilogue E, class T, int COUNT, bool VECTORS>
__device__ __forceinline__ void finish(const EpilogueArguments<T>& to, int row, int column, int n, float (&v)[COUNT]) {
    static_assert(COUNT % (E == Epilogue::ACCUMULATE ? 4 : VECTOR<T>) == 0);
    const size_t at = static_cast<size_t>(row) * n + column;
    if constexpr (E == Epilogue::ACCUMULATE) {
        accumulate<COUNT, VECTORS>(to.total, to.add, at, n - column, v);
    } else {
        store<E, T, COUNT, VECTORS>(to, at, column, n, v);
    }
}
