// Algorithms of CUB over a block or a warp: one row a block, ITEMS values a thread.

#include <cub/cub.cuh>

constexpr int THREADS = 128;
constexpr int ITEMS = 4;
constexpr int ROW = THREADS * ITEMS;

__device__ void load(const int* from, int (&items)[ITEMS])
{
    cub::LoadDirectBlocked(threadIdx.x, from + blockIdx.x * ROW, items);
}

struct Less {
    template <typename T>
    __device__ bool operator()(const T& a, const T& b) const
    {
        return a < b;
    }
};

// Sorted by merging, values beside their keys.
extern "C" __global__ void merge_sort(int* keys, int* values)
{
    using Sort = cub::BlockMergeSort<int, THREADS, ITEMS, int>;
    __shared__ typename Sort::TempStorage storage;
    int key[ITEMS];
    int value[ITEMS];
    load(keys, key);
    load(values, value);
    Sort(storage).StableSort(key, value, Less());
    cub::StoreDirectBlocked(threadIdx.x, keys + blockIdx.x * ROW, key);
    cub::StoreDirectBlocked(threadIdx.x, values + blockIdx.x * ROW, value);
}

// How often each of 64 values occurs; by sorting and by atomics.
template <cub::BlockHistogramAlgorithm ALGORITHM>
__device__ void histogram(const int* x, unsigned* out)
{
    using Histogram = cub::BlockHistogram<unsigned char, THREADS, ITEMS, 64, ALGORITHM>;
    __shared__ typename Histogram::TempStorage storage;
    __shared__ unsigned counts[64];
    int items[ITEMS];
    load(x, items);
    unsigned char bins[ITEMS];
    for (int i = 0; i < ITEMS; ++i) {
        bins[i] = static_cast<unsigned char>(items[i] & 63);
    }
    Histogram(storage).Histogram(bins, counts);
    __syncthreads();
    if (threadIdx.x < 64) {
        out[blockIdx.x * 64 + threadIdx.x] = counts[threadIdx.x];
    }
}

extern "C" __global__ void histogram_sort(const int* x, unsigned* out) { histogram<cub::BLOCK_HISTO_SORT>(x, out); }
extern "C" __global__ void histogram_atomic(const int* x, unsigned* out) { histogram<cub::BLOCK_HISTO_ATOMIC>(x, out); }

// Those that `mask` selects come first, in order, then the others from the end: a partition by a scan.
extern "C" __global__ void partition(const int* x, int* out, int* selected, int mask)
{
    using Scan = cub::BlockScan<int, THREADS, cub::BLOCK_SCAN_WARP_SCANS>;
    __shared__ typename Scan::TempStorage storage;
    int items[ITEMS];
    int places[ITEMS];
    int flags[ITEMS];
    load(x, items);
    for (int i = 0; i < ITEMS; ++i) {
        flags[i] = (items[i] & mask) != 0;
    }
    int total;
    Scan(storage).ExclusiveSum(flags, places, total);
    for (int i = 0; i < ITEMS; ++i) {
        const int before = threadIdx.x * ITEMS + i;
        const int to = flags[i] ? places[i] : ROW - 1 - (before - places[i]);
        out[blockIdx.x * ROW + to] = items[i];
    }
    if (threadIdx.x == 0) {
        selected[blockIdx.x] = total;
    }
}

// Where a value differs from its neighbour, and by how much.
extern "C" __global__ void differences(const int* x, int* heads, int* steps)
{
    using Heads = cub::BlockDiscontinuity<int, THREADS>;
    using Steps = cub::BlockAdjacentDifference<int, THREADS>;
    __shared__ union {
        typename Heads::TempStorage heads;
        typename Steps::TempStorage steps;
    } storage;
    int items[ITEMS];
    int flags[ITEMS];
    int by[ITEMS];
    load(x, items);
    Heads(storage.heads).FlagHeads(flags, items, [](int a, int b) { return a != b; });
    __syncthreads();
    Steps(storage.steps).SubtractLeft(items, by, [](int a, int b) { return a - b; });
    cub::StoreDirectBlocked(threadIdx.x, heads + blockIdx.x * ROW, flags);
    cub::StoreDirectBlocked(threadIdx.x, steps + blockIdx.x * ROW, by);
}

// Runs of values, each with its length, written out: ROW of them.
extern "C" __global__ void run_lengths(const int* values, const unsigned* lengths, int* out)
{
    using Decode = cub::BlockRunLengthDecode<int, THREADS, 1, ITEMS>;
    __shared__ typename Decode::TempStorage storage;
    int value[1] = {values[blockIdx.x * THREADS + threadIdx.x]};
    unsigned length[1] = {lengths[blockIdx.x * THREADS + threadIdx.x]};
    unsigned total;
    Decode decode(storage, value, length, total);
    for (unsigned start = 0; start < total; start += ROW) {
        int items[ITEMS];
        decode.RunLengthDecode(items, start);
        for (int i = 0; i < ITEMS; ++i) {
            const unsigned at = start + threadIdx.x * ITEMS + i;
            if (at < total) {
                out[blockIdx.x * ROW + at] = items[i];
            }
        }
        __syncthreads();
    }
}

// Blocked to striped and back, by way of shared memory and of shuffles.
extern "C" __global__ void exchanges(const int* x, int* striped, int* back)
{
    using Exchange = cub::BlockExchange<int, THREADS, ITEMS, true>;
    __shared__ typename Exchange::TempStorage storage;
    int items[ITEMS];
    load(x, items);
    Exchange(storage).BlockedToStriped(items, items);
    for (int i = 0; i < ITEMS; ++i) {
        striped[blockIdx.x * ROW + threadIdx.x * ITEMS + i] = items[i];
    }
    __syncthreads();
    Exchange(storage).StripedToBlocked(items, items);
    cub::StoreDirectBlocked(threadIdx.x, back + blockIdx.x * ROW, items);
}

// Radix sort of doubles, descending, by keys that keep their bits; and a scan with a maximum.
extern "C" __global__ void sort_doubles(double* x, double* running)
{
    using Sort = cub::BlockRadixSort<double, THREADS, ITEMS>;
    using Scan = cub::BlockScan<double, THREADS, cub::BLOCK_SCAN_RAKING>;
    __shared__ union {
        typename Sort::TempStorage sort;
        typename Scan::TempStorage scan;
    } storage;
    double items[ITEMS];
    double largest[ITEMS];
    cub::LoadDirectBlocked(threadIdx.x, x + blockIdx.x * ROW, items);
    Scan(storage.scan).InclusiveScan(items, largest, [](double a, double b) { return a > b ? a : b; });
    cub::StoreDirectBlocked(threadIdx.x, running + blockIdx.x * ROW, largest);
    __syncthreads();
    Sort(storage.sort).SortDescending(items);
    cub::StoreDirectBlocked(threadIdx.x, x + blockIdx.x * ROW, items);
}

// Warps on their own: sums of 16 lanes, prefix sums of 32, and rows of 64 sorted by merging.
extern "C" __global__ void warps(const int* x, int* sums, int* prefixes, int* sorted)
{
    using Reduce = cub::WarpReduce<int, 16>;
    using Scan = cub::WarpScan<int>;
    using Sort = cub::WarpMergeSort<int, 2, 32>;
    __shared__ typename Reduce::TempStorage reduce[THREADS / 16];
    __shared__ typename Scan::TempStorage scan[THREADS / 32];
    __shared__ typename Sort::TempStorage sort[THREADS / 32];
    const int i = blockIdx.x * THREADS + threadIdx.x;
    const int warp = threadIdx.x / 32;
    const int sum = Reduce(reduce[threadIdx.x / 16]).Sum(x[i]);
    if (threadIdx.x % 16 == 0) {
        sums[i / 16] = sum;
    }
    int prefix;
    Scan(scan[warp]).InclusiveSum(x[i], prefix);
    prefixes[i] = prefix;
    int two[2] = {x[i], -x[i]};
    Sort(sort[warp]).Sort(two, Less());
    sorted[2 * i] = two[0];
    sorted[2 * i + 1] = two[1];
}

// A block's rank of digits: what a radix sort passes over its keys are made of.
extern "C" __global__ void selected(const int* x, int* out, unsigned* count, int below)
{
    // Last block: sums what all blocks have counted, behind a fence and a counter.
    using Reduce = cub::BlockReduce<int, THREADS, cub::BLOCK_REDUCE_RAKING>;
    __shared__ typename Reduce::TempStorage storage;
    __shared__ bool last;
    int items[ITEMS];
    load(x, items);
    int mine = 0;
    for (int i = 0; i < ITEMS; ++i) {
        mine += items[i] < below;
    }
    const int sum = Reduce(storage).Sum(mine);
    if (threadIdx.x == 0) {
        out[1 + blockIdx.x] = sum;
        __threadfence();
        last = atomicInc(count, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last) {
        int all = 0;
        for (int i = threadIdx.x; i < gridDim.x; i += THREADS) {
            all += static_cast<volatile int*>(out)[1 + i];
        }
        all = Reduce(storage).Sum(all);
        if (threadIdx.x == 0) {
            out[0] = all;
        }
    }
}
