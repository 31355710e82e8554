"""Look closer at what failed, once the verdicts are known: where it first goes wrong, and a smaller kernel that does.

Both take many launches, so they are for the first failure of each suspect. Verdicts stay as they are: the entries go
to the journal once more, with fuller cards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import msgspec

from portkit.conformance import journal as journals
from portkit.conformance.card import Divergence, Reduced
from portkit.conformance.case import Case, Trial
from portkit.conformance.cases.fuzz import unlisted
from portkit.conformance.divergence.search import first_divergence
from portkit.conformance.journal import Entry, JournalWriter
from portkit.conformance.judge import model_of
from portkit.conformance.reducing.origin import trial_of
from portkit.conformance.reducing.reduction import reduce_trial, reduced_record
from portkit.conformance.roots import by_accused
from portkit.conformance.run import RunOptions
from portkit.conformance.trialfile import SUFFIX, SavedTrial, save_trial
from portkit.conformance.verdict import Verdict
from portkit.conformance.worker import leave, open_client, suite_of
from portkit.errors import PortkitError
from portkit.reference.bounds import NumericModel
from portkit.runtime.client import DeviceClient

FOLDER = "reduced"
"""Where reduced launches lie, below the folder of the report."""
FAILURES = 3
"""How many failures are looked at where nobody says how many."""
REDUCING_SECONDS = 10.0
_EXAMINED = frozenset({Verdict.FAIL, Verdict.CRASH, Verdict.TIMEOUT})

OnFailure = Callable[[str], None]
"""Told the id of the case that is looked at next."""


def examine_failures(
    options: RunOptions, journal: Path, *, most: int = FAILURES, on_failure: OnFailure = lambda case_id: None
) -> list[Entry]:
    """Trace and reduce up to `most` failures, the first of each suspect; returns their entries with fuller cards.

    They are in the journal then, and the reduced launches in `FOLDER` beside it. What cannot be looked at keeps its
    card as it was. Raises `HarnessError` where the journal cannot be written.
    """
    folder = journal.parent / FOLDER
    if not options.resume:
        _clear(folder)
    chosen = first_of_each_suspect(journals.read(journal).entries.values())[:most]
    if not chosen:
        return []
    with _opened(options) as client, contextlib.closing(JournalWriter(journal)) as writer:
        suite = suite_of(options.suite)(client.capabilities, options.profile)
        asked = unlisted(client.capabilities, [entry.id for entry in chosen])
        cases = {case.id: case for case in (*suite, *asked)}
        examination = Examination(client, options.seconds, folder)
        for number, entry in enumerate(chosen):
            on_failure(entry.id)
            chosen[number] = examination.of(entry, cases[entry.id])
            writer.append(chosen[number])
    return chosen


def _clear(folder: Path) -> None:
    """Remove what an earlier run left, and nothing that somebody else put there."""
    for file in folder.glob(f"*{SUFFIX}"):
        file.unlink()


@contextlib.contextmanager
def _opened(options: RunOptions) -> Generator[DeviceClient]:
    client = open_client(options.backend, options.seconds, options.mutant)
    try:
        yield client
    finally:
        leave(client)


def first_of_each_suspect(entries: Iterable[Entry]) -> list[Entry]:
    """Return the failed launches to look at: of those that accuse the same the first, what explains others before them.

    Left out is what failed only after another case, and what was looked at before.
    """
    failed = (e for e in entries if e.verdict in _EXAMINED and not e.after and e.card is not None and e.card.kernel)
    return [group[0] for group in by_accused(failed) if not _looked_at(group[0])]


def _looked_at(entry: Entry) -> bool:
    return entry.card is not None and (entry.card.reduced is not None or entry.card.divergence is not None)


def file_name(case_id: str) -> str:
    """Return the name of the file with the reduced launch of a case."""
    return f"{case_id.replace('/', '-')}{SUFFIX}"


class Examination:
    """Looks at failed cases, one after the other, on a device that still has the fault."""

    def __init__(self, client: DeviceClient, seconds: float, folder: Path) -> None:
        """Use a device; `seconds` is the time limit of one launch, reduced launches are saved in `folder`."""
        self.client = client
        self.seconds = seconds
        self.folder = folder
        self.model: NumericModel = model_of(client.capabilities)

    def of(self, entry: Entry, case: Case) -> Entry:
        """Return the entry with a fuller card."""
        trial = self._trial(case)
        if trial is None or entry.card is None:
            return entry
        divergence, reduced = self._divergence(trial), self._reduced(trial, case)
        return msgspec.structs.replace(
            entry, card=msgspec.structs.replace(entry.card, divergence=divergence, reduced=reduced)
        )

    def _trial(self, case: Case) -> Trial | None:
        with contextlib.suppress(PortkitError):
            return trial_of(case, self.client, self.model, self.seconds)
        return None

    def _divergence(self, trial: Trial) -> Divergence | None:
        with contextlib.suppress(PortkitError):
            return first_divergence(trial, self.client, self.model, seconds=self.seconds)
        return None

    def _reduced(self, trial: Trial, case: Case) -> Reduced | None:
        """Return the reduced launch, saved; None where it did not fail again."""
        with contextlib.suppress(PortkitError):
            made = reduce_trial(trial, self.client, self.model, seconds=self.seconds, budget=REDUCING_SECONDS)
            if made is None:
                return None
            file = self.folder / file_name(case.id)
            expected = f"{made.finding.verdict.value}: {' '.join(made.finding.reason.split())}"
            save_trial(file, SavedTrial(made.trial, case.id, expected))
            name = f"{FOLDER}/{file.name}"
            return reduced_record(
                made, name, f"portkit run {name} --backend {self.client.reference} --against reference"
            )
        return None
