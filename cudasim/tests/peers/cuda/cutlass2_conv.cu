// sm_80
// CUTLASS 2: convolutions of f16 images, forwards and to their inputs.

#include <cutlass/conv/conv2d_problem_size.h>
#include <cutlass/conv/device/implicit_gemm_convolution.h>
#include <cutlass/conv/kernel/default_conv2d_dgrad.h>
#include <cutlass/conv/kernel/default_conv2d_fprop.h>

#include "cutlass2.h"

// What one convolution is: image, filters, padding and stride.
struct Shape {
    int n, h, w, c, k, r, s, pad, stride;
};

namespace {

using Half = cutlass::half_t;
using Layout = cutlass::layout::TensorNHWC;
using Epilogue = cutlass::epilogue::thread::LinearCombination<float, 4, float, float>;
using Swizzle = cutlass::gemm::threadblock::GemmIdentityThreadblockSwizzle<1>;

template <cutlass::conv::IteratorAlgorithm ALGORITHM>
using Forward = cutlass::conv::device::ImplicitGemmConvolution<typename cutlass::conv::kernel::DefaultConv2dFprop<
    Half, Layout, Half, Layout, float, Layout, float, cutlass::arch::OpClassTensorOp, cutlass::arch::Sm80,
    GemmShape<64, 64, 32>, GemmShape<32, 32, 32>, GemmShape<16, 8, 16>, Epilogue, Swizzle, 3,
    cutlass::arch::OpMultiplyAdd, ALGORITHM>::Kernel>;

using Backward = cutlass::conv::device::ImplicitGemmConvolution<typename cutlass::conv::kernel::DefaultConv2dDgrad<
    Half, Layout, Half, Layout, float, Layout, float, cutlass::arch::OpClassTensorOp, cutlass::arch::Sm80,
    GemmShape<64, 64, 32>, GemmShape<32, 32, 32>, GemmShape<16, 8, 16>, Epilogue, Swizzle, 3,
    cutlass::arch::OpMultiplyAdd, cutlass::conv::IteratorAlgorithm::kOptimized,
    cutlass::conv::StrideSupport::kUnity>::Kernel>;

// A is the image, or the gradient of the result; D is written.
template <typename Convolution>
int convolve(const Shape& shape, const void* a, const void* b, void* d) {
    const int p = (shape.h + 2 * shape.pad - shape.r) / shape.stride + 1;
    const int q = (shape.w + 2 * shape.pad - shape.s) / shape.stride + 1;
    const cutlass::conv::Conv2dProblemSize problem(
        {shape.n, shape.h, shape.w, shape.c}, {shape.k, shape.r, shape.s, shape.c},
        {shape.pad, shape.pad, shape.pad, shape.pad}, {shape.stride, shape.stride}, {1, 1}, {shape.n, p, q, shape.k},
        cutlass::conv::Mode::kCrossCorrelation, 1);
    constexpr bool FORWARD = Convolution::kConvolutionalOperator == cutlass::conv::Operator::kFprop;
    const Layout image = Layout::packed({shape.n, shape.h, shape.w, shape.c});
    const Layout result = Layout::packed({shape.n, p, q, shape.k});
    const Layout filter = Layout::packed({shape.k, shape.r, shape.s, shape.c});
    const auto pointer = [](const void* x) { return const_cast<Half*>(static_cast<const Half*>(x)); };
    const Layout to = FORWARD ? result : image;
    typename Convolution::Arguments arguments(
        problem, {pointer(a), FORWARD ? image : result}, {pointer(b), filter}, {static_cast<float*>(d), to},
        {static_cast<float*>(d), to}, {1.0f, 0.0f});
    return run<Convolution>(arguments);
}

}  // namespace

extern "C" int forward_optimised(const Shape& shape, const void* a, const void* b, void* d) {
    return convolve<Forward<cutlass::conv::IteratorAlgorithm::kOptimized>>(shape, a, b, d);
}

extern "C" int forward_analytic(const Shape& shape, const void* a, const void* b, void* d) {
    return convolve<Forward<cutlass::conv::IteratorAlgorithm::kAnalytic>>(shape, a, b, d);
}

extern "C" int backward(const Shape& shape, const void* a, const void* b, void* d) {
    return convolve<Backward>(shape, a, b, d);
}
