// How the device-wide algorithms of CUB are called: once for the size of their storage, once to run.

#pragma once

#include <cub/cub.cuh>

template <typename Call>
int run(Call call) {
    void* storage = nullptr;
    size_t bytes = 0;
    cudaError_t code = call(storage, bytes);
    if (code == cudaSuccess) {
        code = cudaMalloc(&storage, bytes == 0 ? 1 : bytes);
    }
    if (code == cudaSuccess) {
        code = call(storage, bytes);
    }
    return code != cudaSuccess ? code : cudaDeviceSynchronize();
}
