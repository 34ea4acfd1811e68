// Loops that do one thing as fast as a card can: what the engine's kernels are measured against. Every compute capability from
// 8.0 on runs them.
//
// copy:      reads and writes `count` vectors of 16 bytes. Any grid.
// read:      every block reads all `count` vectors `rounds` times, past the first cache, and writes one word a thread to
//            `sink` [blocks * threads]. With a buffer that fits the second cache, that cache is the limit.
// mma_loop:  8 independent tensor-core products a warp and round, operands in registers; one float a thread to `sink`.
// ffma_loop: 16 independent fused multiply-adds a thread and round; one float a thread to `sink`.
// nothing:   what a launch costs.

#include "ptx.cuh"

extern "C" __global__ void __launch_bounds__(256) copy(const uint4* from, uint4* to, uint64_t count) {
    const uint64_t stride = uint64_t(gridDim.x) * blockDim.x;
    for (uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) to[i] = from[i];
}

extern "C" __global__ void __launch_bounds__(256) read(const uint4* from, uint32_t* sink, uint64_t count, int rounds) {
    // Blocks start at different places, or all would ask for the same lines at once.
    const uint64_t start = blockIdx.x * (count / gridDim.x);
    uint32_t seen = 0;
    for (int round = 0; round < rounds; round++) {
#pragma unroll 8
        for (uint64_t i = threadIdx.x; i < count; i += blockDim.x) {
            uint64_t at = start + i;
            at = at < count ? at : at - count;
            const uint4 v = __ldcg(from + at);
            seen ^= v.x ^ v.y ^ v.z ^ v.w;
        }
        // Another value each round, or the rounds would be one.
        seen = seen * 2654435761u + 1u;
    }
    sink[blockIdx.x * blockDim.x + threadIdx.x] = seen;
}

extern "C" __global__ void __launch_bounds__(256) mma_loop(float* sink, int rounds) {
    // Two bf16 near 1 of different signs and digits: power, and so the clock, hangs on the data.
    uint32_t a[4], b[2];
    for (int i = 0; i < 4; i++) a[i] = 0x3f80bf81u + threadIdx.x * 0x00050003u + i * 0x00110007u;
    for (int i = 0; i < 2; i++) b[i] = 0xbf823f83u + threadIdx.x * 0x00030005u + i * 0x0007000du;

    float c[8][4] = {};
    for (int round = 0; round < rounds; round++) {
#pragma unroll
        for (int i = 0; i < 8; i++) mma(c[i], a, b[0], b[1]);
    }

    float sum = 0.0f;
    for (int i = 0; i < 8; i++) sum += c[i][0] + c[i][1] + c[i][2] + c[i][3];
    sink[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(256) ffma_loop(float* sink, float factor, int rounds) {
    float c[16];
    for (int i = 0; i < 16; i++) c[i] = float(threadIdx.x + i);
    for (int round = 0; round < rounds; round++) {
#pragma unroll
        for (int i = 0; i < 16; i++) c[i] = fmaf(c[i], factor, 0.5f);
    }

    float sum = 0.0f;
    for (int i = 0; i < 16; i++) sum += c[i];
    sink[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

extern "C" __global__ void nothing() {}
