"""CUTLASS 3 on Hopper: kernels of its CollectiveBuilder, with their own host code and tensor maps."""

import numpy as np

from corpus import case
from cutlass2 import gemm, relu, same
from device import bfloat16, fp8e4

F16, F32 = np.float16, np.float32
TMA, MORE, FUSED = "cutlass3_tma.cu", "cutlass3_more.cu", "cutlass3_fused.cu"


def silu(x):
    return x / (1 + np.exp(-x))


@case("cutlass", "cutlass3/warp-specialised-f16", "ws_f16", (128, 192, 160), "tn", F16, F16, file=TMA)
@case("cutlass", "cutlass3/pingpong-bf16", "pingpong_bf16", (200, 136, 128), "tt", bfloat16, F32, file=TMA)
@case("cutlass", "cutlass3/cooperative-cluster-f16", "cooperative_f16_cluster", (256, 136, 72), "nt", F16, F16, file=TMA)
@case("cutlass", "cutlass3/tma-f16", "tma_plain_f16", (64, 128, 200), "tn", F16, F32, file=TMA)
@case("cutlass", "cutlass3/cp-async-f16", "cp_async_f16", (68, 72, 100), "tn", F16, F16, file=MORE)
@case("cutlass", "cutlass3/pingpong-e4m3", "e4m3", (128, 144, 272), "tn", fp8e4, F16, file=MORE)
@case("cutlass", "cutlass3/stream-k", "stream_k", (200, 128, 320), "tn", F16, F32, file=MORE)
def plain(device, random, *arguments):
    return gemm(device, random, *arguments, slices=1)


@case("cutlass", "cutlass3/s8", file=MORE)
def s8(device, random):
    # Sums of C and the product without scaling: all is exact.
    return gemm(device, random, "s8", (72, 128, 144), "tn", np.int8, np.int32, alpha=1.0, beta=1.0)


@case("cutlass", "cutlass3/tf32", file=MORE)
def tf32(device, random):
    # The operands have 11 digits already.
    return gemm(device, random, "tf32", (64, 96, 100), "tn", F32, F32, lost=2.0**-10)


@case("cutlass", "cutlass3/batched-f16", file=TMA)
def batched(device, random):
    return gemm(device, random, "ws_f16", (72, 64, 64), "tn", F16, F16, batch=3)


@case("cutlass", "cutlass3/fused-relu", "relu", relu, (64, 136, 80), file=FUSED)
@case("cutlass", "cutlass3/fused-silu", "silu", silu, (72, 64, 144), file=FUSED)
def fused(device, random, name, activation, shape):
    return gemm(device, random, name, shape, "tn", F16, F16, activation=activation)


@case("cutlass", "cutlass3/fused-bias", file=FUSED)
def bias(device, random):
    return gemm(device, random, "bias", (128, 72, 64), "tn", F16, F16, bias=True)
