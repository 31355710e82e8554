"""Twists of asynchronous copies and of atomics: length, landing, alignment, lost updates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from portkit.conformance.hints.scenario import Function, Place, Twist, ternary
from portkit.conformance.hints.symptoms import Array, Bools
from portkit.reference.values import ATOMIC_STEPS

Mask = Bools | None


# --- asynchronous copies ------------------------------------------------------------------------------------------


def _is_copy(place: Place) -> bool:
    return place.instr.name == "load.async"


def copies_elements(change: Callable[[int], int]) -> Twist:
    """Return the twist of asynchronous copies of another length; they need at least one element."""

    def twist(place: Place, right: Function) -> Function | None:
        if not _is_copy(place) or change(place.instr.imms[0]) in (0, place.instr.imms[0]):
            return None
        return place.instead(imms=(change(place.instr.imms[0]),))

    return twist


def _one_less(n: int) -> int:
    return n - 1


def _halved(n: int) -> int:
    return n // 2


def _in_fours(n: int) -> int:
    return n // 4 * 4


def _one(n: int) -> int:
    return 1


def _at_most(limit: int) -> Callable[[int], int]:
    return lambda n: min(n, limit)


COPY_LENGTHS = (
    *map(copies_elements, (_one_less, _halved, _in_fours, _one)),
    *(copies_elements(_at_most(limit)) for limit in (4, 8, 16, 32, 64, 128, 256)),
)


def copy_never_lands(place: Place, right: Function) -> Function | None:
    """Leave the target of a copy as it was."""
    return ternary(lambda mask, to, start: np.zeros((1, 1), np.int64)) if _is_copy(place) else None


def copy_lands_late(behind: int) -> Twist:
    """Return the twist of copies each of which lands when a later one is issued."""

    def twist(place: Place, right: Function) -> Function | None:
        if not _is_copy(place):
            return None
        pending: list[tuple[Array, ...]] = []

        def issue(*operands: Array) -> Array:
            pending.append(operands)
            if len(pending) > behind:
                right(*pending.pop(0))
            return np.zeros((1, 1), np.int64)

        return issue

    return twist


def copy_of_first_lane(place: Place, right: Function) -> Function | None:
    """Let the first lane alone copy."""
    if not _is_copy(place):
        return None

    def copy(mask: Mask, to: Array, start: Array) -> Array:
        first = np.arange(place.kernel.lanes)[None, :] == 0
        return right(first if mask is None else first & mask, to, start)

    return copy


def copy_from_the_beginning(place: Place, right: Function) -> Function | None:
    """Copy from the start of the source."""
    return ternary(lambda mask, to, start: right(mask, to, np.zeros_like(start))) if _is_copy(place) else None


def copy_aligned(elements: int) -> Twist:
    """Return the twist of copies whose source, or target, begins at a multiple of some elements."""

    def twist(place: Place, right: Function) -> Function | None:
        if not _is_copy(place):
            return None
        return ternary(lambda mask, to, start: right(mask, to, start - start % np.int32(elements)))

    return twist


def copy_to_aligned(elements: int) -> Twist:
    """Return the twist of copies whose target begins at a multiple of some elements."""

    def twist(place: Place, right: Function) -> Function | None:
        if not _is_copy(place):
            return None
        return ternary(lambda mask, to, start: right(mask, to - to % np.int32(elements), start))

    return twist


ALIGNED_COPIES = tuple(how(n) for how in (copy_aligned, copy_to_aligned) for n in (2, 4, 8, 16))


def copy_to_the_beginning(place: Place, right: Function) -> Function | None:
    """Copy to the start of the target."""
    return ternary(lambda mask, to, start: right(mask, np.zeros_like(to), start)) if _is_copy(place) else None


# --- atomics ------------------------------------------------------------------------------------------------------


def _is_atomic(place: Place) -> bool:
    return place.instr.name.startswith("store.atomic.")


def atomic_loses_updates(place: Place, right: Function) -> Function | None:
    """Read, compute and write without holding the others off: of several lanes at one element, the last one counts."""
    if not _is_atomic(place):
        return None
    memory = place.instr.mems[0]
    read, write = place.bind_load(memory), place.bind_store(memory)
    step = ATOMIC_STEPS[place.instr.form.kind]

    def update(mask: Mask, index: Array, value: Array, gate: Array | None = None) -> None:
        live = mask if gate is None else gate if mask is None else mask & gate
        write(mask, index, step(read(live, index), value), *(() if gate is None else (gate,)))

    return update


def atomic_is_a_store(place: Place, right: Function) -> Function | None:
    """Write the operand itself."""
    return place.bind_store(place.instr.mems[0]) if _is_atomic(place) else None


def atomic_of_one_lane(which: int) -> Twist:
    """Return the twist of atomics that one lane of each group does alone."""

    def twist(place: Place, right: Function) -> Function | None:
        if not _is_atomic(place):
            return None
        lane = which % place.kernel.lanes

        def update(mask: Mask, *rest: Array) -> None:
            one = np.arange(place.kernel.lanes)[None, :] == lane
            right(one if mask is None else one & mask, *rest)

        return update

    return twist


def atomic_of_other_sign(place: Place, right: Function) -> Function | None:
    """Compare integers of the other signedness."""
    dtype = place.kernel.memories[place.instr.mems[0]].dtype if _is_atomic(place) else None
    if dtype is None or not dtype.is_int or place.instr.form.kind == "add":
        return None
    memory = place.instr.mems[0]
    read, write, step = place.bind_load(memory), place.bind_store(memory), ATOMIC_STEPS[place.instr.form.kind]
    other = f"{'u' if dtype.is_signed else 'i'}{dtype.bytes}"

    def update(mask: Mask, index: Array, value: Array, gate: Array | None = None) -> None:
        for lane in range(place.kernel.lanes):
            turn = np.arange(place.kernel.lanes)[None, :] == lane
            live = turn if mask is None else turn & mask
            old = read(live if gate is None else live & gate, index)
            new = step(old.view(other), value.view(other)).view(dtype.numpy)
            write(live, index, new, *(() if gate is None else (gate,)))

    return update
