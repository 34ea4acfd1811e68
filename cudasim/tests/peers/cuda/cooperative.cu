// sm_90a
// Cooperative groups: tiles, grids, clusters, and copies by a group.

#include <cooperative_groups.h>
#include <cooperative_groups/memcpy_async.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>
#include <cuda_runtime.h>

#include <cuda/barrier>

namespace cg = cooperative_groups;

namespace {

int done() {
    const cudaError_t code = cudaGetLastError();
    return code != cudaSuccess ? code : cudaDeviceSynchronize();
}

template <int LANES, typename T>
__global__ void tiles_kernel(const T* x, T* sums, T* scans, T* most, int n) {
    const auto tile = cg::tiled_partition<LANES>(cg::this_thread_block());
    const int at = cg::this_grid().thread_rank();
    const T value = at < n ? x[at] : T();
    const T total = cg::reduce(tile, value, cg::plus<T>());
    const T largest = cg::reduce(tile, value, cg::greater<T>());
    const T before = cg::exclusive_scan(tile, value);
    if (at < n) {
        scans[at] = before;
    }
    if (tile.thread_rank() == 0 && at < n) {
        sums[at / LANES] = total;
        most[at / LANES] = largest;
    }
}

// Counts by key, each group of equal keys once.
__global__ void labelled_kernel(const int* keys, int* counts, int n) {
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at < n) {
        const auto active = cg::coalesced_threads();
        const auto group = cg::labeled_partition(active, keys[at]);
        if (group.thread_rank() == 0) {
            atomicAdd(&counts[keys[at]], static_cast<int>(group.size()));
        }
    }
}

// Odd and even numbers of each warp come together, in order.
__global__ void binary_kernel(const int* x, int* out) {
    const auto warp = cg::tiled_partition<32>(cg::this_thread_block());
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    const bool odd = x[at] & 1;
    const auto group = cg::binary_partition(warp, odd);
    const unsigned others = warp.size() - group.size();
    out[at / 32 * 32 + (odd ? others : 0) + group.thread_rank()] = x[at];
}

// Smoothing steps over the whole grid, one after another.
__global__ void grid_kernel(float* a, float* b, int n, int steps) {
    const auto grid = cg::this_grid();
    for (int step = 0; step < steps; ++step) {
        const float* from = step % 2 ? b : a;
        float* to = step % 2 ? a : b;
        for (int i = grid.thread_rank(); i < n; i += grid.size()) {
            to[i] = 0.25f * from[i == 0 ? n - 1 : i - 1] + 0.5f * from[i] + 0.25f * from[i == n - 1 ? 0 : i + 1];
        }
        grid.sync();
    }
}

// A histogram whose bins are spread over the shared memory of a cluster.
__global__ void cluster_kernel(const int* x, int* counts, int n, int bins) {
    extern __shared__ int own[];
    const auto cluster = cg::this_cluster();
    const int each = bins / cluster.num_blocks();
    for (int i = threadIdx.x; i < each; i += blockDim.x) {
        own[i] = 0;
    }
    cluster.sync();
    for (int i = cg::this_grid().thread_rank(); i < n; i += cg::this_grid().size()) {
        int* there = cluster.map_shared_rank(own, x[i] / each);
        atomicAdd(there + x[i] % each, 1);
    }
    cluster.sync();
    for (int i = threadIdx.x; i < each; i += blockDim.x) {
        atomicAdd(&counts[cluster.block_rank() * each + i], own[i]);
    }
}

// Each block of a cluster sums what its neighbours hold.
__global__ void ring_kernel(const int* x, int* out) {
    __shared__ int own[128];
    const auto cluster = cg::this_cluster();
    own[threadIdx.x] = x[blockIdx.x * 128 + threadIdx.x];
    cluster.sync();
    int total = 0;
    for (unsigned rank = 0; rank < cluster.num_blocks(); ++rank) {
        total += (rank + 1) *
                 cluster.map_shared_rank(own, (cluster.block_rank() + rank) % cluster.num_blocks())[threadIdx.x];
    }
    out[blockIdx.x * 128 + threadIdx.x] = total;
    cluster.sync();
}

__global__ void copies_kernel(const float* x, float* out, int tiles) {
    __shared__ alignas(16) float buffer[2][256];
    const auto block = cg::this_thread_block();
    cg::memcpy_async(block, buffer[0], x, cuda::aligned_size_t<16>(sizeof(buffer[0])));
    for (int tile = 0; tile < tiles; ++tile) {
        if (tile + 1 < tiles) {
            cg::memcpy_async(
                block, buffer[(tile + 1) % 2], x + (tile + 1) * 256, cuda::aligned_size_t<16>(sizeof(buffer[0])));
            cg::wait_prior<1>(block);
        } else {
            cg::wait(block);
        }
        out[tile * 256 + threadIdx.x] = buffer[tile % 2][255 - threadIdx.x];
        block.sync();
    }
}

template <typename... Arguments>
int launch_cluster(
    void (*kernel)(Arguments...), int blocks, int threads, int size, size_t shared, Arguments... arguments) {
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(blocks);
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    cudaLaunchAttribute attribute;
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = size;
    attribute.val.clusterDim.y = 1;
    attribute.val.clusterDim.z = 1;
    config.attrs = &attribute;
    config.numAttrs = 1;
    const cudaError_t code = cudaLaunchKernelEx(&config, kernel, arguments...);
    return code != cudaSuccess ? code : cudaDeviceSynchronize();
}

}  // namespace

extern "C" int tiles_4(const int* x, int* sums, int* scans, int* most, int n) {
    tiles_kernel<4><<<(n + 127) / 128, 128>>>(x, sums, scans, most, n);
    return done();
}

extern "C" int tiles_16(const float* x, float* sums, float* scans, float* most, int n) {
    tiles_kernel<16><<<(n + 63) / 64, 64>>>(x, sums, scans, most, n);
    return done();
}

extern "C" int tiles_32(const double* x, double* sums, double* scans, double* most, int n) {
    tiles_kernel<32><<<(n + 95) / 96, 96>>>(x, sums, scans, most, n);
    return done();
}

extern "C" int labelled(const int* keys, int* counts, int n) {
    labelled_kernel<<<(n + 127) / 128, 128>>>(keys, counts, n);
    return done();
}

extern "C" int binary(const int* x, int* out, int blocks) {
    binary_kernel<<<blocks, 64>>>(x, out);
    return done();
}

extern "C" int grid(float* a, float* b, int n, int steps) {
    void* arguments[] = {&a, &b, &n, &steps};
    const cudaError_t code = cudaLaunchCooperativeKernel(
        reinterpret_cast<const void*>(grid_kernel), dim3(4), dim3(64), arguments, 0, nullptr);
    return code != cudaSuccess ? code : cudaDeviceSynchronize();
}

extern "C" int cluster_histogram(const int* x, int* counts, int n, int bins) {
    return launch_cluster(cluster_kernel, 8, 64, 4, bins / 4 * sizeof(int), x, counts, n, bins);
}

extern "C" int ring(const int* x, int* out, int blocks) {
    return launch_cluster(ring_kernel, blocks, 128, 2, 0, x, out);
}

extern "C" int copies(const float* x, float* out, int tiles) {
    copies_kernel<<<1, 256>>>(x, out, tiles);
    return done();
}
