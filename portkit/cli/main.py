"""The command line: one module a command, each importing what it needs only when it runs."""

from __future__ import annotations

import sys

import typer

from portkit import __version__
from portkit.cli import backends, conform, new, publishing, run, spec
from portkit.cli.output import EXIT_HARNESS, EXIT_INTERRUPTED, errors, fail
from portkit.errors import PortkitError

app = typer.Typer(
    name="portkit",
    help="Port a new accelerator: scaffold a backend, check it against the reference, publish what it does.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"portkit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Port a new accelerator: scaffold a backend, check it against the reference, publish what it does."""


app.command("new")(new.new)
app.command("backends")(backends.backends)
app.command("conform")(conform.conform)
app.command("run")(run.run)
app.command("report")(publishing.report)
app.command("diff")(publishing.diff)
app.command("publish")(publishing.publish)
app.command("matrix")(publishing.matrix)
app.command("spec")(spec.spec)


def main() -> None:
    """Run the command line; our own errors become one line and an exit code, never a traceback."""
    try:
        app()
    except PortkitError as error:
        fail(error)
    except Exception:  # noqa: BLE001 - whatever else is raised is our fault, and must not look like a verdict
        errors.print_exception(width=120, suppress=[typer])
        errors.print("portkit: this is a fault of portkit; please report it with the lines above")
        sys.exit(EXIT_HARNESS)
    except KeyboardInterrupt:
        errors.print("portkit: interrupted")
        sys.exit(EXIT_INTERRUPTED)
