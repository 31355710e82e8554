"""Twists of memory accesses and of cooperation: gates, indices, copies, atomics, reductions over a group."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from portkit.conformance.hints.scenario import Function, Place, Twist, quaternary, ternary
from portkit.conformance.hints.symptoms import Array, Bools
from portkit.conformance.hints.vectors import chain
from portkit.reference.numerics import fold, fold_lanes, pairwise
from portkit.reference.values import ATOMIC_STEPS
from portkit.spec.types import BF16, F16

Mask = Bools | None


# --- gates --------------------------------------------------------------------------------------------------------


def _is_gated_load(place: Place) -> bool:
    return bool(place.instr.gate) and place.instr.form.effect != "pure" and bool(place.instr.other)


def _is_gated_store(place: Place) -> bool:
    return bool(place.instr.gate) and not place.instr.other


def gate_else_is(value: float) -> Twist:
    """Return the twist of gated loads that give a fixed value where the gate is false."""

    def twist(place: Place, right: Function) -> Function | None:
        if not _is_gated_load(place):
            return None

        def load(mask: Mask, index: Array, gate: Array, other: Array) -> Array:
            return right(mask, index, gate, np.full_like(other, value))

        return load

    return twist


def load_gate_ignored(place: Place, right: Function) -> Function | None:
    """Load where the gate is false too; indices outside give the nearest element."""
    if not _is_gated_load(place):
        return None
    extent_of = place.extent(place.instr.mems[0])

    def load(mask: Mask, index: Array, gate: Array, other: Array) -> Array:
        inside = index.clip(0, max(0, extent_of() - 1)).astype(index.dtype)
        return right(mask, np.where(gate, index, inside), np.ones_like(gate), other)

    return load


def clamped_where_closed(place: Place, right: Function) -> Function | None:
    """Access the nearest index inside where the gate is false."""
    if not (_is_gated_load(place) or _is_gated_store(place)):
        return None
    last_of, is_load = place.extent(place.instr.mems[0]), _is_gated_load(place)

    def access(mask: Mask, index: Array, *rest: Array) -> Array:
        inside = index.clip(0, max(0, last_of() - 1)).astype(index.dtype)
        return right(mask, inside, np.ones_like(rest[0]), *rest[1:]) if is_load else right(mask, inside, rest[0])

    return access


def load_gate_turned(place: Place, right: Function) -> Function | None:
    """Take the other value where the gate is true."""
    if not _is_gated_load(place):
        return None
    extent_of = place.extent(place.instr.mems[0])

    def load(mask: Mask, index: Array, gate: Array, other: Array) -> Array:
        inside = index.clip(0, max(0, extent_of() - 1)).astype(index.dtype)
        return right(mask, inside, ~gate, other)

    return load


def store_gate_ignored(place: Place, right: Function) -> Function | None:
    """Store where the gate is false too."""
    return quaternary(lambda mask, index, value, gate: right(mask, index, value)) if _is_gated_store(place) else None


def store_gate_turned(place: Place, right: Function) -> Function | None:
    """Store where the gate is false."""
    if not _is_gated_store(place):
        return None
    return quaternary(lambda mask, index, value, gate: right(mask, index, value, ~gate))


def gate_of_first_lane(place: Place, right: Function) -> Function | None:
    """Let the first lane's gate decide for the whole group."""
    if not (_is_gated_load(place) or _is_gated_store(place)):
        return None
    where = 2 if _is_gated_load(place) else 3

    def access(*xs: Array) -> Array:
        gate = np.broadcast_to(xs[where][:, :1], xs[where].shape)
        return right(*xs[:where], gate, *xs[where + 1 :])

    return access


# --- indices ------------------------------------------------------------------------------------------------------

_ACCESSES = ("load", "load.vec", "load.gather", "store", "store.vec", "store.scatter")


def indexed(change: Callable[[Array, int], Array], forms: tuple[str, ...] = _ACCESSES) -> Twist:
    """Return the twist of accesses to another index, given the index and the bytes of an element."""

    def twist(place: Place, right: Function) -> Function | None:
        instr = place.instr
        if instr.name not in forms and not (forms == _ACCESSES and instr.name.startswith("store.atomic")):
            return None
        size = place.kernel.memories[instr.mems[0]].dtype.bytes

        def access(mask: Mask, index: Array, *rest: Array) -> Array:
            return right(mask, change(index, size).astype(index.dtype), *rest)

        return access

    return twist


def _kept(bits: int) -> Callable[[Array, int], Array]:
    return lambda index, size: index & ((1 << bits) - 1)


def _bytes_kept(bits: int) -> Callable[[Array, int], Array]:
    """Keep so many bits of the offset in bytes."""
    return lambda index, size: (index.astype(np.int64) * size % (1 << bits)) // size


def _signed(bits: int) -> Callable[[Array, int], Array]:
    return lambda index, size: index.astype(f"i{bits // 8}")


def _through_f16(index: Array, size: int) -> Array:
    return index.astype(np.float16).astype(np.int64)


def _through_f32(index: Array, size: int) -> Array:
    return index.astype(np.float32).astype(np.int64)


def _next(index: Array, size: int) -> Array:
    return index + 1


def _before(index: Array, size: int) -> Array:
    return np.maximum(index - 1, 0)


INDEX_WIDTHS = (
    *(indexed(_kept(bits)) for bits in (16, 8, 24, 12, 10, 15, 14, 20)),
    *(indexed(_bytes_kept(bits)) for bits in (16, 24, 12, 18)),
    *(indexed(_signed(bits)) for bits in (16, 8)),
    indexed(_through_f32),
    indexed(_through_f16),
)


def wider(elements: int) -> Twist:
    """Return the twist of stores of narrow elements that write the whole word, with zeros beside the element."""

    def twist(place: Place, right: Function) -> Function | None:
        if place.instr.name != "store":
            return None

        def store(mask: Mask, index: Array, value: Array, *gate: Array) -> None:
            first = index - index % np.int32(elements)
            for k in range(elements):
                at = first + np.int32(k)
                right(mask, at, np.where(at == index, value, np.zeros_like(value)), *gate)

        return store

    return twist


def _last_repeated(index: Array, size: int) -> Array:
    return index if index.ndim < 3 else np.concatenate((index[..., :-1], index[..., -2:-1]), axis=-1)


WIDE_STORES = tuple(map(wider, (2, 4)))
REPEATED_INDEX = (indexed(_last_repeated, ("load.gather", "store.scatter")),)
NEIGHBOURING_INDICES = (indexed(_next), indexed(_before))


def index_of_first_lane(place: Place, right: Function) -> Function | None:
    """Take the first index of a gather or scatter, and its successors."""
    if place.instr.name not in ("load.gather", "store.scatter"):
        return None

    def access(mask: Mask, index: Array, *rest: Array) -> Array:
        return right(mask, index[..., :1] + np.arange(index.shape[-1], dtype=index.dtype), *rest)

    return access


def same_index(place: Place, right: Function) -> Function | None:
    """Take the first index of a gather for all of its lanes."""
    if place.instr.name != "load.gather":
        return None

    def access(mask: Mask, index: Array, *rest: Array) -> Array:
        return right(mask, np.repeat(index[..., :1], index.shape[-1], axis=-1), *rest)

    return access


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


# --- reductions over a group --------------------------------------------------------------------------------------


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


# --- values that are moved ----------------------------------------------------------------------------------------


def moved(change: Callable[[Array], Array], forms: tuple[str, ...]) -> Twist:
    """Return the twist of loads, stores and selects that change the value they move."""

    def twist(place: Place, right: Function) -> Function | None:
        instr = place.instr
        if instr.name not in forms:
            return None
        if instr.name.startswith("store"):

            def store(mask: Mask, index: Array, value: Array, *gate: Array) -> None:
                right(mask, index, change(value), *gate)

            return store
        return unary_result(right, change)

    return twist


def unary_result(right: Function, change: Callable[[Array], Array]) -> Function:
    """Return a function whose result is changed."""
    return lambda *xs: change(right(*xs))


def _flush(x: Array) -> Array:
    if x.dtype.kind in "iub":
        return x
    tiny = np.finfo(x.dtype).tiny if x.dtype.kind == "f" else 2.0**-126
    return np.where(np.abs(x) < tiny, np.copysign(np.zeros_like(x), x), x)


def _quiet(x: Array) -> Array:
    """Return NaN as the canonical one."""
    return x if x.dtype.kind in "iub" else np.where(np.isnan(x), np.full_like(x, np.nan), x)


def _quieted(x: Array) -> Array:
    """Return NaN with the quiet bit set."""
    if x.dtype.kind in "iub":
        return x
    bits = f"u{x.itemsize}"
    digits = {8: 52, 4: 23, 2: 10}.get(x.itemsize, 3)
    quiet = (x.view(bits) | np.array(1 << (digits - 1), bits)).view(x.dtype)
    return np.where(np.isnan(x), quiet, x)


_MOVES = ("load", "load.vec", "load.gather", "store", "store.vec", "store.scatter", "phi.lt", "phi.eq", "mov.bits")
FLUSHED_MOVES = (moved(_flush, _MOVES),)
NAN_MOVES = (moved(_quieted, _MOVES), moved(_quiet, _MOVES))
