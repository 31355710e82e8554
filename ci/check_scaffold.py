"""Make a port from the template as a vendor would, conform it, then break it in documented ways and see each one found.

Works in a temporary folder and installs nothing into the environment it runs in. The breaks are in
`ci/scaffold-breaks.toml`. Exits 1, saying what was expected and what came, as soon as one thing is not as it should be.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "mychip"
PASSED, NOT_PASSED = 0, 1
PORTKIT = (sys.executable, "-c", "from portkit.cli.main import main; main()")


class Unexpected(Exception):
    """Something was not as documented; the message says what."""


@dataclass(frozen=True, slots=True)
class Break:
    """One documented fault: in *file*, *old* becomes *new*; conforming *cases* must then print every one of *shows*."""

    title: str
    file: str
    old: str
    new: str
    cases: list[str]
    shows: list[str]


def load_breaks() -> list[Break]:
    """Return the documented breaks."""
    table = tomllib.loads((ROOT / "ci/scaffold-breaks.toml").read_text(encoding="utf-8"))
    return [Break(**entry) for entry in table["break"]]


def call(command: tuple[str, ...], folder: Path, status: int = PASSED) -> str:
    """Run *command* in *folder* with the folder's installed port on the path; return what it printed.

    Raises:
        Unexpected: it ended with another exit code than *status*.
    """
    environment = {**os.environ, "PYTHONPATH": str(folder / "installed"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    printed = done.stdout + done.stderr
    if done.returncode != status:
        raise Unexpected(f"{' '.join(command[3:])}: exit code {done.returncode}, expected {status}\n{printed}")
    return printed


def conform(folder: Path, status: int, cases: list[str]) -> str:
    """Conform the port at tier smoke, over *cases* only if there are any, and return what was printed."""
    chosen = [word for case in cases for word in ("--case", case)]
    out = str(folder / "out")
    return call((*PORTKIT, "conform", "--backend", NAME, "--tier", "smoke", "--out", out, *chosen), folder, status)


def scaffold(folder: Path) -> None:
    """Make the port and install a copy of it into *folder*."""
    call((*PORTKIT, "new", NAME), folder)
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation")
    source, target = str(folder / f"portkit-{NAME}"), str(folder / "installed")
    call((sys.executable, "-m", "pip", "install", *quiet, "--target", target, source), folder)


def check_passes(folder: Path) -> None:
    """The untouched scaffold passes, and claims no more than it may."""
    printed = conform(folder, PASSED, [])
    if "passes on its stand-in" not in printed:
        raise Unexpected(f"the run does not say that it passes on its stand-in:\n{printed}")


def check_break(folder: Path, fault: Break) -> None:
    """The fault makes the run fail and is named; the scaffold is whole again afterwards."""
    path = folder / "installed" / fault.file
    whole = path.read_text(encoding="utf-8")
    if whole.count(fault.old) != 1:
        raise Unexpected(f"{fault.file} holds `{fault.old}` {whole.count(fault.old)} times, expected once")
    path.write_text(whole.replace(fault.old, fault.new), encoding="utf-8")
    try:
        printed = conform(folder, NOT_PASSED, fault.cases)
    finally:
        path.write_text(whole, encoding="utf-8")
    for expected in fault.shows:
        if expected not in printed:
            raise Unexpected(f"the run does not show `{expected}`:\n{printed}")


def main() -> int:
    """Check everything, one line a step, and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="portkit-scaffold-") as name:
        folder = Path(name)
        try:
            scaffold(folder)
            check_passes(folder)
            print("scaffold: passes on its stand-in")
            for fault in load_breaks():
                check_break(folder, fault)
                print(f"scaffold: found the break: {fault.title}")
        except Unexpected as error:
            print(f"scaffold: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
