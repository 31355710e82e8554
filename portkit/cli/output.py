"""Printing and exit codes, in one place for every command."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from rich.console import Console

from portkit.errors import (
    CannotRunHere,
    ContractError,
    DeviceError,
    HarnessError,
    PortkitError,
    SchemaError,
    SpecError,
    UsageError,
)

EXIT_PASS, EXIT_FAIL, EXIT_USAGE, EXIT_CANNOT_RUN, EXIT_HARNESS, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130
EXIT_UNREAD = 141
"""Whoever read the output has left, as `head` does; a shell says the same of a program that SIGPIPE ended."""

_EXIT_CODES: tuple[tuple[type[PortkitError], int], ...] = (
    (UsageError, EXIT_USAGE),
    (SpecError, EXIT_USAGE),
    (SchemaError, EXIT_USAGE),
    (CannotRunHere, EXIT_CANNOT_RUN),
    (ContractError, EXIT_FAIL),
    (DeviceError, EXIT_FAIL),
    (HarnessError, EXIT_HARNESS),
)
COLUMNS = 80
"""How wide texts are that are wrapped whatever the terminal."""
_GAP = "  "
_LEAST_ROOM = 24
"""A wrapped column is not made narrower."""
_BELOW = 4
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal would obey in place of showing it: texts come from backends, files and reports by others."""


class _Console(Console):
    """A console that tells a reader who has left from a verdict."""

    def on_broken_pipe(self) -> None:
        leave_unread()


console = _Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
errors = _Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


def leave_unread() -> NoReturn:
    """Leave because nobody reads the output any more, without another word."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # what is left in its buffer goes nowhere, too
            os.dup2(nowhere, stream.fileno())
    raise SystemExit(EXIT_UNREAD)


def exit_code(error: PortkitError) -> int:
    """Return the exit code that an error of ours ends the program with."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), EXIT_FAIL)


def shown(text: str) -> str:
    """Return a text in which every control character but line feed and tab is a `?`."""
    return _HARMFUL.sub("?", text)


def say(text: str = "", style: str = "") -> None:
    """Print a text on standard output, whoever wrote it; it is never cut and never taken for markup."""
    console.print(shown(text), style=style or None)


def warn(text: str) -> None:
    """Print a text on standard error."""
    errors.print(shown(text))


def fail(message: str, code: int) -> NoReturn:
    """Print what is wrong, without a traceback, and leave."""
    errors.print("portkit: error: ", style="bold red", end="")
    errors.print(shown(message))
    raise SystemExit(code)


def fill(text: str, first: str = "", rest: int = 0, width: int = COLUMNS) -> str:
    """Return a text wrapped between words, never within one: what it names can be copied.

    It begins with `first`; the lines below are indented by `rest`.
    """
    lines = textwrap.fill(
        text, width, initial_indent=first, subsequent_indent=" " * rest, break_long_words=False, break_on_hyphens=False
    )
    return lines or first.rstrip()


def print_json(value: Any) -> None:
    """Print machine-readable output: JSON on standard output, nothing else."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=True) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a plain table; a cell is never cut, so that what it names can be copied.

    On a terminal the last column is wrapped into the room that is left, or stands on lines of its own below the others.
    """
    lines = [tuple(columns), *(tuple(row) for row in rows)]
    *widths, widest = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    indent = sum(widths) + len(_GAP) * len(widths)
    room = console.width - indent
    fits = not console.is_terminal or widest <= room
    for number, (*cells, last) in enumerate(lines):
        head = "".join(f"{cell.ljust(width)}{_GAP}" for cell, width in zip(cells, widths, strict=True))
        text = f"{head}{last}" if fits else _wrapped(head, last, room)
        say(text.rstrip(), style="" if number else "bold")


def _wrapped(head: str, text: str, room: int) -> str:
    if room < _LEAST_ROOM:
        return f"{head.rstrip()}\n{fill(text, ' ' * _BELOW, _BELOW, console.width)}"
    return fill(text, head, len(head), console.width)
