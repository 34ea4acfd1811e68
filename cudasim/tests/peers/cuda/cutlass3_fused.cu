// sm_90a
// CUTLASS 3 on Hopper: epilogues that its visitor trees fuse: activations, a bias by rows.

#include <cutlass/epilogue/fusion/operations.hpp>

#include "cutlass3.h"

using Half = cutlass::half_t;
using Staged = cutlass::epilogue::TmaWarpSpecialized;
using cutlass::gemm::KernelTmaWarpSpecialized;

template <template <typename> class Activation>
using Activated = Build<
    Half, Row, Column, Half, float, Shape<_64, _64, _64>, Shape<_1, _1, _1>, KernelTmaWarpSpecialized, Staged, void, 8,
    cutlass::epilogue::fusion::LinCombEltAct<Activation, Half, float, Half, float>>;

extern "C" int relu(const Problem& p) { return run<typename Activated<cutlass::epilogue::thread::ReLu>::Gemm>(p); }
extern "C" int silu(const Problem& p) { return run<typename Activated<cutlass::epilogue::thread::SiLu>::Gemm>(p); }

// C is a bias for each row and is not added itself.
extern "C" int bias(const Problem& p) {
    using Gemm = typename Build<
        Half, Row, Column, Half, float, Shape<_64, _64, _64>, Shape<_1, _1, _1>, KernelTmaWarpSpecialized, Staged, void,
        8, cutlass::epilogue::fusion::LinCombPerRowBias<Half, float, Half, Half, float>>::Gemm;
    auto arguments = arguments_of<Gemm>(p);
    arguments.epilogue.thread.beta = 0;
    arguments.epilogue.thread.bias_ptr = static_cast<const Half*>(p.c);
    return run<Gemm>(arguments);
}
