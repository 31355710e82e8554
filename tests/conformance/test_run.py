"""Whole runs: exit codes, attribution of crashes and hangs, resuming after a kill, and what surrounds a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from portkit.conformance import journal as journals
from portkit.conformance.case import Tier
from portkit.conformance.digest import suite_digest
from portkit.conformance.journal import Entry
from portkit.conformance.run import Progress, RunOptions, RunResult, exit_code, run_suite
from portkit.conformance.verdict import ExitCode, Verdict
from tests.conformance.suite import CRASHES, HANGS

SUITE = "tests.conformance.suite"
ALL = 201


def run(out: Path, backend: str = "GOOD", suite: str = "collect", **options: object) -> RunResult:
    reference = backend if ":" in backend or backend == "nosuch" else f"tests.fakes.devices:{backend}"
    suite_digest.cache_clear()  # the files may have been edited since another test asked
    return run_suite(RunOptions(reference, out, suite=f"{SUITE}:{suite}", **options))  # type: ignore[arg-type]


def verdicts(result: RunResult) -> dict[str, str]:
    assert result.journal is not None
    return dict(journals.read(result.journal).verdicts())


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, list[Progress]]:
    seen: list[Progress] = []
    return run(tmp_path_factory.mktemp("good"), workers=2, on_progress=seen.append), seen


def test_a_run_in_which_everything_passes_exits_with_0(good: tuple[RunResult, list[Progress]]) -> None:
    assert good[0].exit_code is ExitCode.PASSED
    assert good[0].counts == {Verdict.PASS: ALL}


def test_progress_counts_every_case_once(good: tuple[RunResult, list[Progress]]) -> None:
    assert [p.done for p in good[1]] == list(range(1, ALL + 1))
    assert {p.total for p in good[1]} == {ALL}
    assert len({p.entry.id for p in good[1]}) == ALL


def test_a_run_leaves_its_journal_and_no_work_files(good: tuple[RunResult, list[Progress]]) -> None:
    assert good[0].journal is not None
    assert sorted(p.name for p in good[0].journal.parent.iterdir()) == ["journal.jsonl", "pytest.log"]


def test_crashes_and_hangs_cost_exactly_their_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = verdicts(run(tmp_path, "FAULTY", workers=2, seconds=0.3))
    assert {i for i, v in found.items() if v == "crash"} == {f"ops/add/{k:03d}" for k in CRASHES}
    assert {i for i, v in found.items() if v == "timeout"} == {f"ops/add/{k:03d}" for k in HANGS}
    assert sum(v == "pass" for v in found.values()) == ALL - len(CRASHES) - len(HANGS)


def test_a_device_that_hangs_on_everything_ends_the_run_early_and_resuming_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portkit.conformance.run.MOST_HANGS", 2)
    result = run(tmp_path, "FAULTY", "collect_hanging", workers=1, seconds=0.1)
    assert result.exit_code is ExitCode.NOT_PASSED
    assert result.counts == {Verdict.TIMEOUT: 2}
    assert result.message.startswith("stopped early: 2 cases hung, the last ops/add/01, and 10 are left")
    resumed = run(tmp_path, "FAULTY", "collect_hanging", workers=1, seconds=0.1, resume=True)
    assert resumed.counts == {Verdict.TIMEOUT: 4}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_case_that_ends_its_worker_is_our_error_and_no_other_is_lost(tmp_path: Path, workers: int) -> None:
    result = run(tmp_path, suite="collect_deadly", workers=workers)
    assert result.counts == {Verdict.PASS: 58, Verdict.ERROR: 2}
    assert result.exit_code is ExitCode.HARNESS_ERROR


def test_a_suite_that_workers_collect_differently_is_our_error(tmp_path: Path) -> None:
    result = run(tmp_path, suite="collect_shrinking")
    assert (result.exit_code, result.counts) == (ExitCode.HARNESS_ERROR, {Verdict.ERROR: 30})
    assert "no case ops/add/00 here" in (tmp_path / "pytest.log").read_text()


def test_a_rung_that_fails_blocks_what_stands_on_it(tmp_path: Path) -> None:
    result = run(tmp_path, suite="collect_broken_rung")
    assert result.exit_code is ExitCode.NOT_PASSED
    assert result.counts == {Verdict.FAIL: 1, Verdict.BLOCKED: 41, Verdict.PASS: 1}
    assert verdicts(result)["device/launch"] == "blocked"


def test_a_device_that_does_nothing_does_not_pass(tmp_path: Path) -> None:
    result = run(tmp_path, "NOTHING", suite="collect_one")
    assert (result.exit_code, result.counts) == (ExitCode.NOT_PASSED, {Verdict.FAIL: 1})


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ({"patterns": ("ops/addd",)}, ExitCode.USAGE, "no case matches 'ops/addd'"),
        ({"patterns": ("ops/add/s*",)}, ExitCode.USAGE, "try a larger tier"),
        ({"backend": "nosuch"}, ExitCode.USAGE, "unknown backend"),
        ({"backend": "CANNOT_RUN"}, ExitCode.CANNOT_RUN_HERE, "no such chip"),
        ({"backend": "QUIET_CHEAT"}, ExitCode.NOT_PASSED, "portkit.reference"),
        ({"backend": "EXITS"}, ExitCode.NOT_PASSED, "SystemExit"),
        ({"waivers": Path("/nonexistent.toml")}, ExitCode.USAGE, "cannot be read"),
    ],
)
def test_a_run_that_cannot_begin_says_why(
    tmp_path: Path, options: dict[str, object], code: ExitCode, text: str
) -> None:
    result = run(tmp_path, **{"suite": "collect_one", **options})  # type: ignore[arg-type]
    assert (result.exit_code, result.journal) == (code, None)
    assert text in result.message


def test_a_case_of_a_larger_tier_runs_by_its_id(tmp_path: Path) -> None:
    assert verdicts(run(tmp_path, suite="collect_one", patterns=("ops/add/slow",))) == {"ops/add/slow": "pass"}
    assert len(verdicts(run(tmp_path, suite="collect_one", tier=Tier.FULL))) == 2


WAIVER = """
[[waiver]]
cases = "{cases}"
reason = "erratum 17"
link = "https://example.com/17"
expires = 2999-01-01
"""


@pytest.mark.parametrize(
    ("cases", "code", "waived"),
    [("ops/add/wrong", ExitCode.PASSED, 1), ("ops/add/right", ExitCode.NOT_PASSED, 0)],
)
def test_a_waiver_lets_a_known_failure_pass_and_fails_a_run_that_does_not_need_it(
    tmp_path: Path, cases: str, code: ExitCode, waived: int
) -> None:
    file = tmp_path / "waivers.toml"
    file.write_text(WAIVER.format(cases=cases))
    result = run(tmp_path / "out", "FAULTY", suite="collect_wrong", waivers=file)
    assert (result.exit_code, result.counts.get(Verdict.WAIVED, 0)) == (code, waived)


def test_an_unneeded_waiver_alone_fails_the_run(tmp_path: Path) -> None:
    file = tmp_path / "waivers.toml"
    file.write_text(WAIVER.format(cases="ops/add"))
    result = run(tmp_path / "out", suite="collect_one", waivers=file)
    assert result.exit_code is ExitCode.NOT_PASSED
    assert "not needed any more" in result.message


def waived_run(tmp_path: Path, cases: str, backend: str = "FAULTY", more: str = "", **options: object) -> RunResult:
    """Run the case that passes and the one that does not, with a waiver."""
    file = tmp_path / "waivers.toml"
    file.write_text(WAIVER.format(cases=cases) + more)
    return run(tmp_path / "out", backend, waivers=file, **{"suite": "collect_wrong", **options})  # type: ignore[arg-type]


def test_a_waiver_that_means_no_case_stops_the_run_before_it_begins(tmp_path: Path) -> None:
    result = waived_run(tmp_path, "ops/add/wron")
    assert (result.exit_code, result.journal) == (ExitCode.USAGE, None)
    assert "the waiver of ops/add/wron means no case of the suite; did you mean ops/add/wrong" in result.message


def test_a_waiver_of_another_profile_stops_no_run(tmp_path: Path) -> None:
    file = tmp_path / "waivers.toml"
    file.write_text(WAIVER.format(cases="tensors/map"))
    result = run_suite(RunOptions("cpu", tmp_path / "out", patterns=("device/copy/whole",), waivers=file))
    assert (result.exit_code, result.message) == (ExitCode.PASSED, "")


def test_a_run_of_some_cases_of_a_waiver_does_not_call_it_unneeded(tmp_path: Path) -> None:
    result = waived_run(tmp_path, "ops/add", patterns=("ops/add/right",))
    assert (result.exit_code, result.stale_waivers) == (ExitCode.PASSED, ())


def test_a_waiver_of_wrong_results_hides_no_crash_of_its_cases(tmp_path: Path) -> None:
    result = waived_run(tmp_path, "ops/add", suite="collect_wrong_and_crash")
    assert result.counts == {Verdict.WAIVED: 1, Verdict.CRASH: 1, Verdict.PASS: 1}
    assert result.exit_code is ExitCode.NOT_PASSED


def test_a_waiver_that_names_crashes_admits_them(tmp_path: Path) -> None:
    more = 'verdicts = ["fail", "crash"]'
    result = waived_run(tmp_path, "ops/add", more=more, suite="collect_wrong_and_crash")
    assert (result.exit_code, result.counts[Verdict.WAIVED]) == (ExitCode.PASSED, 2)


def test_an_expired_waiver_is_named_before_the_run_begins(tmp_path: Path) -> None:
    file = tmp_path / "waivers.toml"
    file.write_text(WAIVER.format(cases="ops/add").replace("2999", "1999"))
    result = run(tmp_path / "out", suite="collect_one", waivers=file)
    assert (result.exit_code, result.journal) == (ExitCode.USAGE, None)
    assert "the waiver of ops/add ended on 1999-01-01" in result.message


# --- devices elsewhere --------------------------------------------------------------------------------------------


def test_a_board_that_is_down_cannot_run_here(tmp_path: Path) -> None:
    result = run(tmp_path, "tcp://127.0.0.1:1")
    assert (result.exit_code, result.journal) == (ExitCode.CANNOT_RUN_HERE, None)
    assert "Connection refused; is it served there?" in result.message


def test_a_command_that_leads_to_no_device_cannot_run_here(tmp_path: Path) -> None:
    result = run(tmp_path, "pipe:sh -c 'echo no route to board >&2; exit 255'")
    assert result.exit_code is ExitCode.CANNOT_RUN_HERE
    assert "no route to board" in result.message


@pytest.mark.parametrize("in_order", [True, False], ids=["in this process", "in workers"])
def test_a_server_that_is_killed_in_mid_run_is_blamed_on_no_case(tmp_path: Path, in_order: bool) -> None:
    script = "from portkit.cli.main import main; main()"
    command = [sys.executable, "-c", script, "serve", "-b", "tests.fakes.devices:GOOD", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1]

        def kill(progress: Progress) -> None:
            if progress.done == 4:
                server.kill()
                server.wait()

        order = ("device", "ops")
        result = run(tmp_path, address, patterns=order, in_order=in_order, workers=1, on_progress=kill)
    assert result.exit_code is ExitCode.CANNOT_RUN_HERE
    assert "the connection was lost at case ops/add/" in result.message
    assert "go on with --resume" in result.message
    assert set(verdicts(result).values()) == {"pass"}
    assert 4 <= len(verdicts(result)) < ALL


# --- what surrounds a run -----------------------------------------------------------------------------------------


def test_the_current_folders_pytest_settings_and_names_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    for name in ("conftest.py", "numpy.py", "xdist.py"):
        (here / name).write_text("raise RuntimeError('imported from the current folder')\n")
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    monkeypatch.setenv("PYTEST_PLUGINS", "nosuchplugin")
    assert run(Path("out"), workers=2).exit_code is ExitCode.PASSED


CHILD = """
import sys
from pathlib import Path
from portkit.conformance.run import RunOptions, run_suite
options = RunOptions("tests.fakes.devices:GOOD", Path(sys.argv[1]), suite="tests.conformance.suite:collect", workers=2)
sys.exit(run_suite(options).exit_code)
"""


def start(out: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", CHILD, str(out)], env=environment, start_new_session=True)


def wait_for_lines(journal: Path, lines: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if journal.exists() and journal.read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.002)
    raise AssertionError("the run does not get on")


@pytest.mark.parametrize("lines", [1, 2, 40])
def test_a_run_that_is_killed_and_resumed_ends_like_one_that_was_not(
    tmp_path: Path, lines: int, good: tuple[RunResult, list[Progress]]
) -> None:
    journal = tmp_path / "journal.jsonl"
    with start(tmp_path) as child:
        wait_for_lines(journal, lines)
        child.send_signal(signal.SIGKILL)
    before = len(journals.read(journal).entries)
    resumed = run(tmp_path, workers=2, resume=True)
    assert before < ALL
    assert resumed.exit_code is ExitCode.PASSED
    assert verdicts(resumed) == verdicts(good[0])


def test_an_interrupted_run_exits_with_130_and_leaves_a_journal_to_resume(tmp_path: Path) -> None:
    with start(tmp_path) as child:
        wait_for_lines(tmp_path / "journal.jsonl", 20)
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == ExitCode.INTERRUPTED
    assert run(tmp_path, workers=2, resume=True).counts == {Verdict.PASS: ALL}


def test_resuming_with_another_selection_is_a_usage_error(tmp_path: Path) -> None:
    run(tmp_path, suite="collect_one")
    again = run(tmp_path, suite="collect_one", resume=True, patterns=("ops/add/one",))
    assert again.exit_code is ExitCode.USAGE
    assert "patterns is none, now it is ops/add/one" in again.message


def test_resuming_a_finished_run_judges_nothing_again(tmp_path: Path) -> None:
    first = run(tmp_path, suite="collect_one")
    assert first.journal is not None
    data = first.journal.read_bytes()
    assert run(tmp_path, suite="collect_one", resume=True).exit_code is ExitCode.PASSED
    assert first.journal.read_bytes() == data


def test_resuming_judges_again_what_was_an_error_of_the_suite(tmp_path: Path) -> None:
    first = run(tmp_path, suite="collect_one")
    assert first.journal is not None
    writer = journals.JournalWriter(first.journal)
    writer.append(Entry("ops/add/one", Verdict.ERROR, "ops"))
    writer.close()
    assert run(tmp_path, suite="collect_one", resume=True).counts == {Verdict.PASS: 1}


def entry(verdict: Verdict) -> Entry:
    return Entry(verdict.value, verdict, "ops")


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ((), ExitCode.NOT_PASSED),
        ((Verdict.UNSUPPORTED,), ExitCode.NOT_PASSED),
        ((Verdict.PASS, Verdict.UNSUPPORTED, Verdict.WAIVED), ExitCode.PASSED),
        *(((Verdict.PASS, v), ExitCode.NOT_PASSED) for v in Verdict if v.meaning.exit is ExitCode.NOT_PASSED),
        ((Verdict.PASS, Verdict.FAIL, Verdict.ERROR), ExitCode.HARNESS_ERROR),
    ],
)
def test_the_exit_code_is_that_of_the_worst_verdict(verdicts: tuple[Verdict, ...], code: ExitCode) -> None:
    assert exit_code([entry(v) for v in verdicts]) is code
