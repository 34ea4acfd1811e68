// sm_90a
// libcu++: barriers, pipelines, semaphores, latches, atomics, and TMA behind its wrappers.

#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include <cuda/atomic>
#include <cuda/barrier>
#include <cuda/latch>
#include <cuda/pipeline>
#include <cuda/semaphore>
#include <cuda/std/complex>

namespace {

int done() {
    const cudaError_t code = cudaGetLastError();
    return code != cudaSuccess ? code : cudaDeviceSynchronize();
}

// Producers and consumers by two barriers each way.
__global__ void handover_kernel(const int* x, int* out, int rounds) {
    using Barrier = cuda::barrier<cuda::thread_scope_block>;
    __shared__ Barrier full;
    __shared__ Barrier empty;
    __shared__ int buffer[64];
    if (threadIdx.x == 0) {
        init(&full, 128);
        init(&empty, 128);
    }
    __syncthreads();
    if (threadIdx.x < 64) {
        for (int round = 0; round < rounds; ++round) {
            empty.arrive_and_wait();
            buffer[threadIdx.x] = x[round * 64 + threadIdx.x];
            const auto token = full.arrive();
            (void)token;
        }
    } else {
        auto free = empty.arrive();
        (void)free;
        for (int round = 0; round < rounds; ++round) {
            full.arrive_and_wait();
            out[round * 64 + threadIdx.x - 64] = 3 * buffer[127 - threadIdx.x];
            if (round + 1 < rounds) {
                const auto token = empty.arrive();
                (void)token;
            }
        }
    }
}

template <int STAGES>
__global__ void pipeline_kernel(const float* x, float* out, int tiles) {
    __shared__ cuda::pipeline_shared_state<cuda::thread_scope_block, STAGES> state;
    __shared__ alignas(16) float buffer[STAGES][128];
    const auto block = cooperative_groups::this_thread_block();
    auto pipe = cuda::make_pipeline(block, &state);
    for (int tile = 0, ahead = 0; tile < tiles; ++tile) {
        for (; ahead < tiles && ahead < tile + STAGES; ++ahead) {
            pipe.producer_acquire();
            cuda::memcpy_async(block, buffer[ahead % STAGES], x + ahead * 128, cuda::aligned_size_t<16>(512), pipe);
            pipe.producer_commit();
        }
        pipe.consumer_wait();
        out[tile * 128 + threadIdx.x] = buffer[tile % STAGES][threadIdx.x] + buffer[tile % STAGES][127 - threadIdx.x];
        pipe.consumer_release();
    }
}

// Half of the warps bring tiles, the others use them.
__global__ void roles_kernel(const float* x, float* out, int tiles) {
    constexpr int STAGES = 2;
    __shared__ cuda::pipeline_shared_state<cuda::thread_scope_block, STAGES> state;
    __shared__ float buffer[STAGES][64];
    const auto block = cooperative_groups::this_thread_block();
    const auto role = threadIdx.x < 64 ? cuda::pipeline_role::producer : cuda::pipeline_role::consumer;
    auto pipe = cuda::make_pipeline(block, &state, role);
    for (int tile = 0; tile < tiles; ++tile) {
        if (role == cuda::pipeline_role::producer) {
            pipe.producer_acquire();
            cuda::memcpy_async(&buffer[tile % STAGES][threadIdx.x], x + tile * 64 + threadIdx.x, sizeof(float), pipe);
            pipe.producer_commit();
        } else {
            pipe.consumer_wait();
            out[tile * 64 + threadIdx.x - 64] = 2 * buffer[tile % STAGES][127 - threadIdx.x];
            pipe.consumer_release();
        }
    }
    pipe.quit();
}

__global__ void atomics_kernel(const int* x, int* out, double* sum, unsigned long long* bits, int n) {
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= n) {
        return;
    }
    cuda::atomic_ref<int, cuda::thread_scope_device>(out[0]).fetch_add(x[at], cuda::memory_order_relaxed);
    cuda::atomic_ref<int, cuda::thread_scope_device>(out[1]).fetch_max(x[at], cuda::memory_order_relaxed);
    cuda::atomic_ref<double, cuda::thread_scope_device>(*sum).fetch_add(0.5 * x[at], cuda::memory_order_relaxed);
    cuda::atomic_ref<unsigned long long, cuda::thread_scope_system>(*bits).fetch_xor(
        0x9e3779b97f4a7c15ull * at, cuda::memory_order_acq_rel);
    // A product that no instruction has.
    cuda::atomic_ref<int, cuda::thread_scope_device> product(out[2]);
    int old = product.load(cuda::memory_order_relaxed);
    while (!product.compare_exchange_weak(
        old, static_cast<int>(static_cast<unsigned>(old) * (2u * x[at] + 1u)), cuda::memory_order_acq_rel)) {
    }
}

// A chain of blocks: each adds to what the one before has published.
__global__ void chain_kernel(const int* x, int* out, int* flags) {
    __shared__ int total;
    if (threadIdx.x == 0) {
        total = 0;
    }
    __syncthreads();
    atomicAdd(&total, x[blockIdx.x * blockDim.x + threadIdx.x]);
    __syncthreads();
    if (threadIdx.x == 0) {
        int before = 0;
        if (blockIdx.x > 0) {
            cuda::atomic_ref<int, cuda::thread_scope_device> flag(flags[blockIdx.x - 1]);
            while (flag.load(cuda::memory_order_acquire) == 0) {
            }
            before = out[blockIdx.x - 1];
        }
        out[blockIdx.x] = before + total;
        cuda::atomic_ref<int, cuda::thread_scope_device>(flags[blockIdx.x]).store(1, cuda::memory_order_release);
    }
}

__global__ void semaphore_kernel(int* shared_sum, const int* x) {
    using Semaphore = cuda::binary_semaphore<cuda::thread_scope_block>;
    // Shared variables have no constructors.
    __shared__ alignas(Semaphore) unsigned char room[sizeof(Semaphore)];
    __shared__ int sum;
    Semaphore& lock = *reinterpret_cast<Semaphore*>(room);
    if (threadIdx.x == 0) {
        new (room) Semaphore(1);
        sum = 0;
    }
    __syncthreads();
    // One lane of each warp.
    if (threadIdx.x % 32 == 0) {
        lock.acquire();
        sum = sum + x[threadIdx.x / 32];
        lock.release();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        *shared_sum = sum;
    }
}

__global__ void latch_kernel(const int* x, int* out) {
    using Latch = cuda::latch<cuda::thread_scope_block>;
    __shared__ alignas(Latch) unsigned char room[sizeof(Latch)];
    __shared__ int buffer[128];
    Latch& ready = *reinterpret_cast<Latch*>(room);
    if (threadIdx.x == 0) {
        new (room) Latch(128);
    }
    __syncthreads();
    buffer[threadIdx.x] = x[threadIdx.x];
    ready.arrive_and_wait();
    out[threadIdx.x] = buffer[(threadIdx.x + 37) % 128];
}

// A bulk copy in and one out.
__global__ void bulk_kernel(const float* x, float* out) {
    __shared__ alignas(16) float buffer[256];
    __shared__ cuda::barrier<cuda::thread_scope_block> bar;
    if (threadIdx.x == 0) {
        init(&bar, blockDim.x);
        cuda::device::experimental::fence_proxy_async_shared_cta();
    }
    __syncthreads();
    cuda::barrier<cuda::thread_scope_block>::arrival_token token;
    if (threadIdx.x == 0) {
        cuda::memcpy_async(buffer, x + blockIdx.x * 256, cuda::aligned_size_t<16>(sizeof(buffer)), bar);
        token = cuda::device::barrier_arrive_tx(bar, 1, 0);
    } else {
        token = bar.arrive();
    }
    bar.wait(std::move(token));
    buffer[threadIdx.x] = 2 * buffer[threadIdx.x] + 1;
    cuda::device::experimental::fence_proxy_async_shared_cta();
    __syncthreads();
    if (threadIdx.x == 0) {
        cuda::device::experimental::cp_async_bulk_shared_to_global(out + blockIdx.x * 256, buffer, sizeof(buffer));
        cuda::device::experimental::cp_async_bulk_commit_group();
        cuda::device::experimental::cp_async_bulk_wait_group_read<0>();
    }
}

__global__ void complex_kernel(const float* x, float* out, int n) {
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at < n) {
        const cuda::std::complex<float> z(x[2 * at], x[2 * at + 1]);
        const cuda::std::complex<float> w = z * z / (z + cuda::std::complex<float>(3.0f, 1.0f));
        out[2 * at] = w.real();
        out[2 * at + 1] = w.imag();
    }
}

}  // namespace

extern "C" int handover(const int* x, int* out, int rounds) {
    handover_kernel<<<1, 128>>>(x, out, rounds);
    return done();
}

extern "C" int pipeline_2(const float* x, float* out, int tiles) {
    pipeline_kernel<2><<<1, 128>>>(x, out, tiles);
    return done();
}

extern "C" int pipeline_4(const float* x, float* out, int tiles) {
    pipeline_kernel<4><<<1, 128>>>(x, out, tiles);
    return done();
}

extern "C" int roles(const float* x, float* out, int tiles) {
    roles_kernel<<<1, 128>>>(x, out, tiles);
    return done();
}

extern "C" int atomics(const int* x, int* out, double* sum, unsigned long long* bits, int n) {
    atomics_kernel<<<(n + 127) / 128, 128>>>(x, out, sum, bits, n);
    return done();
}

extern "C" int chain(const int* x, int* out, int* flags, int blocks) {
    chain_kernel<<<blocks, 64>>>(x, out, flags);
    return done();
}

extern "C" int semaphore(int* sum, const int* x) {
    semaphore_kernel<<<1, 256>>>(sum, x);
    return done();
}

extern "C" int latch(const int* x, int* out) {
    latch_kernel<<<1, 128>>>(x, out);
    return done();
}

extern "C" int bulk(const float* x, float* out, int blocks) {
    bulk_kernel<<<blocks, 256>>>(x, out);
    return done();
}

extern "C" int complex_numbers(const float* x, float* out, int n) {
    complex_kernel<<<(n + 127) / 128, 128>>>(x, out, n);
    return done();
}
