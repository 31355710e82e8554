"""Interval arithmetic: sound for random members, and as tight as all members of small intervals show."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from portkit.reference import intervals, numerics
from portkit.reference.generator import stream
from portkit.reference.planes import Interval, interval
from portkit.reference.ulp import from_ordinal, min_normal, ordinal
from portkit.spec.types import F8E4M3FN, F16, F32, DType
from tests.reference.floats import REALS, SMALL, draw, holds, members
from tests.reference.floats import intervals as some_intervals

COUNT = 400
seeds = st.integers(0, 2**32 - 1)

BINARY: dict[str, tuple[Callable[..., Interval], Callable[[DType], Callable[..., Any]]]] = {
    "add": (intervals.add, numerics.add),
    "mul": (intervals.mul, numerics.mul),
    "max": (lambda f, a, b: intervals.maximum(a, b, free_zero=False), lambda d: numerics.fold("max", d)),
    "min": (lambda f, a, b: intervals.minimum(a, b, free_zero=False), lambda d: numerics.fold("min", d)),
}


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with np.errstate(all="ignore"):
        yield


@pytest.mark.parametrize("form", BINARY)
@pytest.mark.parametrize("dtype", REALS, ids=str)
@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_results_of_members_are_in_the_result(form: str, dtype: DType, seed: int) -> None:
    draws = stream(f"{form}/{dtype}/{seed}")
    lifted, plain = BINARY[form]
    a, b = some_intervals(draws, dtype, COUNT), some_intervals(draws, dtype, COUNT)
    result = lifted(plain(dtype), a, b)
    for _ in range(4):
        value = plain(dtype)(members(draws, a, dtype), members(draws, b, dtype))
        assert holds(result, value).all()


@pytest.mark.parametrize("dtype", REALS, ids=str)
@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_fused_results_of_members_are_in_the_result(dtype: DType, seed: int) -> None:
    draws = stream(f"fma/{dtype}/{seed}")
    f = numerics.fused(dtype)
    a, b, c = (some_intervals(draws, dtype, COUNT) for _ in range(3))
    result = intervals.fma(f, a, b, c)
    for _ in range(4):
        assert holds(result, f(*(members(draws, x, dtype) for x in (a, b, c)))).all()


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_squares_of_members_are_in_the_square_which_is_never_negative(dtype: DType) -> None:
    draws = stream(f"square/{dtype}")
    x = some_intervals(draws, dtype, COUNT)
    square, fused = intervals.mul(numerics.mul(dtype), x, x), intervals.fma(numerics.fused(dtype), x, x, x)
    assert not np.signbit(square.lo).any()
    for _ in range(6):
        m = members(draws, x, dtype)
        assert holds(square, numerics.mul(dtype)(m, m)).all()
        assert holds(fused, numerics.fused(dtype)(m, m, m)).all()


def everything_in(x: Interval, dtype: DType, steps: int) -> list[NDArray]:
    """Return the first members of each interval, the last one repeated."""
    place, last = ordinal(x.lo), ordinal(x.hi)
    return [from_ordinal(np.minimum(place + step, last).astype(place.dtype), dtype) for step in range(steps)]


@pytest.mark.parametrize("form", BINARY)
@pytest.mark.parametrize("dtype", SMALL, ids=str)
def test_the_ends_are_results_of_members(form: str, dtype: DType) -> None:
    draws = stream(f"tight/{form}/{dtype}")
    lifted, plain = BINARY[form]
    a, b = some_intervals(draws, dtype, 3000, width=5), some_intervals(draws, dtype, 3000, width=5)
    result = lifted(plain(dtype), a, b)
    values = [plain(dtype)(p, q) for p, q in product(everything_in(a, dtype, 6), everything_in(b, dtype, 6))]
    _same_ends(result, values)


@pytest.mark.parametrize("dtype", SMALL, ids=str)
def test_the_fused_ends_are_results_of_members(dtype: DType) -> None:
    draws = stream(f"tight/fma/{dtype}")
    f = numerics.fused(dtype)
    a, b, c = (some_intervals(draws, dtype, 3000, width=3) for _ in range(3))
    values = [f(*chosen) for chosen in product(*(everything_in(x, dtype, 4) for x in (a, b, c)))]
    _same_ends(intervals.fma(f, a, b, c), values)


def _same_ends(result: Interval, values: list[NDArray]) -> None:
    lo, hi = values[0], values[0]
    for value in values[1:]:
        lo, hi = intervals.lower(lo, value), intervals.upper(hi, value)
    nan = np.logical_or.reduce([np.isnan(value) for value in values])
    assert ((ordinal(lo) == ordinal(result.lo)) | (np.isnan(lo) & np.isnan(result.lo))).all()
    assert ((ordinal(hi) == ordinal(result.hi)) | (np.isnan(hi) & np.isnan(result.hi))).all()
    assert (nan == result.nan).all()


@pytest.mark.parametrize("source", REALS, ids=str)
@pytest.mark.parametrize("target", REALS, ids=str)
def test_casts_of_members_are_in_the_cast(source: DType, target: DType) -> None:
    draws = stream(f"cast/{source}/{target}")
    x = some_intervals(draws, source, COUNT)
    f = numerics.cast(source, target)
    result = intervals.monotone(f, x)
    assert holds(result, f(members(draws, x, source))).all()


@pytest.mark.parametrize("form", ["less", "equal"])
def test_comparisons_are_decided_exactly_where_all_members_agree(form: str) -> None:
    draws = stream(f"compare/{form}")
    a, b = some_intervals(draws, F16, 4000, width=5), some_intervals(draws, F16, 4000, width=5)
    close = draws.integers(0, 1, 4000).astype(np.bool_)
    b = Interval(np.where(close, a.hi, b.lo), np.where(close, np.maximum(a.hi, b.hi), b.hi), b.nan)
    plain = np.less if form == "less" else np.equal
    outcomes = [plain(p, q) for p, q in product(everything_in(a, F16, 6), everything_in(b, F16, 6))]
    wide = ordinal(b.hi).astype(np.int64) - ordinal(b.lo) > 5
    compare = intervals.less if form == "less" else intervals.equal
    holds_, fails = compare(a, b)
    always, never = np.logical_and.reduce(outcomes), ~np.logical_or.reduce(outcomes)
    assert (holds_ == always)[~wide].all()
    assert (fails == never)[~wide].all()


def test_a_comparison_with_a_possible_nan_is_never_certainly_true() -> None:
    one, two = interval(np.array([1.0], np.float32)), interval(np.array([2.0], np.float32))
    unsure = Interval(two.lo, two.hi, np.array([True]))
    assert [v.tolist() for v in intervals.less(one, unsure)] == [[False], [False]]
    assert [v.tolist() for v in intervals.less(one, two)] == [[True], [False]]


@pytest.mark.parametrize(("extreme", "result"), [(intervals.maximum, [-0.0, 0.0]), (intervals.minimum, [-0.0, 0.0])])
def test_the_extreme_of_two_zeros_has_either_sign_where_it_is_free(extreme: Any, result: list[float]) -> None:
    minus, plus = np.array([-0.0], np.float32), np.array([0.0], np.float32)
    free = extreme(minus, plus, free_zero=True)
    assert np.concatenate((free.lo, free.hi)).tobytes() == np.array(result, np.float32).tobytes()
    bound = extreme(minus, plus, free_zero=False)
    assert bound.lo.tobytes() == bound.hi.tobytes()


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_the_extreme_of_equal_zeros_keeps_their_sign(zero: float) -> None:
    x = np.array([zero], np.float32)
    result = intervals.maximum(x, x.copy(), free_zero=True)
    assert result.lo.tobytes() == result.hi.tobytes() == x.tobytes()


def test_nan_may_arise_where_infinities_of_both_signs_can_meet() -> None:
    up, down = _between(1.0, np.inf), _between(-np.inf, -1.0)
    assert intervals.add(np.add, up, down).nan.all()
    assert not intervals.add(np.add, up, up).nan.any()


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_flushing_adds_zeros_of_both_signs_to_subnormals_only(dtype: DType) -> None:
    x = draw(stream(f"flush/{dtype}"), dtype, 300)
    result = interval(intervals.flushed(x, dtype))
    tiny = (np.abs(x.astype(np.float64)) < min_normal(dtype)) & (x != 0)
    both = np.array([-0.0, 0.0]).astype(dtype.numpy)
    assert tiny.any()
    for zero in both:
        assert holds(result, np.full_like(x, zero))[tiny].all()
    assert holds(result, x).all()
    assert (ordinal(result.lo) == ordinal(result.hi))[~tiny].all()


def test_a_member_equals_the_greatest_of_its_set_where_no_other_can_be_greater() -> None:
    ends = np.array([[1.0, 3.0, 2.0], [1.5, 4.0, 2.5]], np.float32)
    x = Interval(ends[0], ends[1], np.zeros(3, np.bool_))
    parts = [_one(x, place) for place in range(3)]
    greatest = intervals.maximum(intervals.maximum(parts[0], parts[1], False), parts[2], False)
    assert [intervals.equal(part, greatest)[0].item() for part in parts] == [False, True, False]
    assert [intervals.equal(part, greatest)[1].item() for part in parts] == [True, False, True]


def test_a_member_that_another_may_exceed_is_not_decided() -> None:
    x = Interval(np.array([1.0, 1.2], np.float32), np.array([1.5, 1.6], np.float32), np.zeros(2, np.bool_))
    parts = [_one(x, place) for place in range(2)]
    greatest = intervals.maximum(parts[0], parts[1], free_zero=False)
    for part in parts:
        assert [v.item() for v in intervals.equal(part, greatest)] == [False, False]


def test_a_different_value_of_the_same_range_is_not_the_greatest() -> None:
    part, other = _between(3.0, 4.0), _between(1.0, 2.0)
    twin = Interval(part.lo, part.hi, part.nan)
    greatest = intervals.maximum(part, other, free_zero=False)
    assert not intervals.equal(twin, greatest)[0].any()
    assert intervals.equal(part, greatest)[0].all()


def test_a_least_member_is_decided_like_a_greatest() -> None:
    x = Interval(np.array([1.0, 3.0], np.float32), np.array([1.5, 4.0], np.float32), np.zeros(2, np.bool_))
    parts = [_one(x, place) for place in range(2)]
    least = intervals.minimum(parts[0], parts[1], free_zero=False)
    assert [intervals.equal(part, least)[0].item() for part in parts] == [True, False]
    assert not intervals.equal(parts[0], intervals.maximum(least, parts[1], free_zero=False))[0].any()


def _between(lo: float, hi: float) -> Interval:
    return Interval(np.array([lo], np.float32), np.array([hi], np.float32), np.array([False]))


def _one(x: Interval, place: int) -> Interval:
    chosen = slice(place, place + 1)
    return Interval(x.lo[chosen], x.hi[chosen], x.nan[chosen])


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_a_decided_maximum_is_right_for_random_members(seed: int) -> None:
    draws = stream(f"argmax/{seed}")
    parts = [some_intervals(draws, F32, 60, width=2**20) for _ in range(4)]
    greatest = parts[0]
    for part in parts[1:]:
        greatest = intervals.maximum(greatest, part, free_zero=False)
    for _ in range(5):
        chosen = [members(draws, part, F32) for part in parts]
        best = np.maximum.reduce(chosen)
        for part, value in zip(parts, chosen, strict=True):
            is_best, is_not = intervals.equal(part, greatest)
            assert (value == best)[is_best].all()
            assert (value != best)[is_not].all()


@pytest.mark.parametrize(
    ("ends", "admitted"),
    [
        ((384, 1e9), (384, 448, True)),
        ((-1e9, 2), (-448, 2, True)),
        ((1, 2), (1, 2, False)),
        ((-1e9, 1e9), (-448, 448, True)),
    ],
)
def test_what_may_overflow_a_dtype_without_infinities_may_be_nan(
    ends: tuple[float, float], admitted: tuple[float, float, bool]
) -> None:
    low, high = (np.array([end], np.float32) for end in ends)
    x = Interval(low, high, np.array([False]))
    made = intervals.overflowing(lambda a: a.astype(F8E4M3FN.numpy), x, F8E4M3FN)
    assert (float(made.lo[0]), float(made.hi[0]), bool(made.nan[0])) == admitted


def test_what_certainly_overflows_a_dtype_without_infinities_is_nan() -> None:
    x = Interval(np.array([1e8], np.float32), np.array([1e9], np.float32), np.array([False]))
    made = intervals.overflowing(lambda a: a.astype(F8E4M3FN.numpy), x, F8E4M3FN)
    assert np.isnan(made.lo[0])
    assert np.isnan(made.hi[0])
    assert made.nan[0]
