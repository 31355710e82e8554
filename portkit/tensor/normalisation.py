"""Softmax and the norms: statistics over axes, subtracted and divided.

f16 and bf16 compute in f32 and are rounded once. Weights and biases broadcast to the axes that they belong to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from portkit.compiler.graph import Size, show
from portkit.errors import ShapeError
from portkit.tensor import elementwise as e
from portkit.tensor import movement, reductions
from portkit.tensor.activations import in_wide
from portkit.tensor.common import Axes, axes_of, one_axis, static

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor


@in_wide
def softmax(x: Tensor, axis: Axes = -1) -> Tensor:
    """Return exp(x) divided by its sum over axes, shifted by the maximum so that it does not overflow.

    Raises `AxisError`.
    """
    axes = axes_of("softmax", x, axis)
    if x.size == 0:
        return x
    powers = e.exp(x - e.detach(reductions.max(x, axes, keepdims=True)))
    # One reciprocal a row: a division for each element would take as long as its exponential.
    return powers * e.reciprocal(reductions.sum(powers, axes, keepdims=True))


@in_wide
def log_softmax(x: Tensor, axis: Axes = -1) -> Tensor:
    """Return the logarithm of `softmax`, without underflow. Raises `AxisError`."""
    axes = axes_of("log_softmax", x, axis)
    if x.size == 0:
        return x
    shifted = x - e.detach(reductions.max(x, axes, keepdims=True))
    return shifted - e.log(reductions.sum(e.exp(shifted), axes, keepdims=True))


def _standardised(x: Tensor, axes: Sequence[int], epsilon: float) -> Tensor:
    """Return x less its mean, over the square root of its variance plus epsilon."""
    centred = x - reductions.mean(x, axes, keepdims=True)
    spread = reductions.mean(e.square(centred), axes, keepdims=True)
    return centred * e.rsqrt(spread + epsilon)


def _scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * e.cast(weight, x.dtype)
    return x if bias is None else x + e.cast(bias, x.dtype)


def _last_axes(name: str, x: Tensor, shape: Size | Sequence[Size]) -> tuple[int, ...]:
    """Return the last axes, whose extents are `shape`. Raises `ShapeError`."""
    extents = tuple(shape) if isinstance(shape, Sequence) else (shape,)
    if not extents or x.shape[-len(extents) :] != extents:
        raise ShapeError(f"{name}: input {show(x.shape)} does not end in the normalised shape {show(extents)}")
    return tuple(range(x.ndim - len(extents), x.ndim))


def _check_extents(name: str, extents: Sequence[Size], **parameters: Tensor | None) -> None:
    """Refuse weights and biases of another shape than the normalised one, told by their names. Raises `ShapeError`."""
    for what, p in parameters.items():
        if p is not None and p.shape != tuple(extents):
            told = f"{what} {show(p.shape)} does not have the normalised shape {show(tuple(extents))}"
            raise ShapeError(f"{name}: {told}; reshape or expand it")


@in_wide
def layer_norm(
    x: Tensor,
    shape: Size | Sequence[Size],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """Return x standardised over its last axes, whose extents are `shape`; weight and bias have that shape.

    Raises `ShapeError`. Source: J. Ba et al., "Layer Normalization", 2016.
    """
    axes = _last_axes("layer_norm", x, shape)
    _check_extents("layer_norm", [x.shape[a] for a in axes], weight=weight, bias=bias)
    return _scaled(_standardised(x, axes, epsilon), weight, bias)


@in_wide
def rms_norm(
    x: Tensor, shape: Size | Sequence[Size] | None = None, weight: Tensor | None = None, epsilon: float = 1e-6
) -> Tensor:
    """Return x over the root of the mean of its squares, over the last axes (one if `shape` is None).

    Raises `ShapeError`. Source: B. Zhang, R. Sennrich, "Root Mean Square Layer Normalization", 2019.
    """
    axes = _last_axes("rms_norm", x, x.shape[one_axis("rms_norm", x, -1)] if shape is None else shape)
    _check_extents("rms_norm", [x.shape[a] for a in axes], weight=weight)
    return _scaled(x * e.rsqrt(reductions.mean(e.square(x), axes, keepdims=True) + epsilon), weight, None)


def _channels(name: str, x: Tensor, *parameters: Tensor | None) -> list[Tensor | None]:
    """Return parameters (c,) shaped to broadcast to x (n, c, ...). Raises `ShapeError`."""
    if x.ndim < 2:
        raise ShapeError(f"{name} needs an input (n, c, ...), got {show(x.shape)}")
    for p in parameters:
        if p is not None and p.shape != x.shape[1:2]:
            raise ShapeError(f"{name}: {show(p.shape)} does not fit the {x.shape[1]} channels of {show(x.shape)}")
    rest = (1,) * (x.ndim - 2)
    return [None if p is None else movement.reshape(p, (1, x.shape[1], *rest)) for p in parameters]


@in_wide
def group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, epsilon: float = 1e-5
) -> Tensor:
    """Return x (n, c, ...) standardised over each of `groups` groups of channels; weight and bias are (c,).

    Raises `ShapeError`. Source: Y. Wu, K. He, "Group Normalization", 2018.
    """
    parameters = _channels("group_norm", x, weight, bias)
    if groups < 1 or static("group_norm", x, 1) % groups:
        raise ShapeError(f"group_norm: {x.shape[1]} channels of {show(x.shape)} do not divide into {groups} groups")
    split = movement.unflatten(x, 1, (groups, -1))
    normal = _standardised(split, tuple(range(2, split.ndim)), epsilon)
    weight, bias = (None if p is None else movement.unflatten(p, 1, (groups, -1)) for p in parameters)
    return movement.reshape(_scaled(normal, weight, bias), x.shape)


def instance_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, epsilon: float = 1e-5) -> Tensor:
    """Return x (n, c, ...) standardised over each channel of each sample. Raises `ShapeError`."""
    _channels("instance_norm", x)
    return group_norm(x, static("instance_norm", x, 1), weight, bias, epsilon)


@in_wide
def batch_norm(
    x: Tensor,
    mean: Tensor | None = None,
    variance: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """Return x (n, c, ...) standardised for each channel, by its own statistics or those given; all are (c,).

    Raises `ShapeError`. Source: S. Ioffe, C. Szegedy, "Batch Normalization", 2015.
    """
    mean, variance, weight, bias = _channels("batch_norm", x, mean, variance, weight, bias)
    if mean is None or variance is None:
        normal = _standardised(x, [a for a in range(x.ndim) if a != 1], epsilon)
    else:
        normal = (x - mean) * e.rsqrt(e.cast(variance, x.dtype) + epsilon)
    return _scaled(normal, weight, bias)


@in_wide
def normalize(x: Tensor, axis: Axes = -1, epsilon: float = 1e-12) -> Tensor:
    """Return x over its Euclidean norm along axes, which is taken as at least epsilon. Raises `AxisError`."""
    return x / e.maximum(reductions.norm(x, axis, keepdims=True), epsilon)
