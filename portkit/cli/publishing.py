"""`portkit report`, `diff`, `publish` and `matrix`: what happens to a run after it ended."""

from __future__ import annotations

from pathlib import Path

import typer

from portkit.cli.output import EXIT_FAIL, EXIT_PASS, console, print_json, print_table

_JSON = typer.Option(False, "--json", help="Print JSON.")


def report(
    out: Path = typer.Argument(..., help="The folder of a run, such as out/cpu, or a report.json."),
    schema: bool = typer.Option(False, "--schema", help="Print the JSON Schema of report.json and leave."),
    json: bool = _JSON,
) -> None:
    """Print the summary of a run and render its files again."""
    import msgspec

    from portkit.conformance.report import model, terminal, write

    if schema:
        print_json(model.json_schema())
        return
    found = model.load_report(out)
    if out.is_dir():
        write.write_files(found, out)
    if json:
        print_json(msgspec.to_builtins(found))
    else:
        console.print(terminal.summary(found), markup=False)
    raise typer.Exit(EXIT_PASS if found.passed else EXIT_FAIL)


def diff(
    before: Path = typer.Argument(..., help="The earlier run's folder or report.json."),
    after: Path = typer.Argument(..., help="The later run's folder or report.json."),
    json: bool = _JSON,
) -> None:
    """List what got worse between two reports; exit 1 if anything did."""
    import msgspec

    from portkit.conformance.report.diff import regressions
    from portkit.conformance.report.model import load_report

    changes = regressions(load_report(before), load_report(after))
    if json:
        print_json({"regressions": msgspec.to_builtins(changes)})
    elif changes:
        print_table(
            ("case", "before", "after", "note"), [(c.id, c.before or "-", c.after or "-", c.note) for c in changes]
        )
    else:
        console.print("no regressions")
    raise typer.Exit(EXIT_FAIL if changes else EXIT_PASS)


def publish(
    out: Path = typer.Argument(..., help="The folder of a run, such as out/mychip."),
    registry: Path = typer.Option(..., "--registry", help="The registry folder; made if it is not there."),
    draft: bool = typer.Option(False, "--draft", help="File it as a draft; stand-ins can be drafts only."),
    json: bool = _JSON,
) -> None:
    """File a report into a registry folder."""
    from portkit.conformance.registry import publish as file_report

    folder = file_report(out, registry, draft=draft)
    if json:
        print_json({"folder": str(folder), "draft": draft})
        return
    console.print(f"Published {folder}{' as a draft' if draft else ''}", markup=False)
    console.print(f"Next: portkit matrix {registry} --out site", markup=False)


def matrix(
    registry: Path = typer.Argument(..., help="The registry folder."),
    out: Path = typer.Option(Path("site"), "--out", help="The folder of the site; an older site there is replaced."),
    json: bool = _JSON,
) -> None:
    """Build the compatibility matrix, HTML and Markdown, from a registry."""
    from portkit.conformance.matrix import build

    index = build(registry, out)
    if json:
        print_json({"index": str(index), "markdown": str(out / "matrix.md")})
    else:
        console.print(f"Built {index} and {out / 'matrix.md'}", markup=False)
