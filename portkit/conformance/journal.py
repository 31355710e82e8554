"""The journal of a run: one JSON object per line, a header and then one entry per case, only ever appended to.

Verdicts, counts and every report come from it alone. Each entry is one `write` to a file opened with O_APPEND, so
several workers share it without a lock, and a run that is killed leaves at most one torn line, the last.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec

from portkit.conformance.card import Card
from portkit.conformance.verdict import Verdict
from portkit.contract import Capabilities, DeviceInfo
from portkit.errors import HarnessError, SchemaError, UsageError

JOURNAL_VERSION = "1.0-draft"


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line: what was judged, by what. Digests are SHA-256 in hexadecimal."""

    journal: str
    portkit: str
    spec: str
    spec_digest: str
    suite: str
    suite_digest: str
    contract: str
    backend: str
    backend_digest: str
    capabilities: Capabilities
    info: DeviceInfo
    profile: str
    tier: str
    patterns: tuple[str, ...] = ()
    mutant: str = ""
    """The fault that was planted in the device; such a run says nothing about the device."""
    repeat: int = 1
    """How often each launch ran; from 2 on they were compared, also in other orders of their work-groups."""
    shuffle: int | None = None
    """The seed of the order of the cases, None for the suite's own."""
    started: str = ""
    """Date and time in UTC, ISO 8601."""
    cases: int = 0
    """How many cases the run consists of; a journal with fewer entries is that of a run that was cut off."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The outcome of one case.

    `elements` were compared, `wrong` of them lie outside the acceptance set, for `ill_conditioned` ones nothing is
    claimed. `error_share` is the largest error as a share of its bound, `ulp` the largest distance from the acceptance
    set. `digest` and `reference_digest` are SHA-256 of the outputs of strict kernels, NaN made canonical. `seconds` is
    all of the case, `device_seconds` the launch alone. `waived` is the verdict that a waiver covers.
    """

    id: str
    verdict: Verdict
    level: str
    reason: str = ""
    elements: int = 0
    wrong: int = 0
    ill_conditioned: int = 0
    error_share: float = 0.0
    ulp: float = 0.0
    digest: str = ""
    reference_digest: str = ""
    seconds: float = 0.0
    device_seconds: float = 0.0
    cells: tuple[str, ...] = ()
    waived: Verdict | None = None
    check: str = ""
    """The key of the check that found what is wrong; see `portkit.conformance.finding`."""
    runs: int = 0
    """How often it ran, where runs were compared: because that was asked for, or because it was flaky."""
    failed: int = 0
    """How many of the runs of a flaky case did not pass."""
    orders: tuple[str, ...] = ()
    """The orders of the work-groups in which it ran besides; see `portkit.conformance.determinism`."""
    varying: dict[str, int] = {}
    """How many elements differed from the first run, by `repeat` or order; what is left out was bit-identical."""
    free: tuple[str, ...] = ()
    """The forms of a varying case whose result the spec leaves open."""
    after: tuple[str, ...] = ()
    """The ids of the cases that must run before it in the same process, for it to fail."""
    card: Card | None = None

    @property
    def bit_exact(self) -> bool | None:
        """Whether the outputs of a strict case equal the reference's; None for others."""
        return self.digest == self.reference_digest if self.digest else None


@dataclass(frozen=True, slots=True)
class Journal:
    """A journal that was read: its header and the entries by case id, in the order in which they were written."""

    header: Header
    entries: dict[str, Entry]

    def verdicts(self) -> list[tuple[str, str]]:
        """Return the sorted (id, verdict) list."""
        return sorted((entry.id, entry.verdict.value) for entry in self.entries.values())


_ENCODER = msgspec.json.Encoder()
_HEADER = msgspec.json.Decoder(Header)
_ENTRY = msgspec.json.Decoder(Entry)
_MUST_MATCH = (
    *("spec_digest", "suite_digest", "backend", "backend_digest"),
    *("profile", "tier", "patterns", "mutant", "repeat", "shuffle"),
)


class JournalWriter:
    """Appends entries; any number of processes may write to one journal."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def append(self, entry: Entry) -> None:
        """Append one entry. Raises `HarnessError` where the disk does not take all of it."""
        append_line(self._descriptor, entry)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def append_line(descriptor: int, record: msgspec.Struct) -> None:
    """Write one record as one line with one system call; of a line that does not fit the disk, nothing stays."""
    line = _ENCODER.encode(record) + b"\n"
    try:
        written = os.write(descriptor, line)
    except OSError as error:
        raise HarnessError(f"cannot write to the journal: {error}") from error
    if written != len(line):
        end = os.lseek(descriptor, 0, os.SEEK_CUR)
        if os.fstat(descriptor).st_size == end:
            os.ftruncate(descriptor, end - written)
        raise HarnessError(f"the journal took {written} of {len(line)} bytes; is the disk full?")


def create(path: Path, header: Header) -> None:
    """Begin a new journal, in place of one that is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        append_line(descriptor, header)
    finally:
        os.close(descriptor)


def read(path: Path) -> Journal:
    """Read a journal; a torn last line is left out, and of two entries for one id the last one counts.

    Raises `SchemaError` where the file is missing or a line before the last does not fit.
    """
    lines = _whole_lines(path)
    try:
        header = _HEADER.decode(next(lines, b""))
        entries = {entry.id: entry for entry in map(_ENTRY.decode, lines)}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SchemaError(f"{path.name}: not a journal of version {JOURNAL_VERSION}: {error}") from error
    if header.journal != JOURNAL_VERSION:
        raise SchemaError(f"{path.name}: a journal of version {header.journal}, this portkit reads {JOURNAL_VERSION}")
    return Journal(header, entries)


def _whole_lines(path: Path) -> Iterator[bytes]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SchemaError(f"{path}: cannot be read ({error.strerror})") from error
    yield from data.split(b"\n")[:-1]


def resume(path: Path, header: Header) -> Journal:
    """Read the journal of a run to go on with, and cut off a torn last line so that appending is safe.

    Raises `UsageError` where it was written by another suite, spec, backend, device or selection, naming what differs.
    """
    journal = read(path)
    for field in _MUST_MATCH:
        then, now = getattr(journal.header, field), getattr(header, field)
        if then != now:
            what = f"{field.replace('_', ' ')} is {_short(then)}, now it is {_short(now)}"
            raise UsageError(f"cannot resume {path.name}: its {what}; run without --resume")
    for part in ("capabilities", "info"):
        _check_same(path, getattr(journal.header, part), getattr(header, part))
    data = path.read_bytes()
    os.truncate(path, data.rfind(b"\n") + 1)
    return journal


def _check_same(path: Path, then: msgspec.Struct, now: msgspec.Struct) -> None:
    """Raise `UsageError` where what a backend said of itself has changed: verdicts of two devices do not mix."""
    for field in then.__struct_fields__:
        if field != "extra" and getattr(then, field) != getattr(now, field):
            what = f"what the backend declares as {field} has changed"
            raise UsageError(f"cannot resume {path.name}: {what}; run without --resume")


def lock(path: Path) -> int:
    """Return a descriptor that keeps other runs from writing to the same journal until it is closed.

    Raises `UsageError` where another run has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UsageError(f"another run is writing to {path.parent}; let it end, or choose another folder") from error
    return descriptor


def _short(value: object) -> str:
    text = " ".join(cast("tuple[str, ...]", value)) if isinstance(value, tuple) else str(value)
    return f"{text[:12]}..." if len(text) == 64 else text or "none"


class Follower:
    """Reads a journal while others write to it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._rest = b""
        self._header = True

    def new_entries(self) -> list[Entry]:
        """Return the entries that were completed since the last call. Raises `SchemaError` for what is no entry."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        if self._header and lines:
            lines, self._header = lines[1:], False
        try:
            return [_ENTRY.decode(line) for line in lines]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SchemaError(f"{self._file.name}: something else wrote into this journal: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()
