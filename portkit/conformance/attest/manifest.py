"""`manifest.json`: what a published report is pinned by; and the in-toto statement that is signed of it.

The statement is Statement v1 of in-toto (https://in-toto.io/Statement/v1). Its subjects are the files of the
submission, and the journal, which stays with whoever ran the suite; its predicate says what was judged, by what, and
what came out. Nothing in it is free: it follows from manifest and report, so it is made again and compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from portkit.conformance.report.model import Count, Digest, Moment, Name, Record, Report, Text
from portkit.conformance.verdict import Verdict
from portkit.contract import Evidence
from portkit.errors import SchemaError

MANIFEST_VERSION = "1.1-draft"
FIRST_VERSION = "1.0-draft"
"""It had neither the digest of the capabilities nor that of the journal."""
REPORT, MANIFEST, PAGE, BADGE, JOURNAL = "report.json", "manifest.json", "report.html", "badge.svg", "journal.jsonl"
ATTESTATION = "attestation.json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:portkit:conformance:1.0-draft"


class Manifest(Record, frozen=True):
    """What a published report is pinned by; digests are SHA-256 in hexadecimal.

    Those of the capabilities and of the journal are empty in manifests of the first version.
    """

    manifest: str
    backend: Name
    draft: bool
    report_digest: Digest
    spec_digest: Digest
    suite_digest: Digest
    backend_digest: Digest
    statement: Text
    capabilities_digest: Digest = ""
    journal_digest: Digest = ""


class Digests(Record, frozen=True):
    """The digest of a subject."""

    sha256: Digest


class Subject(Record, frozen=True):
    """A file that a statement is of."""

    name: Name
    digest: Digests


class Predicate(Record, frozen=True):
    """What a statement says: of the run, and of what it was judged by."""

    backend: Name
    version: Text
    evidence: Evidence
    profile: Name
    tier: Name
    statement: Text
    draft: bool
    started: Moment
    planned: Count
    counts: dict[Verdict, Count]
    portkit: Text
    spec_digest: Digest
    suite_digest: Digest
    backend_digest: Digest
    capabilities_digest: Digest
    journal_digest: Digest


class Statement(Record, frozen=True, rename={"type": "_type", "predicate_type": "predicateType"}):
    """An in-toto statement."""

    type: str
    subject: tuple[Subject, ...]
    predicate_type: str
    predicate: Predicate


def digest(content: bytes) -> str:
    """Return the SHA-256 of some bytes in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def journal_digest(content: bytes) -> str:
    """Return the digest of a journal: of its whole lines, since a run that was killed may leave half of a last one."""
    return digest(content[: content.rfind(b"\n") + 1])


def capabilities_digest(report: Report) -> str:
    """Return the digest of what the backend declares: of its JSON with sorted keys and without white space."""
    return digest(msgspec.json.encode(report.capabilities, order="sorted"))


# --- the manifest -------------------------------------------------------------------------------------------------


def manifest_of(report: Report, content: bytes, *, draft: bool, journal: str = "") -> Manifest:
    """Return the manifest of a report with this content; `journal` is the digest of its journal."""
    return Manifest(
        manifest=MANIFEST_VERSION,
        backend=report.subject.backend,
        draft=draft,
        report_digest=digest(content),
        spec_digest=report.versions.spec_digest,
        suite_digest=report.versions.suite_digest,
        backend_digest=report.versions.backend_digest,
        statement=report.statement,
        capabilities_digest=capabilities_digest(report),
        journal_digest=journal,
    )


def encode_manifest(manifest: Manifest) -> bytes:
    """Return a manifest as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode_manifest(content: bytes, name: str) -> Manifest:
    """Read a manifest of any version. Raises `SchemaError` for what is none."""
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError(f"{name}: not a manifest: {error}") from error
    if manifest.manifest not in (MANIFEST_VERSION, FIRST_VERSION):
        said = manifest.manifest[:20]
        raise SchemaError(f"{name}: a manifest of version {said!r}, this portkit reads {MANIFEST_VERSION}")
    return manifest


def check_manifest(manifest: Manifest, report: Report, content: bytes) -> None:
    """Raise `SchemaError`, naming the field, where a manifest is not that of a report with this content."""
    wanted = manifest_of(report, content, draft=manifest.draft, journal=manifest.journal_digest)
    if manifest.report_digest != wanted.report_digest:
        raise SchemaError(
            f"{REPORT} is not the one that was published: its SHA-256 is {wanted.report_digest[:12]}..., "
            f"its manifest differs and says {manifest.report_digest[:12] or 'nothing'}..."
        )
    if manifest.manifest == FIRST_VERSION:
        wanted = msgspec.structs.replace(wanted, manifest=FIRST_VERSION, capabilities_digest="", journal_digest="")
    elif not manifest.journal_digest:
        raise SchemaError(f"{MANIFEST} lacks journal_digest, which pins the journal that the report was made from")
    for field in Manifest.__struct_fields__:
        if getattr(manifest, field) != getattr(wanted, field):
            raise SchemaError(f"{MANIFEST} was changed: its {field} is not that of the report, so its manifest differs")


# --- the statement ------------------------------------------------------------------------------------------------


def statement_of(report: Report, manifest: Manifest, files: Mapping[str, bytes]) -> Statement:
    """Return what is signed of a submission; `files` are its files by name."""
    pinned = {name: digest(files[name]) for name in (REPORT, MANIFEST, PAGE, BADGE) if name in files}
    pinned[JOURNAL] = manifest.journal_digest
    subject, versions = report.subject, report.versions
    return Statement(
        type=STATEMENT_TYPE,
        subject=tuple(Subject(name, Digests(value)) for name, value in pinned.items()),
        predicate_type=PREDICATE_TYPE,
        predicate=Predicate(
            backend=subject.backend,
            version=subject.version,
            evidence=subject.evidence,
            profile=report.profile,
            tier=report.tier.value,
            statement=report.statement,
            draft=manifest.draft,
            started=report.started,
            planned=report.planned,
            counts=report.counts,
            portkit=versions.portkit,
            spec_digest=versions.spec_digest,
            suite_digest=versions.suite_digest,
            backend_digest=versions.backend_digest,
            capabilities_digest=capabilities_digest(report),
            journal_digest=manifest.journal_digest,
        ),
    )


def encode_statement(statement: Statement) -> bytes:
    """Return the payload: compact JSON in one order of fields."""
    return msgspec.json.encode(statement)


def decode_statement(payload: bytes, name: str) -> Statement:
    """Read a payload. Raises `SchemaError` for what is no statement of a conformance report."""
    try:
        kinds = msgspec.json.decode(payload, type=_Kinds)
        for said, known in ((kinds.type, STATEMENT_TYPE), (kinds.predicate_type, PREDICATE_TYPE)):
            if said != known:
                raise SchemaError(f"{name}: a statement of the type {said[:60]!r}, not {known}")
        return msgspec.json.decode(payload, type=Statement)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError(f"{name}: not a statement of a conformance report: {error}") from error


class _Kinds(msgspec.Struct, frozen=True, rename={"type": "_type", "predicate_type": "predicateType"}):
    type: str
    predicate_type: str


def check_statement(signed: Statement, report: Report, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Raise `SchemaError`, naming the file or field, where a statement is not of this submission."""
    made = statement_of(report, manifest, files)
    theirs, ours = _subjects(signed), _subjects(made)
    if len(theirs) < len(signed.subject):
        raise SchemaError(f"{ATTESTATION} names a subject twice")
    for name in dict.fromkeys((*_ORDER, *theirs)):
        if theirs.get(name) != ours.get(name):
            raise SchemaError(_difference(name, theirs, ours))
    _check_predicate(signed.predicate, made.predicate)


_ORDER = (REPORT, MANIFEST, PAGE, BADGE, JOURNAL)


def _subjects(statement: Statement) -> dict[str, str]:
    return {subject.name: subject.digest.sha256 for subject in statement.subject}


def _difference(name: str, theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    if name not in theirs:
        return f"{name} is not among what was signed; it was put there afterwards"
    if name not in ours:
        return f"{name} was signed and is not there"
    return f"{name} is not the one that was signed: its SHA-256 differs from that in {ATTESTATION}"


def _check_predicate(said: Predicate, follows: Predicate) -> None:
    for field in Predicate.__struct_fields__:
        value: Any = getattr(said, field)
        if value != getattr(follows, field):
            raise SchemaError(f"{ATTESTATION} says another {field} than the report: {str(value)[:60]!r}")
