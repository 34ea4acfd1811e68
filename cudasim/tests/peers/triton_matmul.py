"""Triton: products of matrices in many types, tiles and schedules: `mma.sync` on sm_80, `wgmma` and TMA on sm_90a."""

import numpy as np
import triton
import triton.language as tl

from corpus import case, epsilon, product, rounding
from device import bfloat16, fp8e4, fp8e5
from triton_run import Descriptor, launch


@triton.jit
def matmul_kernel(
    a, b, out, M, N, K, am, ak, bk, bn, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SUM: tl.constexpr,
    PRECISION: tl.constexpr, RELU: tl.constexpr
):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    total = tl.zeros((BM, BN), dtype=SUM)
    for k in range(0, K, BK):
        left = tl.load(a + rows[:, None] * am + (k + inner)[None, :] * ak, mask=(rows[:, None] < M) & ((k + inner)[None, :] < K), other=0.0)
        right = tl.load(b + (k + inner)[:, None] * bk + columns[None, :] * bn, mask=((k + inner)[:, None] < K) & (columns[None, :] < N), other=0.0)
        total = tl.dot(left, right, total, input_precision=PRECISION, out_dtype=SUM)
    if RELU:
        total = tl.where(total > 0, total, total * 0.125)
    tl.store(out + rows[:, None] * N + columns[None, :], total.to(out.dtype.element_ty), mask=(rows[:, None] < M) & (columns[None, :] < N))


def matrices(random, dtype, *shapes):
    if np.dtype(dtype).kind == "i":
        return [random.integers(-100, 100, shape).astype(dtype) for shape in shapes]
    return [random.standard_normal(shape).astype(np.float32).astype(dtype) for shape in shapes]


# What inputs lose before they are multiplied: tf32 has 11 digits; three products of tf32 lose only the smallest part.
LOST = {"tf32": 2.0**-10, "tf32x3": 2.0**-20, "ieee": 0.0}


def compare(out, a, b, precision="ieee", sums=np.float32, relu=False):
    if np.dtype(a.dtype).kind == "i":
        return [(out.read(), a.astype(np.int32) @ b.astype(np.int32), 0)]
    expected, bound = product(a, b, out.dtype, sums, LOST[precision])
    if relu:
        expected = np.where(expected > 0, expected, expected / 8)
    return [(out.wide(), expected, bound)]


F16, F32, F64, I8 = np.float16, np.float32, np.float64, np.int8


@case("triton", "triton/matmul/f16-32x32x32", 80, F16, F32, (70, 40, 96), (32, 32, 32), 2, 2)
@case("triton", "triton/matmul/f16-64x64x32", 80, F16, F16, (64, 128, 100), (64, 64, 32), 4, 3)
@case("triton", "triton/matmul/bf16-128x64x64", 80, bfloat16, F32, (130, 64, 128), (128, 64, 64), 4, 3)
@case("triton", "triton/matmul/bf16-64x128x32-8w", 80, bfloat16, bfloat16, (64, 200, 64), (64, 128, 32), 8, 4)
@case("triton", "triton/matmul/i8-64x64x64", 80, I8, np.int32, (100, 64, 192), (64, 64, 64), 4, 3)
@case("triton", "triton/matmul/f64-32x32x16", 80, F64, F64, (33, 40, 50), (32, 32, 16), 4, 2)
@case("triton", "triton/matmul/f16-sm90-64x64x64", 90, F16, F32, (64, 100, 128), (64, 64, 64), 4, 3)
@case("triton", "triton/matmul/f16-sm90-128x128x64-8w", 90, F16, F16, (128, 128, 192), (128, 128, 64), 8, 3)
@case("triton", "triton/matmul/bf16-sm90-64x256x32", 90, bfloat16, F32, (64, 256, 96), (64, 256, 32), 4, 4)
@case("triton", "triton/matmul/bf16-sm90-32x64x32", 90, bfloat16, F32, (60, 64, 64), (32, 64, 32), 4, 2)
@case("triton", "triton/matmul/e4m3-sm90-64x64x64", 90, fp8e4, F32, (64, 64, 128), (64, 64, 64), 4, 3)
@case("triton", "triton/matmul/e5m2-sm90-128x64x64", 90, fp8e5, F16, (128, 70, 96), (128, 64, 64), 4, 2)
@case("triton", "triton/matmul/e5m2-sm80-32x64x32", 80, fp8e5, F32, (32, 64, 64), (32, 64, 32), 4, 2)
@case("triton", "triton/matmul/i8-sm90-64x64x64", 90, I8, np.int32, (64, 128, 96), (64, 64, 64), 4, 3)
@case("triton", "triton/matmul/f64-sm90-32x64x16", 90, F64, F64, (32, 64, 48), (32, 64, 16), 4, 2)
def matmul(device, random, arch, dtype, out_dtype, shape, tile, warps, stages, precision="ieee", layout="rr", relu=False):
    m, n, k = shape
    a, b = matrices(random, dtype, (m, k), (k, n))
    sums = {"i": tl.int32, "f": tl.float32}["i" if dtype is I8 else "f"] if dtype is not F64 else tl.float64
    stored = [np.ascontiguousarray(x.T) if how == "c" else x for x, how in zip((a, b), layout)]
    out = device.zeros((m, n), out_dtype)
    strides = {"am": 1 if layout[0] == "c" else k, "ak": m if layout[0] == "c" else 1, "bk": 1 if layout[1] == "c" else n, "bn": k if layout[1] == "c" else 1}
    # As Triton's own launcher does: a stride of one is a constant of the kernel.
    ones = {name: 1 for name, stride in strides.items() if stride == 1}
    arguments = {"a": device.upload(stored[0]), "b": device.upload(stored[1]), "out": out, "M": m, "N": n, "K": k}
    arguments.update({name: stride for name, stride in strides.items() if stride != 1})
    constants = {"BM": tile[0], "BN": tile[1], "BK": tile[2], "SUM": sums, "PRECISION": precision, "RELU": relu, **ones}
    launch(device, arch, matmul_kernel, (triton.cdiv(m, tile[0]), triton.cdiv(n, tile[1])), arguments, constants, warps, stages)
    return compare(out, a, b, precision, F64 if dtype is F64 else F32, relu)


@case("triton", "triton/matmul/tf32", 80, (64, 70, 96), (64, 64, 32), "tf32")
@case("triton", "triton/matmul/tf32x3", 80, (32, 64, 64), (32, 32, 32), "tf32x3")
@case("triton", "triton/matmul/f32-ieee", 80, (48, 32, 70), (32, 32, 16), "ieee")
@case("triton", "triton/matmul/tf32-sm90", 90, (64, 64, 100), (64, 64, 32), "tf32")
@case("triton", "triton/matmul/tf32x3-sm90", 90, (64, 32, 64), (64, 32, 32), "tf32x3")
def matmul_f32(device, random, arch, shape, tile, precision):
    return matmul(device, random, arch, F32, F32, shape, tile, 4, 3, precision)


@case("triton", "triton/matmul/f16-tn", 80, F16, (64, 64, 64), "cr")
@case("triton", "triton/matmul/f16-nt", 80, F16, (128, 64, 96), "rc")
@case("triton", "triton/matmul/bf16-sm90-tt", 90, bfloat16, (64, 128, 64), "cc")
@case("triton", "triton/matmul/f16-sm90-tn", 90, F16, (128, 64, 96), "cr")
@case("triton", "triton/matmul/e4m3-sm90-nt", 90, fp8e4, (64, 64, 96), "rc")
def matmul_layout(device, random, arch, dtype, shape, layout):
    return matmul(device, random, arch, dtype, F32, shape, (64, 64, 32), 4, 3, layout=layout)


@case("triton", "triton/matmul/leaky-relu", 80, F16, (96, 64, 64))
@case("triton", "triton/matmul/leaky-relu-sm90", 90, bfloat16, (64, 96, 128))
def matmul_relu(device, random, arch, dtype, shape):
    return matmul(device, random, arch, dtype, dtype, shape, (64, 32, 32), 4, 3, relu=True)


@triton.jit
def split_k_kernel(a, b, out, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SPLIT: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(tl.program_id(2) * BK, K, BK * SPLIT):
        inner = k + tl.arange(0, BK)
        left = tl.load(a + rows[:, None] * K + inner[None, :], mask=rows[:, None] < M, other=0.0)
        right = tl.load(b + inner[:, None] * N + columns[None, :], mask=columns[None, :] < N, other=0.0)
        total = tl.dot(left, right, total)
    tl.atomic_add(out + rows[:, None] * N + columns[None, :], total, mask=(rows[:, None] < M) & (columns[None, :] < N), sem="relaxed")


@case("triton", "triton/matmul/split-k", 80, F16, (40, 64, 256), 4)
@case("triton", "triton/matmul/split-k-sm90", 90, bfloat16, (64, 32, 192), 3)
def split_k(device, random, arch, dtype, shape, slices):
    m, n, k = shape
    a, b = matrices(random, dtype, (m, k), (k, n))
    out = device.zeros((m, n))
    arguments = {"a": device.upload(a), "b": device.upload(b), "out": out, "M": m, "N": n, "K": k}
    launch(device, arch, split_k_kernel, (triton.cdiv(m, 32), triton.cdiv(n, 32), slices), arguments, {"BM": 32, "BN": 32, "BK": 32, "SPLIT": slices})
    return compare(out, a, b)


@triton.jit
def persistent_kernel(a, b, out, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):
    down, across = tl.cdiv(M, BM), tl.cdiv(N, BN)
    for tile in tl.range(tl.program_id(0), down * across, tl.num_programs(0), flatten=True):
        group = tile // (GROUP * across)
        first = group * GROUP
        size = min(down - first, GROUP)
        rows = (first + tile % size) * BM + tl.arange(0, BM)
        columns = tile % (GROUP * across) // size * BN + tl.arange(0, BN)
        total = tl.zeros((BM, BN), dtype=tl.float32)
        for k in range(0, K, BK):
            inner = k + tl.arange(0, BK)
            left = tl.load(a + rows[:, None] * K + inner[None, :], mask=(rows[:, None] < M) & (inner[None, :] < K), other=0.0)
            right = tl.load(b + inner[:, None] * N + columns[None, :], mask=(inner[:, None] < K) & (columns[None, :] < N), other=0.0)
            total = tl.dot(left, right, total)
        tl.store(out + rows[:, None] * N + columns[None, :], total.to(out.dtype.element_ty), mask=(rows[:, None] < M) & (columns[None, :] < N))


@case("triton", "triton/matmul/persistent", 80, F16, (150, 96, 64), 3)
@case("triton", "triton/matmul/persistent-sm90", 90, F16, (128, 130, 96), 2)
def persistent(device, random, arch, dtype, shape, programs):
    m, n, k = shape
    a, b = matrices(random, dtype, (m, k), (k, n))
    out = device.zeros((m, n), dtype)
    arguments = {"a": device.upload(a), "b": device.upload(b), "out": out, "M": m, "N": n, "K": k}
    launch(device, arch, persistent_kernel, programs, arguments, {"BM": 64, "BN": 32, "BK": 32, "GROUP": 2})
    return compare(out, a, b)


@triton.jit
def batched_kernel(a, b, out, B: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    z, i, j, k = tl.arange(0, B), tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    left = tl.load(a + z[:, None, None] * M * K + i[None, :, None] * K + k[None, None, :])
    right = tl.load(b + z[:, None, None] * K * N + k[None, :, None] * N + j[None, None, :])
    tl.store(out + z[:, None, None] * M * N + i[None, :, None] * N + j[None, None, :], tl.dot(left, right))


@case("triton", "triton/matmul/batched", 80, F16, (4, 32, 32, 64))
@case("triton", "triton/matmul/batched-sm90", 90, bfloat16, (2, 32, 64, 32))
def batched(device, random, arch, dtype, shape):
    z, m, n, k = shape
    a, b = matrices(random, dtype, (z, m, k), (z, k, n))
    out = device.zeros((z, m, n))
    launch(device, arch, batched_kernel, 1, {"a": device.upload(a), "b": device.upload(b), "out": out}, {"B": z, "M": m, "N": n, "K": k})
    return compare(out, a, b)


@triton.jit
def descriptor_kernel(a, b, out, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    left = tl.make_tensor_descriptor(a, [M, K], [K, 1], [BM, BK])
    right = tl.make_tensor_descriptor(b, [N, K], [K, 1], [BN, BK])
    to = tl.make_tensor_descriptor(out, [M, N], [N, 1], [BM, BN])
    row, column = tl.program_id(0) * BM, tl.program_id(1) * BN
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, K, BK):
        total = tl.dot(left.load([row, k]), right.load([column, k]).T, total)
    to.store([row, column], total.to(out.dtype.element_ty))


@case("triton", "triton/tma/device-f16", 90, F16, F16, (100, 72, 96), (64, 64, 64))
@case("triton", "triton/tma/device-e4m3", 90, fp8e4, F32, (64, 64, 128), (64, 64, 64))
@case("triton", "triton/tma/device-bf16", 90, bfloat16, F32, (130, 64, 80), (128, 32, 32))
def device_descriptors(device, random, arch, dtype, out_dtype, shape, tile):
    m, n, k = shape
    a, b = matrices(random, dtype, (m, k), (n, k))
    out = device.zeros((m, n), out_dtype)
    arguments = {"a": device.upload(a), "b": device.upload(b), "out": out, "M": m, "N": n, "K": k}
    launch(device, arch, descriptor_kernel, (triton.cdiv(m, tile[0]), triton.cdiv(n, tile[1])), arguments, dict(zip(("BM", "BN", "BK"), tile)))
    return compare(out, a, b.T)


@triton.jit
def host_descriptor_kernel(a, b, out, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    row, column = tl.program_id(0) * BM, tl.program_id(1) * BN
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, K, BK):
        total = tl.dot(a.load([row, k]), b.load([k, column]), total)
    out.store([row, column], total.to(out.dtype))


@case("triton", "triton/tma/host-f16", 90, F16, F16, (128, 128, 96), (64, 64, 32), 4, 3)
@case("triton", "triton/tma/host-bf16", 90, bfloat16, F32, (96, 80, 160), (64, 64, 64), 4, 4)
@case("triton", "triton/tma/host-tf32", 90, F32, F32, (64, 72, 64), (64, 32, 32), 4, 2)
@case("triton", "triton/tma/host-f16-8w", 90, F16, F32, (128, 256, 128), (128, 128, 64), 8, 3)
@case("triton", "triton/tma/host-sm80", 80, F16, F16, (64, 64, 64), (32, 64, 32), 4, 2)
def host_descriptors(device, random, arch, dtype, out_dtype, shape, tile, warps, stages):
    m, n, k = shape
    bm, bn, bk = tile
    a, b = matrices(random, dtype, (m, k), (k, n))
    out = device.zeros((m, n), out_dtype)
    arguments = {"a": Descriptor(device.upload(a), (bm, bk)), "b": Descriptor(device.upload(b), (bk, bn)), "out": Descriptor(out, (bm, bn)), "K": k}
    launch(device, arch, host_descriptor_kernel, (triton.cdiv(m, bm), triton.cdiv(n, bn)), arguments, {"BM": bm, "BN": bn, "BK": bk}, warps, stages)
    return compare(out, a, b, "tf32" if dtype is F32 else "ieee")


@triton.jit
def specialised_kernel(a, b, out, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SPECIALISE: tl.constexpr):
    across = tl.cdiv(N, BN)
    for tile in tl.range(tl.program_id(0), tl.cdiv(M, BM) * across, tl.num_programs(0), flatten=True, warp_specialize=SPECIALISE):
        row, column = tile // across * BM, tile % across * BN
        total = tl.zeros((BM, BN), dtype=tl.float32)
        for k in range(0, K, BK):
            total = tl.dot(a.load([row, k]), b.load([k, column]), total)
        out.store([row, column], total.to(out.dtype))


@case("triton", "triton/tma/persistent", 90, (128, 192, 64), False)
@case("triton", "triton/tma/warp-specialised", 90, (192, 128, 96), True)
def specialised(device, random, arch, shape, specialise):
    m, n, k = shape
    a, b = matrices(random, F16, (m, k), (k, n))
    out = device.zeros((m, n), F16)
    arguments = {"a": Descriptor(device.upload(a), (64, 32)), "b": Descriptor(device.upload(b), (32, 64)), "out": Descriptor(out, (64, 64)), "M": m, "N": n, "K": k}
    launch(device, arch, specialised_kernel, 2, arguments, {"BM": 64, "BN": 64, "BK": 32, "SPECIALISE": specialise})
    return compare(out, a, b)


@case("triton", "triton/cluster/f16", 90, F16, (128, 128, 64), 2)
def clusters(device, random, arch, dtype, shape, ctas):
    m, n, k = shape
    a, b = matrices(random, dtype, (m, k), (k, n))
    out = device.zeros((m, n))
    arguments = {"a": device.upload(a), "b": device.upload(b), "out": out, "M": m, "N": n, "K": k, "am": k, "bk": n}
    constants = {"BM": 128, "BN": 64, "BK": 32, "SUM": tl.float32, "PRECISION": "ieee", "RELU": False, "ak": 1, "bn": 1}
    launch(device, arch, matmul_kernel, (m // 128, n // 64), arguments, constants, 4, 2, ctas)
    return compare(out, a, b)


@triton.jit
def scaled_kernel(a, sa, b, sb, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    i, j, k, s = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K), tl.arange(0, K // 32)
    left = tl.load(a + i[:, None] * K + k[None, :])
    right = tl.load(b + k[:, None] * N + j[None, :])
    left_scale = tl.load(sa + i[:, None] * (K // 32) + s[None, :])
    right_scale = tl.load(sb + j[:, None] * (K // 32) + s[None, :])
    total = tl.dot_scaled(left, left_scale, "e4m3", right, right_scale, "e4m3")
    tl.store(out + i[:, None] * N + j[None, :], total)


@case("triton", "triton/dot-scaled/e4m3", 90, (64, 64, 128))
def dot_scaled(device, random, arch, shape):
    m, n, k = shape
    a, b = matrices(random, fp8e4, (m, k), (k, n))
    sa, sb = (random.integers(124, 131, (rows, k // 32)).astype(np.uint8) for rows in (m, n))
    out = device.zeros((m, n))
    arguments = {"a": device.upload(a), "sa": device.upload(sa), "b": device.upload(b), "sb": device.upload(sb), "out": out}
    launch(device, arch, scaled_kernel, 1, arguments, {"M": m, "N": n, "K": k})
    grow = lambda scale: np.repeat(2.0 ** (scale.astype(np.float64) - 127), 32, axis=1)
    expected, bound = product(a.astype(np.float64) * grow(sa), b.astype(np.float64) * grow(sb).T)
    return [(out.wide(), expected, bound)]
