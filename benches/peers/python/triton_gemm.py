"""Products of matrices by Triton's compiler, as its tutorials have them: tiles in groups of rows; on Hopper through TMA."""

import numpy as np
import triton
import triton.language as tl
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier, tma, warpgroup_mma, warpgroup_mma_init, warpgroup_mma_wait

from cases import case
from triton_run import Descriptor, launch

F16 = np.float16


@triton.jit
def grouped_kernel(a, b, out, M, N, K, am, bk, om, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):
    down, across = tl.cdiv(M, BM), tl.cdiv(N, BN)
    group = tl.program_id(0) // (GROUP * across)
    size = min(down - group * GROUP, GROUP)
    within = tl.program_id(0) % (GROUP * across)
    row, column = group * GROUP + within % size, within // size
    rows, columns = (row * BM + tl.arange(0, BM)) % M, (column * BN + tl.arange(0, BN)) % N
    inner = tl.arange(0, BK)
    left, right = a + rows[:, None] * am + inner[None, :], b + inner[:, None] * bk + columns[None, :]
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, tl.cdiv(K, BK)):
        x = tl.load(left, mask=inner[None, :] < K - k * BK, other=0.0)
        y = tl.load(right, mask=inner[:, None] < K - k * BK, other=0.0)
        total = tl.dot(x, y, total)
        left += BK
        right += BK * bk
    rows, columns = row * BM + tl.arange(0, BM), column * BN + tl.arange(0, BN)
    tl.store(out + rows[:, None] * om + columns[None, :], total.to(tl.float16), mask=(rows[:, None] < M) & (columns[None, :] < N))


# Tiles, warps and stages among which tutorial 03 lets its autotuner choose, without the small ones.
TILES = [((128, 256, 64), 8, 3), ((128, 128, 32), 4, 4), ((64, 256, 32), 4, 4), ((128, 64, 32), 4, 4)]


@case("toy/matmul", 80, (256, 256, 128), TILES[-1:])
@case("triton/matmul/2048", 80, (2048, 2048, 2048), TILES)
@case("triton/matmul/3072", 80, (3072, 3072, 3072), TILES)
@case("triton/matmul/4096", 80, (4096, 4096, 4096), TILES)
@case("triton/matmul/model-m-up", 80, (16384, 4096, 1024), TILES)
def grouped(device, shape, tiles):
    m, n, k = shape
    a, b, out = device.allocate((m, k), F16), device.allocate((k, n), F16), device.allocate((m, n), F16)
    for (bm, bn, bk), warps, stages in tiles:
        arguments = {"a": a, "b": b, "out": out, "M": m, "N": n, "K": k, "am": k, "bk": n, "om": n}
        grid = triton.cdiv(m, bm) * triton.cdiv(n, bn)
        launch(device, device.arch, grouped_kernel, grid, arguments, {"BM": bm, "BN": bn, "BK": bk, "GROUP": 8}, warps, stages)
        yield f"{bm}x{bn}x{bk}, {warps} warps, {stages} stages"


@gluon.jit
def fill(a, b, row, column, k, at, bars, lefts, rights, STAGES: gl.constexpr):
    bar = bars.index(at % STAGES)
    mbarrier.expect(bar, a.block_type.nbytes + b.block_type.nbytes)
    tma.async_load(a, [row, k], bar, lefts.index(at % STAGES))
    tma.async_load(b, [k, column], bar, rights.index(at % STAGES))


@gluon.jit
def multiply(total, at, bars, lefts, rights, STAGES: gl.constexpr):
    mbarrier.wait(bars.index(at % STAGES), at // STAGES & 1)
    total = warpgroup_mma_wait(0, (total,))
    return warpgroup_mma(lefts.index(at % STAGES), rights.index(at % STAGES), total, is_async=True)


@gluon.jit
def pipelined_kernel(a, b, out, K, STAGES: gl.constexpr, WARPS: gl.constexpr):
    bm: gl.constexpr = out.block_type.shape[0]
    bn: gl.constexpr = out.block_type.shape[1]
    bk: gl.constexpr = a.block_type.shape[1]
    lefts = gl.allocate_shared_memory(a.dtype, [STAGES] + a.block_type.shape, a.layout)
    rights = gl.allocate_shared_memory(b.dtype, [STAGES] + b.block_type.shape, b.layout)
    bars = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(STAGES):
        mbarrier.init(bars.index(i), count=1)
    row, column = gl.program_id(0) * bm, gl.program_id(1) * bn
    layout: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[WARPS, 1], instr_shape=[16, bn, 16])
    total = warpgroup_mma_init(gl.zeros((bm, bn), gl.float32, layout))
    put = 0
    for k in gl.static_range(0, bk * (STAGES - 2), bk):
        fill(a, b, row, column, k, put, bars, lefts, rights, STAGES)
        put += 1
    got = 0
    for k in range(bk * (STAGES - 2), K, bk):
        fill(a, b, row, column, k, put, bars, lefts, rights, STAGES)
        total = multiply(total, got, bars, lefts, rights, STAGES)
        put += 1
        got += 1
    for _ in gl.static_range(STAGES - 2):
        total = multiply(total, got, bars, lefts, rights, STAGES)
        got += 1
    total = warpgroup_mma_wait(0, (total,))
    tile = gl.allocate_shared_memory(out.dtype, out.block_type.shape, out.layout)
    tile.store(total.to(out.dtype))
    fence_async_shared()
    tma.async_store(out, [row, column], tile)
    tma.store_wait(0)


@case("gluon/pipelined/512", 90, (8192, 8192, 512))
@case("gluon/pipelined/1024", 90, (8192, 8192, 1024))
@case("gluon/pipelined/2048", 90, (8192, 8192, 2048))
@case("gluon/pipelined/8192", 90, (8192, 8192, 8192))
@case("gluon/pipelined/16384", 90, (8192, 8192, 16384))
@case("gluon/pipelined/model-m-up", 90, (16384, 4096, 1024))
def pipelined(device, shape):
    m, n, k = shape
    a, b, out = device.allocate((m, k), F16), device.allocate((k, n), F16), device.allocate((m, n), F16)
    tiles = {"a": (a, [128, 64]), "b": (b, [64, 256]), "out": (out, [128, 256])}
    maps = {name: Descriptor(x, tile, gl.NVMMASharedLayout.get_default_for(tile, gl.float16)) for name, (x, tile) in tiles.items()}
    launch(device, 90, pipelined_kernel, (m // 128, n // 256), {**maps, "K": k}, {"STAGES": 3, "WARPS": 8}, 8)
    yield "128x256x64, 8 warps, 3 stages"
