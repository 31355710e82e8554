"""`portkit report`, `diff`, `publish` and `matrix`: what happens to a run after it ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from portkit.cli.output import EXIT_FAIL, EXIT_PASS, print_json, print_table, say
from portkit.errors import UsageError, near_names

if TYPE_CHECKING:
    from portkit.conformance.journal import Journal
    from portkit.conformance.report.model import Report

_JSON = typer.Option(False, "--json", help="Print JSON.")
_MAX_ROWS = 60


def _print_schema(value: bool) -> None:
    if value:
        from portkit.conformance.report.model import json_schema

        print_json(json_schema())
        raise typer.Exit


def report(
    out: Path = typer.Argument(..., help="The folder of a run, such as out/cpu, or a report.json."),
    case: str = typer.Option("", "--case", metavar="ID", help="Print cases of this id, prefix or glob in full."),
    source: bool = typer.Option(False, "--source", help="With --case, print the generated source too."),
    schema: bool = typer.Option(
        False, "--schema", callback=_print_schema, is_eager=True, help="Print the JSON Schema of report.json and leave."
    ),
    json: bool = _JSON,
) -> None:
    """Print the summary of a run and render its files again.

    The files are made from the run's journal, also where the run was killed before it could write them.
    """
    import msgspec

    from portkit.conformance.errata import standing
    from portkit.conformance.report import terminal, write
    from portkit.conformance.report.brief import Found
    from portkit.conformance.report.folder import report_of

    if source and not case:
        raise UsageError("--source belongs to --case: the generated source of every failure would be long")
    found, journal = report_of(out)
    if case:
        _print_cases(found, journal, case, source=source, json=json)
        return
    passed = standing(found).passed
    if json:
        print_json(msgspec.to_builtins(found, str_keys=True))
    else:
        say(terminal.headline(found), style="bold green" if passed else "bold red")
        say(terminal.details(found, Found(journal, out) if journal else None))
    if out.is_dir():
        write.write_files(found, out)
        if not json:
            say(f"\nreport    {out / 'report.html'}")
    raise typer.Exit(EXIT_PASS if passed else EXIT_FAIL)


def _print_cases(found: Report, journal: Journal | None, pattern: str, *, source: bool, json: bool) -> None:
    """Print what is known of the cases that a pattern means."""
    import msgspec

    from portkit.conformance.report import terminal
    from portkit.conformance.report.brief import card_of
    from portkit.conformance.select import matches

    cases = [c for c in found.cases if matches(pattern, c.id)]
    if not cases:
        raise UsageError(f"no case of this run matches {pattern!r}{near_names(pattern, [c.id for c in found.cases])}")
    if source and journal is None:
        raise UsageError("a report carries no source; give the folder of the run, which has the journal")
    if json:
        entries = [journal.entries[c.id] for c in cases] if journal else cases
        print_json({"cases": msgspec.to_builtins(entries)})
    else:
        cards = {failure.id: failure.card for failure in found.failures}
        for case in cases:
            if journal is not None:
                text = card_of(journal.entries[case.id], source=source)
            else:
                text = f"{case.verdict.value}  {case.id}\n{cards.get(case.id, case.reason)}".rstrip()
            say(terminal.wrap_card(text))
    raise typer.Exit(EXIT_PASS if all(c.verdict.passes for c in cases) else EXIT_FAIL)


def diff(
    before: Path = typer.Argument(..., help="The earlier run's folder or report.json."),
    after: Path = typer.Argument(..., help="The later run's folder or report.json."),
    json: bool = _JSON,
) -> None:
    """List what got worse between two reports; exit 1 if anything did."""
    import msgspec

    from portkit.conformance.report.diff import differences, regressions
    from portkit.conformance.report.folder import report_of

    old, new = report_of(before)[0], report_of(after)[0]
    changes, other = regressions(old, new), differences(old, new)
    if json:
        print_json({"regressions": msgspec.to_builtins(changes), "differences": other})
        raise typer.Exit(EXIT_FAIL if changes else EXIT_PASS)
    for difference in other:
        say(difference)
    if changes:
        rows = [(c.before or "-", c.after or "-", c.id, c.note) for c in changes]
        print_table(("before", "after", "case", "note"), rows[:_MAX_ROWS])
        more = f"; {len(rows) - _MAX_ROWS} of them are not shown, --json has all" if len(rows) > _MAX_ROWS else ""
        say(f"{len(changes)} regression{'s' * (len(changes) != 1)}{more}")
    else:
        say("no regressions")
    raise typer.Exit(EXIT_FAIL if changes else EXIT_PASS)


def publish(
    out: Path = typer.Argument(..., help="The folder of a run, such as out/mychip."),
    registry: Path = typer.Option(..., "--registry", help="The registry folder; made if it is not there."),
    draft: bool = typer.Option(False, "--draft", help="File it as a draft; stand-ins can be drafts only."),
    key: list[Path] = typer.Option([], "--key", help="A private key of portkit keygen to sign with; may be repeated."),
    redact: bool = typer.Option(False, "--redact", help="Leave out every name of the chip; needs --codename."),
    codename: str = typer.Option("", "--codename", help="What to call a chip whose names are left out, such as heron."),
    json: bool = _JSON,
) -> None:
    """File a run's report into a registry folder; a key signs it."""
    import shlex

    from portkit.conformance.attest.keys import load_signing_key, public_path
    from portkit.conformance.registry import publish as file_report

    if redact != bool(codename):
        raise UsageError("--redact and --codename NAME belong together: the one hides, the other says what to show")
    keys = list({one.public.keyid: one for one in map(load_signing_key, key)}.values())
    folder = file_report(out, registry, draft=draft, keys=keys, codename=codename)
    if json:
        print_json({"folder": str(folder), "draft": draft, "keyids": [key.public.keyid for key in keys]})
        return
    say(f"published {folder}{' as a draft' if draft else ''}{'' if keys else ', unsigned'}")
    for one in keys:
        say(f"signed by {one.public.keyid}")
    check = ["portkit", "verify", str(folder), *(word for path in key for word in ("--key", str(public_path(path))))]
    say(f"next      {shlex.join(check)}")
    say(f"          {shlex.join(['portkit', 'matrix', str(registry), '--out', 'site'])}")


def matrix(
    registry: Path = typer.Argument(..., help="The registry folder."),
    out: Path = typer.Option(Path("site"), "--out", help="The folder of the site; an older site there is replaced."),
    page: Path | None = typer.Option(None, "--page", help="A page of portkit bundle --browser, for the site to carry."),
    json: bool = _JSON,
) -> None:
    """Build the compatibility matrix: a static site, Markdown and CSV."""
    from portkit.cli.progress import counting
    from portkit.conformance.site.build import build

    with counting("report", quiet=json) as step:
        index = build(registry, out, step=step, page=page)
    if json:
        print_json({"index": str(index), "markdown": str(out / "matrix.md"), "csv": str(out / "matrix.csv")})
    else:
        say(f"built     {index}\n          {out / 'matrix.md'}\n          {out / 'matrix.csv'}")
