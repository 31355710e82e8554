"""What is shown first of what did not pass."""

from __future__ import annotations

import pytest

from portkit.conformance.card import Card, Divergence
from portkit.conformance.journal import Entry
from portkit.conformance.roots import accused, by_accused, each_fault_first, roots_first
from portkit.conformance.verdict import Verdict

HINT = "mul.shr/i32 shifts in the wrong sign: look at the shift"


def ranked(*found: tuple[str, Verdict]) -> list[str]:
    return [name for name, _ in sorted(found, key=lambda pair: roots_first(*pair))]


def test_what_explains_the_rest_is_sorted_first() -> None:
    up = ["device/transfer/size_65", "device/copy/offsets", "device/launch/index", "ops/load/i32", "ops/div/f32"]
    assert ranked(*((name, Verdict.FAIL) for name in sorted(up))) == up


def test_of_one_stage_the_most_serious_is_sorted_first_and_numbers_count_as_numbers() -> None:
    sizes = [("ops/x/255", Verdict.FAIL), ("ops/x/65", Verdict.FAIL), ("ops/x/300", Verdict.CRASH)]
    assert ranked(*sizes) == ["ops/x/300", "ops/x/65", "ops/x/255"]


def test_a_fault_of_portkit_is_sorted_before_all_and_what_is_waived_after_all() -> None:
    found = [
        ("device/info", Verdict.WAIVED),
        ("ops/a", Verdict.FAIL),
        ("tensors/a", Verdict.ERROR),
        ("run/x", Verdict.FAIL),
    ]
    assert ranked(*found) == ["tensors/a", "ops/a", "run/x", "device/info"]


@pytest.mark.parametrize(
    ("hint", "text", "named"),
    [
        (HINT, "", "mul.shr/i32"),
        (HINT, "t16 = mul.shr t14 t15", "mul.shr/i32"),
        (HINT, "t16 = add t14 t15", "kernels/int4"),
        ("the launch did not end: look for a loop without end", "t16 = add t14 t15", "kernels/int4"),
        ("and/or: two words that are no form", "", "kernels/int4"),
        ("", "", "kernels/int4"),
    ],
)
def test_a_card_accuses_the_form_that_its_hint_names_unless_it_diverges_elsewhere(
    hint: str, text: str, named: str
) -> None:
    divergence = Divergence(3, text, 0, 0) if text else None
    assert accused(Card("kernels/int4", "", hint=hint, divergence=divergence)) == named


def failed(case_id: str, suspect: str, hint: str = "", verdict: Verdict = Verdict.FAIL) -> Entry:
    return Entry(case_id, verdict, case_id.partition("/")[0], card=Card(suspect, "", hint=hint))


def test_cases_that_accuse_the_same_stand_behind_the_first_of_them() -> None:
    found = [
        failed("kernels/bits/33", "kernels/bits/33", HINT),
        failed("ops/mul.shr/i32", "mul.shr/i32", HINT),
        failed("ops/div/f32", "div/f32"),
        failed("ops/div/f32/random", "div/f32", verdict=Verdict.CRASH),
    ]
    assert [[e.id for e in group] for group in by_accused(found)] == [
        ["ops/div/f32/random", "ops/div/f32"],
        ["ops/mul.shr/i32", "kernels/bits/33"],
    ]
    shown = [e.id for e in each_fault_first(found)]
    assert shown == ["ops/div/f32/random", "ops/mul.shr/i32", "ops/div/f32", "kernels/bits/33"]


def test_what_passes_and_what_is_blocked_accuses_nobody() -> None:
    assert by_accused([Entry("ops/a", Verdict.BLOCKED, "ops"), Entry("ops/b", Verdict.PASS, "ops")]) == []


def test_one_check_at_several_sizes_that_fails_in_the_same_way_is_one_fault() -> None:
    names = ["device/transfer/size_65", "device/transfer/size_255", "device/transfer/size_4096"]
    alike = [failed(name, name, "bytes are lost: look at the length") for name in names]
    other = failed("device/transfer/size_1", "device/transfer/size_1", "bytes are swapped: look at the order")
    assert [[e.id for e in group] for group in by_accused([*alike, other])] == [[other.id], names]


def test_what_has_no_hint_or_no_number_apart_is_a_fault_of_its_own() -> None:
    silent = [failed(f"device/transfer/size_{n}", f"device/transfer/size_{n}") for n in (1, 2)]
    types = [failed(f"ops/add/i{n}", f"add/i{n}", "the same: look there") for n in (8, 16)]
    assert len(by_accused([*silent, *types])) == 4
