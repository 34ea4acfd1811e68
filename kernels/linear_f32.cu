// linear, f32: the products of linear_bf16.cu in full f32 (gemm/f32.cuh). Same names, layouts, epilogues and determinism.
//
// reads, writes, layout, sums, grid: as linear_bf16.cu, all matrices f32
// block   128 threads; no dynamic shared memory
//
// One kernel for all shapes; `vectors` says that n is divisible by 4 and the outputs by 16 bytes.
#include "gemm/f32.cuh"

#define KERNEL(NAME, A_MAJOR, B_MAJOR, EPILOGUE)                                                                       \
    extern "C" __global__ void __launch_bounds__(gemm_f32::THREADS, 3)                                                \
        NAME##_f32(const float* a, const float* b, int m, int n, int k, float* out, const float* bias, float* hidden, \
                   float* activated, float* total, int activation, int add, int vectors) {                             \
        gemm_f32::gemm<Major::A_MAJOR, Major::B_MAJOR, Epilogue::EPILOGUE>(                                            \
            a, b, m, n, k, vectors != 0, {out, bias, hidden, activated, total, activation, add != 0});                 \
    }

KERNEL(linear_forward, K, SPAN, STORE)
KERNEL(linear_activate, K, SPAN, ACTIVATE)
KERNEL(linear_transposed, K, K, STORE)
KERNEL(linear_activate_backward, K, K, ACTIVATE_BACKWARD)
KERNEL(linear_weight, SPAN, SPAN, ACCUMULATE)
