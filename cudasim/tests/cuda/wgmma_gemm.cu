// C = A B on the tensor cores of Hopper, as its fast kernels do it: a warpgroup that only copies (TMA, 128-byte swizzle) and
// one that only multiplies (wgmma), handing four stages to one another through mbarriers. bf16 in, f32 sums.
// Tiles of 64 x 128, 64 of K at a time; what is outside the matrices the copies read as zero.

#include <cstdint>
#include <cuda.h>
#include <cuda_bf16.h>

namespace {

constexpr int ROWS = 64, COLUMNS = 128, DEPTH = 64, STAGES = 4;

struct Tiles {
    alignas(1024) __nv_bfloat16 a[STAGES][ROWS * DEPTH];
    alignas(1024) __nv_bfloat16 b[STAGES][COLUMNS * DEPTH];
    uint64_t full[STAGES], empty[STAGES];
};

// What a mutant leaves out.
enum Mutant { NONE, NO_WAIT_FOR_COPY, NO_WAIT_FOR_SUMS, NO_FENCE, NO_RELEASE_WAIT };

__device__ __forceinline__ uint32_t shared_address(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void wait(uint64_t* barrier, uint32_t parity)
{
    asm volatile("{\n.reg .pred done;\nAGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra AGAIN;\n}"
                 ::"r"(shared_address(barrier)), "r"(parity) : "memory");
}

__device__ __forceinline__ void copy(void* to, const CUtensorMap* map, int x, int y, uint64_t* barrier)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"
                 ::"r"(shared_address(to)), "l"(map), "r"(x), "r"(y), "r"(shared_address(barrier)) : "memory");
}

// A descriptor of a tile in 128-byte rows under the 128-byte swizzle.
__device__ __forceinline__ uint64_t descriptor(const void* tile, uint32_t leading, uint32_t stride)
{
    const uint64_t start = (shared_address(tile) & 0x3ffff) >> 4;
    return start | (uint64_t)(leading >> 4) << 16 | (uint64_t)(stride >> 4) << 32 | 1ull << 62;
}

template <int N_MAJOR>
__device__ __forceinline__ void multiply(float (&d)[64], uint64_t a, uint64_t b)
{
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, %64, %65, 1, 1, 1, 0, %66;"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
                   "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
                   "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
                   "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
                   "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
                   "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
                   "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
                   "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
                 : "l"(a), "l"(b), "n"(N_MAJOR));
}

// N_MAJOR 0: b is [n, k], in tiles of [128][64]. 1: b is [k, n], in two tiles of [64][64], one behind the other.
template <int N_MAJOR, Mutant MUTANT>
__device__ void gemm(float* c, const CUtensorMap* map_a, const CUtensorMap* map_b, int m, int n, int k)
{
    extern __shared__ __align__(1024) uint8_t memory[];
    Tiles& tiles = *reinterpret_cast<Tiles*>(memory);
    const int first_row = blockIdx.y * ROWS, first_column = blockIdx.x * COLUMNS;
    const int steps = (k + DEPTH - 1) / DEPTH;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; ++i) {
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(&tiles.full[i])) : "memory");
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 128;" ::"r"(shared_address(&tiles.empty[i])) : "memory");
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async;" ::: "memory");
    }
    __syncthreads();

    if (threadIdx.x >= 128) {
        // The warpgroup that copies: one thread of it.
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x != 128) return;
        for (int step = 0; step < steps; ++step) {
            const int stage = step % STAGES;
            if (MUTANT != NO_RELEASE_WAIT) wait(&tiles.empty[stage], step / STAGES % 2 ^ 1);
            asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
                         ::"r"(shared_address(&tiles.full[stage])), "r"((ROWS + COLUMNS) * DEPTH * 2) : "memory");
            copy(tiles.a[stage], map_a, step * DEPTH, first_row, &tiles.full[stage]);
            if (N_MAJOR) {
                copy(tiles.b[stage], map_b, first_column, step * DEPTH, &tiles.full[stage]);
                copy(tiles.b[stage] + 64 * 64, map_b, first_column + 64, step * DEPTH, &tiles.full[stage]);
            } else {
                copy(tiles.b[stage], map_b, step * DEPTH, first_column, &tiles.full[stage]);
            }
        }
        return;
    }

    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    float sums[64];
    for (float& sum : sums) sum = 0.f;
    for (int step = 0; step < steps; ++step) {
        const int stage = step % STAGES;
        if (MUTANT != NO_WAIT_FOR_COPY) wait(&tiles.full[stage], step / STAGES % 2);
        if (MUTANT != NO_FENCE) asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
        for (int inner = 0; inner < DEPTH / 16; ++inner) {
            const uint64_t a = descriptor(tiles.a[stage] + inner * 16, 16, 1024);
            // Along n 64 columns lie in a row; the next 64 are 8 KiB on. Eight of k are 1 KiB.
            const uint64_t b = N_MAJOR ? descriptor(tiles.b[stage] + inner * 16 * 64, 8192, 1024)
                                       : descriptor(tiles.b[stage] + inner * 16, 16, 1024);
            multiply<N_MAJOR>(sums, a, b);
        }
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        if (MUTANT == NO_WAIT_FOR_SUMS) {
            // One step stays in flight to the very end.
            asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
        } else {
            asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
        }
        asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&tiles.empty[stage])) : "memory");
    }
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int i = 0; i < 64; ++i) {
        const int row = first_row + warp * 16 + lane / 4 + i / 2 % 2 * 8, column = first_column + i / 4 * 8 + lane % 4 * 2 + i % 2;
        if (row < m && column < n) c[(size_t)row * n + column] = sums[i];
    }
}

} // namespace

#define KERNEL(name, n_major, mutant)                                                                              \
    extern "C" __global__ void __launch_bounds__(256) name(                                                        \
        float* c, const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b, int m, int n, int k) \
    {                                                                                                              \
        gemm<n_major, mutant>(c, &a, &b, m, n, k);                                                                 \
    }

KERNEL(wgmma_gemm, 0, NONE)
KERNEL(wgmma_gemm_n_major, 1, NONE)
KERNEL(wgmma_gemm_no_wait_for_copy, 0, NO_WAIT_FOR_COPY)
KERNEL(wgmma_gemm_no_wait_for_sums, 0, NO_WAIT_FOR_SUMS)
KERNEL(wgmma_gemm_no_fence, 0, NO_FENCE)
KERNEL(wgmma_gemm_no_release_wait, 0, NO_RELEASE_WAIT)
