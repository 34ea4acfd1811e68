"""CUB: algorithms over the whole device, with their own dispatch, and over blocks and warps."""

import ctypes

import numpy as np

from corpus import case, sum_bound
from device import Buffer


def call(device, name, *arguments):
    """Runs a function of the case's program: buffers as pointers, integers as they are."""
    values = [ctypes.c_void_p(a.address.value) if isinstance(a, Buffer) else ctypes.c_int(a) for a in arguments]
    code = getattr(device.program, name)(*values)
    if code != 0:
        raise RuntimeError(f"{name} returned {code}")


I32, I64, F32, F64 = np.int32, np.int64, np.float32, np.float64


@case("cub", "cub/device/sum-f32", "reduce_sum", F32, 5000, file="cub_reduce.cu")
@case("cub", "cub/device/sum-f64", "reduce_sum_f64", F64, 700, file="cub_reduce.cu")
def device_sum(device, random, name, dtype, n):
    x = random.standard_normal(n).astype(dtype)
    out = device.allocate(1, dtype)
    call(device, name, device.upload(x), out, n)
    wide = x.astype(F64)
    return [(out.wide(), np.array([wide.sum()]), sum_bound(n, np.abs(wide).sum(), dtype))]


@case("cub", "cub/device/transform-reduce", file="cub_reduce.cu")
def transform_reduce(device, random):
    x = random.standard_normal(3000).astype(F32)
    out = device.allocate(1, F64)
    call(device, "transform_reduce", device.upload(x), out, len(x))
    total = (x.astype(F64) ** 2).sum()
    return [(out.read(), np.array([total]), sum_bound(len(x), total, F64))]


@case("cub", "cub/device/reduce-max", file="cub_reduce.cu")
def reduce_max(device, random):
    x = random.integers(-(2**31), 2**31, 9001).astype(I32)
    out = device.allocate(1, I32)
    call(device, "reduce_custom", device.upload(x), out, len(x))
    return [(out.read(), x.max(keepdims=True), 0)]


@case("cub", "cub/device/reduce-by-key", file="cub_reduce.cu")
def reduce_by_key(device, random):
    keys = np.repeat(random.integers(0, 50, 400), random.integers(1, 12, 400)).astype(I32)
    values = random.standard_normal(len(keys)).astype(F32)
    unique, sums, runs = device.allocate(len(keys), I32), device.allocate(len(keys), F32), device.allocate(1, I32)
    call(device, "reduce_by_key", device.upload(keys), unique, device.upload(values), sums, runs, len(keys))
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    count = len(starts)
    expected = np.add.reduceat(values.astype(F64), starts)
    sizes = np.add.reduceat(np.abs(values.astype(F64)), starts)
    return [
        (runs.read(), np.array([count], I32), 0),
        (Buffer(device, unique.address, I32, count).read(), keys[starts], 0),
        (Buffer(device, sums.address, F32, count).wide(), expected, sum_bound(64, sizes)),
    ]


@case("cub", "cub/device/segmented-sum", file="cub_reduce.cu")
def segmented_sum(device, random):
    lengths = random.integers(0, 300, 30)
    lengths[3] = 0
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(I32)
    x = random.integers(-(2**31), 2**31, offsets[-1]).astype(I32)
    out = device.allocate(30, I64)
    call(device, "segmented_sum", device.upload(x), out, 30, device.upload(offsets))
    return [(out.read(), np.array([x[a:b].astype(I64).sum() for a, b in zip(offsets, offsets[1:])]), 0)]


@case("cub", "cub/device/exclusive-sum", "exclusive_sum", I32, 7000, file="cub_reduce.cu")
@case("cub", "cub/device/inclusive-max", "inclusive_max", F32, 4321, file="cub_reduce.cu")
@case("cub", "cub/device/differences", "differences", I32, 2345, file="cub_reduce.cu")
def scans(device, random, name, dtype, n):
    x = (random.standard_normal(n) * 1000).astype(dtype)
    out = device.allocate(n, dtype)
    call(device, name, device.upload(x), out, n)
    expected = {
        "exclusive_sum": lambda: np.concatenate([[0], np.cumsum(x)[:-1]]),
        "inclusive_max": lambda: np.maximum.accumulate(x),
        "differences": lambda: np.concatenate([x[:1], np.diff(x)]),
    }[name]()
    return [(out.read(), expected.astype(dtype), 0)]


@case("cub", "cub/device/scan-by-key", file="cub_reduce.cu")
def scan_by_key(device, random):
    keys = np.repeat(random.integers(0, 9, 200), random.integers(1, 30, 200)).astype(I32)
    x = random.integers(-(2**40), 2**40, len(keys)).astype(I64)
    out = device.allocate(len(keys), I64)
    call(device, "scan_by_key", device.upload(keys), device.upload(x), out, len(keys))
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return [(out.read(), np.concatenate([np.cumsum(part) for part in np.split(x, starts[1:])]), 0)]


@case("cub", "cub/device/radix-keys", 6000, file="cub_sort.cu")
def radix_keys(device, random, n):
    x = random.integers(0, 2**32, n).astype(np.uint32)
    out = device.allocate(n, np.uint32)
    call(device, "radix_keys", device.upload(x), out, n)
    return [(out.read(), np.sort(x), 0)]


@case("cub", "cub/device/radix-pairs-descending", 3000, file="cub_sort.cu")
def radix_pairs(device, random, n):
    keys, values = np.round(random.standard_normal(n), 1).astype(F32) + 0, np.arange(n).astype(I32)
    keys[keys == 0] = 0
    out, sorted_values = device.allocate(n, F32), device.allocate(n, I32)
    call(device, "radix_pairs", device.upload(keys), out, device.upload(values), sorted_values, n)
    order = np.argsort(-keys, kind="stable")
    return [(out.read(), keys[order], 0), (sorted_values.read(), values[order], 0)]


@case("cub", "cub/device/merge-pairs", 4100, file="cub_sort.cu")
def merge_pairs(device, random, n):
    keys, values = random.integers(-99, 99, n).astype(I64), np.arange(n).astype(I32)
    key_buffer, value_buffer = device.upload(keys), device.upload(values)
    call(device, "merge_pairs", key_buffer, value_buffer, n)
    order = np.argsort(keys, kind="stable")
    return [(key_buffer.read(), keys[order], 0), (value_buffer.read(), values[order], 0)]


@case("cub", "cub/device/segmented-sort", file="cub_sort.cu")
def segmented_sort(device, random):
    offsets = np.concatenate([[0], np.cumsum(random.integers(1, 200, 20)), [0]]).astype(I32)
    offsets[-1] = offsets[-2] + 1500
    x = random.integers(-(2**31), 2**31, offsets[-1]).astype(I32)
    out = device.allocate(len(x), I32)
    call(device, "segmented_sort", device.upload(x), out, len(x), 21, device.upload(offsets))
    return [(out.read(), np.concatenate([np.sort(x[a:b]) for a, b in zip(offsets, offsets[1:])]), 0)]


def first(device, buffer, count):
    """The first elements of a result of unknown length."""
    return Buffer(device, buffer.address, buffer.dtype, count).read()


@case("cub", "cub/device/select-if", 5000, file="cub_select.cu")
def select_if(device, random, n):
    x = random.integers(-1000, 1000, n).astype(I32)
    out, count = device.allocate(n, I32), device.allocate(1, I32)
    call(device, "select_if", device.upload(x), out, count, n, 250)
    kept = x[x > 250]
    return [(count.read(), np.array([len(kept)], I32), 0), (first(device, out, len(kept)), kept, 0)]


@case("cub", "cub/device/select-flagged", 2222, file="cub_select.cu")
def select_flagged(device, random, n):
    x, flags = random.standard_normal(n), random.integers(0, 2, n).astype(np.int8)
    out, count = device.allocate(n, F64), device.allocate(1, I32)
    call(device, "select_flagged", device.upload(x), device.upload(flags), out, count, n)
    kept = x[flags != 0]
    return [(count.read(), np.array([len(kept)], I32), 0), (first(device, out, len(kept)), kept, 0)]


@case("cub", "cub/device/select-unique", 3100, file="cub_select.cu")
def select_unique(device, random, n):
    x = np.sort(random.integers(0, 300, n)).astype(np.int16)
    out, count = device.allocate(n, np.int16), device.allocate(1, I32)
    call(device, "select_unique", device.upload(x), out, count, n)
    kept = np.unique(x)
    return [(count.read(), np.array([len(kept)], I32), 0), (first(device, out, len(kept)), kept, 0)]


@case("cub", "cub/device/partition", 4444, file="cub_select.cu")
def partition(device, random, n):
    x = random.integers(-1000, 1000, n).astype(I32)
    out, count = device.allocate(n, I32), device.allocate(1, I32)
    call(device, "partition_if", device.upload(x), out, count, n, -100)
    # Those left out follow from the end.
    chosen = x > -100
    return [(count.read(), np.array([chosen.sum()], I32), 0), (out.read(), np.concatenate([x[chosen], x[~chosen][::-1]]), 0)]


@case("cub", "cub/device/run-lengths", file="cub_select.cu")
def run_lengths(device, random):
    lengths = random.integers(1, 9, 700)
    values = np.cumsum(random.integers(1, 5, 700)).astype(I32)
    x = np.repeat(values, lengths)
    unique, counts, runs = device.allocate(len(x), I32), device.allocate(len(x), I32), device.allocate(1, I32)
    call(device, "run_lengths", device.upload(x), unique, counts, runs, len(x))
    return [(runs.read(), np.array([700], I32), 0), (first(device, unique, 700), values, 0), (first(device, counts, 700), lengths.astype(I32), 0)]


@case("cub", "cub/device/histogram-even", 3000, file="cub_select.cu")
def histogram_even(device, random, n):
    x = random.uniform(-1, 17, n).astype(F32)
    bins = device.zeros(32, I32)
    call(device, "histogram_even", device.upload(x), bins, 33, n)
    inside = x[(x >= 0) & (x < 16)]
    return [(bins.read(), np.bincount((inside * 2).astype(int), minlength=32).astype(I32), 0)]


@case("cub", "cub/device/histogram-pixels", 1500, file="cub_select.cu")
def histogram_pixels(device, random, n):
    x = random.integers(0, 256, (n, 4)).astype(np.uint8)
    bins = [device.zeros(256, I32) for _ in range(3)]
    call(device, "histogram_pixels", device.upload(x), *bins, n)
    return [(one.read(), np.bincount(x[:, channel], minlength=256).astype(I32), 0) for channel, one in enumerate(bins)]


@case("cub", "cub/block/reduce-warps", "reduce_warps", F32, 500, 96, file="cub_block.cu")
@case("cub", "cub/block/reduce-raking", "reduce_raking", I64, 1000, 256, file="cub_block.cu")
@case("cub", "cub/block/reduce-commutative", "reduce_commutative", F64, 777, 128, file="cub_block.cu")
def block_reduce(device, random, name, dtype, n, threads):
    x = (random.standard_normal(n) * 100).astype(dtype)
    blocks = -(-n // threads)
    out = device.allocate(blocks, dtype)
    call(device, name, device.upload(x), out, n)
    wide = np.pad(x.astype(I64 if dtype is I64 else F64), (0, blocks * threads - n)).reshape(blocks, threads)
    if dtype is I64:
        return [(out.read(), wide.sum(1), 0)]
    return [(out.wide(), wide.sum(1), sum_bound(threads, np.abs(wide).sum(1), dtype))]


@case("cub", "cub/block/load-scan-exchange", 3, file="cub_block.cu")
def exchange(device, random, blocks):
    x = random.integers(-1000, 1000, (blocks, 64 * 5)).astype(I32)
    striped, scanned = device.allocate(x.shape, I32), device.allocate(x.shape, I32)
    call(device, "exchange", device.upload(x), striped, scanned, blocks)
    return [(scanned.read(), np.cumsum(x, 1).astype(I32), 0), (striped.read(), x.reshape(blocks, 5, 64).transpose(0, 2, 1).reshape(blocks, -1), 0)]


@case("cub", "cub/block/radix-bits", 2, 5, 37, file="cub_block.cu")
def block_radix(device, random, blocks, low, high):
    x = random.integers(0, 2**63, (blocks, 128 * 5)).astype(np.uint64)
    out = device.allocate(x.shape, np.uint64)
    call(device, "radix", device.upload(x), out, blocks, low, high)
    part = x >> np.uint64(low) & np.uint64(2 ** (high - low) - 1)
    # Descending and stable: the complement ascends.
    order = np.argsort(~part, 1, kind="stable")
    return [(out.read(), np.take_along_axis(x, order, 1), 0)]


@case("cub", "cub/block/heads", 3, file="cub_block.cu")
def heads(device, random, blocks):
    x = random.integers(0, 3, (blocks, 96 * 5)).astype(I32)
    flags, ranks = device.allocate(x.shape, I32), device.allocate(x.shape, I32)
    call(device, "heads", device.upload(x), flags, ranks, blocks)
    expected = np.ones_like(x)
    expected[:, 1:] = x[:, 1:] != x[:, :-1]
    return [(flags.read(), expected, 0), (ranks.read(), (np.cumsum(expected, 1) - expected).astype(I32), 0)]


@case("cub", "cub/warp/reduce-scan-8", "warps_8", 8, 3, file="cub_block.cu")
@case("cub", "cub/warp/reduce-scan-32", "warps_32", 32, 2, file="cub_block.cu")
def warps(device, random, name, lanes, blocks):
    x = random.standard_normal((blocks * 128 // lanes, lanes)).astype(F32)
    sums, scanned = device.allocate(len(x), F32), device.allocate(x.shape, F32)
    call(device, name, device.upload(x), sums, scanned, blocks)
    wide, size = x.astype(F64), np.abs(x.astype(F64)).sum(1)
    before = np.cumsum(wide, 1) - wide
    return [(sums.wide(), wide.sum(1), sum_bound(lanes, size)), (scanned.wide(), before, sum_bound(lanes, size[:, None]))]


@case("cub", "cub/warp/merge-sort", 3, file="cub_block.cu")
def warp_sort(device, random, blocks):
    x = random.integers(-(2**31), 2**31, (blocks * 4, 16 * 5)).astype(I32)
    buffer = device.upload(x)
    call(device, "warp_sort", buffer, blocks)
    return [(buffer.read(), np.sort(x, 1), 0)]
