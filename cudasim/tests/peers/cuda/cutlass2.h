// GEMMs of CUTLASS 2 as one function each, called from Python: D = epilogue(alpha A B + beta C).

#pragma once

#include <cutlass/cutlass.h>
#include <cutlass/epilogue/thread/linear_combination.h>
#include <cutlass/epilogue/thread/linear_combination_clamp.h>
#include <cutlass/epilogue/thread/linear_combination_gelu.h>
#include <cutlass/epilogue/thread/linear_combination_relu.h>
#include <cutlass/gemm/device/gemm_universal.h>

using Row = cutlass::layout::RowMajor;
using Column = cutlass::layout::ColumnMajor;
using cutlass::gemm::GemmShape;

// Runs an operation of CUTLASS; its status, or 1000 and the error of the runtime.
template <typename Operation>
int run(typename Operation::Arguments arguments) {
    Operation operation;
    cutlass::Status status = operation.can_implement(arguments);
    if (status != cutlass::Status::kSuccess) {
        return 100 + static_cast<int>(status);
    }
    void* workspace = nullptr;
    if (cudaMalloc(&workspace, Operation::get_workspace_size(arguments)) != cudaSuccess) {
        return 1000 + cudaGetLastError();
    }
    status = operation.initialize(arguments, workspace);
    if (status == cutlass::Status::kSuccess) {
        status = operation.run();
    }
    const cudaError_t code = cudaDeviceSynchronize();
    return code != cudaSuccess ? 1000 + code : static_cast<int>(status);
}

struct Problem {
    int m, n, k;
    int slices;
    float alpha, beta;
    const void *a, *b, *c;
    void* d;
};

// A GEMM of `GemmUniversal`: split-K serial or parallel by `mode`, batched where the mode says so.
template <typename Gemm>
int universal(const Problem& p, cutlass::gemm::GemmUniversalMode mode, int lda, int ldb, int ldc) {
    using Scalar = typename Gemm::EpilogueOutputOp::ElementCompute;
    typename Gemm::EpilogueOutputOp::Params epilogue(Scalar(p.alpha), Scalar(p.beta));
    const bool batched = mode == cutlass::gemm::GemmUniversalMode::kBatched;
    const int64_t each = batched ? 1 : 0;
    typename Gemm::Arguments arguments(
        mode, {p.m, p.n, p.k}, p.slices, epilogue, p.a, p.b, p.c, p.d, each * p.m * p.k, each * p.k * p.n,
        each * p.m * p.n, each * p.m * p.n, lda, ldb, ldc, ldc);
    return run<Gemm>(arguments);
}

template <typename Layout>
int leading(int rows, int columns) {
    return std::is_same<Layout, Row>::value ? columns : rows;
}

template <typename Gemm, typename LA, typename LB>
int universal(const Problem& p, cutlass::gemm::GemmUniversalMode mode = cutlass::gemm::GemmUniversalMode::kGemm) {
    return universal<Gemm>(p, mode, leading<LA>(p.m, p.k), leading<LB>(p.k, p.n), p.n);
}
