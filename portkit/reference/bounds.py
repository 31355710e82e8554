"""The bounds run: what a kernel may compute on a device that keeps the spec, as one acceptance set per buffer.

It is the values run on registers that are plain arrays as long as they are determined, so that a kernel in which the
spec frees nothing costs what its values cost. What `numeric fast` frees, flushing and free zeros give intervals;
comparisons of these give alternatives. An undetermined address, gate or count opens every element that it may touch.
Spec: numeric_c1..c7, and the acceptance sets of whole kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.reference import engine
from portkit.reference.acceptance import Acceptance, acceptance
from portkit.reference.atomics import AtomicLog
from portkit.reference.choices import certainly
from portkit.reference.engine import Chunk, Mask
from portkit.reference.faults import Site
from portkit.reference.lifting import STRICT, NumericModel, Op, all_plain, bind, select
from portkit.reference.memory import Integers, Memory, allocate, live_only
from portkit.reference.planes import (
    Array,
    Bools,
    Choices,
    Interval,
    Value,
    choices,
    each,
    forget,
    planes,
    put,
    rebuild,
    settle,
    shape_of,
    undetermined,
    where,
)
from portkit.reference.preserved import preserved
from portkit.reference.values import ATOMIC_STEPS, Values
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import Type

__all__ = ["Acceptance", "NumericModel", "bounds"]

Expand: TypeAlias = Callable[[Array], Integers]
_NOWHERE = np.zeros((1, 1), np.bool_)


def bounds(
    kernel: Kernel,
    scalars: Mapping[str, int | float],
    buffers: Mapping[str, Array],
    model: NumericModel = STRICT,
) -> dict[str, Acceptance]:
    """Return the acceptance set of every buffer after a launch of a verified, valid kernel.

    `buffers` as for `values.run`: what a write-only buffer is given (poison) is what must still be there where the
    kernel writes nothing. Raises `InvalidKernelError` (valid_c3, valid_c9) and `UsageError`.
    """
    domain = _Bounds(kernel, allocate(kernel, scalars, buffers), STRICT if kernel.strict else model)
    engine.run(kernel, domain, scalars)
    with np.errstate(all="ignore"):
        return domain.acceptances()


class _Bounds(Values):
    """Values that may be open. `_known` holds the memories that are not plain any more, shaped like their data."""

    def __init__(self, kernel: Kernel, memories: Mapping[str, Memory], model: NumericModel) -> None:
        super().__init__(kernel, memories)
        self._model = model
        self._known: dict[str, Interval | Choices] = {}
        self._atomics: dict[str, AtomicLog] = {}
        self._doubts: list[Mask] = []
        self._preserved_registers, self._preserved_memories = preserved(kernel)

    def begin(self, chunk: Chunk) -> None:
        super().begin(chunk)
        for shared in self.kernel.shared:
            self._known.pop(shared.name, None)

    def acceptances(self) -> dict[str, Acceptance]:
        """Return what is known of every buffer."""
        for name, log in self._atomics.items():
            self._keep(name, log.resolved(self._contents(name)))
        result: dict[str, Acceptance] = {}
        for buffer in self.kernel.buffers:
            extent = self.memories[buffer.name].extent
            contents = settle(each(lambda plane, n=extent: plane[:n], self._contents(buffer.name)))
            result[buffer.name] = acceptance(buffer.dtype, contents, buffer.name in self._preserved_memories)
        return result

    # --- pure forms, reductions, loops ----------------------------------------------------------------------------

    def pure(self, position: int, instr: Instr) -> Callable[..., Any]:
        return bind(self._op(instr, super().pure(position, instr)))

    def _op(self, instr: Instr, plain: Callable[..., Any]) -> Op:
        types = tuple(self.kernel.types[name] for name in instr.args)
        known = all(name in self._preserved_registers for name in instr.args)
        return Op(instr, types, plain, self._model, self.kernel.strict, known)

    def bind_group(self, site: Site) -> Callable[..., Any]:
        plain = super().bind_group(site)
        fold = bind(self._op(site.instr, partial(plain, None)))

        def fold_group(mask: Mask, x: Value) -> Value:
            lanes = self.chunk.lanes
            return fold(each(lambda plane: np.broadcast_to(plane, (len(plane), lanes, *plane.shape[2:])), x))

        return fold_group

    def merge(self, mask: NDArray[np.bool_], new: Any, old: Any) -> Any:
        if all_plain((new, old)):
            return super().merge(mask, new, old)
        return where(mask if len(shape_of(new)) == 2 else mask[..., None], new, old)

    def count(self, position: int, mask: Mask, value: Any) -> Integers:
        """Return the trips of each lane; where they are open the most of the alternatives, and the lane is in doubt."""
        open_lanes = undetermined(value)
        if not open_lanes.any():
            self._doubts.append(None)
            return settle(value)  # type: ignore[return-value]
        self._doubts.append(open_lanes if mask is None else open_lanes & mask)
        known = choices(value)
        if known.free.any():
            self._forget_stores_of(position)
        return np.where(known.free, 0, np.maximum.reduce(known.alternatives))

    def leave(self, position: int, carries: list[Any]) -> list[Any]:
        doubt = self._doubts.pop()
        if doubt is None:
            return carries
        return [forget(_broadcast(c, doubt), _like(doubt, c)) for c in carries]

    def _forget_stores_of(self, head: int) -> None:
        """Know nothing of any memory that a loop of unknown count stores to."""
        depth = 0
        for instr in self.kernel.body[head:]:
            depth += (instr.name == "loop.serial") - (instr.name == "endloop")
            if instr.form.effect == "write" or instr.name == "load.async":
                self._forget_memory(instr.mems[0], np.ones(self.chunk.groups, np.bool_))
            if depth == 0:
                return

    # --- memory ---------------------------------------------------------------------------------------------------

    def bind_load(self, site: Site) -> Callable[..., Any]:
        plain, name = super().bind_load(site), site.instr.mems[0]
        expand = _expander(site.instr.name, site.instr.type)

        def load(mask: Mask, index: Value, gate: Value | None = None, other: Value | None = None) -> Value:
            given = tuple(x for x in (index, gate, other) if x is not None)
            if name not in self._known and all_plain(given):
                return plain(mask, *given)
            if gate is None or other is None:
                return self._read(site, name, index, expand, mask)
            holds, fails = certainly(gate)
            value = self._read(site, name, index, expand, _also(mask, holds))
            return select(holds, fails, value, other)

        return load

    def _read(self, site: Site, name: str, index: Value, expand: Expand, live: Mask) -> Value:
        """Return what is known of the elements at an index, the hull or all alternatives where that is open."""
        known = choices(index)
        sure = not undetermined(index).any()
        value: Value | None = None
        for option in known.alternatives:
            address = expand(option)
            checked = live if sure else _NOWHERE
            place = self.locate(site, name, address, None if checked is None else _deep(checked, address), "read")
            part = each(lambda plane, at=place: plane.take(at, mode="clip"), self._contents(name))
            same = _like(option == known.alternatives[0], part)
            value = part if value is None else select(same, np.zeros_like(same), value, part)
        assert value is not None
        return forget(_broadcast(value, known.free), _like(known.free, value)) if known.free.any() else value

    def bind_store(self, site: Site) -> Callable[..., Any]:
        plain, name = super().bind_store(site), site.instr.mems[0]
        expand = _expander(site.instr.name, self.kernel.types[site.instr.args[1]])

        def store(mask: Mask, index: Value, value: Value, gate: Value | None = None) -> None:
            given = (index, value) if gate is None else (index, value, gate)
            if name not in self._known and all_plain(given) and self._doubt() is None:
                plain(mask, *given)
            else:
                self._store(site, name, index, value, expand, mask, gate)

        return store

    def bind_async(self, site: Site) -> Callable[..., Any]:
        plain = super().bind_async(site)
        target, source = site.instr.mems
        expand = _offsets(site.instr.imms[0])

        def copy(mask: Mask, to: Value, start: Value) -> Value:
            open_memory = target in self._known or source in self._known
            if not open_memory and all_plain((to, start)) and self._doubt() is None:
                return plain(mask, to, start)
            value = self._read(site, source, start, expand, mask)
            self._store(site, target, to, value, expand, mask, None)
            return np.zeros((1, 1), np.int64)

        return copy

    def bind_atomic(self, site: Site) -> Callable[..., Any]:
        """store.atomic.KIND: floats are gathered and folded at the end, in no order (Spec: numeric_c2)."""
        plain, name = super().bind_atomic(site), site.instr.mems[0]
        dtype, kind = self.kernel.memories[name].dtype, site.instr.form.kind

        def store(mask: Mask, index: Value, value: Value, gate: Value | None = None) -> None:
            given = (index, value) if gate is None else (index, value, gate)
            if not dtype.is_float and all_plain(given) and self._doubt() is None:
                plain(mask, *given)
                return
            log = self._atomics.setdefault(name, AtomicLog(dtype, kind, self._model))
            sure, maybe = self._live(mask, index, gate, 2)
            if not dtype.is_float:
                open_value = undetermined(value)
                sure, maybe = sure & ~open_value, maybe | (sure & open_value)
            place = self.locate(site, name, choices(index).alternatives[0], sure, "atomic")
            cells, operand = _chosen(sure, place, value)
            operand = settle(operand)
            if dtype.is_float:
                log.add(cells, operand)
            else:
                assert isinstance(operand, np.ndarray)
                ATOMIC_STEPS[kind].at(self.memories[name].data, cells, operand)
            self._lose(site, name, index, maybe, log)

        return store

    def _lose(self, site: Site, name: str, index: Value, maybe: Bools, log: AtomicLog) -> None:
        """Know nothing of the cells that an open atomic store may reach."""
        if not maybe.any():
            return
        known, data = choices(index), self.memories[name].data
        if (known.free & maybe).any():
            log.lose(np.arange(len(data)))
        for option in known.alternatives:
            place = self.locate(site, name, option, _NOWHERE, "atomic")
            log.lose(live_only(maybe, place)[0])

    def _store(
        self, site: Site, name: str, index: Value, value: Value, expand: Expand, mask: Mask, gate: Value | None
    ) -> None:
        """Write what is certain, and join what may be written to what was there."""
        known, sample = choices(index), expand(choices(index).alternatives[0])
        sure, maybe = self._live(mask, index, gate, sample.ndim)
        place = self.locate(site, name, sample, sure, "write")
        if isinstance(value, Interval):
            value.named()
        self._write(name, *_chosen(sure, place, value))
        if not maybe.any():
            return
        lost = _deep(known.free, sample) & maybe
        if lost.any():
            self._forget_memory(name, np.logical_or.reduce(lost.reshape(len(lost), -1), axis=1))
        doubt = self._doubt()
        if doubt is not None:
            value = forget(_broadcast(value, doubt), _like(doubt, value))
        for option in known.alternatives:
            place = self.locate(site, name, expand(option), _deep(_NOWHERE, sample), "write")
            self._write_perhaps(name, *_chosen(maybe, place, value))

    def _live(self, mask: Mask, index: Value, gate: Value | None, ndim: int) -> tuple[Bools, Bools]:
        """Return where an access certainly happens at a certain place, and where it may happen otherwise."""
        shape = (self.chunk.groups, self.chunk.lanes)
        active = np.ones(shape, np.bool_) if mask is None else np.broadcast_to(mask, shape)
        doubt = self._doubt()
        sure = active if doubt is None else active & ~doubt
        open_index = undetermined(index)
        if ndim == 3:
            active, sure = active[..., None], sure[..., None]
            open_index = open_index if open_index.ndim == 3 else open_index[..., None]
        sure = sure & ~open_index
        if gate is not None:
            holds, fails = certainly(gate)
            active, sure = active & ~fails, sure & holds
        return sure, active & ~sure

    def _write(self, name: str, cells: Integers, value: Value) -> None:
        self._keep(name, put(self._contents(name), cells.astype(np.intp, copy=False), settle(value)))

    def _write_perhaps(self, name: str, cells: Integers, value: Value) -> None:
        contents = self._contents(name)
        cells = np.clip(cells, 0, len(self.memories[name].data) - 1).astype(np.intp)
        old = each(lambda plane: plane[cells], contents)
        nothing = np.zeros(cells.shape, np.bool_)
        _, place, times = np.unique(cells, return_inverse=True, return_counts=True)
        both = forget(select(nothing, nothing, value, old), times[place] > 1)
        self._keep(name, put(contents, cells, both))

    def _contents(self, name: str) -> Value:
        return self._known.get(name, self.memories[name].data)

    def _keep(self, name: str, contents: Value) -> None:
        if isinstance(contents, Interval | Choices):
            self._known[name] = contents

    def _forget_memory(self, name: str, groups: Bools) -> None:
        """Know nothing of a buffer any more, or of the shared arrays of some groups."""
        contents = self._contents(name)
        everywhere = np.ones(shape_of(contents), np.bool_)
        memory = self.memories[name]
        chosen = np.repeat(np.broadcast_to(groups, memory.copies), memory.extent) if memory.is_shared else everywhere
        self._keep(name, forget(contents, chosen))

    def _doubt(self) -> Mask:
        """Return the lanes that may not be running at all."""
        doubts = [d for d in self._doubts if d is not None]
        return np.logical_or.reduce(np.broadcast_arrays(*doubts)) if doubts else None


# --- shapes -------------------------------------------------------------------------------------------------------


def _also(mask: Mask, condition: Bools) -> Bools:
    if mask is None:
        return condition
    return condition & (mask if condition.ndim == 2 else mask[..., None])


def _deep(mask: Bools, address: Array) -> Bools:
    """Return a mask with as many axes as an address."""
    return mask if mask.ndim == address.ndim else mask[..., None]


def _like(mask: Bools, value: Value) -> Bools:
    """Return a mask over lanes as one over the elements of a register."""
    deeper = mask if mask.ndim == len(shape_of(value)) else mask[..., None]
    return np.broadcast_to(deeper, np.broadcast_shapes(deeper.shape, shape_of(value)))


def _broadcast(value: Value, mask: Bools) -> Value:
    """Return a register in the shape that it has together with a mask over its lanes."""
    shape = _like(mask, value).shape
    return each(lambda plane: np.broadcast_to(plane, shape), value)


def _chosen(live: Bools, place: Integers, value: Value) -> tuple[Integers, Value]:
    """Return the live places and elements, each in one dimension."""
    cells, *parts = live_only(live, place, *planes(value))
    return cells, rebuild(value, tuple(parts))


def _expander(form: str, type_: Type | None) -> Expand:
    """Return the function from an index to the addresses of every element that the form accesses."""
    return _offsets(type_.lanes) if form.endswith(".vec") and type_ is not None else lambda index: index


def _offsets(count: int) -> Expand:
    offsets = np.arange(count)
    return lambda index: index[..., None].astype(np.int64) + offsets
