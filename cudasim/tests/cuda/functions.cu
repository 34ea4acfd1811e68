// Functions that call themselves, through tables and through virtual tables, and memory from the stack.

#include <alloca.h>

// Ackermann: each lane at its own depth.
__device__ __noinline__ int ackermann(int m, int n)
{
    return m == 0 ? n + 1 : n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}

extern "C" __global__ void ackermanns(int* out)
{
    const int i = threadIdx.x;
    out[i] = ackermann(i % 3, i % 5);
}

// Each activation has an array of its own, whose address the next one gets.
__device__ __noinline__ int walk(const int* outer, int depth, int end)
{
    int own[8];
    for (int i = 0; i < 8; ++i) {
        own[i] = outer[(i + 1) % 8] + depth;
    }
    if (depth == end) {
        int sum = 0;
        for (int i = 0; i < 8; ++i) {
            sum += own[i];
        }
        return sum;
    }
    int result = walk(own, depth + 1, end);
    for (int i = 0; i < 8; ++i) {
        result = result * 3 + outer[i] * own[i];
    }
    return result;
}

extern "C" __global__ void walks(const int* ends, int* out)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    int own[8];
    for (int k = 0; k < 8; ++k) {
        own[k] = i + k;
    }
    out[i] = walk(own, 0, ends[i]);
}

// Two functions that call each other.
__device__ __noinline__ unsigned odd(unsigned n, unsigned steps);
__device__ __noinline__ unsigned even(unsigned n, unsigned steps)
{
    return n == 0 ? 2 * steps : odd(n - 1, steps + 1) + n;
}
__device__ __noinline__ unsigned odd(unsigned n, unsigned steps)
{
    return n == 0 ? 2 * steps + 1 : even(n - 1, steps + 1) * 3;
}

extern "C" __global__ void parities(unsigned* out) { out[threadIdx.x] = even(threadIdx.x * 7 % 50, 0); }

// Quicksort by one thread a row, on a stack that is as deep as the row is bad.
__device__ __noinline__ void quicksort(int* x, int count)
{
    if (count < 2) {
        return;
    }
    const int pivot = x[0];
    int left = 0;
    for (int i = 1; i < count; ++i) {
        if (x[i] < pivot) {
            ++left;
            const int other = x[left];
            x[left] = x[i];
            x[i] = other;
        }
    }
    x[0] = x[left];
    x[left] = pivot;
    quicksort(x, left);
    quicksort(x + left + 1, count - left - 1);
}

extern "C" __global__ void sort_rows(int* x, int count) { quicksort(x + threadIdx.x * count, count); }

// Without an end.
__device__ __noinline__ int endless(const int* from, int n)
{
    int own[4] = {n, n + 1, from[0], from[1]};
    return endless(own, n + 1) + own[n % 4];
}
extern "C" __global__ void never(int* out) { out[0] = endless(out, 0); }

// Virtual functions that call one another.
struct Shape {
    __device__ virtual float area(int n) const = 0;
    __device__ virtual ~Shape() {}
};
struct Square : Shape {
    float side;
    __device__ explicit Square(float side) : side(side) {}
    __device__ float area(int n) const override { return n <= 0 ? side * side : side + area(n - 1); }
};
struct Ring : Shape {
    float radius;
    const Shape* inner;
    __device__ Ring(float radius, const Shape* inner) : radius(radius), inner(inner) {}
    __device__ float area(int n) const override { return 3.0f * radius * radius - inner->area(n); }
};

extern "C" __global__ void shapes(const float* x, float* out, int n)
{
    const int i = threadIdx.x;
    const Square square(x[i]);
    const Ring ring(2.0f * x[i], &square);
    const Ring outer(3.0f * x[i], &ring);
    const Shape* all[3] = {&square, &ring, &outer};
    out[i] = all[i % 3]->area(n);
}

// A table of functions, one of which calls through it.
using Function = int (*)(int, int);
__device__ int add(int a, int b) { return a + b; }
__device__ int multiply(int a, int b) { return a * b; }
__device__ int chain(int a, int b);
__device__ Function table[3] = {add, multiply, chain};
__device__ int chain(int a, int b) { return b < 1 ? a : table[b % 3](a, b - 1) + b; }

extern "C" __global__ void calls(const int* which, int* out)
{
    const int i = threadIdx.x;
    out[i] = table[which[i]](i, i % 7);
}

// An array as long as a number says, in a kernel and in each activation.
__device__ __noinline__ int triangle(int n)
{
    int* own = static_cast<int*>(alloca(n * sizeof(int)));
    for (int i = 0; i < n; ++i) {
        own[i] = i + 1;
    }
    const int below = n > 1 ? triangle(n - 1) : 0;
    int sum = 0;
    for (int i = 0; i < n; ++i) {
        sum += own[i];
    }
    return sum + below;
}

extern "C" __global__ void arrays(const int* counts, int* out)
{
    const int count = counts[threadIdx.x];
    int* own = static_cast<int*>(alloca(count * sizeof(int)));
    for (int i = 0; i < count; ++i) {
        own[i] = i * i;
    }
    const int sum = triangle(count);
    int squares = 0;
    for (int i = 0; i < count; i += 2) {
        squares += own[i];
    }
    out[threadIdx.x] = 1000 * squares + sum;
}
