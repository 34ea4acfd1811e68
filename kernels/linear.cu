// linear: the GEMMs of linear layers and of the MLP, in bf16 on tensor cores (gemm/bf16.cuh) and in full f32 (gemm/f32.cuh).
//
// reads   a, b (bf16 or f32), bias [n] (f32 or null), hidden [m, n]
// writes  STORE out = a · b + bias; ACTIVATE hidden = a · b + bias, out = act(hidden); ACTIVATE_BACKWARD
//         out = (a · b) · act'(hidden), activated = act(hidden); ACCUMULATE total (f32) = or += a · b
// layout  forward        a [m, k], b [k, n]: y = x · W of [in, out]; dx = dy · W of [out, in]
//         transposed     a [m, k], b [n, k]: y = x · Wᵀ of [out, in]; dx = dy · Wᵀ of [in, out]
//         weight         a [k, m], b [k, n]: dW = xᵀ · dy of [in, out], dyᵀ · x of [out, in]
// sums    f32, in an order fixed by the shapes and gridDim.z: deterministic
// grid    x: tiles of m × tiles of n; z: splits of k. With more than one split, block z writes (=) its partial sums to
//         total + z · m · n, and sum_partials.cu adds them up.
// block   128 threads; dynamic shared memory: bf16 SHARED_BYTES of the tile, f32 none. _few: 256 threads, no splits, x: tiles of n,
//         y: tiles of m
//
// bf16: _128, _64 the tile; _short: 3 stages for 4 and the epilogue in 2 parts, for cards of which two blocks of the other would not
// fit a multiprocessor. _odd: any k, n, and pointers without alignment; the others need those of the contiguous dimensions
// divisible by 8 and pointers by 16. _few: a few rows of a, aligned (gemm/few_rows.cuh).
// f32: one kernel for all shapes; `vectors` says that n is divisible by 4 and the outputs by 16 bytes.
// linear_weights_*: `weight` of several GEMMs over the same k, with sums in two parts from tile `whole` on (gemm/group.cuh).
//         grid  x: the tiles of all
#include "gemm/bf16.cuh"
#include "gemm/f32.cuh"
#include "gemm/few_rows.cuh"
#include "gemm/group.cuh"

#define KERNEL_BF16(NAME, TILE, STAGES, PARTS, A_MAJOR, B_MAJOR, EPILOGUE, ALIGNED)                              \
    extern "C" __global__ void __launch_bounds__(gemm_bf16::THREADS, 2) NAME(                                    \
        const bf16* a, const bf16* b, int m, int n, int k, bf16* out, const float* bias, bf16* hidden,           \
        bf16* activated, float* total, int activation, int add) {                                                \
        gemm_bf16::gemm<TILE, TILE, STAGES, PARTS, Major::A_MAJOR, Major::B_MAJOR, Epilogue::EPILOGUE, ALIGNED>( \
            a, b, m, n, k, {out, bias, hidden, activated, total, activation, add != 0});                         \
    }
#define KERNEL_F32(NAME, A_MAJOR, B_MAJOR, EPILOGUE)                                                       \
    extern "C" __global__ void __launch_bounds__(gemm_f32::THREADS, 3) NAME##_f32(                         \
        const float* a, const float* b, int m, int n, int k, float* out, const float* bias, float* hidden, \
        float* activated, float* total, int activation, int add, int vectors) {                            \
        gemm_f32::gemm<Major::A_MAJOR, Major::B_MAJOR, Epilogue::EPILOGUE>(                                \
            a, b, m, n, k, vectors != 0, {out, bias, hidden, activated, total, activation, add != 0});     \
    }
#define KERNELS(NAME, A_MAJOR, B_MAJOR, EPILOGUE)                                   \
    KERNEL_BF16(NAME##_bf16_128, 128, 4, 1, A_MAJOR, B_MAJOR, EPILOGUE, true)       \
    KERNEL_BF16(NAME##_bf16_128_short, 128, 3, 2, A_MAJOR, B_MAJOR, EPILOGUE, true) \
    KERNEL_BF16(NAME##_bf16_64, 64, 4, 1, A_MAJOR, B_MAJOR, EPILOGUE, true)         \
    KERNEL_BF16(NAME##_bf16_odd, 64, 4, 1, A_MAJOR, B_MAJOR, EPILOGUE, false)       \
    KERNEL_F32(NAME, A_MAJOR, B_MAJOR, EPILOGUE)

KERNELS(linear_forward, K, SPAN, STORE)
KERNELS(linear_activate, K, SPAN, ACTIVATE)
KERNELS(linear_transposed, K, K, STORE)
KERNELS(linear_activate_backward, K, K, ACTIVATE_BACKWARD)
KERNELS(linear_weight, SPAN, SPAN, ACCUMULATE)

#define KERNEL_FEW(NAME, B_MAJOR, EPILOGUE)                                                            \
    extern "C" __global__ void __launch_bounds__(gemm_few_rows::THREADS) NAME##_bf16_few(              \
        const bf16* a, const bf16* b, int m, int n, int k, bf16* out, const float* bias, bf16* hidden, \
        bf16* activated, float* total, int activation, int add) {                                      \
        gemm_few_rows::gemm<Major::B_MAJOR, Epilogue::EPILOGUE>(                                       \
            a, b, m, n, k, {out, bias, hidden, activated, total, activation, add != 0});               \
    }

KERNEL_FEW(linear_forward, SPAN, STORE)
KERNEL_FEW(linear_activate, SPAN, ACTIVATE)
KERNEL_FEW(linear_transposed, K, STORE)

#define KERNEL_WEIGHTS(NAME, STAGES, PARTS)                                                            \
    extern "C" __global__ void __launch_bounds__(gemm_bf16::THREADS, 2)                                \
        NAME(const __grid_constant__ Gemms<const bf16*> group, int k, int add, int whole, int parts) { \
        gemm_bf16::gemm_group<STAGES, PARTS>(group, k, add != 0, {whole, parts});                      \
    }
KERNEL_WEIGHTS(linear_weights_bf16_128, 4, 1)
KERNEL_WEIGHTS(linear_weights_bf16_128_short, 3, 2)
