// linear for compute capability 9.0: the GEMMs of linear.cu in bf16, by wgmma and TMA (gemm/sm90.cuh).
//
// reads   a, b (bf16), bias [n] (f32 or null), hidden [m, n]
// writes  as linear.cu says: STORE, ACTIVATE, ACTIVATE_BACKWARD, ACCUMULATE
// maps    of a: boxes of 64 k's × the tile, of b: × half of it, or where rows are of the span 64 of it × 64 k's; of the outputs and hidden: boxes
//         of 64 × 64; all swizzled in 128 bytes. Rows are multiples of 16 bytes.
// sums    f32, in an order fixed by the shapes and `splits`: deterministic, and that of linear.cu
// grid    any even number of blocks, clusters of 2: they share the tiles of m, two by two, × tiles of n × splits. Split z writes (=) its partial sums to
//         total + z · m · n, and sum_partials.cu adds them up.
// block   384 threads; dynamic shared memory SHARED_BYTES of the form
//
// linear_weights_sm90: `weight` of several GEMMs over the same k, with sums in two parts from tile `whole` on (gemm/group.cuh); its blocks share
//         the tiles of all. sums: room for 2 · 256 · 256 floats of each of those tiles; arrivals: 16 integers of each, zeros before and
//         after.
//
// _cooperative has tiles of 128 × 256, _ping_pong of 128 × 128.
#include "gemm/group_sm90.cuh"

#define KERNEL_BF16(NAME, PING_PONG, A_MAJOR, B_MAJOR, EPILOGUE)                                                   \
    extern "C" __global__ void __cluster_dims__(gemm_sm90::CLUSTER, 1, 1) __launch_bounds__(gemm_sm90::THREADS, 1) \
        NAME(                                                                                                      \
            const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,                              \
            const __grid_constant__ TensorMap out, const __grid_constant__ TensorMap hidden,                       \
            const __grid_constant__ TensorMap activated, int m, int n, int k, int splits, const float* bias,       \
            float* total, int activation, int add) {                                                               \
        gemm_sm90::gemm<PING_PONG, Major::A_MAJOR, Major::B_MAJOR, Epilogue::EPILOGUE>(                            \
            a, b, out, hidden, activated, m, n, k, splits,                                                         \
            {nullptr, bias, nullptr, nullptr, total, activation, add != 0});                                       \
    }
// Both forms of a GEMM whose k is a layer's width; weights' gradients have long sums, and take the cooperative form.
#define KERNELS(NAME, A_MAJOR, B_MAJOR, EPILOGUE)                           \
    KERNEL_BF16(NAME##_sm90_cooperative, false, A_MAJOR, B_MAJOR, EPILOGUE) \
    KERNEL_BF16(NAME##_sm90_ping_pong, true, A_MAJOR, B_MAJOR, EPILOGUE)

KERNELS(linear_forward, K, SPAN, STORE)
KERNELS(linear_activate, K, SPAN, ACTIVATE)
KERNELS(linear_transposed, K, K, STORE)
KERNELS(linear_activate_backward, K, K, ACTIVATE_BACKWARD)
KERNEL_BF16(linear_weight_sm90_cooperative, false, SPAN, SPAN, ACCUMULATE)

#define KERNEL_WEIGHTS(NAME)                                                                                       \
    extern "C" __global__ void __cluster_dims__(gemm_sm90::CLUSTER, 1, 1) __launch_bounds__(gemm_sm90::THREADS, 1) \
        NAME(                                                                                                      \
            const __grid_constant__ Gemms<TensorMap> group, int k, int add, int whole, int parts, float* sums,     \
            int* arrivals) {                                                                                       \
        gemm_sm90::gemm_group(group, k, add != 0, {whole, parts}, {sums, arrivals});                               \
    }
KERNEL_WEIGHTS(linear_weights_sm90)
