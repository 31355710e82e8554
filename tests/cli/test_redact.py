"""`portkit publish --redact`: a report under a codename, in every file of the registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.calls import Portkit, one_line
from tests.conformance.report.runs import entry, passing, run_folder

NAMES = (b"acme", b"acmecc", b"acme 5.2", b"vendor text", b"chip.so")
PUBLISH = ("publish", "run", "--registry", "registry")


@pytest.fixture(autouse=True)
def _run() -> None:
    run_folder(Path("run"), [*passing(), entry("ops/x", reason="chip.so died")])


def test_no_published_file_tells_a_name(portkit: Portkit) -> None:
    assert portkit(*PUBLISH, "--redact", "--codename", "heron").status == 0
    files = {path: path.read_bytes().lower() for path in Path("registry/heron").rglob("*.*") if path.is_file()}
    assert len(files) >= 4
    assert [(path, name) for path, content in files.items() for name in NAMES if name in content] == []


def test_a_redacted_report_is_shown_in_the_matrix_by_its_codename(portkit: Portkit) -> None:
    portkit(*PUBLISH, "--redact", "--codename", "heron")
    called = portkit("matrix", "registry", "--out", "site")
    assert (called.status, called.error) == (0, "")
    assert b"heron" in b"".join(path.read_bytes() for path in Path("site").rglob("*.*") if path.is_file())


@pytest.mark.parametrize("given", [("--redact",), ("--codename", "heron")])
def test_one_without_the_other_is_refused_in_one_line(portkit: Portkit, given: tuple[str, ...]) -> None:
    called = portkit(*PUBLISH, *given)
    assert called.status == 2
    assert "belong together" in one_line(called)
    assert not Path("registry").exists()
