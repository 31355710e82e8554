"""Reading the folder of a published report, which somebody else wrote.

Names are only compared and never become paths, links are not followed, nothing but plain files is opened, and of each
file no more is read than its limit.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import cast

import msgspec

from portkit.conformance.attest.dsse import MAX_ENVELOPE_BYTES
from portkit.conformance.attest.manifest import (
    ATTESTATION,
    BADGE,
    MANIFEST,
    PAGE,
    REPORT,
    Manifest,
    decode_manifest,
)
from portkit.conformance.report.folder import JOURNAL
from portkit.conformance.report.model import MAX_REPORT_BYTES, Report, decode_report
from portkit.conformance.report.text import printable
from portkit.contract import check_capabilities
from portkit.errors import SchemaError, UsageError

MAX_MANIFEST_BYTES = 1 << 20
LIMITS: Mapping[str, int] = {
    REPORT: MAX_REPORT_BYTES,
    MANIFEST: MAX_MANIFEST_BYTES,
    PAGE: MAX_REPORT_BYTES,
    BADGE: MAX_MANIFEST_BYTES,
    ATTESTATION: MAX_ENVELOPE_BYTES,
}
"""The files of a published report, and how many bytes each may have."""
NEEDED = (MANIFEST, REPORT)
_MOST: Mapping[str, int] = {"cases": 100_000, "cells": 100_000, "failures": 1_000, "uncovered": 100_000}
"""How much of each a published report may list; those of portkit's own suite have a tenth at most."""
_MOST_NAMES = 64
_SHOWN = 60


@dataclass(frozen=True)
class Submission:
    """The folder of a published report: the content of its files, and the names of what does not belong there."""

    folder: Path
    files: Mapping[str, bytes]
    strange: tuple[str, ...] = ()

    def path(self, name: str) -> str:
        """Return how a file is called in messages."""
        return str(self.folder / name)

    @cached_property
    def report(self) -> Report:
        """The report; raises `SchemaError` for what is none, is too long, or declares what no device can."""
        report = decode_report(self._content(REPORT), self.path(REPORT))
        for part, most in _MOST.items():
            if len(getattr(report, part)) > most:
                raise SchemaError(
                    f"{self.path(REPORT)}: lists {len(getattr(report, part)):,} {part}, {most:,} are the most"
                )
        check_capabilities(report.capabilities, f"{self.path(REPORT)}: capabilities")
        _check_strings(report, self.path(REPORT))
        return report

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest; raises `SchemaError` for what is none."""
        return decode_manifest(self._content(MANIFEST), self.path(MANIFEST))

    def _content(self, name: str) -> bytes:
        if name not in self.files:
            raise SchemaError(f"cannot read {self.path(name)}: there is no such file; portkit publish writes one")
        return self.files[name]


def read_submission(folder: Path) -> Submission:
    """Read the files of a published report.

    Raises `UsageError` where there is no such folder, `SchemaError` for a link or something else that is no plain file
    in the place of one, and for a file that is too long.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if folder.is_symlink():
            raise SchemaError(f"{folder} is a link; a published report is a folder of its own") from error
        if folder.exists() and not folder.is_dir():
            raise SchemaError(f"{folder} is no folder of a report and lies beside them; take it out") from error
        raise UsageError(f"cannot read {folder}: {error.strerror}") from error
    try:
        with os.scandir(descriptor) as listing:
            names = sorted(entry.name for entry in islice(listing, _MOST_NAMES))
        files = {name: _read(descriptor, folder, name) for name in names if name in LIMITS}
    finally:
        os.close(descriptor)
    return Submission(folder, files, tuple(name for name in names if name not in LIMITS))


def _read(descriptor: int, folder: Path, name: str) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe without a writer must not hold us
    try:
        file = os.open(name, flags, dir_fd=descriptor)
    except OSError as error:
        if (folder / name).is_symlink():
            raise SchemaError(f"{folder / name} is a link, which is not followed; a report holds its files") from error
        raise SchemaError(f"cannot read {folder / name}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise SchemaError(f"{folder / name} is no plain file")
        with os.fdopen(file, "rb", closefd=False) as reader:
            content = reader.read(LIMITS[name] + 1)
    finally:
        os.close(file)
    if len(content) > LIMITS[name]:
        raise SchemaError(f"{folder / name}: larger than {LIMITS[name]} bytes; not a file of portkit")
    return content


def _check_strings(report: Report, where: str) -> None:
    """Raise `SchemaError` for a text with controls, or with marks that turn its direction: portkit writes none."""
    harmful = next((text for text in _strings(msgspec.to_builtins(report)) if printable(text) != text), None)
    if harmful is not None:
        raise SchemaError(f"{where}: holds a text that could lead a reader astray, {ascii(harmful)[:_SHOWN]}")


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in cast("Mapping[str, object]", value).items():
            yield key
            yield from _strings(item)
    elif isinstance(value, Sequence):
        for item in cast("Sequence[object]", value):
            yield from _strings(item)


def check_single(content: bytes, where: str) -> None:
    """Raise `SchemaError` for JSON that gives a field twice: readers differ on which of the two counts."""

    def object_of(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise SchemaError(f"{where}: the field {ascii(twice)[1:-1][:_SHOWN]} stands there twice")
        return found

    json.loads(content, object_pairs_hook=object_of)


def check_names(submission: Submission) -> None:
    """Raise `SchemaError` for a file that does not belong into a published report, or lacks there."""
    missing = [name for name in NEEDED if name not in submission.files]
    if submission.strange:
        if JOURNAL in submission.strange and MANIFEST in missing:
            raise SchemaError(
                f"{submission.folder} is the folder of a run and was not published; "
                f"portkit publish {submission.folder} --registry REGISTRY files it"
            )
        name = ascii(submission.strange[0])[1:-1][:_SHOWN]
        raise SchemaError(f"{submission.folder} holds {name}, which is no part of a published report; take it out")
    if missing:
        raise SchemaError(f"{submission.folder} lacks {missing[0]}; portkit publish writes it")
