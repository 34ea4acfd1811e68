"""Cooperative groups and libcu++."""

import numpy as np

from corpus import case, epsilon, sum_bound, ulps
from cub import call

I32, F32, F64 = np.int32, np.float32, np.float64
CG, CXX = "cooperative.cu", "libcudacxx.cu"


@case("cooperative groups", "cg/tiles-4", "tiles_4", 4, I32, 500, file=CG)
@case("cooperative groups", "cg/tiles-16", "tiles_16", 16, F32, 320, file=CG)
@case("cooperative groups", "cg/tiles-32", "tiles_32", 32, F64, 300, file=CG)
def tiles(device, random, name, lanes, dtype, n):
    x = (random.standard_normal(n) * 100).astype(dtype)
    count = -(-n // lanes)
    sums, scanned, most = device.allocate(count, dtype), device.allocate(n, dtype), device.allocate(count, dtype)
    call(device, name, device.upload(x), sums, scanned, most, n)
    wide = np.zeros((count, lanes), I32 if dtype is I32 else F64)
    wide.reshape(-1)[:n] = x
    before = (np.cumsum(wide, 1) - wide).reshape(-1)[:n]
    if dtype is I32:
        return [(sums.read(), wide.sum(1).astype(I32), 0), (scanned.read(), before.astype(I32), 0), (most.read(), wide.max(1), 0)]
    size = np.abs(wide).sum(1)
    return [(sums.wide(), wide.sum(1), sum_bound(lanes, size, dtype)), (scanned.wide(), before, sum_bound(lanes, np.repeat(size, lanes)[:n], dtype)), (most.wide(), wide.max(1), 0.0)]


@case("cooperative groups", "cg/labelled-partition", file=CG)
def labelled(device, random):
    keys = random.integers(0, 6, 777).astype(I32)
    counts = device.zeros(6, I32)
    call(device, "labelled", device.upload(keys), counts, len(keys))
    return [(counts.read(), np.bincount(keys, minlength=6).astype(I32), 0)]


@case("cooperative groups", "cg/binary-partition", file=CG)
def binary(device, random):
    x = random.integers(0, 1000, 6 * 32).astype(I32)
    out = device.allocate(len(x), I32)
    call(device, "binary", device.upload(x), out, 3)
    expected = np.concatenate([np.concatenate([warp[warp % 2 == 0], warp[warp % 2 == 1]]) for warp in x.reshape(-1, 32)])
    return [(out.read(), expected, 0)]


@case("cooperative groups", "cg/grid-sync", file=CG)
def grid(device, random):
    x = random.standard_normal(700).astype(F32)
    a, b = device.upload(x), device.zeros(len(x))
    call(device, "grid", a, b, len(x), 5)
    wide = x.astype(F64)
    for _ in range(5):
        wide = 0.25 * np.roll(wide, 1) + 0.5 * wide + 0.25 * np.roll(wide, -1)
    return [(b.wide(), wide, sum_bound(20, np.abs(x).max()))]


@case("cooperative groups", "cg/cluster-histogram", file=CG)
def cluster_histogram(device, random):
    x = random.integers(0, 256, 3000).astype(I32)
    counts = device.zeros(256, I32)
    call(device, "cluster_histogram", device.upload(x), counts, len(x), 256)
    return [(counts.read(), np.bincount(x, minlength=256).astype(I32), 0)]


@case("cooperative groups", "cg/cluster-ring", file=CG)
def ring(device, random):
    x = random.integers(-1000, 1000, (2, 2, 128)).astype(I32)
    out = device.allocate(x.shape, I32)
    call(device, "ring", device.upload(x), out, 4)
    return [(out.read(), x + 2 * x[:, ::-1], 0)]


@case("cooperative groups", "cg/memcpy-async", file=CG)
def copies(device, random):
    x = random.standard_normal((5, 256)).astype(F32)
    out = device.allocate(x.shape, F32)
    call(device, "copies", device.upload(x), out, 5)
    return [(out.read(), x[:, ::-1], 0.0)]


@case("libcu++", "libcu++/barrier-handover", file=CXX)
def handover(device, random):
    x = random.integers(-1000, 1000, (7, 64)).astype(I32)
    out = device.allocate(x.shape, I32)
    call(device, "handover", device.upload(x), out, 7)
    # Thread t of the consumers reads place 63 - t.
    return [(out.read(), 3 * x[:, ::-1], 0)]


@case("libcu++", "libcu++/pipeline-2", "pipeline_2", 5, file=CXX)
@case("libcu++", "libcu++/pipeline-4", "pipeline_4", 9, file=CXX)
def pipelines(device, random, name, tiles):
    x = random.standard_normal((tiles, 128)).astype(F32)
    out = device.allocate(x.shape, F32)
    call(device, name, device.upload(x), out, tiles)
    return [(out.read(), x + x[:, ::-1], 0.0)]


@case("libcu++", "libcu++/pipeline-roles", file=CXX)
def roles(device, random):
    x = random.standard_normal((6, 64)).astype(F32)
    out = device.allocate(x.shape, F32)
    call(device, "roles", device.upload(x), out, 6)
    return [(out.read(), 2 * x[:, ::-1], 0.0)]


@case("libcu++", "libcu++/atomic-ref", file=CXX)
def atomics(device, random):
    x = random.integers(-500, 500, 600).astype(I32)
    out, total, bits = device.upload(np.array([0, -(2**31), 1], I32)), device.zeros(1, F64), device.zeros(1, np.uint64)
    call(device, "atomics", device.upload(x), out, total, bits, len(x))
    product = 1
    for value in x.tolist():
        product = product * (2 * value + 1) % 2**32
    mixed = np.bitwise_xor.reduce(np.arange(600, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    expected = np.array([x.sum(), x.max(), np.uint32(product).view(I32)], I32)
    # Halves of small integers are exact in f64.
    return [(out.read(), expected, 0), (total.read(), np.array([0.5 * x.sum()]), 0.0), (bits.read(), np.array([mixed]), 0)]


@case("libcu++", "libcu++/acquire-release-chain", file=CXX)
def chain(device, random):
    x = random.integers(-1000, 1000, (6, 64)).astype(I32)
    out, flags = device.zeros(6, I32), device.zeros(6, I32)
    call(device, "chain", device.upload(x), out, flags, 6)
    return [(out.read(), np.cumsum(x.sum(1)).astype(I32), 0)]


@case("libcu++", "libcu++/semaphore", file=CXX)
def semaphore(device, random):
    x = random.integers(-1000, 1000, 8).astype(I32)
    out = device.zeros(1, I32)
    call(device, "semaphore", out, device.upload(x))
    return [(out.read(), np.array([x.sum()], I32), 0)]


@case("libcu++", "libcu++/latch", file=CXX)
def latch(device, random):
    x = random.integers(-1000, 1000, 128).astype(I32)
    out = device.allocate(128, I32)
    call(device, "latch", device.upload(x), out)
    return [(out.read(), np.roll(x, -37), 0)]


@case("libcu++", "libcu++/bulk-copies", file=CXX)
def bulk(device, random):
    x = random.standard_normal((3, 256)).astype(F32)
    out = device.allocate(x.shape, F32)
    call(device, "bulk", device.upload(x), out, 3)
    expected = 2 * x.astype(F64) + 1
    return [(out.wide(), expected, 2 * epsilon(F32) * (np.abs(expected) + 1))]


@case("libcu++", "libcu++/complex", file=CXX)
def complex_numbers(device, random):
    x = random.standard_normal((300, 2)).astype(F32)
    out = device.allocate(x.shape, F32)
    call(device, "complex_numbers", device.upload(x), out, 300)
    z = x[:, 0].astype(F64) + 1j * x[:, 1]
    w = z * z / (z + (3 + 1j))
    size = np.abs(z) ** 2 / np.abs(z + (3 + 1j))
    return [(out.wide(), np.stack([w.real, w.imag], 1), (32 * epsilon(F32) * size)[:, None])]
