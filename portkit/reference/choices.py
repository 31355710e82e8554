"""Integer and bool arithmetic on sets of at most four alternatives; more than four is anything at all.

Spec: the acceptance sets of whole kernels; bools have two alternatives, so that they are never quite unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from portkit.reference.planes import MAX_ALTERNATIVES, Array, Bools, Choices, Value, anything, choices, settle


def collect(options: Sequence[Array], free: Bools) -> Value:
    """Return the set of options of each element, without repetitions."""
    shape = np.broadcast_shapes(*(option.shape for option in options), free.shape)
    free = np.broadcast_to(free, shape)
    if options[0].dtype == np.bool_:
        free = np.zeros(shape, np.bool_)
    ordered = np.sort(np.stack([np.broadcast_to(option, shape) for option in options]), axis=0)
    fresh = np.concatenate((np.ones((1, *shape), np.bool_), ordered[1:] != ordered[:-1]))
    rank = np.cumsum(fresh, axis=0)
    size = min(MAX_ALTERNATIVES, int(rank[-1].max(initial=1)))
    slots = [_first_of_rank(ordered, rank, number) for number in range(1, size + 1)]
    return settle(Choices(tuple(slots), free | (rank[-1] > MAX_ALTERNATIVES)))


def _first_of_rank(ordered: Array, rank: Array, number: int) -> Array:
    """Return the distinct value of a given number, the last one where there are fewer."""
    place = np.argmax(rank >= np.minimum(number, rank[-1]), axis=0)
    return np.take_along_axis(ordered, place[None], axis=0)[0]


def lift(f: Callable[..., Any], *operands: Value) -> Value:
    """Apply a plain operation to every combination of alternatives; one register used twice is one choice."""
    distinct = {id(x): choices(x) for x in operands}
    free = np.logical_or.reduce(np.broadcast_arrays(*(x.free for x in distinct.values())))
    options: list[Array] = []
    for combination in product(*(x.alternatives for x in distinct.values())):
        chosen = dict(zip(distinct, combination, strict=True))
        options.append(f(*(chosen[id(x)] for x in operands)))
    if options[0].dtype == np.bool_ and free.any():
        return union(collect(options, np.zeros_like(free)), anything(options[0].dtype, free.shape), free)
    return collect(options, free)


def union(a: Value, b: Value, mask: Bools | None = None) -> Value:
    """Return the set of all alternatives of both; with a mask, `b` counts in its elements only."""
    x, y = choices(a), choices(b)
    if mask is None:
        return collect((*x.alternatives, *y.alternatives), x.free | y.free)
    options = (*x.alternatives, *(np.where(mask, option, x.alternatives[0]) for option in y.alternatives))
    return collect(options, x.free | (y.free & mask))


def certainly(condition: Value) -> tuple[Bools, Bools]:
    """Return where a bool is certainly true and where it is certainly false."""
    options = choices(condition).alternatives
    return np.logical_and.reduce(options), ~np.logical_or.reduce(options)


def select(holds: Bools, fails: Bools, a: Value, b: Value) -> Value:
    """Return `a` where a condition holds, `b` where it fails, and both where it is open."""
    x, y = choices(a), choices(b)
    first = np.where(fails, y.alternatives[0], x.alternatives[0])
    options = [np.where(fails, first, option) for option in x.alternatives]
    options += [np.where(holds, first, option) for option in y.alternatives]
    return collect(options, (x.free & ~fails) | (y.free & ~holds))
