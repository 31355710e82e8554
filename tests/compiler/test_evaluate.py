"""The evaluator is the judge of graphs: here it is judged itself, against exact arithmetic and the spec's own words."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

from portkit.compiler import graph
from portkit.compiler.evaluate import evaluate
from portkit.compiler.evaluate_functions import KNOWN
from portkit.compiler.functions import FUNCTIONS
from portkit.compiler.graph import Node, Source
from portkit.compiler.index import Variable
from portkit.errors import DTypeError, ShapeError, UsageError
from portkit.spec.types import (
    BF16,
    BOOL,
    DTYPES,
    F8E4M3FN,
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U32,
    U64,
    DType,
    decode,
    encode,
)  # fmt: skip
from tests.tensor.judging import bits

Array = NDArray[Any]
ARITHMETIC = (F16, BF16, F32)
SIGNED = (I8, I16, I32, I64)


def given(*arrays: Array) -> tuple[list[Node], dict[Source, Array]]:
    """Return a source node for each array, and their contents."""
    dtype = {d.numpy: d for d in DTYPES.values()}
    sources = [Source(dtype[a.dtype], a.shape) for a in arrays]
    return [graph.source(s) for s in sources], dict(zip(sources, arrays, strict=True))


def mapped(name: str, *arrays: Array, dtype: DType | None = None, wide: bool = False) -> Array:
    nodes, contents = given(*arrays)
    return evaluate([graph.map_(name, *nodes, dtype=dtype)], contents, wide=wide)[0]


def applied(build: Callable[..., Node], *arrays: Array, wide: bool = False) -> Array:
    nodes, contents = given(*arrays)
    return evaluate([build(*nodes)], contents, wide=wide)[0]


def doubles(x: Array) -> Array:
    """Return floats as f64; a signalling NaN becomes quiet."""
    with np.errstate(invalid="ignore"):
        return x.astype(np.float64)


def exactly(x: Array) -> list[Fraction]:
    return [Fraction(float(n)) for n in doubles(x)]


def test_the_evaluator_knows_every_function_of_the_table_and_no_more() -> None:
    assert set(FUNCTIONS) == KNOWN


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n not in ("cast", "bits")])
def test_a_function_gives_its_shape_and_dtype_on_random_bits_of_every_dtype_that_it_takes(name: str) -> None:
    for dtype in map(DTYPES.__getitem__, FUNCTIONS[name].dtypes):
        operands = [bits(dtype, 3, 40, seed=i) for i in range(FUNCTIONS[name].arity)]
        if name == "where":
            operands[0] = bits(BOOL, 3, 40)
        nodes, contents = given(*operands)
        node = graph.map_(name, *nodes)
        for wide in (False, True):
            result = evaluate([node], contents, wide=wide)[0]
            assert result.shape == (3, 40)
            assert result.dtype == (np.float64 if wide and node.dtype.is_float else node.dtype.numpy)


# --- floats -------------------------------------------------------------------------------------------------------

EXACT: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
}


@pytest.mark.parametrize("dtype", ARITHMETIC, ids=str)
@pytest.mark.parametrize("name", EXACT)
def test_arithmetic_of_floats_is_the_exact_result_rounded_once(name: str, dtype: DType) -> None:
    a, b = bits(dtype, 500, seed=1), bits(dtype, 500, seed=2)
    usable = np.isfinite(doubles(a)) & np.isfinite(doubles(b)) & (doubles(b) != 0)
    a, b = a[usable], b[usable]
    got = mapped(name, a, b)
    for x, y, z in zip(exactly(a), exactly(b), got, strict=True):
        wanted = decode(dtype, encode(dtype, EXACT[name](x, y)))
        assert float(z) == wanted, (x, y)


@pytest.mark.parametrize("dtype", ARITHMETIC, ids=str)
@pytest.mark.parametrize("name", ["exp", "exp2", "log", "log2", "sin", "cos", "tan", "tanh", "erf", "rsqrt", "sqrt"])
def test_a_float_function_is_within_one_unit_in_the_last_place(name: str, dtype: DType) -> None:
    x = np.abs(np.random.default_rng(0).standard_normal(100)).astype(dtype.numpy) + dtype.numpy.type(0.5)
    got = mapped(name, x).astype(np.float64)
    function: Callable[[Any], Any] = {
        "exp2": lambda v: mpmath.power(2, v),
        "log2": lambda v: mpmath.log(v, 2),
        "rsqrt": lambda v: 1 / mpmath.sqrt(v),
    }.get(name) or getattr(mpmath, name)
    wanted = np.array([float(function(mpmath.mpf(float(v)))) for v in x.astype(np.float64)])
    unit = np.exp2(np.floor(np.log2(np.abs(wanted))) - (dtype.precision - 1))
    assert (np.abs(got - wanted) <= unit).all()


@pytest.mark.parametrize("dtype", [*ARITHMETIC, F64], ids=str)
def test_max_and_min_give_nan_and_order_the_zeros(dtype: DType) -> None:
    a = np.array([math.nan, 1.0, -0.0, 0.0, -0.0], dtype.numpy)
    b = np.array([1.0, math.nan, 0.0, -0.0, -0.0], dtype.numpy)
    top, low = (mapped(name, a, b).astype(np.float64) for name in ("max", "min"))
    assert np.isnan(top[:2]).all()
    assert np.isnan(low[:2]).all()
    assert np.signbit(top[2:]).tolist() == [False, False, True]
    assert np.signbit(low[2:]).tolist() == [True, True, True]


def test_sigmoid_neither_overflows_nor_loses_its_tails() -> None:
    x = np.array([-745.0, -100.0, 0.0, 100.0, math.inf, -math.inf, math.nan])
    wanted = [float(1 / (1 + mpmath.exp(-v))) if math.isfinite(v) else v for v in x]
    got = mapped("sigmoid", x)
    np.testing.assert_allclose(got[:4], wanted[:4], rtol=4 * np.finfo(np.float64).eps)
    np.testing.assert_array_equal(got[4:], [1.0, 0.0, math.nan])


def test_round_takes_halves_to_even() -> None:
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    np.testing.assert_array_equal(mapped("round", x), [-2, -2, 0, 0, 2, 2])


def test_wide_evaluation_rounds_nothing_in_between() -> None:
    x = np.array([1.0], np.float32)
    tiny = np.array([2.0**-40], np.float32)
    build: Callable[[Node, Node], Node] = lambda a, b: graph.map_("sub", graph.map_("add", a, b), a)  # noqa: E731
    assert applied(build, x, tiny)[0] == 0
    assert applied(build, x, tiny, wide=True)[0] == 2.0**-40


# --- integers -----------------------------------------------------------------------------------------------------

WRAPPED: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "idiv": lambda a, b: a // b if b else 0,
    "imod": lambda a, b: a % b if b else 0,
    "tdiv": lambda a, b: abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1) if b else 0,
    "tmod": lambda a, b: abs(a) % abs(b) * (-1 if a < 0 else 1) if b else 0,
}


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.is_int], ids=str)
@pytest.mark.parametrize("name", WRAPPED)
def test_arithmetic_of_integers_wraps_and_divides_by_zero_to_zero(name: str, dtype: DType) -> None:
    edges = [0, 1, 2, 3, 7, dtype.max_int, dtype.max_int - 1, dtype.min_int, -1 if dtype.is_signed else 5]
    numbers = np.array(edges, dtype.numpy)
    a, b = numbers.repeat(len(edges)), np.tile(numbers, len(edges))
    got = mapped(name, a, b)
    for x, y, z in zip(a.tolist(), b.tolist(), got.tolist(), strict=True):
        exact = WRAPPED[name](x, y)
        assert z == decode(dtype, exact & ((1 << dtype.bits) - 1)), (x, y)


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.is_int], ids=str)
def test_mulhi_is_the_upper_half_of_the_exact_product(dtype: DType) -> None:
    a, b = bits(dtype, 200, seed=1), bits(dtype, 200, seed=2)
    wanted = [(x * y) >> dtype.bits for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert mapped("mulhi", a, b).tolist() == wanted


@pytest.mark.parametrize("dtype", [I8, I32, U32, U64], ids=str)
def test_a_shift_count_counts_modulo_the_width(dtype: DType) -> None:
    x = np.array([3, 3], dtype.numpy)
    count = np.array([1, dtype.bits + 1], dtype.numpy)
    assert mapped("shl", x, count).tolist() == [6, 6]
    assert mapped("shr", x, count).tolist() == [1, 1]


# --- casts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [d for d in DTYPES.values() if d.is_int], ids=str)
@pytest.mark.parametrize("source", [F32, F64, F16, BF16, F8E4M3FN], ids=str)
def test_a_cast_of_floats_to_integers_truncates_and_saturates(source: DType, target: DType) -> None:
    x = np.concatenate([bits(source, 200), np.array([2.75, -2.75, 0.0, 448.0, math.nan], source.numpy)])
    for number, got in zip(doubles(x).tolist(), mapped("cast", x, dtype=target).tolist(), strict=True):
        exact = 0 if math.isnan(number) else number if math.isinf(number) else math.trunc(number)
        assert got == max(target.min_int, min(target.max_int, exact)), number


@pytest.mark.parametrize("target", [d for d in DTYPES.values() if d.is_float], ids=str)
@pytest.mark.parametrize("source", [I32, I64, U64, U8], ids=str)
def test_a_cast_of_integers_to_floats_rounds_once(source: DType, target: DType) -> None:
    near = [(1 << 24) + 1, (1 << 53) + 1, (1 << 54) + 3, 2049, 2051, 257, 17, 465, source.max_int, source.max_int - 1]
    x = np.concatenate([bits(source, 200), np.array([n for n in near if n <= source.max_int], source.numpy)])
    got = mapped("cast", x, dtype=target)
    for number, z in zip(x.tolist(), got.astype(np.float64).tolist(), strict=True):
        wanted = decode(target, encode(target, number))
        assert z == wanted or (math.isnan(z) and math.isnan(wanted)), number


@pytest.mark.parametrize("target", [F32, F16, BF16, F8E4M3FN, DTYPES["f8e5m2"]], ids=str)
def test_a_cast_of_doubles_rounds_once(target: DType) -> None:
    rng = np.random.default_rng(0)
    step = 2.0 ** (1 - target.precision)
    halfway = 1 + step * (rng.integers(0, 8, 100) + 0.5) + rng.choice([0.0, 2.0**-50, -(2.0**-50)], 100)
    got = mapped("cast", halfway, dtype=target).astype(np.float64)
    wanted = [decode(target, encode(target, float(x))) for x in halfway]
    np.testing.assert_array_equal(got, wanted)


def test_a_cast_to_bool_is_other_than_zero_and_back_is_one() -> None:
    x = np.array([0.0, -0.0, 0.5, math.nan, -3.0], np.float32)
    truth = mapped("cast", x, dtype=BOOL)
    assert truth.tolist() == [False, False, True, True, True]
    np.testing.assert_array_equal(mapped("cast", truth, dtype=F16), np.array([0, 0, 1, 1, 1], np.float16))


def test_integers_wrap_when_cast_to_narrower_ones() -> None:
    assert mapped("cast", np.array([257, -1, 128], np.int32), dtype=I8).tolist() == [1, -1, -128]


@pytest.mark.parametrize(("source", "target"), [(F32, I32), (I64, F64), (BF16, DTYPES["u16"])], ids=str)
def test_bits_keep_every_pattern(source: DType, target: DType) -> None:
    x = bits(source, 100)
    there = mapped("bits", x, dtype=target)
    assert there.tobytes() == x.tobytes()


# --- folds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_a_sum_of_narrow_floats_accumulates_in_f32(dtype: DType) -> None:
    x = np.full(5000, 1.0, dtype.numpy)
    assert float(applied(lambda n: graph.reduce("add", n, [0]), x)[0]) == float(dtype.numpy.type(5000))


@pytest.mark.parametrize("kind", graph.REDUCTIONS)
def test_a_reduction_of_nothing_is_the_identity(kind: str) -> None:
    identity = {"add": 0, "mul": 1, "max": I32.min_int, "min": I32.max_int, "and": -1, "or": 0}
    empty = np.zeros((2, 0), np.int32)
    assert applied(lambda n: graph.reduce(kind, n, [1]), empty).tolist() == [[identity[kind]]] * 2


def test_a_maximum_of_no_floats_is_minus_infinity() -> None:
    assert applied(lambda n: graph.reduce("max", n, [0]), np.zeros(0, np.float32)).tolist() == [-math.inf]


@pytest.mark.parametrize("kind", ["max", "min"])
def test_a_reduction_keeps_nan_and_the_sign_of_zero(kind: str) -> None:
    x = np.array([[math.nan, 1.0, 2.0], [-0.0, 0.0, -0.0], [-0.0, -0.0, -0.0]], np.float32)
    nan, mixed, negative = applied(lambda n: graph.reduce(kind, n, [1]), x)[:, 0]
    assert np.isnan(nan)
    assert np.signbit(mixed) == (kind == "min")
    assert np.signbit(negative)


@pytest.mark.parametrize("kind", graph.SCANS)
def test_a_scan_is_the_fold_of_each_prefix(kind: str) -> None:
    x = np.random.default_rng(0).integers(-5, 6, (3, 7)).astype(np.int32)
    fold = {"add": np.sum, "mul": np.prod, "max": np.max, "min": np.min}[kind]
    wanted = np.stack([fold(x[:, : i + 1], axis=1) for i in range(7)], axis=1)
    np.testing.assert_array_equal(applied(lambda n: graph.scan(kind, n, 1), x), wanted)


# --- gather and scatter -------------------------------------------------------------------------------------------


def test_a_gather_reads_zero_out_of_range() -> None:
    x = np.array([[1, 2, 3]], np.int32)
    index = np.array([[2, -1, 3, 0]], np.int32)
    assert applied(lambda n, i: graph.gather(n, i, 1), x, index).tolist() == [[3, 0, 0, 1]]


@pytest.mark.parametrize(("kind", "wanted"), [("set", 7), ("add", 13), ("mul", 42), ("max", 7), ("min", 1)])
def test_a_scatter_folds_in_order_and_leaves_out_what_is_out_of_range(kind: str, wanted: int) -> None:
    x = np.array([9, 1], np.int32)
    index = np.array([1, -1, 1, 2], np.int32)
    values = np.array([6 if kind != "add" else 5, 100, 7, 100], np.int32)
    build = lambda n, i, v: graph.scatter(kind, n, i, v, 0)  # noqa: E731
    assert applied(build, x, index, values).tolist() == [9, wanted]


def test_a_scatter_goes_along_its_axis_only() -> None:
    x = np.zeros((2, 3), np.int32)
    index = np.array([[0, 0, 1], [0, 1, 1]], np.int32)
    values = np.array([[1, 2, 3], [4, 5, 6]], np.int32)
    build = lambda n, i, v: graph.scatter("add", n, i, v, 0)  # noqa: E731
    assert applied(build, x, index, values).tolist() == [[5, 2, 0], [0, 5, 9]]


# --- movement and leaves ------------------------------------------------------------------------------------------

MOVEMENTS: dict[str, tuple[Callable[[Node], Node], Callable[[Array], Array]]] = {
    "reshape": (lambda n: graph.reshape(n, (4, 3)), lambda x: x.reshape(4, 3)),
    "permute": (lambda n: graph.permute(n, (1, 0)), lambda x: x.T),
    "expand": (lambda n: graph.expand(graph.reshape(n, (3, 1, 4)), (3, 2, 4)), lambda x: x[:, None].repeat(2, 1)),
    "shrink": (lambda n: graph.shrink(n, [(1, 3), (0, 2)]), lambda x: x[1:3, :2]),
    "flip": (lambda n: graph.flip(n, [1]), lambda x: x[:, ::-1]),
    "stride": (lambda n: graph.stride(n, [2, 3]), lambda x: x[::2, ::3]),
    "pad": (lambda n: graph.pad(n, [(1, 0), (0, 2)], 7), lambda x: np.pad(x, ((1, 0), (0, 2)), constant_values=7)),
    "store": (graph.store, lambda x: x),
}


@pytest.mark.parametrize("name", MOVEMENTS)
def test_a_movement_is_that_of_numpy(name: str) -> None:
    build, wanted = MOVEMENTS[name]
    x = np.arange(12, dtype=np.int32).reshape(3, 4)
    np.testing.assert_array_equal(applied(build, x), wanted(x))


def test_a_mark_changes_no_value() -> None:
    x = np.array([1.5], np.float32)
    assert applied(lambda n: graph.mark(n, "detach"), x).tolist() == [1.5]


def test_constants_and_iota_need_no_contents() -> None:
    node = graph.map_("add", graph.iota(3), graph.const(I32, -2, (3,)))
    assert evaluate([node], {})[0].tolist() == [-2, -1, 0]


def test_a_dynamic_extent_is_read_off_the_contents() -> None:
    n = Variable("n", 1, 100)
    source = Source(F32, (n, 2))
    node = graph.reshape(graph.source(source), (n * 2,))
    assert evaluate([node], {source: np.ones((5, 2), np.float32)})[0].shape == (10,)


def test_two_values_of_one_dimension_are_refused() -> None:
    n = Variable("n", 1, 100)
    a, b = Source(F32, (n,)), Source(F32, (n,))
    node = graph.map_("add", graph.source(a), graph.source(b))
    with pytest.raises(ShapeError, match="dimension n is 2 in one input and 3 in another"):
        evaluate([node], {a: np.ones(2, np.float32), b: np.ones(3, np.float32)})


def test_contents_that_are_missing_or_do_not_fit_are_refused() -> None:
    source = Source(F32, (2,), name="x")
    node = graph.source(source)
    with pytest.raises(UsageError, match="no contents for source x"):
        evaluate([node], {})
    with pytest.raises(DTypeError, match="source x is f32, its contents are float64"):
        evaluate([node], {source: np.ones(2)})
    with pytest.raises(ShapeError, match=r"source x has shape"):
        evaluate([node], {source: np.ones(3, np.float32)})


def test_a_graph_deeper_than_the_recursion_limit_is_evaluated() -> None:
    source = Source(I32, (1,))
    node = graph.source(source)
    for _ in range(20_000):
        node = graph.map_("add", node, graph.source(source))
    assert evaluate([node], {source: np.ones(1, np.int32)})[0].tolist() == [20_001]
