"""`portkit report`, `diff`, `publish` and `matrix`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from portkit.conformance.report.model import load_report
from portkit.conformance.verdict import Verdict
from portkit.contract import DeviceInfo
from tests.cli.calls import Portkit, one_line
from tests.conformance.report.runs import entry, journal, passing, run_folder, write_journal

FAILING = [*passing(), entry("ops/x")]


@pytest.fixture(autouse=True)
def _runs() -> None:
    run_folder(Path("good"))
    run_folder(Path("bad"), FAILING)


# --- report -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("folder", "status"), [("good", 0), ("bad", 1)])
def test_a_report_exits_as_its_run_passed(portkit: Portkit, folder: str, status: int) -> None:
    called = portkit("report", folder)
    assert (called.status, called.error) == (status, "")
    assert f"report    {folder}/report.html" in called.out


def test_a_report_prints_the_cards_of_what_failed(portkit: Portkit) -> None:
    out = portkit("report", "bad").out
    assert "kernel add_f32" in out
    assert "vendor text" in out


def test_the_files_of_a_killed_run_are_made_from_its_journal(portkit: Portkit) -> None:
    write_journal(Path("killed"), journal(passing()[:5], cases=50))
    called = portkit("report", "killed")
    assert called.status == 1
    assert "incomplete: 45 of the run's cases" in called.out
    assert load_report(Path("killed")).planned == 50
    assert (Path("killed") / "report.html").is_file()


def test_files_that_were_taken_away_are_written_again(portkit: Portkit) -> None:
    before = Path("good/report.json").read_bytes()
    for path in Path("good").glob("*.[hxs]*ml*"):
        path.unlink()
    portkit("report", "good")
    assert Path("good/report.html").is_file()
    assert Path("good/report.json").read_bytes() == before


def test_a_report_file_is_shown_and_nothing_is_written(portkit: Portkit) -> None:
    Path("alone").mkdir()
    Path("bad/report.json").rename("alone/x.json")
    called = portkit("report", "alone/x.json")
    assert called.status == 1
    assert "kernel add_f32" in called.out
    assert [path.name for path in Path("alone").iterdir()] == ["x.json"]


def test_a_report_as_json_is_the_report(portkit: Portkit) -> None:
    called = portkit("report", "bad", "--json")
    assert called.status == 1
    assert called.told == json.loads(Path("bad/report.json").read_text())


def test_the_schema_is_printed_without_a_report_and_fits_one(portkit: Portkit) -> None:
    schema = portkit("report", "--schema").told
    jsonschema.Draft202012Validator(schema).validate(json.loads(Path("bad/report.json").read_text()))


def test_a_case_is_shown_in_full_with_its_source_on_request(portkit: Portkit) -> None:
    called = portkit("report", "bad", "--case", "ops/x")
    assert called.status == 1
    assert called.out.startswith("fail  ops/x\n")
    assert "secret_source" not in called.out
    assert "secret_source" in portkit("report", "bad", "--case", "ops/x", "--source").out


def test_cases_that_pass_are_shown_in_a_line_each(portkit: Portkit) -> None:
    called = portkit("report", "good", "--case", "ops/add")
    assert called.status == 0
    assert called.out.splitlines() == [f"pass  ops/add/{dtype}" for dtype in ("f32", "i32", "u32")]


def test_a_case_of_a_report_file_is_shown_from_its_card(portkit: Portkit) -> None:
    assert "kernel add_f32" in portkit("report", "bad/report.json", "--case", "ops/x").out


def test_a_case_as_json(portkit: Portkit) -> None:
    [case] = portkit("report", "bad", "--case", "ops/x", "--json").told["cases"]
    assert (case["id"], case["verdict"]) == ("ops/x", "fail")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "cannot read missing: No such file or directory"),
        (["empty"], "neither a journal nor a report"),
        (["broken"], "journal.jsonl: not a journal"),
        (["note.txt"], "note.txt: not a report"),
        (["bad", "--case", "ops/xx"], "no case of this run matches 'ops/xx'; did you mean ops/x"),
        (["bad", "--source"], "--source belongs to --case"),
        (["bad/report.json", "--case", "ops/x", "--source"], "a report carries no source"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_report_that_is_none_is_refused_in_one_line(portkit: Portkit, arguments: list[str], message: str) -> None:
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/journal.jsonl").write_text("x\n")
    Path("note.txt").write_text("hello")
    called = portkit("report", *arguments)
    assert called.status == 2
    assert message in one_line(called)


def test_what_a_hostile_report_says_does_not_reach_the_terminal_as_commands(portkit: Portkit) -> None:
    content = Path("bad/report.json").read_text().replace("Acme One", "\\u001b[2J\\u202e[bold]x[/bold]\\u0007")
    Path("evil.json").write_text(content)
    assert "?[2J?[bold]x[/bold]?" in portkit("report", "evil.json").out


def test_every_line_of_a_summary_fits_80_columns(portkit: Portkit) -> None:
    run_folder(Path("long"), FAILING, info=DeviceInfo("A rather long name of a device " * 5, "driver " * 20))
    assert max(map(len, portkit("report", "long").out.splitlines())) <= 80


# --- diff ---------------------------------------------------------------------------------------------------------


def test_no_regression_exits_with_0(portkit: Portkit) -> None:
    called = portkit("diff", "good", "good")
    assert (called.status, called.out) == (0, "no regressions\n")


def test_a_regression_exits_with_1_and_names_the_case(portkit: Portkit) -> None:
    run_folder(Path("worse"), [*passing()[1:], entry(passing()[0].id)])
    called = portkit("diff", "good/report.json", "worse")
    assert called.status == 1
    assert called.out.splitlines() == ["before  after  case         note", "pass    fail   ops/add/i32", "1 regression"]


def test_an_improvement_is_no_regression(portkit: Portkit) -> None:
    run_folder(Path("worse"), [*passing()[1:], entry(passing()[0].id)])
    assert portkit("diff", "worse", "good").status == 0


def test_a_case_id_is_never_cut(portkit: Portkit) -> None:
    name = "ops/" + "long_name_" * 15
    run_folder(Path("before"), [*passing(), entry(name, Verdict.PASS)])
    run_folder(Path("after"), [*passing(), entry(name)])
    assert name in portkit("diff", "before", "after").out


def test_many_regressions_are_counted_and_not_all_listed(portkit: Portkit) -> None:
    run_folder(Path("many"), [entry(f"ops/{k}") for k in range(100)])
    lines = portkit("diff", "good", "many").out.splitlines()
    assert len(lines) < 70
    assert "of them are not shown, --json has all" in lines[-1]
    assert len(portkit("diff", "good", "many", "--json").told["regressions"]) == 100 + len(passing())


def test_a_diff_as_json_says_what_else_differs(portkit: Portkit) -> None:
    run_folder(Path("smoke"), tier="smoke")
    called = portkit("diff", "good", "smoke", "--json")
    assert called.told == {"differences": ["tier: standard before, smoke after"], "regressions": []}


def test_a_diff_with_a_missing_run_is_refused_in_one_line(portkit: Portkit) -> None:
    called = portkit("diff", "good", "missing")
    assert called.status == 2
    assert "cannot read missing" in one_line(called)


# --- publish and matrix -------------------------------------------------------------------------------------------


def test_a_run_is_published_and_shown_in_the_matrix(portkit: Portkit) -> None:
    called = portkit("publish", "good", "--registry", "registry")
    assert called.status == 0
    assert called.out.startswith("published registry/chip/2026-03-04-")
    assert "portkit matrix registry --out site" in called.out
    shown = portkit("matrix", "registry").out
    assert shown == "built     site/index.html\n          site/matrix.md\n          site/matrix.csv\n"
    assert "chip" in Path("site/index.html").read_text()


def test_publish_and_matrix_as_json(portkit: Portkit) -> None:
    told = portkit("publish", "good", "--registry", "registry", "--draft", "--json").told
    assert told["draft"] is True
    assert Path(told["folder"], "manifest.json").is_file()
    told = portkit("matrix", "registry", "--out", "s", "--json").told
    assert told == {"index": "s/index.html", "markdown": "s/matrix.md", "csv": "s/matrix.csv"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evidence": "stand-in"}, "publish it with --draft"),
        ({"patterns": ("ops",)}, "run the suite without --case"),
        ({"mutant": "add-is-sub"}, "the fault add-is-sub was planted"),
        ({"cases": 999}, "--resume"),
    ],
)
def test_a_run_that_may_not_be_published_is_refused_in_one_line(
    portkit: Portkit, changes: dict[str, Any], message: str
) -> None:
    run_folder(Path("run"), **changes)
    called = portkit("publish", "run", "--registry", "registry")
    assert called.status == 2
    assert message in one_line(called)
    assert not Path("registry").exists()


def test_a_report_that_was_edited_is_refused_in_one_line(portkit: Portkit) -> None:
    Path("bad/report.json").write_text(Path("bad/report.json").read_text().replace('"fail"', '"pass"'))
    called = portkit("publish", "bad", "--registry", "registry")
    assert called.status == 2
    assert "contradicts itself" in one_line(called) or "not a report" in one_line(called)


def test_a_second_publication_is_refused_in_one_line(portkit: Portkit) -> None:
    portkit("publish", "good", "--registry", "registry")
    assert "in the registry already" in one_line(portkit("publish", "good", "--registry", "registry"))


@pytest.mark.parametrize("registry", ["missing", "good", "good/report.json"])
def test_a_matrix_of_what_is_no_registry_is_refused_in_one_line(portkit: Portkit, registry: str) -> None:
    called = portkit("matrix", registry)
    assert called.status == 2
    assert "portkit publish OUT --registry" in one_line(called)


def test_a_matrix_does_not_replace_a_folder_of_others(portkit: Portkit) -> None:
    portkit("publish", "good", "--registry", "registry")
    before = sorted(Path("bad").iterdir())
    called = portkit("matrix", "registry", "--out", "bad")
    assert "is not a matrix site" in one_line(called)
    assert sorted(Path("bad").iterdir()) == before
