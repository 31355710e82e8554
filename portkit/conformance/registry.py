"""The registry: a plain folder, friendly to git, with one sub-folder for every published report.

registry/BACKEND/DATE-DIGEST/report.json      the report as it was judged
                             report.html      rendered again from it, never taken from outside
                             manifest.json    digests, and whether it is a draft
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

import msgspec

from portkit.conformance.report import html
from portkit.conformance.report.model import Digest, Name, Record, Report, Text, encode_report, load_report
from portkit.conformance.verdict import Verdict
from portkit.errors import SchemaError, UsageError

MANIFEST_VERSION = "1.0-draft"
DRAFT_ONLY = ("stand-in", "compiled")


class Manifest(Record, frozen=True):
    """What a published report is pinned by."""

    manifest: str
    backend: Name
    draft: bool
    report_digest: Digest
    spec_digest: Digest
    suite_digest: Digest
    statement: Text


class Entry(Record, frozen=True):
    """One published report and where it lies, relative to the registry."""

    folder: str
    manifest: Manifest
    report: Report


def publish(source: Path, registry: Path, *, draft: bool) -> Path:
    """File a report into a registry and return its new folder.

    Raises `UsageError` where its evidence admits drafts only, where it is already filed, or where its own counts or
    statement do not follow from its cases; `SchemaError` for something that is not a report.
    """
    report = load_report(source)
    check_consistent(report)
    if report.patterns:
        raise UsageError("this run was a selection of cases and claims nothing; run the suite without --case")
    if report.subject.evidence in DRAFT_ONLY and not draft:
        raise UsageError(f"evidence {report.subject.evidence!r} says nothing about a chip; publish it with --draft")
    content = encode_report(report)
    digest = hashlib.sha256(content).hexdigest()
    target = registry / report.subject.backend / f"{report.date}-{digest[:12]}"
    if target.exists():
        raise UsageError(f"this report is already in the registry: {target}")
    manifest = Manifest(
        manifest=MANIFEST_VERSION,
        backend=report.subject.backend,
        draft=draft,
        report_digest=digest,
        spec_digest=report.versions.spec_digest,
        suite_digest=report.versions.suite_digest,
        statement=report.statement,
    )
    files = {
        "report.json": content,
        "report.html": html.render(report).encode(),
        "manifest.json": msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n",
    }
    _write_folder(target, files)
    return target


def check_consistent(report: Report) -> None:
    """Raise `SchemaError` where the counts or the claim of a report do not follow from its cases."""
    counts: dict[str, int] = {}
    for case in report.cases:
        if case.verdict not in {v.value for v in Verdict}:
            raise SchemaError(f"case {case.id}: {case.verdict!r} is not a verdict")
        counts[case.verdict] = counts.get(case.verdict, 0) + 1
    if counts != {name: n for name, n in report.counts.items() if n}:
        raise SchemaError("the report's counts are not those of its cases; run the suite again")
    holds = bool(report.cases) and not report.uncovered and all(Verdict(name).passes for name in counts)
    if report.passed != holds:
        raise SchemaError("the report's claim does not follow from its cases; run the suite again")


def _write_folder(target: Path, files: dict[str, bytes]) -> None:
    """Write beside the target, then rename, so that a reader never sees half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".publish-", dir=target.parent))
    try:
        for name, content in files.items():
            (scratch / name).write_bytes(content)
        scratch.chmod(0o755)
        scratch.rename(target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def entries(registry: Path) -> list[Entry]:
    """Return every published report, by backend, newest first.

    Raises `UsageError` where there is none, `SchemaError` where a digest does not match its file.
    """
    if not registry.is_dir():
        raise UsageError(
            f"{registry} is not a registry folder; make one with portkit publish OUT --registry {registry}"
        )
    found = [_entry(registry, path) for path in sorted(registry.glob("*/*/manifest.json"), reverse=True)]
    if not found:
        raise UsageError(f"{registry} holds no published report; portkit publish OUT --registry {registry} files one")
    return sorted(found, key=lambda e: e.manifest.backend)


def _entry(registry: Path, path: Path) -> Entry:
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except msgspec.DecodeError as error:
        raise SchemaError(f"{path}: not a manifest: {error}") from error
    report = load_report(path.parent)
    if hashlib.sha256(encode_report(report)).hexdigest() != manifest.report_digest:
        raise SchemaError(f"{path.parent}: the report is not the one that was published; its digest differs")
    return Entry(str(path.parent.relative_to(registry)), manifest, report)
