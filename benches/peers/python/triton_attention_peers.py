"""Attention by Triton's compiler, as its tutorial 06 has it: whole tiles without a mask, then those on the diagonal with one; backwards
a block of keys and a block of queries one after the other."""

import numpy as np
import triton
import triton.language as tl

from cases import case
from triton_run import launch

F16, F32 = np.float16, np.float32


@triton.jit
def step(q, total, most, mixed, keys, values, first, rows, scale, BN: tl.constexpr, D: tl.constexpr, DIAGONAL: tl.constexpr):
    columns, d = first + tl.arange(0, BN), tl.arange(0, D)
    scores = tl.dot(q, tl.load(keys + columns[None, :] * D + d[:, None]))
    if DIAGONAL:
        scores = scores * scale + tl.where(rows[:, None] >= columns[None, :], 0, -1.0e6)
        now = tl.maximum(most, tl.max(scores, 1))
        scores -= now[:, None]
    else:
        now = tl.maximum(most, tl.max(scores, 1) * scale)
        scores = scores * scale - now[:, None]
    powers = tl.exp2(scores)
    rescale = tl.exp2(most - now)
    sums = tl.sum(powers, 1)
    mixed = mixed * rescale[:, None]
    mixed = tl.dot(powers.to(tl.float16), tl.load(values + columns[:, None] * D + d[None, :]), mixed)
    return total * rescale + sums, now, mixed


@triton.jit
def forward_kernel(q, k, v, out, lse, T, scale, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr, CAUSAL: tl.constexpr):
    first_row, head = tl.program_id(0) * BM, tl.program_id(1)
    rows, d = first_row + tl.arange(0, BM), tl.arange(0, D)
    base = head * T * D
    queries = tl.load(q + base + rows[:, None] * D + d[None, :])
    most = tl.zeros((BM,), dtype=tl.float32) - float("inf")
    total = tl.zeros((BM,), dtype=tl.float32) + 1.0
    mixed = tl.zeros((BM, D), dtype=tl.float32)
    scale *= 1.44269504
    whole = first_row if CAUSAL else T
    for first in tl.range(0, whole, BN):
        total, most, mixed = step(queries, total, most, mixed, k + base, v + base, first, rows, scale, BN, D, False)
    if CAUSAL:
        for first in tl.range(first_row, first_row + BM, BN):
            total, most, mixed = step(queries, total, most, mixed, k + base, v + base, first, rows, scale, BN, D, True)
    tl.store(lse + head * T + rows, most + tl.log2(total))
    tl.store(out + base + rows[:, None] * D + d[None, :], (mixed / total[:, None]).to(tl.float16))


# Rows, keys, warps and stages among which the tutorial lets its autotuner choose, without those that are plainly slow.
TILES = [(128, 64, 4, 3), (128, 64, 8, 3), (64, 64, 4, 3), (128, 128, 8, 2)]


@case("triton/attention/full-d64-1024", 80, 128, 1024, 64, False, TILES)
@case("triton/attention/full-d64-4096", 80, 128, 4096, 64, False, TILES)
@case("triton/attention/causal-d64-1024", 80, 128, 1024, 64, True, TILES)
@case("triton/attention/causal-d64-4096", 80, 128, 4096, 64, True, TILES)
@case("triton/attention/causal-d64-16384", 80, 128, 16384, 64, True, TILES)
@case("triton/attention/model-m", 90, 128, 1024, 128, True, TILES)
@case("triton/attention/sm90-full-d64-4096", 90, 128, 4096, 64, False, TILES)
@case("triton/attention/sm90-causal-d64-4096", 90, 128, 4096, 64, True, TILES)
@case("triton/attention/sm90-full-d128-4096", 90, 64, 4096, 128, False, TILES)
@case("triton/attention/sm90-causal-d128-4096", 90, 64, 4096, 128, True, TILES)
def forward(device, heads, t, d, causal, tiles):
    q, k, v, out = (device.allocate((heads, t, d), F16) for _ in range(4))
    lse = device.allocate((heads, t), F32)
    for bm, bn, warps, stages in tiles:
        arguments = {"q": q, "k": k, "v": v, "out": out, "lse": lse, "T": t, "scale": d**-0.5}
        constants = {"BM": bm, "BN": bn, "D": d, "CAUSAL": causal}
        launch(device, device.arch, forward_kernel, (t // bm, heads), arguments, constants, warps, stages)
        yield f"{bm}x{bn}, {warps} warps, {stages} stages"


@triton.jit
def delta_kernel(out, do, delta, T, BM: tl.constexpr, D: tl.constexpr):
    rows, d = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, D)
    at = tl.program_id(1) * T * D + rows[:, None] * D + d[None, :]
    product = tl.load(out + at) * tl.load(do + at).to(tl.float32)
    tl.store(delta + tl.program_id(1) * T + rows, tl.sum(product, axis=1))


@triton.jit
def keys_part(dk, dv, q, keys, values, do, lse, delta, first, stop, own, BM: tl.constexpr, D: tl.constexpr, DIAGONAL: tl.constexpr):
    d = tl.arange(0, D)
    for at in tl.range(first, stop, BM):
        rows = at + tl.arange(0, BM)
        queries = tl.load(q + rows[None, :] * D + d[:, None])
        p = tl.exp2(tl.dot(keys, queries) - tl.load(lse + rows)[None, :])
        if DIAGONAL:
            p = tl.where(rows[None, :] >= own[:, None], p, 0.0)
        grads = tl.load(do + rows[:, None] * D + d[None, :])
        dv += tl.dot(p.to(tl.float16), grads)
        dp = tl.dot(values, tl.trans(grads)).to(tl.float32)
        ds = (p * (dp - tl.load(delta + rows)[None, :])).to(tl.float16)
        dk += tl.dot(ds, tl.trans(queries))
    return dk, dv


@triton.jit
def queries_part(dq, queries, k, v, grads, most, inner, first, stop, own, BN: tl.constexpr, D: tl.constexpr, DIAGONAL: tl.constexpr):
    d = tl.arange(0, D)
    for at in tl.range(first, stop, BN):
        columns = at + tl.arange(0, BN)
        keys = tl.load(k + columns[None, :] * D + d[:, None])
        values = tl.load(v + columns[None, :] * D + d[:, None])
        p = tl.exp2(tl.dot(queries, keys) - most)
        if DIAGONAL:
            p = tl.where(own[:, None] >= columns[None, :], p, 0.0)
        dp = tl.dot(grads, values).to(tl.float32)
        ds = (p * (dp - inner)).to(tl.float16)
        dq += tl.dot(ds, tl.trans(keys))
    return dq


@triton.jit
def backward_kernel(q, k, v, do, lse, delta, dq, dk, dv, T, scale, SMALL: tl.constexpr, LARGE: tl.constexpr, D: tl.constexpr):
    base, line = tl.program_id(1) * T * D, tl.program_id(1) * T
    d = tl.arange(0, D)
    first = tl.program_id(0) * LARGE
    own = first + tl.arange(0, LARGE)
    at = base + own[:, None] * D + d[None, :]
    keys, values = tl.load(k + at), tl.load(v + at)
    sum_k, sum_v = tl.zeros((LARGE, D), dtype=tl.float32), tl.zeros((LARGE, D), dtype=tl.float32)
    sum_k, sum_v = keys_part(sum_k, sum_v, q + base, keys, values, do + base, lse + line, delta + line, first, first + LARGE, own, SMALL // 2, D, True)
    sum_k, sum_v = keys_part(sum_k, sum_v, q + base, keys, values, do + base, lse + line, delta + line, first + LARGE, T, own, SMALL, D, False)
    tl.store(dv + at, sum_v.to(tl.float16))
    tl.store(dk + at, (sum_k * scale).to(tl.float16))
    queries, grads = tl.load(q + at), tl.load(do + at)
    most, inner = tl.load(lse + line + own)[:, None], tl.load(delta + line + own)[:, None]
    total = tl.zeros((LARGE, D), dtype=tl.float32)
    total = queries_part(total, queries, k + base, v + base, grads, most, inner, first, first + LARGE, own, SMALL // 2, D, True)
    total = queries_part(total, queries, k + base, v + base, grads, most, inner, 0, first, own, SMALL, D, False)
    tl.store(dq + at, (total * 0.6931471824645996).to(tl.float16))


@case("triton/attention/backward-d64-1024", 80, 128, 1024, 64)
@case("triton/attention/backward-d64-2048", 80, 128, 2048, 64)
def backward(device, heads, t, d):
    names = ("q", "k", "v", "do", "dq", "dk", "dv", "out")
    tensors = {name: device.allocate((heads, t, d), F16) for name in names}
    lines = {name: device.allocate((heads, t), F32) for name in ("lse", "delta")}
    first = {"out": tensors.pop("out"), "do": tensors["do"], "delta": lines["delta"], "T": t}
    launch(device, device.arch, delta_kernel, (t // 128, heads), first, {"BM": 128, "D": d})
    arguments = {**tensors, **lines, "T": t, "scale": d**-0.5}
    launch(device, device.arch, backward_kernel, (t // 128, heads), arguments, {"SMALL": 32, "LARGE": 128, "D": d}, 4, 5)
    yield "128x32, 4 warps, 5 stages"
