"""Normalisation as modules."""

from __future__ import annotations

from collections.abc import Sequence

from portkit.compiler.graph import Size
from portkit.errors import UsageError
from portkit.tensor import creation, normalisation, pending
from portkit.tensor.autograd import no_grad
from portkit.tensor.nn import init
from portkit.tensor.nn.module import Module
from portkit.tensor.promotion import DTypeLike, wide
from portkit.tensor.realising import realise
from portkit.tensor.tensor import Tensor

_MOST_WAITING = 16
"""Batches that running means wait for, if no step of an optimizer computes them before."""


class LayerNorm(Module):
    """Standardised over the last axes, whose extents are `shape`; then scaled and shifted."""

    def __init__(
        self,
        shape: int | Sequence[int],
        epsilon: float = 1e-5,
        affine: bool = True,
        bias: bool = True,
        dtype: DTypeLike = "f32",
    ) -> None:
        """Begin with weight 1 and bias 0; without `affine` there are none."""
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.epsilon = epsilon
        self.weight = init.ones(self.shape, dtype) if affine else None
        self.bias = init.zeros(self.shape, dtype) if affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Return x (..., *shape) standardised. Raises `ShapeError`."""
        return normalisation.layer_norm(x, self.shape, self.weight, self.bias, self.epsilon)

    def told(self) -> str:
        """Return the extents."""
        return f"{self.shape}"


class RMSNorm(Module):
    """Divided by the root of the mean of the squares over the last axes, whose extents are `shape`; then scaled."""

    def __init__(
        self, shape: int | Sequence[int], epsilon: float = 1e-6, affine: bool = True, dtype: DTypeLike = "f32"
    ) -> None:
        """Begin with weight 1; without `affine` there is none."""
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.epsilon = epsilon
        self.weight = init.ones(self.shape, dtype) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """Return x (..., *shape) normalised. Raises `ShapeError`."""
        return normalisation.rms_norm(x, self.shape, self.weight, self.epsilon)

    def told(self) -> str:
        """Return the extents."""
        return f"{self.shape}"


class GroupNorm(Module):
    """x (n, channels, ...) standardised over each of `groups` groups of channels; then scaled and shifted."""

    def __init__(
        self, groups: int, channels: int, epsilon: float = 1e-5, affine: bool = True, dtype: DTypeLike = "f32"
    ) -> None:
        """Begin with weight 1 and bias 0. Raises `UsageError` where groups do not divide channels."""
        if groups < 1 or channels % groups:
            raise UsageError(f"GroupNorm: {channels} channels do not divide into {groups} groups")
        self.groups, self.epsilon = groups, epsilon
        self.weight = init.ones((channels,), dtype) if affine else None
        self.bias = init.zeros((channels,), dtype) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """Return x standardised. Raises `ShapeError`."""
        return normalisation.group_norm(x, self.groups, self.weight, self.bias, self.epsilon)

    def told(self) -> str:
        """Return the number of groups."""
        return f"groups={self.groups}"


class BatchNorm(Module):
    """x (n, channels, ...) standardised for each channel over the others; then scaled and shifted.

    In training by the statistics of the batch, of which running means are kept and used otherwise: each batch counts
    for `momentum`. The variance that is kept is that of n - 1.
    """

    dropped = frozenset({"num_batches_tracked"})
    _waiting = 0

    def __init__(
        self,
        channels: int,
        epsilon: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        dtype: DTypeLike = "f32",
    ) -> None:
        """Begin with weight 1, bias 0, running mean 0 and running variance 1."""
        self.epsilon, self.momentum = epsilon, momentum
        self.weight = init.ones((channels,), dtype) if affine else None
        self.bias = init.zeros((channels,), dtype) if affine else None
        self.running_mean = creation.zeros(channels, dtype=dtype)
        self.running_var = creation.ones(channels, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return x standardised. Raises `ShapeError`. Source: S. Ioffe, C. Szegedy, "Batch Normalization", 2015."""
        if not self.training:
            more = (self.running_mean, self.running_var, self.weight, self.bias)
            return normalisation.batch_norm(x, *more, self.epsilon)
        result = normalisation.batch_norm(x, None, None, self.weight, self.bias, self.epsilon)
        with no_grad():
            self._collect(x)
        return result

    def _collect(self, x: Tensor) -> None:
        """Move the running statistics towards those of a batch, which are the same nodes as in the result."""
        x = x.cast(wide(x.dtype))
        axes = [a for a in range(x.ndim) if a != 1]
        mean = x.mean(axes, keepdims=True)
        variance = (x - mean).square().mean(axes, keepdims=True)
        count: Size = 1
        for a in axes:
            count = count * x.shape[a]
        self._waiting = 0 if self.running_mean.node.op == "source" else self._waiting + 1
        unbiased = variance * (count / (count - 1)) if isinstance(count, int) and count > 1 else variance
        for kept, now in ((self.running_mean, mean), (self.running_var, unbiased)):
            kept.assign((kept * (1 - self.momentum) + now.reshape(kept.shape) * self.momentum).cast(kept.dtype))
            pending.note(kept)
        if self._waiting == _MOST_WAITING:
            realise([self.running_mean, self.running_var])

    def told(self) -> str:
        """Return the number of channels and the settings."""
        return f"{self.running_mean.shape[0]}, epsilon={self.epsilon}, momentum={self.momentum}"


class InstanceNorm(Module):
    """x (n, channels, ...) standardised over each channel of each sample; then scaled and shifted."""

    def __init__(self, channels: int, epsilon: float = 1e-5, affine: bool = False, dtype: DTypeLike = "f32") -> None:
        """Begin with weight 1 and bias 0 where `affine`."""
        self.epsilon = epsilon
        self.weight = init.ones((channels,), dtype) if affine else None
        self.bias = init.zeros((channels,), dtype) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """Return x standardised. Raises `ShapeError`."""
        return normalisation.instance_norm(x, self.weight, self.bias, self.epsilon)
