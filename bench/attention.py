"""Attention as the compiler makes it, one kernel on the cpu backend, as a share of the FMA peak measured beside it.

`python bench/attention.py [--heads N] [--positions N] [--width N] [--json]`; every form is measured in turn with the
peak and with torch where that is installed (extra `bench`), the best of each counts. Operations are 4 x heads x
positions^2 x width, also where a causal mask makes half of them needless. Exits 1 below the limit, or where a result is
wrong.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peaks import Bench
from portkit.backends.cpu import BACKEND
from portkit.compiler.compile import compile_graph
from portkit.contract import Device
from portkit.spec.geometry import grid_counts
from portkit.tensor.functional import scaled_dot_product_attention
from portkit.tensor.tensor import Tensor

LIMIT = 0.5
ROUNDS = 5
RUNS = 7
FORMS = {"plain": False, "causal": True}

Array = NDArray[np.float32]
Launch = Callable[[], object]


@dataclass
class Measured:
    """What runs, and the shortest time that it took so far."""

    launch: Launch
    seconds: float = field(default=float("inf"))

    def measure(self) -> None:
        """Run a few times after a warm-up."""
        self.launch()
        for _ in range(RUNS):
            start = time.perf_counter()
            self.launch()
            self.seconds = min(self.seconds, time.perf_counter() - start)


def ours(device: Device, arrays: list[Array], causal: bool) -> tuple[Launch, Callable[[], Array]]:
    """Return a launch of the compiled kernel, and what reads its result."""
    query, key, value = (Tensor(a) for a in arrays)
    output = scaled_dot_product_attention(query, key, value, causal=causal)
    compiled = compile_graph([output.node], BACKEND.capabilities)
    program = compiled.program
    (launch,) = program.launches
    handles = [device.allocate(arrays[0].nbytes) for _ in program.slots]
    for number, source in zip(program.inputs, compiled.sources, strict=True):
        device.write(handles[number], 0, source.buffer.array.tobytes())
    executable, grid = device.compile(launch.kernel), grid_counts(launch.kernel, {})
    buffers = [handles[b] for b in launch.buffers]

    def run() -> None:
        device.launch(executable, grid, buffers, [])
        device.synchronise(60.0)

    def read() -> Array:
        found = device.read(handles[program.outputs[0]], 0, arrays[0].nbytes)
        return np.frombuffer(found, np.float32).reshape(arrays[0].shape)

    return run, read


def with_torch(arrays: list[Array], causal: bool) -> Launch:
    """Return attention by PyTorch on the CPU."""
    torch: Any = importlib.import_module("torch")
    inputs = [torch.from_numpy(a)[None] for a in arrays]
    return lambda: torch.nn.functional.scaled_dot_product_attention(*inputs, is_causal=causal)


def wanted(arrays: list[Array], causal: bool) -> NDArray[np.float64]:
    """Return attention in f64."""
    query, key, value = (a.astype(np.float64) for a in arrays)
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    if causal:
        scores[:, np.triu(np.ones(scores.shape[1:], bool), 1)] = -np.inf
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)) @ value


def error_bound(arrays: list[Array]) -> float:
    """Return how far f32 may be off: scores by u for each product, their exponentials and the sums by as much again."""
    u = 2.0**-24
    query, key, value = (np.abs(a.astype(np.float64)) for a in arrays)
    width, positions = query.shape[-1], query.shape[-2]
    scores = (width + 4) * u * float((query @ key.swapaxes(-1, -2)).max()) / np.sqrt(width)
    return float(2 * np.expm1(scores + 8 * u) + 2 * (positions + 4) * u) * float(value.max())


def measure(shape: tuple[int, int, int]) -> tuple[dict[str, float], dict[str, bool]]:
    """Return the best rates of all that runs and of the peak, in GFLOP/s, and whether our results are right."""
    random = np.random.default_rng(0)
    arrays = [random.standard_normal(shape, dtype=np.float32) for _ in range(3)]
    device, bench = BACKEND.open(), Bench()
    runs: dict[str, Measured] = {}
    right: dict[str, bool] = {}
    for name, causal in FORMS.items():
        launch, read = ours(device, arrays, causal)
        launch()
        right[name] = bool(np.abs(read() - wanted(arrays, causal)).max() <= error_bound(arrays))
        runs[name] = Measured(launch)
        if importlib.util.find_spec("torch"):
            runs[f"torch {name}"] = Measured(with_torch(arrays, causal))
    peak = 0.0
    for _ in range(ROUNDS):
        for run in runs.values():
            run.measure()
        peak = max(peak, bench.fma_gflops())
    device.close()
    bench.pool.close()
    heads, positions, width = shape
    work = 4e-9 * heads * positions**2 * width
    return {"peak": peak, **{name: work / run.seconds for name, run in runs.items()}}, right


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("heads", 8), ("positions", 1024), ("width", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rates, right = measure((options.heads, options.positions, options.width))
    if options.json:
        sys.stdout.write(json.dumps({"gflops": rates, "right": right, "limit": LIMIT}) + "\n")
    else:
        sys.stdout.write(f"{options.heads} heads, {options.positions} positions, {options.width} wide\n")
        for name, rate in rates.items():
            told = {True: ", right", False: ", WRONG", None: ""}[right.get(name)]
            sys.stdout.write(f"{name:>13}: {rate:5.0f} GFLOP/s, {rate / rates['peak']:.2f} of the peak{told}\n")
    return 0 if all(right.values()) and rates["plain"] >= LIMIT * rates["peak"] else 1


if __name__ == "__main__":
    sys.exit(main())
