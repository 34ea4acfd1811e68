"""Lets PyPI's PyTorch for x86-64 Linux, which is built for CUDA, run without 5 GB of CUDA libraries: without_cuda.py SITE_PACKAGES

Every CUDA library that PyTorch's own name is written as a stub: the symbols that they want of it, with the versions that they
want, each of which ends the process. None is called where there is no driver. Needs readelf and a C compiler.
"""

import collections
import glob
import os
import re
import subprocess
import sys
import tempfile

# Libraries whose symbols carry no version, and how those begin.
UNVERSIONED = {
    "libcublas": "cublas", "libcublasLt": "cublasLt", "libcudnn": "cudnn", "libcufft": "cufft", "libcufile": "cuFile",
    "libcurand": "curand", "libcusolver": "cusolver", "libcusparse": "cusparse", "libcusparseLt": "cusparseLt",
    "libnccl": "nccl", "libnvJitLink": "nvJitLink", "libnvrtc": "nvrtc", "libnvshmem_host": "nvshmem",
}


def readelf(*arguments):
    return subprocess.run(["readelf", "-W", *arguments], capture_output=True, text=True, check=True).stdout


def wanted(libraries):
    """The CUDA libraries that are needed; the versions of their symbols; the symbols, by version, and those without one."""
    needed, library_of, versioned, plain = set(), {}, collections.defaultdict(set), set()
    for library in libraries:
        found = re.findall(r"NEEDED.*\[([^\]]+)\]", readelf("-d", library))
        needed |= {name for name in found if re.match(r"lib(cu|nccl|nv)", name) and name != "libcuda.so.1"}
        file = None
        for line in readelf("-V", library).splitlines():
            if match := re.search(r"File: (\S+)", line):
                file = match[1]
            elif (match := re.search(r"Name: (\S+)\s+Flags", line)) and file and re.match(r"lib(cu|nccl|nv)", file):
                library_of[match[1]] = file
        for line in readelf("--dyn-syms", library).splitlines():
            fields = line.split()
            if len(fields) >= 8 and fields[6] == "UND":
                name, _, version = fields[7].partition("@")
                (versioned[version.lstrip("@")] if version else plain).add(name)
    return needed, library_of, versioned, plain


def symbols_without_version(base, plain):
    prefix = UNVERSIONED.get(base)
    longer = [other for other in UNVERSIONED.values() if prefix and other != prefix and other.startswith(prefix)]
    return {name for name in plain if prefix and name.startswith(prefix) and not name.startswith(tuple(longer))}


def write_stub(path, versions, symbols):
    with tempfile.TemporaryDirectory() as folder:
        source, script = os.path.join(folder, "stub.c"), os.path.join(folder, "versions")
        with open(source, "w") as file:
            file.write("void abort(void);\nint stub_of_a_cuda_library;\n")
            file.writelines(f"void {name}(void) {{ abort(); }}\n" for name in sorted(symbols))
        command = ["cc", "-w", "-shared", "-fPIC", "-fno-builtin", f"-Wl,-soname,{os.path.basename(path)}", "-o", path, source]
        if versions:
            with open(script, "w") as file:
                for version, names in versions.items():
                    file.write(f"{version} {{ global: {' '.join(f'{name};' for name in sorted(names))} }};\n")
            command.append(f"-Wl,--version-script={script}")
        subprocess.run(command, check=True)


def main():
    site_packages = sys.argv[1]
    needed, library_of, versioned, plain = wanted(glob.glob(f"{site_packages}/torch/lib/*.so"))
    folder = f"{site_packages}/nvidia/cu13/lib"
    os.makedirs(folder, exist_ok=True)
    there = {os.path.basename(path) for path in glob.glob(f"{site_packages}/nvidia/**/*.so*", recursive=True)}
    for name in sorted((needed | {"libnvJitLink.so.13", "libnvrtc-builtins.so.13.0"}) - there):
        versions = {version: versioned[version] for version, file in library_of.items() if file == name}
        loose = symbols_without_version(name.split(".so")[0], plain)
        write_stub(os.path.join(folder, name), versions, loose.union(*versions.values()))


if __name__ == "__main__":
    main()
