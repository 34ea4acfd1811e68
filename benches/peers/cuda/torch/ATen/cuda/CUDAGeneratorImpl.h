// What FlashAttention-2's headers want of PyTorch for dropout, which is off here.

#pragma once

#include <cstdint>

namespace at {
struct PhiloxCudaState {
    uint64_t seed;
    uint64_t offset;
};
}  // namespace at
