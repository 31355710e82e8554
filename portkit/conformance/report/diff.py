"""`portkit diff`: what got worse between two reports, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from portkit.conformance.report.model import CaseResult, Record, Report


class Change(Record, frozen=True):
    """One difference that a reader should look at; empty `before` or `after` where the case was not run."""

    id: str
    before: str
    after: str
    note: str = ""


def regressions(before: Report, after: Report) -> list[Change]:
    """Return the cases that got worse, the most serious first.

    Worse is: a more serious verdict; strict outputs that changed, of the same suite; a new case that does not pass; a
    case that is not run any more, unless `after` is a selection.
    """
    old = {c.id: c for c in before.cases}
    new = {c.id: c for c in after.cases}
    comparable = _suite(before) == _suite(after)
    changes = [change for id in new for change in _changes(old.get(id), new[id], comparable=comparable)]
    if not after.patterns:
        changes += [Change(id, old[id].verdict.value, "", "not run any more") for id in old.keys() - new.keys()]
    severity = {id: case.verdict.severity for id, case in new.items()}
    return sorted(changes, key=lambda c: (-severity.get(c.id, -1), c.id))


def _suite(report: Report) -> tuple[str, str]:
    """Return what fixes the inputs of cases: of another suite, the same case may have others."""
    return report.versions.spec_digest, report.versions.suite_digest


def _changes(old: CaseResult | None, new: CaseResult, *, comparable: bool) -> Iterator[Change]:
    if old is None:
        if not new.verdict.passes:
            yield Change(new.id, "", new.verdict.value, "new")
    elif new.verdict.severity > old.verdict.severity:
        yield Change(new.id, old.verdict.value, new.verdict.value)
    elif comparable and old.digest and new.digest and old.digest != new.digest:
        yield Change(new.id, old.verdict.value, new.verdict.value, "strict outputs differ")


def differences(before: Report, after: Report) -> list[str]:
    """Return in words what else differs between the two runs, so that a change of verdict can be understood."""
    pairs = (
        ("backend", before.subject.backend, after.subject.backend),
        ("profile", before.profile, after.profile),
        ("tier", before.tier.value, after.tier.value),
        ("selection", " ".join(before.patterns) or "all", " ".join(after.patterns) or "all"),
        ("planted fault", before.mutant or "none", after.mutant or "none"),
        ("spec", before.versions.spec_digest[:12], after.versions.spec_digest[:12]),
        ("suite", before.versions.suite_digest[:12], after.versions.suite_digest[:12]),
    )
    return [f"{what}: {then} before, {now} after" for what, then, now in pairs if then != now]
