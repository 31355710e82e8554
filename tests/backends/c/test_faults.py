"""Faults in the C text are found by the suite, each by the case that is about it, which passes without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from portkit.backends.c import BACKEND
from portkit.conformance.case import Case
from portkit.conformance.cases.collect import collect
from portkit.conformance.judge import judge_case
from portkit.runtime.client import DeviceClient
from tests.backends.c.faults import FAULTS
from tests.backends.c.opening import needs_the_backend

pytestmark = needs_the_backend


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return {case.id: case for case in collect(BACKEND.capabilities)}


@pytest.fixture(scope="module")
def right() -> Iterator[DeviceClient]:
    with DeviceClient("portkit.backends.c:BACKEND") as client:
        yield client


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_text_is_found_by_its_witness(cases: dict[str, Case], right: DeviceClient, name: str) -> None:
    case = cases[FAULTS[name].witness]
    assert judge_case(case, right).verdict.passes
    with DeviceClient(f"tests.backends.c.faults:{name}", timeout=20.0) as client:
        assert not judge_case(case, client).verdict.passes
