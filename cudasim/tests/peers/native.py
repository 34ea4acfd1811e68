"""C++ programs of the corpus: compiled by nvcc to shared libraries whose kernels are PTX, host code and all.

Their host code is the libraries' own: it picks grids, shared memory and temporary storage as it would on a GPU. Beneath it is
`runtime.cpp`, a small CUDA runtime over the simulator's driver.
"""

import concurrent.futures
import ctypes
import hashlib
import importlib.metadata
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUNTIME = HERE / "runtime.cpp"

# A macro of the host code that checks for errors of the runtime would hide nothing here: each program returns the code.
FLAGS = ["-std=c++17", "-O3", "-shared", "-cudart=none", "-Xcompiler=-fPIC,-w", "-w", "--expt-relaxed-constexpr", "--expt-extended-lambda"]


class Programs:
    """Compiles the files of `cuda/`, and loads them."""

    def __init__(self, arguments, folder):
        # By its own path, not through a link: it finds its headers beside it.
        self.nvcc = str(Path(arguments.nvcc).resolve()) if arguments.nvcc else None
        self.folder, self.broken = folder, set()
        self.cutlass = arguments.cutlass

    def cutlass_headers(self):
        """Where CUTLASS is; `None` without it."""
        if self.cutlass:
            return Path(self.cutlass)
        try:
            files = importlib.metadata.files("nvidia-cutlass") or []
        except importlib.metadata.PackageNotFoundError:
            return None
        header = next((file for file in files if str(file).endswith("source/include/cutlass/cutlass.h")), None)
        return Path(header.locate()).parents[1] if header else None

    def command(self, file):
        """How a file is compiled, without its output. Its first line names the architecture: `// sm_90a`."""
        source = HERE / "cuda" / file
        arch = source.read_text().split("\n", 1)[0].removeprefix("//").strip().removeprefix("sm_")
        # Without machine code: ptxas would take longer than the compiler itself, and nothing here reads it.
        flags = [*FLAGS, f"-gencode=arch=compute_{arch},code=compute_{arch}", "--compress-mode=none"]
        headers = self.cutlass_headers()
        if "cutlass" in file and headers:
            flags += [f"-I{headers}", f"-I{headers.parent / 'tools/util/include'}", "-DCUTLASS_ENABLE_DIRECT_CUDA_DRIVER_CALL=1"]
        return [self.nvcc, *flags, str(source)]

    def output(self, file):
        """The library of a file, named by all that it is made of."""
        command = self.command(file)
        texts = [str(command), (HERE / "cuda" / file).read_text()]
        texts += [path.read_text() for path in sorted((HERE / "cuda").glob("*.h"))]
        return self.folder / f"{Path(file).stem}-{hashlib.sha256(' '.join(texts).encode()).hexdigest()[:16]}.so"

    def runtime(self):
        """The library of `runtime.cpp`."""
        include = Path(self.nvcc).resolve().parents[1] / "include"
        name = hashlib.sha256((RUNTIME.read_text() + str(include)).encode()).hexdigest()[:16]
        output = self.folder / f"runtime-{name}.so"
        if not output.exists():
            own = output.with_suffix(f".{os.getpid()}")
            subprocess.run(["g++", "-O1", "-shared", "-fPIC", "-std=c++17", f"-I{include}", RUNTIME, "-o", own], check=True)
            own.rename(output)
        return output

    def compile(self, file):
        """Compiles one file if it is not there; what the compiler says if it fails."""
        output = self.output(file)
        if output.exists():
            return None
        started = time.monotonic()
        own = output.with_suffix(f".{os.getpid()}.so")
        run = subprocess.run([*self.command(file), "-o", own], capture_output=True, text=True)
        if run.returncode != 0:
            return f"{file}: {(run.stdout + run.stderr).strip()[-3000:]}"
        own.rename(output)
        print(f"compiled {file} in {time.monotonic() - started:.0f} s", flush=True)
        return None

    def compile_all(self, files, jobs, skipped):
        """Compiles all files; those that there is no program of."""
        without = set(files)
        if not self.nvcc:
            if files:
                skipped.append(f"{len(files)} C++ files: no nvcc; `cargo xtask toolkit` installs it")
            return without
        if self.cutlass_headers() is None:
            for file in [file for file in files if "cutlass" in file]:
                skipped.append(f"{file}: the package nvidia-cutlass is not installed")
            files = [file for file in files if "cutlass" not in file]
        if files:
            self.runtime()
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            for file, failure in zip(files, pool.map(self.compile, files)):
                if failure is None:
                    without.discard(file)
                else:
                    self.broken.add(file)
                    print(f"error: {failure}", file=sys.stderr, flush=True)
        return without

    def load(self, file):
        """The program of a file, on the driver that this process has open."""
        ctypes.CDLL(str(self.runtime()), mode=ctypes.RTLD_GLOBAL)
        return ctypes.CDLL(str(self.output(file)))
