"""Acceptance sets as files: they admit what the sets admit that they were made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from portkit.conformance.bundle.sets import elements, little, restore, spell
from portkit.reference.acceptance import Acceptance
from portkit.reference.ulp import ordinal
from portkit.spec.types import DTYPES, DType

Array = np.ndarray[Any, Any]
FLOATS = [dtype for dtype in DTYPES.values() if dtype.is_float]
OTHERS = [dtype for dtype in DTYPES.values() if not dtype.is_float and dtype.bytes <= 8]
COUNT = 24


def patterns(dtype: DType, data: st.DataObject) -> Array:
    """Draw elements by their bits: any number, infinity and NaN alike."""
    kind = np.bool_ if dtype.name == "bool" else np.dtype(f"u{dtype.bytes}")
    return data.draw(arrays(kind, COUNT)).view(dtype.numpy)


def bools(data: st.DataObject) -> Array:
    return data.draw(arrays(np.bool_, COUNT))


def float_set(dtype: DType, data: st.DataObject) -> Acceptance:
    """Draw a set as the reference makes them: both ends are numbers in order, or both the same NaN."""
    a, b, nan_bits = patterns(dtype, data), patterns(dtype, data), data.draw(st.booleans())
    with np.errstate(all="ignore"):
        either = np.isnan(a) | np.isnan(b) if not nan_bits else np.isnan(a)
        number = np.where(np.isnan(b), a, b)
        nan = np.array(np.nan, dtype.numpy)
        lo = np.where(ordinal(a) <= ordinal(number), a, number)
        hi = np.where(ordinal(a) <= ordinal(number), number, a)
    lo, hi = np.where(either, a if nan_bits else nan, lo), np.where(either, a if nan_bits else nan, hi)
    lo, hi = lo.astype(dtype.numpy), hi.astype(dtype.numpy)
    return Acceptance(dtype, lo, hi, either | bools(data), bools(data), nan_bits=nan_bits)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@given(data=st.data())
def test_a_set_of_floats_admits_the_same_after_the_way_through_files(dtype: DType, data: st.DataObject) -> None:
    accepted = float_set(dtype, data)
    back = restore(dtype, spell(accepted))
    for actual in (accepted.lo, accepted.hi, patterns(dtype, data)):
        assert np.array_equal(back.accepts(actual), accepted.accepts(actual))


@pytest.mark.parametrize("dtype", OTHERS, ids=str)
@given(data=st.data())
def test_a_choice_admits_the_same_after_the_way_through_files(dtype: DType, data: st.DataObject) -> None:
    options = tuple(patterns(dtype, data) for _ in range(data.draw(st.integers(1, 4))))
    lo, hi = np.minimum.reduce(options), np.maximum.reduce(options)
    accepted = Acceptance(dtype, lo, hi, np.zeros(COUNT, np.bool_), bools(data), options)
    back = restore(dtype, spell(accepted))
    for actual in (*options, patterns(dtype, data)):
        assert np.array_equal(back.accepts(actual), accepted.accepts(actual))


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.bytes > 1], ids=str)
def test_elements_are_little_endian_in_files(dtype: DType) -> None:
    array = np.array([1], f"u{dtype.bytes}").view(dtype.numpy)
    assert little(array) == b"\1" + bytes(dtype.bytes - 1)
    assert little(elements(little(array), dtype)) == little(array)


def test_a_set_of_one_value_is_one_file_and_flags_of_nothing_are_none() -> None:
    ones = np.ones(4, np.float32)
    nothing = np.zeros(4, np.bool_)
    spelt = spell(Acceptance(DTYPES["f32"], ones, ones.copy(), nothing, nothing))
    assert (len(spelt.values), spelt.flags) == (1, b"")
