"""How good hints are: the planted fault is named for most mutants, and nothing is named where there is nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from portkit.conformance.case import Case, Tier
from portkit.conformance.cases.collect import collect
from portkit.conformance.finding import Check
from portkit.conformance.hints.diagnose import diagnose, guess
from portkit.conformance.hints.scenario import countable, places
from portkit.conformance.hints.symptoms import Evidence, Symptoms
from portkit.conformance.hints.table import IN_PLACE
from portkit.conformance.judge import judge_case, model_of
from portkit.conformance.launching import Launch
from portkit.conformance.mutants.model import ModelDevice
from portkit.conformance.mutants.table import MUTANTS, Mutant
from portkit.conformance.verdict import Verdict
from portkit.contract import Capabilities, find_backend
from portkit.reference.bounds import NumericModel

CAPABILITIES: Capabilities = find_backend("cpu").capabilities
CASES: dict[str, Case] = {case.id: case for case in collect(CAPABILITIES)}


def cause_named(mutant: Mutant) -> str | None:
    """Return what the card of a mutant's witness names, None where the model device does not show the fault."""
    entry = judge_case(CASES[mutant.witness], mutant.plant(ModelDevice(CAPABILITIES).as_client()))
    if entry.card is None or entry.verdict is Verdict.ERROR:
        return None
    return entry.card.cause


def test_the_first_hint_is_the_planted_fault_for_three_quarters_of_every_fourth_mutant() -> None:
    known = [m for m in MUTANTS.values() if m.cause is not None and m.witness]
    planted = {m.name: m.cause.value for m in known[::4] if m.cause is not None}
    named = {name: cause_named(MUTANTS[name]) for name in planted}
    shown = {name: cause for name, cause in named.items() if cause is not None}
    hits = [name for name, cause in shown.items() if cause == planted[name]]
    assert len(shown) >= 60
    assert len(hits) >= 0.75 * len(shown), sorted(set(shown) - set(hits))


def smoke_launches() -> Iterator[tuple[Case, Launch]]:
    """Yield some launches of each kind of case, on a device without a fault."""
    cases = [c for c in CASES.values() if c.trial is not None and c.tier is Tier.SMOKE]
    for case in cases[:: max(1, len(cases) // 16)]:
        assert case.trial is not None
        trial = case.trial()
        if not trial.device_check_only:
            yield case, Launch(trial, ModelDevice(CAPABILITIES).as_client(), model_of(CAPABILITIES), 10.0)


def with_a_flipped_bit(launch: Launch, rng: np.random.Generator) -> Evidence | None:
    """Return the evidence of a launch one of whose output bits is flipped; None where it is still acceptable."""
    accepted = {n: a for n, a in launch.expected(0).items() if n in launch.written() and len(a.lo)}
    if not accepted:
        return None
    name = sorted(accepted)[rng.integers(len(accepted))]
    spoiled = launch.after[name].copy()
    spoiled.view(np.uint8)[rng.integers(spoiled.nbytes)] ^= 1 << rng.integers(8)
    after = {**launch.after, name: spoiled}
    found = Evidence(launch.kernel, launch.trial.scalars, launch.before(0), after, accepted, 0xA5)
    return found if found.wrong else None


def test_one_flipped_bit_gets_no_hint() -> None:
    rng, tried = np.random.default_rng(20261122), 0
    for case, launch in smoke_launches():
        assert launch.run().verdict is Verdict.PASS, case.id
        evidence = with_a_flipped_bit(launch, rng)
        if evidence is not None:
            tried += 1
            assert diagnose(Symptoms(Check.VALUES, case.id, evidence=evidence)) == [], case.id
    assert tried >= 10


def test_a_case_that_passes_has_no_hint() -> None:
    entry = judge_case(CASES["ops/add/f32/random"], ModelDevice(CAPABILITIES).as_client())
    assert entry.verdict is Verdict.PASS
    assert entry.card is None


@pytest.mark.parametrize(
    "case_id", ["ops/mul.add/f16x4/special", "ops/loop.serial/i32/literal_-5", "ops/load.async/f32/own"]
)
def test_every_twist_can_be_asked_about_every_instruction(case_id: str) -> None:
    trial = CASES[case_id].trial
    assert trial is not None
    known = places(countable(trial().kernel))
    with np.errstate(all="ignore"):
        asked = [twist(place, right) for fault in IN_PLACE for twist in fault.twists for place, right in known]
    assert any(function is not None for function in asked)


def test_a_hint_that_fails_costs_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(symptoms: Symptoms) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("portkit.conformance.hints.diagnose.diagnose", broken)
    assert guess(Symptoms(Check.CRASH)) == []


def test_simulations_end_when_their_time_is_up() -> None:
    trial = CASES["ops/add/f32/random"].trial
    assert trial is not None
    launch = Launch(trial(), ModelDevice(CAPABILITIES).as_client(), NumericModel(), 10.0)
    launch.run()
    evidence = with_a_flipped_bit(launch, np.random.default_rng(1))
    assert evidence is not None
    assert diagnose(Symptoms(Check.VALUES, evidence=replace(evidence)), seconds=0.0) == []
