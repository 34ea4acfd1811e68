"""Norms of Liger-Kernel, from its own package. Its files want PyTorch, for the host code around the kernels; this stands in for what
they name of it when they are read."""

import importlib.metadata
import importlib.util
import sys
import types

import numpy as np
import triton

from cases import case
from triton_run import launch

F32 = np.float32


class Anything(types.ModuleType):
    """A module that has every name; each is a class, so that others can be derived from it."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__getattr__": lambda self, name: None, "__class_getitem__": classmethod(lambda cls, _: cls)})


def liger(name):
    """The module of one op of liger_kernel, without the package around it."""
    files = importlib.metadata.files("liger-kernel") or []
    path = next(file for file in files if str(file) == f"liger_kernel/ops/{name}.py").locate()
    torch = Anything("torch")
    torch.autograd = Anything("torch.autograd")
    utils = Anything("liger_kernel.ops.utils")
    # Of what its head asks: a Triton of version 3 at least, and no NPU.
    utils.compare_version = lambda *_: True
    utils.ensure_contiguous = lambda function: function
    machine = Anything("liger_kernel.utils")
    machine.is_npu_available = lambda: False
    stand_ins = {"torch": torch, "liger_kernel.ops.utils": utils, "liger_kernel.utils": machine, "liger_kernel": Anything("liger_kernel"), "liger_kernel.ops": Anything("liger_kernel.ops")}
    before = {module: sys.modules.get(module) for module in stand_ins}
    sys.modules.update(stand_ins)
    try:
        spec = importlib.util.spec_from_file_location(f"liger_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        for module_name, previous in before.items():
            if previous is None:
                sys.modules.pop(module_name, None)
            else:
                sys.modules[module_name] = previous
    return module


def settings(columns):
    """Block and warps as the package's `calculate_settings` picks them."""
    block = triton.next_power_of_2(columns)
    return block, 32 if block >= 32768 else 16 if block >= 8192 else 8 if block >= 2048 else 4


@case("liger/layer-norm/4096", 80, 4096, 4096)
@case("liger/layer-norm/16384", 80, 4096, 16384)
@case("liger/layer-norm/sm90-4096", 90, 4096, 4096)
@case("liger/layer-norm/sm90-16384", 90, 4096, 16384)
def layer_norm(device, rows, columns):
    kernel = liger("layer_norm")._layer_norm_forward_kernel
    x, y = device.allocate((rows, columns), F32), device.allocate((rows, columns), F32)
    weight, bias = device.allocate((columns,), F32), device.allocate((columns,), F32)
    mean, rstd = device.allocate((rows,), F32), device.allocate((rows,), F32)
    block, warps = settings(columns)
    values = {"Y_ptr": y, "X_ptr": x, "W_ptr": weight, "B_ptr": bias, "Mean_ptr": mean, "RSTD_ptr": rstd, "Y_row_stride": columns, "X_row_stride": columns, "n_cols": columns, "eps": 1e-6}
    # As Triton's own launcher does: a stride of one is a constant of the kernel.
    ones = {f"{name}_row_stride": 1 for name in ("W", "B", "Mean", "RSTD")}
    launch(device, device.arch, kernel, rows, values, {**ones, "BLOCK_SIZE": block}, warps)
    yield f"{block}, {warps} warps"
