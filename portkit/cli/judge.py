"""`portkit judge`: judge outputs of a bundle's launches, wherever they were made."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from portkit.cli.bundle import _progress
from portkit.cli.output import print_json, say, warn
from portkit.errors import UsageError

if TYPE_CHECKING:
    from portkit.conformance.bundle.judging import Judgement
    from portkit.conformance.bundle.load import Loaded
    from portkit.conformance.report.model import Report

_SHOWN = 20


def judge(
    bundle: Path = typer.Argument(..., help="The archive that portkit bundle wrote."),
    outputs: Path = typer.Argument(..., help="A folder or a zip archive of the memory images after the launches."),
    out: Path | None = typer.Option(None, "--out", help="A folder for the report: JSON, HTML, JUnit, journal."),
    make_on: str = typer.Option(
        "", "--make-on", metavar="BACKEND", help="First make the outputs on this backend; OUTPUTS must be new."
    ),
    as_given: bool = typer.Option(
        False, "--as-given", help="Judge by the acceptance sets in the bundle, without making them again."
    ),
    seconds: float = typer.Option(10.0, "--case-timeout", min=0.1, help="With --make-on, seconds for one launch."),
    mutant: str = typer.Option("", "--mutant", hidden=True, help="With --make-on, plant this seeded fault."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Judge the outputs of a bundle, made anywhere.

    A bundle of this suite is made again and compared first, so that an acceptance set that was changed is found; one of
    another suite is judged as it is, and the report says so. A case without outputs is not run, which is not a pass.
    Exit codes: 0 all pass, 1 not, 2 usage or a file that is refused,
    3 with --make-on, cannot run here, 4 portkit at fault, 130 interrupted.
    """
    from portkit.conformance.bundle.genuine import check_genuine, same_suite
    from portkit.conformance.bundle.judging import judge_outputs
    from portkit.conformance.bundle.load import load_bundle
    from portkit.conformance.bundle.outputs import read_outputs

    if mutant and not make_on:
        raise UsageError("--mutant belongs to --make-on: outputs that are there already have their faults")
    with load_bundle(bundle) as loaded, _progress(quiet=json) as step:
        genuine = same_suite(loaded) and not as_given
        if genuine:
            check_genuine(loaded, step)
        if make_on:
            _make(loaded, outputs, make_on, seconds, mutant, genuine=genuine, quiet=json)
        with read_outputs(outputs, loaded) as given:
            found = judge_outputs(loaded, given, genuine=genuine, on_case=step)
            evidence = "as stated with the outputs" if given.stated else "as the outputs have no outputs.json that says"
        left_out = len(loaded.bundle.left_out)
    report = _report(found, out)
    if json:
        print_json(_record(found, report, out, genuine=genuine, left_out=left_out))
    else:
        _show(found, report, out, evidence, genuine=genuine, left_out=left_out)
    raise typer.Exit(int(found.exit_code))


def _make(
    loaded: Loaded, outputs: Path, backend: str, seconds: float, mutant: str, *, genuine: bool, quiet: bool
) -> None:
    """Run the launches on a backend. Raises `UsageError` for a bundle that was not found to be the suite's."""
    from portkit.conformance.bundle.outputs import make_outputs, write_outputs
    from portkit.conformance.worker import open_client

    if not genuine:
        raise UsageError("--make-on runs bundles of this suite alone, and not --as-given: their kernels are known")
    if outputs.exists() and not (outputs.is_dir() and not any(outputs.iterdir())):
        raise UsageError(f"{outputs} is there already; --make-on writes outputs that are new")
    with closing(open_client(backend, seconds, mutant)) as client, _progress(quiet=quiet) as step:
        client.require()
        made = make_outputs(loaded, client, seconds=seconds, on_case=step)
    write_outputs(made, outputs)


def _report(found: Judgement, out: Path | None) -> Report:
    """Return the report of a judgement; with a folder, write journal and report there."""
    from portkit.conformance import journal as journals
    from portkit.conformance.files import writing
    from portkit.conformance.report.build import from_journal
    from portkit.conformance.report.folder import JOURNAL
    from portkit.conformance.report.write import write_files

    journal = journals.Journal(found.header, {entry.id: entry for entry in found.entries})
    report = from_journal(journal)
    if out is not None:
        with writing(out):
            journals.create(out / JOURNAL, found.header)
            writer = journals.JournalWriter(out / JOURNAL)
        for entry in found.entries:
            writer.append(entry)
        writer.close()
        write_files(report, out)
    return report


def _record(found: Judgement, report: Report, out: Path | None, *, genuine: bool, left_out: int) -> dict[str, Any]:
    return {
        "exit_code": int(found.exit_code),
        "statement": report.statement,
        "device": report.subject.device,
        "evidence": report.subject.evidence,
        "acceptance_sets": _sets(genuine=genuine),
        "cases": {entry.id: entry.verdict.value for entry in found.entries} | dict.fromkeys(found.not_run, "not run"),
        "reasons": {entry.id: entry.reason for entry in found.entries if entry.reason},
        "left_out": left_out,
        "report": str(out / "report.json") if out else None,
    }


def _sets(*, genuine: bool) -> str:
    return "made again by this suite" if genuine else "as given in the bundle"


def _show(found: Judgement, report: Report, out: Path | None, evidence: str, *, genuine: bool, left_out: int) -> None:
    wrong = [entry for entry in found.entries if not entry.verdict.passes]
    for entry in wrong[:_SHOWN]:
        warn(f"{entry.verdict.value:<8} {entry.id}: {' '.join(entry.reason.split())[:200]}")
        if entry.card and entry.card.hint:
            warn(f"         hint: {entry.card.hint}")
    for case_id in found.not_run[:_SHOWN]:
        warn(f"not run  {case_id}: no output")
    passed = sum(entry.verdict.passes for entry in found.entries)
    total = len(found.entries) + len(found.not_run)
    holds = passed == total and not found.exit_code
    say(f"{passed} of {total} launches pass", style="bold green" if holds else "bold red")
    if found.not_run:
        say(f"not run   {len(found.not_run)} have no output")
    say(f"says      {report.statement}")
    say(f"device    {report.subject.device}")
    say(f"evidence  {report.subject.evidence}, {evidence}")
    say(f"judged by acceptance sets {_sets(genuine=genuine)}")
    if left_out:
        say(f"left out  {left_out} cases of the profile talk to a running device and are in no bundle")
    if out is not None:
        say(f"\nreport    {out / 'report.html'}")
