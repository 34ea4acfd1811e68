// linear and then layernorm of a residual sum, for compute capability 9.0: linear_forward of linear_sm90.cu and the forward of layernorm.cu in one
// launch (gemm/norm_sm90.cuh).
//
// reads   a [m, k], b [k, n] (bf16), bias [n] (f32 or null), x [m, n], gain [n], and the norm's bias [n] (f32 or null)
// writes  delta = a · b + bias, sum = x + delta, normed and stats as layernorm.cu says; n and k multiples of 8, n at most 1536
// maps    of a: boxes of 64 k's × 128, of b: 64 of n × 64 k's, of delta: 64 × 64; all swizzled in 128 bytes
// sums    those of linear.cu and layernorm.cu: the same bits
// arrivals  an integer for each 128 rows, an even number of them; zeros before and after
// grid    any even number of blocks that run at once, clusters of 2: they share the tiles as those of linear_sm90.cu
// block   384 threads; dynamic shared memory SHARED_BYTES of the cooperative form
#include "gemm/norm_sm90.cuh"

extern "C" __global__ void __cluster_dims__(gemm_sm90::CLUSTER, 1, 1) __launch_bounds__(gemm_sm90::THREADS, 1)
    linear_layernorm_sm90(
        const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
        const __grid_constant__ TensorMap delta, int m, int n, int k, const float* bias,
        const __grid_constant__ gemm_sm90::NormArguments norm) {
    gemm_sm90::gemm_norm(a, b, delta, m, n, k, bias, norm);
}
