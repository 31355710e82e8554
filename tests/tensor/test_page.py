"""The page on tensors is true: its examples run, and its table of promotion is that of the code."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from portkit.spec.types import DTYPES
from portkit.tensor.promotion import promote_pair

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tensors.md"


def test_the_examples_of_the_page_run() -> None:
    text = PAGE.read_text(encoding="utf-8").replace("```", "")
    example = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    told: list[str] = []
    results = doctest.DocTestRunner(verbose=False).run(example, out=told.append)
    assert results.attempted >= 10
    assert results.failed == 0, "".join(told)


def test_the_table_of_promotion_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| `(\w+)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) >= 9
    for first, second, result in rows:
        assert promote_pair(DTYPES[first], DTYPES[second]) is DTYPES[result]
