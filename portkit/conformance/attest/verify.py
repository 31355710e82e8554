"""Verify published reports: one folder, or every one of a registry."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from portkit.conformance.attest.checks import FOLDER_NAME, Examined, Finding, Signed, refused, run_checks
from portkit.conformance.attest.folder import LIMITS, Submission, read_submission
from portkit.conformance.attest.keys import TRUST_FILE, PublicKey, load_trust
from portkit.conformance.report.model import Report
from portkit.errors import PortkitError, SchemaError, UsageError


@dataclass(frozen=True, slots=True)
class Verified:
    """What the checks of one published report found."""

    folder: str
    findings: tuple[Finding, ...]
    signed: Signed
    report: Report | None = None

    @property
    def holds(self) -> bool:
        """Whether nothing was refused."""
        return not refused(self.findings)


@dataclass(frozen=True, slots=True)
class Demands:
    """What reports are held against: the trusted keys, whether a signature is needed, and a journal."""

    keys: tuple[PublicKey, ...] = ()
    signed_only: bool = False
    journal: Path | None = None


def is_registry(path: Path) -> bool:
    """Whether a folder is a registry rather than one published report."""
    return not any((path / name).is_file() for name in LIMITS)


def verify(path: Path, demands: Demands) -> list[Verified]:
    """Check a published report, or all of a registry.

    Raises `UsageError` where there is none, where one journal is to be that of a whole registry, or is not there.
    """
    if not path.is_dir():
        raise UsageError(f"{path} is neither a registry nor the folder of a published report")
    if not is_registry(path):
        _require_journal(demands.journal)
        return [_verified(path, None, demands)]
    if demands.journal is not None:
        raise UsageError("--journal is that of one report; give the folder of that report")
    return [_verified(folder, path, demands) for folder in published(path)]


def published(registry: Path) -> list[Path]:
    """Return the folders of a registry's reports, unread. Raises `UsageError` where there is none."""
    if not registry.is_dir():
        raise UsageError(
            f"{registry} is not a registry folder; make one with portkit publish OUT --registry {registry}"
        )
    folders = submissions(registry)
    if folders:
        return folders
    if any(map(_is_submission, _folders(registry))):
        above = os.path.relpath(registry.absolute().parent)
        raise UsageError(f"{registry} holds the reports of one backend; give the registry around it, {above}")
    raise UsageError(f"{registry} holds no published report; portkit publish OUT --registry {registry} files one")


def _require_journal(journal: Path | None) -> None:
    if journal is not None and not journal.exists():
        raise UsageError(f"--journal {journal} is not there; give the run's folder, or its journal.jsonl")


def keys_of(path: Path) -> tuple[PublicKey, ...]:
    """Return the keys that a registry trusts by itself, or that of a report's registry; empty if it has none."""
    registry = path if is_registry(path) else path.absolute().parent.parent
    file = registry / TRUST_FILE
    return load_trust(file) if file.is_file() else ()


def submissions(registry: Path) -> list[Path]:
    """Return every folder of a registry that is a published report, or is named or filled as if it were one.

    Whatever else lies beside one is returned too, and so is a link to a folder: both are refused, never passed over.
    """
    found: list[Path] = []
    for backend in _folders(registry):
        if backend.is_symlink():
            found.append(backend)
            continue
        if any(map(_is_submission, _folders(backend))):
            found += sorted(path for path in backend.iterdir() if not path.name.startswith("."))
    return found


def _is_submission(folder: Path) -> bool:
    return bool(FOLDER_NAME.fullmatch(folder.name)) or any(os.path.lexists(folder / name) for name in LIMITS)


def _folders(parent: Path) -> list[Path]:
    with os.scandir(parent) as listing:
        names = sorted(entry.name for entry in listing if not entry.name.startswith(".") and entry.is_dir())
    return [parent / name for name in names]


def _verified(folder: Path, registry: Path | None, demands: Demands) -> Verified:
    try:
        submission = read_submission(folder)
    except (SchemaError, UsageError) as error:
        return Verified(str(folder), (Finding("files", "refused", str(error)),), Signed("refused"))
    given = Examined(submission, demands.keys, registry, demands.signed_only, demands.journal)
    findings = tuple(run_checks(given))
    return Verified(str(folder), findings, _signed(given), _report(submission))


def _signed(given: Examined) -> Signed:
    try:
        return given.signed
    except PortkitError:
        return Signed("refused")


def _report(submission: Submission) -> Report | None:
    try:
        return submission.report
    except PortkitError:
        return None


def require_report(verified: Sequence[Verified]) -> Report:
    """Return the one report that a sample can be taken of. Raises `UsageError` for several, or none that holds."""
    if len(verified) != 1:
        raise UsageError("--sample runs cases of one report; give the folder of that report")
    report = verified[0].report
    if report is None or not verified[0].holds:
        raise UsageError("the report was refused, so no sample of it is run")
    return report
