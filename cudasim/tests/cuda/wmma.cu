// Products by nvcuda::wmma: every shape and type, with A and B by rows and by columns and any leading dimension.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

using namespace nvcuda;

// One product by one warp: d = a b + c. `columns`: c and d lie by columns.
template <int M, int N, int K, typename T, typename LayoutA, typename LayoutB, typename C, typename D, typename S>
__device__ void product(const S* a, const S* b, const C* c, D* d, int lda, int ldb, int ldc, int columns)
{
    wmma::fragment<wmma::matrix_a, M, N, K, T, LayoutA> fa;
    wmma::fragment<wmma::matrix_b, M, N, K, T, LayoutB> fb;
    wmma::fragment<wmma::accumulator, M, N, K, C> fc;
    wmma::fragment<wmma::accumulator, M, N, K, D> fd;
    const auto layout = columns ? wmma::mem_col_major : wmma::mem_row_major;
    wmma::load_matrix_sync(fa, a, lda);
    wmma::load_matrix_sync(fb, b, ldb);
    wmma::load_matrix_sync(fc, c, ldc, layout);
    wmma::mma_sync(fd, fa, fb, fc);
    wmma::store_matrix_sync(d, fd, ldc, layout);
}

#define PRODUCT(NAME, M, N, K, T, S, C, D, A, B)                                                                       \
    extern "C" __global__ void NAME(const S* a, const S* b, const C* c, D* d, int lda, int ldb, int ldc, int columns) \
    {                                                                                                                  \
        product<M, N, K, T, wmma::A##_major, wmma::B##_major>(a, b, c, d, lda, ldb, ldc, columns);                     \
    }

#define LAYOUTS(NAME, M, N, K, T, S, C, D)                  \
    PRODUCT(NAME##_rr, M, N, K, T, S, C, D, row, row)       \
    PRODUCT(NAME##_rc, M, N, K, T, S, C, D, row, col)       \
    PRODUCT(NAME##_cr, M, N, K, T, S, C, D, col, row)       \
    PRODUCT(NAME##_cc, M, N, K, T, S, C, D, col, col)

#define SHAPES(NAME, T, S, C, D)                            \
    LAYOUTS(NAME##_16_16_16, 16, 16, 16, T, S, C, D)        \
    LAYOUTS(NAME##_8_32_16, 8, 32, 16, T, S, C, D)          \
    LAYOUTS(NAME##_32_8_16, 32, 8, 16, T, S, C, D)

SHAPES(f16_f32_f32, half, half, float, float)
SHAPES(f16_f16_f16, half, half, half, half)
SHAPES(f16_f16_f32, half, half, half, float)
SHAPES(f16_f32_f16, half, half, float, half)
SHAPES(bf16_f32_f32, __nv_bfloat16, __nv_bfloat16, float, float)
SHAPES(s8_s32_s32, signed char, signed char, int, int)
SHAPES(u8_s32_s32, unsigned char, unsigned char, int, int)
LAYOUTS(tf32_f32_f32_16_16_8, 16, 16, 8, wmma::precision::tf32, float, float, float)
LAYOUTS(f64_f64_f64_8_8_4, 8, 8, 4, double, double, double, double)
PRODUCT(s4_s32_s32_8_8_32_rc, 8, 8, 32, wmma::experimental::precision::s4, void, int, int, row, col)
PRODUCT(u4_s32_s32_8_8_32_rc, 8, 8, 32, wmma::experimental::precision::u4, void, int, int, row, col)

// Bits: the number of places where both (and) or one only (xor) is set.
template <wmma::experimental::bmmaBitOp OP>
__device__ void bits(const void* a, const void* b, const int* c, int* d, int lda, int ldb, int ldc, int columns)
{
    using T = wmma::experimental::precision::b1;
    wmma::fragment<wmma::matrix_a, 8, 8, 128, T, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 8, 8, 128, T, wmma::col_major> fb;
    wmma::fragment<wmma::accumulator, 8, 8, 128, int> fc;
    const auto layout = columns ? wmma::mem_col_major : wmma::mem_row_major;
    wmma::load_matrix_sync(fa, a, lda);
    wmma::load_matrix_sync(fb, b, ldb);
    wmma::load_matrix_sync(fc, c, ldc, layout);
    wmma::bmma_sync(fc, fa, fb, fc, OP, wmma::experimental::bmmaAccumulateOpPOPC);
    wmma::store_matrix_sync(d, fc, ldc, layout);
}

extern "C" __global__ void b1_s32_s32_8_8_128_rc(
    const void* a, const void* b, const int* c, int* d, int lda, int ldb, int ldc, int columns)
{
    bits<wmma::experimental::bmmaBitOpAND>(a, b, c, d, lda, ldb, ldc, columns);
}

extern "C" __global__ void b1_xor(
    const void* a, const void* b, const int* c, int* d, int lda, int ldb, int ldc, int columns)
{
    bits<wmma::experimental::bmmaBitOpXOR>(a, b, c, d, lda, ldb, ldc, columns);
}

// C = alpha A B + beta C of f16 with f32 sums, tile after tile through shared memory: four warps, each 32 x 32 of 64 x 64.
// A is [m][k], B [k][n]; m, n and k are multiples of 64, 64 and 32.
extern "C" __global__ void gemm(const half* a, const half* b, float* c, int m, int n, int k, float alpha, float beta)
{
    constexpr int PAD = 8;
    __shared__ half as[64][32 + PAD];
    __shared__ half bs[32][64 + PAD];
    const int warp = threadIdx.x / 32;
    const int row0 = blockIdx.y * 64;
    const int col0 = blockIdx.x * 64;
    const int wr = warp / 2 * 32;
    const int wc = warp % 2 * 32;

    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sums[2][2];
    for (auto& row : sums) {
        for (auto& sum : row) {
            wmma::fill_fragment(sum, 0.0f);
        }
    }

    for (int k0 = 0; k0 < k; k0 += 32) {
        for (int i = threadIdx.x; i < 64 * 32; i += blockDim.x) {
            as[i / 32][i % 32] = a[size_t(row0 + i / 32) * k + k0 + i % 32];
            bs[i / 64][i % 64] = b[size_t(k0 + i / 64) * n + col0 + i % 64];
        }
        __syncthreads();
        for (int step = 0; step < 32; step += 16) {
            wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> fa[2];
            wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::row_major> fb[2];
            for (int i = 0; i < 2; ++i) {
                wmma::load_matrix_sync(fa[i], &as[wr + 16 * i][step], 32 + PAD);
                wmma::load_matrix_sync(fb[i], &bs[step][wc + 16 * i], 64 + PAD);
            }
            for (int i = 0; i < 2; ++i) {
                for (int j = 0; j < 2; ++j) {
                    wmma::mma_sync(sums[i][j], fa[i], fb[j], sums[i][j]);
                }
            }
        }
        __syncthreads();
    }

    for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 2; ++j) {
            float* to = c + size_t(row0 + wr + 16 * i) * n + col0 + wc + 16 * j;
            wmma::fragment<wmma::accumulator, 16, 16, 16, float> old;
            wmma::load_matrix_sync(old, to, n, wmma::mem_row_major);
            for (int e = 0; e < old.num_elements; ++e) {
                old.x[e] = alpha * sums[i][j].x[e] + beta * old.x[e];
            }
            wmma::store_matrix_sync(to, old, n, wmma::mem_row_major);
        }
    }
}
