"""Activation functions: elementwise composites in the dtype of the tensor, f32 for integers.

f16 and bf16 compute in f32 and are rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from portkit.errors import UsageError
from portkit.tensor import elementwise as e
from portkit.tensor.promotion import inexact, wide

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor

P = ParamSpec("P")


def in_wide(function: Callable[Concatenate[Tensor, P], Tensor]) -> Callable[Concatenate[Tensor, P], Tensor]:
    """Return a function of a float tensor that computes in f32 where the tensor is narrower, and rounds once."""

    @wraps(function)
    def rounded_once(x: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        dtype = inexact(x.dtype)
        return e.cast(function(e.cast(x, wide(dtype)), *args, **kwargs), dtype)

    return rounded_once


def relu(x: Tensor) -> Tensor:
    """Return max(x, 0), NaN of NaN."""
    return e.maximum(x, 0)


def relu6(x: Tensor) -> Tensor:
    """Return x limited to 0 .. 6."""
    return e.clip(x, 0, 6)


@in_wide
def leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    """Return x where it is positive, else slope * x."""
    return e.where(x > 0, x, x * slope)


@in_wide
def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """Return x where it is positive, else alpha * (exp(x) - 1)."""
    return e.where(x > 0, x, e.expm1(e.minimum(x, 0)) * alpha)


@in_wide
def selu(x: Tensor) -> Tensor:
    """Return the scaled exponential unit. Source: Klambauer et al., "Self-Normalizing Neural Networks", 2017."""
    return elu(x, 1.6732632423543772) * 1.0507009873554805


@in_wide
def softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x)), without overflow: max(x, 0) + log1p(exp(-|x|))."""
    return e.maximum(x, 0) + e.log1p(e.exp(-e.abs(x)))


@in_wide
def log_sigmoid(x: Tensor) -> Tensor:
    """Return log(sigmoid(x)), without underflow: min(x, 0) - log1p(exp(-|x|))."""
    return e.minimum(x, 0) - e.log1p(e.exp(-e.abs(x)))


@in_wide
def silu(x: Tensor) -> Tensor:
    """Return x * sigmoid(x)."""
    return x * e.sigmoid(x)


@in_wide
def mish(x: Tensor) -> Tensor:
    """Return x * tanh(softplus(x))."""
    return x * e.tanh(softplus(x))


@in_wide
def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """Return x times the normal distribution function of x, exact or with "tanh".

    Raises `UsageError` for another approximation. Source: D. Hendrycks, K. Gimpel, "Gaussian Error Linear Units", 2016.
    """
    if approximate == "none":
        return x * 0.5 * (e.erf(x * math.sqrt(0.5)) + 1.0)
    if approximate == "tanh":
        return x * 0.5 * (e.tanh((x + x * x * x * 0.044715) * math.sqrt(2.0 / math.pi)) + 1.0)
    raise UsageError(f"gelu: unknown approximation {approximate!r}; it is 'none' or 'tanh'")


@in_wide
def hardsigmoid(x: Tensor) -> Tensor:
    """Return x / 6 + 1/2, limited to 0 .. 1."""
    return e.clip(x + 3.0, 0.0, 6.0) * (1.0 / 6.0)


@in_wide
def hardswish(x: Tensor) -> Tensor:
    """Return x * hardsigmoid(x)."""
    return x * hardsigmoid(x)


def hardtanh(x: Tensor, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Return x limited to low .. high."""
    return e.clip(x, low, high)


@in_wide
def softsign(x: Tensor) -> Tensor:
    """Return x / (1 + |x|)."""
    return x / (e.abs(x) + 1.0)


def dropout(x: Tensor, noise: Tensor, rate: float = 0.5) -> Tensor:
    """Return x with elements set to 0 where `noise` is below `rate`, the others scaled by 1 / (1 - rate).

    `noise` is uniform in 0 .. 1 and broadcasts to x. Raises `UsageError` for a rate outside 0 .. 1, `ShapeError`.
    """
    if not isinstance(rate, (int, float)) or not 0.0 <= rate <= 1.0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"dropout: the rate is a share from 0 to 1, got {rate!r}")
    scaled = x * (1.0 / (1.0 - rate) if rate < 1.0 else 0.0)
    return e.where(noise >= rate, scaled, 0.0)
