"""The hand-written GEMM of `examples/gemm` on the cpu backend, as a share of the FMA peak measured beside it.

`python bench/gemm.py [--size N] [--json]`; the peak is measured before and after, the larger counts. The kernel runs
first at a small size, where every element is compared with the reference. Exits 1 below the limit or where it is wrong.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np

from bench.peaks import RUNS, Bench
from portkit.backends.cpu import BACKEND
from portkit.conformance.replay import make_inputs, run_against_reference
from portkit.runtime.client import DeviceClient
from portkit.spec.geometry import grid_counts
from portkit.spec.kernel import Kernel

SIZE = 1536
LIMIT = 0.7
SMALL = (48, 128, 16)


def _example() -> ModuleType:
    path = Path(__file__).parent.parent / "examples" / "gemm" / "gemm.py"
    spec = importlib.util.spec_from_file_location("gemm", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gemm"] = module
    spec.loader.exec_module(module)
    return module


def agrees_at_small_size() -> bool:
    """Return whether the same code at a small size gives exactly the reference's bits."""
    example = _example()
    m, n, k = SMALL
    kernel: Kernel = example.gemm(m, n, k, example.Blocking(depth=8, panel=64))
    with DeviceClient("cpu") as client:
        return run_against_reference(kernel, {}, make_inputs(kernel, {}, {}, "gemm"), client).verdict.passes


def gflops(size: int) -> float:
    """Return the best rate of `RUNS` launches after a warm-up, in 1e9 operations per second."""
    kernel: Kernel = _example().gemm(size, size, size)
    device = BACKEND.open()
    executable = device.compile(kernel)
    handles = [device.allocate(4 * size * size) for _ in range(3)]
    ones = np.ones(size * size, np.float32)
    for handle in handles[:2]:
        device.write(handle, 0, ones.tobytes())
    device.write(handles[2], 0, bytes(4 * size * size))
    grid = grid_counts(kernel, {})
    seconds: list[float] = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        device.launch(executable, grid, handles, [])
        device.synchronise(60.0)
        seconds.append(time.perf_counter() - start)
    result = np.frombuffer(device.read(handles[2], 0, 4 * size * size), np.float32)
    device.close()
    if not (result == np.float32(size * (RUNS + 1))).all():
        raise RuntimeError("the product of matrices of ones is wrong; its time means nothing")
    return 2 * size**3 / min(seconds[1:]) / 1e9


def _peak() -> float:
    bench = Bench()
    try:
        return bench.fma_gflops()
    finally:
        bench.pool.close()


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=SIZE, help="m = n = k")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    exact = agrees_at_small_size()
    before, rate = _peak(), gflops(options.size)
    peak = max(before, _peak())
    share = rate / peak
    if options.json:
        figures = {"size": options.size, "gflops": rate, "peak_gflops": peak, "share": share, "limit": LIMIT}
        sys.stdout.write(json.dumps({**figures, "exact_at_small_size": exact}) + "\n")
    else:
        m, n, k = SMALL
        sys.stdout.write(f"{m} x {n} x {k}: {'equal to the reference, bit for bit' if exact else 'WRONG'}\n")
        sys.stdout.write(
            f"{options.size}^3: {rate:.0f} GFLOP/s of {peak:.0f}, {share:.2f} of the peak; limit {LIMIT}\n"
        )
    return 0 if exact and share >= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
