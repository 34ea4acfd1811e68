// Right kernels, each a template whose BUG is 0, and the same with one line wrong in the ways that people get it wrong.
// Every kernel takes `n` integers and gives integers, in blocks of 128 threads. `// BUG 7` marks the lines that a report of
// bug 7 may point to: where it shows, which for a missing barrier is one of the two accesses that nothing orders.

#include <cassert>
#include <cstdint>

namespace {

constexpr int THREADS = 128;

__device__ __forceinline__ uint32_t shared_address(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }

} // namespace

__device__ const int* unset;
__device__ int partial[2], hits, never;
__device__ unsigned arrivals;
extern __shared__ int dynamic[];

// out[i] = in[i - 1] + in[i] + in[i + 1].
template <int BUG> __device__ __forceinline__ void neighbours(int* out, const int* in, int n)
{
    const int i = BUG == 4 ? threadIdx.x : blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    const int* from = BUG == 5 ? unset : in;
    int sum = from[i];                                     // BUG 5, 6
    if (BUG == 1 ? i < n : i + 1 < n) sum += in[i + 1];    // BUG 1, 6
    if (BUG == 3 || i > 0) sum += in[i - 1];               // BUG 3, 6
    if (BUG == 7) sum += out[i];                           // BUG 7
    out[BUG == 2 ? i + 1 : i] = sum;                       // BUG 2, 4
}

// out[i] = the sum of two rounds of what the next thread of the block has.
template <int BUG> __device__ __forceinline__ void tile(int* out, const int* in, int n)
{
    __shared__ int tile[THREADS];
    const int t = threadIdx.x, i = blockIdx.x * THREADS + t;
    int sum = 0;
#pragma unroll 1
    for (int round = 0; round < 2; ++round) {
        const int value = i < n ? in[i] + round : 0;
        if (BUG != 12 || t != 5) tile[t] = value;                // BUG 9, 10
        if (BUG != 9) __syncthreads();
        sum += tile[BUG == 8 ? t + 1 : (t + 1) % THREADS];       // BUG 8, 9, 10, 12
        if (BUG != 10) __syncthreads();
    }
    if (i < n) out[i] = sum;
}

// Each block's numbers backwards, through dynamic shared memory: 512 bytes.
template <int BUG> __device__ __forceinline__ void backwards(int* out, const int* in, int n)
{
    const int t = threadIdx.x, i = blockIdx.x * THREADS + t;
    dynamic[t] = i < n ? in[i] : -1;                                              // BUG 14
    __syncthreads();
    if (i < n) out[i] = dynamic[BUG == 13 ? THREADS - t : THREADS - 1 - t];       // BUG 13
}

// One of the four numbers from the i-th on, in local memory.
template <int BUG> __device__ __forceinline__ void window(int* out, const int* in, int n)
{
    const int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    int window[4];
    for (int k = 0; k < (BUG == 16 ? 3 : 4); ++k) window[k] = in[(i + k) % n];
    int chosen = window[in[i] % (BUG == 15 ? 5 : 4)], result; // BUG 15, 16
    if (BUG == 17) {
        asm volatile("{\n.reg .s32 sum;\nadd.s32 %0, sum, %1;\n}" : "=r"(result) : "r"(chosen));
    } else {
        asm volatile("{\n.reg .s32 sum;\nmov.s32 sum, 0;\nadd.s32 %0, sum, %1;\n}" : "=r"(result) : "r"(chosen));
    }
    out[i] = result; // BUG 17
}

// out[i] = -in[i], four at a time.
template <int BUG> __device__ __forceinline__ void vectors(int* out, const int* in, int n)
{
    const int i = 4 * (blockIdx.x * THREADS + threadIdx.x);
    if (BUG == 19 ? i < n : i + 3 < n) {
        const int4 four = *reinterpret_cast<const int4*>(BUG == 18 ? in + i + 1 : in + i); // BUG 18, 19
        out[i] = -four.x, out[i + 1] = -four.y, out[i + 2] = -four.z, out[i + 3] = -four.w;
    } else {
        for (int j = i; j < n; ++j) out[j] = -in[j];
    }
}

// out[i] = the low byte of the neighbour's number.
template <int BUG> __device__ __forceinline__ void bytes(int* out, const int* in, int n)
{
    __shared__ unsigned char flags[THREADS];
    const int t = threadIdx.x, i = blockIdx.x * THREADS + t;
    flags[t] = 0;
    if (BUG != 11 || t % 2 == 0) __syncthreads();       // BUG 11
    flags[BUG == 20 ? t % 64 : t] = i < n ? in[i] : 0;  // BUG 20
    __syncthreads();                                    // BUG 11
    if (i < n) out[i] = flags[t ^ 1];
}

// out[0] = the sum of all numbers, by the last of two blocks; out[1]: how many threads there were.
template <int BUG> __device__ __forceinline__ void total(int* out, const int* in, int n)
{
    __shared__ int sum;
    __shared__ bool last;
    const int t = threadIdx.x, i = blockIdx.x * THREADS + t;
    if (t == 0) sum = 0;                                             // BUG 23
    if (BUG != 23) __syncthreads();
    if (i < n) {
        if (BUG == 21) sum += in[i];                                 // BUG 21
        else atomicAdd(&sum, in[i]);                                 // BUG 23
    }
    if (BUG == 24) ++hits;                                           // BUG 24
    else atomicAdd(&hits, 1);
    if (BUG != 25) __syncthreads();
    if (t == 0) {
        partial[blockIdx.x] = sum;                                   // BUG 22, 25
        if (BUG != 22) __threadfence();
        last = atomicInc(&arrivals, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && t == 0) out[0] = partial[0] + partial[1], out[1] = n; // BUG 22
}

// Each 16 lanes that lead a warp add what the lane 8 away has; then the lanes of pairs exchange what they have.
template <int BUG> __device__ __forceinline__ void lanes(int* out, const int* in, int n)
{
    __shared__ int mine[THREADS];
    const int t = threadIdx.x, i = blockIdx.x * THREADS + t;
    int v = i < n ? in[i] : 0;
    if (t % 32 < 16) v += __shfl_xor_sync(BUG == 26 ? 0xffffffff : BUG == 27 ? 0xfffe : 0xffff, v, 8); // BUG 26, 27
    mine[t] = v;                     // BUG 28
    if (BUG != 28) __syncwarp();
    const int other = mine[t ^ 1];   // BUG 28
    if (i < n) out[i] = other;
}

// out[i] = the sum of in[(i / 128 + 32 step + (t + 33) % 128) % n] over four steps, in two stages of cp.async.
template <int BUG> __device__ __forceinline__ void stages(int* out, const int* in, int n)
{
    __shared__ int stage[2][THREADS];
    const int t = threadIdx.x, i = blockIdx.x * THREADS + t;
    auto fetch = [&](int step) {
        const int* from = in + (blockIdx.x + 32 * step + t) % n;
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(&stage[step % 2][t])), "l"(from) : "memory"); // BUG 31, 32
    };
    fetch(0);
    asm volatile("cp.async.commit_group;" ::: "memory");
    int sum = 0;
#pragma unroll 1
    for (int step = 0; step < 4; ++step) {
        if (step < 3) fetch(step + 1);
        asm volatile("cp.async.commit_group;" ::: "memory");
        if (BUG != 29) asm volatile("cp.async.wait_group %0;" ::"n"(BUG == 30 ? 2 : 1) : "memory");
        if (BUG != 31) __syncthreads();
        sum += stage[step % 2][(t + 33) % THREADS]; // BUG 29, 30, 31, 32
        if (BUG != 32) __syncthreads();
    }
    if (i < n) out[i] = sum;
}

// out[i] = in[i], through a matrix of 8 x 8 halves a warp.
template <int BUG> __device__ __forceinline__ void matrix(int* out, const int* in, int n)
{
    __shared__ __align__(16) int matrices[THREADS];
    const int t = threadIdx.x, i = blockIdx.x * THREADS + t;
    matrices[t] = i < n ? in[i] : 0;
    __syncwarp();
    const uint32_t row = shared_address(&matrices[t / 32 * 32 + t % 8 * 4]) + (BUG == 33 ? 8 : 0);
    int word;
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(word) : "r"(row) : "memory"); // BUG 33
    if (i < n) out[i] = word;
}

// out[i] = in[127 - t] + in[159 - t], by bulk copies that an mbarrier counts.
template <int BUG> __device__ __forceinline__ void bulk_loads(int* out, const int* in, int n)
{
    __shared__ __align__(16) int tile[THREADS];
    __shared__ uint64_t barrier;
    const int t = threadIdx.x, i = blockIdx.x * THREADS + t;
    if (t == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(BUG == 34 ? 2 : 1) : "memory");
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async;" ::: "memory");
    }
    tile[t] = -1;
    if (BUG != 50) asm volatile("fence.proxy.async;" ::: "memory");
    __syncthreads();
    int sum = 0;
#pragma unroll 1
    for (int round = 0; round < 2; ++round) {
        if (t == 0) {
            const int bytes = BUG == 36 ? 0 : BUG == 37 ? sizeof(tile) + 16 : sizeof(tile);
            asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(bytes) : "memory");
            asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
                         ::"r"(shared_address(tile)), "l"(in + 32 * round), "r"((int)sizeof(tile)), "r"(shared_address(&barrier)) : "memory"); // BUG 35, 36, 50
        }
        const uint32_t parity = BUG == 35 ? round ^ 1 : round;
        asm volatile("{\n.reg .pred done;\nAGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra AGAIN;\n}"
                     ::"r"(shared_address(&barrier)), "r"(parity) : "memory"); // BUG 34, 37
        sum += tile[THREADS - 1 - t]; // BUG 35, 36
        __syncthreads();
    }
    if (i < n) out[i] = sum;
}

// 64 numbers of each block, one more each, written by bulk copies; the buffer is used again.
template <int BUG> __device__ __forceinline__ void bulk_stores(int* out, const int* in, int n)
{
    __shared__ __align__(16) int tile[64];
    const int t = threadIdx.x;
    if (t < 64) tile[t] = in[64 * blockIdx.x + t] + 1;
    if (BUG != 38) asm volatile("fence.proxy.async;" ::: "memory");
    __syncthreads();
    if (t == 0) {
        asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], 256;" ::"l"(out + 64 * blockIdx.x), "r"(shared_address(tile)) : "memory"); // BUG 38
        asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        if (BUG != 39) asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
    }
    __syncthreads();
    if (t < 64) *(volatile int*)&tile[t] = 0; // BUG 39
    if (t == 0) asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

// Two warps hand their numbers to the two others by a named barrier.
template <int BUG> __device__ __forceinline__ void hand_over(int* out, const int* in, int n)
{
    __shared__ int tile[64];
    const int t = threadIdx.x;
    if (t < 64) {
        tile[t] = in[64 * blockIdx.x + t];                                                              // BUG 41
        asm volatile("barrier.arrive %0, %1;" ::"n"(BUG == 40 ? 2 : 1), "r"(BUG == 48 ? 160 : 128) : "memory"); // BUG 41, 48
    } else {
        asm volatile("barrier.sync 1, %0;" ::"r"(BUG == 41 ? 64 : 128) : "memory");                       // BUG 40, 41, 48
        out[64 * blockIdx.x + t - 64] = tile[t - 64];                                                   // BUG 41
    }
}

// Calls itself until n is 0 again, each time with an array of its own.
__device__ __noinline__ unsigned deeper(const unsigned* from, unsigned n)
{
    unsigned own[512];
    own[(n + 1) % 512] = from[n % 512] * 3;
    if (n == 0) return own[1];
    return deeper(own, n + 1) + own[(n + 1) % 512]; // BUG 45
}

__device__ __forceinline__ int climb(unsigned n)
{
    unsigned start[512];
    start[n % 512] = n;
    return deeper(start, n); // BUG 45
}

// out[i] = 2 in[i], if nothing stops the kernel.
template <int BUG> __device__ __forceinline__ void ends(int* out, const int* in, int n)
{
    const int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    while (BUG == 42 && *(volatile int*)&never == 0) {} // BUG 42
    for (unsigned k = 0; k != (BUG == 49 ? 7 : 8); k += 2) asm volatile("" : "+r"(k)); // BUG 49
    if (in[i] < (BUG == 43 ? 1 : 0)) __trap();          // BUG 43
    assert(in[i] >= (BUG == 44 ? 1 : 0));               // BUG 44
    out[i] = BUG == 45 ? climb(in[i]) : 2 * in[i];      // BUG 45
}

// The transpose of 32 x 32 numbers, through shared memory whose columns are permuted.
template <int BUG> __device__ __forceinline__ void transpose(int* out, const int* in, int n)
{
    __shared__ int tile[32 * 32];
    const int column = threadIdx.x % 32;
    auto place = [](int row, int column) { return row * 32 + (BUG == 46 ? column : column ^ row); };
    for (int row = threadIdx.x / 32; row < 32; row += 4)
        tile[BUG == 47 ? place(column, row) : place(row, column)] = in[BUG == 47 ? column * 32 + row : row * 32 + column];
    __syncthreads();
    for (int row = threadIdx.x / 32; row < 32; row += 4) out[row * 32 + column] = tile[place(column, row)];
}

#define KERNEL(name, bug)                                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS) name##_##bug(int* out, const int* in, int n)      \
    {                                                                                                       \
        name<bug>(out, in, n);                                                                              \
    }

KERNEL(neighbours, 0)
KERNEL(neighbours, 1)
KERNEL(neighbours, 2)
KERNEL(neighbours, 3)
KERNEL(neighbours, 4)
KERNEL(neighbours, 5)
KERNEL(neighbours, 6)
KERNEL(neighbours, 7)
KERNEL(tile, 0)
KERNEL(tile, 8)
KERNEL(tile, 9)
KERNEL(tile, 10)
KERNEL(tile, 12)
KERNEL(backwards, 0)
KERNEL(backwards, 13)
KERNEL(backwards, 14)
KERNEL(window, 0)
KERNEL(window, 15)
KERNEL(window, 16)
KERNEL(window, 17)
KERNEL(vectors, 0)
KERNEL(vectors, 18)
KERNEL(vectors, 19)
KERNEL(bytes, 0)
KERNEL(bytes, 11)
KERNEL(bytes, 20)
KERNEL(total, 0)
KERNEL(total, 21)
KERNEL(total, 22)
KERNEL(total, 23)
KERNEL(total, 24)
KERNEL(total, 25)
KERNEL(lanes, 0)
KERNEL(lanes, 26)
KERNEL(lanes, 27)
KERNEL(lanes, 28)
KERNEL(stages, 0)
KERNEL(stages, 29)
KERNEL(stages, 30)
KERNEL(stages, 31)
KERNEL(stages, 32)
KERNEL(matrix, 0)
KERNEL(matrix, 33)
KERNEL(bulk_loads, 0)
KERNEL(bulk_loads, 34)
KERNEL(bulk_loads, 35)
KERNEL(bulk_loads, 36)
KERNEL(bulk_loads, 37)
KERNEL(bulk_loads, 50)
KERNEL(bulk_stores, 0)
KERNEL(bulk_stores, 38)
KERNEL(bulk_stores, 39)
KERNEL(hand_over, 0)
KERNEL(hand_over, 40)
KERNEL(hand_over, 41)
KERNEL(hand_over, 48)
KERNEL(ends, 0)
KERNEL(ends, 42)
KERNEL(ends, 43)
KERNEL(ends, 44)
KERNEL(ends, 45)
KERNEL(ends, 49)
KERNEL(transpose, 0)
KERNEL(transpose, 46)
KERNEL(transpose, 47)
