"""The machine that executes gfx942: waves that part and meet, barriers, batches, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from portkit.emulators import gcn
from portkit.emulators.gcn import GcnKernel
from portkit.emulators.memory import Arena, EmulatorFault
from tests.emulators.gcn_running import run, text

STORE = "v_lshlrev_b32_e32 v1, 2, v0\nglobal_store_dword v1, v10, s[8:9]"


def lanes_of(body: str, lanes: int, **descriptor: int) -> list[int]:
    return run(f"{body}\n{STORE}", [np.zeros(lanes, np.uint32)], lanes=lanes, descriptor=descriptor)[0].tolist()


def test_lanes_that_do_not_execute_keep_their_registers() -> None:
    body = "v_mov_b32_e32 v10, 7\nv_cmp_gt_u32_e32 vcc, 2, v0\ns_and_saveexec_b64 s[20:21], vcc\n"
    assert lanes_of(body + "v_mov_b32_e32 v10, 9\ns_or_b64 exec, exec, s[20:21]", 4) == [9, 9, 7, 7]


def test_comparisons_give_false_for_lanes_that_do_not_execute() -> None:
    body = "v_cmp_gt_u32_e32 vcc, 2, v0\ns_and_saveexec_b64 s[20:21], vcc\nv_cmp_eq_u32_e64 s[22:23], v0, v0\n"
    assert lanes_of(body + "s_mov_b64 exec, s[20:21]\nv_mov_b32_e32 v10, s22", 4) == [3] * 4


def test_waves_take_their_own_ways_and_meet_again() -> None:
    body = """
        v_readfirstlane_b32 s20, v0
        s_cmp_lt_u32 s20, 64
        s_cbranch_scc1 .LBB0_2
        v_mov_b32_e32 v10, 2
        s_branch .LBB0_3
    .LBB0_2:
        v_mov_b32_e32 v10, 1
    .LBB0_3:
        v_add_u32_e32 v10, 10, v10"""
    assert lanes_of(body, 130) == [11] * 64 + [12] * 66


def test_each_wave_has_a_trip_count_of_its_own() -> None:
    body = """
        v_readfirstlane_b32 s20, v0
        s_lshr_b32 s20, s20, 6
        v_mov_b32_e32 v10, 0
    .LBB0_1:
        v_add_u32_e32 v10, 1, v10
        s_sub_i32 s20, s20, 1
        s_cmp_lt_i32 s20, 0
        s_cbranch_scc0 .LBB0_1"""
    assert lanes_of(body, 192) == [1] * 64 + [2] * 64 + [3] * 64


@pytest.mark.parametrize(
    ("branch", "taken"),
    [("s_cbranch_vccz", True), ("s_cbranch_vccnz", False), ("s_cbranch_execz", False), ("s_cbranch_execnz", True)],
)
def test_branches_look_at_whole_masks(branch: str, taken: bool) -> None:
    body = f"v_mov_b32_e32 v10, 1\nv_cmp_gt_u32_e32 vcc, 0, v0\n{branch} .LBB0_2\nv_mov_b32_e32 v10, 0\n.LBB0_2:"
    assert lanes_of(body, 3) == [int(taken)] * 3


def test_waves_wait_for_each_other_at_a_barrier() -> None:
    body = """
        v_lshlrev_b32_e32 v2, 2, v0
        v_readfirstlane_b32 s20, v0
        s_cmp_eq_u32 s20, 0
        s_cbranch_scc1 .LBB0_1
        ds_write_b32 v2, v0
    .LBB0_1:
        s_barrier
        ds_read_b32 v10, v2 offset:256"""
    assert lanes_of(body, 128, group_segment_fixed_size=768)[:64] == list(range(64, 128))


@pytest.mark.parametrize("neighbour", [-1, 1])
def test_a_missing_barrier_between_waves_shows(neighbour: int) -> None:
    body = f"""
        v_lshlrev_b32_e32 v2, 2, v0
        ds_write_b32 v2, v0
        {{barrier}}
        v_add_u32_e32 v3, {64 * neighbour}, v0
        v_and_b32_e32 v3, 0xff, v3
        v_lshlrev_b32_e32 v3, 2, v3
        ds_read_b32 v10, v3"""
    expected = [(lane + 64 * neighbour) % 256 for lane in range(256)]
    assert lanes_of(body.format(barrier="s_barrier"), 256, group_segment_fixed_size=1024) == expected
    assert lanes_of(body.format(barrier=""), 256, group_segment_fixed_size=1024) != expected


def test_a_barrier_that_some_waves_never_reach_is_a_fault() -> None:
    body = "v_readfirstlane_b32 s20, v0\ns_cmp_eq_u32 s20, 0\ns_cbranch_scc1 .LBB0_2\ns_barrier\n.LBB0_2:"
    with pytest.raises(EmulatorFault, match="work-group 0: 1 of 2 waves wait at the barrier in line"):
        lanes_of(body, 128)


def test_groups_are_numbered_across_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcn, "_BATCH_LANES", 8)
    body = "v_lshl_or_b32 v1, s2, 2, v0\nv_mov_b32_e32 v10, s2\nv_lshlrev_b32_e32 v1, 2, v1\n"
    found = run(f"{body}global_store_dword v1, v10, s[8:9]", [np.zeros(20, np.uint32)], lanes=4, groups=5)[0]
    assert found.tolist() == [group for group in range(5) for _ in range(4)]


def test_a_fault_in_a_later_batch_names_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcn, "_BATCH_LANES", 8)
    body = "s_lshl_b32 s3, s2, 4\nv_mov_b32_e32 v1, s3\nglobal_store_dword v1, v0, s[8:9]"
    with pytest.raises(EmulatorFault, match="work-group 4, lane 0"):
        run(body, [np.zeros(16, np.uint32)], lanes=4, groups=5)


def test_a_register_that_nobody_wrote_holds_garbage() -> None:
    assert lanes_of("v_mov_b32_e32 v10, v77", 2) == [0xA5A5A5A5] * 2


def test_nothing_runs_for_an_empty_grid() -> None:
    out = np.full(1, 3, np.uint32)
    assert run("v_mov_b32_e32 v10, 1\n" + STORE, [out], lanes=1, groups=0)[0].tolist() == [3]


def test_the_arguments_are_freed_after_a_run() -> None:
    memory = Arena(1 << 12)
    kernel = GcnKernel(text(""))
    for _ in range(100):
        kernel.run(memory, bytes(64), 1, 1)
    assert memory.allocate((1 << 12) - 512)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("v_sandwich_b32 v1, v2", "no instruction v_sandwich_b32"),
        ("v_mov_b32_e32 v1, ttmp3", "no operand ttmp3"),
        ("s_mov_b32 s1, s2 offset:4", "no modifier offset"),
        ("v_mov_b32_dpp v1, v2 quad_perm:[1,0,3,2]", "no modifier quad_perm"),
        ("global_load_dword v1, v2, s[8:9] lds", "no operand lds"),
        ("s_branch .LBB0_9", "no label .LBB0_9"),
        ("v_add_u32_e64 v1, v2, v3 clamp", "no output modifiers for integers"),
        ("v_add_f32_e32 v1, v2", "3 operands for it, not 2"),
    ],
)
def test_what_the_interpreter_does_not_know_is_named(line: str, what: str) -> None:
    with pytest.raises(EmulatorFault, match="line ") as caught:
        GcnKernel(text(line))
    assert what in str(caught.value)
    assert f"`{line}`" in str(caught.value)


@pytest.mark.parametrize("name", ["float_denorm_mode_32", "ieee_mode", "user_sgpr_count"])
def test_a_kernel_that_starts_in_another_state_is_refused(name: str) -> None:
    with pytest.raises(EmulatorFault, match=f"no kernel with .amdhsa_{name} 7"):
        GcnKernel(text("", **{name: 7}))
