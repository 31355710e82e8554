"""An interpreter of the gfx942 assembler text that LLVM writes: AMD's CDNA3 chips, emulated in NumPy.

The waves of the same number in many work-groups run one instruction at a time, together where they are at the same
place of the program, the ones that are furthest behind first. Those of one work-group run one after the other up to
where they wait for each other, in an order in which a missing barrier shows. An instruction that the interpreter does
not know is an error that names it. Registers and memory that nobody wrote hold garbage, every access is checked, and a
barrier that a part of a work-group does not reach is a fault. Source: CDNA3 ISA, chapters 3 and 4; LLVM, "User Guide
for AMDGPU Backend" (initial state).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from portkit.emulators.gcn_alu import Step, vector_step
from portkit.emulators.gcn_lanes import lane_step
from portkit.emulators.gcn_memory import Memory, Spaces, memory_step
from portkit.emulators.gcn_scalar import BRANCHES, scalar_step
from portkit.emulators.gcn_text import Instruction, Program, check_known, read_program
from portkit.emulators.gcn_waves import WAVE, Mask, Waves
from portkit.emulators.memory import Arena, EmulatorFault, Windows

_BATCH_LANES = 1 << 15
"""Lanes that run together: enough that NumPy's cost per call does not matter, few enough for the caches."""
_BATCH_BYTES = 1 << 26
"""Shared and private memory of a batch, at most."""
_NOTHING = frozenset({"s_waitcnt", "s_nop", "s_sleep", "s_setprio", "buffer_inv", "buffer_wbl2", "s_dcache_wb"})
"""What only waits for, or makes visible, what is complete and visible here already."""

Turn: TypeAlias = tuple[int, int]
"""When waves go on: by the number of the wave, then by the place in the program."""


@dataclass(frozen=True, slots=True)
class Branch:
    """Waves for which `taken` holds go on at `target`."""

    taken: Callable[[Waves], Mask]
    target: int


class Barrier:
    """Waves wait until all of their work-group are here."""


class End:
    """Waves are done."""


Action: TypeAlias = "Step | Branch | Barrier | End | _Access"


@dataclass(frozen=True, slots=True)
class _Access:
    run: Memory


class GcnKernel:
    """A kernel that is ready to run; reading its text is done once."""

    def __init__(self, text: str) -> None:
        """Read assembler text with one kernel called `kernel`.

        Raises:
            UnknownInstruction: the text has what this interpreter does not know; it names the line.
        """
        program = read_program(text)
        self._describe(program)
        self.program = program
        self.actions = [_action(program, instruction) for instruction in program.instructions]
        self.starts = frozenset(program.labels.values())

    def _describe(self, program: Program) -> None:
        """Take from the kernel descriptor what memory the kernel needs, and where its first registers are."""
        descriptor = program.descriptor
        self.shared = descriptor.get("group_segment_fixed_size", 0)
        self.private = descriptor.get("private_segment_fixed_size", 0)
        self.arguments = descriptor.get("kernarg_size", 0)
        self.first_scalar = descriptor.get("user_sgpr_count", 0)
        for name, expected in _EXPECTED.items():
            if descriptor.get(name, expected) != expected:
                found = f".amdhsa_{name} {descriptor[name]}"
                raise EmulatorFault(f"the gfx942 interpreter starts no kernel with {found}, only with {expected}")

    def run(self, arena: Arena, arguments: bytes, groups: int, lanes: int) -> None:
        """Run work-groups of `lanes` work-items; `arguments` are the bytes of the kernel's arguments.

        Raises:
            EmulatorFault: a lane did what the chip forbids; it names lane, work-group and instruction.
        """
        waves = -(-lanes // WAVE)
        size = max(self.shared + self.private * lanes, 1)
        together = max(1, min(_BATCH_LANES // (waves * min(lanes, WAVE)), _BATCH_BYTES // size))
        place = arena.allocate(max(self.arguments, len(arguments)))
        try:
            arena.write(place, arguments)
            with np.errstate(all="ignore"):
                for first in range(0, groups, together):
                    self._run_batch(arena, place, range(first, min(first + together, groups)), lanes)
        finally:
            arena.free(place)

    def _run_batch(self, arena: Arena, arguments: int, groups: range, lanes: int) -> None:
        per_group, width = -(-lanes // WAVE), min(lanes, WAVE)
        count = len(groups) * per_group
        owners, numbers = np.divmod(np.arange(count), per_group)
        items = numbers[:, None] * WAVE + np.arange(width)
        waves = Waves(owners, numbers, items < lanes)
        waves.vectors[0] = items.astype(np.uint32)
        waves.write_scalar_pair(0, np.full(count, arguments, np.uint64))
        waves.write_scalar(self.first_scalar, (owners + groups.start).astype(np.uint32))
        private = Windows(count * width if self.private else 0, self.private)
        spaces = Spaces(arena, Windows(len(groups), self.shared), private, groups.start)
        _Run(self, spaces, per_group).finish(waves)


_EXPECTED = {
    "user_sgpr_kernarg_segment_ptr": 1,
    "user_sgpr_count": 2,
    "system_sgpr_workgroup_id_x": 1,
    "system_vgpr_workitem_id": 0,
    "float_denorm_mode_32": 3,
    "float_denorm_mode_16_64": 3,
    "float_round_mode_32": 0,
    "float_round_mode_16_64": 0,
    "ieee_mode": 1,
    "dx10_clamp": 1,
}
"""What the interpreter takes as given: the kernel's arguments in s[0:1], the work-group in s2, the work-item in v0."""


def _action(program: Program, instruction: Instruction) -> Action:
    name = instruction.name
    if name in BRANCHES:
        label = instruction.operands[0].text
        if label not in program.labels:
            raise instruction.fault(f"no label {label}")
        return Branch(BRANCHES[name], program.labels[label])
    if name in _CONTROL:
        return _CONTROL[name]
    if name in _NOTHING:
        return _nothing
    if access := memory_step(instruction):
        return _Access(access)
    if step := vector_step(instruction):
        return step
    check_known(instruction, ())
    if step := scalar_step(instruction) or lane_step(instruction):
        return step
    raise instruction.fault(f"no instruction {name}")


def _nothing(_: Waves) -> None:
    """Do nothing."""


_CONTROL: dict[str, Barrier | End] = {"s_barrier": Barrier(), "s_endpgm": End()}


class _Run:
    """The waves of one batch: those that can go on, in the order of their turns, and those that wait at a barrier."""

    def __init__(self, kernel: GcnKernel, spaces: Spaces, per_group: int) -> None:
        self.kernel = kernel
        self.spaces = spaces
        self.per_group = per_group
        self.swapped = 1 if per_group > 1 else 0
        self.ready: dict[Turn, list[Waves]] = {}
        self.waiting: dict[int, list[Waves]] = {}

    def finish(self, waves: Waves) -> None:
        """Run from the first instruction until all waves are done."""
        for number in range(self.per_group):
            self._enter(0, waves.take(waves.numbers == number))
        while self.ready or self.waiting:
            if not self.ready:
                self._release()
            turn = min(self.ready)
            self._go_on(turn, Waves.join(self.ready.pop(turn)))

    def _enter(self, place: int, waves: Waves) -> None:
        """Let waves of one number go on at a place when it is their turn.

        Turns go 1, 0, 3, 2, .. and between the next two barriers 0, 1, 2, 3, ..: neither what a wave reads of earlier
        ones nor what it reads of later ones is always written already.
        """
        self.ready.setdefault((int(waves.numbers[0]) ^ self.swapped, place), []).append(waves)

    def _release(self) -> None:
        """Let waves pass the barrier that they wait at, which must be all of their work-groups."""
        self.swapped ^= self.per_group > 1
        for place, parts in self.waiting.items():
            groups, counts = np.unique(np.concatenate([part.groups for part in parts]), return_counts=True)
            if (counts < self.per_group).any():
                group = self.spaces.first + int(groups[np.argmin(counts)])
                line = self.kernel.program.instructions[place - 1].line
                raise EmulatorFault(
                    f"work-group {group}: {counts.min()} of {self.per_group} waves wait at the barrier in line {line}, "
                    "which the others never reach"
                )
            for part in parts:
                self._enter(place, part)
        self.waiting.clear()

    def _go_on(self, turn: Turn, waves: Waves) -> None:
        """Run waves until they end, wait, part, or come to where others are waiting to go on."""
        actions, starts, spaces = self.kernel.actions, self.kernel.starts, self.spaces
        number, place = turn
        while True:
            action = actions[place]
            place += 1
            if isinstance(action, _Access):
                action.run(waves, spaces)
            elif isinstance(action, Branch):
                going = self._branch(place, waves, action)
                if going is None:
                    return
                place = going
            elif isinstance(action, Barrier):
                self.waiting.setdefault(place, []).append(waves)
                return
            elif isinstance(action, End):
                return
            else:
                action(waves)
            if self.ready and place in starts and (number, place) >= min(self.ready):
                self._enter(place, waves)
                return

    def _branch(self, place: int, waves: Waves, branch: Branch) -> int | None:
        """Return where all waves go on, or None if they part."""
        taken = branch.taken(waves)
        if taken.all():
            return branch.target
        if not taken.any():
            return place
        self._enter(branch.target, waves.take(taken))
        self._enter(place, waves.take(~taken))
        return None
