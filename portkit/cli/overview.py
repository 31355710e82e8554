"""What a run of several backends ends with: a line for each, and how many passed, failed or cannot run here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from portkit.cli.output import EXIT_CANNOT_RUN, EXIT_INTERRUPTED, EXIT_PASS, print_table, say

_COLUMNS = ("backend", "evidence", "result", "cases", "strict equal", "seconds")
_STATES = {EXIT_PASS: "passed", EXIT_CANNOT_RUN: "skipped", EXIT_INTERRUPTED: "interrupted"}
_FAILED = "failed"


def print_overview(runs: Sequence[dict[str, Any]]) -> None:
    """Print what came out for each backend; `runs` are the records of `portkit conform --json`.

    "strict equal" counts the cases whose outputs the spec fixes bit for bit, and that are the reference's.
    """
    say(f"\n{'=' * 80}\n")
    print_table(_COLUMNS, [_row(run) for run in runs])
    for run in runs:
        if _state(run) != "passed" and run["message"]:
            say(f"\n{run['backend']} {_state(run)}: {run['message']}")
    counts = Counter(_state(run) for run in runs)
    say(f"\n{counts['passed']} passed, {counts[_FAILED]} failed, {counts['skipped']} skipped")


def _state(run: dict[str, Any]) -> str:
    return _STATES.get(int(run["exit_code"]), _FAILED)


def _row(run: dict[str, Any]) -> tuple[str, ...]:
    if not run["report"]:
        return (run["backend"], "-", _state(run), "-", "-", "-")
    strict, counts = run["strict"], run["counts"]
    cases = f"{counts.get('pass', 0):,} of {sum(counts.values()):,}"
    equal = f"{strict['equal']:,} of {strict['cases']:,}" if strict["cases"] else "not declared"
    return (run["backend"], run["evidence"], _state(run), cases, equal, f"{run['seconds']:.1f}")
