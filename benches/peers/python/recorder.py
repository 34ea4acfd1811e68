"""A device that runs nothing: it writes down what is launched, with the code that is launched.

Memory is the simulator's, which gives addresses and takes none from the host before something is written.
"""

import hashlib
import subprocess
from pathlib import Path

import device as driver


class Recorder(driver.Device):
    """`Device` whose launches are entries of `launches`, for an architecture (80, 90)."""

    def __init__(self, library, folder, ptxas, arch):
        super().__init__(library)
        self.folder, self.ptxas, self.arch = Path(folder), ptxas, arch
        self.launches, self.buffers = [], []

    def allocate(self, shape, dtype):
        buffer = super().allocate(shape, dtype)
        size = int(driver.np.prod(shape, dtype=driver.np.int64)) * driver.np.dtype(dtype).itemsize
        self.buffers.append([buffer.address.value, max(size, 1)])
        return buffer

    def free(self):
        """Gives back all memory: the cases of a whole run take more than a card has."""
        for address, _ in self.buffers:
            self("cuMemFree_v2", driver.ctypes.c_uint64(address))
        self.buffers = []

    def load(self, image, name):
        """The kernel's name with the files of its PTX, and of the machine code that ptxas makes of it."""
        text = image.rstrip(b"\0")
        ptx = self.folder / f"{hashlib.sha256(text).hexdigest()[:16]}.ptx"
        cubin = ptx.with_suffix(f".sm{self.arch}")
        if not cubin.exists():
            ptx.write_bytes(text)
            target = "sm_90a" if self.arch == 90 else f"sm_{self.arch}"
            subprocess.run([self.ptxas, f"--gpu-name={target}", ptx, "-o", cubin], check=True)
        return name, str(ptx), str(cubin)

    def launch(self, function, grid, threads, shared, arguments, cluster=1, cooperative=False):
        name, ptx, cubin = function
        self.launches.append({
            "kernel": name, "ptx": ptx, "cubin": cubin, "grid": [grid[0] * cluster, grid[1], grid[2]], "threads": [threads, 1, 1],
            "shared": shared, "cluster": [cluster, 1, 1], "arguments": [bytes(argument).hex() for argument in arguments],
        })

    def take(self):
        """What was launched since the last time."""
        taken, self.launches = self.launches, []
        return taken
