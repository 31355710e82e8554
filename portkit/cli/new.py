"""`portkit new`: scaffold an installable port that passes on its host stand-in."""

from __future__ import annotations

import json
import keyword
import re
import shutil
import tempfile
from enum import StrEnum
from pathlib import Path

import typer

from portkit.cli.output import console
from portkit.errors import UsageError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Route(StrEnum):
    """The ways to port that have a template."""

    LLVM = "llvm"


def _check_name(name: str) -> None:
    from portkit.contract import installed_backends

    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise UsageError(
            f"{name!r} is not a backend name: use lower-case letters, digits and _, and start with a letter"
        )
    if name in installed_backends():
        raise UsageError(f"a backend called {name!r} is already installed; choose another name")


def template_folder() -> Path:
    """Return the scaffold's template, in an installed wheel or in a checkout."""
    import portkit

    package = Path(portkit.__file__).parent
    for folder in (package / "templates" / "new_backend", package.parent / "templates" / "new_backend"):
        if folder.is_dir():
            return folder
    raise UsageError("the scaffold template is missing from this installation; reinstall portkit")


def _render(template: Path, target: Path, answers: dict[str, str]) -> None:
    """Render into a temporary folder beside the target, then rename, so that nothing is left half-written."""
    import copier

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".portkit-new-", dir=target.parent) as scratch:
        # a copy, so that a template inside a git checkout is taken as it lies, not as last tagged
        source = Path(scratch) / "template"
        shutil.copytree(template, source, ignore=shutil.ignore_patterns("__pycache__"))
        rendered = Path(scratch) / "rendered"
        copier.run_copy(str(source), rendered, data=answers, defaults=True, quiet=True, overwrite=True)
        rendered.rename(target)


def new(
    name: str = typer.Argument(..., help="The backend's name, such as mychip."),
    route: Route = typer.Option(Route.LLVM, "--route", help="How the port generates code."),
    into: Path | None = typer.Option(None, "--into", help="The folder to make; by default ./portkit-NAME."),
    json_output: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Scaffold an installable port that passes the suite at once on a host stand-in."""
    from portkit import __version__

    _check_name(name)
    target = into or Path(f"portkit-{name.replace('_', '-')}")
    if target.exists():
        raise UsageError(f"{target} already exists; remove it or choose another folder with --into")
    _render(template_folder(), target, {"name": name, "route": route.value, "portkit_version": __version__})
    if json_output:
        typer.echo(json.dumps({"name": name, "route": route.value, "folder": str(target)}))
        return
    console.print(f"Made {target}. Next:\n")
    console.print(f"    pip install -e {target if target.is_absolute() else f'./{target}'}", markup=False)
    console.print(f"    portkit conform --backend {name}\n")
    console.print(f"Then replace its stand-in step by step: {target / 'README.md'} says in which order.")
