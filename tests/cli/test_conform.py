"""`portkit conform`: what it prints and writes for each way in which a run can end."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from portkit.cli import progress
from portkit.cli.conform import Request, TierName, default_folder
from portkit.conformance.journal import Entry
from portkit.conformance.report.model import load_report
from portkit.conformance.run import Progress, RunOptions, RunResult
from portkit.conformance.verdict import ExitCode, Verdict
from portkit.contract import installed_backends
from portkit.errors import NotReachable, PortkitError
from tests.cli.calls import Called, Portkit, one_line
from tests.conformance.report.runs import entry, journal, passing, report, write_journal

FAKES = "tests.fakes.devices"


@dataclass
class Suite:
    """Stands in for the suite: leaves a journal of these entries and ends as told."""

    entries: list[Entry] = field(default_factory=passing)
    code: ExitCode = ExitCode.PASSED
    message: str = ""
    header: dict[str, Any] = field(default_factory=dict)
    seen: list[RunOptions] = field(default_factory=list)
    error: Exception | None = None

    def __call__(self, options: RunOptions) -> RunResult:
        self.seen.append(options)
        if self.error is not None:
            raise self.error
        if self.code in (ExitCode.USAGE, ExitCode.CANNOT_RUN_HERE):
            return RunResult(self.code, self.message)
        made = journal(self.entries, tier=options.tier.value, patterns=options.patterns, **self.header)
        for done, found in enumerate(self.entries, 1):
            options.on_progress(Progress(found, done, len(self.entries)))
        path = write_journal(options.out, made) / "journal.jsonl"
        return RunResult(self.code, self.message, path, report(self.entries).counts, seconds=2.5)


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> Suite:
    made = Suite()
    monkeypatch.setattr("portkit.conformance.run.run_suite", made)
    monkeypatch.setattr("portkit.contract.backend_point", lambda name: name)
    monkeypatch.setattr("portkit.conformance.examination.examine_failures", lambda *given, **options: [])
    return made


def next_commands(called: Called) -> list[str]:
    """Return the commands that a run tells the user to type next."""
    return re.findall(r"portkit [a-z].*?(?= +#|$)", called.out, re.MULTILINE)


# --- how a run ends -----------------------------------------------------------------------------------------------


def test_a_run_that_passes_exits_with_0_and_names_its_report(portkit: Portkit, suite: Suite) -> None:
    called = portkit("conform", "-b", "chip")
    assert called.status == 0
    assert called.error == ""
    assert called.out.startswith("chip 2.1: conformant: core, standard tier\n")
    assert "report    out/chip/report.html" in called.out
    assert load_report(Path("out/chip")).seconds == 2.5


def test_a_selection_that_passes_suggests_nothing(portkit: Portkit, suite: Suite) -> None:
    assert "next" not in portkit("conform", "-b", "chip", "--case", "ops").out


def test_a_run_that_does_not_pass_exits_with_1_and_shows_the_card(portkit: Portkit, suite: Suite) -> None:
    suite.entries, suite.code = [*passing(), entry("ops/x")], ExitCode.NOT_PASSED
    called = portkit("conform", "-b", "chip")
    assert called.status == 1
    assert "kernel add_f32" in called.out
    assert "vendor text" in called.out


def test_elsewhere_than_on_a_terminal_each_failure_is_a_line_and_nothing_else(portkit: Portkit, suite: Suite) -> None:
    suite.entries, suite.code = [*passing(), entry("ops/x"), entry("ops/y", Verdict.CRASH)], ExitCode.NOT_PASSED
    lines = portkit("conform", "-b", "chip").error.splitlines()
    assert lines == ["fail     ops/x: out[3] is wrong", "crash    ops/y: out[3] is wrong"]


def test_a_flood_of_failures_is_cut_short(portkit: Portkit, suite: Suite) -> None:
    suite.entries, suite.code = [entry(f"ops/{k}") for k in range(90)], ExitCode.NOT_PASSED
    lines = portkit("conform", "-b", "chip").error.splitlines()
    assert len(lines) == progress.MAX_LINES + 1
    assert lines[-1] == "... and more; the report lists them all"


def test_what_a_failure_blocks_does_not_crowd_out_other_failures(portkit: Portkit, suite: Suite) -> None:
    blocked = [entry(f"kernels/{k}", Verdict.BLOCKED, card=None) for k in range(90)]
    suite.entries, suite.code = [entry("ops/x"), *blocked, entry("ops/y")], ExitCode.NOT_PASSED
    lines = portkit("conform", "-b", "chip").error.splitlines()
    assert lines == ["fail     ops/x: out[3] is wrong", "fail     ops/y: out[3] is wrong"]


def test_a_run_that_cannot_begin_says_why_in_one_line_and_writes_nothing(
    portkit: Portkit, suite: Suite, tmp_path: Path
) -> None:
    suite.code, suite.message = ExitCode.CANNOT_RUN_HERE, "no such chip"
    called = portkit("conform", "-b", "chip")
    assert (called.status, one_line(called)) == (3, "no such chip")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_says_what_to_type_to_go_on(portkit: Portkit, suite: Suite) -> None:
    suite.entries, suite.code = passing()[:9], ExitCode.INTERRUPTED
    suite.header["cases"] = 100
    called = portkit("conform", "-b", "chip", "--tier", "full", "--out", "my out", "-n", "2", "--case", "ops/*")
    assert called.status == 130
    command = "portkit conform --backend chip --tier full --case 'ops/*' --out 'my out' --workers 2 --resume"
    assert called.error == f"portkit: interrupted; to go on: {command}\n"
    assert "incomplete: 91 of" in called.out


def test_the_command_to_go_on_asks_for_the_same_run(portkit: Portkit, suite: Suite) -> None:
    suite.code = ExitCode.INTERRUPTED
    called = portkit("conform", "-b", "chip", "--waivers", "w.toml", "--case-timeout", "2.5")
    portkit(*shlex.split(called.error.partition("to go on: portkit ")[2]))
    first, again = suite.seen
    assert again.resume
    for name in ("backend", "out", "profile", "tier", "patterns", "workers", "waivers", "seconds"):
        assert getattr(first, name) == getattr(again, name)


def test_a_message_of_the_suite_is_printed_after_the_summary(portkit: Portkit, suite: Suite) -> None:
    suite.code, suite.message = ExitCode.NOT_PASSED, "the waiver of ops/x is not needed any more"
    called = portkit("conform", "-b", "chip")
    assert called.error == "portkit: error: the waiver of ops/x is not needed any more\n"
    assert "next" not in called.out


def test_a_device_that_does_not_open_again_costs_no_verdict(
    portkit: Portkit, suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: object, **options: object) -> None:
        raise NotReachable("the board is gone")

    monkeypatch.setattr("portkit.conformance.examination.examine_failures", fails)
    suite.entries, suite.code = [*passing(), entry("ops/x")], ExitCode.NOT_PASSED
    called = portkit("conform", "-b", "chip")
    assert called.status == 1
    assert "report    out/chip/report.html" in called.out
    assert "no failure was traced and reduced: the board is gone" in called.error


def test_a_fault_of_ours_in_looking_closer_costs_no_verdict(
    portkit: Portkit, suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: object, **options: object) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr("portkit.conformance.examination.examine_failures", fails)
    suite.entries, suite.code = [*passing(), entry("ops/x")], ExitCode.NOT_PASSED
    called = portkit("conform", "-b", "chip")
    assert called.status == 1
    assert "report    out/chip/report.html" in called.out
    assert "IndexError: list index out of range; please report" in called.error


def test_a_declared_cell_without_a_case_is_our_fault(portkit: Portkit, suite: Suite) -> None:
    suite.entries = passing()[1:]
    called = portkit("conform", "-b", "chip", "--json")
    assert called.status == 4
    assert called.told["runs"][0]["exit_code"] == 4


def test_a_folder_that_cannot_be_written_is_a_usage_error(portkit: Portkit, suite: Suite, tmp_path: Path) -> None:
    suite.error = PermissionError(13, "Permission denied", str(tmp_path / "out" / "chip" / "journal.jsonl"))
    called = portkit("conform", "-b", "chip")
    assert (called.status, one_line(called)) == (
        2,
        "cannot write out/chip: Permission denied; choose another folder with --out",
    )


def test_an_error_of_ours_that_the_suite_raises_is_one_line(portkit: Portkit, suite: Suite) -> None:
    suite.error = PortkitError("something is off")
    assert one_line(portkit("conform", "-b", "chip")) == "something is off"


def test_the_output_fits_80_columns(portkit: Portkit, suite: Suite) -> None:
    assert max(map(len, portkit("conform", "-b", "chip").out.splitlines())) <= 80


# --- what to type next --------------------------------------------------------------------------------------------


def test_only_who_has_no_port_yet_is_told_how_to_start_one(portkit: Portkit, suite: Suite) -> None:
    assert "portkit new mychip" not in next_commands(portkit("conform", "-b", "chip"))
    suite.header["vendor"] = "portkit"
    assert "portkit new mychip" in next_commands(portkit("conform", "-b", "chip"))


def test_after_a_pass_the_report_can_be_filed(portkit: Portkit, suite: Suite) -> None:
    assert next_commands(portkit("conform", "-b", "chip")) == [
        "portkit publish out/chip --registry ./registry",
    ]


def test_a_stand_in_is_filed_as_a_draft(portkit: Portkit, suite: Suite) -> None:
    suite.header["evidence"] = "stand-in"
    assert next_commands(portkit("conform", "-b", "chip"))[-1].endswith("--registry ./registry --draft")


def test_after_smoke_comes_the_standard_tier(portkit: Portkit, suite: Suite) -> None:
    assert next_commands(portkit("conform", "-b", "chip", "--tier", "smoke", "--out", "a b"))[:1] == [
        "portkit conform --backend chip --out 'a b'"
    ]


def test_a_selection_is_not_to_be_filed(portkit: Portkit, suite: Suite) -> None:
    assert not any("publish" in c for c in next_commands(portkit("conform", "-b", "chip", "--case", "ops")))


def test_after_a_failure_the_most_serious_case_is_to_be_replayed(portkit: Portkit, suite: Suite) -> None:
    suite.entries, suite.code = [entry("ops/a"), entry("ops/b", Verdict.CRASH)], ExitCode.NOT_PASSED
    assert next_commands(portkit("conform", "-b", "chip"))[-2:] == [
        "portkit conform --backend chip --case ops/b",
        "portkit report out/chip --case ops/b --source",
    ]


def test_the_commands_to_type_next_are_accepted(portkit: Portkit, suite: Suite) -> None:
    for command in next_commands(portkit("conform", "-b", "chip", "--tier", "smoke")):
        if not command.startswith("portkit new"):
            assert portkit(*shlex.split(command)[1:]).status == 0


# --- several backends, and JSON -----------------------------------------------------------------------------------


def test_several_backends_have_a_folder_each(portkit: Portkit, suite: Suite) -> None:
    assert portkit("conform", "-b", "chip, other,chip,").status == 0
    assert [options.backend for options in suite.seen] == ["chip", "other"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["chip", "other"]


def test_the_exit_code_of_several_backends_is_the_most_serious(
    portkit: Portkit, suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = iter([ExitCode.NOT_PASSED, ExitCode.CANNOT_RUN_HERE, ExitCode.PASSED])

    def run(options: RunOptions) -> RunResult:
        suite.code = next(codes)
        return suite(options)

    monkeypatch.setattr("portkit.conformance.run.run_suite", run)
    called = portkit("conform", "-b", "a,b,c", "--json")
    assert called.status == called.told["exit_code"] == 3
    assert [run["exit_code"] for run in called.told["runs"]] == [1, 3, 0]


def test_an_interruption_ends_the_run_of_several_backends(portkit: Portkit, suite: Suite) -> None:
    suite.code = ExitCode.INTERRUPTED
    assert portkit("conform", "-b", "a,b").status == 130
    assert len(suite.seen) == 1


def test_several_backends_get_folders_below_the_one_that_is_given(portkit: Portkit, suite: Suite) -> None:
    assert portkit("conform", "-b", "a,b", "--out", "x").status == 0
    assert [options.out for options in suite.seen] == [Path("x/a"), Path("x/b")]


def test_all_means_every_installed_backend(portkit: Portkit, suite: Suite) -> None:
    portkit("conform", "-b", "all")
    assert [options.backend for options in suite.seen] == list(installed_backends())


def with_codes(suite: Suite, codes: dict[str, ExitCode], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(options: RunOptions) -> RunResult:
        suite.code = codes[options.backend]
        return suite(options)

    monkeypatch.setattr("portkit.conformance.run.run_suite", run)


def test_backends_that_cannot_run_here_are_skipped_and_counted_if_asked_for(
    portkit: Portkit, suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_codes(suite, {"a": ExitCode.PASSED, "b": ExitCode.CANNOT_RUN_HERE}, monkeypatch)
    called = portkit("conform", "-b", "a,b", "--skip-missing")
    assert called.status == 0
    assert called.out.splitlines()[-1] == "1 passed, 0 failed, 1 skipped"


def test_a_run_of_which_every_backend_is_skipped_has_not_passed(portkit: Portkit, suite: Suite) -> None:
    suite.code = ExitCode.CANNOT_RUN_HERE
    assert portkit("conform", "-b", "a,b", "--skip-missing").status == 3


def test_a_backend_that_fails_is_not_skipped(portkit: Portkit, suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    with_codes(suite, {"a": ExitCode.PASSED, "b": ExitCode.NOT_PASSED}, monkeypatch)
    called = portkit("conform", "-b", "a,b", "--skip-missing")
    assert called.status == 1
    assert called.out.splitlines()[-1] == "1 passed, 1 failed, 0 skipped"


def test_the_overview_of_several_backends_counts_the_strict_outputs_that_equal_the_reference(
    portkit: Portkit, suite: Suite
) -> None:
    suite.entries = [*passing(), entry("ops/x", Verdict.PASS, digest="a" * 64, reference_digest="a" * 64)]
    lines = portkit("conform", "-b", "a,b").out.splitlines()
    assert [" 1 of 1 " in line for line in lines if line.startswith(("a ", "b "))] == [True, True], lines


@pytest.mark.parametrize("names", ["", ",", " , "])
def test_no_backend_at_all_is_a_usage_error(portkit: Portkit, suite: Suite, names: str) -> None:
    called = portkit("conform", "-b", names)
    assert called.status == 2
    assert "names no backend" in one_line(called)


def test_json_is_all_that_is_printed(portkit: Portkit, suite: Suite) -> None:
    suite.entries, suite.code = [*passing(), entry("ops/x")], ExitCode.NOT_PASSED
    called = portkit("conform", "-b", "chip", "--json")
    assert called.error == ""
    [run] = called.told["runs"]
    assert run["statement"] == "does not pass core"
    assert run["counts"] == {"pass": len(passing()), "fail": 1}
    assert json.loads(Path(run["report"]).read_text())["passed"] is False


def test_json_tells_too_why_a_run_could_not_begin(portkit: Portkit, suite: Suite) -> None:
    suite.code, suite.message = ExitCode.USAGE, "unknown backend"
    [run] = portkit("conform", "-b", "chip", "--json").told["runs"]
    assert (run["message"], run["report"]) == ("unknown backend", None)


@pytest.mark.parametrize(
    ("backend", "folder"),
    [
        ("cpu", "out/cpu"),
        ("a.b:C", "out/a.b-C"),
        ("../../x", "out/x"),
        ("/etc/passwd:X", "out/etc-passwd-X"),
        ("..", "out/backend"),
        (".", "out/backend"),
        ("x/../../y:Z", "out/x-..-..-y-Z"),
        ("a\\b", "out/a-b"),
    ],
)
def test_the_folder_of_a_backend_lies_below_out(backend: str, folder: str) -> None:
    assert default_folder(backend) == Path(folder)


def test_two_backends_of_one_module_have_different_folders() -> None:
    assert default_folder("a.b:C") != default_folder("a.b:D")


def test_a_command_line_names_only_what_differs_from_the_defaults() -> None:
    request = Request("cpu", default_folder("cpu"), "core", TierName.STANDARD, (), False, None, None, 10.0)
    assert request.command() == "portkit conform --backend cpu"


# --- real runs ----------------------------------------------------------------------------------------------------


def test_a_small_real_run_passes_and_leaves_every_file(portkit: Portkit) -> None:
    called = portkit("conform", "-b", "cpu", "--case", "ops/add/f32", "--case", "device/allocate", "--out", "o")
    assert called.status == 0, called.out + called.error
    files = {"badge.svg", "journal.jsonl", "junit.xml", "report.html", "report.json"}
    assert files <= {path.name for path in Path("o").iterdir()}
    assert "a selection claims nothing" in called.out


def test_the_cases_of_a_backend_can_be_listed(portkit: Portkit) -> None:
    called = portkit("conform", "-b", "cpu", "--list", "--case", "ops/add/f32", "--tier", "smoke")
    assert called.status == 0
    assert "ops/add/f32/special" in called.out.splitlines()
    assert all(line.startswith("ops/add/f32/") for line in called.out.splitlines())


def test_a_seed_that_no_tier_lists_can_be_listed_as_it_can_be_run(portkit: Portkit) -> None:
    called = portkit("conform", "-b", "cpu", "--list", "--case", "kernels/fuzz/declared/50000")
    assert (called.status, called.out) == (0, "kernels/fuzz/declared/50000\n")


def test_the_cases_of_several_backends_are_listed_apart(portkit: Portkit) -> None:
    called = portkit("conform", "-b", f"cpu,{FAKES}:GOOD", "--list", "--case", "ops/add/f32/special")
    assert called.out == f"# cpu\nops/add/f32/special\n\n# {FAKES}:GOOD\nops/add/f32/special\n"


def test_a_list_as_json_has_tiers_and_cells(portkit: Portkit) -> None:
    [listed] = portkit("conform", "-b", "cpu", "--list", "--json", "--case", "ops/add/f32/special").told["lists"]
    assert listed["cases"] == [{"id": "ops/add/f32/special", "tier": "smoke", "cells": ["add/f32"]}]


@pytest.mark.parametrize("list_them", [[], ["--list"]])
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["-b", "cpuu"], 2, "; did you mean cpu?"),
        (["-b", "cpu", "--case", "ops/addd"], 2, "no case matches 'ops/addd'; did you mean ops/add"),
        (["-b", "cpu", "--case", "tensors/sum"], 2, "tensors are cases of profile compute: --profile compute"),
        (["-b", "cpu", "--profile", "cor"], 2, "unknown profile 'cor'; known: core, compute; did you mean core?"),
        (["-b", "no.such.module:X"], 2, "there is no module 'no', where the backend no.such.module:X should be"),
        (["-b", "../../x"], 2, "unknown backend '../../x'"),
        (["-b", "no.such.module:"], 2, "'no.such.module:' is no backend reference"),
        (["-b", ":X"], 2, "':X' is no backend reference"),
        (["-b", "a:b:c"], 2, "'a:b:c' is no backend reference"),
    ],
)
def test_a_wrong_name_is_refused_in_one_line(
    portkit: Portkit, tmp_path: Path, arguments: list[str], status: int, message: str, list_them: list[str]
) -> None:
    called = portkit("conform", *arguments, *list_them)
    assert called.status == status
    assert message in one_line(called)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", ["cpu,cpuu", "all,cpuu", f"cpu,{FAKES}"])
def test_of_several_backends_a_wrong_name_is_refused_before_any_run(
    portkit: Portkit, tmp_path: Path, names: str
) -> None:
    called = portkit("conform", "-b", names)
    assert called.status == 2
    assert "unknown backend" in one_line(called)
    assert list(tmp_path.iterdir()) == []


def test_all_stands_for_the_installed_backends_beside_others_too(portkit: Portkit, suite: Suite) -> None:
    portkit("conform", "-b", "all,other:X,cpu", "--json")
    assert [options.backend for options in suite.seen] == [*installed_backends(), "other:X"]


def test_repeating_shuffling_and_keeping_an_order_reach_the_suite(portkit: Portkit, suite: Suite) -> None:
    portkit("conform", "-b", "chip", "--repeat", "3", "--shuffle", "7")
    portkit("conform", "-b", "chip", "--in-order", "--case", "b", "--case", "a")
    assert [(o.repeat, o.shuffle, o.in_order) for o in suite.seen] == [(3, 7, False), (1, None, True)]
    assert suite.seen[1].patterns == ("b", "a")


def test_an_interrupted_run_goes_on_with_the_same_repeats_and_seed(portkit: Portkit, suite: Suite) -> None:
    suite.code = ExitCode.INTERRUPTED
    called = portkit("conform", "-b", "chip", "--repeat", "3", "--shuffle", "7")
    assert "portkit conform --backend chip --repeat 3 --shuffle 7 --resume" in called.error


def test_where_there_is_nothing_to_resume_a_run_begins_and_that_is_said(portkit: Portkit, suite: Suite) -> None:
    called = portkit("conform", "-b", "chip", "--resume", "--out", "mistyped")
    assert (called.status, suite.seen[0].resume) == (0, True)
    assert "mistyped holds no run to go on with; starting one" in called.error


def test_a_passing_selection_of_the_smoke_tier_suggests_all_cases(portkit: Portkit, suite: Suite) -> None:
    called = portkit("conform", "-b", "chip", "--case", "ops/add", "--tier", "smoke")
    assert "portkit conform --backend chip  " in called.out


def test_a_failure_that_takes_an_earlier_case_is_replayed_with_it(portkit: Portkit, suite: Suite) -> None:
    suite.entries, suite.code = [entry("ops/b", after=("ops/a",))], ExitCode.NOT_PASSED
    called = portkit("conform", "-b", "chip", "--repeat", "2")
    assert "portkit conform --backend chip --in-order --case ops/a --case ops/b --repeat 2" in called.out


def test_json_says_what_was_certified_and_which_waivers_are_not_needed(portkit: Portkit, suite: Suite) -> None:
    [told] = portkit("conform", "-b", "chip", "--json").told["runs"]
    assert told["determinism"].startswith("not measured")
    assert told["stale_waivers"] == []


def test_a_backend_that_cannot_run_here_exits_with_3(portkit: Portkit) -> None:
    called = portkit("conform", "-b", f"{FAKES}:CANNOT_RUN")
    assert called.status == 3
    assert "no such chip in this machine" in one_line(called)


def test_a_broken_waiver_file_is_refused_in_one_line(portkit: Portkit) -> None:
    Path("w.toml").write_text("[[waiver]]\n")
    called = portkit("conform", "-b", "cpu", "--waivers", "w.toml", "--case", "device/info")
    assert called.status == 2
    assert "w.toml" in one_line(called)
