"""How far long work is, on a terminal and elsewhere."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from portkit.cli import progress
from portkit.cli.progress import in_tenths
from portkit.conformance.run import Progress
from portkit.conformance.verdict import Verdict
from tests.conformance.report.runs import entry


def test_long_work_is_told_once_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    step = in_tenths(200, "families")
    for done in range(1, 201):
        step(done)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"{done} of 200 families" for done in range(20, 201, 20)]


def test_short_work_is_told_no_more_often_than_it_advances(capsys: pytest.CaptureFixture[str]) -> None:
    step = in_tenths(3, "families")
    for done in (1, 2, 3):
        step(done)
    assert capsys.readouterr().err.splitlines() == ["1 of 3 families", "2 of 3 families", "3 of 3 families"]


# --- the bar ------------------------------------------------------------------------------------------------------


def terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> Callable[[], str]:
    """Let standard error be a terminal of some width; returns what it shows."""

    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    console = Console(file=screen, width=width, force_terminal=True, soft_wrap=True, highlight=False, markup=False)
    monkeypatch.setattr(progress, "errors", console)
    monkeypatch.setattr("portkit.cli.output.errors", console)
    return screen.getvalue


def steps(count: int) -> list[Progress]:
    return [Progress(entry(f"ops/{k}", Verdict.FAIL if k == 1 else Verdict.PASS), k + 1, count) for k in range(count)]


def test_a_terminal_shows_a_bar_that_counts_cases_and_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = terminal(monkeypatch, 80)
    with progress.progress("ch[ip", quiet=False) as step:
        for found in steps(30):
            step(found)
    assert "ch[ip" in shown()
    assert "30/30" in shown()
    assert "1 not passed" in shown()
    assert "ops/1: out[3] is wrong" in shown()


def test_a_narrow_terminal_shows_failures_only(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = terminal(monkeypatch, progress.NARROW - 1)
    with progress.progress("chip", quiet=False) as step:
        for found in steps(30):
            step(found)
    assert shown() == "fail     ops/1: out[3] is wrong\n"


def test_a_quiet_run_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = terminal(monkeypatch, 80)
    with progress.progress("chip", quiet=True) as step:
        step(steps(2)[1])
    assert shown() == ""
