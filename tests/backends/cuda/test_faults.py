"""Faults in the printer of the cuda port: the suite finds each, with the interpreter of PTX as the device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from portkit.conformance.case import Case
from portkit.conformance.cases.collect import collect
from portkit.conformance.judge import judge_case
from portkit.conformance.verdict import Verdict
from portkit.runtime.client import DeviceClient
from tests.backends.cuda.faulty import FAULTS, FaultyBackend


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return {case.id: case for case in collect(FaultyBackend("none").capabilities)}


@pytest.fixture(scope="module")
def sound() -> Iterator[DeviceClient]:
    with DeviceClient("portkit.backends.cuda:BACKEND") as client:
        yield client


@pytest.mark.parametrize("name", FAULTS)
def test_the_suite_finds_a_fault_in_the_printer(name: str, cases: dict[str, Case]) -> None:
    with DeviceClient(f"tests.backends.cuda.faulty:{name}") as client:
        outcome = judge_case(cases[FAULTS[name][1]], client)
    assert outcome.verdict is Verdict.FAIL
    # The interpreter knows no instruction that flushes; every other fault is in what the code does.
    assert ("CompileError" in outcome.reason) == (name == "flushed")


@pytest.mark.parametrize("witness", sorted({witness for _, witness in FAULTS.values()}))
def test_the_witness_passes_without_the_fault(witness: str, cases: dict[str, Case], sound: DeviceClient) -> None:
    assert judge_case(cases[witness], sound).verdict is Verdict.PASS
