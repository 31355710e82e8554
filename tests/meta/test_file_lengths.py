"""Files stay readable: at most 500 lines each, a whole backend under 1,000, the toolkit under 2,500 of code."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE_LIMIT = 500

_spec = importlib.util.spec_from_file_location("portkit_ci_lines", ROOT / "ci" / "lines.py")
assert _spec is not None
assert _spec.loader is not None
counting = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = counting
_spec.loader.exec_module(counting)


def line_count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def python_files() -> list[Path]:
    folders = (ROOT / name for name in ("portkit", "tests", "ci", "bench", "examples"))
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def test_no_python_file_is_longer_than_the_limit() -> None:
    lengths = {str(path.relative_to(ROOT)): line_count(path) for path in python_files()}
    assert lengths, "no Python files were found"
    assert {name: lines for name, lines in lengths.items() if lines > FILE_LIMIT} == {}


def test_no_backend_and_not_the_toolkit_is_longer_than_its_limit() -> None:
    assert counting.backends(), "no backends were found"
    assert counting.too_long() == []


def test_what_is_too_long_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "BACKEND_LINES", 1)
    monkeypatch.setattr(counting, "TOOLKIT_CODE", 1)
    named = {line.partition(":")[0] for line in counting.too_long()}
    assert named == {folder.name for folder in counting.backends()} | {"toolkit"}


@pytest.mark.parametrize(
    ("suffix", "text", "lines", "code"),
    [
        (".py", '"""What it is."""\n\n# why\nx = (\n    1\n)\n', 6, 3),
        (".py", 'def f():\n    """One.\n\n    Two.\n    """\n    return "a"\n', 6, 2),
        (".toml", "# what\n\nx = 1 # why\n", 3, 1),
        (".ll", "; what\nret void\n", 2, 1),
    ],
)
def test_lines_of_code_are_those_without_blank_ones_comments_and_docstrings(
    suffix: str, text: str, lines: int, code: int
) -> None:
    assert counting.count_text(text, suffix) == counting.Count(lines, code)


def test_every_file_of_a_backend_counts_whatever_its_suffix() -> None:
    assert {path.suffix for path in counting.files_of(counting.BACKENDS / "cpu")} == {".py", ".toml", ".ll"}


def test_what_a_backend_uses_of_the_toolkit_includes_what_that_uses() -> None:
    used = {path.stem for path in counting.reached(counting.BACKENDS / "cpu", counting.TOOLKIT)}
    assert {"llvm_kernel", "groups", "serialise"} <= used


@pytest.mark.parametrize("lines", [0, 1, FILE_LIMIT, FILE_LIMIT + 1])
def test_lines_are_counted_exactly(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "counted.py"
    path.write_text("x = 1\n" * lines, encoding="utf-8")
    assert line_count(path) == lines
