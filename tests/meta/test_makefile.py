"""The Makefile's promises: bare `make` prints help, help lists every target, the README's commands exist."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def make(*arguments: str) -> str:
    command = ["make", "--no-print-directory", "-C", str(ROOT), *arguments]
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(command, env=outside, capture_output=True, text=True, timeout=30, check=True).stdout


def phony_targets() -> list[str]:
    return re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[0].split()


def test_bare_make_prints_help_with_every_target() -> None:
    listed = re.findall(r"^  make ([\w-]+) ", make(), re.MULTILINE)
    assert sorted(listed) == sorted(phony_targets())


@pytest.mark.parametrize("target", ["conform", "test"])
def test_the_readme_names_the_command(target: str) -> None:
    assert f"make {target}" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert target in phony_targets()


def test_make_test_runs_every_check() -> None:
    planned = make("--dry-run", "--always-make", "test")
    for tool in (
        "ruff check",
        "ruff format --check",
        "basedpyright",
        "pytest",
        "portkit conform",
        "scaffold",
        "mkdocs",
    ):
        assert tool in planned


def test_ci_calls_the_command_of_the_readme() -> None:
    assert re.search(r"^exec make test\b", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
