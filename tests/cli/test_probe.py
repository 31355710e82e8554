"""`portkit probe`: the table, the advice, the draft, and the exit codes."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from portkit.cli import probe
from portkit.contract import load_capabilities
from tests.cli.calls import Portkit, one_line

HONEST, FLUSHES = "tests.fakes.lying:HONEST", "tests.fakes.lying:FLUSHES"


def test_a_device_that_agrees_exits_with_0_within_80_columns(portkit: Portkit) -> None:
    called = portkit("probe", "--backend", HONEST, "--only", "floats", "--only", "speed")
    assert called.status == 0
    assert "declares agrees with what was measured" in " ".join(called.out.split())
    assert "GB/s" in called.out
    assert max(map(len, called.out.splitlines())) <= 80


def test_a_mismatch_exits_with_1_and_names_the_field(portkit: Portkit) -> None:
    called = portkit("probe", "--backend", FLUSHES, "--only", "floats", "--check")
    assert called.status == 1
    assert "set numeric.subnormals to" in called.out
    assert "rounding of add" not in called.out
    assert max(map(len, called.out.splitlines())) <= 80


def test_as_json_there_is_every_row(portkit: Portkit) -> None:
    called = portkit("probe", "--backend", FLUSHES, "--only", "floats", "--json")
    assert called.status == 1
    assert not called.told["agrees"]
    [row] = [row for row in called.told["rows"] if row["state"] == "wrong"]
    assert row["field"] == "numeric.subnormals"


def test_a_draft_is_a_valid_capabilities_file(portkit: Portkit) -> None:
    assert portkit("probe", "--backend", FLUSHES, "--only", "floats", "--write", "new.toml").status == 1
    assert load_capabilities(Path("new.toml")).numeric.subnormals == {"f32": "flush"}


def test_a_draft_overwrites_nothing(portkit: Portkit) -> None:
    Path("old.toml").write_text("kept", encoding="utf-8")
    called = portkit("probe", "--backend", HONEST, "--write", "old.toml")
    assert called.status == 2
    assert "old.toml exists" in one_line(called)
    assert Path("old.toml").read_text(encoding="utf-8") == "kept"


@pytest.mark.parametrize(("backend", "status"), [("no_such_backend", 2), ("tests.fakes.devices:CANNOT_RUN", 3)])
def test_what_cannot_be_probed_is_one_line(portkit: Portkit, backend: str, status: int) -> None:
    called = portkit("probe", "--backend", backend)
    assert called.status == status
    one_line(called)


def test_a_draft_that_cannot_be_written_is_one_line(portkit: Portkit) -> None:
    called = portkit("probe", "--backend", HONEST, "--only", "speed", "--write", "missing/new.toml")
    assert called.status == 2
    assert "cannot write" in one_line(called)


def shown_while_measuring(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, width: int = 80) -> str:
    """What the progress of a measurement prints on standard error."""
    written = io.StringIO()
    monkeypatch.setattr(probe, "errors", Console(file=written, force_terminal=terminal, width=width))
    monkeypatch.setattr(probe.sys.stderr, "isatty", lambda: terminal, raising=False)
    with probe._progress(quiet=False) as show:
        show("rounding of add, f32", 1, 4)
    return written.getvalue()


def test_on_a_terminal_the_measurement_under_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "rounding of add, f32" in shown_while_measuring(monkeypatch, terminal=True)


@pytest.mark.parametrize(("terminal", "width"), [(False, 80), (True, 40)])
def test_elsewhere_and_on_narrow_terminals_nothing_is_shown(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, width: int
) -> None:
    assert shown_while_measuring(monkeypatch, terminal=terminal, width=width) == ""
