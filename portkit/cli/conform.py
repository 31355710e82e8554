"""`portkit conform`: run the suite on a backend, show how far it is, and say what came out."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from portkit.cli.output import EXIT_CANNOT_RUN, EXIT_HARNESS, EXIT_INTERRUPTED, print_json, say, shown, warn
from portkit.cli.overview import print_overview
from portkit.cli.progress import looking_closer, progress
from portkit.errors import HarnessError, PortkitError, UsageError

if TYPE_CHECKING:
    from portkit.conformance.journal import Journal
    from portkit.conformance.report.model import Report
    from portkit.conformance.run import RunOptions, RunResult

_DEFAULT_SECONDS = 10.0
_EXAMINED = 3


class TierName(StrEnum):
    """The tiers by name; the enum of the suite is imported only when a run starts."""

    SMOKE = "smoke"
    STANDARD = "standard"
    FULL = "full"


@dataclasses.dataclass(frozen=True)
class Request:
    """What was asked for on the command line, for one backend."""

    backend: str
    out: Path
    profile: str
    tier: TierName
    case: tuple[str, ...]
    resume: bool
    workers: int | None
    waivers: Path | None
    seconds: float
    repeat: int = 1
    shuffle: int | None = None
    in_order: bool = False
    examine: int = _EXAMINED

    def options(self) -> RunOptions:
        """Return the same as the suite takes it."""
        from portkit.conformance.case import Tier
        from portkit.conformance.run import RunOptions

        return RunOptions(
            backend=self.backend,
            out=self.out,
            profile=self.profile,
            tier=Tier(self.tier.value),
            patterns=self.case,
            resume=self.resume,
            workers=self.workers,
            waivers=self.waivers,
            seconds=self.seconds,
            repeat=self.repeat,
            shuffle=self.shuffle,
            in_order=self.in_order,
        )

    def command(self, *, resume: bool = False, case: Sequence[str] = (), tier: TierName | None = None) -> str:
        """Return the command line that asks for the same again.

        If they are given, for some cases alone, or for all cases of another tier.
        """
        words = ["portkit", "conform", "--backend", self.backend]
        words += ["--profile", self.profile] if self.profile != "core" else []
        words += ["--tier", (tier or self.tier).value] if (tier or self.tier) is not TierName.STANDARD else []
        patterns = case or (() if tier else self.case)
        words += ["--in-order"] if len(case) > 1 or (self.in_order and not case and not tier) else []
        words += [word for pattern in patterns for word in ("--case", pattern)]
        words += ["--out", str(self.out)] if self.out != default_folder(self.backend) and not case else []
        words += ["--workers", str(self.workers)] if self.workers and not case else []
        words += ["--waivers", str(self.waivers)] if self.waivers and not case else []
        words += ["--case-timeout", f"{self.seconds:g}"] if self.seconds != _DEFAULT_SECONDS else []
        words += ["--repeat", str(self.repeat)] if self.repeat > 1 else []
        words += ["--shuffle", str(self.shuffle)] if self.shuffle is not None and not case else []
        words += ["--resume"] if resume else []
        return shlex.join(words)


def conform(
    backend: str = typer.Option(
        ..., "--backend", "-b", help="Installed backends, comma-separated; all; or module:ATTRIBUTE."
    ),
    profile: str = typer.Option("core", "--profile", help="What is claimed: core, or compute (core and tensors)."),
    tier: TierName = typer.Option(TierName.STANDARD, "--tier", help="How much is run."),
    case: list[str] = typer.Option([], "--case", metavar="ID", help="Only this id, prefix or glob; may be repeated."),
    out: Path | None = typer.Option(
        None, "--out", help="The folder of the report; by default out/BACKEND. Of several backends: out, OUT/BACKEND."
    ),
    resume: bool = typer.Option(False, "--resume", help="Go on with an interrupted run in the same folder."),
    workers: int | None = typer.Option(None, "--workers", "-n", min=1, help="Worker processes; by default one a core."),
    waivers: Path | None = typer.Option(None, "--waivers", help="A TOML file of known failures."),
    seconds: float = typer.Option(_DEFAULT_SECONDS, "--case-timeout", min=0.1, help="Seconds for one case."),
    repeat: int = typer.Option(
        1, "--repeat", min=1, max=1000, help="Runs of each launch; from 2 on also in other group orders, and compared."
    ),
    shuffle: int | None = typer.Option(None, "--shuffle", metavar="SEED", help="Shuffle the cases; SEED is a number."),
    in_order: bool = typer.Option(False, "--in-order", help="Run the cases in the order given, in one process."),
    examine: int = typer.Option(
        _EXAMINED, "--examine", min=0, help="Failures to trace and to reduce, the first of each suspect."
    ),
    skip_missing: bool = typer.Option(False, "--skip-missing", help="Skip, and count, backends that cannot run here."),
    list_cases: bool = typer.Option(False, "--list", help="Print the ids of the selected cases and leave."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Check a backend against the reference and write a report.

    Exit codes: 0 all pass, 1 not, 2 usage, 3 cannot run here, 4 portkit at fault, 130 interrupted.
    """
    names = _names(backend)
    folders = [out if out and len(names) == 1 else default_folder(name, out or Path("out")) for name in names]
    requests = [
        Request(
            name,
            folder,
            profile,
            tier,
            tuple(case),
            resume,
            workers,
            waivers,
            seconds,
            repeat,
            shuffle,
            in_order,
            examine,
        )
        for name, folder in zip(names, folders, strict=True)
    ]
    if list_cases:
        _list(requests, json=json)
        return
    if resume:
        _say_what_begins(requests)
    raise typer.Exit(_run_all(requests, skip_missing=skip_missing, json=json))


def _say_what_begins(requests: Sequence[Request]) -> None:
    """Say where there is nothing to resume: the name of the folder may be mistyped."""
    from portkit.conformance.report.folder import JOURNAL

    for request in requests:
        if not (request.out / JOURNAL).is_file():
            warn(f"portkit: {request.out} holds no run to go on with; starting one")


def _names(backend: str) -> list[str]:
    """Return the backends that were asked for, each once."""
    from portkit.contract import backend_point, installed_backends
    from portkit.runtime.remote import is_remote

    listed = [backend] if backend.startswith("pipe:") else backend.split(",")  # a command may have commas of its own
    names = list(dict.fromkeys(name.strip() for name in listed if name.strip()))
    if not names:
        raise UsageError("--backend names no backend; portkit backends lists those that are installed")
    names = list(dict.fromkeys(n for name in names for n in (installed_backends() if name == "all" else [name])))
    for name in names if len(names) > 1 else []:  # a wrong one is refused before the others run for minutes
        if not is_remote(name):
            backend_point(name)
    return names


def default_folder(backend: str, parent: Path = Path("out")) -> Path:
    """Return the folder of a backend's report: one part below `parent`, whatever the reference looks like."""
    return parent / ("".join(c if c.isalnum() or c in "_+-." else "-" for c in backend).lstrip(".-") or "backend")


# --- listing ------------------------------------------------------------------------------------------------------


def _list(requests: list[Request], *, json: bool) -> None:
    from portkit.conformance.cases.collect import collect
    from portkit.conformance.cases.fuzz import unlisted
    from portkit.conformance.select import select
    from portkit.runtime.client import DeviceClient

    listed: list[dict[str, Any]] = []
    for request in requests:
        options = request.options()
        with DeviceClient(request.backend) as client:
            asked = unlisted(client.capabilities, request.case)
            suite = [*collect(client.capabilities, request.profile), *asked]
            cases = select(suite, options.tier, request.case)
        records = [{"id": c.id, "tier": c.tier.value, "cells": [str(x) for x in c.cells]} for c in cases]
        listed.append({"backend": request.backend, "cases": records})
    if json:
        print_json({"lists": listed})
        return
    for number, entry in enumerate(listed):
        if len(listed) > 1:
            say(f"{chr(10) if number else ''}# {entry['backend']}")
        sys.stdout.write("".join(f"{case['id']}\n" for case in entry["cases"]))


# --- running ------------------------------------------------------------------------------------------------------


def _run_all(requests: list[Request], *, skip_missing: bool, json: bool) -> int:
    """Run one backend after the other and return the most serious exit code; an interruption ends them all."""
    records: list[dict[str, Any]] = []
    for number, request in enumerate(requests):
        if number and not json:
            say(f"\n{'=' * 80}\n")
        records.append(_run(request, json=json))
        if records[-1]["exit_code"] == EXIT_INTERRUPTED:
            break
    counted = [r["exit_code"] for r in records if not (skip_missing and r["exit_code"] == EXIT_CANNOT_RUN)]
    worst = max(counted, default=EXIT_CANNOT_RUN)
    if json:
        print_json({"exit_code": worst, "runs": records})
    elif len(requests) > 1:
        print_overview(records)
    return worst


def _run(request: Request, *, json: bool) -> dict[str, Any]:
    from portkit.conformance.run import run_suite

    try:
        with progress(request.backend, quiet=json) as step:
            result = run_suite(dataclasses.replace(request.options(), on_progress=step))
    except OSError as error:
        if not (error.filename and Path(error.filename).is_relative_to(request.out.absolute())):
            raise
        raise UsageError(f"cannot write {request.out}: {error.strerror}; choose another folder with --out") from error
    _examine(request, result, quiet=json)
    journal, report = _write_report(result, request.out)
    code = int(result.exit_code)
    if report is not None and report.uncovered and not code:
        code = EXIT_HARNESS  # a declared cell without a case is a hole in the suite, not in the backend
    if not json:
        _print_person(request, result, journal, report)
    return _record(request, result, report, code)


def _examine(request: Request, result: RunResult, *, quiet: bool) -> None:
    """Trace and reduce the first failures; an interruption ends only that."""
    if result.journal is None or result.exit_code == EXIT_INTERRUPTED:
        return
    from portkit.conformance.examination import examine_failures

    try:
        with looking_closer(quiet=quiet) as step:
            examine_failures(request.options(), result.journal, most=request.examine, on_failure=step)
    except KeyboardInterrupt:
        warn("portkit: interrupted; the verdicts are complete, not all failures were traced and reduced")
    except HarnessError:
        raise
    except PortkitError as error:  # the device cannot be opened again: the verdicts stand
        warn(f"portkit: the verdicts are complete, but no failure was traced and reduced: {error}")
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not cost the verdicts their report
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        warn(f"portkit: the verdicts are complete, but not all failures were traced and reduced: {said}; please report")


def _write_report(result: RunResult, out: Path) -> tuple[Journal | None, Report | None]:
    """Write the report of what the journal holds; None where nothing was judged."""
    if result.journal is None:
        return None, None
    from portkit.conformance.journal import read
    from portkit.conformance.report.build import from_journal
    from portkit.conformance.report.write import write_files

    journal = read(result.journal)
    if not journal.entries:
        return None, None
    report = from_journal(journal, seconds=result.seconds)
    write_files(report, out)
    return journal, report


def _record(request: Request, result: RunResult, report: Report | None, code: int) -> dict[str, Any]:
    from portkit.conformance.report.stability import sentence

    strict = report.strict_cases if report else ()
    return {
        "backend": request.backend,
        "exit_code": code,
        "message": shown(result.message),
        "statement": report.statement if report else "",
        "determinism": sentence(report.determinism) if report else "",
        "evidence": report.subject.evidence if report else "",
        "device": report.subject.device if report else "",
        "strict": {"equal": sum(case.bit_exact is True for case in strict), "cases": len(strict)},
        "counts": {verdict.value: n for verdict, n in result.counts.items()},
        "seconds": round(result.seconds, 3),
        "stale_waivers": [waiver.cases for waiver in result.stale_waivers],
        "report": str(request.out / "report.json") if report else None,
    }


def _print_person(request: Request, result: RunResult, journal: Journal | None, report: Report | None) -> None:
    if report is not None:
        from portkit.conformance.errata import standing
        from portkit.conformance.report import terminal
        from portkit.conformance.report.brief import Found

        say(terminal.headline(report), style="bold green" if standing(report).passed else "bold red")
        say(terminal.details(report, Found(journal, request.out) if journal else None))
        say(f"\nreport    {request.out / 'report.html'}")
    if result.exit_code == EXIT_INTERRUPTED:
        warn(f"portkit: interrupted; to go on: {request.command(resume=True)}")
    elif result.message:
        warn(f"portkit: error: {result.message}")
    elif report is not None:
        _print_next(request, report)


def _print_reduced(request: Request) -> None:
    """Say how to run the reduced launches again."""
    from portkit.conformance.examination import FOLDER

    for file in sorted((request.out / FOLDER).glob("*.json")):
        words = ["portkit", "run", str(file), "--backend", request.backend, "--against", "reference"]
        say(f"          {shlex.join(words)}")


def _print_next(request: Request, report: Report) -> None:
    """Say what to type next."""
    from portkit.conformance.roots import roots_first

    wrong = [case for case in report.cases if not case.verdict.passes]
    if wrong:
        first = min(wrong, key=lambda case: roots_first(case.id, case.verdict))
        say(f"next      {request.command(case=(*first.after, first.id))}")
        say(f"          portkit report {shlex.quote(str(request.out))} --case {shlex.quote(first.id)} --source")
        _print_reduced(request)
        return
    steps = [("start your own port", "portkit new mychip")] if report.subject.vendor == "portkit" else []
    if report.tier.value == TierName.SMOKE:
        steps.insert(0, ("run everything", request.command(tier=TierName.STANDARD)))
    elif not report.patterns:
        draft = " --draft" if report.subject.evidence in ("stand-in", "compiled") else ""
        publish = f"portkit publish {shlex.quote(str(request.out))} --registry ./registry{draft}"
        steps.append(("file the report", publish))
    if steps:
        say("next")
    for what, command in steps:
        say(f"    {command:<50}  # {what}")
