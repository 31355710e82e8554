"""Sorting along an axis: stable, NaN last (first when descending), -0 and +0 equal.

Few elements are sorted by counting those that come before each; more by a bitonic network of log2(n) (log2(n) + 1) / 2
exchanges, each one kernel over pairs of (key, place). A key is an integer whose order is that of the elements.
Source: K. Batcher, "Sorting Networks and Their Applications", 1968.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portkit.compiler import graph
from portkit.compiler.graph import show
from portkit.errors import DTypeError, ShapeError
from portkit.spec.types import BOOL, F64, I8, I16, I32, I64, DType, nan_bits
from portkit.tensor import elementwise as e
from portkit.tensor import movement, reductions
from portkit.tensor.common import one_axis, static
from portkit.tensor.indexing import gather

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor

_COUNTED = 64
"""Up to so many elements the places are counted, n comparisons for each; beyond, a network is cheaper."""

_BITS: dict[int, DType] = {8: I8, 16: I16, 32: I32, 64: I64}


def sort(x: Tensor, axis: int = -1, descending: bool = False) -> Tensor:
    """Return the elements in order along an axis. Raises `AxisError`, `DTypeError`, `ShapeError`."""
    return gather(x, axis, _order("sort", x, axis, descending)) if x.ndim else x


def argsort(x: Tensor, axis: int = -1, descending: bool = False) -> Tensor:
    """Return the places of the elements in order along an axis, as i32, equal ones as they were.

    Raises `AxisError`, `DTypeError`, `ShapeError`.
    """
    return _order("argsort", x, axis, descending)


def topk(x: Tensor, count: int, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """Return the `count` largest (or smallest) elements along an axis in order, and their places as i32.

    Of equal ones those that come first; NaN counts as largest. Raises `AxisError`, `DTypeError`, `ShapeError`.
    """
    at = one_axis("topk", x, axis)
    if not 0 <= count <= static("topk", x, at):
        raise ShapeError(f"topk: axis {at} of {show(x.shape)} does not have {count} elements")
    places = movement.narrow(_order("topk", x, at, largest), at, 0, count)
    return gather(x, at, places), places


def _order(name: str, x: Tensor, axis: int, descending: bool) -> Tensor:
    at = one_axis(name, x, axis)
    n = static(name, x, at)
    rows = movement.moveaxis(_key(name, x, descending), at, -1)
    places = _counted(rows, n) if n <= _COUNTED else _network(rows, n)
    return movement.moveaxis(places, -1, at)


# --- keys ---------------------------------------------------------------------------------------------------------


def _key(name: str, x: Tensor, descending: bool) -> Tensor:
    """Return integers of 32 or 64 bits in the order of the elements, or with `descending` in the opposite one."""
    if x.dtype.is_float and x.dtype.bits > 8:
        key = _float_key(x)
    elif x.dtype.is_float:
        raise DTypeError(f"{name} is not defined on {x.dtype}; cast it to f16")
    else:
        key = e.cast(x, I32) if x.dtype is BOOL or x.dtype.bits < I32.bits else x
    return e.bitwise_not(key) if descending else key


def _float_key(x: Tensor) -> Tensor:
    """Return the bits of a float as an integer; those of negative ones but the sign are inverted, to be in order."""
    if x.dtype is not F64 and x.dtype.bits < I32.bits:
        x = e.cast(x, "f32")
    integer = _BITS[x.dtype.bits]
    nan = x.wrap(graph.const_bits(x.dtype, nan_bits(x.dtype), x.shape))
    plain = e.where(e.isnan(x), nan, e.where(x == 0, 0.0, x))
    bits = e.bitcast(plain, integer)
    return bits ^ ((bits >> (integer.bits - 1)) & integer.max_int)


# --- orders -------------------------------------------------------------------------------------------------------


def _counted(key: Tensor, n: int) -> Tensor:
    """Return the order of rows (..., n): an element's place in it is the number of those that come before it."""
    mine, other = movement.unsqueeze(key, -1), movement.unsqueeze(key, -2)
    place = key.wrap(graph.iota(n))
    earlier = movement.unsqueeze(place, 0) < movement.unsqueeze(place, 1)
    before = (other < mine) | ((other == mine) & earlier)
    rank = reductions.sum(before, -1)
    # Inverse: the element whose rank is r stands at r.
    hit = movement.unsqueeze(rank, -2) == movement.unsqueeze(place, 1)
    return reductions.sum(e.where(hit, place, 0), -1)


def _network(key: Tensor, n: int) -> Tensor:
    """Return the order of rows (..., n), padded to a power of two with keys that come last."""
    size = 1 << (n - 1).bit_length()
    last = key.dtype.max_int
    keys = movement.pad(key, [(0, 0)] * (key.ndim - 1) + [(0, size - n)], last)
    places = movement.expand(key.wrap(graph.iota(size)), keys.shape)
    pair = keys, places
    block = 2
    while block <= size:
        pair = _exchange(*pair, block, mirrored=True)
        step = block // 2
        while step > 1:
            pair = _exchange(*pair, step, mirrored=False)
            step //= 2
        block *= 2
    return movement.narrow(pair[1], -1, 0, n)


def _exchange(keys: Tensor, places: Tensor, block: int, mirrored: bool) -> tuple[Tensor, Tensor]:
    """Return rows with each element compared to its partner in blocks, the lesser one going to the lower half.

    The partner is the mirror image in the block, which merges two ascending halves, or the one half a block away.
    """
    shape = keys.shape
    size = shape[-1]
    assert isinstance(size, int)
    halves = (*shape[:-1], size // block, 2, block // 2)
    flipped = [-2, -1] if mirrored else [-2]
    key, place = (movement.reshape(t, halves) for t in (keys, places))
    other_key, other_place = (movement.flip(t, flipped) for t in (key, place))
    upper = movement.reshape(key.wrap(graph.iota(2)), (2, 1)) == 1
    other_first = (other_key < key) | ((other_key == key) & (other_place < place))
    swap = other_first ^ upper
    return (
        _kept(movement.reshape(e.where(swap, other_key, key), shape)),
        _kept(movement.reshape(e.where(swap, other_place, place), shape)),
    )


def _kept(x: Tensor) -> Tensor:
    return x.wrap(graph.store(x.node))
