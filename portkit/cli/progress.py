"""How far a run is: a bar on a terminal, a line for each failure elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from portkit.cli.output import errors, shown, warn

if TYPE_CHECKING:
    from portkit.conformance.run import Progress

NARROW = 60
"""A terminal with fewer columns has no room for a bar."""
MAX_LINES = 20
MOST_REASON = 200
"""Characters of a reason in the line of a failure."""


@contextmanager
def progress(backend: str, *, quiet: bool) -> Generator[Callable[[Progress], None]]:
    """Give what is to be called after each case; nothing is shown where `quiet`."""
    if quiet:
        yield lambda step: None
    elif sys.stderr.isatty() and errors.width >= NARROW:
        with _bar(backend) as show:
            yield show
    else:
        yield Failures()


class Failures:
    """Prints a line for each case that does not pass, up to a number of them; what these block is only counted."""

    def __init__(self) -> None:
        self.count = 0
        self.lines = 0

    def __call__(self, step: Progress) -> None:
        """Take the outcome of one more case."""
        entry = step.entry
        if entry.verdict.passes:
            return
        self.count += 1
        if entry.verdict.value == "blocked":
            return
        self.lines += 1
        if self.lines <= MAX_LINES:
            reason = " ".join(entry.reason.split())
            cut = f"{reason[:MOST_REASON]}..." if len(reason) > MOST_REASON else reason
            warn(f"{entry.verdict.value:<8} {entry.id}{f': {cut}' if cut else ''}")
        elif self.lines == MAX_LINES + 1:
            warn("... and more; the report lists them all")


def in_tenths(total: int, what: str) -> Callable[[int], None]:
    """Return what prints a line after each tenth of long work, where there is no terminal to draw on."""
    told = 0

    def step(done: int) -> None:
        nonlocal told
        tenth = 10 * done // max(1, total)
        if tenth > told:
            told = tenth
            warn(f"{done} of {total} {what}")

    return step


@contextmanager
def looking_closer(*, quiet: bool) -> Generator[Callable[[str], None]]:
    """Give what is to be called with the id of each failure that is looked at; shown on a terminal only."""
    if quiet or not sys.stderr.isatty():
        yield lambda case_id: None
        return
    with errors.status("") as status:
        yield lambda case_id: status.update(f"looking closer at {shown(case_id)}")


@contextmanager
def counting(what: str, *, quiet: bool) -> Generator[Callable[[int, int], None]]:
    """Give what is to be called with how many are done, and of how many; shown on a terminal only."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, of: None
        return
    with errors.status("") as status:
        yield lambda done, of: status.update(f"{what} {done} of {of}")


@contextmanager
def _bar(backend: str) -> Generator[Callable[[Progress], None]]:
    """Show a bar below the lines of the failures."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[rate]}"))
    wrong_column = TextColumn("{task.fields[wrong]}", style="red")
    with Bar(TextColumn(shown(backend), markup=False), *columns, wrong_column, console=errors, transient=True) as bar:
        task = bar.add_task("", total=None, wrong="", rate="")
        failures = Failures()
        began, judged = time.perf_counter(), 0

        def show(step: Progress) -> None:
            nonlocal judged
            failures(step)
            judged += 1  # what an earlier run judged took no time in this one
            rate = f"{judged / (time.perf_counter() - began):.1f}/s"
            wrong = f"{failures.count} not passed" if failures.count else ""
            bar.update(task, completed=step.done, total=step.total or None, wrong=wrong, rate=rate)

        yield show
