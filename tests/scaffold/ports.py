"""A port made and installed as a vendor would: a folder of its own, and every command in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from portkit.cli.new import Driver, Route
from portkit.conformance.journal import read

NAME = "mychip"
KINDS = [(route.value, driver.value) for route in Route for driver in Driver]
"""Every route with every driver."""
PORTKIT = (sys.executable, "-c", "from portkit.cli.main import main; main()")
STRICT = "CFLAGS=-O1 -Wall -Wextra -Wpedantic -Werror"
SECONDS = 300
"""Time limit of one command; the longest is a run at tier standard."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    error: str


def call(command: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None) -> Ended:
    """Run a command in a folder, as from a terminal of 80 columns."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "80", **(variables or {})}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True, slots=True)
class Port:
    """A scaffold in `folder / portkit-mychip`, of which a copy is installed in `folder / installed`."""

    folder: Path
    route: str = "llvm"
    driver: str = "python"

    @property
    def source(self) -> Path:
        return self.folder / f"portkit-{NAME}"

    @property
    def installed(self) -> Path:
        return self.folder / "installed"

    def run(self, *command: str) -> Ended:
        """Run a program where the port is installed."""
        return call(command, self.folder, {"PYTHONPATH": str(self.installed)})

    def portkit(self, *arguments: str) -> Ended:
        return self.run(*PORTKIT, *arguments)

    def conform(self, cases: Sequence[str], out: str) -> tuple[Ended, dict[str, str]]:
        """Conform at tier smoke; returns how it ended and the verdict of every case."""
        chosen = [word for case in cases for word in ("--case", case)]
        ended = self.portkit("conform", "--backend", NAME, "--tier", "smoke", "--out", out, *chosen)
        journal = read(self.folder / out / "journal.jsonl")
        return ended, {entry.id: entry.verdict.value for entry in journal.entries.values()}

    @contextmanager
    def changed(self, file: str, old: str, new: str) -> Generator[None]:
        """Replace a piece of the installed port that it holds once; whole again afterwards."""
        path = self.installed / file
        whole = path.read_text(encoding="utf-8")
        assert whole.count(old) == 1, f"{file} holds `{old}` {whole.count(old)} times"
        try:
            self._write(path, whole.replace(old, new))
            yield
        finally:
            self._write(path, whole)

    def _write(self, path: Path, text: str) -> None:
        """Write a file of the installed port, and build its driver anew if it is of that."""
        path.write_text(text, encoding="utf-8")
        if path.suffix == ".c":
            self.build(self.installed)
        if path.suffix == ".py":  # bytecode of the same second and size would pass for that of the new text
            Path(cache_from_source(path)).unlink(missing_ok=True)

    def build(self, folder: Path) -> None:
        """Build the driver in a folder that has the package."""
        done = call(("make", "--always-make", f"--file={self.source / 'Makefile'}", STRICT), folder)
        assert done.status == 0, done.error


def needs(route: str, driver: str) -> None:
    """Skip the test where this machine lacks a tool that such a port is built or run with."""
    tools = {"make"} if driver == "c" else set[str]()
    tools |= {"cc"} if driver == "c" or route == "c" else set[str]()
    if lacking := sorted(tool for tool in tools if shutil.which(tool) is None):
        pytest.skip(f"there is no {lacking[0]} here")


def make(folder: Path, route: str = "llvm", driver: str = "python") -> Port:
    """Scaffold and install a port."""
    port = Port(folder, route, driver)
    made = call((*PORTKIT, "new", NAME, "--route", route, "--driver", driver), folder)
    assert made.status == 0, made.error
    if driver == "c":
        port.build(port.source)
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation")
    target = str(port.installed)
    done = call((sys.executable, "-m", "pip", "install", *quiet, "--target", target, str(port.source)), folder)
    assert done.status == 0, done.error
    return port
