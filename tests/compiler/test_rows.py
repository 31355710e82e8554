"""Nests that run by rows: what the heuristic's cuts must not break."""

from __future__ import annotations

import numpy as np

from portkit.compiler import graph as g
from portkit.compiler.evaluate import evaluate
from portkit.compiler.schedule import RowSchedule
from tests.compiler.contracting import CPU, integers, source
from tests.compiler.running import run_graph


def test_rows_after_a_single_whole_vector_are_not_taken_for_another_one() -> None:
    x = source(4000, 20)
    output, contents = g.reduce("add", x, [0]), integers([x])
    (got,), compiled = run_graph([output], contents, CPU)
    schedule = compiled.generated[0].schedule
    assert isinstance(schedule, RowSchedule)
    assert (schedule.mode, schedule.lanes, schedule.block) == ("row", 16, 1)
    np.testing.assert_array_equal(got, evaluate([output], contents)[0])
