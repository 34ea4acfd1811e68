// Block-wide primitives of CUB, as kernels: what its templates make of shuffles, match, ballots, shared unions and barriers.

#include <cub/block/block_load.cuh>
#include <cub/block/block_radix_sort.cuh>
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>
#include <cub/block/block_store.cuh>

constexpr int THREADS = 128;
constexpr int ITEMS = 4;

// out[b, i] = x[b, 0] + ... + x[b, i - 1], rows of THREADS * ITEMS; totals[b] is the sum of a row.
extern "C" __global__ void __launch_bounds__(THREADS) block_scan(const int* x, int* out, int* totals)
{
    using Load = cub::BlockLoad<int, THREADS, ITEMS, cub::BLOCK_LOAD_TRANSPOSE>;
    using Store = cub::BlockStore<int, THREADS, ITEMS, cub::BLOCK_STORE_TRANSPOSE>;
    using Scan = cub::BlockScan<int, THREADS, cub::BLOCK_SCAN_WARP_SCANS>;
    __shared__ union {
        typename Load::TempStorage load;
        typename Store::TempStorage store;
        typename Scan::TempStorage scan;
    } shared;
    const int row = blockIdx.x * THREADS * ITEMS;
    int items[ITEMS];
    Load(shared.load).Load(x + row, items);
    __syncthreads();
    int total;
    Scan(shared.scan).ExclusiveSum(items, items, total);
    __syncthreads();
    Store(shared.store).Store(out + row, items);
    if (threadIdx.x == 0) totals[blockIdx.x] = total;
}

// Sorts each row of keys, ascending, and moves the values along.
extern "C" __global__ void __launch_bounds__(THREADS) block_radix_sort(unsigned* keys, unsigned* values)
{
    using Sort = cub::BlockRadixSort<unsigned, THREADS, ITEMS, unsigned>;
    __shared__ typename Sort::TempStorage shared;
    const int first = blockIdx.x * THREADS * ITEMS + threadIdx.x * ITEMS;
    unsigned k[ITEMS], v[ITEMS];
    for (int i = 0; i < ITEMS; ++i) {
        k[i] = keys[first + i];
        v[i] = values[first + i];
    }
    Sort(shared).Sort(k, v);
    for (int i = 0; i < ITEMS; ++i) {
        keys[first + i] = k[i];
        values[first + i] = v[i];
    }
}

// out[b] = the sum of a row, in double precision.
extern "C" __global__ void __launch_bounds__(THREADS) block_reduce(const float* x, double* out)
{
    using Reduce = cub::BlockReduce<double, THREADS>;
    __shared__ typename Reduce::TempStorage shared;
    double sum = 0;
    for (int i = threadIdx.x; i < THREADS * ITEMS; i += THREADS) sum += x[blockIdx.x * THREADS * ITEMS + i];
    const double total = Reduce(shared).Sum(sum);
    if (threadIdx.x == 0) out[blockIdx.x] = total;
}
