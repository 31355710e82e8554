"""The command line as a process: pipes that close, Ctrl-C, kill -9, colours, and a folder of another user."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PORTKIT = (sys.executable, "-c", "from portkit.cli.main import main; main()")
SECONDS = 60


def environment(**variables: str) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), *sys.path])
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "80", **variables}


def portkit(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PORTKIT, *arguments],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PORTKIT, *arguments],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_lines(journal: Path, lines: int) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if journal.exists() and journal.read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.01)
    raise AssertionError("the run does not get on")


def test_an_error_is_one_line_on_standard_error() -> None:
    done = portkit("report", "missing")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "portkit: error: cannot read missing: No such file or directory\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed_are_not_held_against_the_backend(tmp_path: Path, closed: str) -> None:
    words = [*PORTKIT, "conform", "-b", "cpu", "--case", "device/transfer/size_64", "--out", str(tmp_path)]
    command = f"{shlex.join(words)} {closed}"
    assert subprocess.run(["sh", "-c", command], env=environment(), timeout=SECONDS, check=False).returncode == 0


def test_a_reader_that_goes_away_is_no_fault() -> None:
    with subprocess.Popen(
        [*PORTKIT, "spec", "--json"], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        said = process.stderr.read()
    assert b"Traceback" not in said
    assert b"fault of portkit" not in said


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1", "TERM": "xterm-256color"}, {"TERM": "dumb"}])
def test_what_goes_into_a_pipe_has_no_colours(variables: dict[str, str]) -> None:
    for arguments in (("spec",), ("report", "missing"), ("backends",), ("--help",)):
        done = portkit(*arguments, **variables)
        assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_end_leaves_no_temporary_files(asked: signal.Signals, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    run = ("conform", "--backend", "cpu", "--case", "ops/add", "--out", "o")
    with start(*run, TMPDIR=str(temporary)) as process:
        wait_for_lines(Path("o/journal.jsonl"), 5)
        process.send_signal(asked)
        _, error = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert "portkit: interrupted; to go on:" in error
    assert list(temporary.iterdir()) == []
    assert not Path("o/work").exists()


def test_an_interrupted_run_exits_with_130_and_goes_on_from_there() -> None:
    run = ("conform", "--backend", "cpu", "--case", "ops/add/f*", "--out", "o")
    with start(*run) as process:
        wait_for_lines(Path("o/journal.jsonl"), 5)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert "portkit: interrupted; to go on: portkit conform --backend cpu --case 'ops/add/f*' --out o --resume" in error
    assert "Traceback" not in error
    assert not json.loads(Path("o/report.json").read_text())["passed"]
    done = portkit(*run, "--resume")
    assert done.returncode == 0, done.stderr
    assert json.loads(Path("o/report.json").read_text())["passed"]


def test_a_run_that_is_killed_leaves_what_a_report_is_made_from() -> None:
    with start("conform", "--backend", "cpu", "--case", "ops/add", "--out", "o") as process:
        wait_for_lines(Path("o/journal.jsonl"), 5)
        os.killpg(process.pid, signal.SIGKILL)
    assert not Path("o/report.json").exists()
    done = portkit("report", "o")
    assert done.returncode == 1
    assert "incomplete" in done.stdout
    assert Path("o/report.html").is_file()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_of_another_user_is_refused_in_one_line() -> None:
    Path("locked").mkdir(mode=0o500)
    done = portkit("conform", "--backend", "cpu", "--case", "device/info", "--out", "locked/o")
    assert done.returncode == 2
    assert done.stderr.startswith("portkit: error: cannot write locked/o: Permission denied")


def test_a_folder_that_is_a_file_is_refused_in_one_line() -> None:
    Path("o").write_text("mine")
    done = portkit("conform", "--backend", "cpu", "--case", "device/info", "--out", "o")
    assert done.returncode == 2
    assert done.stderr.startswith("portkit: error: cannot write o: ")
    assert Path("o").read_text() == "mine"


def test_a_reader_who_leaves_is_no_verdict() -> None:
    with subprocess.Popen((*PORTKIT, "spec"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (141, b"")


def test_a_reader_of_json_who_leaves_is_no_verdict() -> None:
    with subprocess.Popen((*PORTKIT, "spec", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (141, b"")
