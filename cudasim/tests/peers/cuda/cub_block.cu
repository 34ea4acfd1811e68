// sm_80
// Algorithms of CUB over a block or a warp, one tile a block.

#include <cub/cub.cuh>

namespace {

constexpr int ITEMS = 5;

template <int THREADS, cub::BlockReduceAlgorithm ALGORITHM, typename T>
__global__ void reduce_kernel(const T* x, T* out, int n) {
    using Reduce = cub::BlockReduce<T, THREADS, ALGORITHM>;
    __shared__ typename Reduce::TempStorage storage;
    const int at = blockIdx.x * THREADS + threadIdx.x;
    const int here = min(THREADS, n - blockIdx.x * THREADS);
    const T total = Reduce(storage).Sum(at < n ? x[at] : T(), here);
    if (threadIdx.x == 0) {
        out[blockIdx.x] = total;
    }
}

template <int THREADS, typename T>
__global__ void exchange_kernel(const T* x, T* striped, T* scanned) {
    using Load = cub::BlockLoad<T, THREADS, ITEMS, cub::BLOCK_LOAD_WARP_TRANSPOSE>;
    using Store = cub::BlockStore<T, THREADS, ITEMS, cub::BLOCK_STORE_TRANSPOSE>;
    using Exchange = cub::BlockExchange<T, THREADS, ITEMS>;
    using Scan = cub::BlockScan<T, THREADS, cub::BLOCK_SCAN_RAKING>;
    __shared__ union {
        typename Load::TempStorage load;
        typename Store::TempStorage store;
        typename Exchange::TempStorage exchange;
        typename Scan::TempStorage scan;
    } storage;
    const int base = blockIdx.x * THREADS * ITEMS;
    T items[ITEMS];
    Load(storage.load).Load(x + base, items);
    __syncthreads();
    T sums[ITEMS];
    Scan(storage.scan).InclusiveSum(items, sums);
    __syncthreads();
    Store(storage.store).Store(scanned + base, sums);
    __syncthreads();
    Exchange(storage.exchange).BlockedToStriped(items, items);
    for (int i = 0; i < ITEMS; ++i) {
        // Each thread's own, so that the order in memory is that of the registers.
        striped[base + threadIdx.x * ITEMS + i] = items[i];
    }
}

template <int THREADS>
__global__ void radix_kernel(const unsigned long long* x, unsigned long long* out, int low, int high) {
    using Sort = cub::BlockRadixSort<unsigned long long, THREADS, ITEMS>;
    __shared__ typename Sort::TempStorage storage;
    unsigned long long items[ITEMS];
    cub::LoadDirectBlocked(threadIdx.x, x + blockIdx.x * THREADS * ITEMS, items);
    Sort(storage).SortDescending(items, low, high);
    cub::StoreDirectBlocked(threadIdx.x, out + blockIdx.x * THREADS * ITEMS, items);
}

template <int THREADS>
__global__ void heads_kernel(const int* x, int* heads, int* ranks) {
    using Discontinuity = cub::BlockDiscontinuity<int, THREADS>;
    using Scan = cub::BlockScan<int, THREADS, cub::BLOCK_SCAN_WARP_SCANS>;
    __shared__ typename Discontinuity::TempStorage first;
    __shared__ typename Scan::TempStorage second;
    int items[ITEMS];
    int flags[ITEMS];
    int places[ITEMS];
    cub::LoadDirectBlocked(threadIdx.x, x + blockIdx.x * THREADS * ITEMS, items);
    Discontinuity(first).FlagHeads(flags, items, cuda::std::not_equal_to<int>());
    Scan(second).ExclusiveSum(flags, places);
    cub::StoreDirectBlocked(threadIdx.x, heads + blockIdx.x * THREADS * ITEMS, flags);
    cub::StoreDirectBlocked(threadIdx.x, ranks + blockIdx.x * THREADS * ITEMS, places);
}

template <int LANES>
__global__ void warp_kernel(const float* x, float* sums, float* scans) {
    using Reduce = cub::WarpReduce<float, LANES>;
    using Scan = cub::WarpScan<float, LANES>;
    __shared__ typename Reduce::TempStorage first[128 / LANES];
    __shared__ typename Scan::TempStorage second[128 / LANES];
    const int at = blockIdx.x * 128 + threadIdx.x;
    const int warp = threadIdx.x / LANES;
    const float total = Reduce(first[warp]).Sum(x[at]);
    float before;
    Scan(second[warp]).ExclusiveSum(x[at], before);
    scans[at] = before;
    if (threadIdx.x % LANES == 0) {
        sums[at / LANES] = total;
    }
}

template <int THREADS>
__global__ void warp_sort_kernel(int* x) {
    using Sort = cub::WarpMergeSort<int, ITEMS, 16>;
    __shared__ typename Sort::TempStorage storage[THREADS / 16];
    int items[ITEMS];
    cub::LoadDirectBlocked(threadIdx.x, x + blockIdx.x * THREADS * ITEMS, items);
    Sort(storage[threadIdx.x / 16]).Sort(items, [](const int& a, const int& b) { return a < b; });
    cub::StoreDirectBlocked(threadIdx.x, x + blockIdx.x * THREADS * ITEMS, items);
}

int done() {
    const cudaError_t code = cudaGetLastError();
    return code != cudaSuccess ? code : cudaDeviceSynchronize();
}

}  // namespace

extern "C" int reduce_warps(const float* x, float* out, int n) {
    reduce_kernel<96, cub::BLOCK_REDUCE_WARP_REDUCTIONS><<<(n + 95) / 96, 96>>>(x, out, n);
    return done();
}

extern "C" int reduce_raking(const long long* x, long long* out, int n) {
    reduce_kernel<256, cub::BLOCK_REDUCE_RAKING><<<(n + 255) / 256, 256>>>(x, out, n);
    return done();
}

extern "C" int reduce_commutative(const double* x, double* out, int n) {
    reduce_kernel<128, cub::BLOCK_REDUCE_RAKING_COMMUTATIVE_ONLY><<<(n + 127) / 128, 128>>>(x, out, n);
    return done();
}

extern "C" int exchange(const int* x, int* striped, int* scanned, int blocks) {
    exchange_kernel<64><<<blocks, 64>>>(x, striped, scanned);
    return done();
}

extern "C" int radix(const unsigned long long* x, unsigned long long* out, int blocks, int low, int high) {
    radix_kernel<128><<<blocks, 128>>>(x, out, low, high);
    return done();
}

extern "C" int heads(const int* x, int* flags, int* ranks, int blocks) {
    heads_kernel<96><<<blocks, 96>>>(x, flags, ranks);
    return done();
}

extern "C" int warps_8(const float* x, float* sums, float* scans, int blocks) {
    warp_kernel<8><<<blocks, 128>>>(x, sums, scans);
    return done();
}

extern "C" int warps_32(const float* x, float* sums, float* scans, int blocks) {
    warp_kernel<32><<<blocks, 128>>>(x, sums, scans);
    return done();
}

extern "C" int warp_sort(int* x, int blocks) {
    warp_sort_kernel<64><<<blocks, 64>>>(x);
    return done();
}
