"""Kernels of other compilers and libraries on the simulator, compared with NumPy in f64: `cargo xtask test --peers`.

    python3 run.py --library .../libcudasim.so --nvcc .../nvcc --cache DIR [--json FILE] [--jobs N] [FILTER ...]

Each case runs in a process of its own, so that a kernel that stops the device stops nothing else. Exit code 1 if a value is
wrong, a report of level error was made, or a case failed otherwise.
"""

import argparse
import collections
import concurrent.futures
import importlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import corpus
import native

SUITES = ["triton_pointwise", "triton_reductions", "triton_matmul", "triton_attention", "triton_other", "cub", "groups", "cutlass2", "cutlass3"]


def reports_of(path):
    """The simulator's reports, as it appended them."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run_case(name, arguments, folder):
    """Runs one case in this process; what became of it."""
    import device as driver

    _, function, values, file = corpus.CASES[name]
    reports = folder / f"reports-{os.getpid()}"
    reports.unlink(missing_ok=True)
    os.environ["CUDASIM_REPORTS"] = str(reports)
    outcome = {"name": name, "outcome": "right", "message": ""}
    started = time.monotonic()
    try:
        device = driver.Device(arguments.library)
        device.program = native.Programs(arguments, folder).load(file) if file else None
        outcome["elements"] = corpus.check(function(device, corpus.generator(name), *values))
    except corpus.Wrong as wrong:
        outcome.update(outcome="wrong", message=str(wrong))
    except Exception as error:  # Whatever it is belongs to the case.
        lines = traceback.format_exception(error)
        message = "".join(lines if arguments.verbose else lines[-1:]).strip()
        outcome.update(outcome="error", message=message if arguments.verbose else message[:1000])

    outcome["seconds"] = round(time.monotonic() - started, 2)
    outcome["reports"] = reports_of(reports)
    reports.unlink(missing_ok=True)
    stopped = [report for report in outcome["reports"] if report.get("level") != "warning"]
    if stopped:
        outcome.update(outcome="error", message=json.dumps(stopped[0]))
    return outcome


def forked(name, arguments, folder):
    """The outcome of a case that runs in a child."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        signal.alarm(arguments.timeout)
        if not arguments.verbose:
            # What the simulator says there is in the reports as well.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
        try:
            outcome = json.dumps(run_case(name, arguments, folder))
            with os.fdopen(writer, "w") as pipe:
                pipe.write(outcome)
        finally:
            # Without the destructors of whatever the child has loaded.
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if text:
        return json.loads(text)
    why = f"took more than {arguments.timeout} s" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM else f"ended with status {status}"
    return {"name": name, "outcome": "error", "message": f"its process {why}", "seconds": arguments.timeout, "reports": []}


def kind_of(report):
    """What a warning is about, without who, where and how much."""
    return report["kind"]


def summary(outcomes, skipped, seconds):
    """The counts as one object."""
    sources = collections.Counter(corpus.CASES[outcome["name"]][0] for outcome in outcomes)
    warnings = collections.Counter(
        (corpus.CASES[outcome["name"]][0], kind)
        for outcome in outcomes
        for kind in {kind_of(report) for report in outcome["reports"] if report.get("level") == "warning"}
    )
    return {
        "kernels": len(outcomes),
        "sources": dict(sorted(sources.items())),
        "right": sum(outcome["outcome"] == "right" for outcome in outcomes),
        "wrong": sum(outcome["outcome"] == "wrong" for outcome in outcomes),
        "errors": sum(outcome["outcome"] == "error" for outcome in outcomes),
        "warnings": [{"source": source, "kind": kind, "kernels": n} for (source, kind), n in sorted(warnings.items())],
        "skipped": skipped,
        "seconds": round(seconds),
        "cases": outcomes,
    }


def print_summary(total):
    print(f"\n{total['kernels']} kernels: " + ", ".join(f"{count} {source}" for source, count in total["sources"].items()))
    print(f"{total['right']} right, {total['wrong']} wrong values, {total['errors']} errors, in {total['seconds']} s")
    for warning in total["warnings"]:
        print(f"warning ({warning['source']}): {warning['kind']}: {warning['kernels']} kernels")
    for what in total["skipped"]:
        print(f"SKIPPED: {what}")


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", required=True, help="libcudasim.so")
    parser.add_argument("--nvcc", help="the CUDA compiler; without it only Triton's kernels run")
    parser.add_argument("--cutlass", help="folder of the headers of CUTLASS [default: those of the package nvidia-cutlass]")
    parser.add_argument("--cache", type=Path, required=True, help="where what was compiled is kept")
    parser.add_argument("--json", type=Path, help="write counts and every case to this file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--timeout", type=int, default=600, help="seconds for one case")
    parser.add_argument("--verbose", action="store_true", help="whole tracebacks and reports")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    parser.add_argument("filter", nargs="*", help="parts of names of cases")
    return parser.parse_args()


def main():
    arguments = options()
    started = time.monotonic()
    folder = arguments.cache.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")
    # One host thread for each case, as cases run side by side; what is not freed at the end of a case is no fault of it.
    os.environ["CUDASIM"] = "threads=1,leaks=off," + os.environ.get("CUDASIM", "")
    for suite in SUITES:
        importlib.import_module(suite)

    names = [name for name in corpus.CASES if not arguments.filter or any(part in name for part in arguments.filter)]
    if arguments.list:
        print("\n".join(names))
        return 0
    skipped = []
    files = sorted({corpus.CASES[name][3] for name in names} - {None})
    programs = native.Programs(arguments, folder)
    failed = programs.compile_all(files, arguments.jobs, skipped)
    outcomes = [
        {"name": name, "outcome": "error", "message": f"{file} does not compile", "seconds": 0, "reports": []}
        for name in names
        if (file := corpus.CASES[name][3]) in programs.broken
    ]
    names = [name for name in names if corpus.CASES[name][3] not in failed]
    compiled = time.monotonic()
    if files:
        print(f"{len(files)} C++ files compiled in {compiled - started:.0f} s", flush=True)

    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for outcome in pool.map(lambda name: forked(name, arguments, folder), names):
            outcomes.append(outcome)
            tail = f": {outcome['message']}" if outcome["message"] else ""
            print(f"{outcome['outcome']}: {outcome['name']} ({outcome['seconds']} s){tail}", flush=True)

    total = summary(outcomes, skipped, time.monotonic() - started)
    print_summary(total)
    if arguments.json:
        arguments.json.write_text(json.dumps(total, indent=1) + "\n")
    return 1 if total["wrong"] or total["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
