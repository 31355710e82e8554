"""What random kernels cover: cells and contexts of the instructions whose results reach an output.

An instruction is *live* if it stores to a buffer, or if something live depends on it: through a register, through
shared memory that something live reads, or as the loop around it. The rest a compiler may remove, so it is not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from portkit.conformance.case import Cell
from portkit.conformance.cases.cells import CONTROL_DTYPE
from portkit.spec.assemble import written_type
from portkit.spec.forms import FORMS, Op
from portkit.spec.infer import bind
from portkit.spec.kernel import Buffer, Instr, Kernel
from portkit.spec.types import TOKEN, DType, Type
from portkit.spec.uniform import uniform_registers
from portkit.spec.uses import use_of

Seen = tuple[Cell, str]
"""A cell in a context."""


@dataclass(slots=True)
class Coverage:
    """How often each declared cell was seen, alone and by context, over the kernels counted so far."""

    declared: frozenset[Cell]
    cells: Counter[Cell] = field(default_factory=Counter[Cell])
    contexts: Counter[Seen] = field(default_factory=Counter[Seen])
    kernels: int = 0

    def add(self, kernel: Kernel) -> None:
        """Count the live instructions of a kernel."""
        self.kernels += 1
        seen = {(c, context) for c, context in seen_in(kernel) if c in self.declared}
        self.contexts.update(seen)
        self.cells.update({cell for cell, _ in seen})

    def missing(self) -> list[Cell]:
        """Return the declared cells that no kernel had."""
        return sorted(self.declared - self.cells.keys(), key=str)

    def forms(self) -> tuple[int, int]:
        """Return how many pairs of form and dtype were covered, and how many are declared."""
        return len({(c.form, c.dtype) for c in self.cells}), len({(c.form, c.dtype) for c in self.declared})

    def by_context(self) -> dict[str, int]:
        """Return how many pairs of form and dtype were seen in each context."""
        pairs = {(context, cell.form, cell.dtype) for cell, context in self.contexts}
        return dict(sorted(Counter(context for context, _, _ in pairs).items()))


def seen_in(kernel: Kernel) -> Iterable[Seen]:
    """Yield the cell of every live instruction in each of its contexts; of no other context it is `top`."""
    alive = live(kernel)
    makers = {i.result: i.name for i in kernel.body if i.result}
    uniform = uniform_registers(kernel)
    loops: list[bool] = []
    met = False
    for position, instr in enumerate(kernel.body):
        if position in alive:
            cell = _cell(kernel, instr)
            for context in _contexts(instr, loops, met, makers) or ("top",):
                yield cell, context
        met = met or instr.name == "barrier"
        if instr.name == "loop.serial":
            loops.append(any(count not in uniform for count in instr.args))
        elif instr.name == "endloop" and loops:
            loops.pop()


def _contexts(instr: Instr, loops: list[bool], met: bool, makers: dict[str, str]) -> list[str]:
    operands = {makers.get(name, "") for name in instr.args}
    holds = {
        "loop": len(loops) == 1,
        "nested": len(loops) > 1,
        "divergent": any(loops),
        "after barrier": met,
        "gated": bool(instr.gate),
        "literal": "mov.const" in operands,
        "carried": "phi.carry" in operands,
    }
    return [name for name, holding in holds.items() if holding]


def _cell(kernel: Kernel, instr: Instr) -> Cell:
    args = tuple(kernel.types[name] for name in instr.args)
    mems = tuple(kernel.memories[name].dtype for name in instr.mems)
    return _cell_of(instr.name, args, mems, instr.type, written_type(instr))


@lru_cache(maxsize=8192)
def _cell_of(
    name: str, args: tuple[Type, ...], mems: tuple[DType, ...], result: Type | None, written: Type | None
) -> Cell:
    use = use_of(name, bind(FORMS[name], args, mems, written).types, result)
    lanes = result.lanes if use.source and result else use.lanes
    return Cell(use.form, use.dtype or CONTROL_DTYPE, lanes, use.source)


def live(kernel: Kernel) -> frozenset[int]:
    """Return the positions of the instructions whose effect can reach an output."""
    return _Slice(kernel).positions()


class _Slice:
    """The backward slice of a kernel from its stores to buffers."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.makers = {i.result: at for at, i in enumerate(kernel.body) if i.result}
        self.following: dict[str, str] = {}
        self.around: list[tuple[int, ...]] = []
        self.ends: dict[int, int] = {}
        self.writers: dict[str, list[int]] = {}
        self.waits = {i.args[0]: at for at, i in enumerate(kernel.body) if i.name == "wait.token"}
        self.found: set[int] = set()
        self.pending: list[int] = []
        self._scan()

    def positions(self) -> frozenset[int]:
        while self.pending:
            at = self.pending.pop()
            if at not in self.found:
                self.found.add(at)
                self._reach(at)
        return frozenset(self.found)

    def _scan(self) -> None:
        """Find the loops around each instruction, who writes each shared array, and where the slice begins."""
        heads: list[int] = []
        for at, instr in enumerate(self.kernel.body):
            self.around.append(tuple(heads))
            if instr.form.op is Op.LOOP:
                heads.append(at)
            elif instr.name == "endloop":
                self.ends[heads.pop()] = at
                self.following.update(instr.carries)
            self._note(at, instr)

    def _note(self, at: int, instr: Instr) -> None:
        target = self.kernel.memories[instr.mems[0]] if instr.mems else None
        if instr.form.op is Op.STORE and isinstance(target, Buffer):
            self.pending.append(at)
        elif target is not None and (instr.form.op is Op.STORE or instr.name == "load.async"):
            self.writers.setdefault(target.name, []).append(at)
        elif instr.name == "barrier" or instr.form.op is Op.FENCE:
            self.pending.append(at)

    def _reach(self, at: int) -> None:
        instr = self.kernel.body[at]
        reads = list(instr.args) if instr.name == "endloop" else list(instr.reads)
        if instr.result in self.following:
            reads.append(self.following[instr.result])
        self.pending += [self.makers[name] for name in reads if name in self.makers]
        self.pending += [*self.around[at], *(self.ends[head] for head in self.around[at])]
        if instr.name == "phi.carry" and instr.type is not None and instr.type.dtype == TOKEN:
            self._wait(instr.result)
        if instr.form.op is Op.LOAD:
            for name in instr.mems if instr.name != "load.async" else ():
                self.pending += self.writers.get(name, ())
            self._wait(instr.result)

    def _wait(self, token: str) -> None:
        """A copy or a carried token that is live makes its wait, or the loop that carries it on, live."""
        if token in self.waits:
            self.pending.append(self.waits[token])
        for carry, value in self.following.items():
            if value == token:
                self.pending.append(self.makers[carry])
        for at, instr in enumerate(self.kernel.body):
            if instr.name == "phi.carry" and instr.args == (token,):
                self.pending.append(at)


def declared_cells(cells: Iterable[Cell]) -> frozenset[Cell]:
    """Return the cells that can be seen in a kernel: all but those of forms that are specified only."""
    return frozenset(cell for cell in cells if not FORMS[cell.form].specified_only)
