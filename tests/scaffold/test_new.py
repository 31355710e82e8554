"""`portkit new`: what it makes, what it says, what it refuses, and that it leaves nothing half-made."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from portkit.backends.drivers.c_driver import HEADER
from portkit.cli.main import app
from portkit.cli.new import CHOOSING, Route
from portkit.errors import UsageError
from tests.scaffold.ports import PORTKIT, call

FILES = [
    ".gitignore",
    ".portkit-scaffold.json",
    "README.md",
    "axpy.pk",
    "portkit_two_words/__init__.py",
    "portkit_two_words/capabilities.toml",
    "portkit_two_words/codegen.py",
    "portkit_two_words/standin.py",
    "pyproject.toml",
    "tests/test_two_words.py",
]
MORE = {
    ("c", "python"): [],
    ("llvm", "python"): [],
    ("isa", "python"): ["emulator.py", "isa.py"],
    ("c", "c"): ["../Makefile", "portkit_device.h", "standin.c"],
    ("llvm", "c"): ["../Makefile", "portkit_device.h", "standin.c"],
    ("isa", "c"): ["../Makefile", "isa.py", "portkit_device.h", "standin.c"],
}
"""What a route and a driver add in the package, or beside it."""


def new(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["new", *arguments])


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("route", "driver"), MORE)
def test_a_port_is_a_folder_named_after_it(route: str, driver: str, tmp_path: Path) -> None:
    assert new("two_words", "--route", route, "--driver", driver).exit_code == 0
    made = tmp_path / "portkit-two-words"
    more = [os.path.normpath(f"portkit_two_words/{name}") for name in MORE[route, driver]]
    assert sorted(str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()) == sorted(FILES + more)
    assert [path.name for path in tmp_path.iterdir()] == ["portkit-two-words"]


@pytest.mark.parametrize(("route", "driver"), MORE)
def test_no_placeholder_is_left_in_a_port(route: str, driver: str, tmp_path: Path) -> None:
    new("two_words", "--route", route, "--driver", driver)
    texts = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file()}
    assert [name for name, text in texts.items() if "{{" in text or "{%" in text or "mychip" in text] == []


def test_the_header_of_a_driver_in_c_is_the_one_that_is_loaded_by(tmp_path: Path) -> None:
    new("mychip", "--driver", "c")
    copied = tmp_path / "portkit-mychip/portkit_mychip/portkit_device.h"
    assert copied.read_bytes() == HEADER.read_bytes()


def test_what_a_driver_in_c_needs_first_is_make() -> None:
    assert json.loads(new("mychip", "--driver", "c", "--json").stdout)["next"][0] == "make -C ./portkit-mychip"


def test_help_says_when_to_take_each_route() -> None:
    told = " ".join(new("--help").stdout.split())
    assert [when for when in CHOOSING.values() if when not in told] == []


def on_a_terminal(typed: str) -> tuple[str, str]:
    """Answer what `portkit new mychip` asks on a terminal; returns what it shows, and the route that it took."""
    leader, follower = pty.openpty()
    with subprocess.Popen([*PORTKIT, "new", "mychip"], stdin=follower, stdout=follower, stderr=follower) as process:
        os.close(follower)
        os.write(leader, typed.encode())
        shown = b""
        with contextlib.suppress(OSError):  # the end, on Linux
            while chunk := os.read(leader, 1000):
                shown += chunk
    os.close(leader)
    assert process.returncode == 0, shown
    return shown.decode(), Path("portkit-mychip/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("typed", "made"),
    [("\n", "kernels to LLVM IR"), ("c\n", "kernels to C "), ("asm\nisa\n", "kernels to instructions")],
)
def test_on_a_terminal_the_route_is_asked_for(typed: str, made: str) -> None:
    shown, readme = on_a_terminal(typed)
    assert f"isa   {CHOOSING[Route.ISA]}" in shown
    assert ("one of c, llvm, isa" in shown) == ("asm" in typed)
    assert made in readme


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
