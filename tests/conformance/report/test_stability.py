"""The determinism certificate in a report: what is counted, what is said, and what is refused."""

from __future__ import annotations

import msgspec
import pytest

from portkit.conformance.journal import Entry
from portkit.conformance.report import html, terminal
from portkit.conformance.report.consistency import check_consistent
from portkit.conformance.report.model import Determinism, FormStability, Report
from portkit.conformance.report.stability import ADVICE, sentence, verdict
from portkit.conformance.verdict import Verdict
from portkit.errors import SchemaError
from tests.conformance.report.runs import entry, report


def repeated(id: str, form: str = "add/f32", **changes: object) -> Entry:
    """Return the entry of a case that passed three times."""
    changes = {"cells": (form,), "runs": 3, "orders": ("reversed", "rotated"), "reason": "", **changes}
    return entry(id, changes.pop("verdict", Verdict.PASS), **changes)  # type: ignore[arg-type]


def varied(id: str = "ops/atomic/f32") -> Entry:
    """Return the entry of a case whose bits vary inside its acceptance set."""
    return repeated(id, "store.atomic.add/f32", varying={"rotated": 7}, free=("store.atomic.add",))


def beyond(id: str = "ops/mul/f32") -> Entry:
    """Return the entry of a case that passed at first only."""
    return repeated(
        id, "mul/f32", verdict=Verdict.FLAKY, failed=1, check="repeat", reason="did not pass in 1 of 3 runs"
    )


def certified(*entries: Entry) -> Report:
    """Return the report of a run in which each launch ran three times."""
    return report(entries, repeat=3, patterns=("ops",))


def found(*entries: Entry) -> Determinism:
    certificate = certified(*entries).determinism
    assert certificate is not None
    return certificate


def test_without_repeating_nothing_is_certified() -> None:
    made = report()
    assert made.determinism is None
    assert f"determinism {ADVICE}" in terminal.summary(made)
    assert ADVICE in html.render(made)


def test_cases_that_gave_the_same_bits_are_counted() -> None:
    made = found(repeated("ops/a"), repeated("ops/b"), entry("device/copy", Verdict.PASS, cells=()))
    assert (made.cases, made.identical, made.orders) == (2, 2, ("reversed", "rotated"))
    assert sentence(made) == "2 of 2 cases bit-identical over 3 runs and permuted work-groups"


def test_a_form_that_varies_is_named_in_the_first_lines() -> None:
    made = found(repeated("ops/a"), varied())
    assert sentence(made).startswith("1 of 2 cases bit-identical over 3 runs")
    assert sentence(made).endswith("; varying: store.atomic.add")


def test_many_forms_that_vary_are_counted_after_the_first_few() -> None:
    made = found(*(repeated(f"ops/{k}", f"form{k}/f32", varying={"repeat": 1}) for k in range(9)))
    assert sentence(made).endswith("; varying: form0, form1, form2, form3 and 5 more")


def test_each_form_says_what_was_found_and_by_what() -> None:
    forms = {form.form: form for form in found(repeated("ops/a"), varied(), beyond()).forms}
    assert verdict(forms["add"]) == "bit-identical"
    assert verdict(forms["store.atomic.add"]) == "varies (admitted, free: store.atomic.add)"
    assert verdict(forms["mul"]) == "varies beyond what is admitted in 1"
    assert forms["store.atomic.add"].by == ("rotated",)


def test_what_varies_without_a_free_form_says_so() -> None:
    assert verdict(FormStability("add", 2, 1, by=("repeat",))) == "varies (admitted, inside its acceptance set)"


def test_a_case_without_a_form_counts_for_its_level() -> None:
    assert [f.form for f in found(repeated("kernels/loops", cells=())).forms] == ["kernels"]


def test_the_terminal_shows_the_forms_that_vary_and_no_others() -> None:
    shown = terminal.summary(certified(repeated("ops/a"), varied()))
    assert "store.atomic.add  0 of 1  varies (admitted, free: store.atomic.add)" in shown
    assert "  add  " not in shown
    assert max(len(line) for line in shown.splitlines()) <= terminal.WIDTH


def test_the_page_has_a_row_for_every_form() -> None:
    page = html.render(certified(repeated("ops/a"), varied(), beyond()))
    for text in ("Each launch ran 3 times", "reversed and rotated", "1 of 3 cases", "<td>store.atomic.add</td>"):
        assert text in page


@pytest.mark.parametrize("change", [{"identical": 2}, {"cases": 3}])
def test_a_certificate_that_does_not_follow_from_the_cases_is_refused(change: dict[str, int]) -> None:
    made = certified(repeated("ops/a"), varied())
    check_consistent(made)
    assert made.determinism is not None
    changed = msgspec.structs.replace(made, determinism=msgspec.structs.replace(made.determinism, **change))
    with pytest.raises(SchemaError, match="its determinism does not follow"):
        check_consistent(changed)
