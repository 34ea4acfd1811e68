"""Compiles the kernels of others that have a published figure, and writes down how they are launched.

    python3 record.py --library .../libcudasim.so --nvcc .../nvcc --cache DIR --out DIR [CASE ...]

For each case a file of JSON: the launches of each configuration, with the files of their PTX and machine code, and the buffers
that their arguments point to. Nothing is run.
"""

import argparse
import importlib
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "cudasim/tests/peers"))

SUITES = ["triton_gemm", "triton_attention_peers", "norms", "headers"]


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", required=True, help="libcudasim.so")
    parser.add_argument("--nvcc", required=True, help="the CUDA compiler; its ptxas makes machine code of Triton's PTX too")
    parser.add_argument("--flash", required=True, help="folder of the source package flash-attn")
    parser.add_argument("--cache", type=Path, required=True, help="where what was compiled is kept")
    parser.add_argument("--out", type=Path, required=True, help="where the launches go")
    parser.add_argument("case", nargs="*", help="names of cases, or parts of them")
    return parser.parse_args()


def main():
    arguments = options()
    # CUTLASS is where its package is.
    arguments.cutlass = None
    for folder in (arguments.cache, arguments.out):
        folder.mkdir(parents=True, exist_ok=True)
    arguments.cache = arguments.cache.resolve()
    os.environ["TRITON_CACHE_DIR"] = str(arguments.cache / "triton")
    # As the versions that the figures are of: products and sums may be joined.
    os.environ["TRITON_DEFAULT_FP_FUSION"] = "1"
    os.environ["CUDASIM"] = "leaks=off"

    import cases
    import headers
    import recorder

    for suite in SUITES:
        importlib.import_module(suite)
    names = [name for name in cases.CASES if not arguments.case or any(part in name for part in arguments.case)]
    ptxas = Path(arguments.nvcc).resolve().with_name("ptxas")
    for name in names:
        arch, function, values, file = cases.CASES[name]
        device = recorder.Recorder(arguments.library, arguments.cache, ptxas, arch)
        if file:
            device.program = headers.program(arguments, file, arch)
        variants = [{"name": variant, "launches": device.take()} for variant in function(device, *values)]
        path = arguments.out / (name.replace("/", "-") + ".json")
        path.write_text(json.dumps({"variants": variants, "buffers": device.buffers}, indent=1) + "\n")
        device.free()
        print(f"recorded {name}", flush=True)


if __name__ == "__main__":
    main()
