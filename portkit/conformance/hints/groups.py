"""Twists of reductions over the lanes of a group: some lanes only, another order, another rounding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from portkit.conformance.hints.scenario import Function, Place, Twist
from portkit.conformance.hints.symptoms import Array, Bools
from portkit.conformance.hints.vectors import chain
from portkit.reference.numerics import fold, fold_lanes, pairwise
from portkit.spec.types import BF16, F16

Mask = Bools | None


def group_fold(part: Callable[[int], slice]) -> Twist:
    """Return the twist of group reductions over some of the lanes only."""

    def twist(place: Place, right: Function) -> Function | None:
        chosen, lanes = part(place.kernel.lanes), place.kernel.lanes
        step = _group_step(place) if range(*chosen.indices(lanes)) not in (range(0), range(lanes)) else None
        if step is None:
            return None

        def fold_some(mask: Mask, x: Array) -> Array:
            return step(np.broadcast_to(x, (len(x), lanes, *x.shape[2:]))[:, chosen], 1)

        return fold_some

    return twist


def _group_step(place: Place) -> Callable[[Array, int], Array] | None:
    if not place.instr.name.startswith("reduce.group."):
        return None
    return fold_lanes(place.instr.form.kind, place.result.dtype)


def folds_within(lanes: int) -> Twist:
    """Return the twist of group reductions that fold aligned runs of lanes only, as one SIMD unit does."""

    def twist(place: Place, right: Function) -> Function | None:
        step, total = _group_step(place), place.kernel.lanes
        if step is None or total <= lanes:
            return None

        def within(mask: Mask, x: Array) -> Array:
            x = np.broadcast_to(x, (len(x), total, *x.shape[2:]))
            parts = [x[:, k : k + lanes] for k in range(0, total, lanes)]
            return np.concatenate([np.repeat(step(p, 1), p.shape[1], axis=1) for p in parts], axis=1)

        return within

    return twist


def fold_in_order(*, rounding_each: bool) -> Twist:
    """Return the twist that folds float lanes one after the other, where the spec folds halves.

    `rounding_each`: sums of short formats are rounded after each step, not accumulated in f32.
    """

    def twist(place: Place, right: Function) -> Function | None:
        if _group_step(place) is None or not place.result.dtype.is_float:
            return None
        dtype, lanes = place.result.dtype, place.kernel.lanes

        def fold_group(mask: Mask, x: Array) -> Array:
            every = np.broadcast_to(x, (len(x), lanes, *x.shape[2:]))
            return chain(np.moveaxis(every, 1, 0), place.instr.form.kind, dtype, rounding_each)[:, None]

        return fold_group

    return twist


def fold_rounding_each(place: Place, right: Function) -> Function | None:
    """Fold halves of f16 or bf16, rounding each step."""
    if place.instr.name != "reduce.group.add" or place.result.dtype not in (F16, BF16):
        return None
    step, lanes = fold("add", place.result.dtype), place.kernel.lanes

    def fold_group(mask: Mask, x: Array) -> Array:
        return pairwise(step, np.broadcast_to(x, (len(x), lanes, *x.shape[2:])), 1)

    return fold_group


def _second(mask: Mask, x: Array) -> Array:
    return x


def own_value(place: Place, right: Function) -> Function | None:
    """Give each lane its own operand back."""
    return _second if place.instr.name.startswith("reduce.group.") else None


def first_lane_alone(place: Place, right: Function) -> Function | None:
    """Give the result to the first lane, and their own operands to the others."""
    if not place.instr.name.startswith("reduce.group."):
        return None
    lanes = place.kernel.lanes

    def fold_group(mask: Mask, x: Array) -> Array:
        first = (np.arange(lanes) == 0)[None, :]
        return np.where(first if x.ndim == 2 else first[..., None], right(mask, x), x)

    return fold_group


def _largest_power(lanes: int) -> int:
    return 1 << (lanes.bit_length() - 1)


def _without_last(lanes: int) -> slice:
    return slice(0, lanes - 1)


def _without_first(lanes: int) -> slice:
    return slice(1, lanes)


def _power_of_two(lanes: int) -> slice:
    return slice(0, _largest_power(lanes))


def _half(lanes: int) -> slice:
    return slice(0, lanes // 2)


def _one_unit(lanes: int) -> slice:
    return slice(0, min(32, lanes))


def _first(lanes: int) -> slice:
    return slice(0, 1)


def _last(lanes: int) -> slice:
    return slice(lanes - 1, lanes)


GROUP_FOLDS = (
    *map(group_fold, (_without_last, _without_first, _power_of_two, _half, _one_unit, _first, _last)),
    *(folds_within(lanes) for lanes in (32, 64, 16, 8, 4)),
    own_value,
    first_lane_alone,
)
