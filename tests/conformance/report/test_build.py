"""From journal to report: what is counted, what is claimed, and what is left out."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from portkit.conformance.case import Level, Tier
from portkit.conformance.report.build import MAX_CARDS
from portkit.conformance.report.model import encode_report
from portkit.conformance.report.statement import statement
from portkit.conformance.verdict import Verdict
from portkit.contract import DeviceInfo, Evidence
from portkit.errors import SchemaError
from tests.conformance.report.runs import CHIP, entry, header, journal, passing, report

SAYS_CONFORMANT = {"silicon", "vendor-simulator"}


def test_a_whole_run_that_passes_claims_its_profile() -> None:
    assert report().statement == "conformant: core, standard tier"
    assert report().passed


def test_one_failure_takes_the_claim_away() -> None:
    made = report([*passing(), entry("ops/add/f32/x")])
    assert made.statement == "does not pass core"
    assert not made.passed


@pytest.mark.parametrize("evidence", get_args(Evidence))
def test_only_silicon_and_the_vendors_simulator_may_say_conformant(evidence: str) -> None:
    assert ("conformant" in report(evidence=evidence).statement) == (evidence in SAYS_CONFORMANT)


def test_a_selection_claims_nothing() -> None:
    made = report([entry(verdict=Verdict.PASS)], patterns=("ops/add",))
    assert made.passed
    assert "a selection claims nothing" in made.statement


def test_the_smoke_tier_claims_nothing() -> None:
    assert "run the standard tier for a claim" in report(tier="smoke").statement


def test_a_run_that_was_cut_off_does_not_pass_and_says_so() -> None:
    made = report(passing(), cases=len(passing()) + 7)
    assert not made.passed
    assert made.statement.startswith("incomplete: 7 of")


def test_a_run_that_was_cut_off_does_not_accuse_the_suite_of_holes() -> None:
    assert report(passing()[:5], cases=len(passing())).uncovered == ()


def test_a_run_with_a_planted_fault_says_nothing_of_the_device() -> None:
    made = report(mutant="add-is-sub")
    assert not made.passed
    assert made.statement == "says nothing of the device: the fault add-is-sub was planted in it"
    assert made.mutant == "add-is-sub"


def test_a_declared_cell_without_a_case_is_named_and_nothing_is_claimed() -> None:
    left_out = passing()[3]
    made = report([e for e in passing() if e.id != left_out.id])
    assert made.uncovered == left_out.cells
    assert not made.passed


def test_a_run_in_which_nothing_was_judged_does_not_pass() -> None:
    unsupported = [msgspec.structs.replace(e, verdict=Verdict.UNSUPPORTED) for e in passing()]
    assert not report(unsupported).passed
    assert not report([]).passed


def test_counts_are_by_verdict_and_by_level() -> None:
    made = report([entry("ops/a", Verdict.PASS), entry("ops/b"), entry("kernels/c")])
    assert made.counts == {Verdict.PASS: 1, Verdict.FAIL: 2}
    assert made.levels == {Level.OPS: {Verdict.PASS: 1, Verdict.FAIL: 1}, Level.KERNELS: {Verdict.FAIL: 1}}


def test_cases_are_in_the_order_of_the_levels_then_of_their_ids() -> None:
    made = report([entry("kernels/a"), entry("ops/b"), entry("device/c"), entry("ops/a")])
    assert [c.id for c in made.cases] == ["device/c", "ops/a", "ops/b", "kernels/a"]


def test_a_cell_has_the_worst_verdict_and_the_largest_error_of_its_cases() -> None:
    made = report([entry("ops/a", Verdict.PASS, error_share=0.9), entry("ops/b", Verdict.CRASH), entry("ops/c")])
    assert [(c.form, c.dtype, c.verdict, c.cases, c.error_share) for c in made.cells] == [
        ("add", "f32", Verdict.CRASH, 3, 0.9)
    ]


def test_the_bit_exact_share_counts_strict_cases_only() -> None:
    same = entry("ops/a", Verdict.PASS, digest="a" * 64, reference_digest="a" * 64)
    other = entry("ops/b", digest="a" * 64, reference_digest="b" * 64)
    assert report([same, other, entry("ops/c", Verdict.PASS)]).bit_exact_share == 0.5
    assert report([entry("ops/c", Verdict.PASS)]).bit_exact_share is None


def test_failure_cards_carry_neither_source_nor_the_vendors_text() -> None:
    card = report([entry()]).failures[0].card
    assert "kernel add_f32" in card
    assert "secret_source" not in card
    assert "vendor text" not in card


def test_the_most_serious_failures_have_their_cards_first() -> None:
    made = report([entry("ops/a", Verdict.WAIVED), entry("ops/b", Verdict.CRASH), entry("ops/c"), entry("ops/d")])
    assert [f.id for f in made.failures] == ["ops/b", "ops/c", "ops/d", "ops/a"]


def test_a_report_keeps_a_bounded_number_of_cards() -> None:
    assert len(report([entry(f"ops/{k}") for k in range(MAX_CARDS + 9)]).failures) == MAX_CARDS


def test_a_cell_that_is_not_declared_is_left_out() -> None:
    assert report([entry(verdict=Verdict.PASS, cells=("add/f32", "nonsense/f99"))]).declared_cells > 0
    assert [c.form for c in report([entry(cells=("add/f32", "nonsense/f99"))]).cells] == ["add"]


@pytest.mark.parametrize(
    ("name", "shown"), [("../../etc", "x.._.._etc"), ("my chip", "my_chip"), ("", "x"), ("..", "x..")]
)
def test_a_backends_name_becomes_one_that_cannot_lead_out_of_a_folder(name: str, shown: str) -> None:
    assert report(name=name).subject.backend == shown


def test_texts_of_the_device_lose_paths_and_length() -> None:
    info = DeviceInfo(
        "One at /opt/acme/dev0 " + "x" * 1000, driver=r"C:\Users\bob\drv.dll", compiler="/usr/bin/acmecc 9"
    )
    subject = report(info=info).subject
    assert subject.device.startswith("One at <path> xxx")
    assert len(subject.device) == 400
    assert (subject.driver, subject.compiler) == ("<path>", "<path> 9")


def test_reasons_and_cards_lose_paths() -> None:
    made = report([entry(reason="cannot open '/Users/bob smith/x.so': no such file")])
    assert made.cases[0].reason == "cannot open <path>: no such file"
    assert "bob" not in encode_report(made).decode()


@pytest.mark.parametrize(
    "changes", [{"tier": "huge"}, {"started": ""}, {"started": "2026-03-04T05:06:07+00:00\n"}, {"spec_digest": "x"}]
)
def test_a_journal_that_cannot_be_that_of_a_run_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match="journal"):
        report(**changes)


@pytest.mark.parametrize("changes", [{"level": "attic"}, {"id": "<b> x"}, {"elements": -1}, {"seconds": -1.0}])
def test_an_entry_that_cannot_be_that_of_a_run_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match="journal"):
        report([entry(**changes)])


def test_the_statement_of_a_planted_fault_comes_before_every_other() -> None:
    said = statement("silicon", "core", Tier.FULL, passed=True, selection=True, mutant="m", missing=3)
    assert said.startswith("says nothing of the device")


def test_what_passes_thanks_to_waivers_says_so() -> None:
    waived = [entry(f"ops/{k}", Verdict.WAIVED, cells=()) for k in range(2)]
    assert report([*passing(), *waived]).statement == "conformant but for 2 waived cases: core, standard tier"
    assert "but for 2 waived;" in report([*passing(), *waived], tier="smoke", patterns=("ops",)).statement
    assert report([*passing(), *waived, entry("ops/x", cells=())]).statement == "does not pass core"


def test_the_limits_name_what_the_device_does_not_promise() -> None:
    numeric = msgspec.structs.replace(CHIP.numeric, nonfinite=False, subnormals={"f32": "flush"})
    limits = report(capabilities=msgspec.structs.replace(CHIP, numeric=numeric)).limits
    assert limits["subnormals"] == "flushed: f32"
    assert limits["nonfinite"].startswith("no infinities")
    assert limits["strict"].startswith("not declared")


def test_the_helper_changes_the_header_alone() -> None:
    assert header(name="other").backend == "other"
    assert journal().header.cases == len(passing())
