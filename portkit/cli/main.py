"""The command line: one module a command, each importing what it needs only when it runs."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from portkit import __version__
from portkit.cli import (
    backends,
    bundle,
    conform,
    explain,
    fuzz,
    judge,
    keygen,
    mutants,
    new,
    probe,
    publishing,
    reduce,
    run,
    serve,
    spec,
    upgrade,
    verify,
)
from portkit.cli.output import EXIT_HARNESS, EXIT_INTERRUPTED, EXIT_USAGE, errors, exit_code, fail, leave_unread, warn
from portkit.errors import PortkitError, near_names

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class _Commands(TyperGroup):
    """The commands; Ctrl-C is told from a command that ends with its exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for. Raises `typer.Abort` on Ctrl-C."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            leave_unread()
        except KeyboardInterrupt as interrupt:
            raise typer.Abort from interrupt


app = typer.Typer(
    name="portkit",
    cls=_Commands,
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


@app.callback(
    epilog="Exit codes: 0 done, or all pass; 1 not; 2 usage, or a file that is refused; 3 cannot run here; "
    "4 portkit at fault; 130 interrupted; 141 the output is read no more."
)
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Port a new accelerator: scaffold a backend, check it against the reference, publish what it does."""


app.command("new", short_help="Scaffold an installable port that passes on a stand-in.")(new.new)
app.command("upgrade", short_help="Update a port to this version's scaffold.")(upgrade.upgrade)
app.command("backends")(backends.backends)
app.command("conform")(conform.conform)
app.command("fuzz")(fuzz.fuzz)
app.command("mutants", short_help="Measure the suite: which seeded faults it finds.")(mutants.mutants)
app.command("probe")(probe.probe)
app.command("run")(run.run)
app.command("reduce", short_help="Shrink a failing launch to a minimal one, and save it.")(reduce.reduce)
app.command("serve", short_help="Lend a device to portkit elsewhere.")(serve.serve)
app.command("explain", short_help="Run a script and show every kernel that it computes.")(explain.explain)
app.command("report")(publishing.report)
app.command("diff")(publishing.diff)
app.command("bundle", short_help="Export cases as files, to run them anywhere.")(bundle.bundle)
app.command("judge", short_help="Judge the outputs of a bundle, made anywhere.")(judge.judge)
app.command("keygen", short_help="Make the keys that reports are signed with.")(keygen.keygen)
app.command("publish")(publishing.publish)
app.command("verify", short_help="Check published reports, and run a sample again.")(verify.verify)
app.command("matrix")(publishing.matrix)
app.command("spec")(spec.spec)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave; what is wrong becomes one line and an exit code, never a traceback.

    `arguments` are by default those of the process.
    """
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")  # a terminal that lacks a letter must not end the program
    try:
        with _ending_in_order():
            code = app(None if arguments is None else list(arguments), prog_name="portkit", standalone_mode=False)
    except PortkitError as error:
        fail(": ".join([*getattr(error, "__notes__", ()), str(error)]), exit_code(error))
    except (KeyboardInterrupt, typer.Abort):  # before the command began, or in it
        warn("portkit: interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - whatever else is raised is our fault, and must not look like a verdict
        if hasattr(error, "format_message"):
            _refuse(error)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            fail(f"{error.strerror}; make room, then type the same again (conform goes on with --resume)", EXIT_USAGE)
        errors.print_exception(width=120, suppress=[typer])
        warn("portkit: this is a fault of portkit; please report it with the lines above")
        sys.exit(EXIT_HARNESS)
    sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def _ending_in_order() -> Generator[None]:
    """Take a request to end for Ctrl-C, so that nothing stays behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _open_standard_streams() -> None:
    """Lead standard streams that are closed to nowhere: a pipe to the device must not get one of their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, which is this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)


def _refuse(error: Any) -> NoReturn:
    """Leave for a command line that typer does not accept; `error` is its exception, whose class moves about."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "portkit"
    message: str = error.format_message()
    if not message.strip() or type(error).__name__ == "NoArgsIsHelpError":
        warn(context.get_help() if context else "")
        sys.exit(EXIT_USAGE)
    known = [command.name or "" for command in app.registered_commands]
    wrong = message.removesuffix(".").partition("No such command ")[2].strip("'\"")  # newer typers add near names
    text = f"{message.rstrip('.')}{near_names(wrong, known) if wrong else ''}; see {path} --help"
    fail(" ".join(text.replace("Value error, ", "").split()), EXIT_USAGE)
