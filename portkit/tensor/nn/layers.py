"""Layers without space or time: products, embeddings, dropout, activations, and what changes only the shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from portkit.errors import UsageError
from portkit.tensor import activations, indexing, interpolation, normalisation, pooling, products, random
from portkit.tensor.common import at_least
from portkit.tensor.nn import init
from portkit.tensor.nn.module import Module
from portkit.tensor.promotion import DTypeLike, as_dtype, wide
from portkit.tensor.random import Generator
from portkit.tensor.tensor import Tensor

Each = int | Sequence[int]


class Linear(Module):
    """x @ weight.T + bias, for x (..., inputs): weight (outputs, inputs), bias (outputs,)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True, dtype: DTypeLike = "f32") -> None:
        """Draw weight and bias evenly up to 1/sqrt(inputs). Raises `ShapeError` for negative counts."""
        at_least(0, "Linear", inputs=inputs, outputs=outputs)
        self.weight = init.by_inputs((outputs, inputs), inputs, dtype)
        self.bias = init.by_inputs((outputs,), inputs, dtype) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., outputs). Raises `ShapeError`, `DTypeError`."""
        return products.linear(x, self.weight, self.bias)

    def told(self) -> str:
        """Return the extents."""
        return f"{self.weight.shape[1]} -> {self.weight.shape[0]}"


class Embedding(Module):
    """Rows of weight (count, width) by integers; one out of range gives zeros."""

    def __init__(self, count: int, width: int, dtype: DTypeLike = "f32") -> None:
        """Draw the rows from the standard normal distribution."""
        self.weight = init.normal((count, width), dtype=dtype)

    def forward(self, index: Tensor) -> Tensor:
        """Return (..., width) for integers (...). Raises `DTypeError`."""
        return indexing.embedding(self.weight, index)

    def told(self) -> str:
        """Return the extents."""
        return f"{self.weight.shape[0]} x {self.weight.shape[1]}"


class Dropout(Module):
    """In training, zeros in place of a share of the elements, the others scaled up so that the mean stays."""

    def __init__(self, rate: float = 0.5, generator: Generator | None = None) -> None:
        """Drop with probability `rate`. Raises `UsageError` outside of 0 to 1."""
        if not 0 <= rate <= 1:
            raise UsageError(f"Dropout: the rate is a share from 0 to 1, got {rate}")
        self.rate = rate
        self._generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """Return x itself when not training. Source: N. Srivastava et al., "Dropout", 2014."""
        if not self.training or not self.rate:
            return x
        noise = random.rand(*x.shape, dtype=wide(as_dtype(x.dtype)), generator=self._generator)
        return activations.dropout(x, noise, self.rate)

    def told(self) -> str:
        """Return the rate."""
        return f"{self.rate}"


class Function(Module):
    """A function of one tensor as a module, with settings."""

    def __init__(self, function: Callable[..., Tensor], *settings: Any) -> None:
        """Call `function` with the tensor and then `settings`."""
        self._function = function
        self._settings = settings

    def forward(self, x: Tensor) -> Tensor:
        """Return what the function gives."""
        return self._function(x, *self._settings)

    def told(self) -> str:
        """Return the settings, and of a plain `Function` the name of its function."""
        name = [getattr(self._function, "__name__", "?")] if type(self) is Function else []
        return ", ".join([*name, *map(repr, self._settings)])


class Identity(Module):
    """The tensor itself."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x."""
        return x


class Flatten(Function):
    """The axes from `start` to `end` as one."""

    def __init__(self, start: int = 1, end: int = -1) -> None:
        """Keep the axes before and after."""
        super().__init__(Tensor.flatten, start, end)


class ReLU(Function):
    """max(x, 0)"""

    def __init__(self) -> None:
        """Have no settings."""
        super().__init__(activations.relu)


class LeakyReLU(Function):
    """x where it is positive, else slope * x."""

    def __init__(self, slope: float = 0.01) -> None:
        """Give negative values a slope."""
        super().__init__(activations.leaky_relu, slope)


class ELU(Function):
    """x where it is positive, else alpha * (exp(x) - 1)."""

    def __init__(self, alpha: float = 1.0) -> None:
        """Approach -alpha."""
        super().__init__(activations.elu, alpha)


class GELU(Function):
    """x times the normal distribution function of x."""

    def __init__(self, approximate: str = "none") -> None:
        """Compute it with `erf`, or approximately with "tanh"."""
        super().__init__(activations.gelu, approximate)


class SiLU(Function):
    """x * sigmoid(x)"""

    def __init__(self) -> None:
        """Have no settings."""
        super().__init__(activations.silu)


class Sigmoid(Function):
    """1 / (1 + exp(-x))"""

    def __init__(self) -> None:
        """Have no settings."""
        super().__init__(Tensor.sigmoid)


class Tanh(Function):
    """The hyperbolic tangent."""

    def __init__(self) -> None:
        """Have no settings."""
        super().__init__(Tensor.tanh)


class Softplus(Function):
    """log(1 + exp(x))"""

    def __init__(self) -> None:
        """Have no settings."""
        super().__init__(activations.softplus)


class Softmax(Function):
    """exp(x) divided by its sum along an axis."""

    def __init__(self, axis: int = -1) -> None:
        """Sum along `axis`."""
        super().__init__(normalisation.softmax, axis)


class LogSoftmax(Function):
    """The logarithm of the softmax along an axis."""

    def __init__(self, axis: int = -1) -> None:
        """Sum along `axis`."""
        super().__init__(normalisation.log_softmax, axis)


class MaxPool(Function):
    """The maximum of each window of the axes after the second."""

    def __init__(self, kernel: Each, stride: Each | None = None, padding: Each = 0, dilation: Each = 1) -> None:
        """Move windows by the kernel if no stride is given."""
        super().__init__(pooling.max_pool, kernel, stride, padding, dilation)


class AvgPool(Function):
    """The mean of each window of the axes after the second."""

    def __init__(self, kernel: Each, stride: Each | None = None, padding: Each = 0, count_padding: bool = True) -> None:
        """Move windows by the kernel if no stride is given; padded zeros count unless told otherwise."""
        super().__init__(pooling.avg_pool, kernel, stride, padding, count_padding)


class AdaptiveAvgPool(Function):
    """The means of as many bins along each axis after the second as are asked for."""

    def __init__(self, output: Each = 1) -> None:
        """Make `output` bins."""
        super().__init__(pooling.adaptive_avg_pool, output)


class Interpolate(Function):
    """The axes after the second resampled by `portkit.tensor.interpolation.interpolate`, with its settings."""

    def __init__(self, *settings: Any) -> None:
        """Give the settings in the order of that function."""
        super().__init__(interpolation.interpolate, *settings)
