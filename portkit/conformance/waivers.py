"""Waivers: cases that are known not to pass, each with a reason, a link and an end.

[[waiver]]
cases = "ops/mul.hi/u32/*"
reason = "erratum 17: the upper half is one too small when both operands are odd"
link = "https://example.com/errata/17"
expires = 2027-03-31

A waiver that is past its end is an error before the run begins; one whose cases all pass fails the run, so that it is
taken out when the device is repaired.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from portkit.conformance.journal import Entry
from portkit.conformance.select import matches
from portkit.conformance.verdict import Verdict
from portkit.errors import SchemaError

Text = Annotated[str, msgspec.Meta(min_length=1)]
_COVERED = frozenset({Verdict.FAIL, Verdict.CRASH, Verdict.TIMEOUT, Verdict.FLAKY, Verdict.BLOCKED})


class Waiver(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One waiver; `cases` is an id, a prefix or a glob, `expires` the last day on which it holds."""

    cases: Text
    reason: Text
    link: Annotated[str, msgspec.Meta(pattern=r"^https?://")]
    expires: dt.date


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    waiver: tuple[Waiver, ...] = ()


def load_waivers(path: Path, today: dt.date) -> tuple[Waiver, ...]:
    """Read a waiver file.

    Raises `SchemaError` naming the field, or the waiver that has expired.
    """
    try:
        waivers = msgspec.toml.decode(path.read_bytes(), type=_File).waiver
    except OSError as error:
        raise SchemaError(f"{path}: cannot be read ({error.strerror})") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SchemaError(f"{path.name}: {error}") from error
    for waiver in waivers:
        if waiver.expires < today:
            message = f"{path.name}: the waiver of {waiver.cases} ended on {waiver.expires}; renew it or take it out"
            raise SchemaError(message)
    return waivers


def apply(waivers: Sequence[Waiver], entry: Entry) -> Entry:
    """Return the entry, `waived` if a waiver covers what it found."""
    if entry.verdict not in _COVERED:
        return entry
    for waiver in waivers:
        if matches(waiver.cases, entry.id):
            reason = f"{waiver.reason} ({waiver.link}, until {waiver.expires}); {entry.reason}"
            return msgspec.structs.replace(entry, verdict=Verdict.WAIVED, waived=entry.verdict, reason=reason)
    return entry


def stale(waivers: Sequence[Waiver], entries: Iterable[Entry]) -> list[Waiver]:
    """Return the waivers that matched cases, all of which passed."""
    found = list(entries)
    matched = {w: [e.verdict for e in found if matches(w.cases, e.id)] for w in waivers}
    return [w for w, verdicts in matched.items() if verdicts and all(v is Verdict.PASS for v in verdicts)]
