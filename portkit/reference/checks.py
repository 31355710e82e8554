"""The checks run: the values run, with every access, barrier and copy held against the rules of validity.

Races are found by slots (see `races`), and so are reads of shared memory that nobody wrote. An asynchronous copy
accesses its bytes at issue and again at wait, and between the two its bytes are marked: any access to the target and
any write to the source is a fault. Tokens are the number of the copy among those of its lane, so that waiting in issue
order means counting. What the verifier proves of every kernel, such as that atomic stores stand alone, is not checked
again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.errors import InvalidKernelError
from portkit.reference import engine
from portkit.reference.engine import Chunk, Mask
from portkit.reference.faults import Site
from portkit.reference.memory import Integers, Memory, allocate, live_only
from portkit.reference.races import Packing, Places, Slots, Stamps
from portkit.reference.values import Use, Values
from portkit.spec.forms import Op
from portkit.spec.geometry import grid_counts
from portkit.spec.kernel import Kernel

Array: TypeAlias = NDArray[Any]
Bools: TypeAlias = NDArray[np.bool_]


def check(kernel: Kernel, scalars: Mapping[str, int | float], buffers: Mapping[str, Array]) -> None:
    """Execute a verified kernel and see that it is valid on these inputs.

    `buffers` as for `values.run`. Raises `InvalidKernelError` with the clause (valid_c1..c9, async_c2, barrier_c2,
    store_c2), instruction, group, lane and address of the first fault in execution order; `UsageError` for inputs that
    do not fit the header.
    """
    memories = allocate(kernel, scalars, buffers)
    engine.run(kernel, _Checks(kernel, memories, prod(grid_counts(kernel, scalars))), scalars)


@dataclass(frozen=True, slots=True)
class _Accesses:
    """The live accesses of one executed instruction: where in the memory's data, and by whom."""

    site: Site
    memory: Memory
    places: Places
    stamps: Stamps
    use: Use


@dataclass(slots=True)
class _Copies:
    """The copies of one executed load.async: for each lane whether it is under way, and its token."""

    site: Site
    open: Bools
    tokens: Integers
    written: Integers
    read: Integers


class _Checks(Values):
    """Values that also remember who accessed what, and when."""

    def __init__(self, kernel: Kernel, memories: Mapping[str, Memory], groups: int) -> None:
        super().__init__(kernel, memories)
        self._packing = Packing.of(groups, kernel.lanes)
        self._written_to = {i.mems[0] for i in kernel.body if i.form.op is Op.STORE or i.name == "load.async"}
        self._copied = {name for i in kernel.body if i.name == "load.async" for name in i.mems}
        self._slots: dict[str, Slots] = {}
        self._marks: dict[str, NDArray[np.int32]] = {}
        for name in self.memories:
            self._watch(name)

    def _watch(self, name: str) -> None:
        """Begin with memory that nobody has accessed."""
        size = len(self.memories[name].data)
        self._slots[name] = Slots(self._packing, size)
        if name in self._copied and name in self._written_to:
            self._marks[name] = np.zeros(size, np.int32)

    def begin(self, chunk: Chunk) -> None:
        super().begin(chunk)
        for shared in self.kernel.shared:
            self._watch(shared.name)
        self._epochs: Stamps = np.zeros((chunk.groups, 1), np.int64)
        self._stamps = self._packing.stamps(chunk, self._epochs)
        self._issued: Stamps = np.zeros((chunk.groups, chunk.lanes), np.int64)
        self._waited = self._issued
        self._open: list[_Copies] = []

    def end(self, chunk: Chunk) -> None:
        for copies in self._open:
            raise copies.site.fault(chunk, "async_c2", copies.open, "lane {lane} of group {group} does not wait")

    # --- accesses -------------------------------------------------------------------------------------------------

    def locate(self, site: Site, name: str, address: Integers, live: Mask, use: Use) -> Integers:
        place = super().locate(site, name, address, live, use)
        if site.instr.name.endswith(".vec"):
            self._check_alignment(site, name, address, live)
        if site.instr.name == "store.scatter":
            self._check_scatter(site, address, live)
        memory = self.memories[name]
        if memory.is_shared or name in self._written_to:
            self._track(_Accesses(site, memory, *self._live(place, live), use))
        return place

    def _check_alignment(self, site: Site, name: str, address: Integers, live: Mask) -> None:
        first, align = address[..., :1], site.instr.imms[0]
        bad = first * self.memories[name].data.itemsize % align != 0
        if live is not None:
            bad = bad & live.any(axis=-1, keepdims=True)
        if bad.any():
            message = f"lane {{lane}} of group {{group}} accesses {name}[{{address}}], not a multiple of {align} bytes"
            raise site.fault(self.chunk, "valid_c7", bad, message, first)

    def _check_scatter(self, site: Site, address: Integers, live: Mask) -> None:
        apart = np.arange(-int(address.shape[-1]), 0)  # no two alike, and no address
        own = address if live is None else np.where(live, address, apart)
        ordered = np.sort(own, axis=-1)
        twice = ordered[..., 1:] == ordered[..., :-1]
        if twice.any():
            message = "lane {lane} of group {group} scatters two elements to address {address}"
            raise site.fault(self.chunk, "store_c2", twice, message, ordered[..., 1:])

    def _track(self, these: _Accesses) -> None:
        slots = self._slots[these.memory.name]
        if these.memory.is_shared and these.use != "write":
            self._check_written(these, slots)
        if these.memory.name in self._marks:
            self._check_marks(these)
        if these.use == "atomic":  # atomic stores stand alone on their memory, and do not race with each other
            return
        act = slots.read if these.use == "read" else slots.write
        found = act(these.places, these.stamps)
        if found is not None:
            other = f"which {self._packing.name(found.other)} {'wrote' if found.other_wrote else 'read'}"
            raise self._error(these, "valid_c1", found.access, f"{other}, and no barrier orders the two")

    def _live(self, place: Integers, live: Mask) -> tuple[Places, Stamps]:
        """Return the place and the stamp of every live access, in order of group, lane and element."""
        stamps = self._stamps if place.ndim == 2 else self._stamps[..., None]
        places, own = live_only(live, place, stamps)
        return places.reshape(-1).astype(np.intp, copy=False), own.reshape(-1)

    def _check_written(self, these: _Accesses, slots: Slots) -> None:
        unwritten = slots.writer.take(these.places) == 0
        if unwritten.any():
            raise self._error(these, "valid_c4", int(unwritten.argmax()), "which nobody has written")

    def _check_marks(self, these: _Accesses) -> None:
        """Raise where an access meets a copy under way: any access its target, a write its source."""
        if these.use == "read" and not these.memory.is_shared:
            return
        marked = self._marks[these.memory.name].take(these.places) != 0
        if marked.any():
            end = "target" if these.memory.is_shared else "source"
            raise self._error(these, "valid_c6", int(marked.argmax()), f"the {end} of a copy that is not waited yet")

    def _error(self, these: _Accesses, clause: str, access: int, reason: str) -> InvalidKernelError:
        stamp = int(these.stamps[access])
        group, lane = self._packing.group(stamp), self._packing.lane(stamp)
        address = int(these.places[access]) % these.memory.extent
        verb = "reads" if these.use == "read" else "writes"
        message = f"lane {lane} of group {group} {verb} {these.memory.name}[{address}], {reason}"
        return these.site.error(clause, message, group, lane, address)

    # --- cooperation ----------------------------------------------------------------------------------------------

    def bind_group(self, site: Site) -> Callable[..., Array]:
        fold = super().bind_group(site)

        def fold_together(mask: Mask, x: Array) -> Array:
            self._check_together(site, mask, "valid_c5")
            return fold(mask, x)

        return fold_together

    def bind_barrier(self, site: Site) -> Callable[..., None]:
        """barrier: the next epoch begins in the groups that arrive."""

        def meet(mask: Mask) -> None:
            self._check_together(site, mask, "valid_c5")
            self._epochs = self._epochs + (1 if mask is None else mask.any(axis=1, keepdims=True))
            self._stamps = self._packing.stamps(self.chunk, self._epochs)

        return meet

    def _check_together(self, site: Site, mask: Mask, clause: str) -> None:
        if mask is None or mask.shape[1] == 1:
            return
        absent = ~mask & mask.any(axis=1, keepdims=True)
        if absent.any():
            message = "lane {lane} of group {group} does not arrive, other lanes of the group do"
            raise site.fault(self.chunk, clause, absent, message)

    # --- asynchronous copies --------------------------------------------------------------------------------------

    def _active(self, mask: Mask) -> Bools:
        everywhere = np.ones((self.chunk.groups, self.chunk.lanes), np.bool_)
        return everywhere if mask is None else everywhere & mask

    def issue(self, site: Site, mask: Mask, written: Integers, read: Integers) -> Array:
        active = self._active(mask)
        tokens = self._issued + 1
        self._issued = self._issued + active
        self._open.append(_Copies(site, active, tokens, written, read))
        for name, place in zip(site.instr.mems, (written, read), strict=True):
            self._mark(name, place, active, 1)
        return tokens

    def _mark(self, name: str, place: Integers, active: Bools, change: int) -> tuple[Places, Stamps]:
        places, own = self._live(place, active[..., None])
        if name in self._marks:
            np.add.at(self._marks[name], places, change)
        return places, own

    def bind_wait(self, site: Site) -> Callable[..., None]:
        """wait.token: the copies are complete, which counts as an access to their bytes."""

        def wait(mask: Mask, token: Integers) -> None:
            self._check_together(site, mask, "barrier_c2")
            active = self._active(mask)
            self._check_order(site, active, token)
            self._waited = self._waited + active
            for copies in self._open:
                done = copies.open & active & (copies.tokens == token)
                copies.open = copies.open & ~done
                self._complete(copies, done)
            self._open = [copies for copies in self._open if copies.open.any()]

        return wait

    def _check_order(self, site: Site, active: Bools, token: Integers) -> None:
        for bad, what in ((token <= self._waited, "already waited"), (token > self._waited + 1, "not the oldest copy")):
            if (bad & active).any():
                message = f"lane {{lane}} of group {{group}} waits for a token that is {what}"
                raise site.fault(self.chunk, "async_c2", bad & active, message)

    def _complete(self, copies: _Copies, done: Bools) -> None:
        target, source = copies.site.instr.mems
        places, own = self._mark(target, copies.written, done, -1)
        self._slots[target].writer[places] = own
        places, own = self._mark(source, copies.read, done, -1)
        self._slots[source].join_readers(places, own)
