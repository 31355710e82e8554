"""Instructions of gfx942 that look across the lanes of a wave. Source: CDNA3 ISA, 12.8, 12.10 and 12.12."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from portkit.emulators.gcn_alu import Read, Step, raw_reader
from portkit.emulators.gcn_text import EXEC, Instruction, Operand
from portkit.emulators.gcn_waves import WAVE, Array, Waves


def lane_step(instruction: Instruction) -> Step | None:
    """Return an instruction as a function of waves, None if it is none of these."""
    make = _LANES.get(instruction.name)
    return make(instruction) if make else None


def _first_lane(instruction: Instruction) -> Step:
    """Read the first active lane, or lane 0 if none is (V_READFIRSTLANE_B32)."""
    target, source = instruction.operands
    read = raw_reader(source, 4)

    def run(w: Waves) -> None:
        lanes = np.argmax(w.mask(EXEC), axis=1)
        w.write_scalar(target.index, np.broadcast_to(read(w), w.shape)[np.arange(w.count), lanes])

    return run


def _read_lane(instruction: Instruction) -> Step:
    """Read the lane that a constant or a scalar names, active or not (V_READLANE_B32)."""
    target, source, place = instruction.operands
    lane = _lane_number(place)

    def run(w: Waves) -> None:
        chosen = lane(w)
        if len(chosen) == 1:
            w.write_scalar(target.index, w.lane_of(source.index, int(chosen[0])))
        else:
            w.write_scalar(target.index, w.vector(source.index)[np.arange(w.count), chosen % w.width])

    return run


def _write_lane(instruction: Instruction) -> Step:
    """Write the lane that a constant names, active or not (V_WRITELANE_B32)."""
    target, source, place = instruction.operands
    if place.file:
        raise instruction.fault("no writing of a lane that a register names")
    read, lane = raw_reader(source, 4), place.bits(4, is_float=False) & (WAVE - 1)
    return lambda w: w.write_lane(target.index, lane, w.each(read(w)[:, 0]))


def _lane_number(place: Operand) -> Read:
    read = raw_reader(place, 4)
    return lambda w: read(w)[:, 0] & np.uint32(WAVE - 1)


def _count_below(first: int) -> Callable[[Instruction], Step]:
    """Add how many ones of a mask's 32 bits from `first` on stand below each lane (V_MBCNT_LO, V_MBCNT_HI)."""

    def make(instruction: Instruction) -> Step:
        target, mask, base = instruction.operands
        read_mask, read_base = raw_reader(mask, 4), raw_reader(base, 4)

        def run(w: Waves) -> None:
            below = np.clip(w.lanes - first, 0, 32).astype(np.uint64)
            ones = ((np.uint64(1) << below) - np.uint64(1)).astype(np.uint32)
            w.write_vector(target.index, np.bitwise_count(read_mask(w) & ones) + read_base(w))

        return run

    return make


def _swap(instruction: Instruction) -> Step:
    """Exchange two registers (V_SWAP_B32)."""
    a, b = (operand.index for operand in instruction.operands)

    def run(w: Waves) -> None:
        first: Array = w.vector(a)
        second: Array = w.vector(b)
        w.write_vector(a, second)
        w.write_vector(b, first)

    return run


def _copy(instruction: Instruction) -> Step:
    """Move to or from an accumulation register, which is a vector register like others here (V_ACCVGPR_READ_B32)."""
    target, source = instruction.operands
    read: Read = raw_reader(source, 4)
    return lambda w: w.write_vector(target.index, read(w))


_LANES: dict[str, Callable[[Instruction], Step]] = {
    "v_readfirstlane_b32": _first_lane,
    "v_readlane_b32": _read_lane,
    "v_writelane_b32": _write_lane,
    "v_mbcnt_lo_u32_b32": _count_below(0),
    "v_mbcnt_hi_u32_b32": _count_below(32),
    "v_swap_b32": _swap,
    "v_accvgpr_read_b32": _copy,
    "v_accvgpr_write_b32": _copy,
    "v_accvgpr_mov_b32": _copy,
}
