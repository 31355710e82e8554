"""Names: what is one, how a foreign one is shown in a message, and which known ones are near."""

from __future__ import annotations

import re
from collections.abc import Iterable

from portkit.errors import SpecError, near_names

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_SHOWN = 40
_SUGGESTED = 400
"""A misspelt name is compared with this many of the latest names: hostile text must not make errors slow."""


def show(text: str) -> str:
    """Return foreign text in quotes, escaped and cut, fit for a message."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def near(name: str, known: Iterable[str]) -> str:
    """Return a hint with the known names that are close to `name`; `known` is ordered by first use."""
    names = list(known)
    return near_names(name, names[-_SUGGESTED:]) if len(name) <= 64 else ""


def check_name(name: str) -> str:
    """Return `name`; raises `SpecError` (header_c2) if it is not a name."""
    if _NAME.fullmatch(name) is None:
        raise SpecError(f"{show(name)} is not a name of 1 to 64 letters, digits and underscores", clause="header_c2")
    return name
