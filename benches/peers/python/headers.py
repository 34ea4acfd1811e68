"""Kernels that are headers of C++: CUTLASS's GEMMs and FlashAttention-2, with their own host code, compiled to PTX and machine code."""

import ctypes
import hashlib
import json
import os
import subprocess
from pathlib import Path

import numpy as np

import native
from cases import case

HERE = Path(__file__).resolve().parent
F16, F32 = np.float16, np.float32


class Programs(native.Programs):
    """Files of this folder's `cuda`, with machine code beside the PTX."""

    def __init__(self, arguments, arch):
        super().__init__(arguments, arguments.cache)
        self.arch, self.flash = arch, arguments.flash

    def command(self, file):
        source = HERE.parent / "cuda" / file
        cutlass = "cutlass" in file
        target = "90a" if cutlass else str(self.arch)
        flags = [*native.FLAGS, f"-gencode=arch=compute_{target},code=[sm_{target},compute_{target}]", "--compress-mode=none"]
        if cutlass:
            headers = self.cutlass_headers()
            flags += [f"-I{native.HERE / 'cuda'}", f"-I{headers}", f"-I{headers.parent / 'tools/util/include'}"]
            flags += ["-DCUTLASS_ENABLE_DIRECT_CUDA_DRIVER_CALL=1"]
        else:
            headers = Path(self.flash)
            flags += [f"-I{HERE.parent / 'cuda/torch'}", f"-I{headers / 'csrc/flash_attn/src'}", f"-I{headers / 'csrc/cutlass/include'}"]
        return [self.nvcc, *flags, str(source)]

    def output(self, file):
        text = str(self.command(file)) + (HERE.parent / "cuda" / file).read_text()
        return self.folder / f"{Path(file).stem}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.so"


def program(arguments, file, arch):
    """The program of a file, compiled and loaded."""
    programs = Programs(arguments, arch)
    programs.runtime()
    failure = programs.compile(file)
    if failure:
        raise RuntimeError(failure)
    return programs.load(file)


def recorded(device, call):
    """What a call of a program launches."""
    path = device.folder / f"launches-{os.getpid()}"
    path.unlink(missing_ok=True)
    os.environ["PEERS_RECORD"] = str(path)
    code = call()
    del os.environ["PEERS_RECORD"]
    if code != 0:
        raise RuntimeError(f"the program returned {code}")
    for line in path.read_text().splitlines():
        launch = json.loads(line)
        binary = Path(launch["fatbin"])
        name = device.folder / f"{hashlib.sha256(binary.read_bytes()).hexdigest()[:16]}.fatbin"
        binary.rename(name)
        device.launches.append({**launch, "fatbin": str(name)})
    path.unlink()


class Problem(ctypes.Structure):
    """`Problem` of cutlass3.h."""

    _fields_ = [
        *[(name, ctypes.c_int) for name in ("m", "n", "k", "batches")],
        *[(name, ctypes.c_float) for name in ("alpha", "beta")],
        *[(name, ctypes.c_void_p) for name in ("a", "b", "c", "d")],
    ]


@case("cutlass/cooperative/2048", 90, (2048, 2048, 2048), 4, 2, file="cutlass_gemm.cu")
@case("cutlass/cooperative/4096", 90, (4096, 4096, 4096), 8, 1, file="cutlass_gemm.cu")
@case("cutlass/cooperative/8192", 90, (8192, 8192, 8192), 8, 0, file="cutlass_gemm.cu")
@case("cutlass/cooperative/model-m-up", 90, (16384, 4096, 1024), 8, 0, file="cutlass_gemm.cu")
def gemm(device, shape, swizzle, raster):
    m, n, k = shape
    a, b, d = device.allocate((m, k), F16), device.allocate((k, n), F16), device.allocate((m, n), F16)
    problem = Problem(m, n, k, 1, 1.0, 0.0, a.address.value, b.address.value, d.address.value, d.address.value)
    recorded(device, lambda: device.program.cooperative(ctypes.byref(problem), swizzle, raster))
    yield "128x256x64, cluster 1x1"


@case("flash2/forward/model-m", 90, 16, 1024, 8, 128, True, file="flash2.cu")
@case("flash2/forward/full-d64-4096", 90, 4, 4096, 32, 64, False, file="flash2.cu")
@case("flash2/forward/causal-d64-1024", 90, 16, 1024, 32, 64, True, file="flash2.cu")
@case("flash2/forward/causal-d64-4096", 90, 4, 4096, 32, 64, True, file="flash2.cu")
@case("flash2/forward/full-d128-4096", 90, 4, 4096, 16, 128, False, file="flash2.cu")
@case("flash2/forward/causal-d128-4096", 90, 4, 4096, 16, 128, True, file="flash2.cu")
def flash(device, batch, t, heads, d, causal):
    q, k, v, out = (device.allocate((batch, t, heads, d), F16) for _ in range(4))
    lse = device.allocate((batch, heads, t), F32)
    pointers = [ctypes.c_void_p(buffer.address.value) for buffer in (q, k, v, out, lse)]
    recorded(device, lambda: device.program.forward(batch, t, heads, d, int(causal), *pointers))
    yield "its own tile"
