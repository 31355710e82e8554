"""`portkit new`: what it makes, what it says, what it refuses, and that it leaves nothing half-made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from portkit.cli.main import app
from portkit.errors import UsageError
from tests.scaffold.ports import PORTKIT, call

FILES = [
    ".gitignore",
    "README.md",
    "axpy.pk",
    "portkit_two_words/__init__.py",
    "portkit_two_words/capabilities.toml",
    "portkit_two_words/codegen.py",
    "portkit_two_words/standin.py",
    "pyproject.toml",
    "tests/test_two_words.py",
]


def new(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["new", *arguments])


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_port_is_a_folder_named_after_it(tmp_path: Path) -> None:
    assert new("two_words").exit_code == 0
    made = tmp_path / "portkit-two-words"
    assert sorted(str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()) == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["portkit-two-words"]


def test_no_placeholder_is_left_in_a_port(tmp_path: Path) -> None:
    new("two_words")
    texts = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file()}
    assert [name for name, text in texts.items() if "{{" in text or "{%" in text or "mychip" in text] == []


def test_what_to_type_next_fits_80_columns() -> None:
    lines = new("mychip").stdout.splitlines()
    assert "    pip install -e ./portkit-mychip" in lines
    assert "    portkit conform --backend mychip" in lines
    assert max(map(len, lines)) <= 80


def test_a_port_can_be_made_elsewhere(tmp_path: Path) -> None:
    assert new("mychip", "--into", "a/b c").exit_code == 0
    assert (tmp_path / "a/b c/pyproject.toml").is_file()


def test_json_says_where_the_port_is_and_what_to_type_next() -> None:
    told = json.loads(new("mychip", "--into", "b c", "--json").stdout)
    assert told["folder"] == "b c"
    assert told["name"] == "mychip"
    assert told["next"][0] == "pip install -e './b c'"


@pytest.mark.parametrize(
    ("name", "example"),
    [("MyChip", "mychip"), ("my-chip", "my_chip"), ("9", "mychip"), ("a__b", "a_b"), ("a_", "a"), ("x" * 41, "x" * 40)],
)
def test_a_bad_name_is_refused_with_a_good_one(name: str, example: str, tmp_path: Path) -> None:
    error = new(name).exception
    assert isinstance(error, UsageError)
    assert str(error).endswith(f"such as {example}")
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_an_installed_backend_is_refused() -> None:
    assert "'cpu' is installed already" in str(new("cpu").exception)


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "portkit-mychip").mkdir()
    assert "portkit-mychip already exists" in str(new("mychip").exception)
    assert list((tmp_path / "portkit-mychip").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line_and_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = call((*PORTKIT, "new", "mychip", "--into", "file/port"), tmp_path)
    assert (ended.status, ended.error) == (2, "portkit: error: cannot make file/port: Not a directory\n")


@pytest.mark.parametrize("into", ["portkit-mychip", "deep/er/port"])
def test_an_interruption_leaves_nothing_behind(into: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import copier

    def interrupted(source: str, rendered: Path, **_: Any) -> None:
        rendered.mkdir()
        (rendered / "half").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(copier, "run_copy", interrupted)
    assert new("mychip", "--into", into).exit_code != 0
    assert list(tmp_path.iterdir()) == []
