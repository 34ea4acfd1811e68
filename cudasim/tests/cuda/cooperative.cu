// Cooperative groups, and pipelines of libcu++.

#include <cooperative_groups.h>
#include <cooperative_groups/memcpy_async.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>
#include <cuda/barrier>
#include <cuda/pipeline>

namespace cg = cooperative_groups;

// Sums, maxima and prefix sums of tiles of SIZE threads.
template <int SIZE>
__device__ void tiles(const int* x, int* sums, int* maxima, int* prefixes)
{
    const auto tile = cg::tiled_partition<SIZE>(cg::this_thread_block());
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    sums[i] = cg::reduce(tile, x[i], cg::plus<int>());
    int largest = x[i];
    for (int by = tile.size() / 2; by > 0; by /= 2) {
        largest = max(largest, tile.shfl_xor(largest, by));
    }
    maxima[i] = largest;
    prefixes[i] = cg::exclusive_scan(tile, x[i], cg::plus<int>());
}

extern "C" __global__ void tiles4(const int* x, int* s, int* m, int* p) { tiles<4>(x, s, m, p); }
extern "C" __global__ void tiles16(const int* x, int* s, int* m, int* p) { tiles<16>(x, s, m, p); }
extern "C" __global__ void tiles32(const int* x, int* s, int* m, int* p) { tiles<32>(x, s, m, p); }

// Those of a block that are positive, in any order: one atomic for each group of threads that came here together.
extern "C" __global__ void compact(const int* x, int* out, int* count, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n && x[i] > 0) {
        const cg::coalesced_group active = cg::coalesced_threads();
        int at = 0;
        if (active.thread_rank() == 0) {
            at = atomicAdd(count, active.size());
        }
        out[active.shfl(at, 0) + active.thread_rank()] = x[i];
    }
}

// For each thread the number of those of its warp with its label, and its rank among them.
extern "C" __global__ void labels(const int* x, int* sizes, int* ranks)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const auto same = cg::labeled_partition(cg::coalesced_threads(), x[i]);
    sizes[i] = same.size();
    ranks[i] = same.thread_rank();
}

// Each thread's sum over a ring of blocks, step by step, with the whole grid in step.
extern "C" __global__ void rings(int* a, int* b, int steps)
{
    const cg::grid_group grid = cg::this_grid();
    const int n = grid.size();
    const int i = grid.thread_rank();
    for (int step = 0; step < steps; ++step) {
        const int* from = step % 2 == 0 ? a : b;
        int* to = step % 2 == 0 ? b : a;
        to[i] = from[i] + from[(i + blockDim.x) % n];
        grid.sync();
    }
}

// A row through shared memory by memcpy_async of a group.
extern "C" __global__ void staged(const float* x, float* out, int count)
{
    extern __shared__ float row[];
    const auto block = cg::this_thread_block();
    cg::memcpy_async(block, row, x + size_t(blockIdx.x) * count, sizeof(float) * count);
    cg::wait(block);
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        out[size_t(blockIdx.x) * count + i] = row[count - 1 - i];
    }
}

// Two stages of a pipeline of one block: tile after tile is summed while the next one comes.
extern "C" __global__ void piped(const int* x, int* out, int tiles)
{
    constexpr int STAGES = 2;
    constexpr int TILE = 256;
    __shared__ int stage[STAGES][TILE];
    __shared__ cuda::pipeline_shared_state<cuda::thread_scope_block, STAGES> state;
    const auto block = cg::this_thread_block();
    auto pipeline = cuda::make_pipeline(block, &state);
    int sum = 0;
    int next = 0;
    for (int tile = 0; tile < tiles; ++tile) {
        for (; next < tiles && next < tile + STAGES; ++next) {
            pipeline.producer_acquire();
            cuda::memcpy_async(block, stage[next % STAGES], x + next * TILE, sizeof(int) * TILE, pipeline);
            pipeline.producer_commit();
        }
        pipeline.consumer_wait();
        for (int i = threadIdx.x; i < TILE; i += blockDim.x) {
            sum += (tile + 1) * stage[tile % STAGES][TILE - 1 - i];
        }
        pipeline.consumer_release();
    }
    out[threadIdx.x] = sum;
}

// One warp fetches, three sum: both sides wait on barriers of the stages.
extern "C" __global__ void roles(const int* x, int* out, int tiles)
{
    constexpr int STAGES = 3;
    constexpr int TILE = 96;
    __shared__ int stage[STAGES][TILE];
    __shared__ cuda::pipeline_shared_state<cuda::thread_scope_block, STAGES> state;
    const auto block = cg::this_thread_block();
    const bool producer = threadIdx.x < 32;
    auto pipeline = cuda::make_pipeline(
        block, &state, producer ? cuda::pipeline_role::producer : cuda::pipeline_role::consumer);
    if (producer) {
        for (int tile = 0; tile < tiles; ++tile) {
            pipeline.producer_acquire();
            for (int i = threadIdx.x; i < TILE; i += 32) {
                cuda::memcpy_async(&stage[tile % STAGES][i], &x[tile * TILE + i], sizeof(int), pipeline);
            }
            pipeline.producer_commit();
        }
        return;
    }
    int sum = 0;
    for (int tile = 0; tile < tiles; ++tile) {
        pipeline.consumer_wait();
        sum += (tile + 1) * stage[tile % STAGES][(threadIdx.x - 32 + tile) % TILE];
        pipeline.consumer_release();
    }
    out[threadIdx.x - 32] = sum;
}

// Two barriers, both of which every thread waits for: filled and emptied by turns.
extern "C" __global__ void turns(int* out, int rounds)
{
    using barrier = cuda::barrier<cuda::thread_scope_block>;
    __shared__ barrier filled;
    __shared__ barrier emptied;
    __shared__ int cell[64];
    if (threadIdx.x == 0) {
        init(&filled, blockDim.x);
        init(&emptied, blockDim.x);
    }
    __syncthreads();
    const int half = blockDim.x / 2;
    int sum = 0;
    for (int round = 0; round < rounds; ++round) {
        if (threadIdx.x < half) {
            cell[threadIdx.x] = round * 100 + threadIdx.x;
        }
        filled.arrive_and_wait();
        if (threadIdx.x >= half) {
            sum += cell[(threadIdx.x + round) % half];
        }
        emptied.wait(emptied.arrive());
    }
    if (threadIdx.x >= half) {
        out[threadIdx.x - half] = sum;
    }
}

// A bulk copy that a barrier counts, as the guide to CUDA has it.
extern "C" __global__ void bulk(const int* x, int* out, int count)
{
    extern __shared__ __align__(128) int tile[];
#if __CUDA_ARCH__ >= 900
    using barrier = cuda::barrier<cuda::thread_scope_block>;
#pragma nv_diag_suppress static_var_with_dynamic_init
    __shared__ barrier bar;
    if (threadIdx.x == 0) {
        init(&bar, blockDim.x);
        cuda::device::experimental::fence_proxy_async_shared_cta();
    }
    __syncthreads();
    barrier::arrival_token token;
    if (threadIdx.x == 0) {
        const size_t bytes = sizeof(int) * count;
        cuda::device::experimental::cp_async_bulk_global_to_shared(tile, x + blockIdx.x * count, bytes, bar);
        token = cuda::device::barrier_arrive_tx(bar, 1, bytes);
    } else {
        token = bar.arrive();
    }
    bar.wait(std::move(token));
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        tile[i] = tile[i] * 2 + 1;
    }
    cuda::device::experimental::fence_proxy_async_shared_cta();
    __syncthreads();
    if (threadIdx.x == 0) {
        cuda::device::experimental::cp_async_bulk_shared_to_global(out + blockIdx.x * count, tile, sizeof(int) * count);
        cuda::device::experimental::cp_async_bulk_commit_group();
        cuda::device::experimental::cp_async_bulk_wait_group_read<0>();
    }
#endif
}
