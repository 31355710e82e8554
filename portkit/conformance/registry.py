"""The registry: a plain folder, friendly to git, with one sub-folder for every published report.

registry/BACKEND/DATE-DIGEST/report.json      the report as it was judged
                             report.html      rendered again from it, never taken from outside
                             badge.svg        likewise
                             manifest.json    digests, and whether it is a draft
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

import msgspec

from portkit.conformance.files import writing
from portkit.conformance.report import badge, html
from portkit.conformance.report.consistency import check_consistent
from portkit.conformance.report.folder import report_of
from portkit.conformance.report.model import (
    Digest,
    Name,
    Record,
    Report,
    Text,
    decode_report,
    encode_report,
    load_report,
    read_file,
)
from portkit.errors import SchemaError, UsageError

MANIFEST_VERSION = "1.0-draft"
MAX_MANIFEST_BYTES = 1 << 20
DRAFT_ONLY = ("stand-in", "compiled")


class Manifest(Record, frozen=True):
    """What a published report is pinned by; digests are SHA-256 in hexadecimal."""

    manifest: str
    backend: Name
    draft: bool
    report_digest: Digest
    spec_digest: Digest
    suite_digest: Digest
    backend_digest: Digest
    statement: Text


class Entry(Record, frozen=True):
    """One published report and where it lies, relative to the registry."""

    folder: str
    manifest: Manifest
    report: Report


def publish(source: Path, registry: Path, *, draft: bool) -> Path:
    """File the report of a run into a registry and return its new folder; `source` is the run's folder.

    Raises `UsageError` where the run says nothing of a device (a selection, a planted fault, one that was cut off),
    where its evidence admits drafts only, where it is filed already, or where its journal is missing; `SchemaError` for
    something that is not a report, contradicts itself, or differs from its journal.
    """
    report = _genuine(source)
    _require_worth(report, draft=draft)
    content = encode_report(report)
    manifest = manifest_of(report, content, draft=draft)
    target = registry / folder_of(report, manifest)
    if target.exists():
        raise UsageError(f"this report is in the registry already: {target}")
    files = {
        "report.json": content,
        "report.html": html.render(report).encode(),
        "badge.svg": badge.render(report).encode(),
        "manifest.json": msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n",
    }
    with writing(target):
        _write_folder(target, files)
    return target


def _genuine(source: Path) -> Report:
    """Return the report of a run's folder, which must be what its journal gives."""
    if not source.is_dir():
        raise UsageError(f"{source} is not the folder of a run; publish takes the folder that portkit conform wrote")
    lying = load_report(source)
    check_consistent(lying)
    report, journal = report_of(source)
    if journal is None:
        raise UsageError(f"{source} has no journal.jsonl, which its report is held against; run the suite again")
    if lying != report:
        raise SchemaError(
            f"{source / 'report.json'} is not what the journal beside it gives; "
            f"write it again with: portkit report {source}"
        )
    return report


def _require_worth(report: Report, *, draft: bool) -> None:
    if report.mutant:
        raise UsageError(f"in this run the fault {report.mutant} was planted in the device; it says nothing of it")
    if report.patterns:
        raise UsageError("this run was a selection of cases and claims nothing; run the suite without --case")
    if len(report.cases) < report.planned:
        missing = report.planned - len(report.cases)
        raise UsageError(f"this run was cut off and lacks {missing} cases; go on with portkit conform ... --resume")
    if report.subject.evidence in DRAFT_ONLY and not draft:
        raise UsageError(f"evidence {report.subject.evidence!r} says nothing about a chip; publish it with --draft")


def manifest_of(report: Report, content: bytes, *, draft: bool) -> Manifest:
    """Return the manifest of a report with this content."""
    return Manifest(
        manifest=MANIFEST_VERSION,
        backend=report.subject.backend,
        draft=draft,
        report_digest=hashlib.sha256(content).hexdigest(),
        spec_digest=report.versions.spec_digest,
        suite_digest=report.versions.suite_digest,
        backend_digest=report.versions.backend_digest,
        statement=report.statement,
    )


def folder_of(report: Report, manifest: Manifest) -> str:
    """Return where a report lies in a registry; its parts are names, so that it cannot lead out of it."""
    return f"{report.subject.backend}/{report.date}-{manifest.report_digest[:12]}"


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

    A registry takes submissions from others: each report is checked as if it were published now. Raises `UsageError`
    where there is none, `SchemaError` naming the folder whose report was changed, or should not have been filed.
    """
    if not registry.is_dir():
        raise UsageError(
            f"{registry} is not a registry folder; make one with portkit publish OUT --registry {registry}"
        )
    found = [_entry(registry, path.parent) for path in sorted(registry.glob("[!.]*/[!.]*/manifest.json"))]
    if not found:
        raise UsageError(f"{registry} holds no published report; portkit publish OUT --registry {registry} files one")
    found.sort(key=lambda e: (e.report.started, e.folder), reverse=True)
    return sorted(found, key=lambda e: e.manifest.backend)


def _entry(registry: Path, folder: Path) -> Entry:
    try:
        written = msgspec.json.decode(read_file(folder / "manifest.json", MAX_MANIFEST_BYTES), type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError(f"{folder / 'manifest.json'}: not a manifest: {error}") from error
    content = read_file(folder / "report.json")
    report = decode_report(content, str(folder / "report.json"))
    if manifest_of(report, content, draft=written.draft) != written:
        raise SchemaError(f"{folder}: the report is not the one that was published; its manifest differs")
    try:
        check_consistent(report)
        _require_worth(report, draft=written.draft)
    except (SchemaError, UsageError) as error:
        raise SchemaError(f"{folder}: {error}") from error
    place = folder.relative_to(registry).as_posix()
    if place != folder_of(report, written):
        raise SchemaError(f"{folder}: this report belongs into {folder_of(report, written)}")
    return Entry(place, written, report)
