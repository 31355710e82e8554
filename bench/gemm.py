"""The hand-written GEMM of `examples/gemm` on the cpu backend, as a share of the FMA peak measured beside it.

`python bench/gemm.py [--size N] [--json]`; kernel and peak are measured in turn, the best of each counts. The same
code runs first at a small size, where every element is compared with the reference. Exits 1 below the limit, or where a
result is wrong.
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
ROUNDS = 5
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


class Product:
    """The kernel at one size, compiled, with matrices of ones on the device."""

    def __init__(self, size: int) -> None:
        self.size = size
        kernel: Kernel = _example().gemm(size, size, size)
        self.device = BACKEND.open()
        self.executable = self.device.compile(kernel)
        self.grid = grid_counts(kernel, {})
        self.handles = [self.device.allocate(4 * size * size) for _ in range(3)]
        for handle in self.handles[:2]:
            self.device.write(handle, 0, np.ones(size * size, np.float32).tobytes())
        self.device.write(self.handles[2], 0, bytes(4 * size * size))
        self.launches = 0

    def launch(self) -> float:
        """Launch once and return the seconds that it took."""
        start = time.perf_counter()
        self.device.launch(self.executable, self.grid, self.handles, [])
        self.device.synchronise(60.0)
        self.launches += 1
        return time.perf_counter() - start

    def gflops(self) -> float:
        """Return the best rate of `RUNS` launches after a warm-up, in 1e9 operations per second."""
        return 2 * self.size**3 / min([self.launch() for _ in range(RUNS + 1)][1:]) / 1e9

    def check(self) -> None:
        """Raise `RuntimeError` unless every element has grown by the size at every launch."""
        result = np.frombuffer(self.device.read(self.handles[2], 0, 4 * self.size * self.size), np.float32)
        if not (result == np.float32(self.size * self.launches)).all():
            raise RuntimeError("the product of matrices of ones is wrong; its time means nothing")


def measure(size: int) -> tuple[float, float]:
    """Return the best rate of the kernel and the peak, from rounds in turn, so that a busy moment hits both."""
    product, bench = Product(size), Bench()
    rounds = [(product.gflops(), bench.fma_gflops()) for _ in range(ROUNDS)]
    product.check()
    product.device.close()
    bench.pool.close()
    return max(rate for rate, _ in rounds), max(peak for _, peak in rounds)


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=SIZE, help="m = n = k")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    exact = agrees_at_small_size()
    rate, peak = measure(options.size)
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
