"""What is looked at once verdicts are known: the first failure of each suspect, traced and reduced."""

from __future__ import annotations

from pathlib import Path

import pytest

from portkit.conformance import journal as journals
from portkit.conformance.card import Card, Divergence, Reduced, render
from portkit.conformance.case import Tier
from portkit.conformance.examination import FOLDER, examine_failures, file_name, first_of_each_suspect
from portkit.conformance.journal import Entry
from portkit.conformance.run import RunOptions, run_suite
from portkit.conformance.trialfile import load_trial
from portkit.conformance.verdict import Verdict

CASE = "ops/mul.hi/i32/random"


def entry(case_id: str, suspect: str = "add/f32", verdict: Verdict = Verdict.FAIL, **more: object) -> Entry:
    card = Card(suspect=suspect, replay="", kernel="portkit", **more)  # type: ignore[arg-type]
    return Entry(case_id, verdict, case_id.partition("/")[0], card=card)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> RunOptions:
    return RunOptions(
        "cpu", tmp_path_factory.mktemp("run"), tier=Tier.STANDARD, patterns=(CASE,), mutant="mul-hi-is-unsigned"
    )


@pytest.fixture(scope="module")
def examined(options: RunOptions) -> Entry:
    journal = run_suite(options).journal
    assert journal is not None
    (found,) = examine_failures(options, journal)
    return found


def test_a_seed_that_no_tier_lists_is_looked_at_too(tmp_path: Path) -> None:
    case = "kernels/fuzz/declared/123456"
    seed = RunOptions("cpu", tmp_path, patterns=(case,), mutant="writes-past-the-end")
    journal = run_suite(seed).journal
    assert journal is not None
    assert [found.id for found in examine_failures(seed, journal)] == [case]


def test_the_card_says_where_the_kernel_first_goes_wrong(examined: Entry) -> None:
    assert examined.card is not None
    assert examined.card.divergence is not None
    assert "mul.hi" in examined.card.divergence.text


def test_the_card_has_the_reduced_kernel(examined: Entry) -> None:
    assert examined.card is not None
    assert examined.card.reduced is not None
    assert "mul.hi" in examined.card.reduced.kernel


def test_the_reduced_launch_lies_beside_the_report(examined: Entry, options: RunOptions) -> None:
    saved = load_trial(options.out / FOLDER / file_name(CASE))
    assert saved.case == examined.id
    assert saved.expected.startswith("fail")


def test_the_journal_keeps_the_verdict_and_the_fuller_card(examined: Entry, options: RunOptions) -> None:
    kept = journals.read(options.out / "journal.jsonl").entries[CASE]
    assert kept == examined
    assert kept.verdict is Verdict.FAIL


def test_a_case_that_was_looked_at_is_not_looked_at_again(examined: Entry) -> None:
    assert first_of_each_suspect([examined]) == []


def test_a_new_run_removes_the_launches_of_an_older_one_and_no_other_file(tmp_path: Path) -> None:
    passing = RunOptions("cpu", tmp_path, patterns=(CASE,), tier=Tier.STANDARD)
    journal = run_suite(passing).journal
    assert journal is not None
    (tmp_path / FOLDER).mkdir()
    old, other = tmp_path / FOLDER / file_name("ops/old"), tmp_path / FOLDER / "notes.txt"
    old.write_text("")
    other.write_text("")
    assert examine_failures(passing, journal) == []
    assert not old.exists()
    assert other.exists()


def test_what_a_hint_traces_to_a_suspect_that_is_looked_at_is_not_looked_at_too() -> None:
    found = [entry("ops/a", "mul.shr/i32"), entry("kernels/c", "kernels/c", hint="mul.shr/i32 shifts wrongly: look")]
    assert [e.id for e in first_of_each_suspect(found)] == ["ops/a"]


def test_of_each_suspect_the_first_failure_is_chosen_in_the_order_of_the_levels() -> None:
    found = [entry("tensors/a"), entry("ops/b"), entry("ops/a", "mul/f32"), entry("kernels/c")]
    assert [e.id for e in first_of_each_suspect(found)] == ["ops/a", "ops/b"]


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.FLAKY, Verdict.BLOCKED, Verdict.WAIVED, Verdict.ERROR])
def test_what_did_not_fail_by_itself_is_not_looked_at(verdict: Verdict) -> None:
    assert first_of_each_suspect([entry("ops/a", verdict=verdict)]) == []


def test_a_failure_without_a_kernel_is_not_looked_at() -> None:
    found = Entry("device/copy/whole", Verdict.FAIL, "device", card=Card(suspect="device/copy", replay=""))
    assert first_of_each_suspect([found]) == []


def test_a_card_shows_the_divergence_and_the_reduced_kernel() -> None:
    divergence = Divergence(7, "t = add a b", group=1, lane=2, iteration=(3, 4), note="not executed")
    reduced = Reduced("portkit 1.0\nkernel k", 6, "reduced/x.trial.json", "portkit run reduced/x.trial.json")
    text = render(Card(suspect="add/f32", replay="again", divergence=divergence, reduced=reduced))
    assert "diverges  instruction 7 `t = add a b`, group 1, lane 2, iteration 3.4" in text
    assert "not executed" in text
    assert "reduced   to 6 instructions\n    portkit 1.0\n    kernel k\n" in text
