"""First values of parameters: leaves drawn from the default generator.

They are lazy, and computed when a module is first called or an optimizer takes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from portkit.tensor import creation, random
from portkit.tensor.promotion import DTypeLike
from portkit.tensor.random import Generator
from portkit.tensor.tensor import Tensor


def parameter(value: Tensor) -> Tensor:
    """Return a leaf with a value."""
    return Tensor(value, requires_grad=True)


def zeros(shape: Sequence[int], dtype: DTypeLike = "f32") -> Tensor:
    """Return a parameter of zeros."""
    return parameter(creation.zeros(*shape, dtype=dtype))


def ones(shape: Sequence[int], dtype: DTypeLike = "f32") -> Tensor:
    """Return a parameter of ones."""
    return parameter(creation.ones(*shape, dtype=dtype))


def uniform(shape: Sequence[int], bound: float, dtype: DTypeLike = "f32", generator: Generator | None = None) -> Tensor:
    """Return a parameter drawn evenly from -bound to bound."""
    return parameter(random.uniform(*shape, low=-bound, high=bound, dtype=dtype, generator=generator))


def normal(
    shape: Sequence[int], deviation: float = 1.0, dtype: DTypeLike = "f32", generator: Generator | None = None
) -> Tensor:
    """Return a parameter drawn from the normal distribution of mean 0."""
    return parameter(random.normal(*shape, std=deviation, dtype=dtype, generator=generator))


def by_inputs(
    shape: Sequence[int], inputs: int, dtype: DTypeLike = "f32", generator: Generator | None = None
) -> Tensor:
    """Return a parameter drawn evenly up to 1/sqrt(inputs), as PyTorch's layers begin."""
    return uniform(shape, 1 / math.sqrt(inputs) if inputs else 0.0, dtype, generator)


def kaiming_uniform(
    shape: Sequence[int], inputs: int, dtype: DTypeLike = "f32", generator: Generator | None = None
) -> Tensor:
    """Return a parameter whose outputs after a relu keep the variance of their inputs.

    Source: K. He et al., "Delving Deep into Rectifiers", 2015.
    """
    return uniform(shape, math.sqrt(6 / inputs), dtype, generator)


def xavier_uniform(
    shape: Sequence[int], inputs: int, outputs: int, dtype: DTypeLike = "f32", generator: Generator | None = None
) -> Tensor:
    """Return a parameter that keeps the variance forward and backward on average.

    Source: X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.
    """
    return uniform(shape, math.sqrt(6 / (inputs + outputs)), dtype, generator)
