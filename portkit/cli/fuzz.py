"""`portkit fuzz`: random kernels without end, and what they covered."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from portkit.cli.conform import default_folder
from portkit.cli.output import EXIT_INTERRUPTED, print_json, print_table, say, warn
from portkit.cli.progress import progress

if TYPE_CHECKING:
    from portkit.conformance.fuzzing import FuzzResult
    from portkit.conformance.run import RunResult

LISTED = 20
"""Failures that are listed; the reports have them all."""

ENOUGH = 0.9
"""The share of the declared cells below which a run that passes is said to show little."""
MORE = 1000
"""So many kernels are suggested then."""


class PaletteName(StrEnum):
    """What kernels may use: what every device has, or all that this one declares."""

    BASE = "base"
    DECLARED = "declared"


def fuzz(
    backend: str = typer.Option(..., "--backend", "-b", help="An installed backend, or module:ATTRIBUTE."),
    count: int | None = typer.Option(None, "--count", min=1, help="How many kernels; by default until Ctrl-C."),
    seconds: float | None = typer.Option(None, "--seconds", min=0.1, help="Stop after so many seconds."),
    start: int = typer.Option(0, "--from", min=0, metavar="SEED", help="The first seed."),
    palette: PaletteName = typer.Option(PaletteName.DECLARED, "--palette", help="What the kernels may use."),
    workers: int | None = typer.Option(None, "--workers", "-n", min=1, help="Worker processes; by default one a core."),
    out: Path | None = typer.Option(None, "--out", help="The folder of the reports; by default out/fuzz-BACKEND."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Run random kernels on a backend against the reference.

    Any seed is a case: portkit conform --case kernels/fuzz/declared/0007 replays seed 7.
    Exit codes: 0 all pass, 1 not, 2 usage, 3 cannot run here, 4 portkit at fault, 130 interrupted.
    """
    from portkit.conformance.fuzzing import FuzzOptions
    from portkit.conformance.fuzzing import fuzz as run

    folder = out or default_folder(f"fuzz-{backend}")
    with progress(backend, quiet=json) as step:
        result = run(
            FuzzOptions(
                backend,
                folder,
                palette=palette.value,
                start=start,
                count=count,
                seconds=seconds,
                workers=workers,
                on_progress=step,
                on_batch=_write_report,
            )
        )
    if json:
        print_json(_record(backend, palette, folder, result))
    else:
        _print(backend, palette, folder, result)
    raise typer.Exit(int(result.exit_code))


def _write_report(result: RunResult, folder: Path) -> None:
    """Write the report of one batch, if anything was judged in it."""
    from portkit.conformance.journal import read
    from portkit.conformance.report.build import from_journal
    from portkit.conformance.report.write import write_files

    if result.journal is None:
        return
    journal = read(result.journal)
    if journal.entries:
        write_files(from_journal(journal, seconds=result.seconds), folder)


def _record(backend: str, palette: PaletteName, folder: Path, result: FuzzResult) -> dict[str, Any]:
    covered, declared = result.coverage.forms()
    return {
        "backend": backend,
        "palette": palette.value,
        "exit_code": int(result.exit_code),
        "message": result.message,
        "start": result.start,
        "counts": {verdict.value: n for verdict, n in result.counts.items()},
        "failures": [{"id": e.id, "verdict": e.verdict.value, "reason": e.reason} for e in result.wrong],
        "coverage": {
            "forms_by_dtype": [covered, declared],
            "cells": [len(result.coverage.cells), len(result.coverage.declared)],
            "contexts": result.coverage.by_context(),
        },
        "seconds": round(result.seconds, 3),
        "out": str(folder),
    }


def _print(backend: str, palette: PaletteName, folder: Path, result: FuzzResult) -> None:
    done = sum(result.counts.values())
    if done:
        verdicts = ", ".join(f"{n:,} {verdict.value}" for verdict, n in result.counts.items())
        rate = done / result.seconds
        say(f"{done:,} kernels from seed {result.start} in {result.seconds:.0f} s, {rate:.1f} a second: {verdicts}")
        _print_coverage(result)
        _print_failures(backend, result)
        _print_shortfall(backend, palette, result)
        say(f"\nreports   {folder}")
    if result.exit_code == EXIT_INTERRUPTED:
        words = ["portkit", "fuzz", "--backend", backend, "--from", str(result.end), "--palette", palette.value]
        warn(f"portkit: interrupted; to go on: {shlex.join(words)}")
    elif result.message:
        warn(f"portkit: error: {result.message}")


def _print_coverage(result: FuzzResult) -> None:
    """Say how much of what the device declares was in some kernel, in an instruction that reaches an output."""
    coverage = result.coverage
    covered, declared = coverage.forms()
    rows = [("form x dtype", f"{covered:,} of {declared:,}")]
    rows += [("with lanes and sources", f"{len(coverage.cells):,} of {len(coverage.declared):,}")]
    rows += [(f"form x dtype, {name}", f"{n:,}") for name, n in coverage.by_context().items()]
    say()
    print_table(("covered", "cells"), rows)


def _print_shortfall(backend: str, palette: PaletteName, result: FuzzResult) -> None:
    """Say of a run in which all passed how little it shows, if much was in no kernel, and what shows more."""
    seen, declared = len(result.coverage.cells), len(result.coverage.declared)
    if result.wrong or result.exit_code or seen >= ENOUGH * declared:
        return
    words = ["portkit", "fuzz", "--backend", backend, "--from", str(result.end), "--palette", palette.value]
    say(f"\nThis shows little: {declared - seen:,} of {declared:,} cells were in no kernel. For more:")
    say(f"    {shlex.join(words)} --count {MORE}")


def _print_failures(backend: str, result: FuzzResult) -> None:
    for entry in result.wrong[:LISTED]:
        say(f"\n{entry.verdict.value:<8}  {entry.id}", style="bold red")
        say(f"          portkit conform --backend {shlex.quote(backend)} --case {entry.id}")
    if len(result.wrong) > LISTED:
        say(f"\n... and {len(result.wrong) - LISTED} more; the reports list them all")
