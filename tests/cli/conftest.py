"""Every test of the command line runs in an empty folder, in a terminal of 80 columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.calls import Portkit, caller


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("FORCE_COLOR", "PY_COLORS", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def portkit(capsys: pytest.CaptureFixture[str]) -> Portkit:
    return caller(capsys)
