"""The judge that docs/bundles.md shows, in its few lines, finds what portkit finds."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conformance.bundle.bundles import bundle_file, case, index, outputs

PAGE = Path(__file__).parents[3] / "docs" / "bundles.md"
CASE = "ops/mov.sqrt/f32/special"
Judge = Callable[[Path, str, bytes], int]


@pytest.fixture(scope="module")
def judge() -> Judge:
    code = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(code[0], names)
    return names["wrong_elements"]


def image() -> bytes:
    return outputs()[case(index(), CASE)["launches"][0]["after"]]


def test_right_outputs_have_no_wrong_elements(tmp_path: Path, judge: Judge) -> None:
    assert judge(bundle_file(tmp_path), CASE, image()) == 0


@pytest.mark.parametrize("at", [0, 256, -1])
def test_a_byte_outside_of_the_results_is_found(tmp_path: Path, judge: Judge, at: int) -> None:
    changed = bytearray(image())
    changed[at] ^= 1
    assert judge(bundle_file(tmp_path), CASE, bytes(changed)) == 1


def test_a_root_that_is_one_in_a_thousand_too_large_is_found(tmp_path: Path, judge: Judge) -> None:
    changed = bytearray(image())
    out = case(index(), CASE)["buffers"][-1]
    results = np.frombuffer(changed, "<f4", out["extent"], out["offset"])
    numbers = np.flatnonzero(np.isfinite(results) & (results > 1))
    results[numbers] = results[numbers] * np.float32(1.001)
    assert judge(bundle_file(tmp_path), CASE, bytes(changed)) == len(numbers) > 10


def test_a_negative_zero_where_zero_is_due_is_found(tmp_path: Path, judge: Judge) -> None:
    changed = bytearray(image())
    out = case(index(), CASE)["buffers"][-1]
    results = np.frombuffer(changed, "<f4", out["extent"], out["offset"])
    zeros = np.flatnonzero((results == 0) & ~np.signbit(results))
    results[zeros] = -0.0
    assert judge(bundle_file(tmp_path), CASE, bytes(changed)) == len(zeros) > 0
