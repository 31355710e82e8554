"""Judge one case on one device and make its journal entry, with a failure card where it does not pass.

A launch is judged in `portkit.conformance.launching`, a graph in `portkit.conformance.graphs`.
"""

from __future__ import annotations

import time
import traceback
from dataclasses import replace
from typing import TypeAlias

import msgspec

from portkit.conformance.card import Card, clip, kernel_text, replay_line, suspect
from portkit.conformance.case import Case, CheckFailed, Trial
from portkit.conformance.finding import Check, Finding, failed_call
from portkit.conformance.graphs import GraphRun
from portkit.conformance.journal import Entry
from portkit.conformance.launching import Launch
from portkit.conformance.support import undeclared
from portkit.conformance.verdict import Verdict
from portkit.contract import Capabilities
from portkit.errors import ContractError, DeviceError
from portkit.reference.bounds import NumericModel
from portkit.runtime.client import DeviceClient

Outcome: TypeAlias = Entry
CASE_SECONDS = 10.0
"""Time limit of one launch, compilation included."""
_RERUNS = {Verdict.FAIL: 2, Verdict.CRASH: 1, Verdict.TIMEOUT: 1}


def model_of(capabilities: Capabilities) -> NumericModel:
    """Return how the device computes with floats, as the reference takes it."""
    flush = {name for name, how in capabilities.numeric.subnormals.items() if how == "flush"}
    if "f32" in flush and "bf16" not in capabilities.dtypes:
        flush.add("bf16")  # it is carried in f32, whose subnormals are its own
    return NumericModel(flush=frozenset(flush), nonfinite=capabilities.numeric.nonfinite)


def judge_case(
    case: Case, client: DeviceClient, model: NumericModel | None = None, *, seconds: float = CASE_SECONDS
) -> Outcome:
    """Run a case and return its journal entry; never raises for what a backend, or the case itself, does.

    `model` is by default what the client's backend declares; `seconds` is the time limit of one launch.
    """
    started = time.perf_counter()
    try:
        entry = _judge(case, client, model or model_of(client.capabilities), seconds)
    except Exception as error:  # noqa: BLE001 - whatever is wrong here is ours, and must not end the run
        detail = "".join(traceback.format_exception(error))
        card = Card(suspect="portkit", replay=replay_line(client.reference, case), detail=clip(detail))
        reason = f"{type(error).__name__}: {error}"
        entry = Entry(case.id, Verdict.ERROR, case.level.value, reason=reason, card=card)
    cells = tuple(str(cell) for cell in case.cells)
    return msgspec.structs.replace(entry, cells=cells, seconds=round(time.perf_counter() - started, 6))


def _judge(case: Case, client: DeviceClient, model: NumericModel, seconds: float) -> Entry:
    if case.graph is not None:
        attempt: Attempt = GraphRun(case.graph(client.capabilities), client, model, seconds)
    elif case.trial is None:
        attempt = _Check(case, client)
    else:
        trial = case.trial()
        missing = undeclared(trial.kernel, client.capabilities)
        if missing:
            return Entry(case.id, Verdict.UNSUPPORTED, case.level.value, reason=missing)
        attempt = Launch(trial, client, model, seconds)
    found = _confirmed(attempt, client)
    return Entry(
        id=case.id,
        verdict=found.verdict,
        level=case.level.value,
        reason=found.reason,
        elements=found.elements,
        wrong=found.wrong,
        ill_conditioned=found.ill_conditioned,
        error_share=found.error_share,
        ulp=found.ulp,
        digest=found.digest,
        reference_digest=found.reference_digest,
        device_seconds=round(found.device_seconds, 6),
        check=found.check.value if found.check else "",
        card=None if found.verdict is Verdict.PASS else _card(case, client, attempt, found),
    )


def _confirmed(attempt: Attempt, client: DeviceClient) -> Finding:
    """Run once; what did not pass runs again, and is flaky if it passes then."""
    first = attempt.run()
    for _ in range(_RERUNS.get(first.verdict, 0)):
        again = attempt.run()
        if again.verdict is Verdict.PASS:
            reason = f"{first.verdict.value} at first, then passed: {first.reason}"
            return replace(
                first,
                verdict=Verdict.FLAKY,
                check=Check.REPEAT,
                reason=reason,
                suspect=first.suspect or "launch: results vary",
            )
    if first.verdict is not Verdict.PASS:
        client.kill()  # it may have damaged its process; the next case starts with a fresh one
    return first


# --- a check ------------------------------------------------------------------------------------------------------


class _Check:
    """A case that talks to the device itself."""

    trial: Trial | None = None

    def __init__(self, case: Case, client: DeviceClient) -> None:
        self.case = case
        self.client = client

    def run(self) -> Finding:
        assert self.case.check is not None
        try:
            self.case.check(self.client)
        except CheckFailed as error:
            return Finding(Verdict.FAIL, str(error), Check.DEVICE)
        except (DeviceError, ContractError) as error:
            return failed_call(error, self.client)
        return Finding(Verdict.PASS)


Attempt: TypeAlias = _Check | Launch | GraphRun


# --- the card -----------------------------------------------------------------------------------------------------


def _card(case: Case, client: DeviceClient, attempt: Attempt, found: Finding) -> Card:
    trial = attempt.trial
    return Card(
        suspect=found.suspect or suspect(case),
        replay=replay_line(client.reference, case),
        kernel=kernel_text(trial.kernel) if trial else "",
        scalars={name: repr(value) for name, value in trial.scalars.items()} if trial else {},
        mismatch=found.mismatch,
        hint=found.hint,
        wrong=found.wrong,
        elements=found.elements,
        source=clip(_source(client, trial)) if trial else "",
        detail=clip(found.detail),
    )


def _source(client: DeviceClient, trial: Trial) -> str:
    """Return the generated source, empty where the device cannot say."""
    try:
        return client.compile(trial.kernel).source
    except (DeviceError, ContractError):
        return ""
