"""What the matrix keeps of a report, and what it says of two of them."""

from __future__ import annotations

import msgspec

from portkit.conformance.attest.checks import Signed
from portkit.conformance.registry import Entry, Manifest
from portkit.conformance.report.model import MutationScore, Report
from portkit.conformance.site.columns import Column, column, in_order, newest
from portkit.conformance.site.history import changes, history
from portkit.conformance.site.tables import signature
from portkit.conformance.verdict import Verdict
from tests.conformance.report.runs import entry, passing, report


def shown(made: Report, folder: str = "chip/x", signed: Signed | None = None) -> Column:
    """Return the column of a report that lies in a folder."""
    manifest = Manifest("1", "chip", False, "", "", "", "", "x")
    return column(Entry(folder, manifest, made, signed or Signed("unsigned")))


def failing() -> Report:
    return report([*passing(), entry(id="ops/other", error_share=2.5)])


def test_a_square_folds_lanes_to_the_worst_verdict_the_sums_and_the_largest_error() -> None:
    square = shown(failing()).squares["add"]["f32"]
    cells = [c for c in failing().cells if (c.form, c.dtype) == ("add", "f32")]
    assert square.verdict is Verdict.FAIL
    assert square.cases == sum(c.cases for c in cells)
    assert square.elements == sum(c.elements for c in cells)
    assert square.error == 2.5


def test_squares_stand_in_the_order_of_the_spec() -> None:
    squares = shown(report()).squares
    assert list(squares)[:2] == ["add", "mul"]
    assert list(squares["add"]) == ["i32", "u32", "f32"]


def test_names_that_are_not_known_follow_by_name() -> None:
    assert in_order(["z", "b", "c", "a"], ["c", "b", "y"]) == ["c", "b", "a", "z"]


def test_a_failure_belongs_to_the_form_of_its_suspect() -> None:
    assert shown(failing()).failures == (("ops/other", Verdict.FAIL, "add"),)


def test_a_failure_without_a_known_suspect_belongs_to_the_form_in_its_id_or_to_none() -> None:
    made = failing()
    [card] = made.failures
    ids = ("ops/mul/f32", "kernels/loops")
    cards = tuple(msgspec.structs.replace(card, id=id_, suspect="a loop") for id_ in ids)
    assert [form for _, _, form in shown(msgspec.structs.replace(made, failures=cards)).failures] == ["mul", ""]


def test_what_passes_on_weaker_evidence_is_not_shown_like_a_conformant() -> None:
    made = {name: shown(report(evidence=name)) for name in ("silicon", "vendor-simulator", "own-model", "stand-in")}
    assert [c.claim for c in made.values()] == ["pass", "pass", "weaker", "weaker"]
    assert shown(failing()).claim == "fail"
    assert shown(report(tier="smoke")).claim == "weaker"


def test_a_signature_is_good_by_listed_keys_only() -> None:
    states = [Signed("signed", ("Lab",)), Signed("unchecked", ("0" * 16,)), Signed("unsigned")]
    said = [signature(shown(report(), signed=s)) for s in states]
    assert said == ["signed", "signed by an unlisted key", "unsigned"]


def test_the_mutation_score_of_a_report_is_kept() -> None:
    made = msgspec.structs.replace(report(), mutation_score=MutationScore(9, 10))
    assert shown(made).mutation_score == MutationScore(9, 10)
    assert "9 of 10 seeded faults" in shown(made).mutants


def test_the_page_of_a_report_is_named_by_its_folder_and_cannot_leave_it() -> None:
    assert shown(report(), 'chip/a b"#').page("x") == "reports/chip/a%20b%22%23/index.html#x"


def test_changes_count_what_is_better_worse_new_and_dropped() -> None:
    good, bad = shown(report()), shown(failing())
    rest = {form: row for form, row in good.squares.items() if form != "mul"}
    less = msgspec.structs.replace(good, squares=rest)
    assert str(changes(bad, good)) == "1 worse"
    assert str(changes(good, bad)) == "1 better"
    assert str(changes(less, good)) == f"{len(good.squares['mul'])} dropped"
    assert str(changes(good, less)) == f"{len(good.squares['mul'])} new"
    assert str(changes(good, good)) == "no change"


def test_the_history_compares_a_report_with_the_one_before_of_the_same_backend() -> None:
    columns = [
        shown(failing()),
        shown(report()),
        shown(report(name="other")),
    ]
    first, second, third = history(columns)
    assert (first.before, str(first.changes)) == (1, "1 worse")
    assert (second.before, second.changes) == (None, None)
    assert (third.before, third.changes) == (None, None)


def test_the_newest_of_a_backend_is_the_first_of_it() -> None:
    columns = [shown(report(), "chip/b"), shown(report(), "chip/a"), shown(report(name="other"), "other/a")]
    assert [c.folder for c in newest(columns)] == ["chip/b", "other/a"]
