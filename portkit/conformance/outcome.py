"""What a finding becomes in a journal: the entry of its case, and the failure card."""

from __future__ import annotations

from portkit.conformance.card import Card, clip, kernel_text
from portkit.conformance.case import Level, Trial
from portkit.conformance.finding import Finding
from portkit.conformance.hints.diagnose import guess
from portkit.conformance.hints.symptoms import Symptoms
from portkit.conformance.journal import Entry


def entry_of(found: Finding, case_id: str, level: Level, card: Card | None) -> Entry:
    """Return the journal entry of a finding."""
    stable = found.stability
    return Entry(
        id=case_id,
        verdict=found.verdict,
        level=level.value,
        reason=found.reason,
        elements=found.elements,
        wrong=found.wrong,
        ill_conditioned=found.ill_conditioned,
        error_share=found.error_share,
        ulp=found.ulp,
        digest=found.digest,
        reference_digest=found.reference_digest,
        device_seconds=round(found.device_seconds, 6),
        check=found.check.value if found.check else "",
        runs=found.runs or stable.runs,
        failed=found.failed,
        orders=stable.orders,
        varying=dict(stable.varying),
        free=stable.free,
        after=found.after,
        card=card,
    )


def card_of(
    found: Finding, case_id: str, suspect: str, trial: Trial | None, *, source: str = "", replay: str = "", hints: bool
) -> Card:
    """Return the failure card of a finding.

    `suspect` is accused where the finding itself accuses nothing; hints are looked for where the inputs and the
    acceptance sets are known to be those of the suite.
    """
    guesses = guess(Symptoms(found.check, case_id, found.reason, found.evidence)) if hints else ()
    return Card(
        suspect=found.suspect or suspect,
        replay=replay,
        kernel=kernel_text(trial.kernel) if trial else "",
        scalars={name: repr(value) for name, value in trial.scalars.items()} if trial else {},
        mismatch=found.mismatch,
        hint=guesses[0].text if guesses else "",
        cause=guesses[0].cause.value if guesses else "",
        perhaps=tuple(hint.text for hint in guesses[1:]),
        wrong=found.wrong,
        elements=found.elements,
        source=clip(source),
        detail=clip(found.detail),
    )
