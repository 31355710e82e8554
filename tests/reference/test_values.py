"""Memory, vectors, reductions over a group, atomics and copies: what each form does to buffers and registers."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from portkit.errors import HarnessError, InvalidKernelError, UsageError
from portkit.reference import numerics, pure, values
from portkit.reference.generator import stream
from portkit.spec.builder import Builder, Mem, Reg
from portkit.spec.forms import CLASSES, FORMS
from portkit.spec.types import BF16, DTYPES, F16, F32, F64, I32, DType, Type, encode
from tests.fakes import fenv
from tests.reference import exact
from tests.reference.launch import run_columns, unsigned
from tests.reference.patterns import near_one, random_bits

ARITH = [DTYPES[name] for name in CLASSES["arith"]]
REALS = [DTYPES[name] for name in CLASSES["real"]]
INTEGERS = [DTYPES[name] for name in CLASSES["int"]]


def constant(b: Builder, value: int) -> Reg:
    return b.const("i32", value)


def launch(
    body: Callable[[Builder, Mem, Mem, Reg], None], x: list[int], out: int, lanes: int = 4, groups: int = 1
) -> list[int]:
    """Run `body(builder, x, out, linear lane)` with i32 buffers x (read) and out (all 99 at first)."""
    b = Builder("memory")
    source, target = b.buffer("x", "i32", len(x), "read"), b.buffer("out", "i32", out, "readwrite")
    index = b.add(b.mul(b.grid(groups), constant(b, lanes)), b.lane(lanes))
    body(b, source, target, index)
    inputs = {"x": np.array(x, np.int32), "out": np.full(out, 99, np.int32)}
    return values.run(b.build(), {}, inputs)["out"].tolist()


# --- loads and stores ---------------------------------------------------------------------------------------------


def test_a_long_buffer_is_addressed_to_its_end() -> None:
    count = 100_000

    def body(b: Builder, x: Mem, out: Mem, i: Reg) -> None:
        last = constant(b, count - 1)
        b.store(out, b.add(last, b.mul(i, constant(b, -1))), b.load(x, i))

    x = stream("long").integers(-(2**31), 2**31 - 1, count).tolist()
    assert launch(body, x, count, lanes=100, groups=count // 100) == x[::-1]


def test_a_closed_gate_loads_the_other_value_and_stores_nothing() -> None:
    def body(b: Builder, x: Mem, out: Mem, i: Reg) -> None:
        gate = b.lt(i, constant(b, 2))
        loaded = b.load(x, i, gate=gate, other=b.mul(i, constant(b, 100)))
        b.store(out, i, loaded)
        b.store(out, b.add(i, constant(b, 4)), i, gate=gate)

    assert launch(body, [5, 6], 6) == [5, 6, 200, 300, 0, 1]


def test_a_buffer_without_elements_may_be_named_by_closed_gates() -> None:
    def body(b: Builder, x: Mem, out: Mem, i: Reg) -> None:
        b.store(out, i, b.load(x, i, gate=b.lt(i, constant(b, 0)), other=i))

    assert launch(body, [], 4) == [0, 1, 2, 3]


def test_contiguous_vectors_are_loaded_and_stored_in_order() -> None:
    def body(b: Builder, x: Mem, out: Mem, i: Reg) -> None:
        first = b.mul(i, constant(b, 2))
        b.store_vec(out, first, b.load_vec(x, first, 2))

    assert launch(body, list(range(10, 18)), 8) == list(range(10, 18))


def test_a_vector_is_gated_lane_by_lane() -> None:
    def body(b: Builder, x: Mem, out: Mem, i: Reg) -> None:
        places = b.op("mov.pack", i, b.add(i, constant(b, 1)))
        gate = b.lt(places, b.splat(constant(b, 4), 2))
        loaded = b.load_vec(x, i, 2, gate=gate, other=b.splat(constant(b, -7), 2))
        b.store_vec(out, b.mul(i, constant(b, 2)), loaded)

    assert launch(body, [10, 11, 12, 13], 8) == [10, 11, 11, 12, 12, 13, 13, -7]


def test_gather_and_scatter_take_one_address_for_each_lane() -> None:
    def body(b: Builder, x: Mem, out: Mem, i: Reg) -> None:
        places = b.op("mov.pack", i, b.op("reduce.xor", i, constant(b, 7)))
        b.store(out, b.op("reduce.xor", places, b.splat(constant(b, 1), 2)), b.load(x, places))

    assert launch(body, list(range(20, 28)), 8) == [21, 20, 23, 22, 25, 24, 27, 26]


def test_a_scatter_is_gated_lane_by_lane() -> None:
    def body(b: Builder, x: Mem, out: Mem, i: Reg) -> None:
        places = b.op("mov.pack", i, b.add(i, constant(b, 4)))
        b.store(out, places, b.splat(i, 2), gate=b.lt(places, b.splat(constant(b, 6), 2)))

    assert launch(body, [], 8) == [0, 1, 2, 3, 0, 1, 99, 99]


def test_every_group_has_shared_memory_of_its_own() -> None:
    def body(b: Builder, x: Mem, out: Mem, i: Reg) -> None:
        shared = b.shared("s", "i32", 1)
        first = b.eq(b.op("reduce.and", i, constant(b, 3)), constant(b, 0))
        b.store(shared, constant(b, 0), i, gate=first)
        b.barrier()
        b.store(out, i, b.load(shared, constant(b, 0)))

    assert launch(body, [], 12, groups=3) == [0] * 4 + [4] * 4 + [8] * 4


def test_asynchronous_copies_carry_their_tokens_around_a_loop() -> None:
    def body(b: Builder, x: Mem, out: Mem, i: Reg) -> None:
        shared = b.shared("s", "i32", 4)
        token = b.async_copy(shared, i, x, i, 1)
        with b.serial(3, t=token, total=constant(b, 0)) as loop:
            b.wait(loop["t"])
            total = b.add(loop["total"], b.load(shared, i))
            following = b.add(i, b.mul(b.add(loop.index, constant(b, 1)), constant(b, 4)))
            loop.next(total=total, t=b.async_copy(shared, i, x, b.op("reduce.min", following, constant(b, 11)), 1))
        b.wait(loop["t"])
        b.store(out, i, loop["total"])

    assert launch(body, list(range(12)), 4) == [12, 15, 18, 21]


def test_the_inputs_are_not_changed() -> None:
    b = Builder("inputs")
    out = b.buffer("out", "i32", 1, "readwrite")
    b.store(out, b.grid(1), b.lane(1))
    given = np.array([5], np.int32)
    assert values.run(b.build(), {}, {"out": given})["out"].tolist() == [0]
    assert given.tolist() == [5]


def test_a_write_only_buffer_starts_as_zeros() -> None:
    b = Builder("zeros")
    out, n = b.buffer("out", "f32", "n", "write"), b.scalar("n", "i32")
    b.store(out, b.grid(1), b.cast(n, "f32"), gate=b.lt(b.lane(1), constant(b, 0)))
    assert values.run(b.build(), {"n": 3}, {})["out"].tolist() == [0.0, 0.0, 0.0]


# --- inputs that do not fit ---------------------------------------------------------------------------------------


def one_buffer(scalars: dict[str, int | float], buffers: dict[str, np.ndarray]) -> None:
    b = Builder("inputs")
    b.buffer("x", "f32", ("n", 2), "read")
    b.scalar("n", "i32")
    b.grid(1)
    b.lane(1)
    values.run(b.build(), scalars, buffers)


@pytest.mark.parametrize(
    ("scalars", "buffers", "message"),
    [
        ({"n": 1}, {}, "x is missing"),
        ({}, {"x": np.zeros(2, np.float32)}, "n is missing"),
        ({"n": 1}, {"x": np.zeros(2, np.float32), "z": np.zeros(2)}, "z is unknown"),
        ({"n": 1}, {"x": np.zeros(2, np.float64)}, "give one-dimensional float32"),
        ({"n": 1}, {"x": np.zeros((1, 2), np.float32)}, "give one-dimensional float32"),
        ({"n": 2**31}, {"x": np.zeros(2**5, np.float32)}, "x has 32 elements"),
    ],
)
def test_inputs_that_do_not_fit_the_header_are_named(scalars: dict, buffers: dict, message: str) -> None:
    with pytest.raises((UsageError, InvalidKernelError), match=message):
        one_buffer(scalars, buffers)


@pytest.mark.parametrize("size", [0, 5, 7])
def test_a_buffer_of_another_extent_than_declared_is_the_launch_s_fault(size: int) -> None:
    with pytest.raises(InvalidKernelError, match=r"x has \d elements, the kernel declares n\*2 = 6") as caught:
        one_buffer({"n": 3}, {"x": np.zeros(size, np.float32)})
    assert caught.value.clause == "valid_c9"


def test_a_scalar_out_of_range_is_named() -> None:
    b = Builder("scalar")
    b.scalar("n", "i32")
    b.grid(1)
    b.lane(1)
    with pytest.raises(UsageError, match="scalar n = 2147483648 does not fit i32"):
        values.run(b.build(), {"n": 2**31}, {})


# --- vectors ------------------------------------------------------------------------------------------------------


def vector(b: Builder, parts: list[Reg]) -> Reg:
    return b.op("mov.pack", *parts)


@pytest.mark.parametrize("dtype", ARITH, ids=str)
@pytest.mark.parametrize("form", ["add", "mul", "reduce.max"])
def test_a_form_on_vectors_is_the_form_on_each_lane(form: str, dtype: DType) -> None:
    draws = stream(f"vec/{form}/{dtype}")
    columns = [random_bits(draws, dtype, 40) for _ in range(4)]
    scalars = [run_columns(lambda b, xs: b.op(form, *xs), [dtype] * 2, dtype, columns[k::2]) for k in (0, 1)]
    for lane in (0, 1):

        def body(b: Builder, xs: list[Reg], lane: int = lane) -> Reg:
            return b.op("mov.lane", b.op(form, vector(b, xs[:2]), vector(b, xs[2:])), imms=(lane,))

        assert run_columns(body, [dtype] * 4, dtype, columns) == scalars[lane]


def test_splat_puts_the_scalar_in_every_lane() -> None:
    columns = [[3, 4, 5]]
    for lane in range(3):
        actual = run_columns(lambda b, xs, k=lane: b.op("mov.lane", b.splat(xs[0], 3), imms=(k,)), [I32], I32, columns)
        assert actual == columns[0]


# --- reductions ---------------------------------------------------------------------------------------------------

IDENTITY = {"add": -0.0, "mul": 1.0}


def fold_halves(kind: str, dtype: DType, patterns: list[int]) -> int:
    """Spec: numeric_c5, literally: padded with the identity to a power of two. f16 and bf16 sums are in f32."""
    inside = F32 if kind == "add" and dtype in (F16, BF16) else dtype
    items = [exact.cast(dtype, inside, bits) for bits in patterns]
    n = 1 << (len(items) - 1).bit_length()
    items += [encode(inside, IDENTITY[kind])] * (n - len(items))
    step = exact.FLOAT[kind]
    while n > 1:
        n //= 2
        items = [step(inside, items[i], items[i + n]) for i in range(n)]
    return exact.cast(inside, dtype, items[0])


def group_fold(kind: str, dtype: DType, patterns: list[int]) -> list[int]:
    """Return the result in every lane of one group."""
    lanes = len(patterns)
    b = Builder("fold", "strict")
    x, out = b.buffer("x", dtype.name, lanes, "read"), b.buffer("out", dtype.name, lanes, "write")
    b.grid(1)
    lane = b.lane(lanes)
    b.store(out, lane, b.op(f"reduce.group.{kind}", b.load(x, lane)))
    inputs = {"x": np.array(patterns, unsigned(dtype)).view(dtype.numpy)}
    return values.run(b.build(), {}, inputs)["out"].view(unsigned(dtype)).tolist()


def vector_fold(kind: str, dtype: DType, patterns: list[int]) -> list[int]:
    columns = [[bits] for bits in patterns]
    return run_columns(lambda b, xs: b.op(f"reduce.vec.{kind}", vector(b, xs)), [dtype] * len(patterns), dtype, columns)


@pytest.mark.parametrize("lanes", [2, 3, 5, 8, 13, 64])
@pytest.mark.parametrize("dtype", REALS, ids=str)
@pytest.mark.parametrize("kind", IDENTITY)
def test_float_reductions_fold_halves(kind: str, dtype: DType, lanes: int) -> None:
    spread = 2 if kind == "add" else 1
    patterns = near_one(stream(f"fold/{kind}/{dtype}/{lanes}"), dtype, lanes, spread)
    expected = fold_halves(kind, dtype, patterns)
    assert set(group_fold(kind, dtype, patterns)) == {expected}
    assert vector_fold(kind, dtype, patterns) == [expected]


def test_a_sum_that_depends_on_the_order_shows_that_halves_are_folded() -> None:
    patterns = [encode(F32, x) for x in (2.0**24, 1.0, 1.0, -(2.0**24), 1.0, 3.0)]
    assert group_fold("add", F32, patterns) != [encode(F32, 6.0)] * 6
    assert group_fold("add", F32, patterns)[0] == fold_halves("add", F32, patterns)


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_narrow_sums_accumulate_in_f32_and_round_once(dtype: DType) -> None:
    big, small = 2 ** (dtype.precision - 1), Fraction(1, 4)
    patterns = [encode(dtype, big), *[encode(dtype, small)] * 7]
    assert set(group_fold("add", dtype, patterns)) == {exact.rounded(dtype, big + 7 * small)}
    assert exact.rounded(dtype, big + small) == encode(dtype, big)


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_sum_of_negative_zeros_is_negative_zero(lanes: int) -> None:
    assert set(group_fold("add", F32, [1 << 31] * lanes)) == {1 << 31}


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("kind", ["add", "mul", "max", "min", "and", "or", "xor"])
def test_integer_reductions_fold_modulo_a_power_of_two(kind: str, dtype: DType) -> None:
    patterns = random_bits(stream(f"fold/{kind}/{dtype}"), dtype, 7)
    step = exact.INTEGER[kind if kind in ("add", "mul") else f"reduce.{kind}"]
    expected = patterns[0]
    for bits in patterns[1:]:
        expected = step(dtype, expected, bits)
    assert set(group_fold(kind, dtype, patterns)) == {expected}
    assert vector_fold(kind, dtype, patterns) == [expected]


@pytest.mark.parametrize("dtype", REALS, ids=str)
@pytest.mark.parametrize("kind", ["max", "min"])
def test_float_extremes_over_a_group_order_zeros_and_keep_nan(kind: str, dtype: DType) -> None:
    minus, plus, one = 1 << (dtype.bits - 1), 0, encode(dtype, 1)
    zeros = [minus, plus, minus, plus, minus]
    assert set(group_fold(kind, dtype, zeros)) == {plus if kind == "max" else minus}
    nan = encode(dtype, float("nan"))
    result = np.array(group_fold(kind, dtype, [one, nan, one]), unsigned(dtype)).view(dtype.numpy)
    assert np.isnan(result.astype(np.float64)).all()


def test_a_uniform_register_is_summed_once_for_every_lane() -> None:
    def body(b: Builder, x: Mem, out: Mem, i: Reg) -> None:
        b.store(out, i, b.op("reduce.group.add", constant(b, 3)))

    assert launch(body, [], 4) == [12] * 4


def test_a_group_reduction_of_vectors_folds_each_vector_lane() -> None:
    def body(b: Builder, x: Mem, out: Mem, i: Reg) -> None:
        total = b.op("reduce.group.add", b.op("mov.pack", i, b.mul(i, i)))
        b.store_vec(out, b.mul(i, constant(b, 2)), total)

    assert launch(body, [], 8) == [6, 14] * 4


def test_a_variadic_reduction_folds_from_left_to_right() -> None:
    def body(b: Builder, xs: list[Reg]) -> Reg:
        return b.op("reduce.max", *xs)

    assert run_columns(body, [I32] * 5, I32, [[1], [5], [2], [5], [3]]) == [5]


# --- atomics ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "expected"), [("add", 99 + sum(range(12))), ("max", 99), ("min", 0)])
def test_atomic_stores_of_every_lane_of_every_group_count(kind: str, expected: int) -> None:
    def body(b: Builder, x: Mem, out: Mem, i: Reg) -> None:
        b.op(f"store.atomic.{kind}", constant(b, 0), i, mems=(out,))

    assert launch(body, [], 2, groups=3) == [expected, 99]


def test_an_atomic_store_of_constants_counts_once_for_every_lane() -> None:
    def body(b: Builder, x: Mem, out: Mem, i: Reg) -> None:
        b.op("store.atomic.add", constant(b, 0), constant(b, 1), mems=(out,))

    assert launch(body, [], 1, groups=2) == [99 + 8]


def test_a_gated_atomic_store_counts_once_for_every_lane_that_makes_it() -> None:
    def body(b: Builder, x: Mem, out: Mem, i: Reg) -> None:
        with b.serial(b.lt(i, constant(b, 6), constant(b, 1), constant(b, 0))):
            b.op("store.atomic.add", constant(b, 1), constant(b, 10), mems=(out,), gate=b.lt(constant(b, 0), i))

    assert launch(body, [], 2, groups=2) == [99, 99 + 50]


@pytest.mark.parametrize("dtype", ARITH, ids=str)
def test_atomic_sums_are_taken_in_lane_order(dtype: DType) -> None:
    draws = stream(f"atomic/{dtype}")
    patterns = near_one(draws, dtype, 9, 2) if dtype.is_float else random_bits(draws, dtype, 9)
    b = Builder("atomic")
    x, out = b.buffer("x", dtype.name, 9, "read"), b.buffer("out", dtype.name, 1, "readwrite")
    index = b.add(b.mul(b.grid(3), constant(b, 3)), b.lane(3))
    b.op("store.atomic.add", constant(b, 0), b.load(x, index), mems=(out,))
    total = 0
    for bits in patterns:
        total = (exact.FLOAT if dtype.is_float else exact.INTEGER)["add"](dtype, total, bits)
    inputs = {"x": np.array(patterns, unsigned(dtype)).view(dtype.numpy), "out": np.zeros(1, dtype.numpy)}
    assert values.run(b.build(), {}, inputs)["out"].view(unsigned(dtype)).tolist() == [total]


# --- faults and the machine ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [-1, 4, -(2**31), 2**31 - 1])
def test_an_access_out_of_range_is_the_kernel_s_fault_and_never_wraps(address: int) -> None:
    def body(b: Builder, x: Mem, out: Mem, i: Reg) -> None:
        b.load(x, b.eq(i, constant(b, 2), constant(b, address), i))

    with pytest.raises(InvalidKernelError) as caught:
        launch(body, [0, 1, 2, 3], 4)
    assert (caught.value.clause, caught.value.lane, caught.value.address) == ("valid_c3", 2, address)


def test_the_self_check_passes_on_ieee_arithmetic() -> None:
    numerics.self_check()


@pytest.mark.skipif(not fenv.supported(), reason="the layout of this machine's floating-point environment is unknown")
def test_the_self_check_finds_a_process_that_flushes_subnormals() -> None:
    fenv.flush_to_zero()
    try:
        with pytest.raises(HarnessError, match="flush-to-zero"):
            numerics.self_check()
    finally:
        fenv.flush_to_zero(on=False)
    numerics.self_check()


def test_constants_of_every_dtype_keep_their_bits() -> None:
    for dtype in (DTYPES[name] for name in CLASSES["number"]):
        bits = random_bits(stream(f"const/{dtype}"), dtype, 1)[0]
        actual = run_columns(lambda b, xs, d=dtype, v=bits: b.bits_const(d.name, v), [I32], dtype, [[0]])
        assert actual == [bits], Type(dtype)


def test_f64_scalars_are_not_needed_for_f32_ones_to_round_once() -> None:
    b = Builder("scalar")
    out, a = b.buffer("out", "f32", 1, "write"), b.scalar("a", "f32")
    b.store(out, b.grid(1), a, gate=b.eq(b.lane(1), constant(b, 0)))
    number = 1.0 + 2.0**-24 + 2.0**-50
    expected = exact.cast(F64, F32, encode(F64, number))
    assert values.run(b.build(), {"a": number}, {})["out"].view(np.uint32).tolist() == [expected]


def test_every_form_that_may_be_used_is_executed() -> None:
    done = {*pure.BINDERS, *values.EFFECTS, "phi.carry"}
    usable = {n.removesuffix(f.kind) for n, f in FORMS.items() if f.effect not in ("pure", "control")}
    usable |= {n for n, f in FORMS.items() if f.effect == "pure"}
    left_out = {n for n, f in FORMS.items() if f.specified_only}
    assert usable - left_out == done - left_out
    assert left_out.isdisjoint(values.EFFECTS)
