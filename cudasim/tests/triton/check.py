"""Kernels in Triton, compiled without a GPU, run on the simulator and compared with NumPy.

Triton writes PTX quite unlike nvcc's, so that agreement says that the simulator's semantics are not merely our reading of
what nvcc happens to emit. The library is opened by its path through ctypes, as any language can.

    python3 check.py .../libcudasim.so        prints one line for each case; exit code 1 where one differs
"""

import ctypes
import sys

import numpy as np
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget


@triton.jit
def add(x, y, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    tl.store(out + at, tl.load(x + at, mask=inside) + tl.load(y + at, mask=inside), mask=inside)


@triton.jit
def softmax(x, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    values = tl.load(x + row * columns + at, mask=at < columns, other=-float("inf"))
    powers = tl.exp(values - tl.max(values, axis=0))
    tl.store(out + row * columns + at, powers / tl.sum(powers, axis=0), mask=at < columns)


@triton.jit
def layernorm(x, gain, out, columns, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    values = tl.load(x + row * columns + at, mask=inside, other=0.0)
    mean = tl.sum(values, axis=0) / columns
    centred = tl.where(inside, values - mean, 0.0)
    scale = 1 / tl.sqrt(tl.sum(centred * centred, axis=0) / columns + eps)
    tl.store(out + row * columns + at, centred * scale * tl.load(gain + at, mask=inside), mask=inside)


@triton.jit
def scan(x, out, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.cumsum(tl.load(x + at), axis=0))


@triton.jit
def sort(x, out, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.sort(tl.load(x + at)))


@triton.jit
def histogram(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    tl.atomic_add(out + tl.load(x + at, mask=inside, other=0), 1, mask=inside)


@triton.jit
def matmul(a, b, out, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, K, BK):
        left = tl.load(a + rows[:, None] * K + (k + inner)[None, :], mask=(rows[:, None] < M) & ((k + inner)[None, :] < K), other=0.0)
        right = tl.load(b + (k + inner)[:, None] * N + columns[None, :], mask=((k + inner)[:, None] < K) & (columns[None, :] < N), other=0.0)
        total = tl.dot(left, right, total)
    tl.store(out + rows[:, None] * N + columns[None, :], total, mask=(rows[:, None] < M) & (columns[None, :] < N))


@triton.jit
def attention(q, k, v, out, tokens, scale, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    d = tl.arange(0, D)
    queries = tl.load(q + rows[:, None] * D + d[None, :], mask=rows[:, None] < tokens, other=0.0)
    most = tl.full((BM,), -1e30, dtype=tl.float32)
    total = tl.zeros((BM,), dtype=tl.float32)
    mixed = tl.zeros((BM, D), dtype=tl.float32)
    for first in range(0, (tl.program_id(0) + 1) * BM, BN):
        columns = first + tl.arange(0, BN)
        keys = tl.load(k + columns[None, :] * D + d[:, None], mask=columns[None, :] < tokens, other=0.0)
        scores = tl.dot(queries, keys) * scale
        scores = tl.where((columns[None, :] <= rows[:, None]) & (columns[None, :] < tokens), scores, -1e30)
        now = tl.maximum(most, tl.max(scores, axis=1))
        powers = tl.exp(scores - now[:, None])
        rescale = tl.exp(most - now)
        total = total * rescale + tl.sum(powers, axis=1)
        values = tl.load(v + columns[:, None] * D + d[None, :], mask=columns[:, None] < tokens, other=0.0)
        mixed = mixed * rescale[:, None] + tl.dot(powers.to(values.dtype), values)
        most = now
    tl.store(out + rows[:, None] * D + d[None, :], mixed / total[:, None], mask=rows[:, None] < tokens)


class Device:
    """The driver API of one library, as far as these cases need it."""

    def __init__(self, path):
        self.cu = ctypes.CDLL(path)
        self("cuInit", 0)
        context = ctypes.c_void_p()
        self("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        self("cuCtxSetCurrent", context)

    def __call__(self, name, *arguments):
        code = getattr(self.cu, name)(*arguments)
        if code != 0:
            raise RuntimeError(f"{name}: error {code}")

    def upload(self, array):
        array = np.ascontiguousarray(array)
        address = ctypes.c_uint64()
        self("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(array.nbytes, 1)))
        self("cuMemcpyHtoD_v2", address, array.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(array.nbytes))
        return address

    def download(self, address, like):
        array = np.empty_like(like)
        self("cuMemcpyDtoH_v2", array.ctypes.data_as(ctypes.c_void_p), address, ctypes.c_size_t(array.nbytes))
        return array

    def run(self, kernel, grid, arguments):
        """Launches a compiled kernel; `arguments` are ctypes values."""
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        text = kernel.asm["ptx"].encode() + b"\0"
        self("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(text))
        self("cuModuleGetFunction", ctypes.byref(function), module, kernel.metadata.name.encode())
        shared = kernel.metadata.shared
        if shared > 48 << 10:
            self("cuFuncSetAttribute", function, 8, shared)  # MAX_DYNAMIC_SHARED_SIZE_BYTES
        # Behind the kernel's own parameters Triton has two pointers to scratch memory, which these cases do not use.
        arguments = [*arguments, ctypes.c_uint64(0), ctypes.c_uint64(0)]
        pointers = (ctypes.c_void_p * len(arguments))(*[ctypes.cast(ctypes.pointer(a), ctypes.c_void_p) for a in arguments])
        threads = 32 * kernel.metadata.num_warps
        self("cuLaunchKernel", function, *grid, threads, 1, 1, shared, None, pointers, None)
        self("cuCtxSynchronize")
        self("cuModuleUnload", module)


def compiled(kernel, signature, constants, arch, warps=4, stages=3):
    """`signature`: names and Triton's types of the parameters that are not constants."""
    names = [parameter.name for parameter in kernel.params]
    signature = {name: signature.get(name, "constexpr") for name in names}
    constants = {(names.index(name),): value for name, value in constants.items()}
    source = triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs=constants)
    target = GPUTarget("cuda", arch, 32)
    return triton.compile(source, target=target, options={"num_warps": warps, "num_stages": stages, "ptx_version": 88})


def to_bf16(x):
    """The bits of the nearest bf16, ties to even."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(x):
    return (x.astype(np.uint32) << 16).view(np.float32)


I32, F32 = ctypes.c_int32, ctypes.c_float
random = np.random.default_rng(7)


def case_add(device, arch):
    n = 1000
    x, y = random.standard_normal((2, n), dtype=np.float32)
    out = device.upload(np.zeros_like(x))
    kernel = compiled(add, {"x": "*fp32", "y": "*fp32", "out": "*fp32", "n": "i32"}, {"BLOCK": 256}, arch)
    device.run(kernel, (4, 1, 1), [device.upload(x), device.upload(y), out, I32(n)])
    return device.download(out, x), x + y, 0.0


def case_softmax(device, arch):
    x = random.standard_normal((5, 300), dtype=np.float32) * 4
    out = device.upload(np.zeros_like(x))
    kernel = compiled(softmax, {"x": "*fp32", "out": "*fp32", "columns": "i32"}, {"BLOCK": 512}, arch)
    device.run(kernel, (5, 1, 1), [device.upload(x), out, I32(300)])
    powers = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    return device.download(out, x), powers / powers.sum(axis=1, keepdims=True), 1e-6


def case_layernorm(device, arch):
    x = random.standard_normal((3, 200), dtype=np.float32) + 0.5
    gain = random.standard_normal(200, dtype=np.float32)
    out = device.upload(np.zeros_like(x))
    signature = {"x": "*fp32", "gain": "*fp32", "out": "*fp32", "columns": "i32", "eps": "fp32"}
    kernel = compiled(layernorm, signature, {"BLOCK": 256}, arch)
    device.run(kernel, (3, 1, 1), [device.upload(x), device.upload(gain), out, I32(200), F32(1e-5)])
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5) * gain
    return device.download(out, x), expected, 1e-5


def case_scan(device, arch):
    x = random.integers(-100, 100, (3, 256), dtype=np.int32)
    out = device.upload(np.zeros_like(x))
    kernel = compiled(scan, {"x": "*i32", "out": "*i32"}, {"BLOCK": 256}, arch)
    device.run(kernel, (3, 1, 1), [device.upload(x), out])
    return device.download(out, x), x.cumsum(axis=1), 0.0


def case_sort(device, arch):
    x = random.integers(-1000, 1000, (2, 128), dtype=np.int32)
    out = device.upload(np.zeros_like(x))
    kernel = compiled(sort, {"x": "*i32", "out": "*i32"}, {"BLOCK": 128}, arch)
    device.run(kernel, (2, 1, 1), [device.upload(x), out])
    return device.download(out, x), np.sort(x, axis=1), 0.0


def case_histogram(device, arch):
    n = 900
    x = random.integers(0, 20, n, dtype=np.int32)
    out = device.upload(np.zeros(20, dtype=np.int32))
    kernel = compiled(histogram, {"x": "*i32", "out": "*i32", "n": "i32"}, {"BLOCK": 256}, arch)
    device.run(kernel, (4, 1, 1), [device.upload(x), out, I32(n)])
    return device.download(out, np.zeros(20, dtype=np.int32)), np.bincount(x, minlength=20), 0.0


def product(device, arch, kind):
    m, n, k = 100, 70, 90
    a, b = random.standard_normal((m, k), dtype=np.float32), random.standard_normal((k, n), dtype=np.float32)
    out = device.upload(np.zeros((m, n), dtype=np.float32))
    store = {"bf16": to_bf16, "fp16": lambda x: x.astype(np.float16), "fp32": lambda x: x}[kind]
    load = {"bf16": from_bf16, "fp16": lambda x: x.astype(np.float32), "fp32": lambda x: x}[kind]
    a, b = store(a), store(b)
    signature = {"a": f"*{kind}", "b": f"*{kind}", "out": "*fp32", "M": "i32", "N": "i32", "K": "i32"}
    kernel = compiled(matmul, signature, {"BM": 64, "BN": 32, "BK": 32}, arch)
    device.run(kernel, (2, 3, 1), [device.upload(a), device.upload(b), out, I32(m), I32(n), I32(k)])
    expected = load(a).astype(np.float64) @ load(b).astype(np.float64)
    # Operands of fp32 products are cut to tf32: 11 bits.
    return device.download(out, np.zeros((m, n), dtype=np.float32)), expected, 2e-2 if kind == "fp32" else 1e-5


def case_matmul_bf16(device, arch):
    return product(device, arch, "bf16")


def case_matmul_fp16(device, arch):
    return product(device, arch, "fp16")


def case_matmul_tf32(device, arch):
    return product(device, arch, "fp32")


def case_attention(device, arch):
    tokens, d = 100, 32
    q, k, v = random.standard_normal((3, tokens, d), dtype=np.float32).astype(np.float16)
    out = device.upload(np.zeros((tokens, d), dtype=np.float32))
    signature = {"q": "*fp16", "k": "*fp16", "v": "*fp16", "out": "*fp32", "tokens": "i32", "scale": "fp32"}
    kernel = compiled(attention, signature, {"BM": 64, "BN": 32, "D": d}, arch)
    arguments = [device.upload(q), device.upload(k), device.upload(v), out, I32(tokens), F32(d**-0.5)]
    device.run(kernel, (2, 1, 1), arguments)
    scores = q.astype(np.float64) @ k.astype(np.float64).T * d**-0.5
    scores[np.triu_indices(tokens, 1)] = -np.inf
    powers = np.exp(scores - scores.max(1, keepdims=True))
    expected = powers / powers.sum(1, keepdims=True) @ v.astype(np.float64)
    return device.download(out, np.zeros((tokens, d), dtype=np.float32)), expected, 2e-3


def main():
    device = Device(sys.argv[1])
    failed = 0
    cases = {name[5:]: case for name, case in globals().items() if name.startswith("case_")}
    for arch in (80, 90):
        for name, case in cases.items():
            actual, expected, tolerance = case(device, arch)
            error = np.abs(actual.astype(np.float64) - expected).max()
            good = error <= tolerance * max(1.0, np.abs(expected).max())
            failed += not good
            print(f"{'ok' if good else 'FAILED'}: {name} for sm_{arch}: largest error {error:.2e}", flush=True)
    print(f"{2 * len(cases) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
