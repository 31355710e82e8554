"""A trace as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portkit.runtime.trace import Made, Trace

_WIDTH = 46


def trace_text(trace: Trace, *, sources: bool) -> str:
    """Return a table of the launches, then every kernel once, with what it was made from."""
    return "\n".join(_lines(trace, sources)) + "\n"


def _lines(trace: Trace, sources: bool) -> Iterator[str]:
    total = sum(event.seconds for event in trace.events)
    yield f"{trace.device or 'nothing was computed'}"
    yield (
        f"{len(trace.events)} launches of {len(trace.made)} kernels in {len(trace.graphs)} graphs: "
        f"{duration(total)} running, {duration(trace.compiling)} compiling"
    )
    yield ""
    yield f"{'':>4} {'kernel':>6} {'time':>9} {'GB/s':>7}  computes"
    for number, event in enumerate(trace.events):
        rate = event.bytes / event.seconds / 1e9 if event.seconds else 0.0
        what = trace.made[event.made].outputs
        shown = what if len(what) <= _WIDTH else what[: _WIDTH - 3] + "..."
        yield f"{number:>4} {'k' + str(event.made):>6} {duration(event.seconds):>9} {rate:>7.2f}  {shown}"
    for number, graph in enumerate(trace.graphs):
        launches = ", ".join(f"k{event.made}" for event in trace.events if event.graph == number)
        yield ""
        yield f"-- graph {number}, computed by {launches or 'nothing: it was there'}"
        yield ""
        yield _indented(graph)
    for number, made in enumerate(trace.made):
        yield ""
        yield from _kernel(number, made, sources)


def _kernel(number: int, made: Made, sources: bool) -> Iterator[str]:
    yield f"== k{number}: {made.outputs}"
    yield f"   kept because: {made.reason or 'it runs in order along an axis'}"
    yield f"   schedule: {made.schedule}"
    yield ""
    yield _indented(made.nest)
    yield ""
    yield _indented(made.kernel.rstrip())
    if sources and made.source:
        yield ""
        yield _indented(made.source.rstrip())


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.2f} {unit}"
    return f"{seconds * 1e6:.1f} us"
