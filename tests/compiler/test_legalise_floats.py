"""16-bit floats carried in f32, 8-bit ones by their bits, and mul.add in integers, against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from portkit.compiler.legalise import legalise
from portkit.conformance.cases.specials import finite_specials, nonfinite_specials
from portkit.errors import UsageError
from portkit.reference import values
from portkit.spec.builder import Builder, Reg
from portkit.spec.types import BF16, BOOL, DTYPES, F16, F32, F64, I32, U32, DType, Type, encode
from tests.compiler.legal import BASE, DEVICES, check_columns, column_kernel, crossed, form, like_base, run_legal

HALVES = [F16, BF16]
EIGHTHS = [DTYPES["f8e4m3fn"], DTYPES["f8e5m2"]]
NARROW = HALVES + EIGHTHS
OTHERS = [d for d in DTYPES.values() if d not in (BOOL, F64)]
WITH_F64 = like_base("doubles", dtypes=("bool", "i32", "u32", "f32", "f64"))


def every(dtype: DType) -> np.ndarray:
    """Every pattern of a narrow dtype; special and random ones of a wide one."""
    if dtype.bits <= 16:
        return np.arange(1 << dtype.bits, dtype=np.uint64)
    special = np.array([*finite_specials(dtype), *nonfinite_specials(dtype)], np.uint64)
    drawn = np.random.default_rng(0).integers(0, 1 << dtype.bits, 4096, dtype=np.uint64)
    return np.concatenate([special, drawn])


def neighbours(target: DType) -> np.ndarray:
    """The f32 bits of every number of a narrow dtype, of the midpoints between two, and what lies next to both."""
    with np.errstate(all="ignore"):  # NaN, and what f32 does not hold
        numbers = np.arange(1 << target.bits, dtype=f"u{target.bytes}").view(target.numpy).astype(np.float64)
        finite = np.unique(numbers[np.isfinite(numbers)])
        beyond = [2 * finite[-1] - finite[-2], 2.5 * finite[-1]]
        middle = (finite[1:] + finite[:-1]) / 2
        points = np.concatenate([finite, middle, beyond, np.negative(beyond), [np.inf, -np.inf]])
        exact = points.astype(np.float32).view(np.uint32)
    return np.concatenate([exact, exact + 1, exact - 1]).astype(np.uint64)


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_loads_and_stores_keep_every_pattern(dtype):
    kernel = column_kernel(lambda b, xs: xs[0], [dtype], dtype, 1 << dtype.bits, "strict")
    patterns = every(dtype).astype(f"u{dtype.bytes}")
    after = run_legal(kernel, BASE, {}, {"in0": patterns.view(dtype.numpy)})["out"]
    assert after.tobytes() == patterns.tobytes()


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_a_selection_keeps_the_bits_of_nan(dtype):
    def body(b: Builder, xs: list[Reg]) -> Reg:
        return b.lt(xs[1], b.const("i32", 2), xs[0], b.bits_const(dtype.name, nonfinite_specials(dtype)[-1]))

    kernel = column_kernel(body, [dtype, I32], dtype, 1 << dtype.bits, "strict")
    patterns = every(dtype).astype(f"u{dtype.bytes}").view(dtype.numpy)
    inputs = {"in0": patterns, "in1": np.arange(patterns.size, dtype=np.int32) % 4}
    assert run_legal(kernel, BASE, {}, inputs)["out"].tobytes() == values.run(kernel, {}, inputs)["out"].tobytes()


@pytest.mark.parametrize("source", NARROW, ids=str)
@pytest.mark.parametrize("target", OTHERS, ids=str)
def test_every_narrow_float_casts_to_anything_as_the_reference_does(source, target):
    check_columns(form("mov.cast", type=Type(target)), [source], target, [every(source)])


@pytest.mark.parametrize("source", OTHERS, ids=str)
@pytest.mark.parametrize("target", NARROW, ids=str)
def test_anything_casts_to_a_narrow_float_rounded_once(source, target):
    check_columns(form("mov.cast", type=Type(target)), [source], target, [every(source)])


@pytest.mark.parametrize("target", NARROW, ids=str)
def test_a_float_next_to_a_tie_is_rounded_to_the_nearest_even_neighbour(target):
    check_columns(form("mov.cast", type=Type(target)), [F32], target, [neighbours(target)])


@pytest.mark.parametrize("target", NARROW, ids=str)
def test_a_double_next_to_a_tie_is_rounded_once(target):
    with np.errstate(invalid="ignore"):  # the neighbours of infinity are NaN
        ties = neighbours(target).astype(np.uint32).view(np.float32).astype(np.float64).view(np.uint64)
    column = np.concatenate([ties, ties + np.uint64(1), ties - np.uint64(1)])
    check_columns(form("mov.cast", type=Type(target)), [F64], target, [column], WITH_F64)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", ["add", "mul", "reduce.max", "reduce.min"])
def test_every_pattern_with_special_ones_computes_as_the_reference_does(name, dtype):
    chosen = [0, 1, 0x8001, 0x3C01, 0xBBFF, encode(dtype, 1.0) + 1, nonfinite_specials(dtype)[0]]
    check_columns(form(name), [dtype, dtype], dtype, crossed(range(1 << 16), chosen))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", ["phi.lt", "phi.eq"])
def test_a_comparison_of_narrow_floats_chooses_the_same(name, dtype):
    special = [*finite_specials(dtype), *nonfinite_specials(dtype)]

    def body(b: Builder, xs: list[Reg]) -> Reg:
        return b.op(name, xs[0], xs[1], b.const("i32", 1), b.const("i32", 2))

    check_columns(body, [dtype, dtype], I32, crossed(special, special))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", ["mov.recip", "mov.sqrt", "mov.trunc"])
def test_an_exact_function_of_every_pattern_is_rounded_once(name, dtype):
    check_columns(form(name), [dtype], dtype, [every(dtype)])


# --- mul.add ------------------------------------------------------------------------------------------------------


def fused_columns(dtype: DType, seed: int, count: int = 1 << 15) -> list[np.ndarray]:
    """Operands whose sum cancels, sticks out by one bit, or is subnormal: sparse significands, exponents that meet."""
    rng, mantissa = np.random.default_rng(seed), dtype.precision - 1
    top = (1 << (dtype.bits - 1 - mantissa)) - 1
    exponents = rng.integers(0, top, (2, count))
    met = exponents.sum(0) - dtype.emax + rng.integers(-2 * dtype.precision, 2 * dtype.precision, count)
    fields = np.stack([*exponents, met.clip(0, top - 1)]).astype(np.uint64)
    sparse = rng.integers(0, 1 << mantissa, (3, 3, count), dtype=np.uint64)
    fractions = sparse[0] & sparse[1] & sparse[2]
    fractions ^= rng.integers(0, 2, (3, count), dtype=np.uint64) * np.uint64((1 << mantissa) - 1)
    signs = rng.integers(0, 2, (3, count), dtype=np.uint64) << np.uint64(dtype.bits - 1)
    return list(signs | fields << np.uint64(mantissa) | fractions)


@pytest.mark.parametrize("device", ["base", "no64", "scalar"])
@pytest.mark.parametrize("dtype", [F32, *HALVES], ids=str)
def test_a_fused_product_and_sum_is_rounded_once(dtype, device):
    check_columns(form("mul.add"), [dtype] * 3, dtype, fused_columns(dtype, seed=7), DEVICES[device])


@pytest.mark.parametrize("dtype", [F32, *HALVES], ids=str)
def test_a_fused_product_and_sum_of_special_values_is_that_of_the_reference(dtype):
    special = [*finite_specials(dtype)[:24], *finite_specials(dtype)[-8:], *nonfinite_specials(dtype)]
    check_columns(form("mul.add"), [dtype] * 3, dtype, crossed(special, special, special))


def test_a_fused_f32_sum_that_f64_would_round_twice_is_rounded_once():
    """(2^30 + 1) * 2^-54 is just more than half an ulp of 1; the sum in f64 is the tie itself."""
    kernel = column_kernel(form("mul.add"), [F32] * 3, F32, 1, "strict")
    numbers = (13325 * 2.0**-27, 80581 * 2.0**-27, 1.0)
    inputs = {f"in{k}": np.array([number], np.float32) for k, number in enumerate(numbers)}
    assert run_legal(kernel, BASE, {}, inputs)["out"].tolist() == [1 + 2.0**-23]


def test_a_fused_double_is_refused_where_the_device_has_none():
    kernel = column_kernel(form("mul.add"), [F64] * 3, F64, 8, "strict")
    with pytest.raises(UsageError, match=r"mul.add on f64 needs the extension fma, which doubles has not"):
        legalise(kernel, WITH_F64)


def test_a_constant_nan_keeps_its_payload():
    def body(b: Builder, xs: list[Reg]) -> Reg:
        return b.bits(b.bits_const("f16", 0x7C01), "u16")

    kernel = column_kernel(body, [U32], DTYPES["u16"], 4, "strict")
    assert run_legal(kernel, BASE, {}, {"in0": np.zeros(4, np.uint32)})["out"].tolist() == [0x7C01] * 4
