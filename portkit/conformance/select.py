"""Which cases a run consists of: profile, tier, and patterns over their ids."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from portkit.conformance.case import Case, Level, Tier
from portkit.errors import UsageError, near_names

_GLOB = frozenset("*?[")
_TIERS = list(Tier)


def matches(pattern: str, case_id: str) -> bool:
    """Whether an id is meant by a pattern: a glob over the whole id, or the id itself, or a prefix of whole parts."""
    if _GLOB & set(pattern):
        return fnmatchcase(case_id, pattern)
    prefix = pattern.rstrip("/")
    return case_id == prefix or case_id.startswith(f"{prefix}/")


def select(cases: Sequence[Case], tier: Tier, patterns: Sequence[str]) -> list[Case]:
    """Return the cases of a tier that any of the patterns means; without patterns all of the tier.

    A pattern that is an exact id selects its case from any tier, so that a replay line always works.
    Raises `UsageError` for a pattern that means no case at all, with the near ids.
    """
    within = [c for c in cases if _TIERS.index(c.tier) <= _TIERS.index(tier)]
    if not patterns:
        return within
    chosen: set[str] = set()
    for pattern in patterns:
        found = {c.id for c in cases if c.id == pattern} or {c.id for c in within if matches(pattern, c.id)}
        if not found and not any(matches(pattern, c.id) for c in cases):
            raise UsageError(f"no case matches {pattern!r}{_advice(pattern, cases)}")
        chosen |= found
    return [c for c in cases if c.id in chosen]


def _advice(pattern: str, cases: Sequence[Case]) -> str:
    """Return where the case of a pattern may be: in a profile with tensors, else under a near id."""
    above = Level.TENSORS.value
    if pattern.partition("/")[0] == above and not any(c.level is Level.TENSORS for c in cases):
        return f"; {above} are cases of profile compute: --profile compute"
    return near_names(pattern, [c.id for c in cases])
