#!/usr/bin/env python3
"""nvcc for a toolkit of wheels that have none: NVIDIA's wheels of CUDA 12 bring ptxas, headers and NVRTC, but no compiler driver.

NVRTC makes PTX (it is nvcc's own compiler of device code as a library), ptxas makes machine code, and this program puts both
into a fatbin. It knows the options that the engine's build and tests pass, and device code that includes no host headers.
"""

import ctypes
import os
import re
import struct
import subprocess
import sys
import tempfile

# Where the wheels are unpacked: this file lies in `bin` of the virtual environment.
HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SITE = next(
    os.path.join(HOME, "lib", python, "site-packages", "nvidia")
    for python in sorted(os.listdir(os.path.join(HOME, "lib")))
    if python.startswith("python3")
)
INCLUDES = [os.path.join(SITE, wheel, "include") for wheel in ("cuda_runtime", "cuda_cccl", "cuda_nvcc")]
PTXAS = os.path.join(SITE, "cuda_nvcc", "bin", "ptxas")

# NVRTC has no host headers; of these the kernels use the integers, and of math.h the infinity.
STDINT = """#pragma once
#define INFINITY __int_as_float(0x7f800000)
typedef signed char int8_t; typedef short int16_t; typedef int int32_t; typedef long long int64_t;
typedef unsigned char uint8_t; typedef unsigned short uint16_t; typedef unsigned int uint32_t;
typedef unsigned long uint64_t; typedef unsigned long uintptr_t; typedef unsigned long size_t;
"""


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(2)


class Nvrtc:
    """The compiler."""

    def __init__(self):
        folder = os.path.join(SITE, "cuda_nvrtc", "lib")
        # The compiler opens its built-in headers by name alone.
        for name in sorted(os.listdir(folder)):
            if name.startswith("libnvrtc-builtins.so"):
                ctypes.CDLL(os.path.join(folder, name), mode=ctypes.RTLD_GLOBAL)
        self.library = ctypes.CDLL(os.path.join(folder, "libnvrtc.so.12"))

    def version(self):
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        return f"{major.value}.{minor.value}"

    def text(self, program, what):
        size = ctypes.c_size_t()
        getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(self.library, f"nvrtcGet{what}")(program, buffer)
        return buffer.raw.rstrip(b"\0")

    def ptx(self, source, options):
        with open(source, "rb") as file:
            code = file.read()
        program = ctypes.c_void_p()
        headers, names = (ctypes.c_char_p * 1)(STDINT.encode()), (ctypes.c_char_p * 1)(b"stdint.h")
        made = self.library.nvrtcCreateProgram(ctypes.byref(program), code, source.encode(), 1, headers, names)
        if made != 0:
            fail(f"nvrtcCreateProgram: error {made}")
        array = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
        compiled = self.library.nvrtcCompileProgram(program, len(options), array)
        log = self.text(program, "ProgramLog").decode(errors="replace").strip()
        if log:
            print(log, file=sys.stderr)
        if compiled != 0:
            sys.exit(2)
        return self.text(program, "PTX")


def entry(kind, number, version, flags, content):
    """An entry of a fatbin: 64 bytes of header, of PTX 16 more for its (no) options, and the content in multiples of 8 bytes."""
    content += b"\0" * (-len(content) % 8)
    extra = struct.pack("<QQ", 72, 0) if kind == 1 else b""
    header = struct.pack("<HHIQIIHHIIIQQQ", kind, 0x101, 64 + len(extra), len(content), 0, len(extra) and 64, *version, number, 0, 0,
                         flags, 0, 0)
    return header + b"\0" * (64 - len(header)) + extra + content


def fatbin(entries):
    body = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def headers_of(path, seen):
    """The files that a source includes by quotes, itself first."""
    if path in seen or not os.path.isfile(path):
        return
    seen.append(path)
    with open(path, encoding="utf-8") as file:
        names = re.findall(r'^\s*#\s*include\s*"([^"]+)"', file.read(), re.MULTILINE)
    root = os.path.dirname(seen[0])
    for name in names:
        for folder in (os.path.dirname(path), root):
            headers_of(os.path.normpath(os.path.join(folder, name)), seen)


def parse(arguments):
    """The options by name, the targets as (compute, [codes]), and the source."""
    options, targets, source = {}, [], None
    values = iter(arguments)
    for argument in values:
        if argument in ("-o", "-MF", "-gencode", "-Xptxas", "-I"):
            argument, value = argument, next(values)
        elif argument.startswith(("-gencode=", "-arch=", "-Xptxas=", "-std=")):
            argument, value = argument.split("=", 1)
        else:
            value = ""
        if argument == "-gencode":
            compute, codes = re.fullmatch(r"arch=compute_(\w+),code=\[?([\w,]+)\]?", value).groups()
            targets.append((compute, codes.split(",")))
        elif argument == "-arch":
            number = value.split("_", 1)[1]
            targets.append((number, [value.replace("compute", "sm"), f"compute_{number}"]))
        elif argument.startswith("-") or value:
            options[argument] = value
        else:
            source = argument
    return options, targets or [("52", ["sm_52"])], source


def machine_code(ptx, code, folder):
    """Machine code of PTX; ptxas speaks on standard error, as nvcc has it do."""
    text, cubin = os.path.join(folder, "code.ptx"), os.path.join(folder, "code.cubin")
    with open(text, "wb") as file:
        file.write(ptx)
    done = subprocess.run([PTXAS, "-v", "-O3", "--generate-line-info", f"-arch={code}", text, "-o", cubin], stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(2)
    with open(cubin, "rb") as file:
        return file.read()


def main(arguments):
    nvrtc = Nvrtc()
    if arguments == ["--version"]:
        print("nvcc: NVRTC and ptxas of NVIDIA's wheels in the place of the compiler driver")
        print(f"Cuda compilation tools, release {nvrtc.version()}, V{nvrtc.version()} (NVRTC)")
        return
    options, targets, source = parse(arguments)
    if source is None or "-o" not in options:
        fail("nvcc (NVRTC): a source and -o are needed")

    common = [f"-I{os.path.dirname(source) or '.'}", *[f"-I{path}" for path in INCLUDES], f"-std={options.get('-std', 'c++17')}"]
    # Without this, what has no mark is a host function, lambdas that take `auto` in a kernel among them.
    common += ["-default-device"]
    common += ["-lineinfo"] if "-lineinfo" in options else []
    entries = []
    with tempfile.TemporaryDirectory() as folder:
        for compute, codes in targets:
            ptx = nvrtc.ptx(source, [*common, f"--gpu-architecture=compute_{compute}"])
            major, minor = re.search(rb"^\.version (\d+)\.(\d+)", ptx, re.MULTILINE).groups()
            for code in codes:
                number, flags = int(re.sub(r"\D", "", code)), 0x100011 if code.endswith("a") else 0x11
                if code.startswith("compute_"):
                    entries.append(entry(1, number, (int(minor), int(major)), flags, ptx + b"\0"))
                else:
                    entries.append(entry(2, number, (7, 1), flags, machine_code(ptx, code, folder)))

    with open(options["-o"], "wb") as file:
        file.write(fatbin(entries) if "-fatbin" in options else ptx)
    if "-MF" in options:
        files = []
        headers_of(source, files)
        with open(options["-MF"], "w", encoding="utf-8") as file:
            file.write(f"{options['-o']} : " + " \\\n    ".join(files) + "\n")


main(sys.argv[1:])
