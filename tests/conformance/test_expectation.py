"""The digest of outputs that the spec fixes bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from portkit.conformance.expectation import outputs_digest
from portkit.spec.types import BF16, F16, F32, F64, DType

SIGNALLING = {"f16": 0x7C01, "bf16": 0x7F81, "f32": 0x7F800001, "f64": 0x7FF0000000000001}


@pytest.mark.parametrize("dtype", [F16, BF16, F32, F64], ids=str)
def test_every_nan_counts_as_the_same_one_and_asking_warns_of_nothing(dtype: DType) -> None:
    signalling = np.array([SIGNALLING[dtype.name]], f"u{dtype.bytes}").view(dtype.numpy)
    quiet = np.array([np.nan], dtype.numpy)
    assert outputs_digest({"out": signalling}) == outputs_digest({"out": quiet})


def test_zeros_of_both_signs_differ() -> None:
    assert outputs_digest({"out": np.array([0.0])}) != outputs_digest({"out": np.array([-0.0])})


def test_the_order_in_which_buffers_are_given_does_not_matter() -> None:
    a, b = np.arange(3), np.arange(4)
    assert outputs_digest({"a": a, "b": b}) == outputs_digest({"b": b, "a": a})


def test_swapped_contents_differ() -> None:
    a, b = np.arange(3), np.arange(3)[::-1].copy()
    assert outputs_digest({"a": a, "b": b}) != outputs_digest({"a": b, "b": a})
