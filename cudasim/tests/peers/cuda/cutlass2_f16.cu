// sm_80
// CUTLASS 2, f16 on tensor cores: layouts, tiles, stages and epilogues.

#include "cutlass2.h"

using Half = cutlass::half_t;
template <
    typename LA, typename LB, typename Out, typename Tile, typename Warp, int STAGES, typename Epilogue,
    typename Sum = float>
using Gemm = cutlass::gemm::device::GemmUniversal<
    Half, LA, Half, LB, Out, Row, Sum, cutlass::arch::OpClassTensorOp, cutlass::arch::Sm80, Tile, Warp,
    GemmShape<16, 8, 16>, Epilogue, cutlass::gemm::threadblock::GemmIdentityThreadblockSwizzle<>, STAGES>;

using Linear16 = cutlass::epilogue::thread::LinearCombination<Half, 8, float, float>;
using Linear32 = cutlass::epilogue::thread::LinearCombination<float, 4, float, float>;
using LinearHalf = cutlass::epilogue::thread::LinearCombination<Half, 8, Half, Half>;
using Relu16 = cutlass::epilogue::thread::LinearCombinationRelu<Half, 8, float, float>;
using Gelu16 = cutlass::epilogue::thread::LinearCombinationGELU<Half, 8, float, float>;

extern "C" int tn_f16(const Problem& p) {
    return universal<Gemm<Row, Column, Half, GemmShape<128, 128, 32>, GemmShape<64, 64, 32>, 3, Linear16>, Row, Column>(
        p);
}

extern "C" int nn_f32(const Problem& p) {
    return universal<
        Gemm<Column, Column, float, GemmShape<64, 128, 32>, GemmShape<32, 64, 32>, 4, Linear32>, Column, Column>(p);
}

extern "C" int nt_relu(const Problem& p) {
    return universal<Gemm<Column, Row, Half, GemmShape<64, 64, 64>, GemmShape<32, 32, 64>, 3, Relu16>, Column, Row>(p);
}

extern "C" int tt_gelu(const Problem& p) {
    return universal<Gemm<Row, Row, Half, GemmShape<128, 64, 32>, GemmShape<64, 32, 32>, 5, Gelu16>, Row, Row>(p);
}

extern "C" int tn_half_sums(const Problem& p) {
    return universal<
        Gemm<Row, Column, Half, GemmShape<64, 64, 32>, GemmShape<32, 32, 32>, 4, LinearHalf, Half>, Row, Column>(p);
}

extern "C" int split_k_serial(const Problem& p) {
    return universal<Gemm<Row, Column, float, GemmShape<64, 64, 32>, GemmShape<32, 32, 32>, 3, Linear32>, Row, Column>(
        p);
}

extern "C" int batched(const Problem& p) {
    return universal<Gemm<Row, Row, Half, GemmShape<64, 64, 32>, GemmShape<32, 32, 32>, 3, Linear16>, Row, Row>(
        p, cutlass::gemm::GemmUniversalMode::kBatched);
}
