// GEMMs of CUTLASS 3 for Hopper, made by its CollectiveBuilder, as one function each: D = alpha A B + beta C.

#pragma once

#include <cutlass/cutlass.h>
#include <cutlass/gemm/device/gemm_universal_adapter.h>

#include <cute/tensor.hpp>
#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/epilogue/collective/default_epilogue.hpp>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/gemm/kernel/gemm_universal.hpp>
#include <cutlass/gemm/kernel/tile_scheduler.hpp>
#include <cutlass/util/packed_stride.hpp>

using Row = cutlass::layout::RowMajor;
using Column = cutlass::layout::ColumnMajor;
using namespace cute;

struct Problem {
    int m, n, k;
    int batches;
    float alpha, beta;
    const void *a, *b, *c;
    void* d;
};

// The builders with what the cases differ in. Out is the type of C and D, which lie by rows.
template <
    typename In, typename LA, typename LB, typename Out, typename Sum, typename Tile, typename Cluster,
    typename Mainloop, typename Epilogue, typename Scheduler = void, int ALIGN = 16 / sizeof(In),
    typename Fusion = cutlass::epilogue::fusion::LinearCombination<Out, Sum, Out, Sum>>
struct Build {
    using CollectiveEpilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
        cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Tile, Cluster,
        cutlass::epilogue::collective::EpilogueTileAuto, Sum, Sum, Out, Row, 16 / sizeof(Out), Out, Row,
        16 / sizeof(Out), Epilogue, Fusion>::CollectiveOp;
    using CollectiveMainloop = typename cutlass::gemm::collective::CollectiveBuilder<
        cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, In, LA, ALIGN, In, LB, ALIGN, Sum, Tile, Cluster,
        cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(
            sizeof(typename CollectiveEpilogue::SharedStorage))>,
        Mainloop>::CollectiveOp;
    using Kernel = cutlass::gemm::kernel::GemmUniversal<
        Shape<int, int, int, int>, CollectiveMainloop, CollectiveEpilogue, Scheduler>;
    using Gemm = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;
};

template <typename Gemm>
typename Gemm::Arguments arguments_of(const Problem& p) {
    using StrideA = typename Gemm::GemmKernel::StrideA;
    using StrideB = typename Gemm::GemmKernel::StrideB;
    using StrideC = typename Gemm::GemmKernel::StrideC;
    using A = typename Gemm::ElementA;
    using C = typename Gemm::ElementC;
    const auto a = cutlass::make_cute_packed_stride(StrideA{}, make_shape(p.m, p.k, p.batches));
    const auto b = cutlass::make_cute_packed_stride(StrideB{}, make_shape(p.n, p.k, p.batches));
    const auto c = cutlass::make_cute_packed_stride(StrideC{}, make_shape(p.m, p.n, p.batches));
    typename Gemm::Arguments arguments{
        cutlass::gemm::GemmUniversalMode::kGemm,
        {p.m, p.n, p.k, p.batches},
        {static_cast<const A*>(p.a), a, static_cast<const A*>(p.b), b},
        {{}, static_cast<const C*>(p.c), c, static_cast<C*>(p.d), c}};
    arguments.epilogue.thread.alpha = p.alpha;
    arguments.epilogue.thread.beta = p.beta;
    arguments.hw_info.device_id = 0;
    // Few, so that persistent kernels have several tiles each.
    arguments.hw_info.sm_count = 2;
    return arguments;
}

template <typename Gemm>
int run(const typename Gemm::Arguments& arguments) {
    Gemm gemm;
    cutlass::Status status = gemm.can_implement(arguments);
    if (status != cutlass::Status::kSuccess) {
        return 100 + static_cast<int>(status);
    }
    void* workspace = nullptr;
    const size_t bytes = Gemm::get_workspace_size(arguments);
    if (bytes != 0 && cudaMalloc(&workspace, bytes) != cudaSuccess) {
        return 1000 + cudaGetLastError();
    }
    status = gemm.initialize(arguments, workspace);
    if (status == cutlass::Status::kSuccess) {
        status = gemm.run();
    }
    const cudaError_t code = cudaDeviceSynchronize();
    return code != cudaSuccess ? 1000 + code : static_cast<int>(status);
}

template <typename Gemm>
int run(const Problem& p) {
    return run<Gemm>(arguments_of<Gemm>(p));
}
