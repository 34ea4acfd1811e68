"""Triton: what is done element by element, conversions, random numbers, and moves between places."""

import math

import numpy as np
import triton
import triton.language as tl
from triton.language.extra import libdevice

from corpus import case, epsilon, rounding, ulps
from device import bfloat16, fp8e4, fp8e5
from triton_run import launch


@triton.jit
def add_kernel(x, y, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    tl.store(out + at, tl.load(x + at, mask=inside) + tl.load(y + at, mask=inside), mask=inside)


@case("triton", "triton/add/f16", 80, np.float16, 4096, 1024)
@case("triton", "triton/add/bf16", 90, bfloat16, 3001, 512)
@case("triton", "triton/add/f64", 80, np.float64, 777, 256)
@case("triton", "triton/add/i8", 90, np.int8, 2050, 1024)
def add(device, random, arch, dtype, n, block):
    draw = (lambda: random.integers(-60, 60, n)) if dtype is np.int8 else (lambda: random.standard_normal(n))
    x, y = draw().astype(dtype), draw().astype(dtype)
    out = device.zeros(n, dtype)
    launch(device, arch, add_kernel, triton.cdiv(n, block), {"x": device.upload(x), "y": device.upload(y), "out": out, "n": n}, {"BLOCK": block})
    if dtype is np.int8:
        return [(out.read(), x + y, 0)]
    expected = x.astype(np.float64) + y.astype(np.float64)
    return [(out.wide(), expected, rounding(expected, dtype))]


@triton.jit
def unary_kernel(x, out, n, KIND: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    v = tl.load(x + at, mask=inside, other=1.0).to(tl.float32)
    if KIND == "gelu":
        v = 0.5 * v * (1 + tl.erf(v * 0.7071067811865476))
    elif KIND == "silu":
        v = v * tl.sigmoid(v)
    elif KIND == "sincos":
        v = tl.sin(v) + tl.cos(v)
    elif KIND == "logs":
        v = tl.log(tl.abs(v) + 1) + tl.log2(tl.abs(v) + 1) + tl.exp2(v)
    elif KIND == "roots":
        v = tl.sqrt_rn(tl.abs(v)) + tl.rsqrt(tl.abs(v) + 1) + tl.div_rn(v, 3.0)
    elif KIND == "rounds":
        v = tl.floor(v) + 2 * tl.ceil(v) + 4 * libdevice.rint(v)
    elif KIND == "device":
        v = libdevice.tanh(v) + libdevice.pow(tl.abs(v) + 1, 1.5) + libdevice.atan2(v, 2.0)
    tl.store(out + at, v.to(out.dtype.element_ty), mask=inside)


def erf(x):
    return np.vectorize(math.erf)(x)


# What NumPy computes, and how large the terms are of which each may be off by some units in the last place.
UNARY = {
    "gelu": (lambda v: 0.5 * v * (1 + erf(v / np.sqrt(2))), lambda v: np.abs(v) + 1),
    "silu": (lambda v: v / (1 + np.exp(-v)), lambda v: np.abs(v) * (1 + np.abs(v))),
    "sincos": (lambda v: np.sin(v) + np.cos(v), lambda v: 2 + np.abs(v)),
    "logs": (lambda v: np.log(np.abs(v) + 1) + np.log2(np.abs(v) + 1) + np.exp2(v), lambda v: 3 + np.abs(v) * 2 + 2 * np.exp2(v)),
    "roots": (lambda v: np.sqrt(np.abs(v)) + 1 / np.sqrt(np.abs(v) + 1) + v / 3, lambda v: 2 + np.abs(v)),
    "rounds": (lambda v: np.floor(v) + 2 * np.ceil(v) + 4 * np.rint(v), lambda v: 0 * v),
    "device": (lambda v: np.tanh(v) + (np.abs(v) + 1) ** 1.5 + np.arctan2(v, 2.0), lambda v: 3 + (np.abs(v) + 1) ** 1.5),
}


@case("triton", "triton/gelu/f32", 80, "gelu", np.float32, 1500)
@case("triton", "triton/silu/bf16", 90, "silu", bfloat16, 2048)
@case("triton", "triton/sincos/f32", 90, "sincos", np.float32, 900)
@case("triton", "triton/logs/f16", 80, "logs", np.float16, 1300)
@case("triton", "triton/roots/f32", 80, "roots", np.float32, 1111)
@case("triton", "triton/rounds/f32", 90, "rounds", np.float32, 640)
@case("triton", "triton/libdevice/f32", 80, "device", np.float32, 513)
def unary(device, random, arch, kind, dtype, n):
    x = (random.standard_normal(n) * 3).astype(dtype)
    out = device.zeros(n, dtype)
    launch(device, arch, unary_kernel, triton.cdiv(n, 512), {"x": device.upload(x), "out": out, "n": n}, {"KIND": kind, "BLOCK": 512})
    wide = x.astype(np.float64)
    function, size = UNARY[kind]
    expected = function(wide)
    bound = 8 * epsilon(np.float32) * size(wide)
    return [(out.wide(), expected, bound + rounding(np.abs(expected) + bound, dtype))]


@triton.jit
def cast_kernel(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at < n).to(out.dtype.element_ty), mask=at < n)


@case("triton", "triton/cast/f32-e4m3", 90, np.float32, fp8e4, 1024)
@case("triton", "triton/cast/f16-e5m2", 90, np.float16, fp8e5, 900)
@case("triton", "triton/cast/e4m3-f16", 90, fp8e4, np.float16, 1200)
@case("triton", "triton/cast/e5m2-f32", 80, fp8e5, np.float32, 1100)
@case("triton", "triton/cast/e5m2-bf16", 80, fp8e5, bfloat16, 512)
@case("triton", "triton/cast/f32-bf16", 80, np.float32, bfloat16, 2000)
@case("triton", "triton/cast/bf16-f32", 90, bfloat16, np.float32, 700)
@case("triton", "triton/cast/f64-f16", 80, np.float64, np.float16, 300)
def cast(device, random, arch, source, target, n):
    x = (random.standard_normal(n) * 4).astype(source)
    out = device.zeros(n, target)
    launch(device, arch, cast_kernel, triton.cdiv(n, 256), {"x": device.upload(x), "out": out, "n": n}, {"BLOCK": 256})
    # Both round to the nearest, ties to even.
    expected = x.astype(np.float32).astype(target) if source is not np.float64 else x.astype(target)
    return [(out.read().view(f"u{np.dtype(target).itemsize}"), expected.view(f"u{np.dtype(target).itemsize}"), 0)]


@triton.jit
def integers_kernel(x, y, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(x + at, mask=at < n, other=1)
    b = tl.load(y + at, mask=at < n, other=1)
    tl.store(out + at, a // b, mask=at < n)
    tl.store(out + n + at, a % b, mask=at < n)
    tl.store(out + 2 * n + at, (a ^ b) + (a & ~b) - (a << 3) + (b >> 5), mask=at < n)
    tl.store(out + 3 * n + at, tl.minimum(a, b) * tl.maximum(a, b), mask=at < n)


@case("triton", "triton/integers/i32", 80, np.int32, 1000)
@case("triton", "triton/integers/i64", 90, np.int64, 700)
@case("triton", "triton/integers/u32", 90, np.uint32, 600)
def integers(device, random, arch, dtype, n):
    info = np.iinfo(dtype)
    x = random.integers(max(info.min, -(2**62)), min(info.max, 2**62), n).astype(dtype)
    y = (x >> random.integers(0, 20, n).astype(dtype)).astype(dtype) | dtype(1)
    out = device.zeros(4 * n, dtype)
    launch(device, arch, integers_kernel, triton.cdiv(n, 256), {"x": device.upload(x), "y": device.upload(y), "out": out, "n": n}, {"BLOCK": 256})
    with np.errstate(over="ignore"):
        # Division cuts towards zero, as in C.
        signs = np.sign(x) * np.sign(y) if info.min < 0 else 1
        quotient = (np.abs(x) // np.abs(y) * signs).astype(dtype) if info.min < 0 else x // y
        bits = (x ^ y) + (x & ~y) - (x << dtype(3)) + (y >> dtype(5))
        expected = [quotient, x - quotient * y, bits, np.minimum(x, y) * np.maximum(x, y)]
    return [(out.read(), np.concatenate(expected), 0)]


@triton.jit
def select_kernel(x, y, out, n, low, high, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(x + at, mask=at < n)
    b = tl.load(y + at, mask=at < n)
    best = tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
    tl.store(out + at, tl.where(a > 0, tl.clamp(b, low, high), best), mask=at < n)


@case("triton", "triton/select-nan", 90, 900)
@case("triton", "triton/select-nan/sm80", 80, 1025)
def select(device, random, arch, n):
    x, y = random.standard_normal((2, n)).astype(np.float32)
    x[::7] = np.nan
    y[1::7] = np.nan
    y[3] = np.inf
    out = device.zeros(n)
    arguments = {"x": device.upload(x), "y": device.upload(y), "out": out, "n": n, "low": -0.5, "high": 0.75}
    launch(device, arch, select_kernel, triton.cdiv(n, 256), arguments, {"BLOCK": 256})
    chosen = np.fmin(np.fmax(y, np.float32(-0.5)), np.float32(0.75))
    expected = np.where(x > 0, chosen, np.maximum(x, y))
    # A clamped NaN is either bound: Triton leaves it open.
    keep = ~((x > 0) & np.isnan(y))
    return [(out.read()[keep].astype(np.float64), expected[keep].astype(np.float64), 0.0)]


@triton.jit
def random_kernel(seed, integers, uniform, normal, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(integers + at, tl.randint(seed, at), mask=at < n)
    tl.store(uniform + at, tl.rand(seed, at), mask=at < n)
    tl.store(normal + at, tl.randn(seed, at), mask=at < n)


def philox(seed, counter, rounds=10):
    """Philox 4x32 of Salmon et al. (2011): four words for each counter."""
    mask = np.uint64(0xFFFFFFFF)
    c = [counter.astype(np.uint64), *[np.zeros(len(counter), np.uint64) for _ in range(3)]]
    key = [np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)]
    for _ in range(rounds):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(b >> np.uint64(32)) ^ c[1] ^ key[0], b & mask, (a >> np.uint64(32)) ^ c[3] ^ key[1], a & mask]
        key = [(key[0] + np.uint64(0x9E3779B9)) & mask, (key[1] + np.uint64(0xBB67AE85)) & mask]
    return [word.astype(np.uint32) for word in c]


def uniform_of(words):
    """In [0, 1), as Triton makes it of 32 bits."""
    signed = words.view(np.int32).astype(np.int64)
    return np.where(signed < 0, -signed - 1, signed) * 4.6566127342e-10


@case("triton", "triton/random", 80, 1000, 1234)
@case("triton", "triton/random/sm90", 90, 640, 99)
def random_numbers(device, _, arch, n, seed):
    integers, uniform, normal = device.zeros(n, np.int32), device.zeros(n), device.zeros(n)
    arguments = {"seed": seed, "integers": integers, "uniform": uniform, "normal": normal, "n": n}
    launch(device, arch, random_kernel, triton.cdiv(n, 256), arguments, {"BLOCK": 256})
    words = philox(seed, np.arange(n))
    u, v = uniform_of(words[0]), uniform_of(words[1])
    radius = np.sqrt(-2 * np.log(np.maximum(1e-7, u)))
    expected = radius * np.cos(2 * np.pi * v)
    # The angle is off by a few units in the last place of 2 pi, the logarithm by as much of itself.
    bound = 16 * 2.0**-23 * (1 + 7 * radius) + 1e-6 / np.maximum(radius, 1e-3)
    return [(integers.read(), words[0].view(np.int32), 0), (uniform.wide(), u, 2.0**-23), (normal.wide(), expected, bound)]


@triton.jit
def dropout_kernel(x, out, n, p, seed, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + at, mask=at < n)
    tl.store(out + at, tl.where(tl.rand(seed, at) > p, values / (1 - p), 0.0), mask=at < n)


@case("triton", "triton/dropout", 80, 2000)
def dropout(device, random, arch, n):
    x = random.standard_normal(n).astype(np.float32)
    out = device.zeros(n)
    launch(device, arch, dropout_kernel, triton.cdiv(n, 1024), {"x": device.upload(x), "out": out, "n": n, "p": 0.25, "seed": 77}, {"BLOCK": 1024})
    kept = uniform_of(philox(77, np.arange(n))[0])
    clear = np.abs(kept - 0.25) > 1e-6
    expected = np.where(kept > 0.25, x.astype(np.float64) / 0.75, 0)
    return [(out.wide()[clear], expected[clear], ulps(expected[clear], 4))]


@triton.jit
def transpose_kernel(x, out, M, N, BM: tl.constexpr, BN: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    inside = (rows[:, None] < M) & (columns[None, :] < N)
    tile = tl.trans(tl.load(x + rows[:, None] * N + columns[None, :], mask=inside))
    tl.store(out + columns[:, None] * M + rows[None, :], tile, mask=(rows[None, :] < M) & (columns[:, None] < N))


@case("triton", "triton/transpose/u8", 80, np.uint8, 100, 70, 64, 32)
@case("triton", "triton/transpose/f16", 80, np.float16, 128, 192, 64, 64)
@case("triton", "triton/transpose/f32", 90, np.float32, 65, 90, 32, 64)
def transpose(device, random, arch, dtype, m, n, bm, bn):
    x = (random.standard_normal((m, n)) * 10 + 100).astype(dtype)
    out = device.zeros((n, m), dtype)
    grid = (triton.cdiv(m, bm), triton.cdiv(n, bn))
    launch(device, arch, transpose_kernel, grid, {"x": device.upload(x), "out": out, "M": m, "N": n}, {"BM": bm, "BN": bn})
    return [(out.wide(), x.T.astype(np.float64), 0.0)]


@triton.jit
def shuffle_kernel(x, y, out, N: tl.constexpr):
    at = tl.arange(0, N)
    a, b = tl.load(x + at), tl.load(y + at)
    both = tl.interleave(a, b)
    first, second = tl.split(tl.reshape(both, (N, 2)))
    order = tl.reshape(tl.permute(tl.reshape(both, (2, N // 4, 4)), (2, 0, 1)), (2 * N,))
    wide = tl.arange(0, 2 * N)
    tl.store(out + wide, both)
    tl.store(out + 2 * N + wide, order)
    tl.store(out + 4 * N + at, first - second)
    tl.store(out + 5 * N + wide, tl.flip(both))


@case("triton", "triton/join-split-permute", 80, np.float32, 256)
@case("triton", "triton/join-split-permute/sm90", 90, np.int16, 512)
def shuffle(device, random, arch, dtype, n):
    x, y = (random.standard_normal((2, n)) * 50).astype(dtype)
    out = device.zeros(7 * n, dtype)
    launch(device, arch, shuffle_kernel, 1, {"x": device.upload(x), "y": device.upload(y), "out": out}, {"N": n})
    both = np.stack([x, y], 1).reshape(-1)
    order = both.reshape(2, n // 4, 4).transpose(2, 0, 1).reshape(-1)
    return [(out.read(), np.concatenate([both, order, x - y, both[::-1]]), 0)]


@triton.jit
def gather_kernel(x, index, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, AXIS: tl.constexpr):
    table = tl.load(x + tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :])
    rows, columns = tl.arange(0, K)[:, None], tl.arange(0, N)[None, :]
    tl.store(out + rows * N + columns, tl.gather(table, tl.load(index + rows * N + columns), AXIS))


@case("triton", "triton/gather", 80, 64, 32, 128)
@case("triton", "triton/gather/sm90", 90, 32, 64, 16)
def gather(device, random, arch, m, n, k):
    x = random.standard_normal((m, n)).astype(np.float32)
    index = random.integers(0, m, (k, n)).astype(np.int32)
    out = device.zeros((k, n))
    launch(device, arch, gather_kernel, 1, {"x": device.upload(x), "index": device.upload(index), "out": out}, {"M": m, "N": n, "K": k, "AXIS": 0})
    return [(out.wide(), np.take_along_axis(x, index, 0).astype(np.float64), 0.0)]
