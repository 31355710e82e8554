"""A GPU that executes PTX, in NumPy: all threads of many work-groups at once, block by block.

Each thread has a program counter, the number of its next block. Of those that are not at a barrier, the threads at the
lowest one go first, so that threads that took different ways meet again where the ways do. Threads are elements of
arrays; those of a few threads are picked out when they enter a block, and put back behind it. Groups are taken in
batches, one after the other.

Lanes in lockstep would hide a missing barrier. So the lanes of a kernel that shares memory are two *squads*: between
two barriers the first goes as far as it can, then the second.

What the manual forbids is an `EmulatorFault`: an address outside every buffer, a barrier that not all lanes of a group
reach. What nobody wrote is garbage: shared memory, device memory, registers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.emulators.memory import GARBAGE, Arena, EmulatorFault, Windows
from portkit.emulators.ptx_code import (
    GLOBAL,
    OWNERS,
    PARAMETERS,
    SHARED,
    SPECIAL,
    THREADS,
    Frame,
    Step,
    check_unread,
    registers,
    step_of,
)
from portkit.emulators.ptx_text import EXIT, Block, Branch, Entry, parse
from portkit.errors import CompileError

BATCH = 1 << 15
"""How many threads run at once, at least one group: their registers stay in a processor's cache."""
Threads: TypeAlias = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A block as steps; `enters` are the registers whose values it needs, `leaves` those that others need of it."""

    steps: tuple[Step, ...]
    branch: Branch
    enters: tuple[str, ...]
    leaves: tuple[str, ...]


class Program:
    """A kernel ready to run."""

    def __init__(self, text: str) -> None:
        """Read PTX text. Raises `CompileError` for what is not in the known subset."""
        self.entry = parse(text)
        _check_limits(self.entry)
        check_unread(instruction for block in self.entry.blocks for instruction in block.instructions)
        flows = [_flow(block) for block in self.entry.blocks]
        crossing = {name for reads, _ in flows for name in reads}
        self.blocks = [
            _compiled(block, reads, writes & crossing, self.entry)
            for block, (reads, writes) in zip(self.entry.blocks, flows, strict=True)
        ]
        self.squads = bool(self.entry.shared) or any(block.branch.barrier for block in self.blocks)
        self.garbage = {name: _garbage(self.entry, name) for name in crossing if name not in SPECIAL}


def _check_limits(entry: Entry) -> None:
    """Refuse what NVIDIA's assembler refuses (CUDA Programming Guide, "Technical Specifications")."""
    sizes = (
        ("lanes", entry.lanes, 1024),
        ("bytes of shared memory", entry.shared_bytes, 48 << 10),
        ("bytes of parameters", 8 * len(entry.parameters), 4096),
    )
    for what, used, most in sizes:
        if used > most:
            raise CompileError(f"PTX: kernel {entry.name} uses {used} {what}, {most} are the most")


def _flow(block: Block) -> tuple[set[str], set[str]]:
    """Return the registers that a block reads before it writes them, and those that it writes."""
    before: set[str] = set()
    written: set[str] = set()
    for instruction in block.instructions:
        reads, writes = registers(instruction)
        before |= reads - written
        written |= writes
    guard = {block.branch.guard.lstrip("!")} - {""}
    return before | (guard - written), written


def _compiled(block: Block, reads: set[str], writes: set[str], entry: Entry) -> Compiled:
    steps = [step_of(instruction, entry) for instruction in block.instructions]
    kept = tuple(step for step in steps if step is not None)
    return Compiled(kept, block.branch, tuple(sorted(reads)), tuple(sorted(writes)))


def _garbage(entry: Entry, register: str) -> Any:
    width = entry.width(register)
    if width == 1:
        return np.bool_(GARBAGE & 1)
    return np.frombuffer(bytes([GARBAGE]) * (width // 8), f"u{width // 8}")[0]


def launch(program: Program, memory: Arena, arguments: bytes, groups: int) -> None:
    """Run work-groups [0, groups) and return when all are done.

    `arguments` are 8 bytes for each parameter. Raises `EmulatorFault`.
    """
    expected = 8 * len(program.entry.parameters)
    if len(arguments) != expected:
        raise EmulatorFault(f"kernel {program.entry.name} takes {expected} bytes of arguments, got {len(arguments)}")
    batch = max(1, BATCH // program.entry.lanes)
    with np.errstate(all="ignore"):
        for first in range(0, groups, batch):
            _Batch(program, memory, arguments, first, min(batch, groups - first)).run()


class _Batch:
    """Some work-groups while they run; threads are numbered group by group."""

    def __init__(self, program: Program, memory: Arena, arguments: bytes, first: int, groups: int) -> None:
        self.program = program
        self.lanes = program.entry.lanes
        self.first = first
        self.count = groups * self.lanes
        owners = np.repeat(np.arange(groups), self.lanes)
        lane = np.tile(np.arange(self.lanes, dtype=np.uint32), groups)
        group = np.uint32(first) if groups == 1 else (owners + first).astype(np.uint32)
        self.common = {
            GLOBAL: memory,
            SHARED: Windows(groups, program.entry.shared_bytes),
            PARAMETERS: arguments,
        }
        self.all: Frame = {
            **self.common,
            **program.garbage,
            "%tid.x": lane,
            "%ctaid.x": group,
            OWNERS: owners,
            THREADS: self.count,
        }
        # Lanes any power of two apart are in different squads.
        self.squad = np.bitwise_count(lane) & 1 if program.squads else np.zeros(self.count, np.uint8)
        self.ready: dict[tuple[int, int], list[Threads]] = {}  # by squad and block
        self.waiting: dict[int, list[Threads]] = {}
        self._muster(0, np.arange(self.count))

    def run(self) -> None:
        """Run until every thread has left."""
        while self.ready or self.waiting:
            if not self.ready:
                self._meet()
            squad, number = min(self.ready)
            threads = self._merged(self.ready.pop((squad, number)))
            block = self.program.blocks[number]
            frame = self.all if len(threads) == self.count else self._enter(block, threads)
            try:
                for step in block.steps:
                    step(frame)
            except EmulatorFault as fault:
                raise self._located(fault, threads) from fault
            if frame is not self.all:
                self._leave(block, frame, threads)
            self._branch(block.branch, frame, threads, squad)

    def _merged(self, parts: list[Threads]) -> Threads:
        return parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))

    # --- some of the threads --------------------------------------------------------------------------------------

    def _enter(self, block: Compiled, threads: Threads) -> Frame:
        """Return a frame with the values that a block needs, of some threads."""
        frame: Frame = {**self.common, THREADS: len(threads), OWNERS: self.all[OWNERS][threads]}
        for name in block.enters:
            value = self.all[name]
            frame[name] = value[threads] if value.ndim else value
        return frame

    def _leave(self, block: Compiled, frame: Frame, threads: Threads) -> None:
        """Put back what other blocks may need."""
        for name in block.leaves:
            if name not in frame:
                continue
            value, old = frame[name], self.all[name]
            new = old.copy() if old.ndim else np.full(self.count, old)
            new[threads] = value.view(new.dtype)
            self.all[name] = new

    # --- ways -----------------------------------------------------------------------------------------------------

    def _branch(self, branch: Branch, frame: Frame, threads: Threads, squad: int) -> None:
        if branch.barrier:
            self.waiting.setdefault(branch.target, []).append(threads)
        elif not branch.guard:
            self._go(squad, branch.target, threads)
        else:
            held = frame[branch.guard.lstrip("!")]
            self._split(branch, ~held if branch.guard[0] == "!" else held, threads, squad)

    def _split(self, branch: Branch, held: Any, threads: Threads, squad: int) -> None:
        if held.ndim == 0 or held.all() or not held.any():
            self._go(squad, branch.target if held.any() else branch.otherwise, threads)
        else:
            self._go(squad, branch.target, threads[held])
            self._go(squad, branch.otherwise, threads[~held])

    def _go(self, squad: int, target: int, threads: Threads) -> None:
        if target != EXIT:
            self.ready.setdefault((squad, target), []).append(threads)

    def _muster(self, target: int, threads: Threads) -> None:
        """Let threads go on from where all met."""
        for squad in range(2):
            if len(members := threads[self.squad[threads] == squad]):
                self._go(squad, target, members)

    def _meet(self) -> None:
        """Let every group go on whose lanes are all at one barrier (PTX ISA, 9.7.13.1)."""
        for target, parts in list(self.waiting.items()):
            threads = self._merged(parts)
            arrived = np.bincount(threads // self.lanes, minlength=self.count // self.lanes)
            complete = (arrived == self.lanes)[threads // self.lanes]
            del self.waiting[target]
            if complete.any():
                self._muster(target, threads[complete])
            if not complete.all():
                self.waiting[target] = [threads[~complete]]
        if not self.ready:
            self._stuck()

    def _stuck(self) -> None:
        threads = self._merged([part for parts in self.waiting.values() for part in parts])
        group = int(threads[0]) // self.lanes
        arrived = int(np.sum(threads // self.lanes == group))
        what = "not all at one barrier" if arrived == self.lanes else "the others have left"
        raise EmulatorFault(
            f"divergent barrier: {arrived} of the {self.lanes} lanes of group {group + self.first} wait, {what}"
        )

    def _located(self, fault: EmulatorFault, threads: Threads) -> EmulatorFault:
        """Return the fault with the group and lane that did it; one of a scalar address was all threads' own."""
        thread = int(threads[max(0, fault.position)])
        group, lane = divmod(thread, self.lanes)
        return EmulatorFault(f"{fault} in group {group + self.first}, lane {lane}", fault.position)
