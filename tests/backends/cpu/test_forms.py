"""Every pure form on every dtype and lane count, bit for bit against the reference; math forms by their accuracy."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from portkit.backends.cpu import BACKEND
from portkit.backends.cpu.device import CpuDevice
from portkit.reference.ulp import ulp
from portkit.reference.values import run
from portkit.spec.builder import Builder
from portkit.spec.forms import FORMS, Form, Role, accuracy
from portkit.spec.types import BOOL, DTYPES, I32, DType, Type, max_finite, parse_type
from tests.backends.launching import (
    LANES,
    Array,
    assert_same,
    execute,
    operands,
    padded,
    pointwise,
    special_bits,
)

CAPABILITIES = BACKEND.capabilities
CORRECTLY_ROUNDED = ("mov.recip", "mov.sqrt", "mov.trunc")
SPECIAL_SHAPES = ("mov.const", "mov.cast", "mov.bits", "mov.splat", "mov.lane", "mov.pack", "phi.carry")


def lane_by_lane(form: Form) -> bool:
    exact = form.extension != "math" or form.name in CORRECTLY_ROUNDED
    return form.effect == "pure" and not form.specified_only and exact and form.name not in SPECIAL_SHAPES


CELLS = [
    (form, dtype)
    for form in FORMS.values()
    if lane_by_lane(form)
    for dtype in form.dtypes("T")
    if CAPABILITIES.admits(form, dtype)
]
# Scalars everywhere, and one vector length for each cell in turn: the conformance suite has the full table.
CASES = [
    *((form, dtype, 1) for form, dtype in CELLS if not form.vector),
    *((*cell, CAPABILITIES.lanes[place % len(CAPABILITIES.lanes)]) for place, cell in enumerate(CELLS)),
]


def operand_count(form: Form) -> int:
    variadic = any(o.role is Role.REGISTERS for o in form.operands)
    return 3 if variadic else sum(o.role is Role.REGISTER for o in form.operands)


@pytest.mark.parametrize(("form", "dtype", "lanes"), CASES, ids=lambda x: getattr(x, "name", str(x)))
def test_a_pure_form_gives_the_bits_of_the_reference(device: CpuDevice, form: Form, dtype: DType, lanes: int) -> None:
    count = operand_count(form)
    stored = I32 if dtype == BOOL else dtype
    arrays = padded(operands(stored, count, seed=form.name), LANES * lanes)
    kernel = pointwise(form.name, [str(Type(dtype, lanes))] * count, len(arrays[0]))
    inputs = {f"a{i}": array for i, array in enumerate(arrays)}
    assert_same(execute(device, kernel, inputs)["out"], run(kernel, {}, inputs)["out"], *arrays)


NUMBERS = [DTYPES[name] for name in CAPABILITIES.dtypes if name != "bool"]


@pytest.mark.parametrize("source", NUMBERS, ids=str)
@pytest.mark.parametrize("target", NUMBERS, ids=str)
def test_a_cast_gives_the_bits_of_the_reference(device: CpuDevice, source: DType, target: DType) -> None:
    lanes = CAPABILITIES.lane_counts()[(NUMBERS.index(source) + NUMBERS.index(target)) % 5]
    [values] = padded(operands(source, 1, seed="cast"), LANES * lanes)
    kernel = pointwise("mov.cast", [str(Type(source, lanes))], len(values), result=str(Type(target, lanes)))
    inputs = {"a0": values}
    assert_same(execute(device, kernel, inputs)["out"], run(kernel, {}, inputs)["out"], values)


@pytest.mark.parametrize(
    ("source", "target"),
    [("f32", "u32"), ("i64x2", "f32x4"), ("f16x4", "f64"), ("i8x16", "u64x2"), ("bf16", "i16"), ("f16x2", "bf16x2")],
)
def test_bits_are_reinterpreted_little_endian(device: CpuDevice, source: str, target: str) -> None:
    source_type, target_type = parse_type(source), parse_type(target)
    [values] = padded(operands(source_type.dtype, 1, seed="bits"), LANES * source_type.lanes)
    out = execute(device, pointwise("mov.bits", [source], len(values), result=target), {"a0": values})["out"]
    assert out.tobytes() == values.view(target_type.dtype.numpy).tobytes()


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_a_splat_fills_every_lane_and_a_lane_is_picked(device: CpuDevice, dtype: DType) -> None:
    [values] = padded(operands(dtype, 1, seed="lanes"), LANES * 4)
    spread = execute(device, pointwise("mov.splat", [str(dtype)], len(values), result=f"{dtype}x4"), {"a0": values})
    assert_same(spread["out"], values.repeat(4))
    picked = execute(device, pointwise("mov.lane", [f"{dtype}x4"], len(values), imms=(2,)), {"a0": values})
    assert_same(picked["out"], values.reshape(-1, 4)[:, 2].copy())


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_pack_sets_operands_side_by_side(device: CpuDevice, dtype: DType) -> None:
    first, second = padded(operands(dtype, 2, seed="pack"), LANES)
    out = execute(device, pointwise("mov.pack", [str(dtype)] * 2, len(first)), {"a0": first, "a1": second})["out"]
    assert_same(out, np.stack([first, second], axis=1).reshape(-1))


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_a_constant_keeps_its_bits(device: CpuDevice, dtype: DType) -> None:
    patterns = special_bits(dtype)
    b = Builder("constants")
    out = b.buffer("out", dtype.name, len(patterns), "write")
    b.grid(1)
    b.lane(1)
    for place, bits in enumerate(patterns):
        b.store(out, b.const("i32", place), b.bits_const(dtype.name, bits))
    written = execute(device, b.build(), {})["out"]
    assert written.view(f"u{dtype.bytes}").tolist() == patterns


# --- native math forms ------------------------------------------------------------------------------------------------

MATH = [
    (kind, DTYPES[name])
    for kind, names in CAPABILITIES.math.items()
    for name in names
    if f"mov.{kind}" not in CORRECTLY_ROUNDED
]


def math_inputs(kind: str, dtype: DType) -> Array:
    """All 2^16 patterns of a narrow dtype; of a wide one special values, random bits and a ramp."""
    if dtype.bits == 16:
        return np.arange(1 << 16, dtype=np.uint16).view(dtype.numpy)
    [spread] = operands(dtype, 1, seed=f"math/{kind}", extra=2000)
    low, high = {"exp2": (dtype.emin - dtype.precision - 2, dtype.emax + 2), "sin": (-1000, 1000)}.get(kind, (0.5, 2.0))
    return np.concatenate([spread, np.linspace(low, high, 6000).astype(dtype.numpy)])


def exact(kind: str, x: float) -> float:
    """The function rounded to f64; mpmath's own precision is far beyond it."""
    functions = {"exp2": lambda v: mpmath.power(2, v), "log2": lambda v: mpmath.log(v, 2), "sin": mpmath.sin}
    with mpmath.workprec(1200 if kind == "sin" else 120):
        number = mpmath.mpf(x)
        return float(1 / mpmath.sqrt(number) if kind == "rsqrt" else functions[kind](number))


@pytest.mark.parametrize(("kind", "dtype"), [m for m in MATH if m[1].bits < 64], ids=str)
def test_a_math_form_is_within_the_accuracy_table(device: CpuDevice, kind: str, dtype: DType) -> None:
    [values] = padded([math_inputs(kind, dtype)], LANES)
    out = execute(device, pointwise(f"mov.{kind}", [str(dtype)], len(values)), {"a0": values})["out"]
    with np.errstate(all="ignore"):
        wide = values.astype(np.float64)
        functions = {"exp2": np.exp2, "log2": np.log2, "sin": np.sin, "rsqrt": lambda v: 1 / np.sqrt(v)}
        expected = functions[kind](wide)
        number = np.isfinite(expected) & (np.abs(expected) <= float(max_finite(dtype)))
        assert_same(out[~number], expected[~number].astype(dtype.numpy), values[~number])
        error = np.abs(out[number].astype(np.float64) - expected[number]) / ulp(expected[number], dtype)
    assert np.max(error) <= accuracy(f"mov.{kind}", dtype), f"at {values[number][np.argmax(error)]!r}"


@pytest.mark.parametrize("kind", [m[0] for m in MATH if m[1].bits == 64])
def test_a_math_form_of_f64_is_within_the_accuracy_table(device: CpuDevice, kind: str) -> None:
    low, high = {"exp2": (-1074, 1024)}.get(kind, (0.5, 2.0))
    values = np.concatenate([np.linspace(low, high, 1992), [5e-324, 1e-310, 2.2e-308, 1e300, 1.7e308, 1.0, 3.0, 1e-5]])
    out = execute(device, pointwise(f"mov.{kind}", ["f64"], len(values)), {"a0": values})["out"]
    expected = np.array([exact(kind, x) if kind != "exp2" or x < 1024 else np.inf for x in values])
    with np.errstate(all="ignore"):
        error = np.where(out == expected, 0, np.abs(out - expected) / ulp(expected, DTYPES["f64"]))
    assert np.max(error) <= accuracy(f"mov.{kind}", DTYPES["f64"]) - 0.5  # `expected` itself is rounded


@pytest.mark.parametrize("text", ["f32", "f64", "f32x4"])
def test_math_forms_have_the_special_values_of_ieee_754(device: CpuDevice, text: str) -> None:
    dtype, lanes = parse_type(text).dtype, parse_type(text).lanes
    given = np.resize(np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 4.0]), 8 * lanes).astype(dtype.numpy)
    expected = {
        "recip": [np.inf, -np.inf, 0.0, -0.0, np.nan, 1.0, -1.0, 0.25],
        "sqrt": [0.0, -0.0, np.inf, np.nan, np.nan, 1.0, np.nan, 2.0],
        "rsqrt": [np.inf, -np.inf, 0.0, np.nan, np.nan, 1.0, np.nan, 0.5],
        "exp2": [1.0, 1.0, np.inf, 0.0, np.nan, 2.0, 0.5, 16.0],
        "log2": [-np.inf, -np.inf, np.inf, np.nan, np.nan, 0.0, np.nan, 2.0],
        "trunc": [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 4.0],
    }
    for kind, numbers in expected.items():
        out = execute(device, pointwise(f"mov.{kind}", [text], len(given)), {"a0": given})["out"]
        assert_same(out, np.resize(np.array(numbers), len(given)).astype(dtype.numpy), given)
