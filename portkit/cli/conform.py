"""`portkit conform`: run the suite on a backend, show how far it is, and say what came out."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from portkit.cli.output import EXIT_HARNESS, EXIT_USAGE, console, errors, print_json
from portkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from portkit.conformance.report.model import Report
    from portkit.conformance.run import Progress, RunOptions, RunResult


class TierName(StrEnum):
    """The tiers by name; the enum of the suite is imported only when a run starts."""

    SMOKE = "smoke"
    STANDARD = "standard"
    FULL = "full"


def conform(
    backend: str = typer.Option(
        ..., "--backend", "-b", help="Installed backends, comma-separated, or module:ATTRIBUTE."
    ),
    profile: str = typer.Option("core", "--profile", help="What is claimed: core."),
    tier: TierName = typer.Option(TierName.STANDARD, "--tier", help="How much is run."),
    case: list[str] = typer.Option([], "--case", help="Only cases with this id, prefix or glob; may be repeated."),
    out: Path | None = typer.Option(None, "--out", help="The folder of the report; by default out/BACKEND."),
    resume: bool = typer.Option(False, "--resume", help="Go on with an interrupted run in the same folder."),
    workers: int | None = typer.Option(None, "--workers", "-n", min=1, help="Worker processes; by default one a core."),
    waivers: Path | None = typer.Option(None, "--waivers", help="A TOML file of known failures."),
    seconds: float = typer.Option(10.0, "--case-timeout", min=0.1, help="Time limit of one case in seconds."),
    list_cases: bool = typer.Option(False, "--list", help="Print the ids of the selected cases and leave."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Check a backend against the reference and write a report.

    Exit codes: 0 all pass, 1 not, 2 usage, 3 cannot run here, 4 portkit at fault, 130 interrupted.
    """
    names = [name for name in backend.split(",") if name]
    if out is not None and len(names) > 1:
        raise UsageError("--out names one folder; leave it out to run several backends")
    codes: list[int] = []
    for name in names:
        folder = out or Path("out") / _folder_name(name)
        if list_cases:
            codes.append(_list(name, profile, tier, tuple(case), json))
            continue
        options = _options(name, folder, profile, tier, case, resume, workers, waivers, seconds)
        codes.append(_run(options, json))
    raise typer.Exit(max(codes, default=EXIT_USAGE))


def _folder_name(backend: str) -> str:
    """Return a folder name for an installed name or a `module:ATTRIBUTE` reference."""
    return backend.partition(":")[0].rpartition(".")[2] if ":" in backend else backend


def _options(
    backend: str,
    out: Path,
    profile: str,
    tier: TierName,
    case: list[str],
    resume: bool,
    workers: int | None,
    waivers: Path | None,
    seconds: float,
) -> RunOptions:
    from portkit.conformance.case import Tier
    from portkit.conformance.run import RunOptions

    return RunOptions(
        backend=backend,
        out=out,
        profile=profile,
        tier=Tier(tier.value),
        patterns=tuple(case),
        resume=resume,
        workers=workers,
        waivers=waivers,
        seconds=seconds,
    )


def _list(backend: str, profile: str, tier: TierName, patterns: tuple[str, ...], json: bool) -> int:
    from portkit.conformance.case import Tier
    from portkit.conformance.cases.collect import collect
    from portkit.conformance.select import select
    from portkit.contract import find_backend

    cases = select(collect(find_backend(backend).capabilities, profile), Tier(tier.value), patterns)
    if json:
        print_json({"cases": [{"id": c.id, "tier": c.tier.value, "cells": [str(x) for x in c.cells]} for c in cases]})
    else:
        for found in cases:
            console.print(found.id, markup=False)
    return 0


def _run(options: RunOptions, json: bool) -> int:
    import dataclasses

    from portkit.conformance.run import run_suite

    with _progress(options.backend, quiet=json) as show:
        result = run_suite(dataclasses.replace(options, on_progress=show))
    report = _write_report(result, options.out)
    if json:
        _print_machine(options, result, report)
    else:
        _print_person(options, result, report)
    if report is not None and report.uncovered and not result.exit_code:
        return EXIT_HARNESS  # a declared cell without a case is a hole in the suite, not in the backend
    return int(result.exit_code)


@contextmanager
def _progress(backend: str, *, quiet: bool) -> Generator[Callable[[Progress], None]]:
    """Show a progress bar on a terminal; elsewhere, failures only."""
    if quiet or not sys.stderr.isatty():
        yield lambda progress: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.fields[backend]}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[wrong]}"), console=errors, transient=True) as bar:
        task = bar.add_task("run", total=None, backend=backend, wrong="")
        wrong = 0

        def show(progress: object) -> None:
            nonlocal wrong
            from portkit.conformance.run import Progress as Step

            assert isinstance(progress, Step)
            wrong += not progress.entry.verdict.passes
            text = f"[red]{wrong} not passed[/]" if wrong else ""
            bar.update(task, completed=progress.done, total=progress.total, wrong=text)

        yield show


def _write_report(result: RunResult, out: Path) -> Report | None:
    """Write the report of what the journal holds; None where nothing was judged."""
    if result.journal is None:
        return None
    from portkit.conformance.journal import read
    from portkit.conformance.report.build import from_journal
    from portkit.conformance.report.write import write_files

    journal = read(result.journal)
    if not journal.entries:
        return None
    report = from_journal(journal, seconds=result.seconds)
    write_files(report, out)
    return report


def _print_machine(options: RunOptions, result: RunResult, report: Report | None) -> None:
    print_json(
        {
            "backend": options.backend,
            "exit_code": int(result.exit_code),
            "message": result.message,
            "statement": report.statement if report else "",
            "counts": {verdict.value: n for verdict, n in result.counts.items()},
            "seconds": round(result.seconds, 3),
            "report": str(options.out / "report.json") if report else None,
        }
    )


def _print_person(options: RunOptions, result: RunResult, report: Report | None) -> None:
    if report is not None:
        from portkit.conformance.report.terminal import summary

        console.print(summary(report), markup=False)
        console.print(f"\nreport    {options.out / 'report.html'}", markup=False)
    if result.message:
        errors.print(f"portkit: {result.message}", markup=False)
    if report is not None:
        _print_next(options, report)


def _print_next(options: RunOptions, report: Report) -> None:
    """Say what to type next."""
    if not report.passed:
        first = report.failures[0].id if report.failures else "ID"
        console.print(f"next      portkit conform --backend {options.backend} --case '{first}'", markup=False)
        return
    steps = [("start your own port", "portkit new mychip")]
    if report.tier == "smoke":
        steps.insert(0, ("run everything", f"portkit conform --backend {options.backend} --tier standard"))
    draft = " --draft" if report.subject.evidence in ("stand-in", "compiled") else ""
    steps.append(("file the report", f"portkit publish {options.out} --registry ./registry{draft}"))
    console.print("next")
    for what, command in steps:
        console.print(f"    {command:<60} # {what}", markup=False)
