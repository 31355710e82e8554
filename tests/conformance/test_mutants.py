"""Seeded faults: each is found by its witness, on the cpu backend and on the model device, and the card names it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
import pytest

from portkit.conformance.case import Case, CheckFailed, Tier
from portkit.conformance.cases.collect import collect
from portkit.conformance.judge import CASE_SECONDS, judge_case, model_of
from portkit.conformance.launching import Launch
from portkit.conformance.mutants import generated
from portkit.conformance.mutants.model import ModelDevice
from portkit.conformance.mutants.mutant import Mutant
from portkit.conformance.mutants.table import MUTANTS, ROWS, find_mutant
from portkit.conformance.verdict import Verdict
from portkit.contract import Capabilities, find_backend
from portkit.errors import InvalidKernelError, PortkitError, UsageError
from portkit.reference.checks import check
from portkit.runtime.client import DeviceClient
from portkit.spec.verify import verify

KILLED = [m for m in MUTANTS.values() if not m.equivalent]
REWRITING = [m for m in KILLED if m.level == "kernel" and not m.witness.startswith("device/")]
ON_CPU = [m for m in KILLED if m not in generated.MUTANTS] + list(generated.MUTANTS[::3])
"""Those that are planted in the cpu backend too: of the generated ones a third, for the time it takes."""
EQUIVALENT = [m for m in MUTANTS.values() if m.equivalent]


@pytest.fixture(scope="module")
def capabilities() -> Capabilities:
    return find_backend("cpu").capabilities


@pytest.fixture(scope="module")
def cases(capabilities: Capabilities) -> dict[str, Case]:
    return {case.id: case for case in collect(capabilities)}


@pytest.fixture(scope="module")
def client() -> Iterator[DeviceClient]:
    with DeviceClient("cpu") as opened:
        yield opened


def named(mutant: Mutant) -> str:
    return mutant.name


def test_there_are_at_least_300_mutants_to_kill() -> None:
    assert len(KILLED) >= 300


def test_names_differ() -> None:
    assert len(MUTANTS) == len(ROWS)


@pytest.mark.parametrize("mutant", KILLED, ids=named)
def test_a_mutant_says_what_it_does_and_what_a_hint_should_name(mutant: Mutant) -> None:
    assert mutant.summary
    assert mutant.cause is not None


@pytest.mark.parametrize("mutant", KILLED, ids=named)
def test_the_witness_is_run_by_the_standard_tier(mutant: Mutant, cases: dict[str, Case]) -> None:
    assert cases[mutant.witness].tier in (Tier.SMOKE, Tier.STANDARD)


@pytest.mark.parametrize("mutant", REWRITING, ids=named)
def test_a_rewriting_changes_its_witness_into_a_kernel_that_the_spec_admits(
    mutant: Mutant, cases: dict[str, Case]
) -> None:
    make = cases[mutant.witness].trial
    assert make is not None
    assert not isinstance(mutant.fault, type)
    kernel = make().kernel
    changed = mutant.fault(kernel)
    verify(changed)
    assert mutant.rewrites(kernel)
    assert changed != kernel


@pytest.mark.parametrize("mutant", ON_CPU, ids=named)
def test_the_witness_kills_the_mutant_on_the_cpu(mutant: Mutant, cases: dict[str, Case], client: DeviceClient) -> None:
    assert finds(cases[mutant.witness], mutant.plant(client))


def finds(case: Case, device: DeviceClient) -> bool:
    """Whether a case fails on a device, judged once: without the restarts that confirm a failure."""
    if case.trial is not None:
        found = Launch(case.trial(), device, model_of(device.capabilities), CASE_SECONDS).run()
        return found.verdict is not Verdict.PASS
    assert case.check is not None
    with suppress(PortkitError):
        return fails(case.check, device)
    return True


def fails(check: Callable[[DeviceClient], None], device: DeviceClient) -> bool:
    """Whether a check of the device's functions says what is wrong."""
    try:
        check(device)
    except CheckFailed:
        return True
    return False


@pytest.mark.parametrize("witness", sorted({m.witness for m in ON_CPU}))
def test_the_witness_passes_on_the_cpu(witness: str, cases: dict[str, Case], client: DeviceClient) -> None:
    assert not finds(cases[witness], client)


@pytest.mark.parametrize("witness", sorted({m.witness for m in KILLED}))
def test_the_witness_passes_on_the_model_device(
    witness: str, cases: dict[str, Case], capabilities: Capabilities
) -> None:
    assert judge_case(cases[witness], ModelDevice(capabilities).as_client()).verdict is Verdict.PASS


@pytest.mark.parametrize("mutant", KILLED, ids=named)
def test_the_witness_kills_the_mutant_on_the_model_device_and_the_card_names_the_fault(
    mutant: Mutant, cases: dict[str, Case], capabilities: Capabilities
) -> None:
    case = cases[mutant.witness]
    outcome = judge_case(case, mutant.plant(ModelDevice(capabilities).as_client()))
    if outcome.verdict.passes:
        assert becomes_invalid(mutant, case)
        return
    assert outcome.verdict is not Verdict.ERROR
    assert mutant.suspect, "a mutant says what it accuses"
    assert outcome.card is not None
    assert outcome.card.suspect.startswith(mutant.suspect)


def becomes_invalid(mutant: Mutant, case: Case) -> bool:
    """Whether the fault makes the witness a kernel that no device owes anything, such as one with a race."""
    assert case.trial is not None
    assert not isinstance(mutant.fault, type)
    trial = case.trial()
    zeros = {b.name: np.zeros(b.extent.evaluate(trial.scalars), b.dtype.numpy) for b in trial.kernel.buffers}
    try:
        check(mutant.fault(trial.kernel), trial.scalars, {**zeros, **trial.inputs})
    except InvalidKernelError:
        return True
    return False


@pytest.mark.parametrize("mutant", EQUIVALENT, ids=named)
def test_an_equivalent_mutant_passes_the_cases_of_its_form(
    mutant: Mutant, cases: dict[str, Case], client: DeviceClient
) -> None:
    about = [case for id_, case in cases.items() if id_.startswith(f"ops/{mutant.suspect}/")]
    assert about
    assert all(judge_case(case, mutant.plant(client)).verdict is Verdict.PASS for case in about)


def test_an_unknown_mutant_is_refused_with_near_names() -> None:
    with pytest.raises(UsageError, match="barrier-dropped"):
        find_mutant("barrier-droped")
