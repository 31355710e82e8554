"""Hiding which chip a report is about: for chips that are not announced yet."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from msgspec.structs import replace

from portkit.conformance.report.model import CaseResult, Failure, Report
from portkit.conformance.verdict import Verdict
from portkit.conformance.waivers import WAIVED
from portkit.contract import Tuning, installed_backends
from portkit.errors import UsageError

HIDDEN = "redacted"
"""What stands where a text was taken out, which is also the mark of a redacted report."""

MAX_CODENAME = 40
_CODENAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.+-]{{0,{MAX_CODENAME - 1}}}")
_WORD = re.compile(r"[^\W_]{3,}|[^\W\d_][0-9]|[0-9][^\W\d_]")
"""What names: a word, or a model number as short as A7."""
_PART = re.compile(r"[A-Z][a-z]{2,}|[^\W\d_]{3,}")
"""A part of a word: Gaudi of Gaudi3, Zephyr of ZephyrNPU."""
_TOKEN = re.compile(r"[^\W_]+")
_INITIALS = 2
"""A vendor may be called by two letters."""
_LEAST = 3
"""Shorter words are looked for as whole words only: they are parts of too much else."""


def is_redacted(report: Report) -> bool:
    """Say whether a report's names were taken out."""
    return report.subject.vendor == report.subject.version == HIDDEN


def redacted(report: Report, codename: str) -> Report:
    """Return the report with `codename` for backend and device, and nothing else that names them.

    Texts that a device or a compiler may have written (reasons and failure cards) are taken out whole: names hide in
    them in forms that no replacement finds. The backend's digest goes too, as who has the package could look it up.
    Verdicts, digests of outputs and limits stay, sizes that only tune do not. Nothing that is left is made from the
    names.

    Raises `UsageError` for a codename that is none, or that has a word of the names it is to hide, and for a waiver
    that names the chip.
    """
    _check(codename, report)
    names = _Names.of(report)
    said, declared = report.subject, report.capabilities
    return replace(
        report,
        subject=replace(
            said,
            backend=codename,
            device=codename,
            version=HIDDEN,
            vendor=HIDDEN,
            driver=_hidden(said.driver),
            compiler=_hidden(said.compiler),
        ),
        versions=replace(report.versions, backend_digest=""),
        capabilities=replace(declared, name=codename, version=HIDDEN, vendor=HIDDEN, tuning=Tuning()),
        cases=tuple(_case(case, names) for case in report.cases),
        failures=tuple(_failure(failure, names) for failure in report.failures),
    )


@dataclass(frozen=True, slots=True)
class _Names:
    """The words that a report's subject is named by, in lower case."""

    words: frozenset[str]

    @classmethod
    def of(cls, report: Report) -> _Names:
        said = report.subject
        texts = [_plain(text) for text in (said.backend, said.device, said.vendor, said.driver, said.compiler)]
        found = {word for text in texts for find in (_WORD, _PART) for word in find.findall(text)}
        numbered = {word for word in _WORD.findall(_plain(said.version)) if not word.isdigit()}
        initials = {word for word in _TOKEN.findall(_plain(said.vendor)) if len(word) == _INITIALS}
        return cls(frozenset(word.casefold() for word in found | numbered | initials))

    def taken_out(self, text: str) -> str:
        """Return the text, or `HIDDEN` where it has one of the words in it."""
        said = _plain(text).casefold()
        short = set(_TOKEN.findall(said))
        return HIDDEN if any(word in short if len(word) < _LEAST else word in said for word in self.words) else text


def _plain(text: str) -> str:
    """Return a text with every letter in its plain form: wide, styled and ligature letters are read as the same."""
    return unicodedata.normalize("NFKC", text)


def _check(codename: str, report: Report) -> None:
    if not _CODENAME.fullmatch(codename):
        raise UsageError(
            f"{codename[:60]!r} is not a codename: write at most {MAX_CODENAME} letters, digits and . _ + -, "
            "a letter or digit first, such as heron"
        )
    if codename in installed_backends():
        raise UsageError(f"the codename {codename!r} is the name of another backend; choose another one")
    if _Names.of(report).taken_out(codename) is not codename:
        raise UsageError(f"the codename {codename!r} has a word of the names it is to hide; choose another one")


def _hidden(text: str) -> str:
    return HIDDEN if text else ""


def _case(case: CaseResult, names: _Names) -> CaseResult:
    if case.verdict is Verdict.WAIVED:  # a waiver's reason and link are public; nobody may be kept from reading them
        # What follows a waiver's words is what the case found, in words that may be the device's.
        waiver = WAIVED.match(case.reason)
        said = waiver.group() if waiver else ""
        if names.taken_out(said) == HIDDEN:
            raise UsageError(f"the waiver of {case.id} names the chip in its reason or link; word it without the name")
        return replace(case, reason=f"{said}{HIDDEN}")
    return replace(case, reason=_hidden(case.reason))


def _failure(failure: Failure, names: _Names) -> Failure:
    return replace(failure, suspect=names.taken_out(failure.suspect), card=HIDDEN)
