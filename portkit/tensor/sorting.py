"""Sorting along an axis: stable, NaN last (first when descending), -0 and +0 equal.

Few elements are sorted by counting those that come before each; more by a bitonic network of log2(n) (log2(n) + 1) / 2
exchanges, each one kernel over pairs of (key, place). A key is an integer whose order is that of the elements.
Source: K. Batcher, "Sorting Networks and Their Applications", 1968.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portkit.compiler import graph
from portkit.compiler.graph import Node, map_, show
from portkit.errors import DTypeError, ShapeError
from portkit.spec.types import BOOL, F64, I8, I16, I32, I64, DType, nan_bits
from portkit.tensor import elementwise as e
from portkit.tensor import movement, reductions
from portkit.tensor.common import broadcast_node, one_axis, static, whole
from portkit.tensor.indexing import gather

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor

_COUNTED = 64
"""Up to so many elements the places are counted, n comparisons for each; beyond, a network is cheaper."""

_SELECTED = 16
"""Up to so many of many elements are found one after the other, in one pass each; beyond, all are sorted."""

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
    n = static("topk", x, at)
    if not 0 <= whole("topk", "the count", count) <= n:
        raise ShapeError(f"topk: axis {at} of {show(x.shape)} does not have {count} elements")
    if 0 < count <= _SELECTED and n > _COUNTED:
        places = _selected(_key("topk", x, largest), at, count)
    else:
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
    rest = key.ndim - 1
    keys = movement.pad(key, [(0, 0)] * rest + [(0, size - n)], key.dtype.max_int).node
    places = broadcast_node(graph.iota(size), keys.shape)
    block = 2
    while block <= size:
        keys, places = _exchange(keys, places, block, mirrored=True)
        step = block // 2
        while step > 1:
            keys, places = _exchange(keys, places, step, mirrored=False)
            step //= 2
        block *= 2
    return movement.narrow(key.wrap(places), -1, 0, n)


def _exchange(keys: Node, places: Node, block: int, mirrored: bool) -> tuple[Node, Node]:
    """Return rows with each element compared to its partner in blocks, the lesser one going to the lower half.

    The partner is the mirror image in the block, which merges two ascending halves, or the one half a block away.
    """
    shape = keys.shape
    halves = (*shape[:-1], shape[-1] // block, 2, block // 2)
    axes = (len(halves) - 2, len(halves) - 1) if mirrored else (len(halves) - 2,)
    key, place = graph.reshape(keys, halves), graph.reshape(places, halves)
    other_key, other_place = graph.flip(key, axes), graph.flip(place, axes)
    later = map_("and", map_("eq", other_key, key), map_("lt", other_place, place))
    other_first = map_("or", map_("lt", other_key, key), later)
    upper = map_("eq", graph.iota(2), graph.const(I32, 1, (2,)))
    swap = map_("xor", other_first, broadcast_node(graph.reshape(upper, (2, 1)), halves))
    exchanged = map_("where", swap, other_key, key), map_("where", swap, other_place, place)
    # Kept in memory: fused, each exchange would compute all before it anew for both partners.
    return graph.store(graph.reshape(exchanged[0], shape)), graph.store(graph.reshape(exchanged[1], shape))


def _selected(key: Tensor, axis: int, count: int) -> Tensor:
    """Return the places of the first `count` elements in order, found one after the other."""
    place = reductions.place(key, axis)
    end = movement.extent_node(key.shape[axis], (1,) * key.ndim)
    free: Tensor | None = None
    found: list[Tensor] = []
    for _ in range(count):
        left = key if free is None else e.where(free, key, key.dtype.max_int)
        hit = key == reductions.min(left, axis, keepdims=True)
        hit = hit if free is None else hit & free
        first = reductions.min(e.where(hit, place, key.wrap(end)), axis, keepdims=True).contiguous()
        found.append(first)
        free = place != first if free is None else free & (place != first)
    return movement.cat(found, axis)
