// sm_80
// Device-wide selection, partition, runs and histograms of CUB.

#include "cub_device.h"

struct Above {
    int limit;
    template <typename T>
    __device__ bool operator()(const T& x) const {
        return x > limit;
    }
};

extern "C" int select_if(const int* x, int* out, int* count, int n, int limit) {
    return run([=](void* s, size_t& b) { return cub::DeviceSelect::If(s, b, x, out, count, n, Above{limit}); });
}

extern "C" int select_flagged(const double* x, const char* flags, double* out, int* count, int n) {
    return run([=](void* s, size_t& b) { return cub::DeviceSelect::Flagged(s, b, x, flags, out, count, n); });
}

extern "C" int select_unique(const short* x, short* out, int* count, int n) {
    return run([=](void* s, size_t& b) { return cub::DeviceSelect::Unique(s, b, x, out, count, n); });
}

extern "C" int partition_if(const int* x, int* out, int* count, int n, int limit) {
    return run([=](void* s, size_t& b) { return cub::DevicePartition::If(s, b, x, out, count, n, Above{limit}); });
}

extern "C" int run_lengths(const int* x, int* unique, int* lengths, int* count, int n) {
    return run(
        [=](void* s, size_t& b) { return cub::DeviceRunLengthEncode::Encode(s, b, x, unique, lengths, count, n); });
}

extern "C" int histogram_even(const float* x, int* bins, int levels, int n) {
    return run(
        [=](void* s, size_t& b) { return cub::DeviceHistogram::HistogramEven(s, b, x, bins, levels, 0.0f, 16.0f, n); });
}

extern "C" int histogram_pixels(const unsigned char* x, int* red, int* green, int* blue, int pixels) {
    return run([=](void* s, size_t& b) {
        int* bins[3] = {red, green, blue};
        int levels[3] = {257, 257, 257};
        int low[3] = {0, 0, 0};
        int high[3] = {256, 256, 256};
        return cub::DeviceHistogram::MultiHistogramEven<4, 3>(s, b, x, bins, levels, low, high, pixels);
    });
}
