// Instructions of compute capability 9.0 that C++ has no name for: barriers in shared memory that count bytes (mbarrier), copies of
// tiles by the tensor memory accelerator (TMA), and products of a warpgroup (wgmma).
#pragma once

#include "ptx.cuh"

// A tensor in global memory as TMA sees it: address, sizes, strides, tile, swizzle; CUtensorMap of the driver, which encodes it.
struct alignas(64) TensorMap {
    uint8_t opaque[128];
};

// mbarrier: `arrivals` a phase.
__device__ __forceinline__ void barrier_init(uint32_t barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(barrier), "r"(arrivals) : "memory");
}
// What this thread initialised is seen by TMA and by the other blocks of the cluster.
__device__ __forceinline__ void barrier_init_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
}
__device__ __forceinline__ void barrier_arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(barrier) : "memory");
}
// Arrives, and has the phase wait for `bytes` that TMA will bring.
__device__ __forceinline__ void barrier_arrive_expect(uint32_t barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier), "r"(bytes) : "memory");
}
// Waits for the end of the phase of this parity.
__device__ __forceinline__ void barrier_wait(uint32_t barrier, int parity) {
    asm volatile(
        "{\n.reg .pred done;\n"
        "again:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n}\n" ::"r"(barrier),
        "r"(parity)
        : "memory");
}

// This block's number in its cluster.
__device__ __forceinline__ int cluster_rank() {
    int rank;
    asm("mov.u32 %0, %%cluster_ctarank;\n" : "=r"(rank));
    return rank;
}
// Waits for all threads of all blocks of the cluster; what they wrote before is seen.
__device__ __forceinline__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;\n" ::: "memory");
}
// Arrives at the barrier that stands at this place in block `rank` of the cluster. It orders what this block's threads did, as for a barrier
// of their own: enough for reads that are done. With `.release.cluster` ptxas puts a MEMBAR of the whole card before it, in a GEMM's main loop.
__device__ __forceinline__ void barrier_arrive_in(uint32_t barrier, int rank) {
    asm volatile(
        "{\n.reg .b32 there;\n"
        "mapa.shared::cluster.u32 there, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [there];\n}\n" ::"r"(barrier),
        "r"(rank)
        : "memory");
}

// TMA, global -> smem: the tile of `map` at (column, row), zeros outside; its bytes are counted by `barrier`.
__device__ __forceinline__ void tile_load(uint32_t to, const TensorMap& map, int column, int row, uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], "
        "[%4];\n" ::"r"(to),
        "l"(&map), "r"(column), "r"(row), "r"(barrier)
        : "memory");
}
// The same into every block of the cluster that `blocks` has a bit for: at this place, and counted by the barrier that stands at this one.
__device__ __forceinline__ void tile_load_multicast(
    uint32_t to, const TensorMap& map, int column, int row, uint32_t barrier, uint16_t blocks) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
        "[%1, "
        "{%2, %3}], [%4], %5;\n" ::"r"(to),
        "l"(&map), "r"(column), "r"(row), "r"(barrier), "h"(blocks)
        : "memory");
}
// The same of a vector, from `first` on.
__device__ __forceinline__ void tile_load(uint32_t to, const TensorMap& map, int first, uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.1d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2}], [%3];\n" ::
            "r"(to),
        "l"(&map), "r"(first), "r"(barrier)
        : "memory");
}
// The same of a tensor of heads [image, token, head, column].
__device__ __forceinline__ void tile_load(
    uint32_t to, const TensorMap& map, int column, int head, int token, int image, uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, "
        "%5}], [%6];\n" ::"r"(to),
        "l"(&map), "r"(column), "r"(head), "r"(token), "r"(image), "r"(barrier)
        : "memory");
}
// TMA, smem -> global: what lies inside of the tensor.
__device__ __forceinline__ void tile_store(const TensorMap& map, int column, int row, uint32_t from) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%1, %2}], [%3];\n" ::"l"(&map),
                 "r"(column), "r"(row), "r"(from)
                 : "memory");
}
__device__ __forceinline__ void tile_store(
    const TensorMap& map, int column, int head, int token, int image, uint32_t from) {
    asm volatile(
        "cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3, %4}], [%5];\n" ::"l"(&map),
        "r"(column), "r"(head), "r"(token), "r"(image), "r"(from)
        : "memory");
}
// Closes a group of this thread's stores.
__device__ __forceinline__ void tile_store_commit() { asm volatile("cp.async.bulk.commit_group;\n" ::: "memory"); }
// Waits until at most PENDING of this thread's groups still read shared memory.
template <int PENDING>
__device__ __forceinline__ void tile_store_wait() {
    asm volatile("cp.async.bulk.wait_group.read %0;\n" ::"n"(PENDING) : "memory");
}
// Waits until all of this thread's stores are done: what they wrote is seen by it.
__device__ __forceinline__ void tile_store_finish() { asm volatile("cp.async.bulk.wait_group 0;\n" ::: "memory"); }
// What this thread wrote to shared memory is seen by TMA and wgmma.
__device__ __forceinline__ void proxy_fence() { asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory"); }

// Barrier `id` among `threads` threads of the block.
__device__ __forceinline__ void named_barrier(int id, int threads) {
    asm volatile("bar.sync %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
}
// Arrives at it without waiting.
__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
    asm volatile("bar.arrive %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
}

// Registers of the threads of this warpgroup from here on: a producer gives up what consumers take.
template <int COUNT>
__device__ __forceinline__ void registers_fewer() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(COUNT));
}
template <int COUNT>
__device__ __forceinline__ void registers_more() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(COUNT));
}

// Four 8×8 matrices of 16-bit elements from the registers that load_matrices would fill.
__device__ __forceinline__ void store_matrices(uint32_t row, const uint32_t (&r)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};\n" ::"r"(row), "r"(r[0]), "r"(r[1]),
                 "r"(r[2]), "r"(r[3])
                 : "memory");
}

// wgmma reads operands in shared memory through descriptors: tiles in rows of 128 bytes, swizzled as TMA leaves them. Rows of k: 8 rows
// are 1024 bytes. Rows of the span: 8 k's are 1024 bytes, the next 64 of the span lie `stride` bytes on.
__device__ __forceinline__ uint64_t operand_descriptor(uint32_t tile, int stride) {
    return static_cast<uint64_t>(tile >> 4 & 0x3fff) | static_cast<uint64_t>(stride >> 4) << 16 |
           static_cast<uint64_t>(1024 >> 4) << 32 | 1ull << 62;
}
// Attention's products. Descriptors of tiles in rows of ROW_BYTES (128, 64), swizzled in as many: as operand_descriptor, whose 8 rows are
// of 128 bytes. The upper word is the same for all tiles of a kind; `stride` as above.
template <int ROW_BYTES>
struct Operand {
    static_assert(ROW_BYTES == 128 || ROW_BYTES == 64);
    uint32_t low;
    __device__ __forceinline__ Operand(uint32_t tile, int stride)
        : low((tile >> 4 & 0x3fff) | static_cast<uint32_t>(stride >> 4) << 16) {}
    // `bytes` further on; a constant costs one addition.
    __device__ __forceinline__ uint64_t at(int bytes) const {
        constexpr uint64_t HIGH = static_cast<uint64_t>(8 * ROW_BYTES >> 4) | (ROW_BYTES == 128 ? 1ull : 2ull) << 30;
        return HIGH << 32 | (low + (bytes >> 4));
    }
};
// Registers written before are seen by wgmma.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"); }
template <int PENDING>
__device__ __forceinline__ void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(PENDING) : "memory");
}

// Accumulators of products in flight are neither read nor written before this, nor after it moved: the compiler does not know of them.
template <int COUNT>
__device__ __forceinline__ void wgmma_hold(float (&d)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
// The same of operands in registers.
template <int COUNT>
__device__ __forceinline__ void wgmma_hold(uint32_t (&a)[COUNT][4]) {
#pragma unroll
    for (int i = 0; i < COUNT * 4; ++i) asm volatile("" : "+r"(a[i / 4][i % 4])::"memory");
}

#define OUT8(d, i)                                                                                              \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
        "+f"(d[i + 7])
#define OUT32(d) OUT8(d, 0), OUT8(d, 8), OUT8(d, 16), OUT8(d, 24)
#define REGISTERS_32                                                         \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define OUT48(d) OUT32(d), OUT8(d, 32), OUT8(d, 40)
#define REGISTERS_48 \
    REGISTERS_32     \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define OUT56(d) OUT48(d), OUT8(d, 48)
#define REGISTERS_56 \
    REGISTERS_48     \
    ", %48, %49, %50, %51, %52, %53, %54, %55"
#define OUT64(d) OUT48(d), OUT8(d, 48), OUT8(d, 56)
#define REGISTERS_64 \
    REGISTERS_48     \
    ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define OUT96(d) OUT64(d), OUT8(d, 64), OUT8(d, 72), OUT8(d, 80), OUT8(d, 88)
#define REGISTERS_96                                                                     \
    REGISTERS_64                                                                         \
    ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define OUT128(d) OUT96(d), OUT8(d, 96), OUT8(d, 104), OUT8(d, 112), OUT8(d, 120)
#define REGISTERS_128                                                                                \
    REGISTERS_96                                                                                     \
    ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

// d [64, N] (+)= a [64, 16] · b [16, N], in shared memory; COUNT = N / 2 and the numbers of the operands after it.
#define WGMMA(N, COUNT, A, B, ADD, TRANSPOSE_A, TRANSPOSE_B)                                              \
    template <int TRANSPOSED_A, int TRANSPOSED_B>                                                         \
    __device__ __forceinline__ void wgmma(float (&d)[COUNT], uint64_t a, uint64_t b, bool add) {          \
        asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %" ADD                                         \
                     ", 0;\n"                                                                             \
                     "wgmma.mma_async.sync.aligned.m64n" N "k16.f32.bf16.bf16 {" REGISTERS_##COUNT        \
                     "}, %" A ", %" B ", add, 1, 1, %" TRANSPOSE_A ", %" TRANSPOSE_B ";\n}\n"             \
                     : OUT##COUNT(d)                                                                      \
                     : "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(TRANSPOSED_A), "n"(TRANSPOSED_B)); \
    }
WGMMA("64", 32, "32", "33", "34", "35", "36")
WGMMA("96", 48, "48", "49", "50", "51", "52")
WGMMA("112", 56, "56", "57", "58", "59", "60")
WGMMA("128", 64, "64", "65", "66", "67", "68")
WGMMA("256", 128, "128", "129", "130", "131", "132")

// d [64, N] (+)= a [64, 16] · b [16, N] with a in registers, as mma has it for each warp's 16 rows.
#define WGMMA_REGISTERS(N, COUNT, A, B, C, D, E, ADD, TRANSPOSE_B)                                           \
    template <int TRANSPOSED_B>                                                                              \
    __device__ __forceinline__ void wgmma(float (&d)[COUNT], const uint32_t (&a)[4], uint64_t b, bool add) { \
        asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %" ADD                                            \
                     ", 0;\n"                                                                                \
                     "wgmma.mma_async.sync.aligned.m64n" N "k16.f32.bf16.bf16 {" REGISTERS_##COUNT           \
                     "}, {%" A ", %" B ", %" C ", %" D "}, %" E ", add, 1, 1, %" TRANSPOSE_B ";\n}\n"        \
                     : OUT##COUNT(d)                                                                         \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)),       \
                       "n"(TRANSPOSED_B));                                                                   \
    }
WGMMA_REGISTERS("64", 32, "32", "33", "34", "35", "36", "37", "38")
WGMMA_REGISTERS("96", 48, "48", "49", "50", "51", "52", "53", "54")
WGMMA_REGISTERS("128", 64, "64", "65", "66", "67", "68", "69", "70")
WGMMA_REGISTERS("192", 96, "96", "97", "98", "99", "100", "101", "102")

#undef WGMMA
#undef WGMMA_REGISTERS
#undef OUT32
#undef REGISTERS_32
#undef OUT48
#undef REGISTERS_48
#undef OUT56
#undef REGISTERS_56
#undef OUT64
#undef REGISTERS_64
#undef OUT96
#undef REGISTERS_96
#undef OUT128
#undef REGISTERS_128
#undef OUT8
