"""Printing and exit codes, in one place for every command."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

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

_EXIT_CODES: tuple[tuple[type[PortkitError], int], ...] = (
    (UsageError, EXIT_USAGE),
    (SpecError, EXIT_USAGE),
    (SchemaError, EXIT_USAGE),
    (CannotRunHere, EXIT_CANNOT_RUN),
    (ContractError, EXIT_FAIL),
    (DeviceError, EXIT_FAIL),
    (HarnessError, EXIT_HARNESS),
)

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def exit_code(error: PortkitError) -> int:
    """Return the exit code that an error of ours ends the program with."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), EXIT_FAIL)


def fail(error: PortkitError) -> NoReturn:
    """Print one error without a traceback and leave."""
    errors.print("portkit: error: ", style="bold red", end="")
    errors.print(str(error), markup=False)
    raise SystemExit(exit_code(error))


def print_json(value: Any) -> None:
    """Print machine-readable output: JSON on standard output, nothing else."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=True) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Print a plain table that fits 80 columns where it can."""
    table = Table(*columns, title=title or None, box=None, pad_edge=False, header_style="bold", title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
