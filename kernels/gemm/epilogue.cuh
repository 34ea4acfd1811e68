// The epilogue: what a GEMM does with its accumulators before they leave the chip.
#pragma once

#include "../common.cuh"
#include "activation.cuh"

enum class Epilogue {
    STORE,              // out = acc (+ bias)
    ACTIVATE,           // hidden = acc (+ bias), out = act(hidden)
    ACTIVATE_BACKWARD,  // out = acc · act'(hidden), activated = act(hidden)
    ACCUMULATE,         // total (= or +=) acc, in f32
};

// Where results go; pointers that an epilogue does not use are null.
template <class T>
struct EpilogueArguments {
    T* out;             // [m, n]
    const float* bias;  // [n], or null
    T* hidden;          // [m, n]; written by ACTIVATE, read by ACTIVATE_BACKWARD
    T* activated;       // [m, n]
    float* total;       // [m, n]
    int activation;
    bool add;  // ACCUMULATE: += instead of =
};

// ACCUMULATE: COUNT accumulators to neighbouring columns, the first of which is at `at`. VECTORS: all columns exist, and rows
// are 16-byte aligned; otherwise only the first `left` columns exist.
template <int COUNT, bool VECTORS>
__device__ __forceinline__ void accumulate(float* total, bool add, size_t at, int left, const float (&v)[COUNT]) {
    if constexpr (VECTORS) {
#pragma unroll
        for (int i = 0; i < COUNT; i += 4) {
            float4* target = reinterpret_cast<float4*>(total + at + i);
            float4 sum = make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
            if (add) {
                const float4 old = *target;
                sum = make_float4(old.x + sum.x, old.y + sum.y, old.z + sum.z, old.w + sum.w);
            }
            *target = sum;
        }
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            if (i < left) total[at + i] = add ? total[at + i] + v[i] : v[i];
        }
    }
}

// STORE, ACTIVATE, ACTIVATE_BACKWARD: the same to tensors of T.
template <Epilogue E, int ACTIVATION, class T, int COUNT, bool VECTORS>
__device__ __forceinline__ void store(const EpilogueArguments<T>& to, size_t at, int column, int n, float (&v)[COUNT]) {
    // + bias
    if constexpr (E == Epilogue::STORE || E == Epilogue::ACTIVATE) {
        if (to.bias != nullptr) {
#pragma unroll
            for (int i = 0; i < COUNT; ++i) v[i] += VECTORS || column + i < n ? to.bias[column + i] : 0.0f;
        }
    }

    // One vector at a time, so that few registers are live.
#pragma unroll
    for (int first = 0; first < COUNT; first += VECTOR<T>) {
        float out[VECTOR<T>], other[VECTOR<T>];

        // hidden -> registers
        if constexpr (E == Epilogue::ACTIVATE_BACKWARD) {
            if constexpr (VECTORS) {
                load_vector(to.hidden + at + first, other);
            } else {
#pragma unroll
                for (int i = 0; i < VECTOR<T>; ++i)
                    other[i] = column + first + i < n ? to_float(to.hidden[at + first + i]) : 0.0f;
            }
        }

        // activation and its slope
#pragma unroll
        for (int i = 0; i < VECTOR<T>; ++i) {
            out[i] = v[first + i];
            if constexpr (E == Epilogue::ACTIVATE) {
                other[i] = rounded<T>(out[i]);
                out[i] = activate<ACTIVATION>(other[i]).value;
            }
            if constexpr (E == Epilogue::ACTIVATE_BACKWARD) {
                const Activated act = activate<ACTIVATION>(other[i]);
                out[i] *= act.slope;
                other[i] = act.value;
            }
        }

        // 16-byte stores
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
    } else if constexpr (E == Epilogue::STORE) {
        store<E, 0, T, COUNT, VECTORS>(to, at, column, n, v);
    } else {
        with_activation(to.activation, [&](auto activation) {
            store<E, decltype(activation)::value, T, COUNT, VECTORS>(to, at, column, n, v);
        });
    }
}
