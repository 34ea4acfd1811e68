// The tensor cores' rate through wgmma, for compute capability 9.0 alone.
//
// wgmma_loop: a block of one warp group; each round four products of 64 x 128 x 16 whose operands lie in shared memory, one float
// a thread to `sink` [blocks * 128].

#include <cstdint>

// A matrix in shared memory as wgmma takes it: rows of 16 bf16, in 8 x 8 blocks of 128 bytes one after the other, no swizzle; blocks
// that follow each other along k are 128 bytes apart, along m or n 256.
__device__ __forceinline__ uint64_t descriptor(const void* matrix) {
    const uint64_t address = static_cast<uint64_t>(__cvta_generic_to_shared(matrix));
    return (address & 0x3ffff) >> 4 | uint64_t(128 >> 4) << 16 | uint64_t(256 >> 4) << 32;
}

__device__ __forceinline__ void wgmma(float (&c)[64], uint64_t a, uint64_t b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, %64, %65, 1, 1, 1, 0, 0;\n"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]), "+f"(c[7]), "+f"(c[8]),
          "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]), "+f"(c[14]), "+f"(c[15]), "+f"(c[16]),
          "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]), "+f"(c[21]), "+f"(c[22]), "+f"(c[23]), "+f"(c[24]),
          "+f"(c[25]), "+f"(c[26]), "+f"(c[27]), "+f"(c[28]), "+f"(c[29]), "+f"(c[30]), "+f"(c[31]), "+f"(c[32]),
          "+f"(c[33]), "+f"(c[34]), "+f"(c[35]), "+f"(c[36]), "+f"(c[37]), "+f"(c[38]), "+f"(c[39]), "+f"(c[40]),
          "+f"(c[41]), "+f"(c[42]), "+f"(c[43]), "+f"(c[44]), "+f"(c[45]), "+f"(c[46]), "+f"(c[47]), "+f"(c[48]),
          "+f"(c[49]), "+f"(c[50]), "+f"(c[51]), "+f"(c[52]), "+f"(c[53]), "+f"(c[54]), "+f"(c[55]), "+f"(c[56]),
          "+f"(c[57]), "+f"(c[58]), "+f"(c[59]), "+f"(c[60]), "+f"(c[61]), "+f"(c[62]), "+f"(c[63])
        : "l"(a), "l"(b));
}

extern "C" __global__ void __launch_bounds__(128) wgmma_loop(float* sink, int rounds) {
    __shared__ alignas(128) uint16_t a[64 * 16];
    __shared__ alignas(128) uint16_t b[128 * 16];
    // bf16 near 1 of both signs.
    for (int i = threadIdx.x; i < 64 * 16; i += 128) a[i] = uint16_t(0x3f80 + (i * 37 & 0x7f) + (i & 1) * 0x8000);
    for (int i = threadIdx.x; i < 128 * 16; i += 128) b[i] = uint16_t(0x3f80 + (i * 53 & 0x7f) + (i >> 1 & 1) * 0x8000);
    asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
    __syncthreads();

    float c[64] = {};
    const uint64_t of_a = descriptor(a), of_b = descriptor(b);
    for (int round = 0; round < rounds; round++) {
        asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
#pragma unroll
        for (int i = 0; i < 4; i++) wgmma(c, of_a, of_b);
        asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
        asm volatile("wgmma.wait_group.sync.aligned 0;\n" ::: "memory");
    }

    float sum = 0.0f;
    for (int i = 0; i < 64; i++) sum += c[i];
    sink[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
