"""Threefry-2x32 with 20 rounds as a graph: based on a counter, so that element n is the same however work is split.

Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from portkit.compiler import graph
from portkit.compiler.graph import Node, Shape, map_
from portkit.spec.types import F32, F64, U32, DType

ROUNDS = 20
ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
PARITY = 0x1BD11BDA
INJECTED_EVERY = 4


def threefry2x32(key: tuple[Node, Node], counter: tuple[Node, Node]) -> tuple[Node, Node]:
    """Return the two words of each counter block under a key; all are u32 nodes of one shape."""
    keys = (*key, map_("xor", map_("xor", *key), _word(PARITY, key[0].shape)))
    x, y = (map_("add", c, k) for c, k in zip(counter, key, strict=True))
    for n in range(ROUNDS):
        x = map_("add", x, y)
        y = map_("xor", _rotated(y, ROTATIONS[n % len(ROTATIONS)]), x)
        if (n + 1) % INJECTED_EVERY == 0:
            injection = (n + 1) // INJECTED_EVERY
            x = map_("add", x, keys[injection % 3])
            y = map_("add", map_("add", y, keys[(injection + 1) % 3]), _word(injection, y.shape))
    return x, y


def words(key: Node, draw: Node, shape: Shape) -> tuple[Node, Node]:
    """Return two independent random words for each element of a shape.

    `key` is u32 (2,), `draw` u32 (), the number of the draw; the counter of element n in row-major order is (n, draw).
    """
    count = graph.count(shape)
    halves = (_spread(graph.shrink(key, [(k, k + 1)]), count) for k in (0, 1))
    low, high = halves
    number = graph.cast(graph.iota(count), U32)
    pair = threefry2x32((low, high), (number, _spread(graph.reshape(draw, (1,)), count)))
    return graph.reshape(pair[0], shape), graph.reshape(pair[1], shape)


def fractions(pair: tuple[Node, Node], dtype: DType) -> Node:
    """Return multiples of 2^-p in [0, 1), every one as likely, p being the precision of the float dtype; exact."""
    if dtype is F64:
        high = graph.cast(_shifted_right(pair[0], 5), F64)
        low = graph.cast(_shifted_right(pair[1], 6), F64)
        whole = map_("add", map_("mul", high, graph.const(F64, 2.0**26, high.shape)), low)
        return map_("mul", whole, graph.const(F64, 2.0**-53, high.shape))
    top = graph.cast(_shifted_right(pair[0], 32 - dtype.precision), F32)
    return graph.cast(map_("mul", top, graph.const(F32, 2.0**-dtype.precision, top.shape)), dtype)


def below(word: Node, count: int) -> Node:
    """Return u32 integers 0 .. count-1, count up to 2^32; no two differ in likelihood by more than 2^-32."""
    return word if count == 1 << 32 else map_("mulhi", word, _word(count, word.shape))


def _rotated(x: Node, by: int) -> Node:
    return map_("or", map_("shl", x, _word(by, x.shape)), _shifted_right(x, 32 - by))


def _shifted_right(x: Node, by: int) -> Node:
    return map_("shr", x, _word(by, x.shape))


def _word(value: int, shape: Shape) -> Node:
    return graph.const(U32, value, shape)


def _spread(one: Node, count: graph.Size) -> Node:
    return graph.expand(one, (count,))
