"""Loads, stores and atomics of the gfx942 interpreter, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from portkit.emulators.memory import EmulatorFault
from tests.emulators.gcn_running import compute, run

LDS = {"group_segment_fixed_size": 1024}
SCRATCH = {"private_segment_fixed_size": 64}
BYTES = np.arange(1, 257, dtype=np.uint8)
WORDS = BYTES.view(np.uint32)


def loaded(body: str, *, count: int = 1, lanes: int = 4) -> list[list[int]]:
    """Return v10, v11, ... of each lane after a body whose s[8:9] points to the bytes 1, 2, .. and v1 is 4 * lane."""
    out = np.zeros(count * lanes, np.uint32)
    lines = ["v_lshlrev_b32_e32 v1, 2, v0", body, f"v_mul_u32_u24_e32 v2, {4 * count}, v0"]
    lines += [f"global_store_dword v2, v{10 + n}, s[10:11] offset:{4 * n}" for n in range(count)]
    return run("\n".join(lines), [BYTES, out], lanes=lanes)[1].reshape(lanes, count).tolist()


def test_addresses_are_a_base_a_lane_s_offset_and_a_constant() -> None:
    assert loaded("global_load_dword v10, v1, s[8:9] offset:4") == [[w] for w in WORDS[1:5].tolist()]


def test_an_address_of_64_bits_is_in_two_registers() -> None:
    body = "v_mov_b32_e32 v4, s8\nv_mov_b32_e32 v5, s9\nv_lshl_add_u64 v[4:5], v[4:5], 0, 8\n"
    assert loaded(body + "global_load_dword v10, v[4:5], off offset:-4", lanes=1) == [[int(WORDS[1])]]


@pytest.mark.parametrize(("name", "count"), [("dwordx2", 2), ("dwordx3", 3), ("dwordx4", 4)])
def test_wide_loads_fill_consecutive_registers(name: str, count: int) -> None:
    found = loaded(f"global_load_{name} v[10:{9 + count}], v1, s[8:9]", count=count)
    assert found == [WORDS[lane : lane + count].tolist() for lane in range(4)]


@pytest.mark.parametrize(
    ("name", "offset", "expected"),
    [("ubyte", 200, 201), ("sbyte", 200, 0xFFFFFFC9), ("ushort", 200, 0xCAC9), ("sshort", 200, 0xFFFFCAC9)],
)
def test_narrow_loads_extend(name: str, offset: int, expected: int) -> None:
    assert loaded(f"global_load_{name} v10, v1, s[8:9] offset:{offset}", lanes=1) == [[expected]]


@pytest.mark.parametrize(("suffix", "expected"), [("", 0x7777_0201), ("_hi", 0x0201_7777)])
def test_a_load_of_half_a_register_keeps_the_other_half(suffix: str, expected: int) -> None:
    body = f"v_mov_b32_e32 v10, 0x77777777\nglobal_load_short_d16{suffix} v10, v1, s[8:9]"
    assert loaded(body, lanes=1) == [[expected]]


def test_unaligned_words_are_loaded_byte_by_byte() -> None:
    assert loaded("global_load_dword v10, v1, s[8:9] offset:1", lanes=2) == [[0x05040302], [0x09080706]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("byte", [0x44]), ("short", [0x44, 0x33]), ("byte_d16_hi", [0x22]), ("short_d16_hi", [0x22, 0x11])],
)
def test_narrow_stores_write_their_bytes_only(name: str, expected: list[int]) -> None:
    out = np.full(8, 0xEE, np.uint8)
    body = f"v_mov_b32_e32 v1, 0\nv_mov_b32_e32 v2, 0x11223344\nglobal_store_{name} v1, v2, s[8:9] offset:1"
    found = run(body, [out], lanes=1)[0].tolist()
    assert found == [0xEE, *expected, *[0xEE] * (7 - len(expected))]


def test_unaligned_words_are_stored_byte_by_byte() -> None:
    body = "v_mov_b32_e32 v1, 0\nv_mov_b32_e32 v2, 0x11223344\nglobal_store_dword v1, v2, s[8:9] offset:3"
    assert run(body, [np.zeros(8, np.uint8)], lanes=1)[0].tolist() == [0, 0, 0, 0x44, 0x33, 0x22, 0x11, 0]


def test_inactive_lanes_neither_load_nor_store() -> None:
    out = np.full(4, 9, np.uint32)
    body = "v_cmp_gt_u32_e32 vcc, 2, v0\ns_and_saveexec_b64 s[20:21], vcc\nv_lshlrev_b32_e32 v1, 2, v0\n"
    body += "v_lshlrev_b32_e32 v3, 24, v0\nglobal_load_dword v2, v3, s[8:9]\nglobal_store_dword v1, v0, s[8:9]"
    with pytest.raises(EmulatorFault, match="lane 1"):  # lane 1 is active and its address far outside
        run(body, [out], lanes=4)
    assert run(body.replace("v3, 24", "v3, 0"), [out], lanes=4)[0].tolist() == [0, 1, 9, 9]


def test_scalar_loads_fill_consecutive_registers() -> None:
    body = "s_load_dwordx4 s[20:23], s[8:9], 0x8\ns_waitcnt lgkmcnt(0)\nv_mov_b32_e32 v10, s23"
    assert loaded(body, lanes=1) == [[int(WORDS[5])]]


def test_scalar_loads_add_a_register_and_a_constant() -> None:
    body = "s_mov_b32 s3, 8\ns_load_dword s20, s[8:9], s3 offset:0x4\nv_mov_b32_e32 v10, s20"
    assert loaded(body, lanes=1) == [[int(WORDS[3])]]


def test_a_load_outside_every_buffer_names_lane_group_and_line() -> None:
    body = "v_lshlrev_b32_e32 v1, 8, v0\nglobal_load_dword v2, v1, s[8:9]"
    with pytest.raises(EmulatorFault, match=r"illegal address .*work-group 0, lane 1, line \d+ `global_load_dword v2"):
        run(body, [np.zeros(4, np.uint32)], lanes=3)


def test_a_scalar_load_outside_names_the_wave() -> None:
    with pytest.raises(EmulatorFault, match=r"work-group 0, lane 0, line \d+ `s_load_dword s20"):
        run("s_load_dword s20, s[8:9], 0x100", [np.zeros(4, np.uint32)])


# --- shared and private memory ------------------------------------------------------------------------------------


def exchanged(body: str, lanes: int = 64) -> list[int]:
    """Return v10 of each lane after a body that has 4 * lane in v1 and the lane in v0."""
    out = np.zeros(lanes, np.uint32)
    lines = f"v_lshlrev_b32_e32 v1, 2, v0\n{body}\nglobal_store_dword v1, v10, s[8:9]"
    return run(lines, [out], lanes=lanes, descriptor=LDS)[0].tolist()


def test_lanes_see_what_others_wrote_to_shared_memory() -> None:
    body = "ds_write_b32 v1, v0\nv_sub_u32_e32 v2, 0xfc, v1\nds_read_b32 v10, v2"
    assert exchanged(body) == list(range(63, -1, -1))


@pytest.mark.parametrize(("suffix", "scale"), [("", 1), ("st64", 64)])
def test_two_words_are_moved_at_offsets_counted_in_words(suffix: str, scale: int) -> None:
    body = f"v_mov_b32_e32 v2, 5\nv_mov_b32_e32 v3, 7\nds_write2{suffix}_b32 v1, v2, v3 offset0:1 offset1:2\n"
    body += (
        f"ds_read_b32 v4, v1 offset:{4 * scale}\nds_read_b32 v5, v1 offset:{8 * scale}\nv_lshl_or_b32 v10, v5, 8, v4"
    )
    assert exchanged(body, lanes=1) == [0x705]


def test_a_load_of_two_words_may_overwrite_its_address() -> None:
    body = "v_mov_b32_e32 v2, 9\nds_write_b64 v1, v[2:3]\nds_read2_b32 v[1:2], v1 offset1:1\n"
    assert exchanged(body + "v_mov_b32_e32 v10, v1\nv_mov_b32_e32 v1, 0", lanes=1) == [9]


def test_addresses_in_shared_memory_wrap_at_32_bits() -> None:
    body = "ds_write_b32 v1, v0\nv_mov_b32_e32 v2, -4\nds_read_b32 v10, v2 offset:12"
    assert exchanged(body, lanes=4) == [2, 2, 2, 2]


@pytest.mark.parametrize(("suffix", "expected"), [("b8", 0xA5A5A5C9), ("b16", 0xA5A5C8C9), ("b16_d16_hi", 0xA5A5C6C7)])
def test_narrow_stores_to_shared_memory(suffix: str, expected: int) -> None:
    body = f"v_mov_b32_e32 v2, 0xc6c7c8c9\nds_write_{suffix} v1, v2\nds_read_b32 v10, v1"
    assert exchanged(body, lanes=1) == [expected]


@pytest.mark.parametrize(
    ("suffix", "expected"), [("u8", 0xC9), ("i8", 0xFFFFFFC9), ("u16", 0xC8C9), ("i16", 0xFFFFC8C9)]
)
def test_narrow_loads_from_shared_memory(suffix: str, expected: int) -> None:
    body = f"v_mov_b32_e32 v2, 0xc6c7c8c9\nds_write_b32 v1, v2\nds_read_{suffix} v10, v1"
    assert exchanged(body, lanes=1) == [expected]


def test_shared_memory_that_nobody_wrote_holds_garbage() -> None:
    assert exchanged("ds_read_b32 v10, v1 offset:256", lanes=2) == [0xA5A5A5A5] * 2


def test_shared_memory_has_an_end() -> None:
    with pytest.raises(EmulatorFault, match="outside 1024 bytes"):
        exchanged("ds_read_b32 v10, v1 offset:1024")


def test_each_group_has_a_shared_memory_of_its_own() -> None:
    out = np.zeros(8, np.uint32)
    body = "v_mov_b32_e32 v1, 0\nds_read_b32 v2, v1\nv_mov_b32_e32 v3, s2\nds_write_b32 v1, v3\nds_read_b32 v4, v1\n"
    body += "s_lshl_b32 s3, s2, 3\nv_mov_b32_e32 v5, s3\nglobal_store_dword v5, v2, s[8:9]\n"
    found = run(body + "global_store_dword v5, v4, s[8:9] offset:4", [out], lanes=1, groups=4, descriptor=LDS)[0]
    assert found.tolist() == [0xA5A5A5A5, 0, 0xA5A5A5A5, 1, 0xA5A5A5A5, 2, 0xA5A5A5A5, 3]


def test_each_lane_has_private_memory_of_its_own() -> None:
    out = np.zeros(128, np.uint32)
    body = "v_mov_b32_e32 v9, 8\nscratch_store_dword off, v0, off offset:12\nscratch_load_dword v10, v9, off offset:4\n"
    body += "v_lshlrev_b32_e32 v1, 2, v0\nglobal_store_dword v1, v10, s[8:9]"
    assert run(body, [out], lanes=128, descriptor=SCRATCH)[0].tolist() == list(range(128))


# --- atomics ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "first", "expected"),
    [
        ("add", 5, 5 + sum(range(64))),
        ("smax", 5, 63),
        ("smin", 5, 0),
        ("umax", 70, 70),
        ("umin", 70, 0),
        ("or", 64, 127),
        ("and", 3, 0),
        ("xor", 1, 1),
    ],
)
def test_atomics_of_all_lanes_meet_in_one_word(name: str, first: int, expected: int) -> None:
    out = np.array([first], np.uint32)
    body = f"v_mov_b32_e32 v1, 0\nglobal_atomic_{name} v1, v0, s[8:9] sc1"
    assert run(body, [out])[0].tolist() == [expected]


def test_atomics_have_64_bits_too() -> None:
    body = "v_mov_b32_e32 v1, 0\nv_mov_b32_e32 v2, -1\nv_mov_b32_e32 v3, 0\nglobal_atomic_add_x2 v1, v[2:3], s[8:9] sc1"
    assert run(body, [np.array([3], np.uint64)], lanes=4)[0].tolist() == [3 + 4 * 0xFFFFFFFF]


def test_a_loop_of_compare_and_swap_adds_for_every_lane() -> None:
    body = """
        v_mov_b32_e32 v1, 0
        v_cvt_f32_u32_e32 v2, v0
        global_load_dword v5, v1, s[8:9]
        s_mov_b64 s[20:21], 0
    .LBB0_1:
        v_add_f32_e32 v4, v5, v2
        global_atomic_cmpswap v6, v1, v[4:5], s[8:9] sc0 sc1
        v_cmp_eq_u32_e32 vcc, v6, v5
        s_or_b64 s[20:21], vcc, s[20:21]
        v_mov_b32_e32 v5, v6
        s_andn2_b64 exec, exec, s[20:21]
        s_cbranch_execnz .LBB0_1"""
    assert run(body, [np.zeros(1, np.float32)])[0].tolist() == [sum(range(64))]


def test_atomics_work_in_shared_memory() -> None:
    body = "v_mov_b32_e32 v2, 0\nds_write_b32 v2, v2\nds_add_u32 v2, v0\nds_max_i32 v2, v0\nds_read_b32 v10, v2"
    assert exchanged(body) == [sum(range(64))] * 64


def test_an_atomic_whose_result_would_depend_on_the_order_is_refused() -> None:
    with pytest.raises(EmulatorFault, match="no atomic that returns what it found"):
        run("v_mov_b32_e32 v1, 0\nglobal_atomic_add v2, v1, v0, s[8:9] sc0", [np.zeros(1, np.uint32)])


def test_operands_of_16_bits_come_from_the_lower_half() -> None:
    assert compute("v_cvt_f32_f16_e32 v20, v2", [np.array([0xFFFF3C00], np.uint32)], np.float32)[0] == 1
