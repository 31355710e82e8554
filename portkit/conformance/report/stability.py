"""The determinism certificate of a run: which cases gave the same bits each time, and which forms vary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from portkit.conformance.journal import Entry, Header
from portkit.conformance.report.model import CaseResult, Determinism, FormStability
from portkit.conformance.verdict import Verdict

ADVICE = "not measured; --repeat 2 or more measures it"
_NAMES = 4


def determinism(header: Header, entries: Iterable[Entry]) -> Determinism | None:
    """Return the certificate of a run, None where nothing was repeated."""
    if header.repeat < 2:
        return None
    measured = [entry for entry in entries if is_measured(entry)]
    by_form: dict[str, list[Entry]] = {}
    for entry in measured:
        for form in {cell.partition("/")[0] for cell in entry.cells} or {entry.level}:
            by_form.setdefault(form, []).append(entry)
    return Determinism(
        runs=header.repeat,
        orders=tuple(sorted({order for entry in measured for order in entry.orders})),
        cases=len(measured),
        identical=sum(map(is_identical, measured)),
        forms=tuple(_form(form, found) for form, found in sorted(by_form.items())),
    )


def is_measured(case: Entry | CaseResult) -> bool:
    """Whether the runs of a case were compared."""
    return case.runs > 1


def is_identical(case: Entry | CaseResult) -> bool:
    """Whether the runs of a case gave the same bits."""
    return case.verdict is Verdict.PASS and not case.varying


def _form(form: str, found: Sequence[Entry]) -> FormStability:
    return FormStability(
        form=form,
        cases=len(found),
        identical=sum(map(is_identical, found)),
        beyond=sum(entry.verdict is not Verdict.PASS for entry in found),
        by=tuple(sorted({how for entry in found for how in entry.varying})),
        free=tuple(sorted({name for entry in found for name in entry.free})),
    )


def sentence(found: Determinism | None) -> str:
    """Return what the first lines of a report say."""
    if found is None:
        return ADVICE
    groups = " and permuted work-groups" if found.orders else ""
    text = f"{found.identical:,} of {found.cases:,} cases bit-identical over {found.runs} runs{groups}"
    names = [form.form for form in found.forms if form.identical < form.cases]
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return f"{text}; varying: {', '.join(names[:_NAMES])}{more}" if names else text


def verdict(form: FormStability) -> str:
    """Return in words what the cases of a form showed."""
    if form.beyond:
        return f"varies beyond what is admitted in {form.beyond:,}"
    if form.identical == form.cases:
        return "bit-identical"
    why = f"free: {', '.join(form.free)}" if form.free else "inside its acceptance set"
    return f"varies (admitted, {why})"
