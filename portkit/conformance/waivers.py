"""Waivers: cases that are known not to pass, each with a reason, a link and an end.

[[waiver]]
cases = "ops/mul.hi/u32/*"
reason = "erratum 17: the upper half is one too small when both operands are odd"
link = "https://example.com/errata/17"
expires = 2027-03-31

It admits wrong results; what else it is to admit it names: `verdicts = ["fail", "crash"]`. So a crash of a case that is
known to be inexact is not hidden.

A waiver that is past its end, or means no case of the suite, is an error before the run begins. One whose cases all
pass fails the run, so that it is taken out when the device is repaired; flaky ones pass now and then, so a waiver that
admits `flaky` is not held to that.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from portkit.conformance.journal import Entry
from portkit.conformance.select import matches
from portkit.conformance.verdict import Verdict
from portkit.errors import SchemaError, near_names

MAX_FILE_BYTES = 1 << 20
_MOST = 1000
# `(?!\n)$` and not `$` alone: Python's `$` also matches before a final line feed.
Pattern = Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[!-~]+(?!\n)$")]
Text = Annotated[str, msgspec.Meta(max_length=400, pattern=r"\S")]
Link = Annotated[
    str, msgspec.Meta(max_length=400, pattern=r"^https?://[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?(/[^\s]*)?(?!\n)$")
]
Admitted = Literal["fail", "crash", "timeout", "flaky", "blocked"]


class Waiver(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One waiver; `cases` is an id, a prefix or a glob, `expires` the last day on which it holds.

    `verdicts` are those that it admits.
    """

    cases: Pattern
    reason: Text
    link: Link
    expires: dt.date
    verdicts: Annotated[tuple[Admitted, ...], msgspec.Meta(min_length=1)] = ("fail",)

    def admits(self, entry: Entry) -> bool:
        """Whether it covers what was found of a case."""
        return entry.verdict.value in self.verdicts and matches(self.cases, entry.id)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    waiver: Annotated[tuple[Waiver, ...], msgspec.Meta(max_length=_MOST)] = ()


def load_waivers(path: Path, today: dt.date) -> tuple[Waiver, ...]:
    """Read a waiver file.

    Raises `SchemaError` naming the field, or the waiver that has expired.
    """
    try:
        waivers = msgspec.toml.decode(_read(path), type=_File).waiver
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise SchemaError(f"{path.name}: not a file of waivers: {error}") from error
    for waiver in waivers:
        if waiver.expires < today:
            message = f"{path.name}: the waiver of {waiver.cases} ended on {waiver.expires}; renew it or take it out"
            raise SchemaError(message)
    return waivers


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:  # not stat(): a device or a pipe has no size
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SchemaError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > MAX_FILE_BYTES:
        raise SchemaError(f"{path.name}: larger than {MAX_FILE_BYTES} bytes; not a file of waivers")
    return content


def check_meant(waivers: Iterable[Waiver], ids: Sequence[str], where: str) -> None:
    """Raise `SchemaError`, saying where it stands, for a waiver that means none of the suite's cases."""
    for waiver in waivers:
        if not any(matches(waiver.cases, i) for i in ids):
            near = near_names(waiver.cases, ids)
            raise SchemaError(
                f"{where}: the waiver of {waiver.cases} means no case of the suite{near}; correct it or take it out"
            )


WAIVED = re.compile(
    r"(?P<why>\S.*?) \((?P<link>https?://[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]+)?(?:/\S*)?), "
    r"until (?P<end>[0-9]{4}-[0-9]{2}-[0-9]{2})\); ",
    re.DOTALL,
)
"""How `apply` begins the reason of a waived case; what it found follows."""


def apply(waivers: Sequence[Waiver], entry: Entry) -> Entry:
    """Return the entry, `waived` if a waiver covers what it found."""
    waiver = next((w for w in waivers if w.admits(entry)), None)
    if waiver is None:
        return entry
    reason = f"{waiver.reason} ({waiver.link}, until {waiver.expires}); {entry.reason}"
    return msgspec.structs.replace(entry, verdict=Verdict.WAIVED, waived=entry.verdict, reason=reason)


def stale(waivers: Sequence[Waiver], entries: Iterable[Entry], ids: Iterable[str]) -> list[Waiver]:
    """Return the waivers whose cases all pass.

    `ids` are all cases of the tier: a run of some of a waiver's cases does not show that it is not needed.
    """
    verdicts = {entry.id: entry.verdict for entry in entries}
    found = {w: [verdicts.get(i) for i in ids if matches(w.cases, i)] for w in waivers if "flaky" not in w.verdicts}
    passing = {Verdict.PASS, Verdict.UNSUPPORTED}
    return [w for w, given in found.items() if Verdict.PASS in given and passing.issuperset(given)]
