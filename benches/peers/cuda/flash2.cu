// FlashAttention-2's forward kernels, from the headers of its own package, at what its figures are of: f16, head dimensions 64 and 128.

#define FLASHATTENTION_DISABLE_DROPOUT
#define FLASHATTENTION_DISABLE_ALIBI
#define FLASHATTENTION_DISABLE_LOCAL
#define FLASHATTENTION_DISABLE_SOFTCAP
#define FLASHATTENTION_DISABLE_UNEVEN_K

#include "flash_fwd_launch_template.h"

#include <cmath>

// All of q, k, v and out lie by batch, position, head.
extern "C" int forward(
    int batch, int t, int heads, int d, int causal, void* q, void* k, void* v, void* out, void* lse) {
    flash::Flash_fwd_params p = {};
    p.q_ptr = q;
    p.k_ptr = k;
    p.v_ptr = v;
    p.o_ptr = out;
    p.softmax_lse_ptr = lse;
    p.q_batch_stride = p.k_batch_stride = p.v_batch_stride = p.o_batch_stride = int64_t(t) * heads * d;
    p.q_row_stride = p.k_row_stride = p.v_row_stride = p.o_row_stride = int64_t(heads) * d;
    p.q_head_stride = p.k_head_stride = p.v_head_stride = p.o_head_stride = d;
    p.b = batch;
    p.h = p.h_k = heads;
    p.h_h_k_ratio = 1;
    p.seqlen_q = p.seqlen_k = p.seqlen_q_rounded = p.seqlen_k_rounded = t;
    p.d = p.d_rounded = d;
    p.scale_softmax = 1 / std::sqrt(float(d));
    p.scale_softmax_log2 = p.scale_softmax * float(M_LOG2E);
    p.p_dropout = 1;
    p.p_dropout_in_uint8_t = 255;
    p.rp_dropout = 1;
    p.scale_softmax_rp_dropout = p.scale_softmax;
    p.is_causal = causal != 0;
    p.window_size_left = -1;
    p.window_size_right = causal != 0 ? 0 : -1;
    using Half = cutlass::half_t;
    if (d == 64) {
        causal ? flash::run_mha_fwd_hdim64<Half, true>(p, nullptr) : flash::run_mha_fwd_hdim64<Half, false>(p, nullptr);
    } else if (d == 128) {
        causal ? flash::run_mha_fwd_hdim128<Half, true>(p, nullptr)
               : flash::run_mha_fwd_hdim128<Half, false>(p, nullptr);
    } else {
        return 1;
    }
    return cudaGetLastError();
}
