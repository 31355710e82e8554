"""What a worker adds to the judge's outcome."""

from __future__ import annotations

import pytest

from portkit.conformance.journal import Entry
from portkit.conformance.verdict import Verdict
from portkit.conformance.worker import well_conditioned


@pytest.mark.parametrize(("ill", "verdict"), [(0, Verdict.PASS), (10, Verdict.PASS), (11, Verdict.ERROR)])
def test_a_case_that_claims_nothing_for_over_one_percent_is_the_suites_error(ill: int, verdict: Verdict) -> None:
    entry = Entry("ops/add/f32/special", Verdict.PASS, "ops", elements=1000, ill_conditioned=ill)
    assert well_conditioned(entry).verdict is verdict


def test_a_check_without_elements_is_left_alone() -> None:
    entry = Entry("device/copy/whole", Verdict.PASS, "device")
    assert well_conditioned(entry) is entry
