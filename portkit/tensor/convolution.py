"""Convolutions (cross-correlations, as everywhere in neural networks) of any number of axes, and their transposes.

Input (n, c, *spatial), weight (o, c / groups, *kernel), bias (o,), result (n, o, *places). Each is one product of
windows with weights and one sum over the channels and places of a window. f16 and bf16 accumulate in f32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from portkit.compiler import graph
from portkit.compiler.graph import Size, show
from portkit.errors import ShapeError
from portkit.tensor import elementwise, movement
from portkit.tensor.common import same_device, sequence, static
from portkit.tensor.products import contract, product_dtype
from portkit.tensor.promotion import wide
from portkit.tensor.windows import windows

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor

Each: TypeAlias = int | Sequence[int]


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Each = 1,
    padding: Each = 0,
    dilation: Each = 1,
    groups: int = 1,
    *,
    name: str = "conv",
) -> Tensor:
    """Return the convolution over all axes after the second; numbers stand for all axes or are given one by one.

    `padding` zeros are added at both ends. A single sample may lack the first axis.
    Raises `ShapeError`, `DTypeError`, `DeviceMismatch`.
    """
    rank = _spatial(name, x, weight)
    if x.ndim == rank + 1:
        single = conv(movement.unsqueeze(x, 0), weight, bias, stride, padding, dilation, groups, name=name)
        return movement.squeeze(single, 0)
    _check_channels(name, x, weight, bias, groups, weight.shape[1], weight.shape[0])
    steps, gaps = sequence(stride, rank, name, "stride"), sequence(dilation, rank, name, "dilation")
    pads = sequence(padding, rank, name, "padding")
    kernel = [static(name, weight, a) for a in range(2, rank + 2)]
    padded = movement.pad(x, [(0, 0), (0, 0), *((p, p) for p in pads)])
    _check_reach(name, x, padded, kernel, gaps)
    rows = windows(padded, range(2, rank + 2), kernel, steps, gaps)
    return _correlate(name, rows, weight, bias, groups)


def _correlate(name: str, rows: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """Return the sum of windows (n, c, *places, *kernel) times weights over (c, *kernel), with their groups apart."""
    operands = [rows, weight] if bias is None else [rows, weight, bias]
    first, dtype = same_device(name, *operands), product_dtype(name, *operands)
    rank = weight.ndim - 2
    outputs, inner = static(name, weight, 0), static(name, weight, 1)
    n, places, kernel = rows.shape[0], rows.shape[2 : rank + 2], rows.shape[rank + 2 :]
    apart = movement.reshape(rows, (n, groups, inner, *places, *kernel))
    order = [0, 1, *range(3, rank + 3), 2, *range(rank + 3, 2 * rank + 3)]
    left = movement.unsqueeze(movement.permute(apart, order), 2)  # (n, g, 1, *places, c / g, *kernel)
    right = movement.reshape(weight, (1, groups, outputs // groups, *(1 for _ in places), inner, *kernel))
    total = graph.reshape(contract(name, left.node, right.node, rank + 1, wide(dtype)), (n, outputs, *places))
    result = first.wrap(total)
    if bias is not None:
        result = result + movement.reshape(elementwise.cast(bias, result.dtype), (outputs, *(1 for _ in places)))
    return elementwise.cast(result, dtype)


def _spatial(name: str, x: Tensor, weight: Tensor) -> int:
    """Return the number of spatial axes. Raises `ShapeError` where input and weight differ in it."""
    if weight.ndim < 3 or x.ndim not in (weight.ndim - 1, weight.ndim):
        raise ShapeError(
            f"{name}: input {show(x.shape)} and weight {show(weight.shape)} differ in rank; "
            "they are (n, c, *spatial) and (o, c / groups, *kernel)"
        )
    return weight.ndim - 2


def _check_channels(
    name: str, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int, inner: Size, outputs: Size
) -> None:
    told = f"{name}: input {show(x.shape)} and weight {show(weight.shape)}"
    if groups < 1 or x.shape[1] != inner * groups:
        raise ShapeError(f"{told} with {groups} groups: {x.shape[1]} channels are not {groups} x {inner}")
    if isinstance(outputs, int) and outputs % groups:
        raise ShapeError(f"{told}: {outputs} output channels do not divide into {groups} groups")
    if bias is not None and bias.shape != (outputs,):
        raise ShapeError(f"{name}: bias {show(bias.shape)} does not fit the {outputs} output channels")


def _check_reach(name: str, x: Tensor, padded: Tensor, kernel: Sequence[int], gaps: Sequence[int]) -> None:
    for axis, (k, d) in enumerate(zip(kernel, gaps, strict=True), 2):
        n = padded.shape[axis]
        if k < 1:
            raise ShapeError(f"{name}: a kernel of {k} on axis {axis} has no elements; give the weight at least 1")
        if isinstance(n, int) and n < d * (k - 1) + 1:
            raise ShapeError(
                f"{name}: a kernel of {k} dilated by {d} does not fit axis {axis} of {show(x.shape)}, padded to {n}"
            )


def conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Each = 1,
    padding: Each = 0,
    dilation: Each = 1,
    groups: int = 1,
) -> Tensor:
    """Return the convolution of x (n, c, l) with weight (o, c / groups, k). Raises as `conv`."""
    _check_rank("conv1d", weight, 1)
    return conv(x, weight, bias, stride, padding, dilation, groups, name="conv1d")


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Each = 1,
    padding: Each = 0,
    dilation: Each = 1,
    groups: int = 1,
) -> Tensor:
    """Return the convolution of x (n, c, h, w) with weight (o, c / groups, kh, kw). Raises as `conv`."""
    _check_rank("conv2d", weight, 2)
    return conv(x, weight, bias, stride, padding, dilation, groups, name="conv2d")


def conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Each = 1,
    padding: Each = 0,
    dilation: Each = 1,
    groups: int = 1,
) -> Tensor:
    """Return the convolution of x (n, c, d, h, w) with weight (o, c / groups, kd, kh, kw). Raises as `conv`."""
    _check_rank("conv3d", weight, 3)
    return conv(x, weight, bias, stride, padding, dilation, groups, name="conv3d")


def _check_rank(name: str, weight: Tensor, rank: int) -> None:
    if weight.ndim != rank + 2:
        raise ShapeError(f"{name}: weight {show(weight.shape)} needs {rank + 2} axes, (o, c / groups, *kernel)")


# --- transposed ---------------------------------------------------------------------------------------------------


def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Each = 1,
    padding: Each = 0,
    output_padding: Each = 0,
    dilation: Each = 1,
    groups: int = 1,
    *,
    name: str = "conv_transpose",
) -> Tensor:
    """Return the transpose of a convolution as a map: x (n, c, *spatial), weight (c, o / groups, *kernel).

    An axis of extent n gets (n - 1) * stride - 2 * padding + dilation * (k - 1) + output_padding + 1. Computed as the
    convolution of x, spread by the stride, with the flipped kernel. Raises as `conv`.
    """
    rank = _spatial(name, x, weight)
    if x.ndim == rank + 1:
        more = (bias, stride, padding, output_padding, dilation, groups)
        return movement.squeeze(conv_transpose(movement.unsqueeze(x, 0), weight, *more, name=name), 0)
    channels, inner = static(name, weight, 0), static(name, weight, 1)
    _check_channels(name, x, weight, bias, groups, channels // max(groups, 1), inner * groups)
    steps, gaps = sequence(stride, rank, name, "stride"), sequence(dilation, rank, name, "dilation")
    pads, extra = sequence(padding, rank, name, "padding"), sequence(output_padding, rank, name, "output_padding")
    if any(not 0 <= e < max(s, d) for e, s, d in zip(extra, steps, gaps, strict=True)):
        raise ShapeError(
            f"{name}: output_padding {list(extra)} is from 0 to below the larger of stride {list(steps)} and "
            f"dilation {list(gaps)}; pad the result instead"
        )
    kernel = [static(name, weight, a) for a in range(2, rank + 2)]
    spread = movement.dilate(x, (1, 1, *steps))
    reach = [d * (k - 1) for d, k in zip(gaps, kernel, strict=True)]
    padded = _pad_or_cut(spread, [(r - p, r - p + e) for r, p, e in zip(reach, pads, extra, strict=True)])
    swapped = movement.transpose(movement.unflatten(weight, 0, (groups, channels // groups)), 1, 2)
    flipped = movement.flip(movement.flatten(swapped, 0, 1), range(2, rank + 2))
    return conv(padded, flipped, bias, 1, 0, gaps, groups, name=name)


def _pad_or_cut(x: Tensor, widths: Sequence[tuple[int, int]]) -> Tensor:
    """Return x with zeros around its spatial axes, or with elements cut off where a width is negative."""
    full = [(0, 0), (0, 0), *widths]
    padded = movement.pad(x, [(max(a, 0), max(b, 0)) for a, b in full])
    sizes = zip(full, padded.shape, strict=True)
    return movement.shrink(padded, [(max(-a, 0), n - max(-b, 0)) for (a, b), n in sizes])


def conv_transpose1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Each = 1,
    padding: Each = 0,
    output_padding: Each = 0,
    dilation: Each = 1,
    groups: int = 1,
) -> Tensor:
    """Return the transposed convolution of x (n, c, l), weight (c, o / groups, k). Raises as `conv`."""
    _check_rank("conv_transpose1d", weight, 1)
    more = (bias, stride, padding, output_padding, dilation, groups)
    return conv_transpose(x, weight, *more, name="conv_transpose1d")


def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Each = 1,
    padding: Each = 0,
    output_padding: Each = 0,
    dilation: Each = 1,
    groups: int = 1,
) -> Tensor:
    """Return the transposed convolution of x (n, c, h, w), weight (c, o / groups, kh, kw). Raises as `conv`."""
    _check_rank("conv_transpose2d", weight, 2)
    more = (bias, stride, padding, output_padding, dilation, groups)
    return conv_transpose(x, weight, *more, name="conv_transpose2d")


def conv_transpose3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Each = 1,
    padding: Each = 0,
    output_padding: Each = 0,
    dilation: Each = 1,
    groups: int = 1,
) -> Tensor:
    """Return the transposed convolution of x (n, c, d, h, w), weight (c, o / groups, kd, kh, kw).

    Raises as `conv`.
    """
    _check_rank("conv_transpose3d", weight, 3)
    more = (bias, stride, padding, output_padding, dilation, groups)
    return conv_transpose(x, weight, *more, name="conv_transpose3d")


def unfold(x: Tensor, kernel: Each, stride: Each = 1, padding: Each = 0, dilation: Each = 1) -> Tensor:
    """Return windows of x (n, c, *spatial) as columns, shape (n, c * prod(kernel), windows). Raises `ShapeError`."""
    rank = x.ndim - 2
    sizes = sequence(kernel, rank, "unfold", "kernel")
    pads = sequence(padding, rank, "unfold", "padding")
    padded = movement.pad(x, [(0, 0), (0, 0), *((p, p) for p in pads)])
    more = (sequence(stride, rank, "unfold", "stride"), sequence(dilation, rank, "unfold", "dilation"))
    rows = windows(padded, range(2, rank + 2), sizes, *more)
    order = [0, 1, *range(rank + 2, 2 * rank + 2), *range(2, rank + 2)]
    columns = movement.flatten(movement.permute(rows, order), rank + 2)
    return movement.flatten(columns, 1, rank + 1)
