"""How far long work is, where there is no terminal."""

from __future__ import annotations

import pytest

from portkit.cli.progress import in_tenths


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
