"""What a person reads first: 80 columns, the numbers, and the first failures in full."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from portkit.conformance.report.brief import Found, card_of
from portkit.conformance.report.terminal import CARDS, aligned, summary, wrap_card, wrapped
from portkit.conformance.verdict import Verdict
from portkit.contract import DeviceInfo
from tests.conformance.report.runs import CARD, entry, journal, passing, report


def test_the_first_line_is_the_statement() -> None:
    assert summary(report()).splitlines()[0] == "chip 2.1: conformant: core, standard tier"


def test_the_summary_counts_by_level() -> None:
    lines = summary(report([entry("ops/a", Verdict.PASS), entry("kernels/b")])).splitlines()
    start = lines.index("level    pass  fail")
    assert lines[start + 1 : start + 4] == ["ops         1     0", "kernels     0     1", "all         1     1"]


@pytest.mark.parametrize("width", [40, 79, 80, 81, 400])
def test_a_long_name_of_a_device_is_wrapped_not_cut(width: int) -> None:
    name = " ".join(["device"] * (width // 7))
    text = summary(report(info=DeviceInfo(name)))
    assert max(map(len, text.splitlines())) <= 80
    assert name in " ".join(text.split())


def test_a_summary_shows_the_first_cards_and_counts_the_others() -> None:
    text = summary(report([entry(f"ops/{k}") for k in range(CARDS + 2)]))
    assert text.count("kernel add_f32") == CARDS
    assert "2 more did not pass" in text


def test_with_its_journal_a_summary_shows_what_the_vendor_said() -> None:
    made = Found(journal([entry()]), Path("out/chip"))
    assert "vendor text" in summary(report([entry()]), made)
    assert "vendor text" not in summary(report([entry()]))
    assert "secret_source" not in summary(report([entry()]), made)


def test_what_accuses_the_same_is_shown_once_and_the_others_are_counted() -> None:
    entries = [entry(f"ops/{k}") for k in range(5)]
    text = summary(report(entries), Found(journal(entries), Path("out/chip")))
    assert text.count("kernel add_f32") == 1
    assert "also      ops/1 and 3 more: the same is accused" in text
    assert "4 more did not pass" in text


def test_prose_of_a_card_is_wrapped_and_what_is_copied_is_not() -> None:
    long = "word " * 30 + "end"
    card = msgspec.structs.replace(CARD, hint=long, replay=f"portkit conform --case '{'x' * 90}'", kernel=f"a = {long}")
    lines = wrap_card(card_of(entry(card=card))).splitlines()
    assert f"    a = {long}" in lines
    assert any(line.startswith("replay") and line.endswith("x'") for line in lines)
    assert all(len(line) <= 80 for line in lines if not line.startswith(("    a", "replay")))


def test_a_word_that_is_longer_than_a_line_is_not_cut() -> None:
    assert "x" * 200 in wrapped("see " + "x" * 200, 4)


def test_a_flood_without_a_blank_is_broken() -> None:
    assert all(len(line) <= 80 for line in wrapped("see " + "x" * 300, 4).splitlines())


def test_the_cells_that_no_case_covers_are_named() -> None:
    assert "no case covers add/i32, add/u32" in summary(report(passing()[2:]))


def test_numbers_stand_to_the_right() -> None:
    assert aligned([("a", "1"), ("bcd", "100")]) == "a      1\nbcd  100"
