"""The registry: a plain folder, friendly to git, with one sub-folder for every published report.

registry/keys.toml                            whose signatures it takes, if it says so
registry/BACKEND/DATE-DIGEST/report.json      the report as it was judged
                             report.html      rendered again from it, never taken from outside
                             badge.svg        likewise
                             manifest.json    digests, and whether it is a draft
                             attestation.json a DSSE envelope with a signed in-toto statement of all of these, if any
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from portkit.conformance.attest import dsse
from portkit.conformance.attest.checks import (
    DRAFT_ONLY,
    UNSIGNED,
    Examined,
    Signed,
    check_digests,
    check_place,
    check_schema,
    check_signature,
    check_version,
    check_worth,
    folder_of,
    require_worth,
)
from portkit.conformance.attest.checks import NotChecked as _NotChecked
from portkit.conformance.attest.folder import read_submission
from portkit.conformance.attest.keys import PublicKey, SigningKey
from portkit.conformance.attest.manifest import (
    ATTESTATION,
    BADGE,
    JOURNAL,
    MANIFEST,
    PAGE,
    REPORT,
    Manifest,
    encode_manifest,
    encode_statement,
    journal_digest,
    manifest_of,
    statement_of,
)
from portkit.conformance.attest.verify import keys_of, published
from portkit.conformance.files import writing
from portkit.conformance.redaction import redacted
from portkit.conformance.report import badge, html
from portkit.conformance.report.consistency import check_consistent
from portkit.conformance.report.folder import report_of
from portkit.conformance.report.model import Report, encode_report, load_report
from portkit.errors import SchemaError, UsageError

__all__ = ["DRAFT_ONLY", "Entry", "Manifest", "Signed", "entries", "publish", "read_entry"]
_CHECKS = (check_schema, check_version, check_digests, check_worth, check_place, check_signature)


@dataclass(frozen=True, slots=True)
class Entry:
    """One published report and where it lies, relative to the registry; `signed` is by the registry's own keys."""

    folder: str
    manifest: Manifest
    report: Report
    signed: Signed = UNSIGNED


def publish(source: Path, registry: Path, *, draft: bool, keys: Sequence[SigningKey] = (), codename: str = "") -> Path:
    """File the report of a run into a registry and return its new folder; `source` is the run's folder.

    With keys it is signed, with a codename it tells no names of the chip. Raises `UsageError` where the run says
    nothing of a device (a selection, a planted fault, one that was cut off), where its evidence admits drafts only,
    where it is filed already, or where its journal is missing; `SchemaError` for something that is not a report,
    contradicts itself, or differs from its journal.
    """
    report, journal = _genuine(source)
    require_worth(report, draft=draft)
    if codename:
        report = redacted(report, codename)
    content = encode_report(report)
    manifest = manifest_of(report, content, draft=draft, journal=journal)
    target = registry / folder_of(report, manifest.report_digest)
    _require_new(target)
    files = {
        REPORT: content,
        PAGE: html.render(report).encode(),
        BADGE: badge.render(report).encode(),
        MANIFEST: encode_manifest(manifest),
    }
    if keys:
        files[ATTESTATION] = dsse.seal(encode_statement(statement_of(report, manifest, files)), keys)
    with writing(target):
        _write_folder(target, files)
    return target


def _genuine(source: Path) -> tuple[Report, str]:
    """Return the report of a run's folder, which must be what its journal gives, and the digest of that journal."""
    if not source.is_dir():
        raise UsageError(f"{source} is not the folder of a run; publish takes the folder that portkit conform wrote")
    lying = load_report(source)
    check_consistent(lying)
    file = source / JOURNAL
    if not file.is_file():
        raise UsageError(f"{source} has no {JOURNAL}, which its report is held against; run the suite again")
    pinned = journal_digest(file.read_bytes())
    report, _ = report_of(source)
    if lying != report:
        raise SchemaError(
            f"{source / 'report.json'} is not what the journal beside it gives; "
            f"write it again with: portkit report {source}"
        )
    if journal_digest(file.read_bytes()) != pinned:
        raise UsageError(f"{file} is being written to; let the run end, then publish it")
    return report, pinned


def _write_folder(target: Path, files: dict[str, bytes]) -> None:
    """Write beside the target, then rename, so that a reader never sees half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".publish-", dir=target.parent))
    try:
        for name, content in files.items():
            (scratch / name).write_bytes(content)
        scratch.chmod(0o755)
        _require_new(target)  # once more: who publishes it at the same time may have been faster
        scratch.rename(target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _require_new(target: Path) -> None:
    if target.exists():
        raise UsageError(
            f"this report is in the registry already: {target}; to file it in another way, "
            "signed or no longer as a draft, remove that folder first"
        )


def entries(registry: Path) -> list[Entry]:
    """Return every published report, by backend, newest first.

    A registry takes submissions from others: each report is checked as if it were published now, and its signature, if
    it has one, by the keys that the registry itself lists. Raises `UsageError` where there is none, `SchemaError`
    naming the folder whose report was changed, or should not have been filed.
    """
    folders = published(registry)
    keys = keys_of(registry)
    found = [read_entry(registry, folder, keys) for folder in folders]
    found.sort(key=lambda e: (e.report.started, e.folder), reverse=True)
    return sorted(found, key=lambda e: e.manifest.backend)


def read_entry(registry: Path, folder: Path, keys: tuple[PublicKey, ...]) -> Entry:
    """Return one published report of a registry, checked; raises `SchemaError` naming its folder."""
    submission = read_submission(folder)
    given = Examined(submission, keys, registry)
    try:
        for check in _CHECKS:
            try:
                check(given)
            except _NotChecked:  # an older manifest, or a signature by a key that the registry does not list
                continue
        return Entry(folder.relative_to(registry).as_posix(), submission.manifest, given.report, given.signed)
    except (SchemaError, UsageError) as error:
        where = "" if str(folder) in str(error) else f"{folder}: "
        raise SchemaError(f"{where}{error}") from error
