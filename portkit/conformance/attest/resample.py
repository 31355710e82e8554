"""Run a sample of a report's cases again, and compare what comes out with what it says.

The sample is fixed by a seed: cases are put in the order of SHA-256(seed:id), and the first are taken. So whoever knows
the seed can take the same one, and a report cannot know before it is filed which of its cases will be looked at.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from portkit.conformance import journal as journals
from portkit.conformance.digest import suite_digest
from portkit.conformance.journal import Entry, Header
from portkit.conformance.redaction import is_redacted
from portkit.conformance.report.build import publishable_capabilities
from portkit.conformance.report.model import CaseResult, Report
from portkit.conformance.run import Progress, RunOptions, RunResult, run_suite
from portkit.conformance.verdict import ExitCode, Verdict
from portkit.conformance.worker import CASE_SECONDS, leave, open_client
from portkit.contract import Capabilities
from portkit.errors import CannotRunHere, HarnessError, UsageError
from portkit.spec import forms

_SIZE = re.compile(r"(?P<number>\d{1,9}(\.\d{1,6})?)(?P<percent>%?)")
_NAMES = ("name", "version", "vendor")
_REPEATABLE = frozenset({Verdict.PASS, Verdict.WAIVED, Verdict.FAIL, Verdict.CRASH, Verdict.TIMEOUT})
"""What a case shows again when it runs alone; the others depend on other cases, on luck or on portkit."""
FALSE_SHARE = 0.05
"""For this share of false verdicts a sample says how likely it would have met one."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A case that came out differently here."""

    id: str
    reported: str
    here: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a sample showed: `ids` of `of` cases that can be run again, and those that differ.

    `digests` counts those of strict outputs that were compared. `notes` are what is different here otherwise.
    """

    seed: int
    ids: tuple[str, ...]
    of: int
    differences: tuple[Difference, ...]
    digests: int
    notes: tuple[str, ...] = ()

    @property
    def power(self) -> float:
        """The chance that so many cases meet a false one, of a report in which `FALSE_SHARE` of them are false."""
        return 1.0 - (1.0 - FALSE_SHARE) ** len(self.ids)


def sample_size(text: str, of: int) -> int:
    """Return how many of some cases are meant by `1%` or by a number: at least one, at most all.

    Raises `UsageError` for what is neither.
    """
    found = _SIZE.fullmatch(text.strip())
    number = float(found["number"]) if found else 0.0
    whole = found is not None and (bool(found["percent"]) or number.is_integer())
    if not (found and whole and number > 0 and not (found["percent"] and number > 100)):
        raise UsageError(f"--sample {text} is neither a share such as 1% nor a number of cases such as 50")
    return min(of, max(1, round(of * number / 100) if found["percent"] else int(number)))


def require_runnable(backend: str, size: str, seconds: float = CASE_SECONDS) -> None:
    """Raise `UsageError` or `CannotRunHere` where no sample of any report could be run: by its size, or the backend."""
    sample_size(size, 1)
    _capabilities(backend, seconds)


def choose(cases: Sequence[CaseResult], size: str, seed: int) -> tuple[list[CaseResult], int]:
    """Return the cases of a sample, and of how many they were taken; the same for the same seed.

    Raises `UsageError` where no case can be run again.
    """
    able = [case for case in cases if case.verdict in _REPEATABLE]
    if not able:
        raise UsageError("the report has no case that could be run again")
    able.sort(key=lambda case: hashlib.sha256(f"{seed}:{case.id}".encode()).digest())
    return able[: sample_size(size, len(able))], len(able)


def resample(
    report: Report,
    backend: str,
    size: str,
    seed: int,
    *,
    workers: int | None = None,
    seconds: float = CASE_SECONDS,
    on_progress: Callable[[Progress], None] = lambda step: None,
) -> Sample:
    """Run a sample of a report's cases on a backend.

    Raises `UsageError` where the backend is not the one that was judged, or declares something else, and where the
    report was made by another suite; `CannotRunHere` and `HarnessError` where the run was not possible.
    """
    chosen, of = choose(report.cases, size, seed)
    _require_same_suite(report)
    _require_same_device(report, _capabilities(backend, seconds))
    with tempfile.TemporaryDirectory(prefix="portkit-sample-", ignore_cleanup_errors=True) as folder:
        options = RunOptions(
            backend=backend,
            out=Path(folder),
            profile=report.profile,
            tier=report.tier,
            patterns=tuple(case.id for case in chosen),
            workers=workers,
            seconds=seconds,
            on_progress=on_progress,
        )
        result = run_suite(options)
        header, entries = _journal(result)
    differences, digests = _compared(chosen, entries)
    return Sample(seed, tuple(case.id for case in chosen), of, tuple(differences), digests, _notes(report, header))


def _require_same_suite(report: Report) -> None:
    said = report.versions
    for what, theirs, mine in (
        ("suite", said.suite_digest, suite_digest()),
        ("spec", said.spec_digest, forms.digest()),
    ):
        if theirs != mine:
            raise UsageError(
                f"the report is by the {what} {theirs[:12]} of portkit {said.portkit}, this one is {mine[:12]}: "
                "to run cases of it again, install the portkit that made it"
            )


def _capabilities(backend: str, seconds: float) -> Capabilities:
    client = open_client(backend, seconds)
    try:
        client.require()
        return publishable_capabilities(client.capabilities)
    finally:
        leave(client)


def _require_same_device(report: Report, here: Capabilities) -> None:
    """Raise `UsageError` where the backend is another, or declares something else: then its cases are others too.

    A redacted report does not say its backend's names.
    """
    left_out = ("tuning", *(_NAMES if is_redacted(report) else ()))
    for field in Capabilities.__struct_fields__:
        said, found = getattr(report.capabilities, field), getattr(here, field)
        if field not in left_out and msgspec.to_builtins(said) != msgspec.to_builtins(found):
            raise UsageError(
                f"the report is not of this backend: its {field} is {_short(said)}, here it is {_short(found)}"
            )


def _short(value: object) -> str:
    text = str(msgspec.to_builtins(value, str_keys=True))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _journal(result: RunResult) -> tuple[Header, Mapping[str, Entry]]:
    if result.exit_code is ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if result.journal is None or result.message:
        kinds = {ExitCode.CANNOT_RUN_HERE: CannotRunHere, ExitCode.USAGE: UsageError}
        raise kinds.get(result.exit_code, HarnessError)(f"the sample could not be run: {result.message}")
    journal = journals.read(result.journal)
    return journal.header, journal.entries


def _compared(chosen: Sequence[CaseResult], entries: Mapping[str, Entry]) -> tuple[list[Difference], int]:
    """Return the cases that differ, and how many digests of outputs were compared."""
    differences: list[Difference] = []
    digests = 0
    for case in chosen:
        if case.id not in entries:
            raise HarnessError(f"the run has no verdict of the case {case.id}")
        entry = entries[case.id]
        both = bool(case.digest and entry.digest)
        digests += both
        if not _agree(case, entry):
            reason = " ".join(entry.reason.split())[:200]
            differences.append(Difference(case.id, case.verdict.value, entry.verdict.value, reason))
        elif both and case.digest != entry.digest:
            differences.append(Difference(case.id, case.digest[:16], entry.digest[:16], "the outputs have other bits"))
        elif bool(case.digest) != bool(entry.digest) and case.verdict is Verdict.PASS:
            differences.append(Difference(case.id, _said(case.digest), _said(entry.digest), "a digest is missing"))
    return differences, digests


def _said(digest: str) -> str:
    return digest[:16] or "no digest"


def _agree(case: CaseResult, entry: Entry) -> bool:
    """Whether a case came out as reported; one that was waived has failed, and here there are no waivers."""
    if case.verdict is Verdict.WAIVED:
        return entry.verdict in _REPEATABLE and entry.verdict is not Verdict.PASS
    return case.verdict is entry.verdict


def _notes(report: Report, header: Header) -> tuple[str, ...]:
    said = report.subject
    found = (
        ("backend digest", report.versions.backend_digest[:12], header.backend_digest[:12]),
        ("device", said.device, header.info.device),
        ("driver", said.driver, header.info.driver),
        ("compiler", said.compiler, header.info.compiler),
    )
    return tuple(
        f"{what}: {theirs or 'none'} in the report, {mine or 'none'} here"
        for what, theirs, mine in found
        if theirs != mine
    )
