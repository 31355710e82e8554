"""The mutation score of the suite that judged: how many seeded faults it is known to find."""

from __future__ import annotations

from functools import cache

from portkit.conformance.case import Tier
from portkit.conformance.mutants import record
from portkit.conformance.report.model import MutationScore
from portkit.errors import SchemaError

UNKNOWN = "not measured for this suite"


@cache
def mutation_score(suite_digest: str, spec_digest: str, tier: Tier) -> MutationScore | None:
    """Return the recorded score of a suite in a tier, None where there is no record of it."""
    try:
        recorded = record.load()
    except SchemaError:
        return None
    if (recorded.suite_digest, recorded.spec_digest) != (suite_digest, spec_digest):
        return None
    found = record.score(recorded, tier)
    return MutationScore(found.killed, found.mutants)


def sentence(found: MutationScore | None) -> str:
    """Return what the first lines of a report say."""
    if found is None or not found.mutants:
        return UNKNOWN
    share = 100 * found.killed / found.mutants
    return f"the suite finds {found.killed:,} of {found.mutants:,} seeded faults in this tier ({share:.1f} %)"
