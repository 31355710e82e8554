"""Tracing: what every kernel of a program was made from, and how long it took.

    with recording() as trace:
        model(x).realize()
    print(trace.text())

While a trace is recorded, kernels run one at a time and nothing is replayed, so that each can be timed. Setting the
environment variable PORTKIT_EXPLAIN to a file name (`.html`, else text) or to `-` (text, to standard error) traces a
whole process.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from portkit.compiler.compile import Compiled, compile_graph
from portkit.compiler.graph import Node, Source, unmarked
from portkit.compiler.plan import size_of
from portkit.compiler.show import show_graph, show_nest
from portkit.runtime.execute import check_inputs, resolve, values
from portkit.spec.text import format as format_kernel

if TYPE_CHECKING:
    from portkit.runtime.buffers import Buffer
    from portkit.runtime.devices import RuntimeDevice

VARIABLE = "PORTKIT_EXPLAIN"


@dataclass(frozen=True, slots=True)
class Made:
    """A kernel and what it was made from, as text: `outputs` says what it computes, `reason` why it is one kernel."""

    outputs: str
    reason: str
    nest: str
    schedule: str
    kernel: str
    source: str


@dataclass(frozen=True, slots=True)
class Event:
    """One launch: the numbers of its kernel and graph, its start and time in seconds, and the bytes of its operands."""

    made: int
    graph: int
    start: float
    seconds: float
    bytes: int


@dataclass(slots=True)
class Trace:
    """What happened while tracing, in order; `compiling` is the time that went into making kernels, in seconds."""

    device: str = ""
    made: list[Made] = field(default_factory=list[Made])
    events: list[Event] = field(default_factory=list[Event])
    graphs: list[str] = field(default_factory=list[str])
    compiling: float = 0.0
    _numbers: dict[tuple[int, str], int] = field(default_factory=dict[tuple[int, str], int])
    _begun: float = field(default_factory=time.perf_counter)

    def compute(
        self,
        device: RuntimeDevice,
        outputs: Sequence[Node],
        buffer_of: Callable[[Source], Buffer],
        variables: Mapping[str, int] | None,
    ) -> list[Buffer]:
        """Compute nodes as `portkit.runtime.programs.compute` does, launch by launch, and record each."""
        began = time.perf_counter()
        compiled = compile_graph(outputs, device.capabilities)
        program = compiled.program
        inputs = [buffer_of(source) for source in compiled.sources]
        known = values(program, variables)
        sizes = [size_of(slot.bytes, known) for slot in program.slots]
        check_inputs(device, program, inputs, sizes)
        steps = [resolve(device, launch, known) for launch in program.launches]
        numbers = [self._number(compiled, at, getattr(step.executable, "source", "")) for at, step in enumerate(steps)]
        self.compiling += time.perf_counter() - began
        self.device = device.info.device
        self.graphs.append(show_graph(unmarked(outputs)))
        held = dict(zip(program.inputs, inputs, strict=True))
        for step, number in zip(steps, numbers, strict=True):
            for slot in step.slots:
                if slot not in held:
                    held[slot] = device.allocate(sizes[slot])
            start = time.perf_counter()
            with device.lock:
                handles = [held[slot].handle for slot in step.slots]
                device.queue.launch(step.name, step.executable, step.grid, handles, step.scalars)
            device.synchronise()
            seconds = time.perf_counter() - start
            operands = sum(sizes[s] for s in set(step.slots))
            self.events.append(Event(number, len(self.graphs) - 1, start - self._begun, seconds, operands))
        return [held[slot] if slot in held else device.allocate(sizes[slot]) for slot in program.outputs]

    def _number(self, compiled: Compiled, at: int, source: str) -> int:
        """Return the number of a launch's kernel; equal kernels made for equal reasons have one."""
        nest, launch = compiled.nests[at], compiled.program.launches[at]
        key = (id(launch.kernel), nest.reason)
        if key not in self._numbers:
            self._numbers[key] = len(self.made)
            outputs = ", ".join(_described(store.node) for store in nest.stores) or "in order along an axis"
            schedule = str(compiled.generated[at].schedule)
            kernel = format_kernel(launch.kernel)
            self.made.append(Made(outputs, nest.reason, show_nest(nest), schedule, kernel, source))
        return self._numbers[key]

    def text(self, *, sources: bool = False) -> str:
        """Return the trace as text: a table of launches, then every kernel; `sources` adds the generated code."""
        from portkit.runtime.trace_text import trace_text

        return trace_text(self, sources=sources)

    def html(self) -> str:
        """Return the trace as one self-contained page with a timeline."""
        from portkit.runtime.trace_html import trace_html

        return trace_html(self)


def _described(node: Node) -> str:
    what = str(node.attr[0]) if node.op in ("reduce", "view") else str(node.attr) if node.op == "map" else node.op
    return f"{what} {node.dtype}{list(node.shape)}"


_active: list[Trace] = []


@contextmanager
def recording() -> Generator[Trace]:
    """Record what is computed inside, on every device of this process."""
    trace = Trace()
    _active.append(trace)
    try:
        yield trace
    finally:
        _active.remove(trace)


def active() -> Trace | None:
    """Return the trace that is being recorded, None if there is none."""
    return _active[-1] if _active else None


def write(trace: Trace, target: Path) -> None:
    """Write a trace to a file, whole or not at all: a page if its name ends in .html, else text."""
    text = trace.html() if target.suffix == ".html" else trace.text(sources=True)
    beside = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(target)


def _trace_process(target: str) -> None:
    trace = Trace()
    _active.append(trace)

    def finish() -> None:
        if target == "-":
            print(trace.text(), file=sys.stderr)  # noqa: T201 - what was asked for
        else:
            write(trace, Path(target))

    atexit.register(finish)


if os.environ.get(VARIABLE):
    _trace_process(os.environ[VARIABLE])
