"""Failure cards for a terminal: whole for one case, and in brief for the summary of a run, one for each fault."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from portkit.conformance.card import Card
from portkit.conformance.card import render as render_card
from portkit.conformance.journal import Entry, Journal
from portkit.conformance.roots import by_accused

MOST_REASON = 320
"""Characters of a reason, of which a driver may write a part, in the summary."""
MOST_LINE = 160
"""Characters of a line of the vendor's own text there."""
MOST_DETAIL_LINES = 20
"""Its last lines are shown: a traceback says last what is wrong."""
MOST_KERNEL_LINES = 40


@dataclass(frozen=True, slots=True)
class Found:
    """The journal of a run and its folder, as a person would type it: from where the run was started."""

    journal: Journal
    folder: Path


def card_of(entry: Entry, *, source: bool = False) -> str:
    """Return the verdict, reason and card of one entry."""
    head = f"{entry.verdict.value}  {entry.id}" + (f"\n{entry.reason}" if entry.reason else "")
    if entry.card is None:
        return head
    card = entry.card if source else msgspec.structs.replace(entry.card, source="")
    return f"{head}\n{render_card(card)}"


def brief_cards(found: Found, most: int) -> tuple[int, list[str]]:
    """Return how many cases with a card did not pass, and at most so many cards, one for each fault."""
    groups = by_accused(found.journal.entries.values())
    return sum(map(len, groups)), [_brief(group[0], group[1:], found.folder) for group in groups[:most]]


def _brief(entry: Entry, others: Sequence[Entry], folder: Path) -> str:
    """Return the card of the first case of a fault; `others` accuse the same."""
    card = entry.card
    assert card is not None
    rest = f"portkit report {shlex.quote(str(folder))} --case {shlex.quote(entry.id)}"
    brief = msgspec.structs.replace(
        _from_here(card, folder),
        detail=_last_lines(card.detail, rest),
        kernel=_first_lines(card.kernel, rest),
    )
    reason = "\n".join([_beginning(entry.reason, rest), *_also(others)])
    return card_of(msgspec.structs.replace(entry, reason=reason, card=brief))


def _also(others: Sequence[Entry]) -> list[str]:
    if not others:
        return []
    more = f" and {len(others) - 1:,} more" if len(others) > 1 else ""
    return [f"also      {others[0].id}{more}: the same is accused"]


def _from_here(card: Card, folder: Path) -> Card:
    """Return a card whose command for the reduced launch works from where the run was started."""
    made = card.reduced
    if made is None or not made.file:
        return card
    replay = made.replay.replace(made.file, shlex.quote(str(folder / made.file)), 1)
    return msgspec.structs.replace(card, reduced=msgspec.structs.replace(made, replay=replay))


def _beginning(text: str, rest: str) -> str:
    if len(text) <= MOST_REASON:
        return text
    return f"{text[:MOST_REASON]} ({len(text) - MOST_REASON:,} more characters: {rest})"


def _last_lines(text: str, rest: str) -> str:
    kept = text.splitlines()[-MOST_DETAIL_LINES:]
    left_out = len(text.rstrip("\n")) - sum(min(len(line), MOST_LINE) for line in kept) - max(len(kept) - 1, 0)
    shown = [f"{line[:MOST_LINE]}..." if len(line) > MOST_LINE else line for line in kept]
    return "\n".join([*shown, f"({left_out:,} more characters: {rest})"]) if left_out > 0 else text


def _first_lines(text: str, rest: str) -> str:
    lines = text.splitlines()
    if len(lines) <= MOST_KERNEL_LINES:
        return text
    return "\n".join([*lines[:MOST_KERNEL_LINES], f"({len(lines) - MOST_KERNEL_LINES:,} more lines: {rest})"])
