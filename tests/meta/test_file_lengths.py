"""Files stay readable: at most 500 lines each, and a whole backend under 1,000."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE_LIMIT = 500
BACKEND_LIMIT = 999
SHARED_BY_BACKENDS = "toolkit"


def line_count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def python_files() -> list[Path]:
    folders = (ROOT / name for name in ("portkit", "tests", "ci", "bench", "examples"))
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def backends() -> list[Path]:
    folder = ROOT / "portkit" / "backends"
    return sorted(path.parent for path in folder.glob("*/__init__.py") if path.parent.name != SHARED_BY_BACKENDS)


def test_no_python_file_is_longer_than_the_limit() -> None:
    lengths = {str(path.relative_to(ROOT)): line_count(path) for path in python_files()}
    assert lengths, "no Python files were found"
    assert {name: lines for name, lines in lengths.items() if lines > FILE_LIMIT} == {}


def test_no_backend_is_longer_than_the_limit() -> None:
    lengths = {folder.name: sum(map(line_count, folder.rglob("*.py"))) for folder in backends()}
    assert {name: lines for name, lines in lengths.items() if lines > BACKEND_LIMIT} == {}


@pytest.mark.parametrize("lines", [0, 1, FILE_LIMIT, FILE_LIMIT + 1])
def test_lines_are_counted_exactly(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "counted.py"
    path.write_text("x = 1\n" * lines, encoding="utf-8")
    assert line_count(path) == lines
