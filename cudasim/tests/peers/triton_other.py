"""Triton: convolutions, rotary embeddings, quantised weights, embeddings, stencils, inline assembly."""

import numpy as np
import triton
import triton.language as tl

from corpus import case, epsilon, product, rounding, sum_bound, ulps
from device import bfloat16
from triton_run import launch

F16, F32 = np.float16, np.float32


@triton.jit
def conv2d_kernel(x, w, out, H, W, C, OH, OW, F, R: tl.constexpr, S: tl.constexpr, PAD: tl.constexpr, BM: tl.constexpr, BF: tl.constexpr, BC: tl.constexpr):
    pixels = tl.program_id(0) * BM + tl.arange(0, BM)
    image, place = pixels // (OH * OW), pixels % (OH * OW)
    oy, ox = place // OW, place % OW
    filters = tl.program_id(1) * BF + tl.arange(0, BF)
    total = tl.zeros((BM, BF), dtype=tl.float32)
    for tap in range(R * S):
        y, z = oy + tap // S - PAD, ox + tap % S - PAD
        for first in range(0, C, BC):
            c = first + tl.arange(0, BC)
            inside = (y >= 0) & (y < H) & (z >= 0) & (z < W)
            left = tl.load(x + ((image * H + y) * W + z)[:, None] * C + c[None, :], mask=inside[:, None] & (c[None, :] < C), other=0.0)
            right = tl.load(w + (filters[None, :] * R * S + tap) * C + c[:, None], mask=(filters[None, :] < F) & (c[:, None] < C), other=0.0)
            total = tl.dot(left, right, total)
    tl.store(out + pixels[:, None] * F + filters[None, :], total, mask=filters[None, :] < F)


@case("triton", "triton/conv2d/3x3", 80, F16, (2, 8, 8, 16, 24), 3, 1)
@case("triton", "triton/conv2d/3x3-sm90", 90, bfloat16, (1, 8, 16, 40, 32), 3, 1)
@case("triton", "triton/conv2d/1x1", 90, F16, (2, 8, 8, 32, 20), 1, 0)
def conv2d(device, random, arch, dtype, shape, taps, pad):
    n, h, w, c, f = shape
    x, weights = random.standard_normal((n, h, w, c)).astype(dtype), random.standard_normal((f, taps, taps, c)).astype(dtype)
    out = device.zeros((n, h, w, f))
    arguments = {"x": device.upload(x), "w": device.upload(weights), "out": out, "H": h, "W": w, "C": c, "OH": h, "OW": w, "F": f}
    constants = {"R": taps, "S": taps, "PAD": pad, "BM": 64, "BF": 32, "BC": 32}
    launch(device, arch, conv2d_kernel, (n * h * w // 64, triton.cdiv(f, 32)), arguments, constants)
    padded = np.pad(x.astype(np.float64), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    columns = np.stack([padded[:, r : r + h, s : s + w] for r in range(taps) for s in range(taps)], 3).reshape(n, h, w, -1)
    expected, bound = product(columns.reshape(-1, taps * taps * c), weights.reshape(f, -1).T)
    return [(out.wide().reshape(-1, f), expected, bound)]


@triton.jit
def rotary_kernel(x, cos, sin, out, HALF: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, HALF)
    a, b = tl.load(x + row * 2 * HALF + at), tl.load(x + row * 2 * HALF + HALF + at)
    c, s = tl.load(cos + row * HALF + at), tl.load(sin + row * HALF + at)
    tl.store(out + row * 2 * HALF + at, (a * c - b * s).to(out.dtype.element_ty))
    tl.store(out + row * 2 * HALF + HALF + at, (a * s + b * c).to(out.dtype.element_ty))


@case("triton", "triton/rotary/f16", 80, F16, 9, 32)
@case("triton", "triton/rotary/bf16", 90, bfloat16, 5, 64)
def rotary(device, random, arch, dtype, rows, half):
    x, angle = random.standard_normal((rows, 2 * half)).astype(dtype), random.uniform(0, 6, (rows, half))
    cos, sin = np.cos(angle).astype(F32), np.sin(angle).astype(F32)
    out = device.zeros((rows, 2 * half), dtype)
    launch(device, arch, rotary_kernel, rows, {"x": device.upload(x), "cos": device.upload(cos), "sin": device.upload(sin), "out": out}, {"HALF": half})
    a, b, c, s = x[:, :half].astype(np.float64), x[:, half:].astype(np.float64), cos.astype(np.float64), sin.astype(np.float64)
    expected = np.concatenate([a * c - b * s, a * s + b * c], 1)
    return [(out.wide(), expected, rounding(expected, dtype) + 16 * epsilon(F32))]


@triton.jit
def int4_kernel(a, packed, scales, out, N, K: tl.constexpr, GROUP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows, columns = tl.arange(0, BM), tl.program_id(0) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for first in range(0, K, BK):
        k = first + tl.arange(0, BK)
        words = tl.load(packed + (k[:, None] // 8) * N + columns[None, :])
        weights = ((words >> (k[:, None] % 8 * 4)) & 15) - 8
        scale = tl.load(scales + (k[:, None] // GROUP) * N + columns[None, :])
        left = tl.load(a + rows[:, None] * K + k[None, :])
        total = tl.dot(left, (weights.to(tl.float32) * scale).to(left.dtype), total)
    tl.store(out + rows[:, None] * N + columns[None, :], total)


@case("triton", "triton/int4-weights", 80, F16, 32, 64, 128)
@case("triton", "triton/int4-weights/sm90", 90, F16, 64, 64, 96)
def int4(device, random, arch, dtype, m, n, k):
    a = random.standard_normal((m, k)).astype(dtype)
    weights = random.integers(0, 16, (k, n))
    scales = (2.0 ** random.integers(-4, 2, (k // 32, n))).astype(F32)
    packed = np.zeros((k // 8, n), np.int64)
    for place in range(8):
        packed |= weights[place::8] << (4 * place)
    out = device.zeros((m, n))
    arguments = {"a": device.upload(a), "packed": device.upload(packed.astype(np.uint32).view(np.int32)), "scales": device.upload(scales), "out": out, "N": n}
    launch(device, arch, int4_kernel, n // 32, arguments, {"K": k, "GROUP": 32, "BM": m, "BN": 32, "BK": 32})
    # Scales are powers of two: the weights are exact in f16.
    expected, bound = product(a, (weights - 8) * np.repeat(scales.astype(np.float64), 32, 0))
    return [(out.wide(), expected, bound)]


@triton.jit
def embedding_grad_kernel(tokens, grad, table, D: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, D)
    tl.atomic_add(table + tl.load(tokens + row) * D + at, tl.load(grad + row * D + at))


@case("triton", "triton/embedding-grad", 80, 40, 7, 128)
@case("triton", "triton/embedding-grad/sm90", 90, 30, 5, 64)
def embedding_grad(device, random, arch, rows, words, d):
    tokens, grad = random.integers(0, words, rows).astype(np.int32), random.standard_normal((rows, d)).astype(F32)
    table = device.zeros((words, d))
    launch(device, arch, embedding_grad_kernel, rows, {"tokens": device.upload(tokens), "grad": device.upload(grad), "table": table}, {"D": d})
    expected, size = np.zeros((words, d)), np.zeros((words, d))
    np.add.at(expected, tokens, grad.astype(np.float64))
    np.add.at(size, tokens, np.abs(grad.astype(np.float64)))
    return [(table.wide(), expected, sum_bound(rows, size))]


@triton.jit
def packed_kernel(x, y, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a, b = tl.load(x + at, mask=at < n, other=0), tl.load(y + at, mask=at < n, other=0)
    # Four bytes of a register at once: absolute differences, by the processor's own instruction.
    result = tl.inline_asm_elementwise("{ .reg .u32 z; mov.u32 z, 0; vabsdiff4.u32.u32.u32 $0, $1, $2, z; }", "=r,r,r", [a, b], dtype=tl.uint8, is_pure=True, pack=4)
    tl.store(out + at, result, mask=at < n)


@case("triton", "triton/inline-asm/vabsdiff4", 80, 1000)
@case("triton", "triton/inline-asm/vabsdiff4-sm90", 90, 700)
def packed(device, random, arch, n):
    x, y = random.integers(0, 256, (2, n)).astype(np.uint8)
    out = device.zeros(n, np.uint8)
    launch(device, arch, packed_kernel, triton.cdiv(n, 512), {"x": device.upload(x), "y": device.upload(y), "out": out, "n": n}, {"BLOCK": 512})
    return [(out.read(), np.abs(x.astype(np.int32) - y.astype(np.int32)).astype(np.uint8), 0)]


@triton.jit
def adam_kernel(p, g, m, v, n, rate, beta1, beta2, eps, decay, c1, c2, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    grad, weight = tl.load(g + at, mask=inside), tl.load(p + at, mask=inside)
    first = beta1 * tl.load(m + at, mask=inside) + (1 - beta1) * grad
    second = beta2 * tl.load(v + at, mask=inside) + (1 - beta2) * grad * grad
    tl.store(m + at, first, mask=inside)
    tl.store(v + at, second, mask=inside)
    tl.store(p + at, weight * (1 - rate * decay) - rate * (first / c1) / (tl.sqrt(second / c2) + eps), mask=inside)


@case("triton", "triton/adamw", 80, 1500)
@case("triton", "triton/adamw/sm90", 90, 999)
def adam(device, random, arch, n):
    p, g, m = random.standard_normal((3, n)).astype(F32)
    v = (random.standard_normal(n) ** 2).astype(F32)
    buffers = {name: device.upload(x) for name, x in (("p", p), ("g", g), ("m", m), ("v", v))}
    rate, beta1, beta2, eps, decay, c1, c2 = (float(np.float32(x)) for x in (1e-2, 0.9, 0.95, 1e-8, 0.1, 0.19, 0.0975))
    arguments = {**buffers, "n": n, "rate": rate, "beta1": beta1, "beta2": beta2, "eps": eps, "decay": decay, "c1": c1, "c2": c2}
    launch(device, arch, adam_kernel, triton.cdiv(n, 512), arguments, {"BLOCK": 512})
    p, g, m, v = (x.astype(np.float64) for x in (p, g, m, v))
    first, second = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    step = rate * (first / c1) / (np.sqrt(second / c2) + eps)
    size = rate * (np.abs(beta1 * m) + np.abs((1 - beta1) * g)) / c1 / (np.sqrt(second / c2) + eps)
    return [
        (buffers["m"].wide(), first, 8 * epsilon(F32) * (np.abs(m) + np.abs(g))),
        (buffers["v"].wide(), second, 16 * epsilon(F32) * second),
        (buffers["p"].wide(), p * (1 - rate * decay) - step, 16 * epsilon(F32) * (np.abs(p) + size)),
    ]


@triton.jit
def grouped_kernel(pointers, sizes, groups, N: tl.constexpr, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    start = tl.program_id(0)
    done = 0
    for group in range(groups):
        rows = tl.load(sizes + group)
        tiles = tl.cdiv(rows, BM) * (N // BN)
        while start >= done and start < done + tiles:
            tile = start - done
            a = tl.load(pointers + 3 * group).to(tl.pointer_type(tl.float16))
            b = tl.load(pointers + 3 * group + 1).to(tl.pointer_type(tl.float16))
            out = tl.load(pointers + 3 * group + 2).to(tl.pointer_type(tl.float32))
            i, j, k = tile // (N // BN) * BM + tl.arange(0, BM), tile % (N // BN) * BN + tl.arange(0, BN), tl.arange(0, K)
            left = tl.load(a + i[:, None] * K + k[None, :], mask=i[:, None] < rows, other=0.0)
            right = tl.load(b + k[:, None] * N + j[None, :])
            tl.store(out + i[:, None] * N + j[None, :], tl.dot(left, right), mask=i[:, None] < rows)
            start += tl.num_programs(0)
        done += tiles


@case("triton", "triton/matmul/grouped", 80, (40, 5, 64), 64, 32)
@case("triton", "triton/matmul/grouped-sm90", 90, (33, 70), 32, 64)
def grouped(device, random, arch, rows, n, k):
    lefts = [random.standard_normal((m, k)).astype(F16) for m in rows]
    rights = [random.standard_normal((k, n)).astype(F16) for _ in rows]
    outs = [device.zeros((m, n)) for m in rows]
    kept = [(device.upload(a), device.upload(b), out) for a, b, out in zip(lefts, rights, outs)]
    pointers = np.array([[buffer.address.value for buffer in three] for three in kept], np.int64)
    arguments = {"pointers": device.upload(pointers), "sizes": device.upload(np.array(rows, np.int32)), "groups": len(rows)}
    launch(device, arch, grouped_kernel, 3, arguments, {"N": n, "K": k, "BM": 32, "BN": 32})
    return [(out.wide(), *product(a, b)) for a, b, out in zip(lefts, rights, outs)]


@triton.jit
def depthwise_kernel(x, w, out, T, C: tl.constexpr, TAPS: tl.constexpr, BT: tl.constexpr):
    t, c = tl.program_id(0) * BT + tl.arange(0, BT), tl.arange(0, C)
    total = tl.zeros((BT, C), dtype=tl.float32)
    for tap in tl.static_range(TAPS):
        at = t - (TAPS - 1) + tap
        total += tl.load(x + at[:, None] * C + c[None, :], mask=(at[:, None] >= 0) & (at[:, None] < T), other=0.0) * tl.load(w + tap * C + c)[None, :]
    tl.store(out + t[:, None] * C + c[None, :], total * tl.sigmoid(total), mask=t[:, None] < T)


@case("triton", "triton/conv1d/causal-silu", 80, 50, 64, 4)
@case("triton", "triton/conv1d/causal-silu-sm90", 90, 70, 32, 3)
def depthwise(device, random, arch, t, c, taps):
    x, w = random.standard_normal((t, c)).astype(F32), random.standard_normal((taps, c)).astype(F32)
    out = device.zeros((t, c))
    launch(device, arch, depthwise_kernel, triton.cdiv(t, 32), {"x": device.upload(x), "w": device.upload(w), "out": out, "T": t}, {"C": c, "TAPS": taps, "BT": 32})
    padded = np.pad(x.astype(np.float64), ((taps - 1, 0), (0, 0)))
    total = sum(padded[tap : tap + t] * w[tap] for tap in range(taps))
    size = sum(np.abs(padded[tap : tap + t] * w[tap]) for tap in range(taps))
    expected = total / (1 + np.exp(-total))
    # Its slope is at most 1.1.
    return [(out.wide(), expected, 1.1 * sum_bound(taps, size) + 16 * epsilon(F32) * (1 + np.abs(total)) * np.abs(total))]
