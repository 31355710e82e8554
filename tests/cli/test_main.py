"""What holds for the whole command line: help, refusals in one line, exit codes, and faults of our own."""

from __future__ import annotations

import errno
import io
import re
import subprocess
import sys

import pytest

from portkit import __version__
from portkit.cli import main as command_line
from portkit.cli.output import exit_code
from portkit.errors import (
    CannotRunHere,
    CompileError,
    ContractError,
    DeviceLost,
    HarnessError,
    InvalidKernelError,
    ParseError,
    PortkitError,
    SchemaError,
    UsageError,
    VerifyError,
)
from tests.cli.calls import ESCAPE, Portkit, one_line

COMMANDS = [
    "new",
    "upgrade",
    "backends",
    "conform",
    "fuzz",
    "mutants",
    "probe",
    "run",
    "reduce",
    "serve",
    "explain",
    "report",
    "diff",
    "bundle",
    "judge",
    "keygen",
    "publish",
    "verify",
    "matrix",
    "spec",
]


def test_ctrl_c_while_the_command_line_is_loading_leaves_in_one_line() -> None:
    script = """
import importlib.abc, sys
class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "portkit.cli":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
from portkit.__main__ import main
main()
"""
    done = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "portkit: interrupted\n")


def test_help_lists_every_command_within_80_columns(portkit: Portkit) -> None:
    called = portkit("--help")
    assert called.status == 0
    assert re.findall(r"^  ([a-z]+) +[A-Z]", called.out, re.MULTILINE) == COMMANDS
    assert max(map(len, called.out.splitlines())) <= 80


def test_no_summary_of_a_command_is_cut_off(portkit: Portkit) -> None:
    assert "..." not in portkit("--help").out.partition("Commands:")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_within_80_columns(portkit: Portkit, command: str) -> None:
    called = portkit(command, "--help")
    assert called.status == 0
    assert "--json" in called.out
    assert max(map(len, called.out.splitlines())) <= 80


def test_without_a_command_the_help_is_shown(portkit: Portkit) -> None:
    called = portkit()
    assert called.status == 2
    assert "Commands:" in called.error + called.out


def test_the_version_is_that_of_the_package(portkit: Portkit) -> None:
    assert portkit("--version").out == f"portkit {__version__}\n"


def test_the_package_runs_as_a_module() -> None:
    called = subprocess.run([sys.executable, "-m", "portkit", "--version"], capture_output=True, text=True, check=True)
    assert called.stdout == f"portkit {__version__}\n"


REFUSED: list[tuple[list[str], tuple[str, ...]]] = [
    (["conforn"], ("conforn", "did you mean", "conform")),
    (["--jsn"], ("--jsn",)),
    (["conform"], ("--backend",)),
    (["conform", "--backnd", "cpu"], ("--backnd", "--backend")),
    (["conform", "-b", "cpu", "--tier", "smokey"], ("smokey", "'smoke', 'standard', 'full'")),
    (["conform", "-b", "cpu", "--workers", "0"], ("--workers",)),
    (["conform", "-b", "cpu", "--workers", "many"], ("--workers",)),
    (["conform", "-b", "cpu", "surplus"], ("surplus",)),
    (["run"], ("kernel",)),
    (["run", "x.pk", "--against", "me"], ("'me'", "'reference'")),
    (["publish", "x"], ("--registry",)),
    (["diff", "x"], ("after",)),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED, ids=lambda value: " ".join(value))
def test_a_command_line_that_does_not_fit_is_refused_in_one_line(
    portkit: Portkit, arguments: list[str], words: tuple[str, ...]
) -> None:
    called = portkit(*arguments)
    assert called.status == 2
    message = one_line(called)
    assert [word for word in words if word.lower() not in message.lower()] == []


def test_a_refusal_names_the_help_of_its_command(portkit: Portkit) -> None:
    assert one_line(portkit("diff", "x")).endswith("; see portkit diff --help")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (ParseError("x"), 2),
        (VerifyError("x", clause="c"), 2),
        (InvalidKernelError("x", clause="c", instruction=1), 2),
        (SchemaError("x"), 2),
        (CannotRunHere("x"), 3),
        (CompileError("x"), 1),
        (DeviceLost("x"), 1),
        (ContractError("x"), 1),
        (HarnessError("x"), 4),
        (PortkitError("x"), 1),
    ],
)
def test_every_error_of_ours_has_an_exit_code(error: PortkitError, code: int) -> None:
    assert exit_code(error) == code


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("portkit.contract.installed_backends", fail)


def test_an_error_of_ours_is_one_line_without_escapes(portkit: Portkit, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, SchemaError(f"bad{ESCAPE}[2J\u202efile [red]x[/red] :smile:"))
    called = portkit("backends")
    assert (called.status, one_line(called)) == (2, "bad?[2J?file [red]x[/red] :smile:")


def test_a_full_disk_is_no_fault_of_ours(portkit: Portkit, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    called = portkit("backends")
    assert (called.status, one_line(called).partition(";")[0]) == (2, "No space left on device")


def test_an_interruption_exits_with_130(portkit: Portkit, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, KeyboardInterrupt())
    called = portkit("backends")
    assert (called.status, called.error) == (130, "portkit: interrupted\n")


def test_a_fault_of_ours_exits_with_4_and_asks_for_a_report(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(monkeypatch, ZeroDivisionError("deep inside"))
    with pytest.raises(SystemExit) as ended:
        command_line.main(["backends"])
    assert ended.value.code == 4
    assert "deep inside" in (error := capsys.readouterr().err)
    assert "fault of portkit; please report it" in error


def test_a_terminal_that_lacks_a_letter_does_not_end_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    monkeypatch.setattr("portkit.spec.forms.CLAUSES", {"add_c1": "a ≤ b"})
    with pytest.raises(SystemExit) as ended:
        command_line.main(["spec", "add_c1"])
    assert ended.value.code == 0
    assert raw.getvalue() == b"add_c1: a ? b\n"
