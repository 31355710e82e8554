"""What docs/publishing.md shows works, from a key to the matrix, and what it says is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from portkit.conformance.attest.checks import CHECKS
from portkit.conformance.attest.folder import LIMITS
from portkit.conformance.attest.keys import load_trust
from portkit.conformance.attest.manifest import PREDICATE_TYPE
from portkit.conformance.attest.resample import Sample

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "publishing.md").read_text(encoding="utf-8")


def first_column(heading: str) -> list[str]:
    [rows] = re.findall(rf"^\| {re.escape(heading)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [row.split("|")[1].strip() for row in rows.splitlines()]


@pytest.mark.timeout(400)
def test_the_sequence_of_the_page_runs_as_it_stands_there(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "ci" / "publish_check.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ran = re.findall(r"^\+ portkit (\w+)", done.stderr, re.MULTILINE)
    assert ran == ["keygen", "conform", "publish", "verify", "matrix"]
    assert re.search(r"^sample +(\d+) of \1 cases came out the same", done.stdout, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


def test_every_file_and_every_check_is_explained() -> None:
    assert {name for cell in first_column("file") for name in re.findall(r"`([^`]+)`", cell)} == set(LIMITS)
    assert [cell.strip("`") for cell in first_column("check")] == [name for name, _ in CHECKS]
    assert f"`{PREDICATE_TYPE}`" in PAGE


def test_the_list_of_keys_is_one(tmp_path: Path) -> None:
    [text] = re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "keys.toml").write_text(text)
    [key] = load_trust(tmp_path / "keys.toml")
    assert (key.reserves("acme-2"), key.reserves("chip")) == (True, False)


def test_the_chances_to_meet_a_false_verdict_are_right() -> None:
    rows = re.findall(r"^\| (\d+) \| (\d+) % \| (\d+) % \|$", PAGE, re.MULTILINE)
    assert len(rows) == 4
    for size, _, of_twenty in rows:
        assert f"{Sample(1, ('x',) * int(size), 1000, (), 0).power:.0%}" == f"{of_twenty}%"
    assert [(size, one) for size, one, _ in rows] == [(n, f"{100 * (1 - 0.99 ** int(n)):.0f}") for n, _, _ in rows]
