"""f32 matrix multiplication by other libraries, side by side: the figures that ours are set against.

Peers come from the extra `bench`; one that is not installed is left out. Prints GFLOP/s, best of interleaved runs.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Multiply = Callable[[], object]
RUNS = 7


def with_numpy(a: Array, b: Array) -> Multiply:
    """Multiply into a matrix that exists, so that fresh pages are not measured."""
    out = np.empty((a.shape[0], b.shape[1]), np.float32)
    return lambda: np.matmul(a, b, out=out)


def with_torch(a: Array, b: Array) -> Multiply:
    """Multiply with PyTorch on the CPU, into a matrix that exists."""
    torch: Any = importlib.import_module("torch")
    left, right = torch.from_numpy(a), torch.from_numpy(b)
    out = torch.empty((a.shape[0], b.shape[1]))
    return lambda: torch.mm(left, right, out=out)


def with_jax(a: Array, b: Array) -> Multiply:
    """Multiply with JAX on the CPU, and wait for the result."""
    jax: Any = importlib.import_module("jax")
    left, right = jax.numpy.asarray(a), jax.numpy.asarray(b)
    multiply = jax.jit(jax.numpy.matmul)
    return lambda: multiply(left, right).block_until_ready()


PEERS: dict[str, Callable[[Array, Array], Multiply]] = {"numpy": with_numpy, "torch": with_torch, "jax": with_jax}


def best_seconds(calls: dict[str, Multiply]) -> dict[str, float]:
    """Return the shortest run of each call; rounds are interleaved, the first only warms up."""
    best = dict.fromkeys(calls, float("inf"))
    for turn in range(RUNS + 1):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            elapsed = time.perf_counter() - begin
            if turn:
                best[name] = min(best[name], elapsed)
    return best


def gflops(size: int, names: list[str]) -> dict[str, float]:
    """Return GFLOP/s of each named peer at `size` x `size` x `size`."""
    random = np.random.default_rng(size)
    a, b = (random.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    times = best_seconds({name: PEERS[name](a, b) for name in names})
    return {name: 2e-9 * size**3 / elapsed for name, elapsed in times.items()}


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=[512, 1024, 1536, 2048])
    sizes: list[int] = parser.parse_args().sizes
    names = [name for name in PEERS if importlib.util.find_spec(name)]
    print(f"{'f32 matmul':>12} " + " ".join(f"{name:>8}" for name in names) + "   GFLOP/s")
    for size in sizes:
        row = gflops(size, names)
        print(f"{size:12} " + " ".join(f"{row[name]:8.0f}" for name in names))
    return 0


if __name__ == "__main__":
    sys.exit(main())
