"""`portkit explain`: run a script and show every kernel that it computed."""

from __future__ import annotations

import runpy
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from portkit.cli.output import EXIT_FAIL, print_json, say
from portkit.errors import UsageError

if TYPE_CHECKING:
    from portkit.runtime.trace import Trace


def explain(
    script: Path = typer.Argument(..., help="A Python script that computes tensors."),
    arguments: list[str] = typer.Argument(None, help="What the script gets as its arguments."),
    html: Path | None = typer.Option(None, "--html", help="Write one self-contained page with a timeline."),
    source: bool = typer.Option(False, "--source", help="Print the generated source too."),
    device: str = typer.Option("", "--device", help="Set PORTKIT_DEVICE for the script."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Run a script and show what it computed: graphs, fusion, schedules, twelve-op text, times and bytes.

    For each kernel: what it computes and why it is one kernel, its nest and schedule, its text, and how long each
    launch took. Kernels run one at a time meanwhile. PORTKIT_EXPLAIN=FILE does the same for any process.
    """
    import os

    from portkit.runtime.trace import recording, write

    if not script.is_file():
        raise UsageError(f"{script} is no file; give the path of a Python script")
    if device:
        os.environ["PORTKIT_DEVICE"] = device
    with recording() as trace, redirect_stdout(sys.stderr if json else sys.stdout):  # JSON, and nothing else
        _run(script, arguments or [])
    if html is not None:
        write(trace, html)
        say(f"wrote {html}")
    elif json:
        print_json(_as_json(trace))
    else:
        sys.stdout.write(trace.text(sources=source))


def _run(script: Path, arguments: list[str]) -> None:
    """Run a script as `python script` would; its own exit ends only the script."""
    before = sys.argv, sys.path[:]
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    except Exception as error:
        import traceback

        own = error.__traceback__
        while own is not None and own.tb_frame.f_code.co_filename != str(script):
            own = own.tb_next  # runpy's frames and ours say nothing about the script
        traceback.print_exception(error.with_traceback(own or error.__traceback__))
        raise typer.Exit(EXIT_FAIL) from error
    finally:
        sys.argv, sys.path[:] = before


def _as_json(trace: Trace) -> dict[str, object]:
    import msgspec

    kernels = [msgspec.to_builtins(made) for made in trace.made]
    launches = [msgspec.to_builtins(event) for event in trace.events]
    told = {"device": trace.device, "compiling": trace.compiling, "graphs": trace.graphs}
    return {**told, "kernels": kernels, "launches": launches}
