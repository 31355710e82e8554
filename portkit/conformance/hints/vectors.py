"""Twists of vectors: lanes in another order, lanes lost, accesses aligned down."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from portkit.conformance.hints.scenario import Function, Place, Twist, unary
from portkit.conformance.hints.symptoms import Array
from portkit.reference.numerics import fold, pairwise
from portkit.spec.types import BF16, F16, F32, DType

Order = Callable[[int], list[int]]


# --- the order of lanes -------------------------------------------------------------------------------------------


def reversed_(lanes: int) -> list[int]:
    """Return the lanes from last to first."""
    return list(range(lanes))[::-1]


def swapped_pairs(lanes: int) -> list[int]:
    """Return the lanes with each pair turned."""
    return [k ^ 1 if k ^ 1 < lanes else k for k in range(lanes)]


def turned_left(lanes: int) -> list[int]:
    """Return the lanes, each from the place after it."""
    return [(k + 1) % lanes for k in range(lanes)]


def turned_right(lanes: int) -> list[int]:
    """Return the lanes, each from the place before it."""
    return [(k - 1) % lanes for k in range(lanes)]


def swapped_halves(lanes: int) -> list[int]:
    """Return the second half of the lanes, then the first."""
    half = lanes // 2
    return [*range(half, lanes), *range(half)]


def evens_then_odds(lanes: int) -> list[int]:
    """Return the lanes with those of even numbers first."""
    return [*range(0, lanes, 2), *range(1, lanes, 2)]


def first_two(lanes: int) -> list[int]:
    """Return the lanes with the first two exchanged."""
    return [1, 0, *range(2, lanes)]


def last_two(lanes: int) -> list[int]:
    """Return the lanes with the last two exchanged."""
    return [*range(lanes - 2), lanes - 1, lanes - 2]


def first_everywhere(lanes: int) -> list[int]:
    """Return the first lane in every place."""
    return [0] * lanes


def last_is_first(lanes: int) -> list[int]:
    """Return the lanes with the first one again in the last place."""
    return [*range(lanes - 1), 0]


def last_is_before(lanes: int) -> list[int]:
    """Return the lanes with the one before the last in the last place too."""
    return [*range(lanes - 1), lanes - 2]


def lane_order(order: Order) -> Twist:
    """Return the twist that takes the lanes of a vector in another order, wherever they are named or moved."""

    def twist(place: Place, right: Function) -> Function | None:
        instr = place.instr
        if instr.name == "mov.lane":
            source = order(place.operand.lanes)[instr.imms[0]]
            return unary(lambda x: x[..., source])
        if instr.name == "mov.pack":
            turned = order(len(instr.args))
            return lambda *xs: right(*(xs[k] for k in turned))
        if instr.name in ("load.vec", "load.gather"):
            turned = order(place.result.lanes)
            return lambda *xs: right(*xs)[..., turned]
        if instr.name in ("store.vec", "store.scatter"):
            return _store_of(right, order(place.operands[1].lanes))
        return None

    return twist


def _store_of(right: Function, turned: list[int]) -> Function:
    def store(mask: Array | None, index: Array, value: Array, *gate: Array) -> None:
        right(mask, index, value[..., turned], *gate)

    return store


LANE_ORDERS = tuple(
    lane_order(order)
    for order in (
        reversed_,
        swapped_pairs,
        turned_left,
        turned_right,
        swapped_halves,
        evens_then_odds,
        first_two,
        last_two,
    )
)


def value_order(order: Order) -> Twist:
    """Return the twist that turns the lanes of vector results of arithmetic."""

    def twist(place: Place, right: Function) -> Function | None:
        result = place.instr.type
        moves = place.instr.name in ("mov.lane", "mov.pack", "mov.splat")
        if result is None or result.lanes == 1 or place.instr.form.effect != "pure" or moves:
            return None
        turned = order(result.lanes)
        return lambda *xs: right(*xs)[..., turned]

    return twist


VALUE_ORDERS = tuple(value_order(order) for order in (reversed_, swapped_pairs, swapped_halves))


# --- lanes that are lost ------------------------------------------------------------------------------------------


def fold_of(part: slice) -> Twist:
    """Return the twist of reductions over a vector that takes some of its lanes only."""

    def twist(place: Place, right: Function) -> Function | None:
        if not place.instr.name.startswith("reduce.vec."):
            return None
        return unary(lambda x: right(x[..., part]))

    return twist


def _repeated(x: Array) -> Array:
    return np.concatenate((x[..., :-1], x[..., :1]), axis=-1)


Join = Callable[[Array, Array], Array]


def _other(own: Array, other: Array) -> Array:
    return other


def gate_of(order: Order, join: Join = _other) -> Twist:
    """Return the twist of vector accesses whose lanes take each other's gates, joined with their own."""

    def twist(place: Place, right: Function) -> Function | None:
        instr = place.instr
        if not instr.gate or not instr.mems or place.kernel.types[instr.gate].lanes == 1:
            return None
        where, turned = (2 if instr.other else 3), order(place.kernel.types[instr.gate].lanes)

        def access(*xs: Array) -> Array:
            return right(*xs[:where], join(xs[where], xs[where][..., turned]), *xs[where + 1 :])

        return access

    return twist


VECTOR_GATES = tuple(
    gate_of(order, join)
    for join in (_other, np.logical_and, np.logical_or)
    for order in (first_everywhere, last_is_before, last_is_first, reversed_, swapped_pairs)
)


def fold_of_repeated(place: Place, right: Function) -> Function | None:
    """Take the first lane of a reduction twice, and the last one not at all."""
    return unary(lambda x: right(_repeated(x))) if place.instr.name.startswith("reduce.vec.") else None


def fold_in_order(*, rounding_each: bool) -> Twist:
    """Return the twist that folds the lanes of a float vector one after the other, where the spec folds halves.

    `rounding_each`: sums of short formats are rounded after each step, not accumulated in f32.
    """

    def twist(place: Place, right: Function) -> Function | None:
        if not place.instr.name.startswith("reduce.vec.") or not place.operand.dtype.is_float:
            return None
        return unary(lambda x: chain(np.moveaxis(x, -1, 0), place.instr.form.kind, place.operand.dtype, rounding_each))

    return twist


def chain(terms: Array, kind: str, dtype: DType, rounding_each: bool) -> Array:
    """Return floats folded along their first axis, in order."""
    inside = F32 if kind == "add" and dtype in (F16, BF16) and not rounding_each else dtype
    step, wide = fold(kind, inside), terms.astype(inside.numpy)
    total = wide[0]
    for term in wide[1:]:
        total = step(total, term)
    return total.astype(dtype.numpy)


def fold_rounding_each(place: Place, right: Function) -> Function | None:
    """Fold halves of f16 or bf16, rounding each step."""
    dtype = place.operand.dtype if place.instr.name == "reduce.vec.add" else None
    if dtype not in (F16, BF16):
        return None
    step = fold("add", dtype)
    return unary(lambda x: pairwise(step, x, 2)[..., 0])


def lane_from(order: Order) -> Twist:
    """Return the twist of vector accesses whose lanes come from the wrong places of the vector."""
    return lane_order(order)


def last_lane_is(value: float) -> Twist:
    """Return the twist of vector loads, and of arithmetic, that give a fixed value in the last lane."""

    def twist(place: Place, right: Function) -> Function | None:
        result = place.instr.type
        if result is None or result.lanes == 1:
            return None
        last = np.arange(result.lanes) == result.lanes - 1
        fixed = np.array(value).astype(result.dtype.numpy)
        return lambda *xs: np.where(last, fixed, right(*xs))

    return twist


def operand_in_last_lane(which: int) -> Twist:
    """Return the twist of vector arithmetic that passes an operand on in the last lane."""

    def twist(place: Place, right: Function) -> Function | None:
        result, instr = place.instr.type, place.instr
        if result is None or result.lanes == 1 or instr.form.effect != "pure" or which >= len(instr.args):
            return None
        if place.operands[which] != result:
            return None
        last = np.arange(result.lanes) == result.lanes - 1
        return lambda *xs: np.where(last, xs[which], right(*xs))

    return twist


def stores_without(lost: Callable[[int], list[int]]) -> Twist:
    """Return the twist of vector stores that leave some lanes as they were."""

    def twist(place: Place, right: Function) -> Function | None:
        instr = place.instr
        if instr.name not in ("store.vec", "store.scatter"):
            return None
        type_ = place.operands[1]
        lane = place.bind_store(instr.mems[0])
        kept = [k for k in range(type_.lanes) if k not in lost(type_.lanes)]

        def store(mask: Array | None, index: Array, value: Array, *gate: Array) -> None:
            for k in kept:
                at = index[..., k] if index.ndim == 3 else index + np.int32(k)
                lane(mask, at, value[..., k], *(g[..., k] if g.ndim == 3 else g for g in gate))

        return store

    return twist


def _last(lanes: int) -> list[int]:
    return [lanes - 1]


def _first(lanes: int) -> list[int]:
    return [0]


def _all_but_first(lanes: int) -> list[int]:
    return list(range(1, lanes))


def _second_half(lanes: int) -> list[int]:
    return list(range(lanes // 2, lanes))


LOST_LANES = (
    *(fold_of(part) for part in (slice(0, -1), slice(1, None), slice(0, 1), slice(0, 2), slice(0, None, 2))),
    fold_of_repeated,
    *(lane_from(order) for order in (last_is_before, last_is_first, first_everywhere)),
    last_lane_is(0),
    *(operand_in_last_lane(which) for which in (0, 1)),
    *(stores_without(lost) for lost in (_last, _first, _all_but_first, _second_half)),
)


# --- alignment ----------------------------------------------------------------------------------------------------


def _aligned(step: Callable[[Array, int], Array]) -> Twist:
    """Return the twist of contiguous accesses whose index is moved to a multiple of the lanes."""

    def twist(place: Place, right: Function) -> Function | None:
        if place.instr.name not in ("load.vec", "store.vec"):
            return None
        lanes = place.result.lanes if place.instr.name == "load.vec" else place.operands[1].lanes

        def access(mask: Array | None, index: Array, *rest: Array) -> Array:
            return right(mask, step(index, lanes).astype(index.dtype), *rest)

        return access

    return twist


def _down(index: Array, lanes: int) -> Array:
    return index - index % lanes


def _up(index: Array, lanes: int) -> Array:
    return index + -index % lanes


ALIGNED = (_aligned(_down), _aligned(_up))
