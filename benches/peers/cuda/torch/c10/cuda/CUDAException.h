// What FlashAttention-2's host code wants of PyTorch: a failed call ends the program.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>

#define C10_CUDA_CHECK(call)                                              \
    do {                                                                  \
        const cudaError_t code = (call);                                  \
        if (code != cudaSuccess) {                                        \
            std::fprintf(stderr, "%s: error %d\n", #call, (int)code);     \
            std::abort();                                                 \
        }                                                                 \
    } while (0)
#define C10_CUDA_KERNEL_LAUNCH_CHECK() C10_CUDA_CHECK(cudaGetLastError())
