"""Integer division by runtime values and by constants: every quotient and remainder is that of the integers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from portkit.compiler.decompose import BASE, divide, emit, emit_divide_by_constant
from portkit.compiler.evaluate_functions import evaluate_function
from portkit.errors import UsageError
from portkit.reference.generator import stream
from portkit.reference.values import run
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel
from portkit.spec.types import DTYPES, I32, DType
from portkit.spec.verify import verify
from tests.compiler.deriving import FEATURES, Array, compute

INTEGERS = [dtype for dtype in DTYPES.values() if dtype.is_int]
DIVISIONS = ("idiv", "imod", "tdiv", "tmod")
FORMS = ("mul", "mul.hi", "mul.shr")
_LANES = 64


def _wrapped(values: list[int], dtype: DType) -> Array:
    words = np.array([value % (1 << 64) for value in values], np.uint64)
    return np.resize(words, -(-len(words) // 256) * 256).astype(f"u{dtype.bytes}").view(dtype.numpy)


def _notable(dtype: DType) -> list[int]:
    """Numbers next to powers of two, of either sign, and some divisors of note."""
    near = [sign * (1 << k) + d for k in range(dtype.bits) for d in (-1, 0, 1) for sign in (1, -1)]
    found = {value for value in [*near, 3, 5, 7, 10, 60, 641, 1000] if dtype.min_int <= value <= dtype.max_int}
    return sorted(found)


def _random(dtype: DType, count: int, seed: str) -> list[int]:
    """Random numbers of every length."""
    words = stream(seed).bits(3 * count).astype(object)
    return [int((a << 32 | b) >> (64 - dtype.bits)) >> int(c % dtype.bits) for a, b, c in words.reshape(-1, 3)]


def _expected(name: str, a: Array, b: Array, dtype: DType) -> Array:
    with np.errstate(all="ignore"):
        return evaluate_function(name, (dtype, dtype), dtype, [a, b], wide=False)


@pytest.mark.parametrize("device", FEATURES)
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("name", DIVISIONS)
def test_a_runtime_division_is_that_of_the_integers(name: str, dtype: DType, device: str) -> None:
    pairs = list(itertools.product(_notable(dtype), repeat=2))[:: 1 if dtype.bits < 32 else 3]
    random = list(zip(_random(dtype, 4096, f"{name}/a"), _random(dtype, 4096, f"{name}/b"), strict=True))
    # Around exact multiples an estimate that is one off shows.
    multiples = [((a // max(b, 1)) * b + d, b) for (a, b), d in zip(random, itertools.cycle((-1, 0, 1)), strict=False)]
    a, b = (_wrapped(list(side), dtype) for side in zip(*pairs, *random, *multiples, strict=True))
    actual = compute(name, [a, b], dtype, FEATURES[device], [dtype, dtype])
    assert np.array_equal(actual, _expected(name, a, b, dtype))


@pytest.mark.parametrize("dtype", [DTYPES["i8"], DTYPES["u8"]], ids=str)
@pytest.mark.parametrize("name", DIVISIONS)
def test_a_division_of_bytes_is_right_for_every_pair(name: str, dtype: DType) -> None:
    a, b = (side.ravel().astype(np.uint8).view(dtype.numpy) for side in np.meshgrid(np.arange(256), np.arange(256)))
    actual = compute(name, [a, b], dtype, FEATURES["cpu"], [dtype, dtype])
    assert np.array_equal(actual, _expected(name, a, b, dtype))


def _by_constant(name: str, dtype: DType, divisor: int, count: int, lanes: int = 1) -> Kernel:
    b = Builder("constant")
    source, target = b.buffer("x", dtype.name, count, "read"), b.buffer("out", dtype.name, count, "write")
    group, lane = b.grid(count // (_LANES * lanes)), b.lane(_LANES)
    item = b.mul(b.add(b.mul(group, b.const("i32", _LANES)), lane), b.const("i32", lanes))
    x = b.load(source, item) if lanes == 1 else b.load_vec(source, item, lanes)
    result = emit(b, name, [x, b.splat(b.const(dtype.name, divisor), lanes)], dtype, BASE)
    if lanes == 1:
        b.store(target, item, result)
    else:
        b.store_vec(target, item, result)
    kernel = b.build()
    verify(kernel)
    return kernel


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("name", DIVISIONS)
def test_a_division_by_a_constant_is_that_of_the_integers_and_has_no_reciprocal(name: str, dtype: DType) -> None:
    x = _wrapped([*_notable(dtype), *_random(dtype, 1024, name)], dtype)
    for divisor in [*_notable(dtype), *_random(dtype, 16, f"{name}/divisors")]:
        divisor = int(_wrapped([divisor], dtype)[0])
        kernel = _by_constant(name, dtype, divisor, len(x))
        actual = run(kernel, {}, {"x": x})["out"]
        assert np.array_equal(actual, _expected(name, x, np.full_like(x, divisor), dtype)), divisor
        assert {i.type.dtype for i in kernel.body if i.type and i.type.dtype.is_float} == set()


def test_a_constant_in_every_lane_is_known_too() -> None:
    x = _wrapped(_random(I32, 1024, "lanes"), I32)
    kernel = _by_constant("idiv", I32, 7, len(x), lanes=4)
    assert np.array_equal(run(kernel, {}, {"x": x})["out"], x // 7)


def test_division_by_a_constant_rounds_down() -> None:
    b = Builder("floor")
    source, target = b.buffer("x", "i32", _LANES, "read"), b.buffer("out", "i32", _LANES, "write")
    b.grid(1)
    lane = b.lane(_LANES)
    b.store(target, lane, emit_divide_by_constant(b, b.load(source, lane), 3))
    x = np.arange(-32, 32, dtype=np.int32)
    assert np.array_equal(run(b.build(), {}, {"x": x})["out"], x // 3)


# --- with a known range -----------------------------------------------------------------------------------------------


def _in_range(d: int, low: int, high: int, count: int) -> Kernel:
    b = Builder("range")
    source, target = b.buffer("x", "i32", count, "read"), b.buffer("out", "i32", count, "write")
    item = b.add(b.mul(b.grid(count // _LANES), b.const("i32", _LANES)), b.lane(_LANES))
    b.store(target, item, divide(b, b.load(source, item), d, low, high))
    kernel = b.build()
    verify(kernel)
    return kernel


def _instructions(d: int, low: int, high: int) -> list[str]:
    """What `divide` adds to a kernel that computes nothing."""
    plain = [i.name for i in _in_range(1, low, high, _LANES).body]
    written = [i.name for i in _in_range(d, low, high, _LANES).body if i.name != "mov.const"]
    for name in plain:
        if name in written:
            written.remove(name)
    return written


@pytest.mark.parametrize("d", [1, 2, 3, 5, 6, 7, 10, 12, 64, 100, 641, 1000, 4097, 65535, 6700417, 2**30, 2**31 - 1])
def test_a_quotient_is_exact_over_the_whole_range_it_is_given(d: int) -> None:
    top = 2**31 - 1
    ranges = [(0, 0), (0, 1), (0, 255), (0, 65535), (0, 10**6), (0, top), (7, 10**9), (-1, 1), (-1000, 1000)]
    for low, high in [*ranges, (-(2**31), -1), (-(2**31), top), (-(2**30), 2**30), (-5, top)]:
        steps = np.linspace(low, high, 2048).astype(np.int64)
        multiples = (steps[:, None] // d * d + np.array([-1, 0, 1, d - 1])).ravel()
        x = np.clip(np.concatenate([steps, multiples, [low, high]]), low, high).astype(np.int32)
        x = np.resize(x, -(-len(x) // _LANES) * _LANES)
        actual = run(_in_range(d, low, high, len(x)), {}, {"x": x})["out"]
        assert np.array_equal(actual, x.astype(np.int64) // d), (low, high)


def test_a_small_range_is_divided_right_for_every_number_and_divisor() -> None:
    x = np.arange(-512, 512, dtype=np.int32)
    for d in range(1, 200):
        assert np.array_equal(run(_in_range(d, -512, 511, len(x)), {}, {"x": x})["out"], x // d), d


@pytest.mark.parametrize(
    ("d", "low", "high", "forms"),
    [
        (8, -1000, 1000, ["mul.shr"]),
        (10, 0, 1000, ["mul", "mul.shr"]),
        (3, 0, 2**31 - 1, ["mul.hi"]),
        (10, 0, 10**8, ["mul.hi"]),
        (100, 0, 99, []),
    ],
)
def test_the_cheapest_instructions_are_chosen(d: int, low: int, high: int, forms: list[str]) -> None:
    assert [name for name in _instructions(d, low, high) if name in FORMS] == forms


@pytest.mark.parametrize(("d", "low", "high"), [(0, 0, 1), (-3, 0, 1), (3, 2, 1), (3, 0, 2**31)])
def test_a_divisor_or_range_that_means_nothing_is_refused(d: int, low: int, high: int) -> None:
    b = Builder("refused")
    b.grid(1)
    lane = b.lane(1)
    with pytest.raises(UsageError, match="give a divisor above 0"):
        divide(b, lane, d, low, high)
