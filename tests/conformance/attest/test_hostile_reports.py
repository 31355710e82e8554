"""A sample of the mutated files that `bench/hostile_reports.py` throws at readers, verifier and site."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.hostile_edits import edited, mutated_bytes, spoken
from bench.hostile_reports import Guard, Inventory, add, foreign, inventory

ROOT = Path(__file__).resolve().parents[3]


def test_no_mutated_file_crashes_escapes_or_writes_elsewhere() -> None:
    command = [sys.executable, "-W", "error", "-m", "bench.hostile_reports", "--count", "120", "--seed", "2026"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    came = {name: int(number) for number, name in re.findall(r"^ +(\d+) (.+)$", done.stdout, re.MULTILINE)}
    assert sum(n for name, n in came.items() if name.endswith("refused")) > 60
    assert came["spoken taken"] >= 1
    assert [name for name in came if name.endswith("fault")] == []


def test_a_write_elsewhere_is_noted(tmp_path: Path) -> None:
    guard = Guard(tmp_path / "inside")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "x").write_text("")
    (tmp_path / "outside").mkdir()
    (tmp_path / "inside" / "x").rename(tmp_path / "outside" / "x")
    assert guard.outside == [str(tmp_path / "outside"), str(tmp_path / "outside" / "x")]
    guard.inside = "/"


def test_html_of_others_is_noted() -> None:
    ours = Inventory()
    add(ours, inventory("<p class='a'>x</p></html>"))
    assert foreign("<p class='b'>y</p></html>", ours) == ""
    assert foreign("<p class='b'><b>y</b></p></html>", ours) == "the element b"


@pytest.mark.parametrize("mutate", [mutated_bytes, edited, spoken], ids=lambda mutate: mutate.__name__)
def test_a_seed_fixes_the_mutations(mutate: object) -> None:
    assert callable(mutate)
    content = b'{"subject": {"version": "1", "vendor": "A"}, "capabilities": {}, "cases": []}'
    assert mutate(random.Random(3), content) == mutate(random.Random(3), content)
    assert len({mutate(random.Random(seed), content) for seed in range(40)}) > 10
