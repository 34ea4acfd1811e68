// sample: draws a token for each row of logits by inverting the cumulative distribution, as device/cpu/sample.rs does.
//
// reads   logits [rows, vocabulary], uniforms [rows] f32 in [0, 1)
// writes  tokens [rows] u16
// sums    f64 in fixed order: deterministic
// grid    x: rows;  block 128 threads; static shared memory 1.1 KiB
//
// Thread t has the t-th of 128 runs of neighbouring tokens. temperature 0 takes the first of the largest logits. With top_k only
// the k largest are candidates, and among equals the lower tokens: the k-th largest is found bit by bit, with floats as integers
// of the same order (that of total_cmp), for any vocabulary in 32 counts. With top_p, in kernels of their own, the least of the
// candidates' logits that still belongs to the nucleus is found in the same way, in 32 sums of weights.
#include "common.cuh"
#include "reduce.cuh"

constexpr int THREADS = 128;
constexpr int WARPS = THREADS / WARP;

// Integers that compare as the floats do: −NaN < −∞ < … < ∞ < NaN.
__device__ __forceinline__ uint32_t ordered(float x) {
    const uint32_t bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Block reduction by `op`, in fixed order; every thread gets the result. `smem` has an element per warp, and is free again afterwards.
template <class T, class Op>
__device__ __forceinline__ T reduce(T x, T* smem, const Op& op) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) x = op(x, __shfl_xor_sync(ALL_LANES, x, distance));
    if (threadIdx.x % WARP == 0) smem[threadIdx.x / WARP] = x;
    __syncthreads();
    x = smem[0];
#pragma unroll
    for (int other = 1; other < WARPS; ++other) x = op(x, smem[other]);
    __syncthreads();
    return x;
}

// The smallest token whose key is the largest.
__device__ __forceinline__ int argmax(uint32_t key, int token, unsigned long long* smem) {
    const unsigned long long packed = static_cast<unsigned long long>(key) << 32 | ~static_cast<uint32_t>(token);
    const auto larger = [](unsigned long long x, unsigned long long y) { return x > y ? x : y; };
    return static_cast<int>(~static_cast<uint32_t>(reduce(packed, smem, larger)));
}

// The sum over the threads before this one. `smem` as above.
__device__ __forceinline__ int sum_before(int x, int* smem) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    int sum = x;
#pragma unroll
    for (int distance = 1; distance < WARP; distance *= 2) {
        const int other = __shfl_up_sync(ALL_LANES, sum, distance);
        if (lane >= distance) sum += other;
    }
    if (lane == WARP - 1) smem[warp] = sum;
    __syncthreads();
    sum -= x;
#pragma unroll
    for (int other = 0; other < WARPS - 1; ++other) sum += other < warp ? smem[other] : 0;
    __syncthreads();
    return sum;
}

// The float whose `ordered` is `key`.
__device__ __forceinline__ float unordered(uint32_t key) {
    return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

template <bool NUCLEUS, class T>
__device__ __forceinline__ void sample(
    const T* logits, const float* uniforms, uint16_t* tokens, int vocabulary, float temperature, int top_k,
    float top_p) {
    __shared__ unsigned long long keys[WARPS];
    __shared__ double weights[THREADS + 1];
    __shared__ float maxima[WARPS];
    __shared__ int counts[WARPS];
    const int row = blockIdx.x, warp = threadIdx.x / WARP;
    const T* row_logits = logits + static_cast<size_t>(row) * vocabulary;
    const int run = blocks_of(vocabulary, THREADS);
    const int begin = min(vocabulary, static_cast<int>(threadIdx.x) * run), end = min(vocabulary, begin + run);

    // argmax: NaN compares as the smallest, tokens past the vocabulary as smaller still
    uint32_t best_key = 0;
    int best = vocabulary - 1;
    for (int token = begin; token < end; ++token) {
        const float logit = to_float(row_logits[token]);
        // + 0: the zeros are equal.
        const uint32_t key = isnan(logit) ? 1 : ordered(logit + 0.0f);
        if (key > best_key) {
            best_key = key;
            best = token;
        }
    }
    const int largest = argmax(best_key, best, keys);
    if (temperature == 0.0f) {
        if (threadIdx.x == 0) tokens[row] = largest;
        return;
    }

    // top k: candidates are the keys above the threshold, and the first `equals` of those equal to it
    uint32_t threshold = 0;
    int equals = vocabulary;
    int equals_before = 0;  // in the runs before this thread's
    if (top_k < vocabulary) {
        for (int bit = 31; bit >= 0; --bit) {
            const uint32_t candidate = threshold | 1u << bit;
            int above = 0;
            for (int token = begin; token < end; ++token) above += ordered(to_float(row_logits[token])) >= candidate;
            if (group_sum<WARPS>(above, counts, warp) >= top_k) threshold = candidate;
        }
        int above = 0, same = 0;
        for (int token = begin; token < end; ++token) {
            const uint32_t key = ordered(to_float(row_logits[token]));
            above += key > threshold;
            same += key == threshold;
        }
        equals = top_k - group_sum<WARPS>(above, counts, warp);
        equals_before = sum_before(same, counts);
    }

    // Whether there is a threshold at all: once there is a nucleus, always. A variable costs registers, of which ptxas spills.
    bool is_cut = top_k < vocabulary;
    const auto limited = [&] { return NUCLEUS ? is_cut : top_k < vocabulary; };

    // `use(token, logit)` for this thread's candidates, in order.
    const auto for_candidates = [&](auto use) {
        int seen = equals_before;
        for (int token = begin; token < end; ++token) {
            const float logit = to_float(row_logits[token]);
            const uint32_t key = ordered(logit);
            const bool same = limited() && key == threshold;
            if (same ? seen < equals : key > threshold || !limited()) use(token, logit);
            seen += same;
        }
    };

    // softmax: the maximum, and the weight of a logit
    float max = -INFINITY;
    for_candidates([&](int, float logit) { max = fmaxf(max, logit); });
    max = reduce(max, maxima, [](float x, float y) { return fmaxf(x, y); });
    const auto weight = [&](float logit) {
        return exp((static_cast<double>(logit) - static_cast<double>(max)) / static_cast<double>(temperature));
    };

    // top p: the highest threshold whose candidates together have top_p of the weight, and as many of those equal to it as
    // are needed
    if constexpr (NUCLEUS) {
        __shared__ double sums[WARPS];
        double all = 0.0;
        for_candidates([&](int, float logit) { all += weight(logit); });
        const double enough = static_cast<double>(top_p) * group_sum<WARPS>(all, sums, warp);

        uint32_t nucleus = 0;
        for (int bit = 31; bit >= 0; --bit) {
            const uint32_t candidate = nucleus | 1u << bit;
            double above = 0.0;
            for_candidates([&](int, float logit) {
                if (ordered(logit) >= candidate) above += weight(logit);
            });
            if (group_sum<WARPS>(above, sums, warp) >= enough) nucleus = candidate;
        }

        double above = 0.0;
        int same = 0;
        for_candidates([&](int, float logit) {
            const uint32_t key = ordered(logit);
            if (key > nucleus) above += weight(logit);
            same += key == nucleus;
        });
        const double missing = enough - group_sum<WARPS>(above, sums, warp);
        const double each = weight(unordered(nucleus));
        // Weights that are no numbers reach nothing; one candidate is left, and the sums below stay what they are.
        const double needed = missing > each ? fmin(ceil(missing / each), static_cast<double>(vocabulary)) : 1.0;
        equals = min(static_cast<int>(needed), limited() && nucleus == threshold ? equals : vocabulary);
        threshold = nucleus;
        is_cut = true;
        equals_before = sum_before(same, counts);
    }

    // prefix sums of the runs' weights
    double sum = 0.0;
    for_candidates([&](int, float logit) { sum += weight(logit); });
    weights[threadIdx.x + 1] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        // The sum before each run; the last is the total. One after the other: a run begins where the one before ends, to the bit.
        double before = 0.0;
        weights[0] = before;
#pragma unroll 16
        for (int other = 1; other <= THREADS; ++other) {
            before += weights[other];
            weights[other] = before;
        }
    }
    __syncthreads();

    // the first token whose cumulative weight is above uniform · total
    const double wanted = static_cast<double>(uniforms[row]) * weights[THREADS];
    double cumulative = 0.0;
    int drawn = vocabulary;
    for_candidates([&](int token, float logit) {
        cumulative += weight(logit);
        if (weights[threadIdx.x] + cumulative > wanted && drawn == vocabulary) drawn = token;
    });

    // The lowest over all threads; the largest logit if there is none because logits are NaN or all infinite.
    drawn = reduce(drawn, counts, [](int x, int y) { return min(x, y); });
    if (threadIdx.x == 0) tokens[row] = drawn < vocabulary ? drawn : largest;
}

#define KERNEL(NAME, T)                                                                                           \
    extern "C" __global__ void __launch_bounds__(THREADS) sample_##NAME(                                          \
        const T* logits, const float* uniforms, uint16_t* tokens, int vocabulary, float temperature, int top_k) { \
        sample<false>(logits, uniforms, tokens, vocabulary, temperature, top_k, 1.0f);                            \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS) sample_top_p_##NAME(                                    \
        const T* logits, const float* uniforms, uint16_t* tokens, int vocabulary, float temperature, int top_k,   \
        float top_p) {                                                                                            \
        sample<true>(logits, uniforms, tokens, vocabulary, temperature, top_k, top_p);                            \
    }

KERNEL(f32, float)
KERNEL(bf16, bf16)
