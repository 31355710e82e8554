"""The float instructions of the gfx942 interpreter: rounding, signs, modifiers, and the parts of a division."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tests.emulators.gcn_running import Array, compute, same

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's own results are infinite and NaN as well

F32, F64, F16 = np.float32, np.float64, np.float16
_ODD = [0.0, 1.0, 1.5, 2.0, 3.0, 0.1, 0.9999999, 1e-3, 65504.0, 1e6, np.inf, np.nan]
_EXTREMES = {F16: [6e-8, 6.1e-5], F32: [1e-45, 1.1e-38, 3.4e38, 1.0000001], F64: [5e-324, 2.2e-308, 1.7e308]}


def pairs(dtype: Any) -> list[Array]:
    """Every pair of special values of both signs."""
    values = np.array([*_ODD, *_EXTREMES[dtype]], dtype)
    both = np.concatenate([values, -values])
    return [axis.ravel() for axis in np.meshgrid(both, both)]


def triples(dtype: Any) -> list[Array]:
    """A thousand triples of special values."""
    values, draw = pairs(dtype)[0], np.random.default_rng(5)
    return [draw.choice(values, 1000) for _ in range(3)]


@pytest.mark.parametrize("dtype", [F16, F32, F64])
@pytest.mark.parametrize(("name", "expected"), [("add", np.add), ("mul", np.multiply)])
def test_sums_and_products_are_rounded_to_nearest(dtype: Any, name: str, expected: np.ufunc) -> None:
    a, b = pairs(dtype)
    bits = 8 * a.dtype.itemsize
    registers = "v[20:21], v[2:3], v[4:5]" if bits == 64 else "v20, v2, v4"
    encoding = "" if bits == 64 else "_e32"
    assert same(compute(f"v_{name}_f{bits}{encoding} {registers}", [a, b], dtype), expected(a, b))


def test_differences_may_be_reversed() -> None:
    a, b = pairs(F32)
    assert same(compute("v_subrev_f32_e32 v20, v2, v4", [a, b], F32), b - a)


def test_source_modifiers_change_signs_before_the_operation() -> None:
    a, b = pairs(F32)
    assert same(compute("v_add_f32_e64 v20, -|v2|, -v4", [a, b], F32), -np.abs(a) + -b)


@pytest.mark.parametrize(("modifier", "factor"), [("mul:2", 2.0), ("mul:4", 4.0), ("div:2", 0.5)])
def test_output_modifiers_scale_the_result(modifier: str, factor: float) -> None:
    a, b = np.array([1.5, -3.0], F32), np.array([2.0, 0.25], F32)
    assert same(compute(f"v_add_f32_e64 v20, v2, v4 {modifier}", [a, b], F32), (a + b) * F32(factor))


def test_a_clamp_keeps_results_between_0_and_1() -> None:
    a = np.array([-1.0, 0.25, 7.0, np.nan], F32)
    assert same(compute("v_add_f32_e64 v20, v2, 0 clamp", [a], F32), np.array([0, 0.25, 1, 0], F32))


def test_a_constant_without_a_point_is_a_small_integer_not_a_number() -> None:
    a = np.zeros(1, F32)
    assert compute("v_add_f32_e32 v20, 1, v2", [a], np.uint32)[0] == 1


@pytest.mark.parametrize(
    ("constant", "value"), [("1.0", 1.0), ("-4.0", -4.0), ("0x40490fdb", 3.1415927), ("0.15915494", 0.15915494)]
)
def test_float_constants_of_32_bits(constant: str, value: float) -> None:
    assert compute(f"v_mov_b32_e32 v20, {constant}", [np.zeros(1, F32)], F32)[0] == F32(value)


@pytest.mark.parametrize(("constant", "value"), [("1.0", 1.0), ("0xc1f00000", -4294967296.0), ("0.5", 0.5)])
def test_a_literal_is_the_upper_half_of_an_f64(constant: str, value: float) -> None:
    assert compute(f"v_add_f64 v[20:21], v[2:3], {constant}", [np.zeros(1)], F64)[0] == value


@pytest.mark.parametrize("dtype", [F16, F32, F64])
def test_extremes_order_zeros_and_prefer_numbers_to_nan(dtype: Any) -> None:
    a, b = pairs(dtype)
    bits = 8 * a.dtype.itemsize
    registers = "v[20:21], v[2:3], v[4:5]" if bits == 64 else "v20, v2, v4"
    zeros = (a == 0) & (b == 0)
    greatest = np.where(zeros, np.where(np.signbit(a) & np.signbit(b), dtype(-0.0), dtype(0.0)), np.fmax(a, b))
    least = np.where(zeros, np.where(np.signbit(a) | np.signbit(b), dtype(-0.0), dtype(0.0)), np.fmin(a, b))
    assert same(compute(f"v_max_f{bits} {registers}", [a, b], dtype), greatest)
    assert same(compute(f"v_min_f{bits} {registers}", [a, b], dtype), least)


def test_a_signalling_nan_is_stronger_than_a_number() -> None:
    a, b = np.array([0x7F800001, 0x3F800000], np.uint32).view(F32), np.array([1.0, 1.0], F32)
    assert np.isnan(compute("v_max_f32_e32 v20, v2, v4", [a, b], F32)).tolist() == [True, False]


def exact(a: float, b: float, c: float) -> float:
    return float(Fraction(a) * Fraction(b) + Fraction(c))


@pytest.mark.parametrize("text", ["v_fma_f64 v[20:21], v[2:3], v[4:5], v[6:7]"])
def test_a_fused_multiply_add_of_f64_is_rounded_once(text: str) -> None:
    draw = np.random.default_rng(3)
    a, b = draw.standard_normal((2, 500))
    c = -(a * b) * (1 + draw.integers(-2, 3, 500) * 2.0**-52)
    assert compute(text, [a, b, c], F64).tolist() == [exact(*map(float, row)) for row in zip(a, b, c, strict=True)]


@pytest.mark.parametrize(
    "text",
    [
        "v_fma_f32 v20, v2, v4, v6",
        "v_mov_b32_e32 v20, v6\nv_fmac_f32_e32 v20, v2, v4",
        "v_pk_fma_f32 v[20:21], v[2:3], v[4:5], v[6:7]",
    ],
)
def test_a_fused_multiply_add_of_f32_is_rounded_once(text: str) -> None:
    one, tiny = 1 + 2.0**-12, 2.0**-60
    a, b = np.full(3, one, F32), np.full(3, one, F32)
    c = np.array([tiny, -tiny, 0], F32)
    # one^2 is a tie in f32; what is added decides it.
    assert compute(text, [a, b, c], F32).tolist() == [1 + 2.0**-11 + 2.0**-23, 1 + 2.0**-11, 1 + 2.0**-11]


def test_constants_of_fused_multiply_adds_stand_where_their_name_says() -> None:
    a, b = np.array([3.0], F32), np.array([5.0], F32)
    assert compute("v_fmamk_f32 v20, v2, 0x40e00000, v4", [a, b], F32)[0] == 26
    assert compute("v_fmaak_f32 v20, v2, v4, 0x40e00000", [a, b], F32)[0] == 22


@pytest.mark.parametrize(
    ("name", "function"), [("trunc", np.trunc), ("floor", np.floor), ("ceil", np.ceil), ("rndne", np.rint)]
)
@pytest.mark.parametrize("dtype", [F16, F32, F64])
def test_roundings_to_whole_numbers(dtype: Any, name: str, function: np.ufunc) -> None:
    a = np.unique(np.concatenate([pairs(dtype)[0], np.array([0.5, 1.5, 2.5, -0.5, -1.5], dtype)]))
    bits = 8 * a.dtype.itemsize
    registers = "v[20:21], v[2:3]" if bits == 64 else "v20, v2"
    assert same(compute(f"v_{name}_f{bits}_e32 {registers}", [a], dtype), function(a))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lt", lambda a, b: a < b),
        ("eq", lambda a, b: a == b),
        ("neq", lambda a, b: a != b),
        ("lg", lambda a, b: (a < b) | (a > b)),
        ("o", lambda a, b: (a == a) & (b == b)),
        ("u", lambda a, b: (a != a) | (b != b)),
        ("nge", lambda a, b: ~(a >= b)),
        ("ngt", lambda a, b: ~(a > b)),
        ("nlt", lambda a, b: ~(a < b)),
        ("nle", lambda a, b: ~(a <= b)),
        ("nlg", lambda a, b: (a == b) | (a != a) | (b != b)),
    ],
)
def test_comparisons_and_what_they_say_of_nan(name: str, expected: Callable[[Array, Array], Array]) -> None:
    a, b = pairs(F32)
    body = f"v_cmp_{name}_f32_e32 vcc, v2, v4\nv_cndmask_b32_e64 v20, 0, 1, vcc"
    assert (compute(body, [a, b], np.uint32) == expected(a, b)).all()


@pytest.mark.parametrize(
    ("mask", "value"),
    [
        (0x001, 0x7F800001),
        (0x002, 0x7FC00000),
        (0x004, 0xFF800000),
        (0x008, 0xBF800000),
        (0x010, 0x80000001),
        (0x020, 0x80000000),
        (0x040, 0x00000000),
        (0x080, 0x007FFFFF),
        (0x100, 0x3F800000),
        (0x200, 0x7F800000),
    ],
)
def test_each_class_of_floats_has_a_bit(mask: int, value: int) -> None:
    a = np.array([value], np.uint32)
    body = "v_cmp_class_f32_e64 s[20:21], v2, v4\nv_cndmask_b32_e64 v20, 0, 1, s[20:21]"
    assert compute(body, [a, np.array([mask], np.uint32)], np.uint32)[0] == 1
    assert compute(body, [a, np.array([0x3FF ^ mask], np.uint32)], np.uint32)[0] == 0


# --- conversions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "source", "target"),
    [("f16_f32", F32, F16), ("f32_f16", F16, F32), ("f32_f64", F64, F32), ("f64_f32", F32, F64)],
)
def test_conversions_between_floats(name: str, source: Any, target: Any) -> None:
    a = pairs(source)[0]
    wide = {8: "v[2:3]"}.get(a.dtype.itemsize, "v2")
    result = "v[20:21]" if target is F64 else "v20"
    assert same(compute(f"v_cvt_{name}_e32 {result}, {wide}", [a], target), a.astype(target))


@pytest.mark.parametrize(("name", "dtype"), [("i32_f32", np.int32), ("u32_f32", np.uint32)])
def test_floats_that_do_not_fit_an_integer_saturate(name: str, dtype: Any) -> None:
    a = np.array([1.9, -1.9, 3e9, -3e9, 1e30, -1e30, np.inf, -np.inf, np.nan], F32)
    info = np.iinfo(dtype)
    expected = [0 if x != x else max(info.min, min(info.max, int(np.clip(x, -1e20, 1e20)))) for x in a.tolist()]
    assert compute(f"v_cvt_{name}_e32 v20, v2", [a], dtype).tolist() == expected


@pytest.mark.parametrize(("name", "dtype"), [("f32_i32", np.int32), ("f32_u32", np.uint32)])
def test_integers_are_rounded_to_the_nearest_float(name: str, dtype: Any) -> None:
    a = np.array([0, 1, 0x1000001, 0x1000003, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32).view(dtype)
    assert compute(f"v_cvt_{name}_e32 v20, v2", [a], F32).tolist() == a.astype(F32).tolist()


def test_each_byte_converts_by_itself() -> None:
    a = np.array([0x04030201], np.uint32)
    found = [compute(f"v_cvt_f32_ubyte{n}_e32 v20, v2", [a], F32)[0] for n in range(4)]
    assert found == [1, 2, 3, 4]


# --- approximations and division ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "function"), [("rcp", lambda x: 1 / x), ("sqrt", np.sqrt), ("log", np.log2), ("exp", np.exp2)]
)
def test_approximations_of_f32_are_within_1_ulp(name: str, function: Callable[[Array], Array]) -> None:
    a = np.random.default_rng(7).uniform(0.01, 100, 1000).astype(F32)
    found = compute(f"v_{name}_f32_e32 v20, v2", [a], F32)
    exactly = function(a.astype(F64))
    assert (np.abs(found - exactly) < np.spacing(np.abs(exactly).astype(F32))).all()


def test_approximations_of_f32_are_not_all_correctly_rounded() -> None:
    a = np.random.default_rng(8).uniform(1, 2, 1000).astype(F32)
    assert (compute("v_sqrt_f32_e32 v20, v2", [a], F32) != np.sqrt(a)).any()


def test_approximations_of_f64_have_25_good_bits_and_no_more() -> None:
    a = np.random.default_rng(9).uniform(1, 2, 500)
    error = np.abs(compute("v_rcp_f64_e32 v[20:21], v[2:3]", [a], F64) * a - 1)
    assert 2.0**-40 < error.max() < 2.0**-23


@pytest.mark.parametrize("name", ["rcp", "rsq", "log"])
def test_subnormal_operands_of_approximations_count_as_zeros(name: str) -> None:
    found = compute(f"v_{name}_f32_e32 v20, v2", [np.array([1e-40], F32)], F32)[0]
    assert np.isinf(found)


DIVIDE = """
v_div_scale_f32 v8, s[20:21], v4, v4, v2
v_div_scale_f32 v9, vcc, v2, v4, v2
v_rcp_f32_e32 v10, v8
v_fma_f32 v11, -v8, v10, 1.0
v_fmac_f32_e32 v10, v11, v10
v_mul_f32_e32 v11, v9, v10
v_fma_f32 v12, -v8, v11, v9
v_fmac_f32_e32 v11, v12, v10
v_fma_f32 v12, -v8, v11, v9
v_div_fmas_f32 v12, v12, v10, v11
v_div_fixup_f32 v20, v12, v4, v2
"""


def test_a_division_of_f32_is_correctly_rounded() -> None:
    a, b = pairs(F32)
    assert same(compute(DIVIDE, [a, b], F32), a / b)


def test_a_division_of_random_f32_is_correctly_rounded() -> None:
    bits = np.random.default_rng(11).integers(0, 1 << 32, (2, 1000), np.uint32)
    a, b = bits.view(F32)
    assert same(compute(DIVIDE, [a, b], F32), a / b)


def test_a_division_of_f64_is_correctly_rounded() -> None:
    body = """
        v_div_scale_f64 v[8:9], s[20:21], v[4:5], v[4:5], v[2:3]
        v_rcp_f64_e32 v[10:11], v[8:9]
        v_fma_f64 v[12:13], -v[8:9], v[10:11], 1.0
        v_fma_f64 v[10:11], v[10:11], v[12:13], v[10:11]
        v_fma_f64 v[12:13], -v[8:9], v[10:11], 1.0
        v_fma_f64 v[10:11], v[10:11], v[12:13], v[10:11]
        v_div_scale_f64 v[14:15], vcc, v[2:3], v[4:5], v[2:3]
        v_mul_f64 v[12:13], v[14:15], v[10:11]
        v_fma_f64 v[8:9], -v[8:9], v[12:13], v[14:15]
        v_div_fmas_f64 v[8:9], v[8:9], v[10:11], v[12:13]
        v_div_fixup_f64 v[20:21], v[8:9], v[4:5], v[2:3]"""
    a, b = pairs(F64)
    assert same(compute(body, [a, b], F64), a / b)
    a, b = np.random.default_rng(12).integers(0, 1 << 64, (2, 1000), np.uint64).view(F64)
    assert same(compute(body, [a, b], F64), a / b)


@pytest.mark.parametrize("power", [-200, -150, -127, -1, 0, 1, 300])
def test_a_scaling_by_a_power_of_two_is_rounded_once(power: int) -> None:
    a = np.array([1.0, 1.9999999, -3.0, 1e-40, np.inf], F32)
    found = compute("v_ldexp_f32 v20, v2, v4", [a, np.full(5, power, np.int32)], F32)
    assert same(found, np.ldexp(a.astype(F64), power).astype(F32))


# --- halves and packs ---------------------------------------------------------------------------------------------


def halves(low: Array, high: Array) -> Array:
    return np.stack([low, high], axis=1).reshape(-1).view(np.uint32)


def test_packed_f16_works_on_both_halves() -> None:
    a, b, c, d = (np.array(x, F16) for x in ([1.5], [2.0], [0.25], [-4.0]))
    found = compute("v_pk_mul_f16 v20, v2, v4", [halves(a, b), halves(c, d)], np.uint32).view(F16)
    assert found.tolist() == [0.375, -8.0]


def test_packed_f16_takes_the_halves_that_are_selected() -> None:
    a, b = halves(np.array([1], F16), np.array([2], F16)), halves(np.array([10], F16), np.array([20], F16))
    found = compute("v_pk_add_f16 v20, v2, v4 op_sel:[1,0] op_sel_hi:[0,1] neg_lo:[0,1]", [a, b], np.uint32)
    assert found.view(F16).tolist() == [2 - 10, 1 + 20]


def test_packed_f32_works_on_two_registers() -> None:
    a, b = np.array([1.5, 2.5], F32).view(np.uint64), np.array([2.0, -3.0], F32).view(np.uint64)
    found = compute("v_pk_add_f32 v[20:21], v[2:3], v[4:5] neg_lo:[0,1] neg_hi:[0,1]", [a, b], np.uint64)
    assert found.view(F32).tolist() == [-0.5, 5.5]


def test_packed_f32_repeats_a_constant() -> None:
    a = np.array([1.5, 2.5], F32).view(np.uint64)
    found = compute("v_pk_mul_f32 v[20:21], v[2:3], 2.0 op_sel_hi:[1,0]", [a], np.uint64)
    assert found.view(F32).tolist() == [3, 5]


def test_packed_moves_take_one_register_of_each_pair() -> None:
    a, b = np.array([0x200000001], np.uint64), np.array([0x400000003], np.uint64)
    assert compute("v_pk_mov_b32 v[20:21], v[2:3], v[4:5] op_sel:[1,0]", [a, b], np.uint64)[0] == 0x300000002


def test_a_16_bit_result_clears_the_upper_half() -> None:
    a = np.array([0x40003C00], np.uint32)
    assert compute("v_add_f16_e32 v20, v2, v2", [a], np.uint32, before=0xFFFFFFFF)[0] == 0x4000


def test_sub_word_operands_are_selected_and_extended() -> None:
    a = np.array([0x80FF0102], np.uint32)
    body = "v_add_u32_sdwa v20, {} dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:BYTE_2 src1_sel:WORD_0"
    assert compute(body.format("v2, v2"), [a], np.uint32)[0] == 0xFF + 0x102
    assert compute(body.format("sext(v2), v2"), [a], np.uint32)[0] == 0x102 - 1


@pytest.mark.parametrize(
    ("unused", "expected"), [("PAD", 0x00000100), ("PRESERVE", 0x11111111 & ~0xFF00 | 0x100), ("SEXT", 0x100)]
)
def test_sub_word_results_treat_the_rest_as_they_say(unused: str, expected: int) -> None:
    a = np.array([1], np.uint32)
    body = f"v_or_b32_sdwa v20, v2, v2 dst_sel:BYTE_1 dst_unused:UNUSED_{unused} src0_sel:DWORD src1_sel:DWORD"
    assert compute(body, [a], np.uint32, before=0x11111111)[0] == expected


def test_mixed_precision_reads_halves_and_writes_one() -> None:
    a = np.array([0x40003C00], np.uint32)  # 1.0 below 2.0
    b = np.array([0.5], F32)
    low = compute(
        "v_fma_mixlo_f16 v20, v2, v4, 0 op_sel:[1,0,0] op_sel_hi:[1,0,0]", [a, b], np.uint32, before=0xAAAA0000
    )
    assert low[0] == 0xAAAA3C00
    high = compute("v_fma_mixhi_f16 v20, v2, v4, 0 op_sel_hi:[1,0,0]", [a, b], np.uint32, before=0x0000AAAA)
    assert high[0] == 0x3800AAAA
