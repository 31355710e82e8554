"""The integer instructions of the gfx942 interpreter, vector and scalar, against Python's integers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.emulators.gcn_running import Array, compute, run

VALUES = [0, 1, 2, 5, 31, 32, 33, 0x7F, 0x80, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xDEADBEEF, 0xFFFFFFFF]
A, B = (axis.ravel() for axis in np.meshgrid(np.array(VALUES, np.uint32), np.array(VALUES, np.uint32)))
C = np.resize(np.array(VALUES[::-1], np.uint32), A.shape)
M = 0xFFFFFFFF


def signed(x: int, bits: int = 32) -> int:
    x &= (1 << bits) - 1
    return x - (1 << bits) if x >> (bits - 1) else x


def permuted(a: int, b: int, selector: int) -> int:
    wide, result = (a << 32) | b, 0
    for place in range(4):
        n = (selector >> (8 * place)) & 0xFF
        byte = (wide >> (8 * n)) & 0xFF if n < 8 else 0xFF * ((wide >> (16 * (n - 8) + 15)) & 1) if n < 12 else 0xFF
        result |= (0 if n == 12 else byte) << (8 * place)
    return result


VECTOR: dict[str, Callable[[int, int, int], int]] = {
    "v_add_u32_e32 v20, v2, v4": lambda a, b, c: a + b,
    "v_sub_u32_e32 v20, v2, v4": lambda a, b, c: a - b,
    "v_subrev_u32_e32 v20, v2, v4": lambda a, b, c: b - a,
    "v_mul_lo_u32 v20, v2, v4": lambda a, b, c: a * b,
    "v_mul_hi_u32 v20, v2, v4": lambda a, b, c: (a * b) >> 32,
    "v_mul_hi_i32 v20, v2, v4": lambda a, b, c: (signed(a) * signed(b)) >> 32,
    "v_mul_u32_u24_e32 v20, v2, v4": lambda a, b, c: (a & 0xFFFFFF) * (b & 0xFFFFFF),
    "v_mul_i32_i24_e32 v20, v2, v4": lambda a, b, c: signed(a, 24) * signed(b, 24),
    "v_mad_i32_i24 v20, v2, v4, v6": lambda a, b, c: signed(a, 24) * signed(b, 24) + c,
    "v_mad_u32_u24 v20, v2, v4, v6": lambda a, b, c: (a & 0xFFFFFF) * (b & 0xFFFFFF) + c,
    "v_max_i32_e32 v20, v2, v4": lambda a, b, c: max(signed(a), signed(b)),
    "v_min_u32_e32 v20, v2, v4": lambda a, b, c: min(a, b),
    "v_max3_u32 v20, v2, v4, v6": max,
    "v_med3_i32 v20, v2, v4, v6": lambda a, b, c: sorted(map(signed, (a, b, c)))[1],
    "v_add3_u32 v20, v2, v4, v6": lambda a, b, c: a + b + c,
    "v_lshl_add_u32 v20, v2, v4, v6": lambda a, b, c: (a << (b & 31)) + c,
    "v_add_lshl_u32 v20, v2, v4, v6": lambda a, b, c: (a + b) << (c & 31),
    "v_lshl_or_b32 v20, v2, v4, v6": lambda a, b, c: (a << (b & 31)) | c,
    "v_and_or_b32 v20, v2, v4, v6": lambda a, b, c: (a & b) | c,
    "v_or3_b32 v20, v2, v4, v6": lambda a, b, c: a | b | c,
    "v_xad_u32 v20, v2, v4, v6": lambda a, b, c: (a ^ b) + c,
    "v_bfi_b32 v20, v2, v4, v6": lambda a, b, c: (a & b) | (~a & c),
    "v_bfe_u32 v20, v2, v4, v6": lambda a, b, c: (a >> (b & 31)) & ((1 << (c & 31)) - 1),
    "v_bfe_i32 v20, v2, v4, v6": lambda a, b, c: signed(signed(a) >> (b & 31), c & 31) if c & 31 else 0,
    "v_alignbit_b32 v20, v2, v4, v6": lambda a, b, c: (a << 32 | b) >> (c & 31),
    "v_alignbyte_b32 v20, v2, v4, v6": lambda a, b, c: (a << 32 | b) >> (8 * (c & 3)),
    "v_perm_b32 v20, v2, v4, v6": permuted,
    "v_lshlrev_b32_e32 v20, v2, v4": lambda a, b, c: b << (a & 31),
    "v_lshrrev_b32_e32 v20, v2, v4": lambda a, b, c: b >> (a & 31),
    "v_ashrrev_i32_e32 v20, v2, v4": lambda a, b, c: signed(b) >> (a & 31),
    "v_not_b32_e32 v20, v2": lambda a, b, c: ~a,
    "v_xor_b32_e32 v20, v2, v4": lambda a, b, c: a ^ b,
    "v_bfrev_b32_e32 v20, v2": lambda a, b, c: int(f"{a:032b}"[::-1], 2),
    "v_ffbh_u32_e32 v20, v2": lambda a, b, c: 32 - a.bit_length() if a else -1,
    "v_ffbh_i32_e32 v20, v2": lambda a, b, c: (
        -1 if signed(a) in (0, -1) else 32 - (a if a < 1 << 31 else ~a & M).bit_length()
    ),
    "v_ffbl_b32_e32 v20, v2": lambda a, b, c: (a & -a).bit_length() - 1,
    "v_bcnt_u32_b32 v20, v2, v4": lambda a, b, c: a.bit_count() + b,
    "v_add_u16_e32 v20, v2, v4": lambda a, b, c: (a + b) & 0xFFFF,
    "v_mul_lo_u16_e32 v20, v2, v4": lambda a, b, c: (a * b) & 0xFFFF,
    "v_lshlrev_b16_e32 v20, v2, v4": lambda a, b, c: (b << (a & 15)) & 0xFFFF,
    "v_ashrrev_i16_e32 v20, v2, v4": lambda a, b, c: (signed(b, 16) >> (a & 15)) & 0xFFFF,
    "v_max_i16_e32 v20, v2, v4": lambda a, b, c: max(signed(a, 16), signed(b, 16)) & 0xFFFF,
    "v_min3_u16 v20, v2, v4, v6": lambda a, b, c: min(x & 0xFFFF for x in (a, b, c)),
    "v_pack_b32_f16 v20, v2, v4": lambda a, b, c: (a & 0xFFFF) | ((b & 0xFFFF) << 16),
    "v_pk_add_u16 v20, v2, v4": lambda a, b, c: ((a + b) & 0xFFFF) | (((a >> 16) + (b >> 16)) & 0xFFFF) << 16,
    "v_pk_lshlrev_b16 v20, 8, v4 op_sel_hi:[0,1]": lambda a, b, c: ((b << 8) & 0xFFFF) | (b >> 16 << 24),
    "v_swap_b32 v2, v4\nv_mov_b32_e32 v20, v2": lambda a, b, c: b,
    "v_accvgpr_write_b32 a3, v2\nv_accvgpr_read_b32 v20, a3": lambda a, b, c: a,
}


@pytest.mark.parametrize("text", VECTOR)
def test_a_vector_instruction_on_32_bits(text: str) -> None:
    expected = [VECTOR[text](a, b, c) & M for a, b, c in zip(A.tolist(), B.tolist(), C.tolist(), strict=True)]
    assert compute(text, [A, B, C], np.uint32).tolist() == expected


W = A.astype(np.uint64) << np.uint64(32) | B
WIDE: dict[str, Callable[[int, int], int]] = {
    "v_lshlrev_b64 v[20:21], v4, v[2:3]": lambda w, b: w << (b & 63),
    "v_lshrrev_b64 v[20:21], v4, v[2:3]": lambda w, b: w >> (b & 63),
    "v_ashrrev_i64 v[20:21], v4, v[2:3]": lambda w, b: signed(w, 64) >> (b & 63),
    "v_lshl_add_u64 v[20:21], v[2:3], 3, v[2:3]": lambda w, b: (w << 3) + w,
    "v_mad_u64_u32 v[20:21], s[20:21], v4, v4, v[2:3]": lambda w, b: b * b + w,
    "v_mad_i64_i32 v[20:21], s[20:21], v4, v4, v[2:3]": lambda w, b: signed(b) ** 2 + w,
    "v_mov_b64_e32 v[20:21], v[2:3]": lambda w, b: w,
    "v_add_co_u32_e32 v20, vcc, v2, v4\nv_addc_co_u32_e32 v21, vcc, 0, v3, vcc": lambda w, b: w + b,
    "v_sub_co_u32_e32 v20, vcc, v2, v4\nv_subbrev_co_u32_e32 v21, vcc, 0, v3, vcc": lambda w, b: w - b,
    "v_subrev_co_u32_e32 v20, vcc, v4, v2\nv_mov_b32_e32 v9, 0\nv_subb_co_u32_e64 v21, s[4:5], v3, v9, vcc":
        lambda w, b: w - b,
}  # fmt: skip


@pytest.mark.parametrize("text", WIDE)
def test_a_vector_instruction_on_64_bits(text: str) -> None:
    expected = [WIDE[text](w, b) & ((1 << 64) - 1) for w, b in zip(W.tolist(), B.tolist(), strict=True)]
    assert compute(text, [W, B], np.uint64).tolist() == expected


def test_the_carry_of_a_wide_product_is_a_mask() -> None:
    a, c = np.array([M, 1], np.uint32), np.array([(1 << 64) - 1, 1], np.uint64)
    body = "v_mad_u64_u32 v[8:9], s[20:21], v2, v2, v[4:5]\nv_cndmask_b32_e64 v20, 0, 1, s[20:21]"
    assert compute(body, [a, c], np.uint32).tolist() == [1, 0]


# --- scalar -------------------------------------------------------------------------------------------------------


def scalars(body: str, values: list[int]) -> list[int]:
    """Run a body on s20, s21, ...; return s30, s31 and SCC, which the words behind the values are."""
    data = np.array([*values, *[0] * 3], np.uint32)
    at = len(values)
    loads = [f"s_load_dword s{20 + n}, s[8:9], {4 * n:#x}" for n in range(at)]
    ends = [f"v_mov_b32_e32 v3, s{30 + n}\nglobal_store_dword v2, v3, s[8:9] offset:{4 * (at + n)}" for n in range(2)]
    lines = ["s_mov_b64 s[30:31], 0", *loads, body, "s_cselect_b32 s32, 1, 0", "v_mov_b32_e32 v2, 0", *ends]
    lines.append(f"v_mov_b32_e32 v3, s32\nglobal_store_dword v2, v3, s[8:9] offset:{4 * (at + 2)}")
    return run("\n".join(lines), [data], lanes=1)[0][at:].tolist()


SCALAR = [
    ("s_add_u32 s30, s20, s21", [M, 2], 1, True),
    ("s_add_i32 s30, s20, s21", [0x7FFFFFFF, 1], 0x80000000, True),
    ("s_add_i32 s30, s20, s21", [M, 2], 1, False),
    ("s_sub_u32 s30, s20, s21", [1, 2], M, True),
    ("s_sub_i32 s30, s20, s21", [0x80000000, 1], 0x7FFFFFFF, True),
    ("s_add_u32 s22, s20, s20\ns_addc_u32 s30, s21, 0", [0x80000000, 7], 8, False),
    ("s_sub_u32 s22, 0, s20\ns_subb_u32 s30, s21, 0", [1, 7], 6, False),
    ("s_mul_i32 s30, s20, s21", [0x10001, 0x10001], 0x20001, False),
    ("s_mul_hi_u32 s30, s20, s21", [M, M], 0xFFFFFFFE, False),
    ("s_mul_hi_i32 s30, s20, s21", [M, 5], M, False),
    ("s_min_i32 s30, s20, s21", [M, 5], M, True),
    ("s_max_u32 s30, s20, s21", [3, 5], 5, False),
    ("s_abs_i32 s30, s20", [M], 1, True),
    ("s_and_b32 s30, s20, s21", [6, 9], 0, False),
    ("s_andn2_b32 s30, s20, s21", [6, 2], 4, True),
    ("s_xnor_b32 s30, s20, s21", [6, 6], M, True),
    ("s_not_b32 s30, s20", [M], 0, False),
    ("s_lshl_b32 s30, s20, s21", [3, 33], 6, True),
    ("s_lshr_b32 s30, s20, s21", [0x80000000, 31], 1, True),
    ("s_ashr_i32 s30, s20, 31", [0x80000000], M, True),
    ("s_bfe_u32 s30, s20, 0x80004", [0xABCDE], 0xCD, True),
    ("s_bfe_i32 s30, s20, 0x80004", [0xABCDE], 0xFFFFFFCD, True),
    ("s_lshl2_add_u32 s30, s20, s21", [0x40000000, 5], 5, True),
    ("s_brev_b32 s30, s20", [1], 0x80000000, False),
    ("s_sext_i32_i8 s30, s20", [0x80], 0xFFFFFF80, False),
    ("s_sext_i32_i16 s30, s20", [0x8000], 0xFFFF8000, False),
    ("s_ff1_i32_b32 s30, s20", [0x50], 4, False),
    ("s_ff1_i32_b64 s30, s[20:21]", [0, 0x50], 36, False),
    ("s_flbit_i32_b32 s30, s20", [0x50], 25, False),
    ("s_bcnt1_i32_b64 s30, s[20:21]", [0xFF, 3], 10, True),
    ("s_pack_lh_b32_b16 s30, s20, s21", [0x12345678, 0x9ABCDEF0], 0x9ABC5678, False),
    ("s_movk_i32 s30, 0xfffe", [], 0xFFFFFFFE, False),
    ("s_mov_b32 s30, 5\ns_addk_i32 s30, 0xffff", [], 4, False),
    ("s_mov_b32 s30, 5\ns_mulk_i32 s30, 0x3", [], 15, False),
    ("s_cmp_lt_i32 s20, s21", [M, 0], 0, True),
    ("s_cmp_lt_u32 s20, s21", [M, 0], 0, False),
    ("s_cmpk_lg_u32 s20, 0x8000", [0x8000], 0, False),
    ("s_cmpk_eq_i32 s20, 0x8000", [0xFFFF8000], 0, True),
    ("s_cmp_eq_u64 s[20:21], 0", [0, 1], 0, False),
    ("s_bitcmp1_b32 s20, 4", [0x10], 0, True),
    ("s_bitcmp0_b32 s20, 4", [0x10], 0, False),
    ("s_cmp_lg_u32 s20, 0\ns_cselect_b32 s30, s20, s21", [0, 9], 9, False),
]


@pytest.mark.parametrize(("text", "values", "result", "scc"), SCALAR)
def test_a_scalar_instruction_and_its_condition(text: str, values: list[int], result: int, scc: bool) -> None:
    assert scalars(text, values) == [result, 0, int(scc)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s_lshl_b64 s[30:31], s[20:21], 4", 0x1234567890ABCDEF << 4),
        ("s_lshr_b64 s[30:31], s[20:21], 36", 0x1234567890ABCDEF >> 36),
        ("s_ashr_i64 s[30:31], s[20:21], 4", 0x1234567890ABCDEF >> 4),
        ("s_not_b64 s[30:31], s[20:21]", ~0x1234567890ABCDEF),
        ("s_xor_b64 s[30:31], s[20:21], -1", ~0x1234567890ABCDEF),
        ("s_bfe_u64 s[30:31], s[20:21], 0x200010", (0x1234567890ABCDEF >> 16) & M),
    ],
)
def test_a_scalar_instruction_on_64_bits(text: str, expected: int) -> None:
    low, high, _ = scalars(text, [0x90ABCDEF, 0x12345678])
    assert high << 32 | low == expected & ((1 << 64) - 1)


# --- across lanes -------------------------------------------------------------------------------------------------


def lanes_of(body: str, count: int = 64) -> Array:
    return compute(body, [np.arange(count, dtype=np.uint32)], np.uint32)


def test_the_first_active_lane_is_read() -> None:
    body = "v_cmp_lt_u32_e32 vcc, 4, v2\ns_and_saveexec_b64 s[20:21], vcc\nv_readfirstlane_b32 s22, v2\n"
    assert (lanes_of(body + "s_mov_b64 exec, s[20:21]\nv_mov_b32_e32 v20, s22") == 5).all()


def test_any_lane_can_be_read_and_written() -> None:
    body = "s_mov_b32 s20, 7\nv_readlane_b32 s21, v2, s20\nv_mov_b32_e32 v20, s21\nv_writelane_b32 v20, 99, 3"
    assert lanes_of(body)[2:5].tolist() == [7, 99, 7]


def test_a_lane_that_no_work_item_fills_keeps_a_scalar() -> None:
    body = "s_mov_b32 s20, 77\nv_writelane_b32 v9, s20, 63\ns_mov_b32 s20, 0\nv_readlane_b32 s20, v9, 63\n"
    assert lanes_of(body + "v_mov_b32_e32 v20, s20", count=3).tolist() == [77] * 3


def test_ones_below_each_lane_are_counted_in_two_halves() -> None:
    body = "v_mbcnt_lo_u32_b32 v20, -1, 0\nv_mbcnt_hi_u32_b32 v20, -1, v20"
    assert lanes_of(body).tolist() == list(range(64))
