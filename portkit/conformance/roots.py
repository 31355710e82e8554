"""In which order failures are shown and looked at: what explains the others first, and each fault once."""

from __future__ import annotations

import re
from collections.abc import Iterable

from portkit.conformance.card import Card
from portkit.conformance.journal import Entry
from portkit.conformance.ladder import stage
from portkit.conformance.verdict import Verdict
from portkit.spec.forms import FORMS

_NUMBER = re.compile(r"([0-9]+)")


def roots_first(case_id: str, verdict: Verdict) -> tuple[object, ...]:
    """Return the key by which what did not pass is sorted: what explains the rest first, then the most serious.

    What is portkit's own fault comes before all else, what was waived after it; numbers in ids count as numbers.
    """
    parts = _NUMBER.split(case_id)  # words and numbers take turns, so that each is compared with its like
    natural = tuple(int(part) if place % 2 else part for place, part in enumerate(parts))
    return verdict.passes, verdict is not Verdict.ERROR, stage(case_id), -verdict.severity, natural


def accused(card: Card) -> str:
    """Return what a card accuses: the form that its hint names unless the kernel first diverges elsewhere, or else its
    suspect.
    """
    named = card.hint.partition(" ")[0]
    form, slash, _ = named.partition("/")
    if not slash or form not in FORMS:
        return card.suspect
    elsewhere = card.divergence is not None and form not in card.divergence.text.split()
    return card.suspect if elsewhere else named


def _fault(card: Card) -> tuple[str, str]:
    """Return what tells faults apart: what is accused, the number at its end aside where the hint is the same too."""
    name = accused(card)
    stem = name.rstrip("0123456789")
    return (stem, card.hint) if stem.endswith(("/", "_")) and card.hint else (name, "")


def by_accused(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Return the entries with a card that did not pass, those that accuse the same together, the roots first."""
    wrong = [(e, e.card) for e in entries if e.verdict is not Verdict.PASS and e.card is not None]
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry, card in sorted(wrong, key=lambda pair: roots_first(pair[0].id, pair[0].verdict)):
        groups.setdefault(_fault(card), []).append(entry)
    return list(groups.values())


def each_fault_first(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries with a card that did not pass: of each fault the first, the roots first, then the others."""
    groups = by_accused(entries)
    return [*(group[0] for group in groups), *(entry for group in groups for entry in group[1:])]
