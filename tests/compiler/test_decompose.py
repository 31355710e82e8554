"""Each function of the table, as instructions: within its bound, exact where it must be, the same on vectors."""

from __future__ import annotations

from math import inf, nan, pi

import numpy as np
import pytest

from portkit.backends.cpu.device import open_host
from portkit.compiler.accuracy import EXACT, ulp_bound
from portkit.compiler.decompose import BASE, EMITTERS, Features, emit
from portkit.compiler.evaluate_functions import evaluate_function
from portkit.compiler.functions import FUNCTIONS, result_dtype
from portkit.contract import BASE_DTYPES, unsupported
from portkit.errors import DTypeError, UsageError
from portkit.reference.values import run
from portkit.spec.builder import Builder, Reg
from portkit.spec.forms import FORMS
from portkit.spec.types import BF16, BOOL, DTYPES, F16, F32, F64, I32, DType
from tests.backends.launching import execute
from tests.compiler.deriving import (
    APPROXIMATED,
    CPU,
    FEATURES,
    Array,
    assert_within,
    binades,
    compute,
    inputs_of,
    kernel_of,
    padded,
    same_bits,
    special_values,
    spread,
)

FLOATS = (F32, F16, BF16, F64)
UNARY = [name for name in APPROXIMATED if FUNCTIONS[name].arity == 1]
BINARY = [name for name in APPROXIMATED if FUNCTIONS[name].arity == 2]
EXACTLY = ["neg", "abs", "floor", "ceil", "round", "trunc"]
NO_F8 = [dtype for dtype in DTYPES.values() if not dtype.name.startswith("f8")]


def _random_bits(dtype: DType, count: int, seed: str) -> Array:
    """Any bit patterns; bools are 0 and 1."""
    if dtype is BOOL:
        return (spread(F64, count, seed) > 0).astype(np.bool_)
    if dtype.is_float:
        return padded(special_values(dtype), spread(dtype, count, seed))[:count]
    noise = spread(F64, count, seed).view(np.uint64)
    ends = [0, 1, 2, dtype.max_int, dtype.max_int - 1, dtype.min_int, dtype.min_int + 1, dtype.max_int // 3]
    noise[: len(ends)] = [end % (1 << 64) for end in ends]
    return noise.astype(f"u{dtype.bytes}").view(dtype.numpy)


def _operands(name: str, dtype: DType, count: int = 256) -> tuple[list[Array], list[DType]]:
    function = FUNCTIONS[name]
    dtypes = [BOOL, dtype, dtype] if name == "where" else [dtype] * function.arity
    return [_random_bits(d, count, f"{name}/{n}") for n, d in enumerate(dtypes)], dtypes


def _result(name: str, dtypes: list[DType]) -> DType:
    return result_dtype(name, dtypes, F32 if FUNCTIONS[name].result == "given" else None)


NAMES_AND_DTYPES = [
    (name, DTYPES[d])
    for name, function in FUNCTIONS.items()
    for d in function.dtypes
    if DTYPES[d] in NO_F8 and (name != "bits" or DTYPES[d].bits == F32.bits)
]
IDS = [f"{name}-{dtype}" for name, dtype in NAMES_AND_DTYPES]


def test_every_function_of_the_table_has_an_emitter_and_nothing_else_has() -> None:
    assert set(EMITTERS) == set(FUNCTIONS)


# --- accuracy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", FEATURES)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", UNARY)
def test_a_function_of_one_float_stays_within_its_bound(name: str, dtype: DType, device: str) -> None:
    features = FEATURES[device]
    many = {F64: 0, F32: 16}.get(dtype, 2)
    scan = binades(dtype, many, name) if many else binades(dtype, 1, name)[::8]
    x = padded(special_values(dtype), spread(dtype, 512 if dtype is F64 else 4096, name), scan)
    assert_within(ulp_bound(name, dtype, features), compute(name, [x], dtype, features, [dtype]), [x], name, dtype)


@pytest.mark.parametrize("device", FEATURES)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_a_function_of_two_floats_stays_within_its_bound(name: str, dtype: DType, device: str) -> None:
    features = FEATURES[device]
    specials = special_values(dtype)
    a, b = (grid.ravel() for grid in np.meshgrid(specials, specials))
    if dtype is F64:
        a, b = a[::4], b[::4]
    x = padded(a, spread(dtype, 1024, f"{name}/x"), binades(dtype, 1, f"{name}/x")[:1024])
    y = padded(b, spread(dtype, 1024, f"{name}/y"), binades(dtype, 1, f"{name}/y")[:1024][::-1])
    actual = compute(name, [x, y], dtype, features, [dtype, dtype])
    assert_within(ulp_bound(name, dtype, features), actual, [x, y], name, dtype)


@pytest.mark.parametrize("device", FEATURES)
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_pow_keeps_its_bound_where_the_exponent_is_large_and_the_base_near_one(dtype: DType, device: str) -> None:
    count = 512 if dtype is F64 else 8192
    near_one = 1 + spread(F64, count, "base") * 1e-4
    x = np.abs(near_one).astype(dtype.numpy)
    with np.errstate(all="ignore"):
        y = (spread(F64, count, "share") * dtype.emax * 1e-3 / np.log2(x.astype(np.float64))).astype(dtype.numpy)
    y[x == 1] = 7
    actual = compute("pow", [x, y], dtype, FEATURES[device], [dtype, dtype])
    assert_within(ulp_bound("pow", dtype, FEATURES[device]), actual, [x, y], "pow", dtype)


@pytest.mark.parametrize("device", FEATURES)
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_an_angle_next_to_a_multiple_of_half_a_turn_is_reduced_without_loss(
    name: str, dtype: DType, device: str
) -> None:
    count = 512 if dtype is F64 else 4096
    turns = np.floor(np.abs(spread(F64, count, "turns")) * 100)
    # The last two are the worst of each format (Muller, Elementary Functions, table 11.1).
    worst = [16367173 * 2.0**72, 6381956970095103 * 2.0**797 if dtype is F64 else 1.0]
    x = padded((turns * (pi / 2)).astype(dtype.numpy), np.array(worst, dtype.numpy))
    actual = compute(name, [x], dtype, FEATURES[device], [dtype])
    assert_within(ulp_bound(name, dtype, FEATURES[device]), actual, [x], name, dtype)


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
@pytest.mark.parametrize("name", ["exp", "tanh", "rsqrt"])
def test_a_narrow_function_keeps_its_bound_on_every_argument(name: str, dtype: DType) -> None:
    x = np.arange(1 << 16, dtype=np.uint16).view(dtype.numpy)
    actual = compute(name, [x], dtype, FEATURES["cpu"], [dtype])
    assert_within(ulp_bound(name, dtype, FEATURES["cpu"]), actual, [x], name, dtype)


# --- special values ---------------------------------------------------------------------------------------------------

_ONE_ARGUMENT = [
    ("exp", -inf, 0.0), ("exp", inf, inf), ("exp", 0.0, 1.0), ("exp2", -inf, 0.0), ("exp2", 3.0, 8.0),
    ("exp2", -149.0, 2.0**-149), ("log", 0.0, -inf), ("log", -0.0, -inf), ("log", -1.0, nan), ("log", inf, inf),
    ("log", 1.0, 0.0), ("log2", 2.0**-149, -149.0), ("log2", -0.0, -inf), ("log2", -inf, nan), ("log2", 8.0, 3.0),
    ("recip", -0.0, -inf), ("recip", 0.0, inf), ("recip", -inf, -0.0), ("sqrt", -0.0, -0.0), ("sqrt", -1.0, nan),
    ("sqrt", inf, inf), ("rsqrt", -0.0, -inf), ("rsqrt", 0.0, inf), ("rsqrt", inf, 0.0), ("rsqrt", -1.0, nan),
    ("sin", -0.0, -0.0), ("sin", inf, nan), ("cos", 0.0, 1.0), ("cos", -inf, nan), ("tan", -0.0, -0.0),
    ("tan", inf, nan), ("tanh", -0.0, -0.0), ("tanh", inf, 1.0), ("tanh", -inf, -1.0), ("tanh", 20.0, 1.0),
    ("sigmoid", -inf, 0.0), ("sigmoid", inf, 1.0), ("sigmoid", 0.0, 0.5), ("erf", -0.0, -0.0), ("erf", inf, 1.0),
    ("erf", -inf, -1.0), ("floor", -0.0, -0.0), ("floor", -0.5, -1.0), ("ceil", -0.5, -0.0), ("round", -0.5, -0.0),
    ("round", 2.5, 2.0), ("round", 3.5, 4.0), ("trunc", -0.5, -0.0), ("sign", nan, nan), ("sign", -inf, -1.0),
    ("abs", -0.0, 0.0), ("neg", 0.0, -0.0), *((name, nan, nan) for name in UNARY + EXACTLY),
]  # fmt: skip
_TWO_ARGUMENTS = [
    ("div", 1.0, -0.0, -inf), ("div", 0.0, 0.0, nan), ("div", inf, inf, nan), ("div", -1.0, inf, -0.0),
    ("div", -0.0, 5.0, -0.0), ("div", inf, -2.0, -inf), ("div", 6.0, 3.0, 2.0), ("div", 3e38, 1e-40, inf),
    ("pow", nan, 0.0, 1.0), ("pow", 1.0, nan, 1.0), ("pow", -1.0, inf, 1.0), ("pow", -0.0, -3.0, -inf),
    ("pow", -0.0, 3.0, -0.0), ("pow", -0.0, 2.0, 0.0), ("pow", 0.0, -2.5, inf), ("pow", -8.0, 1 / 3, nan),
    ("pow", -2.0, 3.0, -8.0), ("pow", -inf, 3.0, -inf), ("pow", -inf, -2.0, 0.0), ("pow", -inf, 0.5, inf),
    ("pow", 0.5, inf, 0.0), ("pow", 0.5, -inf, inf), ("pow", 2.0, -inf, 0.0), ("pow", 2.0, 10.0, 1024.0),
    ("max", nan, 1.0, nan), ("min", 1.0, nan, nan), ("sub", inf, inf, nan),
]  # fmt: skip


@pytest.mark.parametrize("device", FEATURES)
@pytest.mark.parametrize("arguments", [*_ONE_ARGUMENT, *_TWO_ARGUMENTS], ids=lambda case: " ".join(map(str, case)))
def test_a_special_value_is_exactly_that_of_ieee_754(arguments: tuple, device: str) -> None:
    name, *given, expected = arguments
    operands = [np.full(256, value, np.float32) for value in given]
    actual = compute(name, operands, F32, FEATURES[device], [F32] * len(given))[:1]
    assert same_bits(actual, np.array([expected], np.float32)).all(), actual


@pytest.mark.parametrize("device", FEATURES)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", EXACTLY)
def test_rounding_and_signs_are_exact(name: str, dtype: DType, device: str) -> None:
    x = padded(special_values(dtype), binades(dtype, 2, name)[:8192], spread(dtype, 2048, name))
    with np.errstate(all="ignore"):
        expected = evaluate_function(name, (dtype,), dtype, [x], wide=False)
    assert same_bits(compute(name, [x], dtype, FEATURES[device], [dtype]), expected).all()
    assert ulp_bound(name, dtype, FEATURES[device]) == EXACT


# --- integers, bools, conversions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, DTYPES[d])
        for name, f in FUNCTIONS.items()
        for d in f.dtypes
        if not DTYPES[d].is_float and f.result != "given" and name not in ("idiv", "imod", "tdiv", "tmod")
    ],
)
def test_a_function_of_integers_is_what_numpy_computes(name: str, dtype: DType) -> None:
    operands, dtypes = _operands(name, dtype)
    result = _result(name, dtypes)
    with np.errstate(all="ignore"):
        expected = evaluate_function(name, tuple(dtypes), result, operands, wide=False)
    actual = compute(name, operands, result, BASE, dtypes)
    assert np.array_equal(actual.astype(result.numpy), expected)


@pytest.mark.parametrize("target", NO_F8, ids=str)
@pytest.mark.parametrize("source", NO_F8, ids=str)
def test_a_cast_between_any_two_dtypes_is_what_numpy_computes(source: DType, target: DType) -> None:
    x = _random_bits(source, 512, f"{source}/{target}")
    with np.errstate(all="ignore"):
        expected = evaluate_function("cast", (source,), target, [x], wide=False)
    actual = compute("cast", [x], target, BASE, [source]).astype(target.numpy)
    assert same_bits(actual, expected).all()


@pytest.mark.parametrize("source", ["f8e4m3fn", "f8e5m2"])
def test_an_f8_cast_to_bool_is_whether_it_is_not_zero(source: str) -> None:
    dtype = DTYPES[source]
    x = np.arange(256, dtype=np.uint8).view(dtype.numpy)
    actual = compute("cast", [x], BOOL, BASE, [dtype])
    assert np.array_equal(actual, (x.astype(np.float32) != 0).astype(np.uint8))


@pytest.mark.parametrize(("source", "target"), [("f32", "i32"), ("u64", "f64"), ("bf16", "u16"), ("bool", "i8")])
def test_bits_keep_their_pattern(source: str, target: str) -> None:
    x = _random_bits(DTYPES[source], 256, source)
    actual = compute("bits", [x], DTYPES[target], BASE, [DTYPES[source]])
    assert np.array_equal(actual.view(np.uint8), x.view(np.uint8))


def test_a_byte_read_as_bool_is_true_unless_zero() -> None:
    x = np.arange(256, dtype=np.uint8)
    assert np.array_equal(compute("bits", [x], BOOL, BASE, [DTYPES["u8"]]), (x != 0).astype(np.uint8))


# --- every function alike ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dtype"), NAMES_AND_DTYPES, ids=IDS)
def test_vectors_give_the_bits_of_scalars(name: str, dtype: DType) -> None:
    operands, dtypes = _operands(name, dtype)
    result = _result(name, dtypes)
    for features in FEATURES.values():
        scalar = compute(name, operands, result, features, dtypes)
        vector = compute(name, operands, result, features, dtypes, lanes=4)
        assert same_bits(vector, scalar).all()


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize(("name", "dtype"), NAMES_AND_DTYPES, ids=IDS)
def test_a_function_uses_only_what_the_device_declares(name: str, dtype: DType, lanes: int) -> None:
    _, dtypes = _operands(name, dtype)
    kernel = kernel_of(name, dtypes, _result(name, dtypes), FEATURES["cpu"], 256, lanes)
    assert unsupported(kernel, CPU) == []


@pytest.mark.parametrize(
    ("name", "dtype"), [(n, d) for n, d in NAMES_AND_DTYPES if d.name in BASE_DTYPES and d is not BOOL]
)
def test_without_features_a_function_is_written_in_base_forms(name: str, dtype: DType) -> None:
    _, dtypes = _operands(name, dtype)
    if name != "where":
        kernel = kernel_of(name, dtypes, _result(name, dtypes), BASE, 256)
        assert [i.name for i in kernel.body if not FORMS[i.name].is_base] == []


def test_strict_kernels_are_given_no_native_function_but_those_that_are_exact() -> None:
    strict = Features.of(CPU, "strict")
    assert {kind for kind, _ in strict.math} == {"recip", "sqrt", "trunc"}
    assert strict.fma == FEATURES["cpu"].fma


def _arguments(dtype: DType, count: int) -> tuple[Builder, list[Reg]]:
    b = Builder("refused")
    source = b.buffer("a", dtype.name, 8, "read")
    b.grid(1)
    return b, [b.load(source, b.lane(1)) for _ in range(count)]


def test_an_unknown_function_is_named_with_a_near_one() -> None:
    b, args = _arguments(F32, 1)
    with pytest.raises(UsageError, match="sigmoid"):
        emit(b, "sigmoyd", args, F32, BASE)


def test_a_dtype_that_a_function_does_not_take_is_refused() -> None:
    b, args = _arguments(I32, 1)
    with pytest.raises(DTypeError, match="exp is not defined on i32"):
        emit(b, "exp", args, I32, BASE)


# --- on a device ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", [n for n in (*UNARY, *BINARY) if n not in ("add", "sub", "mul")])
def test_the_cpu_backend_stays_within_the_bound(name: str, dtype: DType) -> None:
    x = padded(special_values(dtype), spread(dtype, 1024, name))
    operands = [x, x[::-1].copy()][: FUNCTIONS[name].arity]
    kernel = kernel_of(name, [dtype] * len(operands), dtype, FEATURES["cpu"], len(x), 4)
    device = open_host(CPU)
    try:
        actual = execute(device, kernel, inputs_of(kernel, operands))["out"]
    finally:
        device.close()
    assert_within(ulp_bound(name, dtype, FEATURES["cpu"]), actual, operands, name, dtype)
    if not any(instr.form.extension == "math" for instr in kernel.body):
        assert same_bits(actual, run(kernel, {}, inputs_of(kernel, operands))["out"]).all()
