"""The launch to reduce: that of a case, or the first that fails of the launches of a graph."""

from __future__ import annotations

from collections.abc import Sequence

from portkit.conformance.case import Case, Trial
from portkit.conformance.cases.collect import PROFILES, collect
from portkit.conformance.cases.fuzz import unlisted
from portkit.conformance.graphs import GraphRun
from portkit.conformance.support import undeclared
from portkit.conformance.verdict import Verdict
from portkit.contract import Capabilities
from portkit.errors import UsageError, near_names
from portkit.reference.bounds import NumericModel
from portkit.runtime.client import DeviceClient


def find_case(case_id: str, capabilities: Capabilities) -> Case:
    """Return a case by id, of any profile, or any seed of random kernels; raises `UsageError` with the near ids."""
    for case in unlisted(capabilities, [case_id]):
        return case
    ids: Sequence[str] = ()
    for profile in PROFILES:
        cases = {case.id: case for case in collect(capabilities, profile)}
        if case_id in cases:
            return cases[case_id]
        ids = list(cases)
    raise UsageError(f"no case {case_id!r}; give one whole id{near_names(case_id, ids)}")


def trial_of(case: Case, client: DeviceClient, model: NumericModel, seconds: float) -> Trial | None:
    """Return the launch of a case that may fail; of a graph the first that does, None where all is right.

    Raises `UsageError` where there is no kernel to reduce, or where the device need not support it.
    """
    if case.graph is not None:
        return _of_graph(GraphRun(case.graph(client.capabilities), client, model, seconds), case)
    if case.trial is None:
        raise UsageError(f"{case.id} calls functions of the device and has no kernel; there is nothing to reduce")
    trial = case.trial()
    missing = undeclared(trial.kernel, client.capabilities)
    if missing:
        raise UsageError(f"backend {client.reference} does not declare what {case.id} needs: {missing}")
    return trial


def _of_graph(run: GraphRun, case: Case) -> Trial | None:
    found = run.run()
    if found.verdict is Verdict.PASS:
        return None
    if run.trial is None:
        raise UsageError(f"{case.id}: each launch is right, and the result is not: no kernel of it fails")
    return run.trial
