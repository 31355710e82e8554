"""Texts from outside lose terminal escapes; those for a report lose paths and names too, and nothing else."""

from __future__ import annotations

import getpass
import platform
from collections.abc import Iterator

import pytest

from portkit.conformance.report import text
from portkit.conformance.report.text import printable, publishable, publishable_name

PATHS = [
    "/Users/bob/x.so",
    "/hom" + "e/bob/x.so",
    "/tmp",
    "/usr/lib/x86_64/libfoo.so.1",
    "~/drivers/x",
    "~bob/x",
    r"C:\Users\bob\x.dll",
    "D:/x/y",
    r"C:\Program Files\My Chip\cc.exe",
    r"\\server\share\x",
    "file:///Users/bob/x",
    "tcp://board7.lab:9000/x",
    "//server/share/x",
    "$HOME/x/y.so",
    "${HOME}/x",
    r"$env:USERPROFILE\x",
    r"%USERPROFILE%\x",
    "https://bob:secret@example.com/x",
    "https://token@example.com/x",
    "'/Users/bob smith/my file'",
    '"/Applications/My Chip/cc"',
]
KEPT = [
    "ops/add/f32/special",
    "elements 3/4",
    "N/A",
    "i32 <- f32",
    "a / b / c",
    "// a comment",
    "1.5 ulp/element",
    "https://example.com/errata/17",
    "https://example.com/@vendor/errata",
    "//comment",
    "costs $5/unit",
    "50 % / 100 %",
    "x[3] = 0.5 (0x3f000000)",
    "portkit conform --backend chip --case 'ops/mul.hi/u32/*'",
    "add/f32x4<-i32",
]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    text._identities.cache_clear()
    yield
    text._identities.cache_clear()


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_replaced(path: str) -> None:
    assert publishable(f"cannot open {path}: no such file", 400) == "cannot open <path>: no such file"


@pytest.mark.parametrize("path", [path for path in PATHS if " " not in path])
def test_a_path_in_quotes_and_brackets_is_replaced(path: str) -> None:
    assert publishable(f"('{path}')", 400) in ("('<path>')", "(<path>)")


@pytest.mark.parametrize("kept", KEPT)
def test_what_is_no_path_stays(kept: str) -> None:
    assert publishable(kept, 400) == kept


def test_the_names_of_host_and_user_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "buildbox7.acme.example")
    monkeypatch.setattr(getpass, "getuser", lambda: "bob.smith")
    shown = publishable("run by Bob.Smith on buildbox7, also buildbox7.acme.example, not on buildbox77", 400)
    assert shown == "run by <user> on <host>, also <host>, not on buildbox77"


@pytest.mark.parametrize("name", ["root", "runner", "ci", "x"])
def test_a_name_that_is_an_ordinary_word_is_not_looked_for(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(platform, "node", lambda: name)
    monkeypatch.setattr(getpass, "getuser", lambda: name)
    assert publishable(f"square {name} of x", 400) == f"square {name} of x"


def test_a_user_without_a_name_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert publishable("fine", 400) == "fine"


@pytest.mark.parametrize(
    "harmful", ["\x1b[2J", "\r", "\x07", "\x9b31m", "\u202e", "\u2028", "\ud800", "\ufffe", "\x00"]
)
def test_what_a_terminal_would_obey_is_shown_as_a_question_mark(harmful: str) -> None:
    assert printable(f"a{harmful}b").startswith("a?")


def test_line_feeds_tabs_and_foreign_letters_stay() -> None:
    assert printable("a\n\tß λ 漢 ✓") == "a\n\tß λ 漢 ✓"


def test_a_long_text_is_cut_to_the_limit() -> None:
    assert publishable("x" * 500, 400) == "x" * 397 + "..."


@pytest.mark.parametrize(
    ("name", "shown"), [("cpu", "cpu"), ("a b/c", "a_b_c"), ("-x", "x-x"), (".", "x."), ("é", "x_"), ("a\n", "a_")]
)
def test_a_name_keeps_letters_digits_and_few_marks(name: str, shown: str) -> None:
    assert publishable_name(name) == shown


def test_a_long_name_is_cut() -> None:
    assert len(publishable_name("-" * 500)) == 100
