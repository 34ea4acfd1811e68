// sm_90a
// CUTLASS 3 on Hopper: TMA and wgmma, one consumer, ping-pong and cooperative; clusters.

#include "cutlass3.h"

using Half = cutlass::half_t;
using cutlass::epilogue::NoSmemWarpSpecialized;
using cutlass::gemm::KernelTma;
using cutlass::gemm::KernelTmaWarpSpecialized;
using cutlass::gemm::KernelTmaWarpSpecializedCooperative;
using cutlass::gemm::KernelTmaWarpSpecializedPingpong;
using Staged = cutlass::epilogue::TmaWarpSpecialized;
using StagedCooperative = cutlass::epilogue::TmaWarpSpecializedCooperative;

extern "C" int ws_f16(const Problem& p) {
    return run<Build<
        Half, Row, Column, Half, float, Shape<_64, _128, _64>, Shape<_1, _1, _1>, KernelTmaWarpSpecialized,
        Staged>::Gemm>(p);
}

extern "C" int pingpong_bf16(const Problem& p) {
    using Bf16 = cutlass::bfloat16_t;
    return run<Build<
        Bf16, Row, Row, float, float, Shape<_64, _64, _64>, Shape<_1, _1, _1>, KernelTmaWarpSpecializedPingpong,
        Staged>::Gemm>(p);
}

extern "C" int cooperative_f16_cluster(const Problem& p) {
    return run<Build<
        Half, Column, Row, Half, float, Shape<_128, _64, _64>, Shape<_2, _1, _1>, KernelTmaWarpSpecializedCooperative,
        StagedCooperative>::Gemm>(p);
}

extern "C" int tma_plain_f16(const Problem& p) {
    return run<Build<
        Half, Row, Column, float, float, Shape<_64, _64, _64>, Shape<_1, _2, _1>, KernelTma,
        NoSmemWarpSpecialized>::Gemm>(p);
}
