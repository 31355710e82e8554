"""The records of a bundle and of outputs: what `bundle.json` and `outputs.json` hold.

Both come from outside: sizes and counts are limited, unknown fields refused, and paths are names that cannot lead out
of the archive. What one record must say of another is checked in `portkit.conformance.bundle.load`.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from portkit.conformance.case import Level, Tier
from portkit.conformance.report.model import CaseId, Count, Name, Record, Text, Word
from portkit.conformance.report.text import printable
from portkit.contract import Capabilities, Evidence
from portkit.errors import SchemaError

BUNDLE_VERSION = 1
INDEX = "bundle.json"
MANIFEST = "outputs.json"
MAX_CASES = 30_000
MAX_INDEX_BYTES = 64 << 20
MAX_MANIFEST_BYTES = 8 << 20
MAX_FILE_BYTES = 1 << 28
_SHOWN = 300

PART = r"[A-Za-z0-9_-][A-Za-z0-9_.-]*"
"""One part of the path of a file in an archive: it cannot be hidden, nor lead upwards."""

Path = Annotated[str, msgspec.Meta(max_length=120, pattern=rf"^{PART}(/{PART})*(?!\n)$")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}(?!\n)$")]
Bits = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-f]{8}(?!\n)$")]
Identifier = Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_]*(?!\n)$")]
Bytes = Annotated[int, msgspec.Meta(ge=0, le=MAX_FILE_BYTES)]
Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
Groups = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class File(Record, frozen=True):
    """A file of the archive: its name there, its length, and its SHA-256 in hexadecimal."""

    path: Path
    size: Bytes
    sha256: Sha256


class Scalar(Record, frozen=True):
    """A scalar argument by its bit pattern of 32 bits, in header order."""

    name: Identifier
    dtype: Word
    bits: Bits


class Buffer(Record, frozen=True):
    """A buffer, in header order: where it starts in the memory image, and how many bytes are its contents."""

    name: Identifier
    dtype: Word
    extent: Count
    access: Literal["read", "write", "readwrite"]
    offset: Bytes
    size: Bytes


class Expected(Record, frozen=True, omit_defaults=True):
    """What a written buffer may hold after the launch; each file has one element per element of the buffer.

    With the rule `interval`, `values` are the least and the greatest admitted float, one file where they are the same;
    with `choice` they are the admitted integers or bools. `flags` has a byte per element: bit 0, any NaN is admitted
    too; bit 1, nothing is claimed. Without that file all of them are 0.
    """

    buffer: Identifier
    rule: Literal["interval", "choice"]
    values: Annotated[tuple[File, ...], msgspec.Meta(min_length=1, max_length=4)]
    flags: File | None = None


class Launch(Record, frozen=True):
    """One launch: the memory image before it, and the name that its image afterwards has among the outputs.

    `poison` fills buffers that are only written, `guard` every byte of the image outside of the buffers.
    """

    poison: Byte
    guard: Byte
    before: File
    after: Path
    expected: Annotated[tuple[Expected, ...], msgspec.Meta(max_length=4096)]


class BundledCase(Record, frozen=True, omit_defaults=True):
    """A case: its kernel, how it is launched, and one launch or two.

    `lanes` is the work-group size, `grid` the extent of each grid loop, outermost first. The second launch is looked at
    where an element of a buffer that is only written still holds the poison after the first. With `device_check_only`
    the values are left open, and only bytes outside of the written buffers are looked at.
    """

    id: CaseId
    level: Level
    tier: Tier
    cells: Annotated[tuple[Text, ...], msgspec.Meta(max_length=10_000)]
    kernel: File
    strict: bool
    lanes: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    shared_bytes: Count
    grid: Annotated[tuple[Groups, ...], msgspec.Meta(max_length=64)]
    scalars: Annotated[tuple[Scalar, ...], msgspec.Meta(max_length=4096)]
    buffers: Annotated[tuple[Buffer, ...], msgspec.Meta(max_length=4096)]
    image_bytes: Bytes
    launches: Annotated[tuple[Launch, ...], msgspec.Meta(min_length=1, max_length=2)]
    device_check_only: bool = False
    source: File | None = None


class Printed(Record, frozen=True):
    """Who printed the generated sources of a bundle."""

    backend: Name
    digest: Sha256
    compiler: Text = ""


class Bundle(Record, frozen=True, omit_defaults=True):
    """`bundle.json`: what the archive holds. Digests are SHA-256 in hexadecimal.

    `left_out` are the selected cases that talk to a device while it runs, or compile for it as they go, and so are no
    files.
    """

    format: Literal["portkit-bundle"]
    version: Literal[1]
    portkit: Text
    spec: Text
    spec_digest: Sha256
    suite: Text
    suite_digest: Sha256
    profile: Name
    tier: Tier
    patterns: Annotated[tuple[Text, ...], msgspec.Meta(max_length=1000)]
    capabilities: Capabilities
    cases: Annotated[tuple[BundledCase, ...], msgspec.Meta(max_length=MAX_CASES)]
    left_out: Annotated[tuple[CaseId, ...], msgspec.Meta(max_length=MAX_CASES)] = ()
    printed: Printed | None = None


class Unmade(Record, frozen=True):
    """Why a launch has no image afterwards: the device died, did not come back, or refused."""

    verdict: Literal["crash", "timeout", "fail"]
    reason: Text


class Outputs(Record, frozen=True, omit_defaults=True):
    """`outputs.json`: where the outputs come from, in the words of whoever made them.

    `bundle` is the SHA-256 of the `bundle.json` that they belong to. Without `evidence` they count as a stand-in's.
    """

    format: Literal["portkit-outputs"]
    version: Literal[1]
    bundle: Sha256
    device: Text = ""
    driver: Text = ""
    compiler: Text = ""
    evidence: Evidence = "stand-in"
    unmade: Annotated[dict[CaseId, Unmade], msgspec.Meta(max_length=MAX_CASES)] = msgspec.field(
        default_factory=dict[str, Unmade]
    )


_T = TypeVar("_T", Bundle, Outputs)


def encode(record: Bundle | Outputs) -> bytes:
    """Return a record as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def decode(content: bytes, kind: type[_T], where: str) -> _T:
    """Read a record; `where` is what to call it in messages. Raises `SchemaError` for what is none of this version."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SchemaError(f"{where}: no record of version 1: {brief(error)}") from error
    except RecursionError as error:
        raise SchemaError(f"{where}: nested too deeply to be read") from error


def brief(error: Exception) -> str:
    """Return what an error says of a record from outside, printable and cut."""
    return printable(str(error))[:_SHOWN]


def digest(content: bytes) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of `bundle.json` and of `outputs.json`, as the definitions `Bundle` and `Outputs`."""
    _, parts = msgspec.json.schema_components([Bundle, Outputs])
    for part in parts.values():
        if "description" in part:
            part["description"] = " ".join(part["description"].split())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "portkit bundle", "$defs": parts}
