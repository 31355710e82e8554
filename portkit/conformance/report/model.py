"""The report's record, its published JSON Schema, and reading one from outside.

A report carries no host name, path, user name, source or disassembly. Strings in it come from vendors and are hostile:
whoever prints one escapes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from portkit.conformance.case import Level, Tier
from portkit.conformance.verdict import Verdict
from portkit.contract import Capabilities, Evidence
from portkit.errors import SchemaError, UsageError

REPORT_VERSION = "1.0-draft"
MAX_REPORT_BYTES = 64 << 20
MAX_TEXT = 400
MAX_LONG_TEXT = 100_000

# `(?!\n)$` and not `$` alone: Python's `$` also matches before a final line feed. Both mean the same elsewhere.
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
LongText = Annotated[str, msgspec.Meta(max_length=MAX_LONG_TEXT)]
Name = Annotated[str, msgspec.Meta(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*(?!\n)$")]
Word = Annotated[str, msgspec.Meta(max_length=100, pattern=r"^[A-Za-z0-9_.+-]*(?!\n)$")]
CaseId = Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[A-Za-z0-9_./<>+=-]+(?!\n)$")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?(?!\n)$")]
Moment = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\+00:00(?!\n)$")]
Count = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0)]


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

    `error_share` is the largest error as a share of its bound, `digest` that of outputs that are fixed bit for bit
    (strict kernels, graphs with one admitted result), and `bit_exact` whether they equal the reference's. `runs` is how
    often it ran where its runs were compared: `failed` of them did not pass, and `varying` says how many elements
    differed from the first run, by what was done. `after` are cases that must run before it, for it to fail.
    """

    id: CaseId
    verdict: Verdict
    level: Level
    elements: Count = 0
    seconds: Share = 0.0
    error_share: Share = 0.0
    ill_conditioned: Count = 0
    digest: Digest = ""
    bit_exact: bool | None = None
    reason: LongText = ""
    runs: Count = 0
    failed: Count = 0
    after: tuple[CaseId, ...] = ()
    varying: dict[Name, Count] = {}


class FormStability(Record, frozen=True):
    """How the cases of a form came out when they were repeated; a case without a form counts for its level.

    `identical` gave the same bits each time, `beyond` left what the spec admits; the others varied inside of it. `by`
    is what made them vary, `free` the forms in their kernels whose result the spec leaves open.
    """

    form: Name
    cases: Count
    identical: Count
    beyond: Count = 0
    by: tuple[Name, ...] = ()
    free: tuple[Name, ...] = ()


class Determinism(Record, frozen=True):
    """The determinism certificate: each launch ran `runs` times, and in other `orders` of its work-groups.

    Of the `cases` that were measured, `identical` gave the same bits each time, NaN payloads aside.
    """

    runs: Annotated[int, msgspec.Meta(ge=2)]
    orders: tuple[Name, ...]
    cases: Count
    identical: Count
    forms: tuple[FormStability, ...]


class MutationScore(Record, frozen=True):
    """How many seeded faults the suite finds in the run's tier, of those that some case can find."""

    killed: Count
    mutants: Count


class CellResult(Record, frozen=True):
    """One cell of the coverage table: form x dtype x lane count."""

    form: Name
    dtype: Word
    lanes: Annotated[int, msgspec.Meta(ge=1)]
    source: Word
    cases: Count
    elements: Count
    verdict: Verdict
    error_share: Share = 0.0


class Failure(Record, frozen=True):
    """A failure card: text for people, line by line."""

    id: CaseId
    verdict: Verdict
    suspect: Text
    card: LongText


class Report(Record, frozen=True):
    """Everything that one run found.

    `planned` is how many cases the run consists of: one that was cut off has fewer in `cases`. `mutant` names the fault
    that was planted in the device, if any. `started` is in UTC, `seconds` the run's wall time, 0 where it is not known.
    `determinism` is null where launches were not repeated, `mutation_score` where it was not measured for this suite.
    """

    report: str
    subject: Subject
    versions: Versions
    profile: Name
    tier: Tier
    patterns: tuple[Text, ...]
    statement: Text
    passed: bool
    limits: dict[Name, Text]
    capabilities: Capabilities
    started: Moment
    seconds: Share
    counts: dict[Verdict, Count]
    levels: dict[Level, dict[Verdict, Count]]
    cells: tuple[CellResult, ...]
    declared_cells: Count
    uncovered: tuple[Text, ...]
    planned: Count
    cases: tuple[CaseResult, ...]
    failures: tuple[Failure, ...] = ()
    mutant: Text = ""
    determinism: Determinism | None = None
    mutation_score: MutationScore | None = None

    @property
    def date(self) -> str:
        """The day on which the run began, in UTC."""
        return self.started[:10]

    @property
    def strict_cases(self) -> tuple[CaseResult, ...]:
        """The cases whose outputs are fixed bit for bit by the spec."""
        return tuple(c for c in self.cases if c.bit_exact is not None)

    @property
    def bit_exact_share(self) -> float | None:
        """The share of cases with a digest whose outputs equal the reference's; None where no case has one."""
        strict = self.strict_cases
        return sum(c.bit_exact is True for c in strict) / len(strict) if strict else None


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of `report.json`."""
    schema = msgspec.json.schema(Report)
    parts: dict[str, Any] = schema["$defs"]
    for part in parts.values():
        if "description" in part:
            part["description"] = " ".join(part["description"].split())
    fields = parts["Report"]["properties"]
    fields["report"]["const"] = REPORT_VERSION
    # msgspec leaves out what the keys are where they are enums
    by_verdict = {"propertyNames": {"$ref": "#/$defs/Verdict"}}
    fields["counts"].update(by_verdict)
    fields["levels"].update({"propertyNames": {"$ref": "#/$defs/Level"}})
    fields["levels"]["additionalProperties"].update(by_verdict)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "portkit conformance report", **schema}


def encode_report(report: Report) -> bytes:
    """Return the report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def decode_report(content: bytes, name: str) -> Report:
    """Read a report from JSON; `name` is what to call it in messages.

    Raises `SchemaError` for what is not a report of this version.
    """
    try:
        report = msgspec.json.decode(content, type=Report)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError(f"{name}: not a report: {error}") from error
    if report.report != REPORT_VERSION:
        raise SchemaError(f"{name}: a report of version {report.report[:20]!r}, this portkit reads {REPORT_VERSION}")
    return report


def read_file(path: Path, limit: int = MAX_REPORT_BYTES) -> bytes:
    """Return the content of a file from outside.

    Raises `UsageError` where it cannot be read, `SchemaError` where it is longer than `limit` bytes.
    """
    try:
        with path.open("rb") as file:  # not stat(): a device or a pipe has no size
            content = file.read(limit + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    if len(content) > limit:
        raise SchemaError(f"{path}: larger than {limit} bytes; not a file of portkit")
    return content


def load_report(path: Path) -> Report:
    """Read a report from a file or from the folder it lies in.

    Raises `UsageError` for a file that cannot be read, `SchemaError` for one that is not a report of this version.
    """
    file = path / "report.json" if path.is_dir() else path
    return decode_report(read_file(file), str(file))
