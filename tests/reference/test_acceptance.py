"""Acceptance sets: the least error outside is rejected, the largest inside is not; distances and texts are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from portkit.reference.acceptance import Acceptance, acceptance
from portkit.reference.bounds import bounds
from portkit.reference.generator import stream
from portkit.reference.planes import Choices, Interval
from portkit.reference.ulp import next_down, next_up
from portkit.spec.forms import CLASSES, FORMS, Form, accuracy
from portkit.spec.types import BOOL, DTYPES, F32, I32, DType, Type, parse_type
from tests.reference.floats import draw
from tests.reference.kernels import one_form

ROUNDED = {"add": 2, "mul": 2, "mul.add": 3}
COUNT = 256


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with np.errstate(all="ignore"):
        yield


def float_forms() -> list[tuple[Form, DType, int]]:
    """Return every float form that computes, with each dtype and its number of operands."""
    found: list[tuple[Form, DType, int]] = []
    for form in FORMS.values():
        if form.name in ROUNDED or form.extension == "math" or (form.name.startswith("reduce.m") and form.is_base):
            operands = ROUNDED.get(form.name, 1 if form.extension else 2)
        elif form.name.startswith("reduce.group."):
            operands = 1
        else:
            continue
        found += [(form, d, operands) for d in form.dtypes("T") if d.name in CLASSES["real"]]
    return found


@pytest.mark.parametrize(("form", "dtype", "operands"), float_forms(), ids=lambda v: getattr(v, "name", str(v)))
def test_an_error_just_outside_is_rejected_and_one_just_inside_is_not(form: Form, dtype: DType, operands: int) -> None:
    draws = stream(f"inject/{form.name}/{dtype}")
    inputs = {f"x{k}": draw(draws, dtype, COUNT) for k in range(operands)}
    if form.effect == "sync":  # sums of wide numbers claim little: use numbers near one
        inputs = {"x0": (draws.floats(COUNT) + 0.5).astype(dtype.numpy)}
    result = bounds(one_form(form.name, dtype.name, operands, COUNT), {}, inputs)["out"]
    _reject_neighbours(result, dtype)
    claimed = ~result.ill_conditioned
    assert claimed.mean() > 0.9
    assert result.accepts(result.lo)[claimed].all()
    assert result.accepts(result.hi)[claimed].all()
    assert (result.error_share(result.lo)[claimed] < 1).all()


def _reject_neighbours(result: Acceptance, dtype: DType) -> None:
    numbers = ~np.isnan(result.lo)
    assert numbers.any()
    for outside, end in ((next_down(result.lo, dtype), result.lo), (next_up(result.hi, dtype), result.hi)):
        moved = numbers & (outside != end)
        assert moved.any()
        assert not result.accepts(outside)[moved].any()
        assert (result.distance_ulp(outside)[moved] > 0).all()
        assert (result.error_share(outside)[moved] >= 1).all()
    assert not result.accepts(np.full_like(result.lo, np.nan))[~result.may_nan].any()


@pytest.mark.parametrize("source", CLASSES["real"])
@pytest.mark.parametrize("target", CLASSES["real"])
def test_a_cast_that_is_one_place_off_is_rejected(source: str, target: str) -> None:
    x = draw(stream(f"cast/{source}/{target}"), DTYPES[source], COUNT)
    result = bounds(one_form("mov.cast", source, 1, COUNT, result=target), {}, {"x0": x})["out"]
    assert result.determined.all()
    _reject_neighbours(result, DTYPES[target])


@pytest.mark.parametrize("dtype", ["f16", "f32", "f64"])
def test_the_width_of_a_native_form_is_that_of_the_table(dtype: str) -> None:
    for form in (f for f in FORMS.values() if f.extension == "math" and f.kind != "trunc"):
        x = np.full(COUNT, 1.3).astype(DTYPES[dtype].numpy)
        result = bounds(one_form(form.name, dtype, 1, COUNT), {}, {"x0": x})["out"]
        floats_inside = (
            result.hi[:1].view(f"i{DTYPES[dtype].bytes}") - result.lo[:1].view(f"i{DTYPES[dtype].bytes}") + 1
        )
        bound = accuracy(form.name, DTYPES[dtype])
        assert 2 * bound - 1 <= abs(int(floats_inside[0])) <= 2 * bound + 1


@pytest.mark.parametrize("form", ["add", "mul", "mul.hi", "mul.shl", "mul.shr", "reduce.max", "reduce.xor"])
@pytest.mark.parametrize("dtype", CLASSES["int"])
def test_an_integer_that_is_one_off_is_rejected(form: str, dtype: str) -> None:
    draws, numpy = stream(f"{form}/{dtype}"), DTYPES[dtype].numpy
    inputs = {f"x{k}": draws.bits(2 * COUNT).view(numpy)[:COUNT].copy() for k in range(2)}
    result = bounds(one_form(form, dtype, 2, COUNT), {}, inputs)["out"]
    assert result.accepts(result.lo).all()
    assert not result.accepts(result.lo ^ numpy.type(1)).any()
    assert set(result.distance_ulp(result.lo ^ numpy.type(1)).tolist()) == {1.0}


# --- the record itself --------------------------------------------------------------------------------------------


def floats(*numbers: float) -> NDArray:
    return np.array(numbers, np.float32)


def between(lo: float, hi: float, nan: bool = False) -> Acceptance:
    return acceptance(F32, Interval(floats(lo), floats(hi), np.array([nan])), nan_bits=False)


@pytest.mark.parametrize(
    ("lo", "hi", "accepted"),
    [(0.0, 1.0, [True, False]), (-1.0, -0.0, [False, True]), (-0.0, 0.0, [True, True]), (0.0, 0.0, [True, False])],
)
def test_a_zero_is_accepted_with_the_signs_that_the_interval_holds(lo: float, hi: float, accepted: list[bool]) -> None:
    assert [bool(between(lo, hi).accepts(floats(zero))[0]) for zero in (0.0, -0.0)] == accepted


def test_nan_is_accepted_where_it_may_be_with_any_payload() -> None:
    payload = np.array([0xFFC12345], np.uint32).view(np.float32)
    assert between(1.0, 2.0, nan=True).accepts(payload).all()
    assert between(np.nan, np.nan, nan=True).accepts(payload).all()
    assert not between(1.0, 2.0).accepts(payload).any()
    assert not between(np.nan, np.nan, nan=True).accepts(floats(1.0)).any()


def test_the_distance_is_in_ulp_of_the_nearer_end() -> None:
    ends = between(1.0, 2.0)
    for value, distance in ((1.5, 0.0), (1.0 - 2.0**-24, 0.5), (1.0 - 2.0**-22, 2.0), (2.0 + 2.0**-20, 4.0)):
        assert ends.distance_ulp(floats(value)).tolist() == [distance]
    assert ends.distance_ulp(floats(np.inf)).tolist() == ends.distance_ulp(floats(np.nan)).tolist() == [np.inf]


def test_the_share_of_the_error_is_zero_at_the_centre_and_above_one_outside() -> None:
    ends = between(1.0, 1.0 + 2.0**-20)
    inside, outside = ends.error_share(floats(1.0 + 2.0**-21)), ends.error_share(floats(1.0 + 2.0**-19))
    assert inside.tolist() == [0.0]
    assert outside[0] > 2
    assert between(3.0, 3.0).error_share(floats(3.0)).tolist() == [0.0]
    assert between(3.0, np.inf).error_share(floats(9.0)).tolist() == [0.0]
    assert between(3.0, np.inf).error_share(floats(-9.0)).tolist() == [np.inf]
    assert between(3.0, 4.0).error_share(floats(np.nan)).tolist() == [np.inf]


def integers(*options: int, free: bool = False) -> Acceptance:
    return acceptance(I32, Choices(tuple(np.array([o], np.int32) for o in options), np.array([free])), nan_bits=False)


def test_integers_are_accepted_by_alternative() -> None:
    some = integers(3, 9)
    assert [bool(some.accepts(np.array([v], np.int32))[0]) for v in (3, 6, 9)] == [True, False, True]
    assert some.distance_ulp(np.array([5], np.int32)).tolist() == [2.0]
    assert (some.lo.tolist(), some.hi.tolist(), some.determined.tolist()) == ([3], [9], [False])
    assert integers(3).determined.tolist() == [True]


def test_the_distance_between_the_extremes_of_a_dtype_does_not_wrap() -> None:
    assert integers(2**31 - 1).distance_ulp(np.array([-(2**31)], np.int32)).tolist() == [2.0**32 - 1]


def test_the_distance_of_truth_from_falsehood_is_one() -> None:
    truth = acceptance(BOOL, Choices((np.array([True, False]),), np.array([False, False])), nan_bits=False)
    assert truth.distance_ulp(np.array([False, False])).tolist() == [1.0, 0.0]


def test_an_unknown_integer_accepts_everything_and_says_so() -> None:
    unknown = integers(3, free=True)
    assert unknown.ill_conditioned.tolist() == [True]
    assert unknown.accepts(np.array([-77], np.int32)).all()
    assert "nothing is claimed" in unknown.describe(0)


@pytest.mark.parametrize(
    ("of", "text"),
    [
        (between(1.0, 1.0), "1.0 (0x3f800000)"),
        (between(1.0, 1.5), "1.0 (0x3f800000) .. 1.5 (0x3fc00000)"),
        (between(-0.0, 0.0), "-0.0 (0x80000000) .. 0.0 (0x00000000)"),
        (between(1.0, 1.5, nan=True), "1.0 (0x3f800000) .. 1.5 (0x3fc00000) or NaN"),
        (between(np.nan, np.nan, nan=True), "NaN (any payload)"),
        (integers(7), "7 (0x00000007)"),
        (integers(-1, 7), "-1 (0xffffffff) or 7 (0x00000007)"),
    ],
    ids=str,
)
def test_a_description_names_what_is_admitted_in_decimal_and_hexadecimal(of: Acceptance, text: str) -> None:
    assert of.describe(0) == text


def test_every_dtype_of_a_buffer_can_be_described() -> None:
    for name in (*CLASSES["int"], *CLASSES["real"]):
        dtype = parse_type(name).dtype
        assert Type(dtype)
        assert acceptance(dtype, np.ones(1, dtype.numpy), nan_bits=False).describe(0).startswith("1")
