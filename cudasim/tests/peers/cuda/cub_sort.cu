// sm_80
// Device-wide sorts of CUB.

#include "cub_device.h"

struct Before {
    template <typename T>
    __device__ bool operator()(const T& a, const T& b) const {
        return a < b;
    }
};

extern "C" int radix_keys(const unsigned* in, unsigned* out, int n) {
    return run([=](void* s, size_t& b) { return cub::DeviceRadixSort::SortKeys(s, b, in, out, n); });
}

extern "C" int radix_pairs(const float* in, float* out, const int* values, int* sorted, int n) {
    return run([=](void* s, size_t& b) {
        return cub::DeviceRadixSort::SortPairsDescending(s, b, in, out, values, sorted, n);
    });
}

extern "C" int merge_pairs(long long* keys, int* values, int n) {
    return run(
        [=](void* s, size_t& b) { return cub::DeviceMergeSort::StableSortPairs(s, b, keys, values, n, Before()); });
}

extern "C" int segmented_sort(const int* in, int* out, int n, int segments, const int* offsets) {
    return run([=](void* s, size_t& b) {
        return cub::DeviceSegmentedSort::SortKeys(s, b, in, out, n, segments, offsets, offsets + 1);
    });
}
