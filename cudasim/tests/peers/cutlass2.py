"""CUTLASS 2: GEMMs of Ampere with their own host code, from headers of the package nvidia-cutlass."""

import ctypes
import math

import numpy as np

from corpus import case, epsilon, product, rounding
from device import bfloat16


class Problem(ctypes.Structure):
    """`Problem` of cutlass2.h."""

    _fields_ = [
        *[(name, ctypes.c_int) for name in ("m", "n", "k", "slices")],
        *[(name, ctypes.c_float) for name in ("alpha", "beta")],
        *[(name, ctypes.c_void_p) for name in ("a", "b", "c", "d")],
    ]


def relu(x):
    return np.maximum(x, 0)


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))


def same(x):
    return x


def stored(array, column):
    """As it lies in memory: each matrix by rows, or by columns."""
    return np.ascontiguousarray(np.swapaxes(array, -1, -2)) if column else array


def gemm(device, random, name, shape, layout, dtype, out, sums=np.float32, activation=same, slices=1, batch=0, alpha=0.75, beta=0.5, lost=0.0, bias=False):
    """`layout` says how A and B lie, as BLAS does: n by columns, t by rows."""
    m, n, k = shape
    lead = (batch,) if batch else ()
    draw = lambda *size: (random.integers(-20, 20, lead + size) if np.dtype(dtype).kind == "i" else random.standard_normal(lead + size)).astype(dtype)
    a, b = draw(m, k), draw(k, n)
    c = (random.integers(-50, 50, (*lead, m, n)) if np.dtype(out).kind == "i" else random.standard_normal((*lead, m, n))).astype(out)
    if bias:
        # One number for each row, in the place of C.
        c, beta = c[:, :1], 1.0
    left, right, add, d = device.upload(stored(a, layout[0] == "n")), device.upload(stored(b, layout[1] == "n")), device.upload(c), device.allocate(lead + (m, n), out)
    problem = Problem(m, n, k, batch or slices, alpha, beta, left.address.value, right.address.value, add.address.value, d.address.value)
    code = getattr(device.program, name)(ctypes.byref(problem))
    if code != 0:
        raise RuntimeError(f"{name} returned {code}")
    if np.dtype(dtype).kind == "i":
        exact = alpha * (a.astype(np.int64) @ b.astype(np.int64)) + beta * c
        return [(d.read(), np.clip(np.rint(exact), *((np.iinfo(out).min, np.iinfo(out).max))).astype(out), 0)]
    value, bound = product(a, b, sums, sums, lost)
    expected = alpha * value + beta * c.astype(np.float64)
    bound = alpha * bound + 4 * epsilon(sums) * (np.abs(expected) + np.abs(beta * c.astype(np.float64)))
    # Neither activation is steeper than 1.13.
    expected, bound = activation(expected), 1.2 * bound + (8 * epsilon(np.float32) * (1 + np.abs(expected)) if activation not in (same, relu) else 0)
    return [(d.wide(), expected, bound + rounding(np.abs(expected) + bound, out))]


F16, F32 = np.float16, np.float32


@case("cutlass", "cutlass2/f16/tn", "tn_f16", (200, 136, 96), "tn", F16, F16, file="cutlass2_f16.cu")
@case("cutlass", "cutlass2/f16/nn-f32", "nn_f32", (64, 256, 72), "nn", F16, F32, file="cutlass2_f16.cu")
@case("cutlass", "cutlass2/f16/half-sums", "tn_half_sums", (64, 72, 80), "tn", F16, F16, F16, file="cutlass2_f16.cu")
def plain(device, random, *arguments):
    return gemm(device, random, *arguments)


@case("cutlass", "cutlass2/f16/nt-relu", file="cutlass2_f16.cu")
def nt_relu(device, random):
    return gemm(device, random, "nt_relu", (120, 88, 136), "nt", F16, F16, activation=relu)


@case("cutlass", "cutlass2/f16/tt-gelu", file="cutlass2_f16.cu")
def tt_gelu(device, random):
    return gemm(device, random, "tt_gelu", (130, 64, 160), "tt", F16, F16, activation=gelu)


@case("cutlass", "cutlass2/f16/split-k-serial", file="cutlass2_f16.cu")
def split_k_serial(device, random):
    return gemm(device, random, "split_k_serial", (96, 64, 512), "tn", F16, F32, slices=4)


@case("cutlass", "cutlass2/f16/batched", file="cutlass2_f16.cu")
def batched(device, random):
    return gemm(device, random, "batched", (72, 64, 40), "tt", F16, F16, batch=3)


@case("cutlass", "cutlass2/bf16", "bf16", (136, 72, 120), "tn", bfloat16, bfloat16, file="cutlass2_types.cu")
@case("cutlass", "cutlass2/f64", "f64", (40, 50, 37), "tn", np.float64, np.float64, np.float64, file="cutlass2_types.cu")
@case("cutlass", "cutlass2/simt-f32", "simt", (70, 67, 53), "nt", F32, F32, file="cutlass2_types.cu")
def other_types(device, random, *arguments):
    return gemm(device, random, *arguments)


@case("cutlass", "cutlass2/tf32", file="cutlass2_types.cu")
def tf32(device, random):
    return gemm(device, random, "tf32", (72, 64, 100), "tt", F32, F32, lost=2.0**-10)


@case("cutlass", "cutlass2/s8-saturate", file="cutlass2_types.cu")
def s8(device, random):
    return gemm(device, random, "s8", (100, 64, 160), "tn", np.int8, np.int32, alpha=1.0, beta=2.0)


@case("cutlass", "cutlass2/split-k-parallel", file="cutlass2_types.cu")
def split_k_parallel(device, random):
    return gemm(device, random, "split_k_parallel", (64, 80, 384), "tn", F16, F32, slices=3)


class Shape(ctypes.Structure):
    """`Shape` of cutlass2_conv.cu."""

    _fields_ = [(name, ctypes.c_int) for name in ("n", "h", "w", "c", "k", "r", "s", "pad", "stride")]


@case("cutlass", "cutlass2/conv2d-optimised", "forward_optimised", (2, 9, 8, 16, 24, 3, 3, 1, 1), file="cutlass2_conv.cu")
@case("cutlass", "cutlass2/conv2d-analytic-strided", "forward_analytic", (1, 12, 11, 24, 40, 3, 2, 1, 2), file="cutlass2_conv.cu")
@case("cutlass", "cutlass2/conv2d-dgrad", "backward", (1, 8, 9, 16, 32, 3, 3, 1, 1), file="cutlass2_conv.cu")
def conv2d(device, random, name, numbers):
    shape = Shape(*numbers)
    n, h, w, c, k, r, s, pad, stride = numbers
    p, q = (h + 2 * pad - r) // stride + 1, (w + 2 * pad - s) // stride + 1
    forward = name != "backward"
    a = random.standard_normal((n, h, w, c) if forward else (n, p, q, k)).astype(F16)
    weights = random.standard_normal((k, r, s, c)).astype(F16)
    out = device.allocate((n, p, q, k) if forward else (n, h, w, c), F32)
    code = getattr(device.program, name)(ctypes.byref(shape), *[ctypes.c_void_p(buffer.address.value) for buffer in (device.upload(a), device.upload(weights), out)])
    if code != 0:
        raise RuntimeError(f"{name} returned {code}")
    return [(out.wide(), *(convolution(a, weights, p, q, pad, stride) if forward else gradient(a, weights, h, w, pad)))]


def convolution(x, weights, p, q, pad, stride):
    """In f64, with the bound of an f32 sum."""
    k, r, s, c = weights.shape
    padded = np.pad(x.astype(np.float64), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    taps = [padded[:, i : i + stride * (p - 1) + 1 : stride, j : j + stride * (q - 1) + 1 : stride] for i in range(r) for j in range(s)]
    return product(np.stack(taps, 3).reshape(*taps[0].shape[:3], r * s * c), weights.reshape(k, -1).T)


def gradient(grad, weights, h, w, pad):
    """Of a convolution of stride 1 to its input: one with the filter turned around."""
    turned = np.ascontiguousarray(weights[:, ::-1, ::-1].transpose(3, 1, 2, 0))
    return convolution(grad, turned, h, w, weights.shape[1] - 1 - pad, 1)
