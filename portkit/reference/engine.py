"""The one walk over a kernel that values, bounds and checks share: control flow here, the meaning of ops in a *domain*.

A register is a value of the domain `V`, opaque to the walk. In the values domain it is a NumPy array whose first two
axes are the groups of a chunk and the lanes of a group, and whose third, for vector registers only, is the vector;
either of the first two axes may have length 1 where the register does not vary along it. Every array that the walk
hands to a domain (loop indices, masks) follows the same rule, and so must the trip counts that it gets back.

How a domain plugs in, in the order in which the walk calls it:

- `pure(position, instr)` once per instruction with effect `pure`, `effect(position, instr)` once per other
  instruction: each returns the function that executes it. A pure function takes the operands in the order of
  `Instr.reads`; a function with effect takes the mask first. Neither is asked about loops, carries and scalars.
- `scalar(scalar, value)` once per launch scalar.
- per chunk of groups: `begin(chunk)`, the functions bound above in the order of the kernel, `end(chunk)`.
- per serial loop: `count(position, mask, value)` turns its count operand into the trips of each lane, `integers`
  makes its index, `merge(mask, new, old)` gives a carry its next value in the lanes of the mask and keeps the old
  one elsewhere, and `leave(position, carries)` gives what the carries read as after a loop that had a count operand.

A *mask* is None where every lane is active, else a bool array of shape (groups or 1, lanes or 1). Registers of
inactive lanes hold junk, which nothing reads: only memory accesses, barriers, waits and merges look at the mask. So
pure functions ignore it, and must be total: any input gives some value, without an exception or a warning.

All lanes of a chunk execute an instruction before any lane executes the next. A valid kernel cannot tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from operator import itemgetter
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from portkit.errors import HarnessError, PortkitError
from portkit.spec.geometry import grid_counts
from portkit.spec.kernel import Instr, Kernel, Loop, Scalar

V = TypeVar("V")

Mask: TypeAlias = NDArray[np.bool_] | None
Registers: TypeAlias = dict[str, V]
Step: TypeAlias = Callable[[dict[str, V], Mask], None]

CHUNK_ELEMENTS = 1 << 14
"""Lanes times elements per access of a chunk: arrays of 64-bit elements stay in the cache and the allocator's pool."""
CHUNK_SHARED = 1 << 20
"""Elements of all shared arrays of one chunk."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Work-groups `first` to `first + groups - 1`, by linear number, that run together."""

    first: int
    groups: int
    lanes: int

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The linear group numbers, shape (groups, 1)."""
        return np.arange(self.first, self.first + self.groups, dtype=np.int64)[:, None]


class Domain(Protocol[V]):
    """What a run computes with; see the module docstring for when each method is called."""

    def pure(self, position: int, instr: Instr) -> Callable[..., V]:
        """Return the function of a pure instruction: operands in, register out."""
        ...

    def effect(self, position: int, instr: Instr) -> Callable[..., V | None]:
        """Return the function of an instruction with an effect: mask and operands in, register or None out."""
        ...

    def scalar(self, scalar: Scalar, value: int | float) -> V:
        """Return the register of a launch scalar."""
        ...

    def integers(self, values: NDArray[np.int32]) -> V:
        """Return the register of a loop index."""
        ...

    def count(self, position: int, mask: Mask, value: V) -> NDArray[np.integer[Any]]:
        """Return how often each lane runs the serial loop at `position`; any integer, junk where inactive."""
        ...

    def merge(self, mask: NDArray[np.bool_], new: V, old: V) -> V:
        """Return `new` in the lanes of the mask and `old` elsewhere."""
        ...

    def leave(self, position: int, carries: list[V]) -> list[V]:
        """Return the carries of the serial loop at `position` after its last trip."""
        ...

    def begin(self, chunk: Chunk) -> None:
        """Prepare shared memory and whatever else belongs to the groups of a chunk."""
        ...

    def end(self, chunk: Chunk) -> None:
        """Finish a chunk."""
        ...


def run(kernel: Kernel, domain: Domain[V], scalars: Mapping[str, int | float]) -> None:
    """Execute every work-group of a verified kernel in a domain, in order of the linear group number.

    Raises `SpecError` (nest_c1, nest_c3) for a kernel without a nest or with too many groups, what the domain raises on
    purpose, and `HarnessError` for anything else: that is our own fault, not the kernel's.
    Spec: nest_c5, loop_c1, carry_c1, endloop_c1.
    """
    try:
        with np.errstate(all="ignore"):
            _run_chunks(kernel, domain, scalars, grid_counts(kernel, scalars))
    except PortkitError:
        raise
    except Exception as error:
        message = f"the reference failed on kernel {kernel.name}: {type(error).__name__}: {error}"
        raise HarnessError(f"{message}; if `verify` takes this kernel, please report it") from error


def _run_chunks(kernel: Kernel, domain: Domain[V], scalars: Mapping[str, int | float], grids: tuple[int, ...]) -> None:
    total, size = prod(grids), chunk_groups(kernel)
    if not total:
        return
    fixed = {s.name: domain.scalar(s, scalars[s.name]) for s in kernel.scalars}
    program = _Program(kernel, domain, fixed)
    for first in range(0, total, size):
        chunk = Chunk(first, min(size, total - first), kernel.lanes)
        domain.begin(chunk)
        program.run(chunk, grids)
        domain.end(chunk)


def chunk_groups(kernel: Kernel) -> int:
    """Return how many work-groups run together."""
    copied = [i.imms[0] for i in kernel.body if i.name == "load.async"]
    width = max([t.lanes for t in kernel.types.values()] + copied, default=1)
    shared = sum(s.extent for s in kernel.shared)
    return max(1, min(CHUNK_ELEMENTS // (kernel.lanes * width), CHUNK_SHARED // max(1, shared)))


class _Program(Generic[V]):
    """A kernel as a list of steps over a register file."""

    def __init__(self, kernel: Kernel, domain: Domain[V], fixed: Registers[V]) -> None:
        self._kernel = kernel
        self._domain = domain
        self._fixed = fixed
        for position, instr in enumerate(kernel.body):
            if instr.name == "mov.const":
                fixed[instr.result] = domain.pure(position, instr)()
        heads = {*kernel.nest.grids, *kernel.nest.lanes}
        self._setup = self._steps(tuple(i for i in kernel.nest.setup if i not in heads))
        self._body = self._steps(kernel.nest.body)

    def run(self, chunk: Chunk, grids: tuple[int, ...]) -> None:
        registers = dict(self._fixed)
        registers.update(self._indices(self._kernel.nest.grids, grids, chunk.numbers))
        lanes = np.arange(chunk.lanes, dtype=np.int64)[None, :]
        registers.update(self._indices(self._kernel.nest.lanes, self._kernel.lane_counts, lanes))
        for step in (*self._setup, *self._body):
            step(registers, None)

    def _indices(
        self, heads: tuple[int, ...], counts: tuple[int, ...], linear: NDArray[np.int64]
    ) -> list[tuple[str, V]]:
        """Return the index register of each loop of a nest, the last loop counting fastest (Spec: nest_c5)."""
        named: list[tuple[str, V]] = []
        for head, count in zip(reversed(heads), reversed(counts), strict=True):
            index = (linear % count).astype(np.int32)
            named.append((self._kernel.body[head].result, self._domain.integers(index)))
            linear = linear // count
        return named

    def _steps(self, tree: tuple[int | Loop, ...]) -> list[Step[V]]:
        return [
            self._loop(part) if isinstance(part, Loop) else self._instruction(part)
            for part in tree
            if isinstance(part, Loop) or self._kernel.body[part].name != "mov.const"
        ]

    def _instruction(self, position: int) -> Step[V]:
        instr = self._kernel.body[position]
        operands, result = _getter(instr.reads), instr.result
        if instr.form.effect == "pure":
            pure = self._domain.pure(position, instr)

            def compute(registers: Registers[V], mask: Mask) -> None:
                registers[result] = pure(*operands(registers))

            return compute
        effect = self._domain.effect(position, instr)

        def act(registers: Registers[V], mask: Mask) -> None:
            value = effect(mask, *operands(registers))
            if value is not None:
                registers[result] = value

        return act

    def _loop(self, loop: Loop) -> Step[V]:
        body, domain = self._kernel.body, self._domain
        head, steps = body[loop.head], self._steps(loop.body)
        inits = [(body[i].result, body[i].args[0]) for i in loop.carries]
        carries = [carry for carry, _ in body[loop.end].carries]
        following = _getter(tuple(value for _, value in body[loop.end].carries))
        trips = self._trips(loop.head)

        def iterate(registers: Registers[V], mask: Mask) -> None:
            registers.update([(carry, registers[init]) for carry, init in inits])
            counts, lowest, highest = trips(registers, mask)
            for k in range(highest):
                active = mask if k < lowest else _narrow(mask, counts > k)
                registers[head.result] = domain.integers(np.full((1, 1), k, np.int32))
                for step in steps:
                    step(registers, active)
                values = following(registers)
                if k >= lowest:
                    assert active is not None
                    values = [domain.merge(active, v, registers[c]) for c, v in zip(carries, values, strict=True)]
                registers.update(zip(carries, values, strict=True))
            if not head.imms:
                last = domain.leave(loop.head, [registers[carry] for carry in carries])
                registers.update(zip(carries, last, strict=True))

        return iterate

    def _trips(self, position: int) -> Callable[[Registers[V], Mask], tuple[NDArray[np.integer[Any]], int, int]]:
        """Return a function giving the trip count of each lane, and the least and greatest over the active ones."""
        head, domain = self._kernel.body[position], self._domain
        if head.imms:
            fixed = (np.full((1, 1), head.imms[0]), head.imms[0], head.imms[0])
            return lambda registers, mask: fixed

        def trips(registers: Registers[V], mask: Mask) -> tuple[NDArray[np.integer[Any]], int, int]:
            counts = domain.count(position, mask, registers[head.args[0]])
            seen = counts if mask is None else _where_active(counts, mask)
            return (counts, int(seen.min()), int(seen.max())) if seen.size else (counts, 0, 0)

        return trips


def _where_active(counts: NDArray[np.integer[Any]], mask: NDArray[np.bool_]) -> NDArray[np.integer[Any]]:
    counts, mask = np.broadcast_arrays(counts, mask)
    return counts[mask]


def _narrow(mask: Mask, condition: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return condition if mask is None else mask & condition


def _getter(names: tuple[str, ...]) -> Callable[[Mapping[str, V]], tuple[V, ...]]:
    """Return a function that takes the named registers out of a register file, always as a tuple."""
    if len(names) > 1:
        return itemgetter(*names)
    if names:
        name = names[0]
        return lambda registers: (registers[name],)
    return lambda registers: ()
