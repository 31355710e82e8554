"""How tests look at tensors: by the meaning of their graphs in NumPy, so that no compiler is between."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from portkit.compiler import graph
from portkit.compiler.evaluate import evaluate
from portkit.spec.types import DType
from portkit.tensor.realising import contents
from portkit.tensor.tensor import Tensor


def value(tensor: Tensor, *, wide: bool = False) -> NDArray[Any]:
    """Return what a tensor means; with `wide`, computed in f64 throughout."""
    sources = [n for n in graph.topological([tensor.node]) if n.op == "source"]
    held = {n.attr: contents(Tensor.of(n)) for n in sources}
    return evaluate([tensor.node], held, wide=wide)[0]


def random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Return f32 numbers of a normal distribution, the same for ever."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def bits(dtype: DType, *shape: int, seed: int = 0) -> NDArray[Any]:
    """Return numbers of random bit patterns: every exponent, NaN, infinities, the extremes of integers."""
    raw = np.random.default_rng(seed).integers(0, 256, (*shape, dtype.bytes), dtype=np.uint8)
    if dtype.name == "bool":
        return raw[..., 0] > 127
    return raw.view(dtype.numpy)[..., 0]


def same(tensor: Tensor, wanted: Any) -> None:
    """Check that a tensor has just these elements, and this shape and dtype; NaN equals NaN."""
    wanted = np.asarray(wanted)
    got = value(tensor)
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    if tensor.dtype.is_float:  # exact; NumPy does not know the NaN of bf16 and f8 as equal to itself
        with np.errstate(invalid="ignore"):
            got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    np.testing.assert_array_equal(got, wanted)


def close(tensor: Tensor, wanted: Any, roundings: int, scale: float | None = None) -> None:
    """Check a float tensor against the exact elements: off by at most so many roundings of numbers up to `scale`.

    A rounding is off by half a unit in the last place; `scale` is the largest exact element by default.
    """
    got = value(tensor)
    wanted = np.asarray(wanted, np.float64)
    assert got.shape == wanted.shape
    unit = 2.0 ** -(tensor.dtype.precision - 1) / 2
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(got[~finite], wanted[~finite].astype(got.dtype))
    largest = max(np.abs(wanted[finite]).max(initial=0.0), 2.0**tensor.dtype.emin) if scale is None else scale
    error = np.abs(got[finite].astype(np.float64) - wanted[finite]).max(initial=0.0)
    assert error <= roundings * unit * largest, f"off by {error / (unit * largest):.2f} roundings of {largest}"
