"""The values run: what a kernel computes, bit for bit under `numeric strict`.

Under `fast` it takes the choice nearest to strict: reductions fold halves, -0 is below +0, float atomics go in lane
order, and native math forms are the f64 result rounded once. An asynchronous copy is done at once.

Registers are NumPy arrays of `dtype.numpy` and shape (groups or 1, lanes or 1), vectors with a third axis of exactly
the vector's lanes; tokens are i64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.errors import UsageError
from portkit.reference import engine, numerics, pure
from portkit.reference.engine import Chunk, Mask
from portkit.reference.faults import Site
from portkit.reference.memory import Integers, Memory, allocate, live_only
from portkit.spec.kernel import Instr, Kernel, Scalar
from portkit.spec.types import Type

Array: TypeAlias = NDArray[Any]
Use: TypeAlias = Literal["read", "write", "atomic"]


def run(kernel: Kernel, scalars: Mapping[str, int | float], buffers: Mapping[str, Array]) -> dict[str, Array]:
    """Return the contents of every buffer after a launch of a verified kernel; the given arrays are not changed.

    `buffers` are one-dimensional arrays of the buffers' NumPy dtypes and exact extents; a write-only buffer may be left
    out and starts as zeros. Raises `InvalidKernelError` (valid_c3, valid_c9) and `UsageError`.
    """
    memories = allocate(kernel, scalars, buffers)
    engine.run(kernel, Values(kernel, memories), scalars)
    return {name: memory.data[: memory.extent] for name, memory in memories.items()}


class Values:
    """The domain of NumPy arrays; see `engine.Domain` for what each method does."""

    def __init__(self, kernel: Kernel, memories: Mapping[str, Memory]) -> None:
        self.kernel = kernel
        self.memories = dict(memories)
        self.chunk = Chunk(0, 1, kernel.lanes)
        self._bind_pure = pure.binder(kernel)
        self._truth = {i.result: bool(i.imms[0]) for i in kernel.body if i.name == "mov.const" and i.type is not None}

    def begin(self, chunk: Chunk) -> None:
        self.chunk = chunk
        for shared in self.kernel.shared:
            self.memories[shared.name] = Memory.of(shared, shared.extent, chunk.groups)

    def end(self, chunk: Chunk) -> None:
        pass

    def scalar(self, scalar: Scalar, value: int | float) -> Array:
        return scalar_register(scalar, value)

    def integers(self, values: NDArray[np.int32]) -> Array:
        return values

    def count(self, position: int, mask: Mask, value: Array) -> Integers:
        return value

    def merge(self, mask: NDArray[np.bool_], new: Array, old: Array) -> Array:
        return numerics.select(mask if new.ndim == 2 else mask[..., None], new, old)

    def leave(self, position: int, carries: list[Array]) -> list[Array]:
        return carries

    def pure(self, position: int, instr: Instr) -> Callable[..., Array]:
        return self._bind_pure(instr)

    def effect(self, position: int, instr: Instr) -> Callable[..., Array | None]:
        return getattr(self, EFFECTS[instr.name.removesuffix(instr.form.kind)])(Site(position, instr))

    # --- memory ---------------------------------------------------------------------------------------------------

    def bind_load(self, site: Site) -> Callable[..., Array]:
        """load, load.vec and load.gather (Spec: load_c1..c4)."""
        name, expand = site.instr.mems[0], _expander(site.instr.name, site.instr.type)

        def load(mask: Mask, index: Array, gate: Array | None = None, other: Array | None = None) -> Array:
            address = expand(index)
            place = self.locate(site, name, address, _live(mask, gate, address.ndim), "read")
            value = self.memories[name].read(place)
            return value if gate is None or other is None else numerics.select(gate, value, other)

        return load

    def bind_store(self, site: Site) -> Callable[..., None]:
        """store, store.vec and store.scatter (Spec: store_c1, store_c2)."""
        name = site.instr.mems[0]
        expand = _expander(site.instr.name, self.kernel.types[site.instr.args[1]])

        def store(mask: Mask, index: Array, value: Array, gate: Array | None = None) -> None:
            address = expand(index)
            live = _live(mask, gate, address.ndim)
            place = self.locate(site, name, address, live, "write")
            self.memories[name].write(place, value, live)

        return store

    def bind_atomic(self, site: Site) -> Callable[..., None]:
        """store.atomic.KIND, in lane order (Spec: atomic_c1)."""
        name = site.instr.mems[0]
        step = ATOMIC_STEPS[site.instr.form.kind]

        def store(mask: Mask, index: Array, value: Array, gate: Array | None = None) -> None:
            live = _live(mask, gate, 2)
            place = self.locate(site, name, index, live, "atomic")
            every = np.ones((self.chunk.groups, self.chunk.lanes), np.bool_)
            place, value = live_only(every if live is None else every & live, place, value)
            step.at(self.memories[name].data, place, value)

        return store

    def bind_async(self, site: Site) -> Callable[..., Array]:
        """load.async, done at once (Spec: async_c1)."""
        target, source = site.instr.mems
        offsets = np.arange(site.instr.imms[0])

        def copy(mask: Mask, to: Array, start: Array) -> Array:
            live = _live(mask, None, 3)
            to, start = (at[..., None].astype(np.int64) + offsets for at in (to, start))
            read = self.locate(site, source, start, live, "read")
            written = self.locate(site, target, to, live, "write")
            self.memories[target].write(written, self.memories[source].read(read), live)
            return self.issue(site, mask, written, read)

        return copy

    def issue(self, site: Site, mask: Mask, written: Integers, read: Integers) -> Array:
        """Return the token of a copy between the given places of the two memories' data."""
        return np.zeros((1, 1), np.int64)

    def locate(self, site: Site, name: str, address: Integers, live: Mask, use: Use) -> Integers:
        """Return where the live element addresses are in a memory's data; raises `InvalidKernelError` (valid_c3)."""
        return self.memories[name].place(site, self.chunk, address, live)

    # --- cooperation ----------------------------------------------------------------------------------------------

    def bind_group(self, site: Site) -> Callable[..., Array]:
        """reduce.group.KIND over the lanes of each work-group (Spec: group_c1, group_c2)."""
        fold = numerics.fold_lanes(site.instr.form.kind, self.kernel.types[site.instr.result].dtype)

        def fold_group(mask: Mask, x: Array) -> Array:
            return fold(np.broadcast_to(x, (len(x), self.chunk.lanes, *x.shape[2:])), 1)

        return fold_group

    def bind_fence(self, site: Site) -> Callable[..., None]:
        """fence: all lanes are at one instruction at any time."""
        return lambda *_: None

    def bind_barrier(self, site: Site) -> Callable[..., None]:
        """barrier: all lanes are at one instruction at any time."""
        return lambda *_: None

    def bind_wait(self, site: Site) -> Callable[..., None]:
        """wait.token: copies are done at once."""
        return lambda *_: None


def scalar_register(scalar: Scalar, value: int | float) -> Array:
    """Return the register of a launch scalar; raises `UsageError` for an integer out of range."""
    try:
        return np.array([[value]], scalar.dtype.numpy)
    except OverflowError as error:
        raise UsageError(f"scalar {scalar.name} = {value} does not fit {scalar.dtype}") from error


def _live(mask: Mask, gate: Array | None, ndim: int) -> Mask:
    """Return where an access happens, None for everywhere; `ndim` is 3 for accesses of several elements."""
    if mask is not None and ndim == 3:
        mask = mask[..., None]
    if gate is None:
        return mask
    live = gate if mask is None else mask & gate
    return None if live.all() else live


def _expander(form: str, type_: Type | None) -> Callable[[Array], Integers]:
    """Return the function from an index operand to the addresses of every element that the form accesses."""
    if not form.endswith(".vec") or type_ is None:
        return lambda index: index
    offsets = np.arange(type_.lanes)
    return lambda index: index[..., None].astype(np.int64) + offsets


# --- forms with an effect -----------------------------------------------------------------------------------------

ATOMIC_STEPS: dict[str, np.ufunc] = {"add": np.add, "max": np.maximum, "min": np.minimum}

EFFECTS: dict[str, str] = {
    "load": "bind_load",
    "load.vec": "bind_load",
    "load.gather": "bind_load",
    "load.async": "bind_async",
    "store": "bind_store",
    "store.vec": "bind_store",
    "store.scatter": "bind_store",
    "store.atomic.": "bind_atomic",
    "reduce.group.": "bind_group",
    "fence.group": "bind_fence",
    "fence.device": "bind_fence",
    "barrier": "bind_barrier",
    "wait.token": "bind_wait",
}
"""By form, or by family (the form without its kind): the method that binds it, by name so that subclasses override."""
