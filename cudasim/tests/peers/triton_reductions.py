"""Triton: reductions, scans, sorting, histograms and atomics."""

import numpy as np
import triton
import triton.language as tl

from corpus import case, epsilon, rounding, sum_bound, ulps
from device import bfloat16
from triton_run import launch

F16, F32 = np.float16, np.float32


@triton.jit
def reduce_kernel(x, out, M: tl.constexpr, N: tl.constexpr, AXIS: tl.constexpr, KIND: tl.constexpr):
    tile = tl.load(x + tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :])
    if KIND == "sum":
        result = tl.sum(tile.to(tl.float32), axis=AXIS)
    elif KIND == "max":
        result = tl.max(tile, axis=AXIS)
    elif KIND == "min":
        result = tl.min(tile, axis=AXIS)
    elif KIND == "xor":
        result = tl.xor_sum(tile, axis=AXIS)
    elif KIND == "argmax":
        result = tl.argmax(tile, axis=AXIS)
    elif KIND == "argmin":
        result = tl.argmin(tile, axis=AXIS)
    tl.store(out + tl.arange(0, M if AXIS == 1 else N), result)


@case("triton", "triton/reduce/sum-rows-f32", 80, "sum", F32, F32, (32, 128), 1, 4)
@case("triton", "triton/reduce/sum-columns-bf16", 90, "sum", bfloat16, F32, (128, 32), 0, 4)
@case("triton", "triton/reduce/sum-columns-f16-8w", 80, "sum", F16, F32, (256, 16), 0, 8)
@case("triton", "triton/reduce/max-f32", 90, "max", F32, F32, (64, 64), 1, 4)
@case("triton", "triton/reduce/min-i32", 80, "min", np.int32, np.int32, (16, 256), 1, 2)
@case("triton", "triton/reduce/max-i64", 90, "max", np.int64, np.int64, (64, 16), 0, 4)
@case("triton", "triton/reduce/xor", 80, "xor", np.int32, np.int32, (64, 32), 1, 4)
@case("triton", "triton/reduce/argmax", 80, "argmax", F32, np.int32, (32, 64), 1, 4)
@case("triton", "triton/reduce/argmin-columns", 90, "argmin", F32, np.int32, (128, 8), 0, 4)
@case("triton", "triton/reduce/argmax-ties", 90, "argmax", np.int32, np.int32, (16, 128), 1, 4)
def reduce(device, random, arch, kind, dtype, out_dtype, shape, axis, warps):
    if np.dtype(dtype).kind == "i":
        x = random.integers(-20, 20, shape).astype(dtype) if kind.startswith("arg") else random.integers(-(2**31), 2**31, shape).astype(dtype)
    else:
        x = random.standard_normal(shape).astype(dtype)
    out = device.zeros(shape[1 - axis], out_dtype)
    launch(device, arch, reduce_kernel, 1, {"x": device.upload(x), "out": out}, {"M": shape[0], "N": shape[1], "AXIS": axis, "KIND": kind}, warps)
    if kind == "sum":
        wide = x.astype(np.float64)
        return [(out.wide(), wide.sum(axis), sum_bound(shape[axis], np.abs(wide).sum(axis)))]
    functions = {"max": np.max, "min": np.min, "xor": np.bitwise_xor.reduce, "argmax": np.argmax, "argmin": np.argmin}
    return [(out.read(), functions[kind](x, axis).astype(out_dtype), 0.0)]


@triton.jit
def softmax_kernel(x, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    most, total = -float("inf"), 0.0
    for first in range(0, columns, BLOCK):
        at = first + tl.arange(0, BLOCK)
        values = tl.load(x + row * columns + at, mask=at < columns, other=-float("inf")).to(tl.float32)
        now = tl.maximum(most, tl.max(values, axis=0))
        total = total * tl.exp(most - now) + tl.sum(tl.exp(values - now), axis=0)
        most = now
    for first in range(0, columns, BLOCK):
        at = first + tl.arange(0, BLOCK)
        values = tl.load(x + row * columns + at, mask=at < columns, other=0.0).to(tl.float32)
        tl.store(out + row * columns + at, (tl.exp(values - most) / total).to(out.dtype.element_ty), mask=at < columns)


@case("triton", "triton/softmax/online-f32", 80, F32, 6, 700, 256)
@case("triton", "triton/softmax/online-bf16", 90, bfloat16, 3, 1025, 512)
@case("triton", "triton/softmax/online-f16", 80, F16, 5, 100, 128)
def softmax(device, random, arch, dtype, rows, columns, block):
    x = (random.standard_normal((rows, columns)) * 3).astype(dtype)
    out = device.zeros((rows, columns), dtype)
    launch(device, arch, softmax_kernel, rows, {"x": device.upload(x), "out": out, "columns": columns}, {"BLOCK": block})
    wide = x.astype(np.float64)
    powers = np.exp(wide - wide.max(1, keepdims=True))
    expected = powers / powers.sum(1, keepdims=True)
    # An exponent of up to 24 off by its last place, and the sum.
    bound = (48 + columns) * epsilon(F32) * expected
    return [(out.wide(), expected, bound + rounding(expected, dtype))]


@triton.jit
def norm_forward(x, gain, bias, out, means, rstds, columns, eps, BLOCK: tl.constexpr, RMS: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    values = tl.load(x + row * columns + at, mask=inside, other=0.0).to(tl.float32)
    mean = 0.0 if RMS else tl.sum(values, axis=0) / columns
    centred = tl.where(inside, values - mean, 0.0)
    rstd = tl.rsqrt(tl.sum(centred * centred, axis=0) / columns + eps)
    tl.store(means + row, mean)
    tl.store(rstds + row, rstd)
    result = centred * rstd * tl.load(gain + at, mask=inside) + tl.load(bias + at, mask=inside)
    tl.store(out + row * columns + at, result.to(out.dtype.element_ty), mask=inside)


@case("triton", "triton/layernorm/forward-f32", 80, F32, 7, 500, 512, False)
@case("triton", "triton/layernorm/forward-bf16", 90, bfloat16, 4, 768, 1024, False)
@case("triton", "triton/rmsnorm/forward-f16", 90, F16, 5, 300, 512, True)
def layernorm_forward(device, random, arch, dtype, rows, columns, block, rms):
    x = (random.standard_normal((rows, columns)) + 0.5).astype(dtype)
    gain, bias = random.standard_normal((2, columns)).astype(F32)
    out, means, rstds = device.zeros((rows, columns), dtype), device.zeros(rows), device.zeros(rows)
    arguments = {"x": device.upload(x), "gain": device.upload(gain), "bias": device.upload(bias), "out": out, "means": means, "rstds": rstds, "columns": columns, "eps": 1e-5}
    launch(device, arch, norm_forward, rows, arguments, {"BLOCK": block, "RMS": rms})
    wide = x.astype(np.float64)
    mean = 0 * wide[:, :1] if rms else wide.mean(1, keepdims=True)
    rstd = 1 / np.sqrt(((wide - mean) ** 2).mean(1, keepdims=True) + 1e-5)
    expected = (wide - mean) * rstd * gain + bias
    bound = 2 * columns * epsilon(F32) * (np.abs(wide) + np.abs(mean) + 1) * rstd * np.abs(gain) + ulps(expected, 2)
    return [(out.wide(), expected, bound + rounding(expected, dtype)), (rstds.wide(), rstd[:, 0], columns * 2 * epsilon(F32) * rstd[:, 0] * 4)]


@triton.jit
def norm_backward(dy, x, gain, means, rstds, dx, dgain, locks, columns, rows, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    inside = at < columns
    row = tl.program_id(0)
    values = tl.load(x + row * columns + at, mask=inside, other=0.0)
    grad = tl.load(dy + row * columns + at, mask=inside, other=0.0)
    weight = tl.load(gain + at, mask=inside, other=0.0)
    rstd = tl.load(rstds + row)
    normal = tl.where(inside, (values - tl.load(means + row)) * rstd, 0.0)
    weighted = tl.where(inside, weight * grad, 0.0)
    c1 = tl.sum(normal * weighted, axis=0) / columns
    c2 = tl.sum(weighted, axis=0) / columns
    tl.store(dx + row * columns + at, (weighted - (normal * c1 + c2)) * rstd, mask=inside)
    # The rows of a group add up behind a lock.
    group = row % 2
    while tl.atomic_cas(locks + group, 0, 1) == 1:
        pass
    count = tl.load(locks + 2 + group)
    part = grad * normal
    if count == 0:
        tl.atomic_xchg(locks + 2 + group, 1)
    else:
        part += tl.load(dgain + group * columns + at, mask=inside)
    tl.store(dgain + group * columns + at, part, mask=inside)
    tl.debug_barrier()
    tl.atomic_xchg(locks + group, 0)


@case("triton", "triton/layernorm/backward-lock", 80, 6, 300, 512)
@case("triton", "triton/layernorm/backward-lock-sm90", 90, 5, 200, 256)
def layernorm_backward(device, random, arch, rows, columns, block):
    x, dy = random.standard_normal((2, rows, columns)).astype(F32)
    gain = random.standard_normal(columns).astype(F32)
    wide, grad = x.astype(np.float64), dy.astype(np.float64)
    mean = wide.mean(1, keepdims=True)
    rstd = 1 / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    dx, dgain, locks = device.zeros((rows, columns)), device.zeros((2, columns)), device.zeros(4, np.int32)
    arguments = {
        "dy": device.upload(dy), "x": device.upload(x), "gain": device.upload(gain), "means": device.upload(mean[:, 0].astype(F32)),
        "rstds": device.upload(rstd[:, 0].astype(F32)), "dx": dx, "dgain": dgain, "locks": locks, "columns": columns, "rows": rows,
    }
    launch(device, arch, norm_backward, rows, arguments, {"BLOCK": block})
    normal, weighted = (wide - mean) * rstd, grad * gain
    expected = (weighted - normal * (normal * weighted).mean(1, keepdims=True) - weighted.mean(1, keepdims=True)) * rstd
    size = (np.abs(weighted) + np.abs(normal) * np.abs(normal * weighted).mean(1, keepdims=True) + np.abs(weighted).mean(1, keepdims=True)) * rstd
    parts = np.stack([(grad * normal)[group::2].sum(0) for group in (0, 1)])
    sizes = np.stack([np.abs(grad * normal)[group::2].sum(0) + np.abs(grad)[group::2].sum(0) for group in (0, 1)])
    return [(dx.wide(), expected, sum_bound(columns, size)), (dgain.wide(), parts, sum_bound(rows + 4, sizes))]


@triton.jit
def cross_entropy_kernel(logits, targets, loss, grad, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    target = tl.load(targets + row)
    values = tl.load(logits + row * columns + at, mask=inside, other=-float("inf"))
    most = tl.max(values, axis=0)
    powers = tl.exp(values - most)
    total = tl.sum(powers, axis=0)
    tl.store(loss + row, tl.log(total) + most - tl.load(logits + row * columns + target))
    tl.store(grad + row * columns + at, powers / total - tl.where(at == target, 1.0, 0.0), mask=inside)


@case("triton", "triton/cross-entropy", 80, 9, 300, 512)
@case("triton", "triton/cross-entropy/sm90", 90, 5, 1000, 1024)
def cross_entropy(device, random, arch, rows, columns, block):
    logits = (random.standard_normal((rows, columns)) * 2).astype(F32)
    targets = random.integers(0, columns, rows).astype(np.int64)
    loss, grad = device.zeros(rows), device.zeros((rows, columns))
    arguments = {"logits": device.upload(logits), "targets": device.upload(targets), "loss": loss, "grad": grad, "columns": columns}
    launch(device, arch, cross_entropy_kernel, rows, arguments, {"BLOCK": block})
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(1, keepdims=True))
    total = powers.sum(1)
    expected = np.log(total) + wide.max(1) - wide[np.arange(rows), targets]
    slope = powers / total[:, None]
    slope[np.arange(rows), targets] -= 1
    return [(loss.wide(), expected, sum_bound(columns, 16)), (grad.wide(), slope, (columns + 48) * epsilon(F32) * (np.abs(slope) + 1e-3) + epsilon(F32))]


@triton.jit
def combine_linear(a1, b1, a2, b2):
    return a1 * a2, b1 * a2 + b2


@triton.jit
def recurrence_kernel(a, b, out, T: tl.constexpr, D: tl.constexpr, REVERSE: tl.constexpr):
    at = tl.arange(0, T)[:, None] * D + tl.arange(0, D)[None, :]
    _, states = tl.associative_scan((tl.load(a + at), tl.load(b + at)), 0, combine_linear, reverse=REVERSE)
    tl.store(out + at, states)


@case("triton", "triton/scan/linear-recurrence", 80, 64, 16, False)
@case("triton", "triton/scan/linear-recurrence-reverse", 90, 128, 8, True)
def recurrence(device, random, arch, t, d, reverse):
    a, b = random.uniform(0.2, 1, (t, d)).astype(F32), random.standard_normal((t, d)).astype(F32)
    out = device.zeros((t, d))
    launch(device, arch, recurrence_kernel, 1, {"a": device.upload(a), "b": device.upload(b), "out": out}, {"T": t, "D": d, "REVERSE": reverse})
    state, size = np.zeros(d), np.zeros(d)
    expected, sizes = np.zeros((t, d)), np.zeros((t, d))
    for step in reversed(range(t)) if reverse else range(t):
        state, size = state * a[step] + b[step], size * a[step] + np.abs(b[step])
        expected[step], sizes[step] = state, size
    return [(out.wide(), expected, sum_bound(t, sizes))]


@triton.jit
def scan_kernel(x, out, M: tl.constexpr, N: tl.constexpr, AXIS: tl.constexpr, PRODUCT: tl.constexpr, REVERSE: tl.constexpr):
    at = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    tile = tl.load(x + at)
    tl.store(out + at, tl.cumprod(tile, AXIS, REVERSE) if PRODUCT else tl.cumsum(tile, AXIS, REVERSE))


@case("triton", "triton/scan/cumsum-rows-f32", 80, F32, (16, 128), 1, False, False)
@case("triton", "triton/scan/cumsum-columns-i32", 90, np.int32, (256, 8), 0, False, True)
@case("triton", "triton/scan/cumprod-f32", 90, F32, (8, 64), 1, True, False)
@case("triton", "triton/scan/cumsum-f64", 80, np.float64, (4, 512), 1, False, True)
def scan(device, random, arch, dtype, shape, axis, times, reverse):
    x = random.integers(-1000, 1000, shape).astype(dtype) if dtype is np.int32 else random.uniform(0.8, 1.2, shape).astype(dtype)
    out = device.zeros(shape, dtype)
    launch(device, arch, scan_kernel, 1, {"x": device.upload(x), "out": out}, {"M": shape[0], "N": shape[1], "AXIS": axis, "PRODUCT": times, "REVERSE": reverse})
    wide = x.astype(np.int64 if dtype is np.int32 else np.float64)
    wide = np.flip(wide, axis) if reverse else wide
    expected = np.cumprod(wide, axis) if times else np.cumsum(wide, axis)
    expected = np.flip(expected, axis) if reverse else expected
    if dtype is np.int32:
        return [(out.read(), expected.astype(np.int32), 0)]
    return [(out.wide(), expected, sum_bound(shape[axis], np.abs(expected), dtype))]


@triton.jit
def sort_kernel(x, out, M: tl.constexpr, N: tl.constexpr, DESCENDING: tl.constexpr):
    at = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    tl.store(out + at, tl.sort(tl.load(x + at), descending=DESCENDING))


@case("triton", "triton/sort/f32-descending", 80, F32, (4, 256), True)
@case("triton", "triton/sort/i32", 90, np.int32, (16, 64), False)
@case("triton", "triton/sort/f16", 80, F16, (2, 128), False)
def sort(device, random, arch, dtype, shape, descending):
    x = (random.standard_normal(shape) * 1000).astype(dtype)
    out = device.zeros(shape, dtype)
    launch(device, arch, sort_kernel, 1, {"x": device.upload(x), "out": out}, {"M": shape[0], "N": shape[1], "DESCENDING": descending})
    expected = np.sort(x, 1)
    return [(out.read(), expected[:, ::-1] if descending else expected, 0.0)]


@triton.jit
def topk_kernel(x, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    tile = tl.load(x + tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :])
    tl.store(out + tl.arange(0, M)[:, None] * K + tl.arange(0, K)[None, :], tl.topk(tile, K))


@case("triton", "triton/topk/f32", 90, F32, (8, 128), 8)
@case("triton", "triton/topk/i32", 80, np.int32, (4, 64), 16)
def topk(device, random, arch, dtype, shape, k):
    x = (random.standard_normal(shape) * 1000).astype(dtype)
    out = device.zeros((shape[0], k), dtype)
    launch(device, arch, topk_kernel, 1, {"x": device.upload(x), "out": out}, {"M": shape[0], "N": shape[1], "K": k})
    return [(out.read(), np.sort(x, 1)[:, ::-1][:, :k], 0.0)]


@triton.jit
def histogram_kernel(x, out, n, BINS: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    counts = tl.histogram(tl.load(x + at, mask=at < n, other=0), BINS, mask=at < n)
    tl.atomic_add(out + tl.arange(0, BINS), counts)


@case("triton", "triton/histogram/64", 80, 1500, 64, 512)
@case("triton", "triton/histogram/256", 90, 2100, 256, 1024)
def histogram(device, random, arch, n, bins, block):
    x = random.integers(0, bins, n).astype(np.int32)
    out = device.zeros(bins, np.int32)
    launch(device, arch, histogram_kernel, triton.cdiv(n, block), {"x": device.upload(x), "out": out, "n": n}, {"BINS": bins, "BLOCK": block})
    return [(out.read(), np.bincount(x, minlength=bins).astype(np.int32), 0)]


@triton.jit
def atomics_kernel(x, index, sums, most, least, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + at, mask=at < n)
    to = tl.load(index + at, mask=at < n, other=0)
    tl.atomic_add(sums + to, values, mask=at < n)
    tl.atomic_max(most + to, values, mask=at < n)
    tl.atomic_min(least + to, values, mask=at < n)


@case("triton", "triton/atomics/f32", 80, F32, 900, 10)
@case("triton", "triton/atomics/i32", 90, np.int32, 1100, 7)
@case("triton", "triton/atomics/i64", 80, np.int64, 600, 5)
def atomics(device, random, arch, dtype, n, places):
    x = (random.standard_normal(n) * 100).astype(dtype)
    index = random.integers(0, places, n).astype(np.int32)
    sums, most, least = device.zeros(places, dtype), device.upload(np.full(places, -10000, dtype)), device.upload(np.full(places, 10000, dtype))
    launch(device, arch, atomics_kernel, triton.cdiv(n, 256), {"x": device.upload(x), "index": device.upload(index), "sums": sums, "most": most, "least": least, "n": n}, {"BLOCK": 256})
    parts = [x[index == place] for place in range(places)]
    wide = np.array([part.astype(np.float64 if dtype is F32 else np.int64).sum() for part in parts])
    size = np.array([np.abs(part.astype(np.float64)).sum() for part in parts])
    total = (sums.wide(), wide, sum_bound(n, size)) if dtype is F32 else (sums.read(), wide.astype(dtype), 0)
    return [total, (most.read(), np.array([part.max() for part in parts]), 0.0), (least.read(), np.array([part.min() for part in parts]), 0.0)]


@triton.jit
def half_atomics_kernel(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(out + at % 64, tl.load(x + at, mask=at < n), mask=at < n)


@case("triton", "triton/atomics/f16", 90, F16, 512)
@case("triton", "triton/atomics/bf16", 90, bfloat16, 300)
def half_atomics(device, random, arch, dtype, n):
    x = random.standard_normal(n).astype(dtype)
    out = device.zeros(64, dtype)
    launch(device, arch, half_atomics_kernel, triton.cdiv(n, 256), {"x": device.upload(x), "out": out, "n": n}, {"BLOCK": 256})
    wide = np.zeros((-(-n // 64)) * 64)
    wide[:n] = x.astype(np.float64)
    wide = wide.reshape(-1, 64)
    return [(out.wide(), wide.sum(0), sum_bound(len(wide), np.abs(wide).sum(0), dtype))]


@triton.jit
def last_block_kernel(x, partial, counter, out, n, BLOCK: tl.constexpr, PROGRAMS: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(partial + tl.program_id(0), tl.sum(tl.load(x + at, mask=at < n, other=0.0), axis=0))
    if tl.atomic_add(counter, 1) == PROGRAMS - 1:
        tl.store(out, tl.sum(tl.load(partial + tl.arange(0, PROGRAMS)), axis=0))


@case("triton", "triton/last-block", 80, 2000, 8)
@case("triton", "triton/last-block/sm90", 90, 3900, 16)
def last_block(device, random, arch, n, programs):
    x = random.standard_normal(n).astype(F32)
    partial, counter, out = device.zeros(programs), device.zeros(1, np.int32), device.zeros(1)
    arguments = {"x": device.upload(x), "partial": partial, "counter": counter, "out": out, "n": n}
    launch(device, arch, last_block_kernel, programs, arguments, {"BLOCK": 256, "PROGRAMS": programs})
    return [(out.wide(), np.array([x.astype(np.float64).sum()]), sum_bound(n, np.abs(x.astype(np.float64)).sum()))]


@triton.jit
def combine_welford(mean1, square1, weight1, mean2, square2, weight2):
    weight = weight1 + weight2
    part = tl.where(weight == 0.0, 0.0, weight2 / weight)
    delta = mean2 - mean1
    return mean1 + delta * part, square1 + square2 + delta * delta * weight1 * part, weight


@triton.jit
def welford_kernel(x, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    values = tl.load(x + row * columns + at, mask=at < columns, other=0.0)
    weights = tl.where(at < columns, 1.0, 0.0)
    mean, square, weight = tl.reduce((values, tl.zeros_like(values), weights), 0, combine_welford)
    tl.store(out + 2 * row, mean)
    tl.store(out + 2 * row + 1, square / weight)


@case("triton", "triton/welford", 80, 4, 400, 512)
def welford(device, random, arch, rows, columns, block):
    x = (random.standard_normal((rows, columns)) + 3).astype(F32)
    out = device.zeros((rows, 2))
    launch(device, arch, welford_kernel, rows, {"x": device.upload(x), "out": out, "columns": columns}, {"BLOCK": block})
    wide = x.astype(np.float64)
    expected = np.stack([wide.mean(1), wide.var(1)], 1)
    return [(out.wide(), expected, sum_bound(64, 20.0))]
