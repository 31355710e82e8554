"""`portkit new`: scaffold an installable port that passes on its stand-in."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from enum import StrEnum
from pathlib import Path

import typer

from portkit.cli.output import console, print_json
from portkit.errors import UsageError

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
MAX_NAME = 40
"""Letters of a backend's name; it becomes part of a package's and a folder's."""


class Route(StrEnum):
    """The ways from a kernel to the chip's code."""

    C = "c"
    LLVM = "llvm"
    ISA = "isa"


CHOOSING = {
    Route.C: "the chip has a compiler that takes C, or a dialect of it",
    Route.LLVM: "LLVM has a target for the chip",
    Route.ISA: "there is nothing but the manual of its instruction set",
}
"""When to take a route, the easiest first."""


class Driver(StrEnum):
    """The languages that the driver half can be written in."""

    PYTHON = "python"
    C = "c"


def new(
    name: str = typer.Argument(..., help="The backend's name, such as mychip."),
    route: Route | None = typer.Option(
        None, "--route", help="How the port generates code; asked for on a terminal, else llvm."
    ),
    driver: Driver = typer.Option(
        Driver.PYTHON, "--driver", help="What the driver half is written in; c is a shared library."
    ),
    into: Path | None = typer.Option(None, "--into", help="The folder to make; by default ./portkit-NAME."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Scaffold an installable port that passes the suite at once on a stand-in.

    Take the first route that fits. c: the chip has a compiler that takes C, or a dialect of it. llvm: LLVM has a target
    for the chip. isa: there is nothing but the manual of its instruction set.

    Take --driver c where the driver is a library in C already, or must be one without Python.
    """
    from portkit.cli.scaffold import rendered

    _check_name(name)
    taken = route or (Route.LLVM if json else _asked())
    chosen = {"route": taken.value, "driver": driver.value}
    target = into or Path(f"portkit-{name.replace('_', '-')}")
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} already exists; remove it, or choose another folder with --into")
    try:
        with rendered({"name": name, **chosen}, target.parent) as made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.rename(target)
    except OSError as error:
        raise UsageError(f"cannot make {target}: {error.strerror or error}") from error
    commands = _next_commands(name, target, driver)
    if json:
        print_json({"name": name, **chosen, "folder": str(target), "next": commands})
        return
    console.print(f"Made {target}: a port to {name}, with this host in the chip's place. Next:\n", markup=False)
    for command in commands:
        console.print(f"    {command}", markup=False)
    console.print(f"\nThen replace the stand-in step by step, as {target / 'README.md'} says.", markup=False)


def _asked() -> Route:
    """Return the route that a person chooses; llvm where nobody can be asked."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return Route.LLVM
    for route, when in CHOOSING.items():
        console.print(f"{route.value:<6}{when}", markup=False)
    while (answer := typer.prompt("Which route?", default=Route.LLVM.value)) not in list(Route):
        console.print(f"one of {', '.join(Route)}", markup=False)
    return Route(answer)


_WORDS = ("all", "reference")
"""What `--backend` and `--against` take for something else."""


def _check_name(name: str) -> None:
    from portkit.contract import installed_backends

    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        better = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:MAX_NAME].strip("_")
        example = better if _NAME.fullmatch(better) else "mychip"
        raise UsageError(
            f"{name!r} is not a backend name: write at most {MAX_NAME} lower-case letters, digits and single _, "
            f"a letter first, such as {example}"
        )
    if name in _WORDS:
        raise UsageError(f"{name!r} is a word of portkit's own command line; choose another name")
    if name in installed_backends():
        raise UsageError(f"a backend called {name!r} is installed already; choose another name")


def _next_commands(name: str, target: Path, driver: Driver) -> list[str]:
    """Return what to type next; an environment that uv made may have no pip."""
    folder = str(target) if target.is_absolute() else f"./{target}"
    pip = "pip" if importlib.util.find_spec("pip") else "uv pip"
    return [
        *([f"make -C {shlex.quote(folder)}"] if driver is Driver.C else []),
        f"{pip} install -e {shlex.quote(folder)}",
        f"portkit conform --backend {name}",
        f"portkit run {shlex.quote(str(target / 'axpy.pk'))} --backend {name} --against reference",
    ]
