"""What one worker does: judge the cases it is given, one after the other, and write each outcome to the journal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from portkit.conformance.case import Case
from portkit.conformance.cases.collect import collect
from portkit.conformance.cases.fuzz import unlisted
from portkit.conformance.journal import Entry, JournalWriter
from portkit.conformance.judge import CASE_SECONDS, judge_case, model_of
from portkit.conformance.mutants.table import find_mutant
from portkit.conformance.ordering import History
from portkit.conformance.verdict import Verdict
from portkit.conformance.waivers import Waiver, apply
from portkit.contract import Capabilities
from portkit.errors import ContractError, DeviceError, HarnessError, NotReachable
from portkit.reference.bounds import NumericModel
from portkit.runtime.client import DeviceClient

PLAN_SUFFIX = ".plan"
LIFELINE_VARIABLE = "PORTKIT_LIFELINE"
"""The environment variable that names the descriptor of the run's lifeline."""
_MARK = "begun-"
_LOST = "lost"
MOST_ILL_CONDITIONED = 0.01
"""The largest share of a case's elements for which nothing may be claimed."""
Collect = Callable[[Capabilities, str], Sequence[Case]]


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the workers of a run share; `groups` are the case ids of each test item."""

    backend: str
    capabilities: Capabilities
    profile: str
    journal: str
    groups: tuple[tuple[str, ...], ...]
    waivers: tuple[Waiver, ...] = ()
    seconds: float = CASE_SECONDS
    suite: str = ""
    """`package.module:FUNCTION` to collect from instead of portkit's own suite."""
    repeat: int = 1
    mutant: str = ""
    """The fault to plant in the device; see `portkit.conformance.mutants`."""


def write_plan(path: Path, plan: Plan) -> None:
    """Write a plan for the workers to read."""
    path.write_bytes(msgspec.json.encode(plan))


def read_plan(path: Path) -> Plan:
    """Read a plan that `write_plan` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=Plan)


def suite_of(reference: str) -> Collect:
    """Return the function that collects a suite; portkit's own for an empty reference.

    What follows a slash, as in `module:FUNCTION/ARGUMENT`, is given to the function as its third argument.
    """
    if not reference:
        return collect
    module, _, name = reference.partition(":")
    name, slash, argument = name.partition("/")
    function: Callable[..., Sequence[Case]] = getattr(__import__(module, fromlist=[name]), name)
    if not slash:
        return function
    return lambda capabilities, profile: function(capabilities, profile, argument)


def open_client(
    backend: str, seconds: float, mutant: str = "", environment: Mapping[str, str] | None = None
) -> DeviceClient:
    """Return a client for a backend, with a fault planted in it if a mutant is named.

    `environment` is added to that of the device process. Raises `UsageError` for an unknown mutant.
    """
    client = DeviceClient(backend, timeout=seconds, environment=environment)
    return find_mutant(mutant).plant(client) if mutant else client


def leave(client: DeviceClient) -> None:
    """Close a client's device in order, so that it leaves nothing behind; its process ends whatever it says."""
    with contextlib.suppress(DeviceError, ContractError):
        client.leave()


def well_conditioned(entry: Entry) -> Entry:
    """Return the entry, as an error where the suite claims nothing for more than 1 % of the case's elements."""
    if entry.ill_conditioned <= MOST_ILL_CONDITIONED * entry.elements:
        return entry
    reason = f"nothing is claimed for {entry.ill_conditioned} of {entry.elements} elements; the case needs other inputs"
    return msgspec.structs.replace(entry, verdict=Verdict.ERROR, reason=reason)


class Worker:
    """Judges cases on one device process; every outcome goes to the journal as soon as it is known."""

    def __init__(
        self, client: DeviceClient, journal: Path, waivers: Sequence[Waiver], seconds: float, repeat: int = 1
    ) -> None:
        self.client = client
        self.writer = JournalWriter(journal)
        self.waivers = waivers
        self.seconds = seconds
        self.repeat = repeat
        self.history = History()
        self.model = model_of(client.capabilities)
        self.declares_less = self.model != NumericModel()
        """Whether the device itself limits what is claimed, which is then no fault of the suite."""

    def judge(self, case: Case) -> Entry:
        """Judge one case and write its entry."""
        entry = judge_case(
            case, self.client, self.model, seconds=self.seconds, repeat=self.repeat, history=self.history
        )
        return self.write(entry if self.declares_less else well_conditioned(entry))

    def write(self, entry: Entry) -> Entry:
        """Write an entry, waived if a waiver covers it."""
        final = apply(self.waivers, entry)
        self.writer.append(final)
        return final

    def close(self) -> None:
        """Close the journal, and the device; a case of its own judges how it closes."""
        self.writer.close()
        leave(self.client)


class PlannedWorker:
    """A worker that knows its cases by id, from a plan."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        """Collect the cases; in `folder` each case is named before it begins, lest this process dies of it."""
        asked = unlisted(plan.capabilities, (case_id for group in plan.groups for case_id in group))
        self.cases = {case.id: case for case in (*suite_of(plan.suite)(plan.capabilities, plan.profile), *asked)}
        client = open_client(plan.backend, plan.seconds, plan.mutant)
        self.worker = Worker(client, Path(plan.journal), plan.waivers, plan.seconds, plan.repeat)
        self._mark = folder / f"{_MARK}{os.getpid()}"
        self._parent = os.getppid()

    def run(self, ids: Iterable[str]) -> None:
        """Judge the cases of one group. Raises `HarnessError` for an id that the suite does not have."""
        for case_id in ids:
            if case_id not in self.cases:
                raise HarnessError(f"no case {case_id} here: the suite depends on more than the capabilities")
            if os.getppid() != self._parent:
                os._exit(1)  # whoever asked is gone, and may already be resuming this very journal
            self._mark.write_text(case_id)
            self.worker.judge(self.cases[case_id])

    def close(self) -> None:
        """Close the journal and end the device process."""
        self.worker.close()


def note_lost(folder: Path, error: NotReachable) -> None:
    """Tell the run and the other workers that the device cannot be reached any more."""
    (folder / _LOST).write_text(str(error))


def lost(folder: Path) -> str:
    """Return why a worker of a folder could not reach the device any more, empty if all could."""
    note = folder / _LOST
    return note.read_text() if note.exists() else ""


def begun(folder: Path) -> set[str]:
    """Return the ids of the cases that the workers of a folder began last."""
    return {mark.read_text() for mark in folder.glob(f"{_MARK}*")}
