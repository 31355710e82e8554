"""Judge a compiled graph on a device: every launch by the kernel it runs, the results by what the graph admits.

Each launch of the compiled program runs on the device's own results of those before, with poison, guard bands and the
reference of its kernel (`portkit.conformance.launching`): what is wrong there is the device's fault. The results are
then held against the bounds of the graph itself (`portkit.conformance.graph_bounds`): what is wrong there, though every
launch was right, is the fault of the compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from portkit.compiler.compile import Compiled, compile_graph
from portkit.compiler.graph import Node, topological
from portkit.compiler.index import Expr, Variable, evaluate
from portkit.compiler.program import Slot
from portkit.compiler.show import show_graph, show_nest
from portkit.compiler.storage import from_device, to_device
from portkit.conformance.card import finite, mismatch
from portkit.conformance.case import GraphTrial, Trial
from portkit.conformance.expectation import Array, outputs_digest
from portkit.conformance.finding import Check, Finding, Stability
from portkit.conformance.graph_bounds import graph_bounds
from portkit.conformance.launching import Launch
from portkit.conformance.support import undeclared
from portkit.conformance.verdict import Verdict
from portkit.errors import HarnessError
from portkit.reference.acceptance import Acceptance
from portkit.reference.bounds import NumericModel
from portkit.reference.numerics import self_check
from portkit.runtime.client import DeviceClient

COMPILER = "portkit's compiler"
"""The suspect where every launch was right and the result is not."""


class GraphRun:
    """A graph, compiled for a device, and its launches one after the other."""

    def __init__(
        self,
        given: GraphTrial,
        client: DeviceClient,
        model: NumericModel,
        seconds: float,
        judged: Callable[[Launch], Finding] = Launch.run,
    ) -> None:
        """Compile the graph; `judged` runs a launch and says what was found."""
        self.given = given
        self.client = client
        self.model = model
        self.seconds = seconds
        self.compiled: Compiled = compile_graph(list(given.compiled or given.nodes), given.capabilities)
        self.variables = _variables(given)
        self.trial: Trial | None = None
        """The launch that was judged last."""
        self._accepted: list[Acceptance] = []
        self._judged = judged

    def run(self) -> Finding:
        """Run every launch and return what was found of the first that is wrong, else of the results."""
        buffers = self._inputs()
        seconds, stability = 0.0, Stability()
        for number in range(len(self.compiled.program.launches)):
            found = self._launch(number, buffers)
            if found.verdict is not Verdict.PASS:
                return self._at_launch(found, number)
            seconds += found.device_seconds
            stability += found.stability
        self.trial = None
        return replace(self._results(buffers), device_seconds=seconds, stability=stability)

    # --- launches -------------------------------------------------------------------------------------------------

    def _inputs(self) -> list[Array | None]:
        """Return the contents of every slot as the device stores them, None where nothing is stored yet."""
        program = self.compiled.program
        buffers: list[Array | None] = [None] * len(program.slots)
        for number, source in zip(program.inputs, self.compiled.sources, strict=True):
            buffers[number] = to_device(self.given.contents[source], program.slots[number].storage)
        return buffers

    def _launch(self, number: int, buffers: list[Array | None]) -> Finding:
        launch = self.compiled.program.launches[number]
        kernel = launch.kernel
        missing = undeclared(kernel, self.client.capabilities)
        if missing:
            raise HarnessError(f"launch {number} was compiled for more than the device declares: {missing}")
        pairs = zip(kernel.scalars, launch.scalars, strict=True)
        scalars = {s.name: v if isinstance(v, float) else int(evaluate(v, self.variables)) for s, v in pairs}
        slots = dict(zip((b.name for b in kernel.buffers), launch.buffers, strict=True))
        inputs: dict[str, Array] = {}
        for buffer in kernel.buffers:
            held = buffers[slots[buffer.name]]
            if buffer.access != "write" and held is not None:
                inputs[buffer.name] = held.view(buffer.dtype.numpy)
        self.trial = Trial(kernel, scalars, inputs, self.given.results_only)
        judged = Launch(self.trial, self.client, self.model, self.seconds)
        found = self._judged(judged)
        for buffer in kernel.buffers:
            if buffer.access != "read" and judged.after:
                buffers[slots[buffer.name]] = judged.after[buffer.name]
        return found

    def _at_launch(self, found: Finding, number: int) -> Finding:
        """Return a finding of a launch with where it was found: the launch, its loops, and the graph."""
        count = len(self.compiled.program.launches)
        place = f"launch {number + 1} of {count}" if count > 1 else "the launch"
        nest = show_nest(self.compiled.nests[number])
        detail = "\n\n".join(part for part in (found.detail, f"loops of {place}\n{nest}", self._graph()) if part)
        return replace(found, reason=f"{place}: {found.reason}", detail=detail, ill_conditioned=0)

    def _graph(self) -> str:
        return f"graph\n{show_graph(self.given.nodes)}"

    # --- results --------------------------------------------------------------------------------------------------

    def accepted(self) -> list[Acceptance]:
        """Return what each result admits."""
        if not self._accepted:
            self_check()
            given = self.given
            self._accepted = graph_bounds(given.nodes, given.contents, given.capabilities, self.model)
        return self._accepted

    @np.errstate(all="ignore")  # results may be NaN of any kind
    def _results(self, buffers: Sequence[Array | None]) -> Finding:
        program = self.compiled.program
        results = [self._result(buffers[number], program.slots[number]) for number in program.outputs]
        found = Finding(Verdict.PASS)
        for number, (actual, accepted) in enumerate(zip(results, self.accepted(), strict=True)):
            found = self._compared(found, number, actual, accepted)
        if all(accepted.determined.all() for accepted in self.accepted()):
            wanted = [accepted.lo for accepted in self.accepted()]
            found = replace(found, digest=_digest(results), reference_digest=_digest(wanted))
        return found

    def _result(self, raw: Array | None, slot: Slot) -> Array:
        shape = [int(evaluate(n, self.variables)) for n in slot.shape]
        if raw is None and prod(shape):
            raise HarnessError(f"no launch writes a result of {prod(shape)} elements")
        return from_device(b"" if raw is None else raw.tobytes(), slot.dtype, shape, slot.storage).reshape(-1)

    def _compared(self, found: Finding, number: int, actual: Array, accepted: Acceptance) -> Finding:
        """Return the finding with another result in it."""
        wrong = np.flatnonzero(~accepted.accepts(actual))
        share = finite(np.max(accepted.error_share(actual), initial=0.0))
        found = replace(
            found,
            elements=found.elements + len(actual),
            wrong=found.wrong + len(wrong),
            ill_conditioned=found.ill_conditioned + int(np.count_nonzero(accepted.ill_conditioned)),
            error_share=max(found.error_share, share),
        )
        if not len(wrong):
            return found
        first = int(wrong[0])
        name = f"result {number}"
        seen = mismatch(name, first, actual, accepted, {}, unwritten=False)
        reason = f"{name}[{first}] is wrong though every launch was right, and with it {len(wrong)} of {len(actual)}"
        return replace(
            found,
            verdict=Verdict.FAIL,
            reason=found.reason or reason,
            check=Check.GRAPH,
            suspect=COMPILER,
            ulp=max(found.ulp, finite(np.max(accepted.distance_ulp(actual)[wrong]))),
            mismatch=found.mismatch or seen,
            detail=self._explained(),
        )

    def _explained(self) -> str:
        nests = [f"loops of launch {k + 1}\n{show_nest(n)}" for k, n in enumerate(self.compiled.nests)]
        return "\n\n".join([self._graph(), *nests])


def _variables(given: GraphTrial) -> dict[Expr, int]:
    """Return the values of the dynamic dimensions, read off the contents' shapes."""
    nodes: list[Node] = [n for n in topological(given.nodes) if n.op == "source"]
    extents = ((n, m) for node in nodes for n, m in zip(node.shape, given.contents[node.attr].shape, strict=True))
    return {n: m for n, m in extents if isinstance(n, Variable)}


def _digest(results: Sequence[Array]) -> str:
    return outputs_digest({str(number): array for number, array in enumerate(results)})
