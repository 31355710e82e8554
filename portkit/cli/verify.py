"""`portkit verify`: whether published reports are what was published, by whom, and whether they hold here too."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from portkit.cli.output import EXIT_FAIL, EXIT_PASS, fill, print_json, print_table, say, warn
from portkit.cli.progress import progress
from portkit.errors import UsageError

if TYPE_CHECKING:
    from portkit.conformance.attest.checks import Finding
    from portkit.conformance.attest.keys import PublicKey
    from portkit.conformance.attest.resample import Sample
    from portkit.conformance.attest.verify import Verified
    from portkit.conformance.report.model import Report

_MOST_ROWS = 60
_STYLES = {"ok": "", "refused": "bold red", "not checked": "dim"}


def verify(
    paths: list[Path] = typer.Argument(..., metavar="PATH...", help="Folders of published reports, or registries."),
    key: list[Path] = typer.Option([], "--key", help="A public key to trust; may be repeated."),
    trust: Path | None = typer.Option(None, "--trust", help="A keys.toml, or a folder of .pub files, to trust."),
    allow_unsigned: bool = typer.Option(False, "--allow-unsigned", help="With keys, take reports without signature."),
    journal: Path | None = typer.Option(None, "--journal", help="The run's folder, to hold the report against."),
    backend: str = typer.Option("", "--backend", "-b", help="With --sample, the backend to run cases on."),
    sample: str = typer.Option("", "--sample", metavar="SHARE", help="Run so many cases again: 1%, or a number."),
    seed: int | None = typer.Option(None, "--seed", min=0, help="The seed that chooses them; by default a new one."),
    workers: int | None = typer.Option(None, "--workers", "-n", min=1, help="Worker processes; by default one a core."),
    seconds: float = typer.Option(10.0, "--case-timeout", min=0.1, help="With --sample, seconds for one case."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Check published reports: files, digests, signature, consistency, profile; and run a sample of the cases again.

    Without --key or --trust, signatures are held against the keys.toml of the registry, if it has one.
    Exit codes: 0 all hold, 1 refused or not the same here, 2 usage, 3 cannot run here, 130 interrupted.
    """
    from portkit.conformance.attest.resample import require_runnable
    from portkit.conformance.attest.verify import Demands, keys_of, require_report
    from portkit.conformance.attest.verify import verify as check

    _require_fitting(paths, backend, sample, seed, journal)
    keys = _keys(key, trust)
    if allow_unsigned and not keys:
        raise UsageError("--allow-unsigned goes with --key or --trust; without them an unsigned report is taken anyway")
    if sample:
        require_runnable(backend, sample, seconds)
    demands = [Demands(keys or keys_of(path), bool(keys) and not allow_unsigned, journal) for path in paths]
    found = [one for path, demand in zip(paths, demands, strict=True) for one in check(path, demand)]
    if not json:
        _show(found)
    holds = all(one.holds for one in found)
    again: Sample | None = None
    if sample and holds:
        again = _again(require_report(found), backend, sample, seed, workers, seconds, quiet=json)
        if not json:
            _show_sample(again, paths[0], backend, sample)
    elif sample:
        warn("portkit: refused, so no sample of it is run")
    code = EXIT_PASS if holds and not (again and again.differences) else EXIT_FAIL
    if json:
        print_json(_record(found, again, code))
    raise typer.Exit(code)


def _require_fitting(paths: Sequence[Path], backend: str, sample: str, seed: int | None, journal: Path | None) -> None:
    """Raise `UsageError` for options that mean nothing together."""
    if bool(sample) != bool(backend):
        raise UsageError("--sample and --backend go together: so many cases are run again on that backend")
    if not sample and seed is not None:
        raise UsageError("--seed chooses the cases of --sample")
    for option in [name for name, given in (("--journal", journal), ("--sample", sample)) if given]:
        if len(paths) > 1:
            raise UsageError(f"{option} is about one report; give the folder of that report alone")


def _keys(files: Sequence[Path], trust: Path | None) -> tuple[PublicKey, ...]:
    """Return the keys that were given to trust; without any, those of each registry are trusted."""
    from portkit.conformance.attest.keys import load_public_key, load_trust

    keys = (*map(load_public_key, files), *(load_trust(trust) if trust else ()))
    if trust and not keys:
        raise UsageError(f"{trust} lists no keys: with it nothing could be trusted; add one, or leave --trust out")
    return tuple({one.keyid: one for one in keys}.values())


def _again(
    report: Report, backend: str, sample: str, seed: int | None, workers: int | None, seconds: float, *, quiet: bool
) -> Sample:
    from portkit.conformance.attest.resample import resample

    with progress(backend, quiet=quiet) as step:
        return resample(
            report,
            backend,
            sample,
            secrets.randbelow(1 << 32) if seed is None else seed,
            workers=workers,
            seconds=seconds,
            on_progress=step,
        )


# --- for people ---------------------------------------------------------------------------------------------------


def _show(found: Sequence[Verified]) -> None:
    """Show every check of one report; of several a line each, and what was refused."""
    for one in found:
        findings = one.findings if len(found) == 1 else [f for f in one.findings if f.outcome == "refused"]
        head = "holds" if one.holds else "refused"
        lacking = "" if len(found) == 1 else _lacking(one)
        say(f"{head:<8}  {one.folder}  {_signature(one)}{lacking}", style=_STYLES["ok" if one.holds else "refused"])
        for finding in findings:
            _show_finding(finding)
    if len(found) > 1:
        wrong = sum(not one.holds for one in found)
        say(f"{len(found)} reports, {wrong} refused", style=_STYLES["refused" if wrong else "ok"])


def _show_finding(finding: Finding) -> None:
    head = f"  {finding.check:<12}{finding.outcome:<12}"
    say(fill(finding.text, head, len(head)), style=_STYLES[finding.outcome])


def _lacking(one: Verified) -> str:
    """Say that a report's cases were not held against the suite: then they may be any."""
    missing = any(f.check == "cases" and f.outcome == "not checked" for f in one.findings)
    return "; cases not checked" if missing else ""


def _signature(one: Verified) -> str:
    words = {
        "signed": f"signed by {', '.join(one.signed.keys)}",
        "unchecked": f"signature of {', '.join(one.signed.keys)} not checked",
        "unsigned": "unsigned",
        "refused": "no signature that holds",
    }
    return words[one.signed.state]


def _show_sample(again: Sample, path: Path, backend: str, sample: str) -> None:
    from portkit.conformance.attest.resample import FALSE_SHARE

    same = len(again.ids) - len(again.differences)
    for note in again.notes:
        say(f"note      {note}")
    bits = f", {again.digests:,} of them bit for bit" if again.digests else ""
    say(
        f"sample    {same:,} of {len(again.ids):,} cases came out the same here{bits}",
        style=_STYLES["refused" if again.differences else "ok"],
    )
    if again.differences:
        rows = [(d.reported, d.here, d.id, d.reason) for d in again.differences]
        print_table(("reported", "here", "case", "reason"), rows[:_MOST_ROWS])
        if len(rows) > _MOST_ROWS:
            say(f"{len(rows) - _MOST_ROWS} more are not shown, --json has all")
    else:
        say(f"          taken from {again.of:,}; were {FALSE_SHARE:.0%} of the verdicts false, a sample of this")
        say(f"          size would meet one with a probability of {again.power:.0%}")
    words = ["portkit", "verify", str(path), "--backend", backend, "--sample", sample, "--seed", str(again.seed)]
    say(f"again     {shlex.join(words)}")


# --- for programs -------------------------------------------------------------------------------------------------


def _record(found: Sequence[Verified], again: Sample | None, code: int) -> dict[str, Any]:
    import dataclasses

    reports = [
        {
            "folder": one.folder,
            "holds": one.holds,
            "backend": one.report.subject.backend if one.report else "",
            "statement": one.report.statement if one.report else "",
            "signature": {"state": one.signed.state, "keys": list(one.signed.keys)},
            "checks": {f.check: {"outcome": f.outcome, "text": f.text} for f in one.findings},
        }
        for one in found
    ]
    sample = None
    if again is not None:
        sample = {**dataclasses.asdict(again), "power": again.power}
    return {"exit_code": code, "reports": reports, "sample": sample}
