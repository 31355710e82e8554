"""Faults planted in what the port prints: each is found by a case of the suite, by its results alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from portkit.backends.opencl import BACKEND
from portkit.conformance.case import Case, Tier
from portkit.conformance.cases.collect import collect
from portkit.conformance.judge import judge_case
from portkit.conformance.verdict import Verdict
from portkit.runtime.client import DeviceClient
from tests.backends.opencl.faulty import FAULTS


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    if reason := BACKEND.probe():
        pytest.skip(reason)
    return {case.id: case for case in collect(BACKEND.capabilities)}


@pytest.fixture(scope="module")
def right(cases: dict[str, Case]) -> Iterator[DeviceClient]:
    assert cases
    with DeviceClient("portkit.backends.opencl:BACKEND") as client:
        yield client


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_printed_text_is_found(name: str, cases: dict[str, Case]) -> None:
    witness = cases[FAULTS[name].witness]
    assert witness.tier in (Tier.SMOKE, Tier.STANDARD)
    with DeviceClient(f"tests.backends.opencl.faulty:{name}") as client:
        outcome = judge_case(witness, client)
    assert outcome.verdict in (Verdict.FAIL, Verdict.CRASH)
    assert "Error" not in outcome.reason, "the faulty text compiles and runs"


@pytest.mark.parametrize("witness", sorted({fault.witness for fault in FAULTS.values()}))
def test_the_text_without_a_fault_passes(witness: str, cases: dict[str, Case], right: DeviceClient) -> None:
    assert judge_case(cases[witness], right).verdict is Verdict.PASS
