"""Which registers hold the same value in every lane of a work-group (Spec: uniform_c1)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from portkit.spec.kernel import Buffer, Instr, Kernel


@dataclass(slots=True)
class _SerialLoop:
    """A serial loop: its index, and what changes with its count: carries, loads inside, loops inside."""

    index: str
    carries: list[str] = field(default_factory=list[str])
    loads: list[str] = field(default_factory=list[str])
    inner: list[str] = field(default_factory=list[str])


def uniform_registers(kernel: Kernel) -> frozenset[str]:
    """Return the registers and scalars that are uniform; the kernel is well formed.

    Everything is taken to be uniform until it is seen to depend on a lane; each register is visited once, so the time
    is linear in the uses of registers.
    """
    return frozenset(kernel.types.keys() - _Divergence(kernel).spread())


class _Divergence:
    """Spreads non-uniformity from lane indices and ordered loads along uses, carries and loop counts."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.users: defaultdict[str, list[str]] = defaultdict(list)
        self.loops: dict[str, _SerialLoop] = {}
        self.pending: list[str] = []

    def spread(self) -> set[str]:
        self._scan()
        found: set[str] = set()
        diverged: set[str] = set()
        while self.pending:
            register = self.pending.pop()
            if register in found:
                continue
            found.add(register)
            self.pending += self.users[register]
            if register in self.loops:
                self._diverge(register, diverged)
        return found

    def _scan(self) -> None:
        """Collect who uses what, the loops, and the registers that are not uniform from the start."""
        open_loops: list[str] = []
        for instr in self.kernel.body:
            if instr.name == "loop.serial":
                self._open(instr, open_loops)
            elif instr.name == "endloop":
                self._close(instr, open_loops)
            elif instr.result:
                self._note(instr, open_loops)

    def _open(self, instr: Instr, open_loops: list[str]) -> None:
        if open_loops:
            self.loops[open_loops[-1]].inner.append(instr.result)
        open_loops.append(instr.result)
        self.loops[instr.result] = _SerialLoop(instr.result)
        for count in instr.args:
            self.users[count].append(instr.result)

    def _close(self, instr: Instr, open_loops: list[str]) -> None:
        for carry, value in instr.carries:
            self.users[value].append(carry)
        if open_loops and instr.args == (open_loops[-1],):
            open_loops.pop()

    def _note(self, instr: Instr, open_loops: list[str]) -> None:
        if instr.form.extension == "group":
            return
        for register in instr.reads:
            self.users[register].append(instr.result)
        if instr.name == "loop.lane" or (instr.form.effect == "read" and not self._reads_constant_memory(instr)):
            self.pending.append(instr.result)
        if open_loops and instr.name == "phi.carry":
            self.loops[open_loops[-1]].carries.append(instr.result)
        if open_loops and instr.form.effect == "read":
            self.loops[open_loops[-1]].loads.append(instr.result)

    def _reads_constant_memory(self, instr: Instr) -> bool:
        """Return whether what is read cannot change during the launch; a token never counts as constant."""
        memories = (self.kernel.memories[name] for name in instr.mems)
        return instr.form.result != "token" and all(isinstance(m, Buffer) and m.access == "read" for m in memories)

    def _diverge(self, index: str, diverged: set[str]) -> None:
        """Mark what a loop whose count differs per lane takes along: its carries, and every load in it."""
        self.pending += self.loops[index].carries
        inside = [index]
        while inside:
            at = inside.pop()
            if at in diverged:
                continue
            diverged.add(at)
            self.pending += self.loops[at].loads
            inside += self.loops[at].inner
