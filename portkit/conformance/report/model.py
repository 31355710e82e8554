"""The report's record, its published JSON Schema, and reading one from outside.

A report carries no host name, path, user name, source or disassembly. Strings in it come from vendors and are hostile:
whoever prints one escapes it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec

from portkit.contract import Evidence
from portkit.errors import SchemaError

REPORT_VERSION = "1.0-draft"
MAX_REPORT_BYTES = 64 << 20

Text = Annotated[str, msgspec.Meta(max_length=400)]
LongText = Annotated[str, msgspec.Meta(max_length=200_000)]
Name = Annotated[str, msgspec.Meta(max_length=100, pattern=r"^[A-Za-z0-9_.+-]+$")]
CaseId = Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[A-Za-z0-9_./<>+=-]+$")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?$")]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every part of a report."""


class Subject(Record, frozen=True):
    """What was judged."""

    backend: Name
    version: Text
    vendor: Text
    device: Text
    evidence: Evidence
    driver: Text = ""
    compiler: Text = ""


class Versions(Record, frozen=True):
    """What it was judged by; digests are SHA-256 in hexadecimal."""

    portkit: Text
    spec: Text
    spec_digest: Digest
    suite: Text
    suite_digest: Digest
    backend_digest: Digest
    contract: Text


class CaseResult(Record, frozen=True):
    """The verdict of one case.

    `error_share` is the largest error as a share of its bound, `digest` that of the outputs of strict kernels.
    """

    id: CaseId
    verdict: Name
    level: Name
    elements: Count = 0
    seconds: float = 0.0
    error_share: float = 0.0
    ill_conditioned: Count = 0
    digest: Digest = ""
    bit_exact: bool | None = None
    reason: LongText = ""


class CellResult(Record, frozen=True):
    """One cell of the coverage table: form x dtype x lane count."""

    form: Name
    dtype: Name
    lanes: Annotated[int, msgspec.Meta(ge=1)]
    source: str
    cases: Count
    elements: Count
    verdict: Name
    error_share: float = 0.0


class Failure(Record, frozen=True):
    """A failure card: text for people, line by line."""

    id: CaseId
    verdict: Name
    suspect: Text
    card: LongText


class Report(Record, frozen=True):
    """Everything that one run found."""

    report: str
    subject: Subject
    versions: Versions
    profile: Name
    tier: Name
    patterns: tuple[Text, ...]
    statement: Text
    passed: bool
    limits: dict[str, Text]
    capabilities: dict[str, Any]
    date: Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\d$")]
    seconds: float
    counts: dict[Name, Count]
    levels: dict[Name, dict[Name, Count]]
    cells: tuple[CellResult, ...]
    declared_cells: Count
    uncovered: tuple[Text, ...]
    cases: tuple[CaseResult, ...]
    failures: tuple[Failure, ...] = ()

    @property
    def strict_cases(self) -> tuple[CaseResult, ...]:
        """The cases whose outputs are fixed bit for bit by the spec."""
        return tuple(c for c in self.cases if c.bit_exact is not None)

    @property
    def bit_exact_share(self) -> float | None:
        """The share of strict cases whose output digests equal the reference's; None without strict cases."""
        strict = self.strict_cases
        return sum(c.bit_exact is True for c in strict) / len(strict) if strict else None


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of `report.json`."""
    schema = msgspec.json.schema(Report)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "portkit conformance report", **schema}


def encode_report(report: Report) -> bytes:
    """Return the report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def load_report(path: Path) -> Report:
    """Read a report from a file or from the folder it lies in.

    Raises `SchemaError` for a file that is missing, too large, or not a report of this version.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        if file.stat().st_size > MAX_REPORT_BYTES:
            raise SchemaError(f"{file}: larger than {MAX_REPORT_BYTES} bytes; not a report of portkit")
        return msgspec.json.decode(file.read_bytes(), type=Report)
    except OSError as error:
        raise SchemaError(f"{file}: cannot be read ({error.strerror}); give a report.json or its folder") from error
    except (msgspec.DecodeError, json.JSONDecodeError, RecursionError) as error:
        raise SchemaError(f"{file}: not a report: {error}") from error
