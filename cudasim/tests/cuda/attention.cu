// Causal flash attention in f32 by plain FMAs: online softmax over tiles of keys, one warp for a query, the whole of the
// bookkeeping that the tensor-core form has.

// q, k, v, out: [heads, tokens, 32]; a block of 4 warps takes 4 queries of one head; keys come in tiles of 32, a lane each.
extern "C" __global__ void __launch_bounds__(128)
flash_attention(const float* q, const float* k, const float* v, float* out, float* logsumexp, int tokens)
{
    constexpr int D = 32, TILE = 32;
    __shared__ float keys[TILE][D + 1], values[TILE][D];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int query = blockIdx.x * 4 + warp;
    const size_t head = (size_t)blockIdx.y * tokens * D;
    const bool active = query < tokens;
    float mine = active ? q[head + (size_t)query * D + lane] * rsqrtf(float(D)) : 0.f;
    float most = -INFINITY, sum = 0.f, mixed = 0.f;
    const int last = min(blockIdx.x * 4 + 3, tokens - 1);
    for (int first = 0; first <= last; first += TILE) {
        __syncthreads();
        for (int i = threadIdx.x; i < TILE * D; i += blockDim.x) {
            const int key = first + i / D;
            keys[i / D][i % D] = key < tokens ? k[head + (size_t)key * D + i % D] : 0.f;
            values[i / D][i % D] = key < tokens ? v[head + (size_t)key * D + i % D] : 0.f;
        }
        __syncthreads();
        // The lane's key against the warp's query.
        float score = 0.f;
        for (int d = 0; d < D; ++d) score += __shfl_sync(0xffffffffu, mine, d) * keys[lane][d];
        if (first + lane > query) score = -INFINITY;
        float tile = score;
        for (int offset = 16; offset > 0; offset /= 2) tile = fmaxf(tile, __shfl_xor_sync(0xffffffffu, tile, offset));
        const float now = fmaxf(most, tile);
        if (now == -INFINITY) continue;
        const float p = __expf(score - now), rescale = __expf(most - now);
        float row = p;
        for (int offset = 16; offset > 0; offset /= 2) row += __shfl_xor_sync(0xffffffffu, row, offset);
        sum = sum * rescale + row;
        mixed *= rescale;
        for (int key = 0; key < TILE; ++key) mixed += __shfl_sync(0xffffffffu, p, key) * values[key][lane];
        most = now;
    }
    if (!active) return;
    out[head + (size_t)query * D + lane] = mixed / sum;
    if (lane == 0) logsumexp[blockIdx.y * tokens + query] = most + logf(sum);
}
