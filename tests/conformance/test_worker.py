"""What a worker adds to the judge's outcome."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from portkit.conformance.case import Case, Level, Tier
from portkit.conformance.journal import Entry
from portkit.conformance.verdict import Verdict
from portkit.conformance.worker import Worker, well_conditioned
from portkit.contract import Capabilities, NumericLimits


@pytest.mark.parametrize(("ill", "verdict"), [(0, Verdict.PASS), (10, Verdict.PASS), (11, Verdict.ERROR)])
def test_a_case_that_claims_nothing_for_over_one_percent_is_the_suites_error(ill: int, verdict: Verdict) -> None:
    entry = Entry("ops/add/f32/special", Verdict.PASS, "ops", elements=1000, ill_conditioned=ill)
    assert well_conditioned(entry).verdict is verdict


def test_a_check_without_elements_is_left_alone() -> None:
    entry = Entry("device/copy/whole", Verdict.PASS, "device")
    assert well_conditioned(entry) is entry


@pytest.mark.parametrize(
    ("numeric", "verdict"),
    [
        (NumericLimits(), Verdict.ERROR),
        (NumericLimits(nonfinite=False), Verdict.PASS),
        (NumericLimits(subnormals={"f32": "flush"}), Verdict.PASS),
    ],
)
def test_claims_that_the_device_itself_declines_are_not_the_suites_error(
    numeric: NumericLimits, verdict: Verdict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Entry("ops/mul/f32/special", Verdict.PASS, "ops", elements=1000, ill_conditioned=100)
    monkeypatch.setattr("portkit.conformance.worker.judge_case", lambda *_, **__: entry)
    client: Any = SimpleNamespace(capabilities=Capabilities("chip", "1", "Acme", "silicon", numeric=numeric))
    (tmp_path / "journal").touch()
    worker = Worker(client, tmp_path / "journal", (), 1.0)
    found = worker.judge(Case(entry.id, Level.OPS, Tier.SMOKE, check=lambda _: None))
    worker.writer.close()
    assert found.verdict is verdict
