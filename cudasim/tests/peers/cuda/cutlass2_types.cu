// sm_80
// CUTLASS 2: other types of numbers, and split-K with a reduction of its own.

#include <cutlass/gemm/device/gemm.h>
#include <cutlass/gemm/device/gemm_splitk_parallel.h>

#include "cutlass2.h"

using cutlass::arch::OpClassSimt;
using cutlass::arch::OpClassTensorOp;
using cutlass::arch::Sm80;
using Swizzle = cutlass::gemm::threadblock::GemmIdentityThreadblockSwizzle<>;
using Linear32 = cutlass::epilogue::thread::LinearCombination<float, 4, float, float>;

extern "C" int bf16(const Problem& p) {
    using Bf16 = cutlass::bfloat16_t;
    using Epilogue = cutlass::epilogue::thread::LinearCombination<Bf16, 8, float, float>;
    using Gemm = cutlass::gemm::device::GemmUniversal<
        Bf16, Row, Bf16, Column, Bf16, Row, float, OpClassTensorOp, Sm80, GemmShape<128, 64, 32>, GemmShape<64, 32, 32>,
        GemmShape<16, 8, 16>, Epilogue, Swizzle, 4>;
    return universal<Gemm, Row, Column>(p);
}

extern "C" int tf32(const Problem& p) {
    using Gemm = cutlass::gemm::device::GemmUniversal<
        float, Row, float, Row, float, Row, float, OpClassTensorOp, Sm80, GemmShape<64, 64, 16>, GemmShape<32, 32, 16>,
        GemmShape<16, 8, 8>, Linear32, Swizzle, 4, 4, 4>;
    return universal<Gemm, Row, Row>(p);
}

extern "C" int s8(const Problem& p) {
    using Epilogue = cutlass::epilogue::thread::LinearCombinationClamp<int, 4, int, float>;
    using Gemm = cutlass::gemm::device::GemmUniversal<
        int8_t, Row, int8_t, Column, int, Row, int, OpClassTensorOp, Sm80, GemmShape<64, 64, 64>, GemmShape<32, 32, 64>,
        GemmShape<16, 8, 32>, Epilogue, Swizzle, 3, 16, 16, cutlass::arch::OpMultiplyAddSaturate>;
    return universal<Gemm, Row, Column>(p);
}

extern "C" int f64(const Problem& p) {
    using Epilogue = cutlass::epilogue::thread::LinearCombination<double, 1, double, double>;
    using Gemm = cutlass::gemm::device::GemmUniversal<
        double, Row, double, Column, double, Row, double, OpClassTensorOp, Sm80, GemmShape<32, 32, 16>,
        GemmShape<16, 16, 16>, GemmShape<8, 8, 4>, Epilogue, Swizzle, 3, 1, 1>;
    return universal<Gemm, Row, Column>(p);
}

extern "C" int simt(const Problem& p) {
    using Epilogue = cutlass::epilogue::thread::LinearCombination<float, 1, float, float>;
    using Gemm = cutlass::gemm::device::GemmUniversal<
        float, Column, float, Row, float, Row, float, OpClassSimt, Sm80, GemmShape<64, 64, 8>, GemmShape<32, 32, 8>,
        GemmShape<1, 1, 1>, Epilogue, Swizzle, 3, 1, 1>;
    return universal<Gemm, Column, Row>(p);
}

extern "C" int split_k_parallel(const Problem& p) {
    using Half = cutlass::half_t;
    using Gemm = cutlass::gemm::device::GemmSplitKParallel<
        Half, Row, Half, Column, float, Row, float, OpClassTensorOp, Sm80, GemmShape<64, 64, 32>, GemmShape<32, 32, 32>,
        GemmShape<16, 8, 16>, Linear32>;
    Gemm gemm;
    typename Gemm::Arguments arguments(
        {p.m, p.n, p.k}, {static_cast<const Half*>(p.a), p.k}, {static_cast<const Half*>(p.b), p.k},
        {static_cast<const float*>(p.c), p.n}, {static_cast<float*>(p.d), p.n}, {p.alpha, p.beta}, p.slices);
    void* workspace = nullptr;
    if (cudaMalloc(&workspace, Gemm::get_workspace_size(arguments)) != cudaSuccess) {
        return 1000 + cudaGetLastError();
    }
    cutlass::Status status = gemm.initialize(arguments, workspace);
    if (status == cutlass::Status::kSuccess) {
        status = gemm.run();
    }
    const cudaError_t code = cudaDeviceSynchronize();
    return code != cudaSuccess ? 1000 + code : static_cast<int>(status);
}
