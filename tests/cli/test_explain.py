"""`portkit explain`: what a script computed is shown, and the script's own faults stay its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.calls import Portkit

SCRIPT = "from portkit import Tensor\nimport sys\nprint(sys.argv[1:], Tensor([1.0, 2.0]).exp().sum().item())\n"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def test_a_script_runs_with_its_arguments_and_its_kernels_are_shown(portkit: Portkit, script: Path) -> None:
    done = portkit("explain", str(script), "one", "two")
    assert done.status == 0
    assert "['one', 'two']" in done.out
    assert "1 launches of 1 kernels" in done.out
    assert "kept because: output" in done.out


def test_json_lists_kernels_and_launches(portkit: Portkit, script: Path) -> None:
    done = portkit("explain", str(script), "--json")
    assert len(done.told["launches"]) == len(done.told["kernels"]) == 1


def test_a_page_is_written(portkit: Portkit, script: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert portkit("explain", str(script), "--html", str(page)).status == 0
    assert "Timeline" in page.read_text(encoding="utf-8")


def test_a_fault_of_the_script_is_shown_as_the_script_s(tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text("raise ValueError('mine')\n", encoding="utf-8")
    command = "from portkit.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "explain", str(path)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "ValueError: mine" in done.stderr
    assert "fault of portkit" not in done.stderr


def test_a_script_that_is_not_there_is_refused(portkit: Portkit, tmp_path: Path) -> None:
    done = portkit("explain", str(tmp_path / "none.py"))
    assert done.status == 2
    assert "is no file" in done.error
