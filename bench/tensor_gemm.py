"""Contractions through `Tensor` on the cpu backend, as a share of the FMA peak measured beside each.

`python bench/tensor_gemm.py [--only WORD] [--json]`. Products, their transposes, batches, the layers of a perceptron
and convolutions are measured in turn with the peak and, where it has the same operation, with NumPy; the best of each
counts. Exits 1 where one is below its limit, or where a result is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench.peaks import Bench
from portkit.runtime.devices import open_device
from portkit.tensor import Tensor
from portkit.tensor import functional as F

ROUNDS = 3
RUNS = 5
SETTLE = 3
"""Runs before the measured ones: compiled, recorded, pages touched."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Work:
    """A contraction of two arrays: ours, NumPy's where it has it, multiplications, and the least share of the peak."""

    name: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    ours: Callable[[Tensor, Tensor], Tensor]
    numpy: Callable[[Array, Array], Array] | None
    multiplications: int
    limit: float = 0.0


@dataclass(frozen=True)
class Result:
    """What was measured: rates in 1e9 operations per second, two for each multiplication."""

    name: str
    gflops: float
    peak: float
    numpy: float | None
    limit: float
    right: bool

    @property
    def share(self) -> float:
        return self.gflops / self.peak

    @property
    def holds(self) -> bool:
        return self.right and self.share >= self.limit


def product(m: int, n: int, k: int, limit: float = 0.0) -> Work:
    """Return x @ w of (m, k) and (k, n)."""
    return Work(f"{m} x {n} x {k}", ((m, k), (k, n)), lambda x, w: x @ w, lambda x, w: x @ w, m * n * k, limit)


def linear(m: int, n: int, k: int) -> Work:
    """Return x @ w.T of (m, k) and (n, k): the layer of a perceptron."""
    shapes = ((m, k), (n, k))
    return Work(f"linear {m} x {n} x {k}", shapes, F.linear, lambda x, w: x @ w.T, m * n * k)


def weights(m: int, n: int, k: int) -> Work:
    """Return x.T @ w of (k, m) and (k, n): the gradient of a layer's weights."""
    shapes = ((k, m), (k, n))
    return Work(f"x.T @ w {m} x {n} x {k}", shapes, lambda x, w: x.transpose() @ w, lambda x, w: x.T @ w, m * n * k)


def batch(count: int, m: int, n: int, k: int) -> Work:
    """Return `count` products of (m, k) and (k, n)."""
    shapes = ((count, m, k), (count, k, n))
    return Work(f"{count} of {m} x {n} x {k}", shapes, lambda x, w: x @ w, np.matmul, count * m * n * k)


def convolution(n: int, channels: int, outputs: int, size: int, kernel: int) -> Work:
    """Return a convolution that keeps the size of its images."""
    shapes = ((n, channels, size, size), (outputs, channels, kernel, kernel))
    count = n * outputs * size * size * channels * kernel * kernel
    name = f"conv {channels} -> {outputs}, {kernel} x {kernel}, {size} x {size}, n {n}"
    return Work(name, shapes, lambda x, w: F.conv2d(x, w, padding=kernel // 2), None, count)


WORKS = (
    product(256, 256, 256),
    product(512, 512, 512),
    product(1024, 1024, 1024, limit=0.5),
    product(2048, 2048, 2048, limit=0.5),
    linear(1024, 1024, 1024),
    weights(1024, 1024, 1024),
    *(linear(m, 512, 512) for m in (32, 128, 512)),
    *(product(m, 512, 512) for m in (32, 128)),
    batch(8, 1024, 1024, 64),
    batch(8, 1024, 64, 1024),
    convolution(8, 64, 64, 56, 3),
    convolution(8, 128, 128, 28, 3),
    convolution(8, 256, 256, 14, 3),
    convolution(8, 64, 256, 56, 1),
)


def seconds(run: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(work: Work, bench: Bench) -> Result:
    """Return the best rates of some rounds in turn."""
    generator = np.random.default_rng(0)
    arrays = [generator.integers(-2, 3, shape).astype(np.float32) for shape in work.shapes]
    x, w = (Tensor(array) for array in arrays)
    device = open_device()

    def ours() -> None:
        work.ours(x, w).realize()
        device.synchronise()

    theirs = work.numpy
    right = is_right(work, arrays, np.asarray(work.ours(x, w).numpy()))
    best, peak, other = float("inf"), 0.0, float("inf")
    for _ in range(SETTLE):
        ours()
    for _ in range(ROUNDS):
        best = min(best, *(seconds(ours) for _ in range(RUNS)))
        peak = max(peak, bench.fma_gflops())
        if theirs is not None:
            other = min(other, *(seconds(partial(theirs, *arrays)) for _ in range(RUNS)))
    operations = 2 * work.multiplications / 1e9
    return Result(work.name, operations / best, peak, operations / other if theirs else None, work.limit, right)


def is_right(work: Work, arrays: list[Array], found: Array) -> bool:
    """Return whether small integers gave exactly the sums that they have; of a convolution, its sum over everything."""
    if work.numpy is not None:
        return bool(np.array_equal(found, work.numpy(*arrays)))
    x, w = (array.astype(np.float64) for array in arrays)
    k, size = w.shape[-1], x.shape[-1]
    padded = np.pad(x, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    total = sum(
        (padded[:, :, i : i + size, j : j + size].sum((0, 2, 3)) * w[:, :, i, j].sum(0)).sum()
        for i in range(k)
        for j in range(k)
    )
    return bool(found.astype(np.float64).sum() == total)


def line(result: Result) -> str:
    """Return a result for people."""
    numpy = "" if result.numpy is None else f"   {result.gflops / result.numpy:5.2f} x numpy"
    verdict = "" if result.holds else "   WRONG" if not result.right else f"   below {result.limit}"
    return f"{result.name:38s} {result.gflops:6.0f} GFLOP/s  {result.share:5.2f} of {result.peak:.0f}{numpy}{verdict}"


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only what has this in its name")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    bench = Bench()
    results: list[Result] = []
    for work in WORKS:
        if options.only in work.name:
            results.append(measure(work, bench))
            if not options.json:
                sys.stdout.write(line(results[-1]) + "\n")
    if options.json:
        fields = ("name", "gflops", "peak", "numpy", "share", "limit", "right")
        sys.stdout.write(json.dumps([{f: getattr(r, f) for f in fields} for r in results]) + "\n")
    bench.pool.close()
    return 0 if all(r.holds for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
