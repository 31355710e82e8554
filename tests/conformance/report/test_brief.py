"""Cards in the summary of a run: each fault once, within bounds, with commands that work from here."""

from __future__ import annotations

from pathlib import Path

import msgspec

from portkit.conformance.card import Reduced
from portkit.conformance.journal import Entry
from portkit.conformance.report.brief import MOST_DETAIL_LINES, MOST_REASON, Found, brief_cards, card_of
from portkit.conformance.verdict import Verdict
from tests.conformance.report.runs import CARD, entry, journal

REST = "portkit report 'my out' --case ops/add/f32"


def briefly(*entries: Entry) -> list[str]:
    return brief_cards(Found(journal(entries), Path("my out")), 9)[1]


def with_card(**changes: object) -> Entry:
    return entry(card=msgspec.structs.replace(CARD, **changes))


def test_the_source_is_shown_on_request() -> None:
    assert "secret_source" in card_of(entry(), source=True)
    assert "secret_source" not in card_of(entry())


def test_an_entry_without_a_card_still_shows_its_reason() -> None:
    assert card_of(entry("ops/a", Verdict.BLOCKED, card=None)) == "blocked  ops/a\nout[3] is wrong"


def test_what_explains_the_others_comes_first() -> None:
    names = ["kernels/a", "ops/b", "device/copy/whole", "device/transfer/size_65"]
    cards = briefly(*(entry(n, card=msgspec.structs.replace(CARD, suspect=n)) for n in names))
    assert [card.splitlines()[0] for card in cards] == [f"fail  {n}" for n in reversed(names)]


def test_the_reduced_launch_is_named_as_it_is_reached_from_here() -> None:
    made = Reduced("kernel k", 6, "reduced/x.trial.json", "portkit run reduced/x.trial.json --backend chip")
    (card,) = briefly(with_card(reduced=made))
    assert "replay    portkit run 'my out/reduced/x.trial.json' --backend chip" in card


def test_a_long_reason_is_cut_and_the_rest_is_named() -> None:
    (card,) = briefly(entry(reason="x" * 3000))
    assert f"({3000 - MOST_REASON:,} more characters: {REST})" in card
    assert len(card) < 1000


def test_of_a_long_detail_the_last_lines_are_shown() -> None:
    lines = [f"line {k}" for k in range(99)]
    (card,) = briefly(with_card(detail="\n".join([*lines, "y" * 3000])))
    assert "line 0" not in card
    assert "line 98" in card
    assert "yyy..." in card
    assert card.count("line ") == MOST_DETAIL_LINES - 1
    left_out = len("\n".join([*lines[: -MOST_DETAIL_LINES + 1], ""])) + 3000 - 160
    assert f"({left_out:,} more characters: {REST})" in card


def test_a_short_detail_and_a_short_kernel_are_whole() -> None:
    (card,) = briefly(entry())
    assert "vendor text" in card
    assert "more" not in card


def test_a_card_without_detail_has_no_word_of_more() -> None:
    (card,) = briefly(with_card(detail=""))
    assert "detail" not in card


def test_a_long_kernel_is_cut_and_the_rest_is_named() -> None:
    (card,) = briefly(with_card(kernel="a = add b c\n" * 100))
    assert f"(60 more lines: {REST})" in card
