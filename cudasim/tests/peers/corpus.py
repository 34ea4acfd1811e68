"""The list of cases, and what makes a result right.

A case is one compiled kernel with a shape and a seed of its own. It returns pairs to compare: what the device gave, and what
NumPy computes in f64 (or exactly, in integers), with a bound of the difference for each element that follows from the
number formats and the number of operations, not from what the simulator gave.
"""

import zlib

import numpy as np

CASES = {}

# Bits of the significand, the hidden one included.
DIGITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53, "float8_e4m3fn": 4, "float8_e5m2": 3}


def case(source, name, *arguments, file=None):
    """Registers a case of `source` (triton, cutlass, ...) that is called as `f(device, random, *arguments)`."""

    def register(function):
        if name in CASES:
            raise ValueError(f"two cases {name}")
        CASES[name] = (source, function, arguments, file)
        return function

    return register


def generator(name):
    """The case's own random numbers."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def epsilon(dtype):
    """Half a unit in the last place, relative; nothing for integers."""
    digits = DIGITS.get(np.dtype(dtype).name)
    return 2.0**-digits if digits else 0.0


def rounding(expected, dtype):
    """What one rounding to `dtype` adds, denormals included."""
    least = {"float16": 2.0**-25, "float8_e4m3fn": 2.0**-10, "float8_e5m2": 2.0**-17}.get(np.dtype(dtype).name, 1e-45)
    return np.abs(expected) * epsilon(dtype) + least if epsilon(dtype) else np.zeros_like(np.abs(expected))


def sum_bound(terms, magnitude, dtype=np.float32):
    """The error of a sum of `terms` terms whose magnitudes add up to `magnitude`, each operation rounded or cut off to `dtype`."""
    return 2 * (terms + 2) * epsilon(dtype) * magnitude


def product(a, b, out=np.float32, sums=np.float32, relative=0.0):
    """A @ B in f64 and the bound of its error; `relative` is what the inputs lose before they are multiplied."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    expected, magnitude = a @ b, np.abs(a) @ np.abs(b)
    bound = sum_bound(a.shape[-1], magnitude, sums) + 2 * relative * magnitude
    return expected, bound + rounding(np.abs(expected) + bound, out)


def ulps(expected, count, dtype=np.float32, floor=0.0):
    """A bound of `count` units in the last place, and of `floor` for what is small by cancellation."""
    return 2 * count * epsilon(dtype) * np.abs(expected) + floor


class Wrong(Exception):
    """A result that is not what NumPy says."""


def check(results):
    """Compares; the number of elements that were compared."""
    count = 0
    for place, (actual, expected, bound) in enumerate(results):
        actual, expected = np.asarray(actual), np.asarray(expected)
        if actual.shape != expected.shape:
            raise Wrong(f"result {place}: shape {actual.shape}, not {expected.shape}")
        if expected.dtype.kind in "iub":
            bad = actual != expected
        else:
            actual, expected = actual.astype(np.float64), expected.astype(np.float64)
            with np.errstate(invalid="ignore"):
                near = np.abs(actual - expected) <= bound
            bad = ~(near | (actual == expected) | (np.isnan(actual) & np.isnan(expected)))
        if bad.any():
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            limit = np.broadcast_to(bound, expected.shape)[at] if np.ndim(bound) else bound
            raise Wrong(f"result {place}: {int(bad.sum())} of {bad.size} wrong, at {at}: {actual[at]}, not {expected[at]} (bound {limit})")
        count += expected.size
    if count == 0:
        raise Wrong("nothing was compared")
    return count
