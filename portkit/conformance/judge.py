"""Judge one case on one device and make its journal entry, with a failure card where it does not pass.

A launch is judged in `portkit.conformance.launching`, a graph in `portkit.conformance.graphs`.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import msgspec

from portkit.conformance.card import Card, clip, replay_line, suspect
from portkit.conformance.case import Case, CheckFailed, Trial
from portkit.conformance.confirming import Confirming
from portkit.conformance.determinism import certified
from portkit.conformance.finding import Check, Finding, failed_call
from portkit.conformance.graphs import GraphRun
from portkit.conformance.journal import Entry
from portkit.conformance.launching import Launch
from portkit.conformance.ordering import History
from portkit.conformance.outcome import card_of, entry_of
from portkit.conformance.support import undeclared
from portkit.conformance.verdict import Verdict
from portkit.contract import Capabilities
from portkit.errors import ContractError, DeviceError, NotReachable
from portkit.reference.bounds import NumericModel
from portkit.runtime.client import DeviceClient

Outcome: TypeAlias = Entry
CASE_SECONDS = 10.0
"""Time limit of one launch, compilation included."""


def model_of(capabilities: Capabilities) -> NumericModel:
    """Return how the device computes with floats, as the reference takes it."""
    flush = {name for name, how in capabilities.numeric.subnormals.items() if how == "flush"}
    if "f32" in flush and "bf16" not in capabilities.dtypes:
        flush.add("bf16")  # it is carried in f32, whose subnormals are its own
    return NumericModel(flush=frozenset(flush), nonfinite=capabilities.numeric.nonfinite)


def judge_case(
    case: Case,
    client: DeviceClient,
    model: NumericModel | None = None,
    *,
    seconds: float = CASE_SECONDS,
    repeat: int = 1,
    history: History | None = None,
) -> Outcome:
    """Run a case and return its journal entry; never raises for what a backend, or the case itself, does.

    Raises `NotReachable` where a device elsewhere cannot be reached any more, which is nobody's verdict.

    `model` is by default what the client's backend declares; `seconds` is the time limit of one launch. With a `repeat`
    of 2 or more each launch that passes runs so often, and in other orders of its work-groups, and is compared.
    `history` is what ran in the client's process before, and gets the case added; with it a failure that depends on the
    order is told from others.
    """
    started = time.perf_counter()
    given = _Given(client, model or model_of(client.capabilities), seconds, repeat)
    try:
        entry = _judge(case, given, history)
    except NotReachable as error:
        raise NotReachable(f"the connection was lost at case {case.id}: {error}") from error
    except Exception as error:  # noqa: BLE001 - whatever is wrong here is ours, and must not end the run
        detail = "".join(traceback.format_exception(error))
        card = Card(suspect="portkit", replay=replay_line(client.reference, case), detail=clip(detail))
        reason = f"{type(error).__name__}: {error}"
        entry = Entry(case.id, Verdict.ERROR, case.level.value, reason=reason, card=card)
    cells = tuple(str(cell) for cell in case.cells)
    return msgspec.structs.replace(entry, cells=cells, seconds=round(time.perf_counter() - started, 6))


@dataclass(frozen=True, slots=True)
class _Given:
    """What every attempt is made with."""

    client: DeviceClient
    model: NumericModel
    seconds: float
    repeat: int


def _judge(case: Case, given: _Given, history: History | None) -> Entry:
    attempt = _attempt(case, given)
    if isinstance(attempt, str):
        return Entry(case.id, Verdict.UNSUPPORTED, case.level.value, reason=attempt)
    found = Confirming(attempt, given.client, history, partial(_replay, given)).run()
    if history is not None:
        history.add(case, given.client.restarts)
    card = None if found.verdict is Verdict.PASS else _card(case, given, attempt, found)
    return entry_of(found, case.id, case.level, card)


def _attempt(case: Case, given: _Given) -> Attempt | str:
    """Return what runs a case once, or what it needs beyond the declared capabilities."""
    client, model, seconds = given.client, given.model, given.seconds
    judged = partial(certified, runs=given.repeat)
    if case.graph is not None:
        return GraphRun(case.graph(client.capabilities), client, model, seconds, judged)
    if case.trial is None:
        return _Check(case, client)
    trial = case.trial()
    return undeclared(trial.kernel, client.capabilities) or _Launched(Launch(trial, client, model, seconds), judged)


def _replay(given: _Given, case: Case, briefly: bool) -> None:
    """Run a case once more for what it leaves behind in the device process."""
    attempt = _attempt(case, given)
    if isinstance(attempt, _Launched) and briefly:
        with contextlib.suppress(DeviceError, ContractError):
            attempt.launch.send()
    elif not isinstance(attempt, str):
        attempt.run()


class _Launched:
    """A case of one launch."""

    def __init__(self, launch: Launch, judged: Callable[[Launch], Finding]) -> None:
        self.launch = launch
        self.trial: Trial | None = launch.trial
        self._judged = judged

    def run(self) -> Finding:
        return self._judged(self.launch)


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


Attempt: TypeAlias = _Check | _Launched | GraphRun


# --- the card -----------------------------------------------------------------------------------------------------


def _card(case: Case, given: _Given, attempt: Attempt, found: Finding) -> Card:
    trial = attempt.trial
    source = _source(given.client, trial) if trial else ""
    replay = _replay_line(case, given, found)
    return card_of(found, case.id, suspect(case), trial, source=source, replay=replay, hints=True)


def _replay_line(case: Case, given: _Given, found: Finding) -> str:
    """Return the command that shows the same again: with the cases before it, or as often, as it takes."""
    line = replay_line(given.client.reference, case)
    before = " ".join(f"--case '{name}'" for name in found.after)
    line = line.replace(" --case ", f" --in-order {before} --case ", 1) if before else line
    return f"{line} --repeat {given.repeat}" if given.repeat > 1 and found.check is Check.REPEAT else line


def _source(client: DeviceClient, trial: Trial) -> str:
    """Return the generated source, empty where the device cannot say."""
    try:
        return client.compile(trial.kernel).source
    except (DeviceError, ContractError):
        return ""
