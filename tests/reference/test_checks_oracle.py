"""The checks agree with the definition of a race, taken literally: every pair of accesses, on random kernels."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portkit.errors import InvalidKernelError
from portkit.reference import engine
from portkit.reference.checks import check
from portkit.spec.builder import Builder, Mem, Reg
from portkit.spec.kernel import Kernel

GROUPS, LANES, CELLS, STEPS = 3, 3, 4, 7
KINDS = ("load shared", "store shared", "load global", "store global", "barrier")

Step = tuple[str, list[int]]
"""What every lane does, and at which address each lane of the launch does it; -1 where it does not."""


class Access(NamedTuple):
    step: int
    writes: bool
    is_shared: bool
    address: int
    group: int
    lane: int
    epoch: int


def programs() -> st.SearchStrategy[list[Step]]:
    addresses = st.lists(st.integers(-1, CELLS - 1), min_size=GROUPS * LANES, max_size=GROUPS * LANES)
    sparse = st.lists(st.sampled_from([-1, -1, -1, -1, 0, 1]), min_size=GROUPS * LANES, max_size=GROUPS * LANES)
    own = st.just([lane % LANES for lane in range(GROUPS * LANES)])
    step = st.tuples(st.sampled_from(KINDS), addresses | sparse | own)
    return st.lists(step, min_size=1, max_size=STEPS)


def build(program: list[Step]) -> tuple[Kernel, list[int]]:
    """Return the kernel, and for each step the position of its instruction."""
    b = Builder("oracle")
    table = b.buffer("table", "i32", len(program) * GROUPS * LANES, "read")
    shared, buffer = b.shared("s", "i32", CELLS), b.buffer("y", "i32", CELLS, "readwrite")
    zero = b.const("i32", 0)
    lane = b.add(b.mul(b.grid(GROUPS), b.const("i32", LANES)), b.lane(LANES))
    for number, (kind, _) in enumerate(program):
        if kind == "barrier":
            b.barrier()
        else:
            index = b.load(table, b.add(lane, b.const("i32", number * GROUPS * LANES)))
            _access(b, kind, shared if "shared" in kind else buffer, index, zero)
    kernel = b.build()
    effects = [i for i, instr in enumerate(kernel.body) if instr.name in ("load", "store", "barrier")]
    steps = [position for position in effects if kernel.body[position].mems[:1] != ("table",)]
    return kernel, steps


def _access(b: Builder, kind: str, memory: Mem, index: Reg, zero: Reg) -> None:
    gate = b.lt(b.const("i32", -1), index)
    if kind.startswith("load"):
        b.load(memory, index, gate=gate, other=zero)
    else:
        b.store(memory, index, zero, gate=gate)


def accesses(program: list[Step]) -> list[Access]:
    found: list[Access] = []
    epoch = 0
    for step, (kind, addresses) in enumerate(program):
        epoch += kind == "barrier"
        found += [
            Access(step, kind.startswith("store"), "shared" in kind, address, *divmod(number, LANES), epoch)
            for number, address in enumerate(addresses)
            if address >= 0 and kind != "barrier"
        ]
    return found


def race(a: Access, b: Access) -> bool:
    """Spec: valid_c1."""
    same_bytes = (a.is_shared, a.address) == (b.is_shared, b.address) and (not a.is_shared or a.group == b.group)
    ordered = a.group == b.group and (a.lane == b.lane or a.epoch != b.epoch)
    return same_bytes and (a.writes or b.writes) and not ordered


def unwritten(a: Access, everything: list[Access]) -> bool:
    """Spec: valid_c4."""
    cell = (a.group, a.address)
    earlier = any(b.is_shared and b.writes and b.step < a.step and (b.group, b.address) == cell for b in everything)
    return a.is_shared and not a.writes and not earlier


def first_fault(program: list[Step]) -> int | None:
    everything = accesses(program)
    races = [max(a.step, b.step) for a, b in combinations(everything, 2) if race(a, b)]
    return min(races + [a.step for a in everything if unwritten(a, everything)], default=None)


def reported(program: list[Step]) -> int | None:
    """Return the step whose instruction `check` finds faulty, None if it finds none."""
    kernel, positions = build(program)
    table = np.array([addresses for _, addresses in program], np.int32).reshape(-1)
    try:
        check(kernel, {}, {"table": table, "y": np.zeros(CELLS, np.int32)})
    except InvalidKernelError as error:
        return positions.index(error.instruction)
    return None


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(programs())
def test_the_first_faulty_instruction_is_the_one_of_the_definition(program: list[Step]) -> None:
    assert reported(program) == first_fault(program)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(programs())
def test_the_verdict_is_the_same_when_groups_run_one_after_the_other(program: list[Step]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "CHUNK_ELEMENTS", 1)
        assert (reported(program) is None) == (first_fault(program) is None)


def test_the_random_kernels_are_a_mixture_of_valid_and_faulty_ones() -> None:
    verdicts: list[bool] = []

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(programs())
    def collect(program: list[Step]) -> None:
        verdicts.append(first_fault(program) is None)

    collect()
    assert verdicts.count(True) >= 20
    assert verdicts.count(False) >= 20
