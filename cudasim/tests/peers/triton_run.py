"""Triton's kernels on the device: compiled without a GPU for sm_80 and sm_90a, launched as Triton's own launcher does."""

import ctypes

import numpy as np
import triton
from triton.backends.compiler import GPUTarget
from triton.experimental.gluon._runtime import GluonASTSource

import device as driver

TYPES = {
    "float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64", "float8_e4m3fn": "fp8e4nv",
    "float8_e5m2": "fp8e5", "int8": "i8", "uint8": "u8", "int16": "i16", "uint16": "u16", "int32": "i32", "uint32": "u32",
    "int64": "i64", "uint64": "u64", "bool": "i1",
}
SCALARS = {
    "i32": ctypes.c_int32, "i64": ctypes.c_int64, "u32": ctypes.c_uint32, "u64": ctypes.c_uint64, "fp32": ctypes.c_float,
    "fp64": ctypes.c_double,
}


class Descriptor:
    """A tensor descriptor that the host makes: a buffer, the block that one copy brings, and for Gluon how it lies in shared memory."""

    def __init__(self, buffer, block, layout=None):
        self.buffer, self.block, self.layout = buffer, block, layout


def type_of(value):
    """Triton's name of an argument's type, and whether its value is a multiple of 16."""
    if isinstance(value, driver.Buffer):
        return "*" + TYPES[value.dtype.name], True
    if isinstance(value, Descriptor):
        block = ", ".join(str(size) for size in value.block)
        layout = f",{value.layout!r}" if value.layout else ""
        return f"tensordesc<{TYPES[value.buffer.dtype.name]}[{block}]{layout}>", False
    if isinstance(value, np.generic):
        return TYPES[value.dtype.name], value.dtype.kind in "iu" and int(value) % 16 == 0
    if isinstance(value, float):
        return "fp32", False
    return "i32", value % 16 == 0


def expanded(device, value, kind, meta):
    """An argument as the kernel takes it: a tensor descriptor is a map, its shape and its strides."""
    if isinstance(value, driver.Buffer):
        return [value.address]
    if not isinstance(value, Descriptor):
        return [SCALARS[kind](value)]
    shape = value.buffer.shape
    strides = [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]
    tail = [*[ctypes.c_int32(size) for size in shape], *[ctypes.c_int64(stride) for stride in strides]]
    if meta is None:
        again = [*[ctypes.c_int64(size) for size in shape], *[ctypes.c_int64(stride) for stride in strides]]
        return [value.buffer.address, *again, ctypes.c_int8(0), ctypes.c_int8(0), *tail]
    dtype, box, swizzle = value.buffer.dtype, meta["block_size"], meta["swizzle"]
    return [driver.tensor_map(device, value.buffer, dtype, shape, strides, box, swizzle, 0), *tail]


def launch(device, arch, kernel, grid, arguments, constants=None, warps=4, stages=3, ctas=1, **options):
    """Compiles `kernel` for `arch` (80, 90) and runs it; `arguments` and `constants` are by name."""
    constants = constants or {}
    grid = (*grid, 1, 1)[:3] if isinstance(grid, tuple) else (grid, 1, 1)
    names = [parameter.name for parameter in kernel.params]
    kinds = {name: type_of(arguments[name]) for name in names if name in arguments}
    signature = {name: kinds[name][0] if name in kinds else "constexpr" for name in names}
    attributes = {
        (names.index(name),): [["tt.divisibility", 16]] for name, (_, whole) in kinds.items() if whole
    }
    make = GluonASTSource if kernel.is_gluon() else triton.compiler.ASTSource
    constexprs = {(names.index(name),): value for name, value in constants.items()}
    source = make(fn=kernel, signature=signature, constexprs=constexprs, attrs=attributes)
    options = {"num_warps": warps, "num_stages": stages, "num_ctas": ctas, "ptx_version": 88, **options}
    compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    meta = compiled.metadata
    maps = iter(getattr(meta, "tensordesc_meta", None) or [])
    values = []
    for name in names:
        if name in arguments:
            described = next(maps, None) if isinstance(arguments[name], Descriptor) else None
            values += expanded(device, arguments[name], kinds[name][0], described)

    # Behind the kernel's own parameters Triton has two pointers to scratch memory.
    for bytes in (meta.global_scratch_size, meta.profile_scratch_size):
        size = bytes * grid[0] * grid[1] * grid[2] * ctas
        values.append(device.allocate(size, np.uint8).address if size else ctypes.c_uint64(0))
    function = device.load(compiled.asm["ptx"].encode() + b"\0", meta.name)
    device.launch(
        function, grid, 32 * meta.num_warps, meta.shared, values, cluster=ctas, cooperative=meta.launch_cooperative_grid
    )
