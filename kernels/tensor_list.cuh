// Lists of tensors that one launch goes through, passed by value: what a step does to every parameter is then a launch or a few, and
// not one for each.
//
// Tensors are cut into chunks of CHUNK elements, one for each block, in the order of the list: so sums hang on the shapes alone. The
// first tensor of `end` above the block's number has the block's chunk; entries past the last tensor have the largest `end` there is.
#pragma once

#include "common.cuh"

constexpr int CHUNK = 16384;

template <class Entry, int CAPACITY>
struct TensorList {
    Entry entries[CAPACITY];
};

// A block's chunk: its tensor's entry, and elements `begin` .. `begin + count` of it.
struct Chunk {
    int entry;
    size_t begin;
    int count;
};

template <class Entry, int CAPACITY>
__device__ __forceinline__ Chunk chunk_of(const TensorList<Entry, CAPACITY>& list, uint32_t block) {
    // the first entry that ends past the block, by halves
    int entry = 0;
#pragma unroll
    for (int step = 128; step > 0; step /= 2) {
        const int next = entry + step;
        if (next < CAPACITY && list.entries[next - 1].end <= block) entry = next;
    }

    const uint32_t first = entry > 0 ? list.entries[entry - 1].end : 0;
    const size_t begin = static_cast<size_t>(block - first) * CHUNK;
    return {entry, begin, static_cast<int>(min(static_cast<size_t>(CHUNK), list.entries[entry].count - begin))};
}
