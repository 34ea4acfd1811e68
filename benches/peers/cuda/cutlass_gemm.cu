// CUTLASS 3 on Hopper at the configurations of kapilsharma.dev, "Learn CUTLASS the hard way - part 2": bf16 by rows, tiles of 128 x 256,
// no clusters, persistent and cooperative.

#include "cutlass3.h"

using Bf16 = cutlass::bfloat16_t;

// raster: 0 as CUTLASS chooses, 1 along N, 2 along M.
extern "C" int cooperative(const Problem& p, int swizzle, int raster) {
    using Gemm = Build<
        Bf16, Row, Row, Bf16, float, Shape<_128, _256, _64>, Shape<_1, _1, _1>,
        cutlass::gemm::KernelTmaWarpSpecializedCooperative, cutlass::epilogue::TmaWarpSpecializedCooperative,
        cutlass::gemm::PersistentScheduler>::Gemm;
    using Order = cutlass::gemm::kernel::detail::RasterOrderOptions;
    auto arguments = arguments_of<Gemm>(p);
    arguments.hw_info.sm_count = 132;
    arguments.scheduler.max_swizzle_size = swizzle;
    arguments.scheduler.raster_order = raster == 0 ? Order::Heuristic : raster == 1 ? Order::AlongN : Order::AlongM;
    return run<Gemm>(arguments);
}
