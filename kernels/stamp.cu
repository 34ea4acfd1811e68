// stamp: what time it is on this device, between two launches of its stream.
//
// writes  times [2 + stamps] f32. stamp 0: the nanoseconds of %globaltimer, 64 bits in the place of two floats; another: the
//         milliseconds since stamp 0, at 1 + stamp
// grid    1;  block 1 thread
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(1) stamp(float* times, int stamp) {
    uint64_t now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
    uint64_t* start = reinterpret_cast<uint64_t*>(times);
    if (stamp == 0) {
        *start = now;
    } else {
        times[1 + stamp] = static_cast<float>(now - *start) * 1e-6f;
    }
}
