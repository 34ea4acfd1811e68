"""Triton: attention forwards and backwards, with grouped heads, through TMA, and decoding with split keys."""

import numpy as np
import triton
import triton.language as tl

from corpus import case, epsilon, rounding
from device import bfloat16
from triton_run import Descriptor, launch

F16, F32 = np.float16, np.float32


@triton.jit
def forward_kernel(q, k, v, out, lse, T, heads, groups, scale, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr, CAUSAL: tl.constexpr):
    first_row, head = tl.program_id(0) * BM, tl.program_id(1)
    rows, d = first_row + tl.arange(0, BM), tl.arange(0, D)
    own, shared = head * T * D, head // groups * T * D
    queries = tl.load(q + own + rows[:, None] * D + d[None, :], mask=rows[:, None] < T, other=0.0)
    most = tl.full((BM,), -1e30, dtype=tl.float32)
    total = tl.zeros((BM,), dtype=tl.float32)
    mixed = tl.zeros((BM, D), dtype=tl.float32)
    last = min(first_row + BM, T) if CAUSAL else T
    for first in range(0, last, BN):
        columns = first + tl.arange(0, BN)
        keys = tl.load(k + shared + columns[None, :] * D + d[:, None], mask=columns[None, :] < T, other=0.0)
        scores = tl.dot(queries, keys) * (scale * 1.4426950408889634)
        inside = columns[None, :] < T
        if CAUSAL:
            inside = inside & (columns[None, :] <= rows[:, None])
        scores = tl.where(inside, scores, -1e30)
        now = tl.maximum(most, tl.max(scores, axis=1))
        powers = tl.exp2(scores - now[:, None])
        rescale = tl.exp2(most - now)
        total = total * rescale + tl.sum(powers, axis=1)
        values = tl.load(v + shared + columns[:, None] * D + d[None, :], mask=columns[:, None] < T, other=0.0)
        mixed = tl.dot(powers.to(values.dtype), values, mixed * rescale[:, None])
        most = now
    tl.store(out + own + rows[:, None] * D + d[None, :], (mixed / total[:, None]).to(out.dtype.element_ty), mask=rows[:, None] < T)
    tl.store(lse + head * T + rows, most * 0.6931471805599453 + tl.log(total), mask=rows < T)


def attention(q, k, v, causal, scale):
    """Probabilities and results in f64, heads first; keys of grouped heads are repeated."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    times = len(q) // len(k)
    k, v = np.repeat(k, times, 0), np.repeat(v, times, 0)
    scores = q @ k.transpose(0, 2, 1) * scale
    if causal:
        scores[:, np.triu(np.ones(scores.shape[1:], bool), 1)] = -np.inf
    most = scores.max(-1, keepdims=True)
    powers = np.exp(scores - most)
    total = powers.sum(-1, keepdims=True)
    return powers / total, powers / total @ v, (most + np.log(total))[..., 0], v


def bound_of(p, v, dtype, out, expected):
    """Probabilities are rounded to `dtype` before they meet V, and off by what the exponent loses."""
    loose = p @ np.abs(v)
    bound = loose * (2 * epsilon(dtype) + (64 + p.shape[-1]) * 2 * epsilon(F32))
    return bound + rounding(np.abs(expected) + bound, out)


@case("triton", "triton/attention/causal-f16-d64", 80, F16, 2, 2, 100, 64, True, 64, 32, 4, 2)
@case("triton", "triton/attention/full-bf16-d32", 80, bfloat16, 3, 3, 70, 32, False, 32, 32, 4, 3)
@case("triton", "triton/attention/causal-f16-d128-sm90", 90, F16, 1, 1, 130, 128, True, 64, 64, 4, 2)
@case("triton", "triton/attention/full-bf16-d64-sm90", 90, bfloat16, 2, 2, 128, 64, False, 128, 64, 8, 3)
@case("triton", "triton/attention/grouped-heads", 90, F16, 4, 2, 64, 64, True, 64, 32, 4, 2)
@case("triton", "triton/attention/grouped-heads-sm80", 80, bfloat16, 4, 1, 48, 64, True, 32, 32, 4, 2)
def forward(device, random, arch, dtype, heads, shared, t, d, causal, bm, bn, warps, stages):
    q = random.standard_normal((heads, t, d)).astype(dtype)
    k, v = random.standard_normal((2, shared, t, d)).astype(dtype)
    out, lse = device.zeros((heads, t, d), dtype), device.zeros((heads, t))
    arguments = {"q": device.upload(q), "k": device.upload(k), "v": device.upload(v), "out": out, "lse": lse, "T": t, "heads": heads, "groups": heads // shared, "scale": d**-0.5}
    launch(device, arch, forward_kernel, (triton.cdiv(t, bm), heads), arguments, {"BM": bm, "BN": bn, "D": d, "CAUSAL": causal}, warps, stages)
    p, expected, sums, wide = attention(q, k, v, causal, d**-0.5)
    return [(out.wide(), expected, bound_of(p, wide, dtype, dtype, expected)), (lse.wide(), sums, (t + 64) * 2 * epsilon(F32) * (np.abs(sums) + 8))]


@triton.jit
def tma_kernel(q, k, v, out, T, scale, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr, SPECIALISE: tl.constexpr):
    row, head = tl.program_id(0) * BM, tl.program_id(1)
    queries = q.load([head * T + row, 0])
    most = tl.full((BM,), -1e30, dtype=tl.float32)
    total = tl.zeros((BM,), dtype=tl.float32)
    mixed = tl.zeros((BM, D), dtype=tl.float32)
    for first in tl.range(0, T, BN, warp_specialize=SPECIALISE):
        scores = tl.dot(queries, k.load([head * T + first, 0]).T) * (scale * 1.4426950408889634)
        now = tl.maximum(most, tl.max(scores, axis=1))
        powers = tl.exp2(scores - now[:, None])
        rescale = tl.exp2(most - now)
        total = total * rescale + tl.sum(powers, axis=1)
        values = v.load([head * T + first, 0])
        mixed = tl.dot(powers.to(values.dtype), values, mixed * rescale[:, None])
        most = now
    out.store([head * T + row, 0], (mixed / total[:, None]).to(out.dtype))


@case("triton", "triton/attention/tma", 90, F16, 2, 128, 64, 64, 64, 4, 2, False)
@case("triton", "triton/attention/tma-warp-specialised", 90, bfloat16, 1, 256, 64, 64, 64, 4, 3, True)
def forward_tma(device, random, arch, dtype, heads, t, d, bm, bn, warps, stages, specialise):
    q, k, v = random.standard_normal((3, heads, t, d)).astype(dtype)
    out = device.zeros((heads * t, d), dtype)
    maps = {name: Descriptor(device.upload(x.reshape(heads * t, d)), (rows, d)) for name, x, rows in (("q", q, bm), ("k", k, bn), ("v", v, bn))}
    arguments = {**maps, "out": Descriptor(out, (bm, d)), "T": t, "scale": d**-0.5}
    launch(device, arch, tma_kernel, (t // bm, heads), arguments, {"BM": bm, "BN": bn, "D": d, "SPECIALISE": specialise}, warps, stages)
    p, expected, _, wide = attention(q, k, v, False, d**-0.5)
    return [(out.wide().reshape(expected.shape), expected, bound_of(p, wide, dtype, dtype, expected))]


@triton.jit
def backward_keys_kernel(q, k, v, do, lse, delta, dk, dv, T, scale, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr):
    columns, d = tl.program_id(0) * BN + tl.arange(0, BN), tl.arange(0, D)
    own = tl.program_id(1) * T * D
    keys = tl.load(k + own + columns[:, None] * D + d[None, :], mask=columns[:, None] < T, other=0.0)
    values = tl.load(v + own + columns[:, None] * D + d[None, :], mask=columns[:, None] < T, other=0.0)
    sum_k, sum_v = tl.zeros((BN, D), dtype=tl.float32), tl.zeros((BN, D), dtype=tl.float32)
    for first in range(0, T, BM):
        rows = first + tl.arange(0, BM)
        queries = tl.load(q + own + rows[:, None] * D + d[None, :], mask=rows[:, None] < T, other=0.0)
        grads = tl.load(do + own + rows[:, None] * D + d[None, :], mask=rows[:, None] < T, other=0.0)
        sums = tl.load(lse + tl.program_id(1) * T + rows, mask=rows < T, other=0.0)
        scores = tl.dot(keys, queries.T) * scale
        inside = (columns[:, None] <= rows[None, :]) & (rows[None, :] < T)
        p = tl.where(inside, tl.exp(scores - sums[None, :]), 0.0)
        sum_v = tl.dot(p.to(grads.dtype), grads, sum_v)
        dp = tl.dot(values, grads.T)
        ds = p * (dp - tl.load(delta + tl.program_id(1) * T + rows, mask=rows < T, other=0.0)[None, :]) * scale
        sum_k = tl.dot(ds.to(queries.dtype), queries, sum_k)
    tl.store(dk + own + columns[:, None] * D + d[None, :], sum_k, mask=columns[:, None] < T)
    tl.store(dv + own + columns[:, None] * D + d[None, :], sum_v, mask=columns[:, None] < T)


@triton.jit
def backward_queries_kernel(q, k, v, do, lse, delta, dq, T, scale, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr):
    rows, d = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, D)
    own = tl.program_id(1) * T * D
    queries = tl.load(q + own + rows[:, None] * D + d[None, :], mask=rows[:, None] < T, other=0.0)
    grads = tl.load(do + own + rows[:, None] * D + d[None, :], mask=rows[:, None] < T, other=0.0)
    sums = tl.load(lse + tl.program_id(1) * T + rows, mask=rows < T, other=0.0)
    inner = tl.load(delta + tl.program_id(1) * T + rows, mask=rows < T, other=0.0)
    total = tl.zeros((BM, D), dtype=tl.float32)
    for first in range(0, (tl.program_id(0) + 1) * BM, BN):
        columns = first + tl.arange(0, BN)
        keys = tl.load(k + own + columns[:, None] * D + d[None, :], mask=columns[:, None] < T, other=0.0)
        values = tl.load(v + own + columns[:, None] * D + d[None, :], mask=columns[:, None] < T, other=0.0)
        scores = tl.dot(queries, keys.T) * scale
        inside = (columns[None, :] <= rows[:, None]) & (columns[None, :] < T)
        p = tl.where(inside, tl.exp(scores - sums[:, None]), 0.0)
        ds = p * (tl.dot(grads, values.T) - inner[:, None]) * scale
        total = tl.dot(ds.to(keys.dtype), keys, total)
    tl.store(dq + own + rows[:, None] * D + d[None, :], total, mask=rows[:, None] < T)


@case("triton", "triton/attention/backward-keys", 80, F16, 2, 80, 64, True, 32, 32, 4)
@case("triton", "triton/attention/backward-keys-sm90", 90, bfloat16, 1, 128, 64, True, 64, 64, 4)
@case("triton", "triton/attention/backward-queries", 80, bfloat16, 2, 60, 32, False, 32, 32, 4)
@case("triton", "triton/attention/backward-queries-sm90", 90, F16, 1, 100, 64, False, 64, 64, 4)
def backward(device, random, arch, dtype, heads, t, d, keys, bm, bn, warps):
    q, k, v, do = random.standard_normal((4, heads, t, d)).astype(dtype)
    scale = d**-0.5
    p, o, lse, wide_v = attention(q, k, v, True, scale)
    wide_q, wide_k, grad = (x.astype(np.float64) for x in (q, k, do))
    delta = (grad * o).sum(-1)
    arguments = {"q": device.upload(q), "k": device.upload(k), "v": device.upload(v), "do": device.upload(do), "lse": device.upload(lse.astype(F32)), "delta": device.upload(delta.astype(F32)), "T": t, "scale": scale}
    first, second = device.zeros((heads, t, d)), device.zeros((heads, t, d))
    constants = {"BM": bm, "BN": bn, "D": d}
    dp = grad @ wide_v.transpose(0, 2, 1)
    ds = p * (dp - delta[..., None]) * scale
    size = p * (np.abs(grad) @ np.abs(wide_v).transpose(0, 2, 1) + np.abs(delta)[..., None]) * scale
    loss = 2 * epsilon(dtype) + (2 * t + 128) * 2 * epsilon(F32)
    if keys:
        launch(device, arch, backward_keys_kernel, (triton.cdiv(t, bn), heads), {**arguments, "dk": first, "dv": second}, constants, warps, 2)
        dk, dv = ds.transpose(0, 2, 1) @ wide_q, p.transpose(0, 2, 1) @ grad
        return [
            (first.wide(), dk, loss * (size.transpose(0, 2, 1) @ np.abs(wide_q))),
            (second.wide(), dv, loss * (p.transpose(0, 2, 1) @ np.abs(grad))),
        ]
    launch(device, arch, backward_queries_kernel, (triton.cdiv(t, bm), heads), {**arguments, "dq": first}, constants, warps, 2)
    return [(first.wide(), ds @ wide_k, loss * (size @ np.abs(wide_k)))]


@triton.jit
def decode_kernel(q, k, v, part, most_out, total_out, T, scale, SPLITS: tl.constexpr, BN: tl.constexpr, D: tl.constexpr):
    split, head, d = tl.program_id(0), tl.program_id(1), tl.arange(0, D)
    query = tl.load(q + head * D + d).to(tl.float32)
    most, total = -1e30, 0.0
    mixed = tl.zeros((D,), dtype=tl.float32)
    each = tl.cdiv(T, SPLITS)
    for first in range(split * each, min((split + 1) * each, T), BN):
        rows = first + tl.arange(0, BN)
        inside = rows < min((split + 1) * each, T)
        keys = tl.load(k + head * T * D + rows[:, None] * D + d[None, :], mask=inside[:, None], other=0.0).to(tl.float32)
        scores = tl.where(inside, tl.sum(keys * query[None, :], axis=1) * scale, -1e30)
        now = tl.maximum(most, tl.max(scores, axis=0))
        powers = tl.exp(scores - now)
        values = tl.load(v + head * T * D + rows[:, None] * D + d[None, :], mask=inside[:, None], other=0.0).to(tl.float32)
        mixed = mixed * tl.exp(most - now) + tl.sum(powers[:, None] * values, axis=0)
        total = total * tl.exp(most - now) + tl.sum(powers, axis=0)
        most = now
    tl.store(part + (head * SPLITS + split) * D + d, mixed)
    tl.store(most_out + head * SPLITS + split, most)
    tl.store(total_out + head * SPLITS + split, total)


@triton.jit
def combine_kernel(part, most_in, total_in, out, SPLITS: tl.constexpr, D: tl.constexpr):
    head, d, s = tl.program_id(0), tl.arange(0, D), tl.arange(0, SPLITS)
    mosts = tl.load(most_in + head * SPLITS + s)
    factors = tl.exp(mosts - tl.max(mosts, axis=0))
    total = tl.sum(factors * tl.load(total_in + head * SPLITS + s), axis=0)
    parts = tl.load(part + (head * SPLITS + s[:, None]) * D + d[None, :])
    tl.store(out + head * D + d, tl.sum(parts * factors[:, None], axis=0) / total)


@case("triton", "triton/attention/decode-split", 80, F16, 3, 200, 64, 4)
@case("triton", "triton/attention/decode-split-sm90", 90, bfloat16, 2, 333, 128, 8)
def decode(device, random, arch, dtype, heads, t, d, splits):
    q, k, v = random.standard_normal((heads, 1, d)).astype(dtype), *random.standard_normal((2, heads, t, d)).astype(dtype)
    part, most, total, out = device.zeros((heads, splits, d)), device.zeros((heads, splits)), device.zeros((heads, splits)), device.zeros((heads, d))
    arguments = {"q": device.upload(q), "k": device.upload(k), "v": device.upload(v), "part": part, "most_out": most, "total_out": total, "T": t, "scale": d**-0.5}
    launch(device, arch, decode_kernel, (splits, heads), arguments, {"SPLITS": splits, "BN": 32, "D": d})
    launch(device, arch, combine_kernel, heads, {"part": part, "most_in": most, "total_in": total, "out": out}, {"SPLITS": splits, "D": d})
    p, expected, _, wide = attention(q, k, v, False, d**-0.5)
    return [(out.wide(), expected[:, 0], ((t + 128) * 4 * epsilon(F32) * (p @ np.abs(wide)))[:, 0])]
