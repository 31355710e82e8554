"""The machine that executes PTX: ways apart and together, barriers, memories, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from portkit.emulators import ptx
from portkit.emulators.memory import Arena, EmulatorFault
from portkit.emulators.ptx import Program, launch
from portkit.errors import CompileError
from tests.emulators.running import lane_address, module, run

TID = "mov.u32 %r90, %tid.x;\n"
OUT = TID + lane_address(0, 4)
SHARED = ".shared .align 4 .b8 box[128];\n"
OWN_BOX = "mov.b64 %rd1, box;\nmul.wide.u32 %rd2, %r90, 4;\nadd.s64 %rd3, %rd1, %rd2;\n"


def lanes_of(body: str, lanes: int = 32, groups: int = 1, size: int = 0) -> list[int]:
    """Run a body that writes a word for each lane, and return them."""
    return run(body, [np.zeros(size or lanes, np.uint32)], lanes=lanes, groups=groups)[0].tolist()


def test_threads_take_their_own_ways_and_meet_again() -> None:
    body = OUT + (
        "and.b32 %r1, %r90, 1;\nsetp.eq.b32 %p1, %r1, 0;\nmov.b32 %r2, 10;\n@%p1 bra $even;\n"
        "mov.b32 %r2, 20;\nbra.uni $meet;\n$even:\nadd.s32 %r2, %r2, %r90;\n$meet:\nst.global.b32 [%rd90], %r2;"
    )
    assert lanes_of(body, 6) == [10, 20, 12, 20, 14, 20]


def test_a_guard_may_be_negated() -> None:
    body = OUT + (
        "setp.lt.u32 %p1, %r90, 2;\nmov.b32 %r2, 1;\n@!%p1 bra $end;\nmov.b32 %r2, 0;\n$end:\n"
        "st.global.b32 [%rd90], %r2;"
    )
    assert lanes_of(body, 4) == [0, 0, 1, 1]


def test_each_thread_has_a_trip_count_of_its_own() -> None:
    body = OUT + (
        "mov.b32 %r1, 0;\nmov.b32 %r2, 0;\n$head:\nsetp.ge.s32 %p1, %r1, %r90;\n@%p1 bra $end;\n"
        "add.s32 %r2, %r2, %r1;\nadd.s32 %r1, %r1, 1;\nbra.uni $head;\n$end:\nst.global.b32 [%rd90], %r2;"
    )
    assert lanes_of(body, 8) == [sum(range(n)) for n in range(8)]


def test_threads_that_leave_early_store_nothing_more() -> None:
    body = OUT + "setp.lt.u32 %p1, %r90, 3;\n@!%p1 bra $end;\nst.global.b32 [%rd90], 7;\n$end:"
    assert lanes_of(body, 5) == [7, 7, 7, 0, 0]


def test_groups_are_numbered_across_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ptx, "BATCH", 8)
    body = TID + (
        "mov.u32 %r1, %ctaid.x;\nmad.lo.s32 %r2, %r1, 4, %r90;\nld.param.b64 %rd1, [p0];\n"
        "mul.wide.u32 %rd2, %r2, 4;\nadd.s64 %rd3, %rd1, %rd2;\nst.global.b32 [%rd3], %r1;"
    )
    assert lanes_of(body, 4, groups=5, size=20) == [g for g in range(5) for _ in range(4)]


def exchange(barrier: str, neighbour: str) -> str:
    return (
        SHARED
        + OUT
        + OWN_BOX
        + (
            f"st.shared.b32 [%rd3], %r90;\n{barrier}\n{neighbour}\n"
            "mul.wide.u32 %rd4, %r1, 4;\nadd.s64 %rd5, %rd1, %rd4;\n"
            "ld.shared.b32 %r2, [%rd5];\nst.global.b32 [%rd90], %r2;"
        )
    )


@pytest.mark.parametrize("distance", [1, 2, 4, 8, 16])
def test_shared_memory_is_exchanged_across_a_barrier_and_only_there(distance: int) -> None:
    neighbour = f"xor.b32 %r1, %r90, {distance};"
    assert lanes_of(exchange("bar.sync 0;", neighbour)) == [lane ^ distance for lane in range(32)]
    assert lanes_of(exchange("", neighbour)) != [lane ^ distance for lane in range(32)]


def test_every_group_has_a_shared_memory_of_its_own() -> None:
    body = (
        SHARED
        + TID
        + (
            "mov.u32 %r1, %ctaid.x;\nst.shared.b32 [box], %r1;\nbar.sync 0;\nld.shared.b32 %r2, [box];\n"
            "ld.param.b64 %rd1, [p0];\nmul.wide.u32 %rd2, %r1, 4;\n"
            "add.s64 %rd3, %rd1, %rd2;\nst.global.b32 [%rd3], %r2;"
        )
    )
    assert lanes_of(body, 2, groups=3, size=3) == [0, 1, 2]


def test_shared_memory_starts_as_garbage() -> None:
    assert lanes_of(SHARED + OUT + "ld.shared.b32 %r1, [box];\nst.global.b32 [%rd90], %r1;", 1) == [0xA5A5A5A5]


def test_a_register_that_nobody_wrote_is_garbage() -> None:
    body = OUT + "setp.eq.b32 %p1, %r90, 0;\n@%p1 bra $end;\nmov.b32 %r1, 3;\n$end:\nst.global.b32 [%rd90], %r1;"
    assert lanes_of(body, 2) == [0xA5A5A5A5, 3]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("setp.eq.b32 %p1, %r90, 3;\n@%p1 bra $end;\nbar.sync 0;\n$end:", "3 of the 4 lanes of group 0 .*have left"),
        (
            "setp.eq.b32 %p1, %r90, 3;\n@%p1 bra $other;\nbar.sync 0;\nbra.uni $end;\n$other:\nbar.sync 0;\n$end:",
            "not all at one barrier",
        ),
    ],
)
def test_a_barrier_that_not_all_lanes_reach_is_a_fault(body: str, what: str) -> None:
    with pytest.raises(EmulatorFault, match=what):
        lanes_of(OUT + body, 4)


def test_a_fault_names_the_instruction_the_group_and_the_lane() -> None:
    body = OUT + "setp.lt.u32 %p1, %r90, 2;\n@%p1 bra $end;\nld.global.b32 %r1, [%rd90+8];\n$end:"
    with pytest.raises(EmulatorFault, match=r"illegal address .* `ld.global.b32 %r1, \[%rd90\+8\]` in group 0, lane 2"):
        lanes_of(body, 4)


def test_a_shared_access_outside_is_a_fault() -> None:
    with pytest.raises(EmulatorFault, match="outside 128 bytes"):
        lanes_of(SHARED + OUT + "ld.shared.b32 %r1, [box+128];", 1)


def test_vectors_are_loaded_and_stored_in_order() -> None:
    source, target = np.arange(8, dtype=np.uint32), np.zeros(8, np.uint32)
    body = (
        TID
        + lane_address(0, 16)
        + lane_address(1, 16)
        + ("ld.global.nc.v4.b32 {%r1, %r2, %r3, %r4}, [%rd90];\nst.global.v4.b32 [%rd91], {%r4, %r3, 9, %r1};")
    )
    assert run(body, [source, target], lanes=2)[1].tolist() == [3, 2, 9, 0, 7, 6, 9, 4]


def test_narrow_loads_fill_wider_registers_by_their_sign() -> None:
    source, target = np.array([0xF0, 0xF0], np.uint8), np.zeros(2, np.uint32)
    body = (
        TID
        + lane_address(1, 4)
        + (
            "ld.param.b64 %rd1, [p0];\nsetp.eq.b32 %p1, %r90, 0;\n@%p1 bra $signed;\nld.global.u8 %r1, [%rd1+1];\n"
            "bra.uni $end;\n$signed:\nld.global.s8 %r1, [%rd1];\n$end:\nst.global.b32 [%rd91], %r1;"
        )
    )
    assert run(body, [source, target], lanes=2)[1].tolist() == [0xFFFFFFF0, 0xF0]


def test_registers_are_packed_low_bits_first() -> None:
    body = OUT + (
        "mov.b16 %rs1, 0x1234U;\nmov.b16 %rs2, 0x5678U;\nmov.b32 %r1, {%rs1, %rs2};\n"
        "{ .reg .b16 tmp; mov.b32 {tmp, %rs3}, %r1; }\nmov.b32 %r2, {%rs3, %rs1};\nst.global.b32 [%rd90], %r2;"
    )
    assert lanes_of(body, 1) == [0x12345678]


@pytest.mark.parametrize(("kind", "expected"), [("add.u32", 28), ("max.s32", 7), ("min.u32", 0), ("exch.b32", 7)])
def test_atomic_operations_of_all_lanes_count(kind: str, expected: int) -> None:
    body = TID + f"ld.param.b64 %rd1, [p0];\natom.global.{kind} %r1, [%rd1], %r90;"
    assert run(body, [np.zeros(1, np.uint32)], lanes=8)[0].tolist() == [expected]


def test_a_loop_of_compare_and_swap_ends_with_every_lane_counted() -> None:
    body = TID + (
        "ld.param.b64 %rd1, [p0];\nld.relaxed.sys.global.b32 %r1, [%rd1];\n$again:\nadd.s32 %r2, %r1, %r90;\n"
        "atom.relaxed.sys.global.cas.b32 %r3, [%rd1], %r1, %r2;\nsetp.eq.b32 %p1, %r3, %r1;\nmov.b32 %r1, %r3;\n"
        "@%p1 bra $end;\nbra.uni $again;\n$end:"
    )
    assert run(body, [np.zeros(1, np.uint32)], lanes=8)[0].tolist() == [28]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("ld.param.b64 %rd1, [p0];\natom.global.add.u32 %r1, [%rd1], 1;\nadd.s32 %r2, %r1, 1;", "old value"),
        ("atom.global.inc.u32 %r1, [%rd1], 1;", r"atom\.global\.inc"),
        ("@%p1 add.s32 %r1, %r1, 1;", "only branches"),
        ("ld.local.b32 %r1, [%rd1];", r"ld\.local"),
        ("bra $nowhere;", "no label"),
        ("add.s32 %x1, %r1, %r2;", "%x1 is not declared"),
        ("add.s32 %r1, %r2;", "operands"),
        ("mov.b32 %r1, nothing;", "nothing"),
        ("ld.param.b64 %rd1, [p7];", "p7"),
        ("bar.sync 1;", "barrier 0"),
        (".local .align 4 .b8 depot[4];", "directive"),
        ("call something, ();", "call"),
    ],
)
def test_what_is_outside_the_subset_is_refused_when_loaded(body: str, what: str) -> None:
    with pytest.raises(CompileError, match=what):
        Program(module(body, 1))


@pytest.mark.parametrize(
    ("body", "lanes", "what"),
    [("", 1025, "1025 lanes"), (".shared .align 4 .b8 box[49153];", 1, "49153 bytes of shared memory")],
)
def test_a_kernel_beyond_the_chips_limits_is_refused(body: str, lanes: int, what: str) -> None:
    with pytest.raises(CompileError, match=what):
        Program(module(body, 1, lanes))


def test_a_launch_with_too_few_arguments_is_refused() -> None:
    with pytest.raises(EmulatorFault, match="takes 8 bytes"):
        launch(Program(module("", 1)), Arena(1 << 16), b"", 1)


def test_a_module_without_a_kernel_is_refused() -> None:
    with pytest.raises(CompileError, match="no kernel"):
        Program(".version 6.0\n")
