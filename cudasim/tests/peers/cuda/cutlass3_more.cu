// sm_90a
// CUTLASS 3 on Hopper: cp.async with warp specialisation, fp8, int8, tf32, stream-K.

#include "cutlass3.h"

using Half = cutlass::half_t;
using cutlass::epilogue::NoSmemWarpSpecialized;
using StagedCooperative = cutlass::epilogue::TmaWarpSpecializedCooperative;
using Staged = cutlass::epilogue::TmaWarpSpecialized;
using cutlass::gemm::KernelCpAsyncWarpSpecialized;
using cutlass::gemm::KernelTmaWarpSpecialized;
using cutlass::gemm::KernelTmaWarpSpecializedCooperative;
using cutlass::gemm::KernelTmaWarpSpecializedPingpong;

extern "C" int cp_async_f16(const Problem& p) {
    return run<Build<
        Half, Row, Column, Half, float, Shape<_64, _64, _64>, Shape<_1, _1, _1>, KernelCpAsyncWarpSpecialized,
        NoSmemWarpSpecialized, void, 4>::Gemm>(p);
}

extern "C" int e4m3(const Problem& p) {
    return run<Build<
        cutlass::float_e4m3_t, Row, Column, Half, float, Shape<_64, _128, _128>, Shape<_1, _1, _1>,
        KernelTmaWarpSpecializedPingpong, Staged>::Gemm>(p);
}

extern "C" int s8(const Problem& p) {
    return run<Build<
        int8_t, Row, Column, int, int, Shape<_64, _128, _128>, Shape<_1, _1, _1>, KernelTmaWarpSpecialized,
        NoSmemWarpSpecialized>::Gemm>(p);
}

extern "C" int tf32(const Problem& p) {
    return run<Build<
        cutlass::tfloat32_t, Row, Column, float, float, Shape<_64, _64, _32>, Shape<_1, _1, _1>,
        KernelTmaWarpSpecialized, Staged>::Gemm>(p);
}

extern "C" int stream_k(const Problem& p) {
    using Gemm = Build<
        Half, Row, Column, float, float, Shape<_128, _64, _64>, Shape<_1, _1, _1>, KernelTmaWarpSpecializedCooperative,
        StagedCooperative, cutlass::gemm::StreamKScheduler>::Gemm;
    return run<Gemm>(p);
}
