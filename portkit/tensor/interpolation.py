"""Resizing the axes after the second of (n, c, *spatial) by interpolation, one axis after the other.

Positions are exact ratios of integers, so that they are the same on every backend: with n elements resized to m, and
`align_corners`, element i is at i (n - 1) / (m - 1); without, at (i + 1/2) n / m - 1/2, limited to the ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from portkit.compiler import graph
from portkit.compiler.graph import show
from portkit.errors import ShapeError, UsageError
from portkit.tensor import elementwise, movement
from portkit.tensor.common import sequence, static
from portkit.tensor.indexing import take
from portkit.tensor.promotion import inexact, wide

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor

Each: TypeAlias = int | Sequence[int]


def interpolate(
    x: Tensor,
    size: Each | None = None,
    scale: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
) -> Tensor:
    """Return x resized to `size`, or by `scale` (rounded down), along its spatial axes.

    Modes: "nearest", "linear" (over two axes bilinear), "cubic" (Keys, a = -0.75). Integers give f32 but for nearest.
    Raises `ShapeError`, `UsageError`.
    """
    rank = x.ndim - 2
    if rank < 1:
        raise ShapeError(f"interpolate needs an input (n, c, *spatial), got {show(x.shape)}")
    if mode not in _MODES:
        raise UsageError(f"interpolate: unknown mode {mode!r}; it is {', '.join(_MODES)}")
    extents = [static("interpolate", x, a) for a in range(2, x.ndim)]
    wanted = _sizes(x, extents, size, scale)
    if min(extents) < 1 or min(wanted) < 1:
        raise ShapeError(f"interpolate: cannot resize {show(x.shape)} to {wanted}")
    if mode == "nearest":
        for axis, count in enumerate(wanted, 2):
            x = _nearest(x, axis, count, align_corners)
        return x
    dtype = inexact(x.dtype)
    x = elementwise.cast(x, wide(dtype))
    for axis, count in enumerate(wanted, 2):
        x = _MODES[mode](x, axis, count, align_corners)
    return elementwise.cast(x, dtype)


def _sizes(
    x: Tensor, extents: Sequence[int], size: Each | None, scale: float | Sequence[float] | None
) -> tuple[int, ...]:
    if (size is None) == (scale is None):
        raise UsageError("interpolate: give either size or scale")
    if size is not None:
        return sequence(size, len(extents), "interpolate", "size")
    factors = tuple(scale) if isinstance(scale, Sequence) else (scale,) * len(extents)
    if len(factors) != len(extents):
        raise ShapeError(f"interpolate of {show(x.shape)}: scale needs one number or {len(extents)}, got {scale!r}")
    return tuple(int(n * _factor(x, f)) for n, f in zip(extents, factors, strict=True))


def _factor(x: Tensor, factor: object) -> float:
    if not isinstance(factor, (int, float)) or not 0 < factor < math.inf:
        raise ShapeError(f"interpolate of {show(x.shape)}: a scale is a finite number above 0, got {factor!r}")
    return factor


def _nearest(x: Tensor, axis: int, count: int, align_corners: bool) -> Tensor:
    """Return element floor(i n / m) for each i; a whole multiple repeats elements, by views alone."""
    if align_corners:
        raise UsageError("interpolate: 'nearest' has no align_corners; use 'linear'")
    n = static("interpolate", x, axis)
    if count % n == 0:
        return movement.repeat_interleave(x, count // n, axis)
    return take(x, x.wrap(graph.iota(count)) * n // count, axis)


def _position(x: Tensor, axis: int, count: int, align_corners: bool) -> tuple[Tensor, Tensor]:
    """Return where each result lies: the element before it (i32, from -1) and the fraction beyond, (count, 1, ...)."""
    n = static("interpolate", x, axis)
    places = x.wrap(graph.iota(count))
    if align_corners:
        top, bottom = places * (n - 1), max(count - 1, 1)
    else:
        top, bottom = (places * 2 + 1) * n - count, 2 * count
    whole = top // bottom
    fraction = elementwise.cast(top - whole * bottom, x.dtype) / float(bottom)
    return whole, movement.reshape(fraction, tuple(count if a == axis else 1 for a in range(x.ndim)))


def _element(x: Tensor, axis: int, place: Tensor) -> Tensor:
    """Return elements along an axis, those beyond an end being that end."""
    return take(x, elementwise.clip(place, 0, static("interpolate", x, axis) - 1), axis)


def _linear(x: Tensor, axis: int, count: int, align_corners: bool) -> Tensor:
    whole, fraction = _position(x, axis, count, align_corners)
    low, high = _element(x, axis, whole), _element(x, axis, whole + 1)
    return low + (high - low) * fraction


_KEYS = -0.75


def _cubic(x: Tensor, axis: int, count: int, align_corners: bool) -> Tensor:
    """Source: R. Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981."""
    whole, t = _position(x, axis, count, align_corners)
    total: Tensor | None = None
    for offset, weight in ((-1, _far(t + 1.0)), (0, _near(t)), (1, _near(1.0 - t)), (2, _far(2.0 - t))):
        part = _element(x, axis, whole + offset) * weight
        total = part if total is None else total + part
    assert total is not None
    return total


def _near(t: Tensor) -> Tensor:
    """Return the kernel for distances up to 1."""
    return ((_KEYS + 2.0) * t - (_KEYS + 3.0)) * t * t + 1.0


def _far(t: Tensor) -> Tensor:
    """Return the kernel for distances from 1 to 2."""
    return ((_KEYS * t - 5.0 * _KEYS) * t + 8.0 * _KEYS) * t - 4.0 * _KEYS


_MODES: dict[str, Callable[[Tensor, int, int, bool], Tensor]] = {
    "nearest": _nearest,
    "linear": _linear,
    "cubic": _cubic,
}
