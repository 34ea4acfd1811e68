"""The driver API through ctypes, as far as the corpus needs it: arrays of NumPy in, arrays of NumPy out."""

import ctypes

import ml_dtypes
import numpy as np

CLUSTER_DIMENSION = 4
COOPERATIVE = 2
MAX_DYNAMIC_SHARED = 8
NON_PORTABLE_CLUSTER = 14


class Buffer:
    """Memory of the device for an array; its bytes can be read back."""

    def __init__(self, device, address, dtype, shape):
        self.device, self.address, self.dtype = device, address, np.dtype(dtype)
        self.shape = (shape,) if np.isscalar(shape) else tuple(shape)

    def read(self):
        array = np.empty(self.shape, dtype=self.dtype)
        self.device("cuMemcpyDtoH_v2", array.ctypes.data_as(ctypes.c_void_p), self.address, ctypes.c_size_t(array.nbytes))
        return array

    def wide(self):
        """As f64."""
        return self.read().astype(np.float64)


class LaunchAttribute(ctypes.Structure):
    _fields_ = [("id", ctypes.c_int), ("pad", ctypes.c_int), ("value", ctypes.c_uint32 * 16)]


class LaunchConfig(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_uint) for name in ("gx", "gy", "gz", "bx", "by", "bz", "shared")],
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(LaunchAttribute)),
        ("count", ctypes.c_uint),
    ]


class Device:
    """Device 0 of the driver in the library `path`. All symbols are made global: the runtime of the C++ programs finds them."""

    def __init__(self, path):
        self.cu = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        self("cuInit", 0)
        context = ctypes.c_void_p()
        self("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        self("cuCtxSetCurrent", context)

    def __call__(self, name, *arguments):
        code = getattr(self.cu, name)(*arguments)
        if code != 0:
            raise RuntimeError(f"{name}: error {code}")

    def allocate(self, shape, dtype):
        """Memory that nothing was written to."""
        count = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        address = ctypes.c_uint64()
        self("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(count, 1)))
        return Buffer(self, address, dtype, shape)

    def upload(self, array):
        array = np.ascontiguousarray(array)
        buffer = self.allocate(array.shape, array.dtype)
        source = array.ctypes.data_as(ctypes.c_void_p)
        self("cuMemcpyHtoD_v2", buffer.address, source, ctypes.c_size_t(array.nbytes))
        return buffer

    def zeros(self, shape, dtype=np.float32):
        return self.upload(np.zeros(shape, dtype=dtype))

    def load(self, image, name):
        """A function of a module in PTX, or in whatever else the driver loads."""
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(image))
        self("cuModuleGetFunction", ctypes.byref(function), module, name.encode())
        return function

    def launch(self, function, grid, threads, shared, arguments, cluster=1, cooperative=False):
        """Launches and waits; `arguments` are ctypes values."""
        if shared > 48 << 10:
            self("cuFuncSetAttribute", function, MAX_DYNAMIC_SHARED, shared)
        attributes = (LaunchAttribute * 2)()
        count = 0
        if cluster > 1:
            attributes[count].id = CLUSTER_DIMENSION
            attributes[count].value[:3] = [cluster, 1, 1]
            count += 1
        if cooperative:
            attributes[count].id = COOPERATIVE
            attributes[count].value[0] = 1
            count += 1
        pointers = (ctypes.c_void_p * max(len(arguments), 1))(*[ctypes.addressof(argument) for argument in arguments])
        config = LaunchConfig(grid[0] * cluster, grid[1], grid[2], threads, 1, 1, shared, None, attributes, count)
        self("cuLaunchKernelEx", ctypes.byref(config), function, pointers, None)
        self("cuCtxSynchronize")


def tensor_map(device, base, dtype, shape, strides, box, swizzle, padding):
    """An encoded tensor map of 128 bytes; all lists are outermost dimension first, strides in elements."""
    codes = {1: 0, 2: 6, 4: 7, 8: 13}
    code = {"bfloat16": 9, "int32": 3, "float64": 8}.get(np.dtype(dtype).name, codes[np.dtype(dtype).itemsize])
    size = np.dtype(dtype).itemsize
    rank = len(shape)
    room = (ctypes.c_uint8 * 192)()
    start = (ctypes.addressof(room) + 63) // 64 * 64
    extents = (ctypes.c_uint64 * rank)(*reversed(shape))
    steps = (ctypes.c_uint64 * max(rank - 1, 1))(*[stride * size for stride in reversed(strides[:-1])])
    boxes = (ctypes.c_uint32 * rank)(*reversed(box))
    ones = (ctypes.c_uint32 * rank)(*[1] * rank)
    device(
        "cuTensorMapEncodeTiled", ctypes.c_void_p(start), code, rank, base.address, extents, steps, boxes, ones,
        0, swizzle, 2, padding,
    )
    value = (ctypes.c_uint8 * 128)()
    ctypes.memmove(value, start, 128)
    return value


# Names that NumPy alone does not have.
bfloat16, fp8e4, fp8e5 = ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2
