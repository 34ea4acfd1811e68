// Integers of 128 bits, which nvcc makes of carries, funnel shifts and, for division, an approximate reciprocal.

using U = unsigned __int128;
using S = __int128;

// For each pair: a + b, a - b, a * b, a / b, a % b, -a, a << c, a >> c.
template <typename T>
__device__ void all(const T* a, const T* b, T* out, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) {
        return;
    }
    const unsigned c = static_cast<unsigned>(b[i]) & 127;
    T* to = out + 8 * i;
    to[0] = a[i] + b[i];
    to[1] = a[i] - b[i];
    to[2] = a[i] * b[i];
    to[3] = a[i] / b[i];
    to[4] = a[i] % b[i];
    to[5] = -a[i];
    to[6] = a[i] << c;
    to[7] = a[i] >> c;
}

extern "C" __global__ void unsigned128(const U* a, const U* b, U* out, int n) { all(a, b, out, n); }
extern "C" __global__ void signed128(const S* a, const S* b, S* out, int n) { all(a, b, out, n); }

// Comparisons as bits: <, <=, ==, signed <.
extern "C" __global__ void compare128(const U* a, const U* b, unsigned* out, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        out[i] = (a[i] < b[i]) | (a[i] <= b[i]) << 1 | (a[i] == b[i]) << 2
            | (static_cast<S>(a[i]) < static_cast<S>(b[i])) << 3;
    }
}

// Upper halves of products, and quotients of 64 bits.
extern "C" __global__ void wide64(const unsigned long long* a, const unsigned long long* b, unsigned long long* out, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        unsigned long long* to = out + 6 * i;
        to[0] = __umul64hi(a[i], b[i]);
        to[1] = __mul64hi(a[i], b[i]);
        to[2] = a[i] / b[i];
        to[3] = a[i] % b[i];
        to[4] = static_cast<long long>(a[i]) / static_cast<long long>(b[i]);
        to[5] = static_cast<long long>(a[i]) % static_cast<long long>(b[i]);
    }
}
