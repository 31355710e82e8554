"""The checks on a published report, one after the other: what each found, in words.

Each is a function that returns what it saw, raises one of our errors for what is wrong, or `NotChecked` where it has
nothing to go by. Where there is no report, or no manifest, nothing else is looked at.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from portkit import __version__
from portkit.conformance import journal as journals
from portkit.conformance.attest import dsse
from portkit.conformance.attest.folder import Submission, check_names, check_single
from portkit.conformance.attest.keys import SHOWN, PublicKey, speakers
from portkit.conformance.attest.manifest import (
    ATTESTATION,
    BADGE,
    JOURNAL,
    MANIFEST,
    PAGE,
    REPORT,
    check_manifest,
    check_statement,
    decode_statement,
    journal_digest,
)
from portkit.conformance.attest.pages import check_page
from portkit.conformance.case import Case, Cell
from portkit.conformance.cases.collect import PROFILES, collect
from portkit.conformance.digest import suite_digest
from portkit.conformance.errata import standing
from portkit.conformance.redaction import is_redacted, redacted
from portkit.conformance.report import badge, html
from portkit.conformance.report.build import cell_result, from_journal
from portkit.conformance.report.consistency import check_consistent
from portkit.conformance.report.model import CaseResult, Report, encode_report
from portkit.conformance.select import select
from portkit.conformance.support import undeclared
from portkit.conformance.verdict import Verdict
from portkit.conformance.waivers import WAIVED
from portkit.errors import PortkitError, SchemaError, UsageError
from portkit.spec import forms

DRAFT_ONLY = ("stand-in", "compiled")
MAX_JOURNAL_BYTES = 1 << 30
_MOST_TEXT = 500
_AHEAD = dt.timedelta(days=1)
"""How far the clocks of two machines may be apart."""
FOLDER_NAME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9a-f]{12}")
"""How `publish` names the folder of a report."""

State = Literal["signed", "unchecked", "unsigned", "refused"]
Outcome = Literal["ok", "refused", "not checked"]


class NotChecked(Exception):
    """A check has nothing to go by; the message says what it lacks."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    outcome: Outcome
    text: str


@dataclass(frozen=True, slots=True)
class Signed:
    """What is known of a report's signature: `signed` is by trusted keys, `unchecked` by keys that are not known."""

    state: State
    keys: tuple[str, ...] = ()
    """The trusted keys that signed, as people are shown them, or the ids that an unchecked envelope names."""


UNSIGNED = Signed("unsigned")


@dataclass(frozen=True)
class Examined:
    """A published report, and what it is held against.

    `registry` is the folder that it should lie in the right place of; `signed_only` refuses one without a signature.
    """

    submission: Submission
    keys: tuple[PublicKey, ...] = ()
    registry: Path | None = None
    signed_only: bool = False
    journal: Path | None = None

    @property
    def report(self) -> Report:
        return self.submission.report

    @cached_property
    def signed(self) -> Signed:
        """What is known of the signature; raises `SchemaError` for one that is wrong, or missing where one must be."""
        return _signed(self)


# --- the checks ---------------------------------------------------------------------------------------------------


def check_schema(given: Examined) -> str:
    """Whether there is a report, of one meaning."""
    report, content = given.report, given.submission.files[REPORT]
    check_single(content, REPORT)
    if _is_by_this_version(report) and encode_report(report) != content:
        raise SchemaError(f"{REPORT} is not as portkit writes it; it was edited")
    return f"{report.subject.backend} {report.subject.version}: {report.statement}"


def check_version(given: Examined) -> str:
    """Whether there is a manifest, of one meaning and of a version that is known."""
    manifest = given.submission.manifest
    check_single(given.submission.files[MANIFEST], MANIFEST)
    return f"version {manifest.manifest}"


def check_digests(given: Examined) -> str:
    """Whether the manifest is that of the report."""
    submission = given.submission
    manifest = submission.manifest
    check_manifest(manifest, given.report, submission.files[REPORT])
    return "the manifest pins this report" + ("" if manifest.journal_digest else ", not its journal: an older manifest")


def check_place(given: Examined) -> str:
    """Whether the report lies where its backend, date and digest say."""
    folder = given.submission.folder
    wanted = folder_of(given.report, given.submission.manifest.report_digest)
    if given.registry is not None:
        found = folder.relative_to(given.registry).as_posix()
        if found != wanted:
            raise SchemaError(f"this report belongs into {wanted}, not into {ascii(found)[1:-1]}")
    elif not FOLDER_NAME.fullmatch(folder.absolute().name):
        raise NotChecked("the folder is not named as in a registry")
    elif folder.absolute().name != wanted.partition("/")[2]:
        raise SchemaError(f"this report belongs into a folder {wanted}; here lay another")
    return wanted


def check_pages(given: Examined) -> str:
    """Whether page and badge are what this portkit renders, or else hold nothing that acts."""
    files = given.submission.files
    made = {PAGE: html.render, BADGE: badge.render}
    same = [check_page(name, files[name], render(given.report)) for name, render in made.items() if name in files]
    if not same:
        raise NotChecked("there is neither page nor badge")
    if not all(same) and _is_by_this_version(given.report):
        wrong = ", ".join(name for name, alike in zip((n for n in made if n in files), same, strict=True) if not alike)
        raise SchemaError(f"{wrong}: not what this version of portkit renders of report.json, though it says it did")
    if not all(same):
        raise NotChecked("rendered by another version, so what they say was not compared; they hold nothing that acts")
    return "as portkit renders them"


def _is_by_this_version(report: Report) -> bool:
    return report.versions.portkit == __version__ and _is_of_this_suite(report)


def _is_of_this_suite(report: Report) -> bool:
    return (report.versions.suite_digest, report.versions.spec_digest) == (suite_digest(), forms.digest())


def check_worth(given: Examined) -> str:
    """Whether the report does not contradict itself, and says something of a device."""
    check_consistent(given.report)
    require_worth(given.report, draft=given.submission.manifest.draft)
    return f"counts, coverage, claim and statement follow from {len(given.report.cases):,} cases"


def check_errata(given: Examined) -> str:
    """Which of its cases were withdrawn since, and what the report says without them."""
    now = standing(given.report)
    return now.statement if now.withdrawn else "none of its cases was withdrawn"


def check_cases(given: Examined) -> str:
    """Whether the cases are those of the profile and tier: none left out, none excused without a reason."""
    report = given.report
    waived = report.counts.get(Verdict.WAIVED, 0)
    if not _is_of_this_suite(report):
        raise NotChecked(
            f"made by the suite {report.versions.suite_digest[:12]} of portkit {report.versions.portkit}, this one is "
            f"{suite_digest()[:12]}: install that version to check that no case was left out"
        )
    if report.profile not in PROFILES:
        raise SchemaError(f"there is no profile {report.profile}")
    suite = {case.id: case for case in select(collect(report.capabilities, report.profile), report.tier, ())}
    _require_same_cases(report, suite)
    _require_undeclared(report, suite)
    _require_same_cells(report, suite)
    return f"all {len(suite):,} of profile {report.profile}, tier {report.tier.value}, and no other; {waived} waived"


def check_signature(given: Examined) -> str:
    """Whether a trusted key signed just this."""
    signed = given.signed
    if signed.state == "unsigned":
        raise NotChecked("unsigned")
    if signed.state == "unchecked":
        raise NotChecked(f"it names the key {', '.join(signed.keys)}, and no key was given: --key or --trust")
    return f"signed by {', '.join(signed.keys)}"


def check_journal(given: Examined) -> str:
    """Whether a journal is the one that the report was made from."""
    if given.journal is None:
        raise NotChecked("none was given: --journal, for who has it")
    path = given.journal / JOURNAL if given.journal.is_dir() else given.journal
    if path.is_file() and path.stat().st_size > MAX_JOURNAL_BYTES:
        raise SchemaError(f"{path}: larger than {MAX_JOURNAL_BYTES} bytes; not a journal")
    made = from_journal(journals.read(path), seconds=given.report.seconds)
    named = redacted(made, given.report.subject.backend) if is_redacted(given.report) else made
    _require_same_report(given.report, named, path)
    pinned = given.submission.manifest.journal_digest
    if not pinned:
        raise SchemaError(f"{path} cannot be held against a manifest that pins no journal; leave --journal out")
    if journal_digest(path.read_bytes()) != pinned:
        raise SchemaError(
            f"{path} is not the journal that was published: its SHA-256 differs from that in the manifest"
        )
    return "it is the one that the report was made from"


Check = Callable[[Examined], str]
CHECKS: tuple[tuple[str, Check], ...] = (
    ("files", lambda given: _files(given.submission)),
    ("report", check_schema),
    ("manifest", check_version),
    ("digests", check_digests),
    ("place", check_place),
    ("signature", check_signature),
    ("consistency", check_worth),
    ("cases", check_cases),
    ("errata", check_errata),
    ("pages", check_pages),
    ("journal", check_journal),
)
_GATES = ("report", "manifest")
"""Where one of these does not hold the others mean nothing."""


def run_checks(given: Examined, checks: Sequence[tuple[str, Check]] = CHECKS) -> list[Finding]:
    """Return what every check found; after a gate that is refused the others are not made."""
    findings: list[Finding] = []
    for name, check in checks:
        findings.append(_finding(name, check, given))
        if name in _GATES and findings[-1].outcome == "refused":
            break
    return findings


def _finding(name: str, check: Check, given: Examined) -> Finding:
    try:
        return Finding(name, "ok", _clipped(check(given)))
    except NotChecked as reason:
        return Finding(name, "not checked", _clipped(str(reason)))
    except PortkitError as error:
        return Finding(name, "refused", _clipped(str(error)))


def _clipped(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 3]}..."


def _files(submission: Submission) -> str:
    check_names(submission)
    return " ".join(submission.files)


# --- what they rest on --------------------------------------------------------------------------------------------


def folder_of(report: Report, report_digest: str) -> str:
    """Return where a report lies in a registry; its parts are names, so that it cannot lead out of it."""
    return f"{report.subject.backend}/{report.date}-{report_digest[:12]}"


def require_worth(report: Report, *, draft: bool) -> None:
    """Raise `UsageError` where a report says nothing of a device, or no more than a draft may.

    Raises `SchemaError` for a run in the future, and for waivers that do not say why and until when.
    """
    _check_begin(report)
    _check_waivers(report)
    if report.mutant:
        raise UsageError(f"in this run the fault {report.mutant} was planted in the device; it says nothing of it")
    if report.patterns:
        raise UsageError("this run was a selection of cases and claims nothing; run the suite without --case")
    if len(report.cases) < report.planned:
        missing = report.planned - len(report.cases)
        raise UsageError(f"this run was cut off and lacks {missing} cases; go on with portkit conform ... --resume")
    if report.subject.evidence in DRAFT_ONLY and not draft:
        raise UsageError(f"evidence {report.subject.evidence!r} says nothing about a chip; publish it with --draft")


def _check_waivers(report: Report) -> None:
    """Raise `SchemaError` for a case that is waived without reason, link and end, or after its end."""
    for case in report.cases:
        if case.verdict is not Verdict.WAIVED:
            continue
        found = WAIVED.match(case.reason)
        if found is None or not _is_day(found["end"]):
            raise SchemaError(f"the case {case.id} is waived without a reason, a link and an end")
        if found["end"] < report.date:
            raise SchemaError(f"the waiver of {case.id} ended on {found['end']}, before the run")


def _is_day(text: str) -> bool:
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _check_begin(report: Report) -> None:
    """Raise `SchemaError` for a run that has not begun yet: it would stand before all that follow."""
    if dt.datetime.fromisoformat(report.started) > dt.datetime.now(dt.UTC) + _AHEAD:
        raise SchemaError(f"its run began in the future, at {report.started}")


def _require_same_cases(report: Report, suite: dict[str, Case]) -> None:
    given = {case.id for case in report.cases}
    missing, surplus = suite.keys() - given, given - suite.keys()
    if missing:
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise SchemaError(f"the report lacks the case {min(missing)}{more}, which its profile and tier have")
    if surplus:
        raise SchemaError(f"the report has the case {min(surplus)}, which its profile and tier have not")
    moved = next((c for c in report.cases if suite[c.id].level is not c.level), None)
    if moved is not None:
        raise SchemaError(f"the report has {moved.id} on the level {moved.level.value}, where it is not")


def _require_undeclared(report: Report, suite: dict[str, Case]) -> None:
    """Raise `SchemaError` for a case that was skipped as unsupported although the device declares what it needs."""
    for case in report.cases:
        if case.verdict is Verdict.UNSUPPORTED:
            trial = suite[case.id].trial
            if trial is None or not undeclared(trial().kernel, report.capabilities):
                raise SchemaError(
                    f"the case {case.id} was skipped as unsupported, and the device declares what it needs"
                )


def _require_same_cells(report: Report, suite: dict[str, Case]) -> None:
    """Raise `SchemaError` for a cell of the coverage table that does not follow from the cases of the suite."""
    covering: dict[Cell, list[CaseResult]] = {}
    for case in report.cases:
        if case.verdict is not Verdict.UNSUPPORTED:
            for cell in suite[case.id].cells:
                covering.setdefault(cell, []).append(case)
    wanted = {str(cell): cell_result(cell, cases) for cell, cases in covering.items()}
    said = {str(Cell(c.form, c.dtype, c.lanes, c.source)): c for c in report.cells}
    wrong = [name for name in said.keys() | wanted.keys() if said.get(name) != wanted.get(name)]
    if wrong:
        raise SchemaError(f"the cell {min(wrong)} of its coverage table does not follow from its cases")


_FOLLOWING: tuple[tuple[str, Callable[[Report], object]], ...] = (
    ("profile and tier", lambda r: (r.profile, r.tier)),
    ("evidence", lambda r: r.subject.evidence),
    ("digests", lambda r: (r.versions.spec_digest, r.versions.suite_digest, r.versions.backend_digest)),
    ("versions", lambda r: r.versions),
    ("names", lambda r: (r.subject.backend, r.subject.version, r.subject.vendor)),
    ("begin", lambda r: r.started),
    ("number of cases", lambda r: (r.planned, len(r.cases))),
    ("figures", lambda r: [(c.elements, c.error_share, c.digest, c.bit_exact) for c in r.cases]),
    ("statement", lambda r: (r.statement, r.patterns, r.mutant)),
)
"""What a report has from its journal, whoever made it where and with which version."""
_HERE: tuple[tuple[str, Callable[[Report], object]], ...] = (
    ("capabilities", lambda r: (r.capabilities, r.limits)),
    ("coverage", lambda r: (r.cells, r.declared_cells, r.uncovered)),
    (
        "repeats",
        lambda r: (
            r.determinism,
            [(c.runs, c.failed, c.after, c.varying, c.seconds, c.ill_conditioned) for c in r.cases],
        ),
    ),
    ("failures", lambda r: [(f.id, f.verdict) for f in r.failures]),
)
"""What it has from it where the same version of portkit made it; texts of devices are scrubbed of the machine's names,
and so may differ from one machine to the next."""


def _require_same_report(given: Report, made: Report, path: Path) -> None:
    """Raise `SchemaError`, naming the case or the part, where a journal gives another report."""
    for theirs, mine in zip(given.cases, made.cases, strict=False):
        if (theirs.id, theirs.verdict) != (mine.id, mine.verdict):
            said, found = f"{theirs.id} {theirs.verdict.value}", f"{mine.id} {mine.verdict.value}"
            raise SchemaError(f"the journal {path} gives another report: {found}, where the report has {said}")
    for what, part in (*_FOLLOWING, *(_HERE if given.versions.portkit == __version__ else ())):
        if part(given) != part(made):
            raise SchemaError(f"the journal {path} gives another report: its {what} are others")


def _signed(given: Examined) -> Signed:
    submission, backend = given.submission, given.report.subject.backend
    owners = [key for key in given.keys if key.reserves(backend)]
    if ATTESTATION not in submission.files:
        if owners:
            raise SchemaError(f"unsigned, and the name {backend} is reserved for the key {owners[0].label}")
        if given.signed_only:
            raise SchemaError(f"unsigned: there is no {ATTESTATION}, and keys were given; --allow-unsigned takes it")
        return UNSIGNED
    envelope, payload = dsse.unseal(submission.files[ATTESTATION], ATTESTATION)
    check_single(submission.files[ATTESTATION], ATTESTATION)
    if given.keys:
        trusted = dsse.signers(envelope, payload, speakers(given.keys, backend), ATTESTATION)
        result = Signed("signed", tuple(key.label for key in trusted))
    else:
        result = Signed("unchecked", tuple(s.keyid[:SHOWN] or "without id" for s in envelope.signatures))
    statement = decode_statement(payload, ATTESTATION)
    check_single(payload, f"{ATTESTATION}: payload")
    check_statement(statement, given.report, submission.manifest, submission.files)
    return result


def refused(findings: Iterable[Finding]) -> list[Finding]:
    """Return what was refused."""
    return [finding for finding in findings if finding.outcome == "refused"]
