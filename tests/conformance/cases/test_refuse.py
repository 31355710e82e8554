"""The refusals: each is refused with its clause, and the check can fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from portkit.conformance.case import CheckFailed
from portkit.conformance.cases.refuse import FAULTS, refused

NO_DEVICE: Any = None


@pytest.mark.parametrize("name", FAULTS)
def test_a_malformed_kernel_is_refused_with_its_clause(name: str) -> None:
    refused(FAULTS[name], NO_DEVICE)


def test_a_legal_kernel_that_should_be_refused_fails_the_check() -> None:
    with pytest.raises(CheckFailed, match="accepted"):
        refused(replace(FAULTS["legal"], clause="valid_c3"), NO_DEVICE)


def test_a_refusal_with_another_clause_fails_the_check() -> None:
    with pytest.raises(CheckFailed, match="expected nest_c1"):
        refused(replace(FAULTS["undefined_register"], clause="nest_c1"), NO_DEVICE)


def test_a_refused_control_fails_the_check() -> None:
    with pytest.raises(CheckFailed, match="expected"):
        refused(replace(FAULTS["undefined_register"], clause=""), NO_DEVICE)
