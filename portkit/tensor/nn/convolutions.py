"""Convolutions as modules.

The weight is (outputs, inputs / groups, *kernel), transposed (inputs, outputs / groups, *kernel).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import ClassVar

from portkit.errors import ShapeError
from portkit.tensor import convolution
from portkit.tensor.common import at_least, sequence
from portkit.tensor.nn import init
from portkit.tensor.nn.module import Module
from portkit.tensor.promotion import DTypeLike
from portkit.tensor.tensor import Tensor

Each = int | Sequence[int]


def _checked(name: str, rank: int, inputs: int, outputs: int, kernel: Each, groups: int) -> tuple[int, ...]:
    """Return the kernel's extents. Raises `ShapeError` where there is no such convolution."""
    sizes = sequence(kernel, rank, name, "kernel")
    for k in sizes:
        at_least(1, name, kernel=k)
    at_least(0, name, inputs=inputs, outputs=outputs)
    at_least(1, name, groups=groups)
    if inputs % groups or outputs % groups:
        raise ShapeError(f"{name}: {inputs} inputs and {outputs} outputs do not divide into {groups} groups")
    return sizes


class _Convolution(Module):
    rank: ClassVar[int]

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Each,
        stride: Each = 1,
        padding: Each = 0,
        dilation: Each = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: DTypeLike = "f32",
    ) -> None:
        """Draw weight and bias evenly up to 1/sqrt(the elements of a window). Raises `ShapeError`."""
        sizes = _checked(type(self).__name__, self.rank, inputs, outputs, kernel, groups)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        window = inputs // groups * prod(sizes)
        self.weight = init.by_inputs((outputs, inputs // groups, *sizes), window, dtype)
        self.bias = init.by_inputs((outputs,), window, dtype) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, outputs, *places) for x (n, inputs, *spatial). Raises `ShapeError`, `DTypeError`."""
        more = (self.stride, self.padding, self.dilation, self.groups)
        return convolution.conv(x, self.weight, self.bias, *more, name=type(self).__name__)

    def told(self) -> str:
        """Return the extents and settings."""
        outputs, inputs, *kernel = self.weight.shape
        more = f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, groups={self.groups}"
        return f"{inputs * self.groups} -> {outputs}, kernel={kernel}, {more}"


class Conv1d(_Convolution):
    """Convolution along one axis, x (n, inputs, l)."""

    rank = 1


class Conv2d(_Convolution):
    """Convolution over two axes, x (n, inputs, h, w)."""

    rank = 2


class Conv3d(_Convolution):
    """Convolution over three axes, x (n, inputs, d, h, w)."""

    rank = 3


class _ConvTranspose(Module):
    rank: ClassVar[int]

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Each,
        stride: Each = 1,
        padding: Each = 0,
        output_padding: Each = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Each = 1,
        dtype: DTypeLike = "f32",
    ) -> None:
        """Draw weight and bias evenly up to 1/sqrt(outputs / groups * the elements of the kernel).

        Raises `ShapeError`.
        """
        sizes = _checked(type(self).__name__, self.rank, inputs, outputs, kernel, groups)
        self.stride, self.padding, self.output_padding = stride, padding, output_padding
        self.dilation, self.groups = dilation, groups
        window = outputs // groups * prod(sizes)
        self.weight = init.by_inputs((inputs, outputs // groups, *sizes), window, dtype)
        self.bias = init.by_inputs((outputs,), window, dtype) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, outputs, *places) for x (n, inputs, *spatial). Raises `ShapeError`, `DTypeError`."""
        more = (self.stride, self.padding, self.output_padding, self.dilation, self.groups)
        return convolution.conv_transpose(x, self.weight, self.bias, *more, name=type(self).__name__)

    def told(self) -> str:
        """Return the extents and settings."""
        inputs, outputs, *kernel = self.weight.shape
        more = f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, groups={self.groups}"
        return f"{inputs} -> {outputs * self.groups}, kernel={kernel}, {more}"


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution along one axis, x (n, inputs, l)."""

    rank = 1


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution over two axes, x (n, inputs, h, w)."""

    rank = 2


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution over three axes, x (n, inputs, d, h, w)."""

    rank = 3
