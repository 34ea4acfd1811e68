// sm_80
// Device-wide reductions, scans and differences of CUB.

#include "cub_device.h"

struct Larger {
    template <typename T>
    __device__ T operator()(T a, T b) const {
        return a < b ? b : a;
    }
};

extern "C" int reduce_sum(const float* x, float* out, int n) {
    return run([=](void* s, size_t& b) { return cub::DeviceReduce::Sum(s, b, x, out, n); });
}

extern "C" int reduce_sum_f64(const double* x, double* out, int n) {
    return run([=](void* s, size_t& b) { return cub::DeviceReduce::Sum(s, b, x, out, n); });
}

extern "C" int reduce_custom(const int* x, int* out, int n) {
    return run(
        [=](void* s, size_t& b) { return cub::DeviceReduce::Reduce(s, b, x, out, n, Larger(), -2147483647 - 1); });
}

extern "C" int reduce_by_key(const int* keys, int* unique, const float* values, float* sums, int* runs, int n) {
    return run([=](void* s, size_t& b) {
        return cub::DeviceReduce::ReduceByKey(s, b, keys, unique, values, sums, runs, cuda::std::plus<>{}, n);
    });
}

extern "C" int segmented_sum(const int* x, long long* out, int segments, const int* offsets) {
    return run([=](void* s, size_t& b) {
        return cub::DeviceSegmentedReduce::Sum(s, b, x, out, segments, offsets, offsets + 1);
    });
}

extern "C" int exclusive_sum(const int* x, int* out, int n) {
    return run([=](void* s, size_t& b) { return cub::DeviceScan::ExclusiveSum(s, b, x, out, n); });
}

extern "C" int inclusive_max(const float* x, float* out, int n) {
    return run([=](void* s, size_t& b) { return cub::DeviceScan::InclusiveScan(s, b, x, out, Larger(), n); });
}

extern "C" int scan_by_key(const int* keys, const long long* x, long long* out, int n) {
    return run([=](void* s, size_t& b) { return cub::DeviceScan::InclusiveSumByKey(s, b, keys, x, out, n); });
}

extern "C" int differences(const int* x, int* out, int n) {
    return run([=](void* s, size_t& b) { return cub::DeviceAdjacentDifference::SubtractLeftCopy(s, b, x, out, n); });
}

extern "C" int transform_reduce(const float* x, double* out, int n) {
    const auto square = [] __host__ __device__(float v) { return static_cast<double>(v) * v; };
    return run([=](void* s, size_t& b) {
        return cub::DeviceReduce::TransformReduce(s, b, x, out, n, cuda::std::plus<>{}, square, 0.0);
    });
}
