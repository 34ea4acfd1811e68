// C = A B^T on the tensor cores of compute capability 8.0: bf16 in, f32 sums, any M and N, K a multiple of 8.
// Blocks of 4 warps take tiles of 64 x 64, 32 of K at a time, through two stages of cp.async; rows of a tile are 64 bytes whose
// 16-byte chunks are permuted, so that ldmatrix meets no bank twice.

#include <cstdint>
#include <cuda_bf16.h>

namespace {

constexpr int TILE = 64, DEPTH = 32, STAGES = 2;

__device__ __forceinline__ uint32_t shared_address(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }

// Chunk of 16 bytes `chunk` of row `row` of a tile.
__device__ __forceinline__ int place(int row, int chunk) { return row * DEPTH + (chunk ^ (row / 2 % 4)) * 8; }

__device__ __forceinline__ void copy_16(uint32_t to, const void* from, bool there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}

__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], uint32_t from)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
}

__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

} // namespace

// a: [m, k], b: [n, k], c: [m, n]; grid (n / 64, m / 64), rounded up. WAIT is how many groups may be in flight when a stage is
// used: 1 is right, 2 reads a stage that is still on its way.
template <int WAIT>
__device__ void gemm(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int m, int n, int k)
{
    __shared__ __align__(128) __nv_bfloat16 tile_a[STAGES][TILE * DEPTH], tile_b[STAGES][TILE * DEPTH];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int first_row = blockIdx.y * TILE, first_column = blockIdx.x * TILE;
    const int warp_row = warp / 2 * 32, warp_column = warp % 2 * 32;

    auto fetch = [&](int step) {
        const int stage = step % STAGES;
        for (int i = threadIdx.x; i < TILE * 4; i += blockDim.x) {
            const int row = i / 4, chunk = i % 4, at = step * DEPTH + chunk * 8;
            const bool a_there = first_row + row < m && at < k, b_there = first_column + row < n && at < k;
            copy_16(shared_address(&tile_a[stage][place(row, chunk)]), a_there ? a + (size_t)(first_row + row) * k + at : a, a_there);
            copy_16(shared_address(&tile_b[stage][place(row, chunk)]), b_there ? b + (size_t)(first_column + row) * k + at : b, b_there);
        }
    };
    auto commit = [] { asm volatile("cp.async.commit_group;" ::: "memory"); };

    float sums[2][4][4] = {};
    const int steps = (k + DEPTH - 1) / DEPTH;
    fetch(0);
    commit();
    for (int step = 0; step < steps; ++step) {
        if (step + 1 < steps) fetch(step + 1);
        commit();
        asm volatile("cp.async.wait_group %0;" ::"n"(WAIT) : "memory");
        __syncthreads();
        const int stage = step % STAGES;
#pragma unroll
        for (int inner = 0; inner < DEPTH / 16; ++inner) {
            uint32_t fa[2][4], fb[2][4];
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                // A: rows of matrices 0 and 1, then the next eight of k. B: eight of k of matrices 0 and 1, then eight columns.
                const int row = warp_row + half * 16 + lane % 16, column = warp_column + half * 16 + lane % 8 + lane / 16 * 8;
                load_matrices(fa[half], shared_address(&tile_a[stage][place(row, inner * 2 + lane / 16)]));
                load_matrices(fb[half], shared_address(&tile_b[stage][place(column, inner * 2 + lane / 8 % 2)]));
            }
#pragma unroll
            for (int i = 0; i < 2; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j) multiply(sums[i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
        }
        __syncthreads();
    }
    for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 4; ++j)
            for (int e = 0; e < 4; ++e) {
                const int row = first_row + warp_row + i * 16 + lane / 4 + e / 2 * 8;
                const int column = first_column + warp_column + j * 8 + lane % 4 * 2 + e % 2;
                if (row < m && column < n) c[(size_t)row * n + column] = sums[i][j][e];
            }
}

extern "C" __global__ void __launch_bounds__(128)
mma_gemm(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int m, int n, int k) { gemm<1>(a, b, c, m, n, k); }

extern "C" __global__ void __launch_bounds__(128)
mma_gemm_lax(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int m, int n, int k) { gemm<2>(a, b, c, m, n, k); }
