"""Twists of memory accesses: gates, indices, values that are only moved."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from portkit.conformance.hints.scenario import Function, Place, Twist, quaternary
from portkit.conformance.hints.symptoms import Array, Bools

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
    """Return NaN with the bits of the canonical one set, the quiet bit among them."""
    if x.dtype.kind in "iub":
        return x
    bits = f"u{x.itemsize}"
    quiet = (x.view(bits) | np.full_like(x, np.nan).view(bits)).view(x.dtype)
    return np.where(np.isnan(x), quiet, x)


_MOVES = ("load", "load.vec", "load.gather", "store", "store.vec", "store.scatter", "phi.lt", "phi.eq", "mov.bits")
FLUSHED_MOVES = (moved(_flush, _MOVES),)
NAN_MOVES = (moved(_quieted, _MOVES), moved(_quiet, _MOVES))
