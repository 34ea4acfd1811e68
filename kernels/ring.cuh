// A ring of stages that a producer fills and consumers empty.
#pragma once

// Where it stands: the stage, and the parity of its barriers' phase.
template <int STAGES>
struct Ring {
    int stage = 0;
    int parity = 0;
    __device__ __forceinline__ void advance(int steps) {
        stage += steps;
        parity ^= stage / STAGES & 1;
        stage %= STAGES;
    }
};
