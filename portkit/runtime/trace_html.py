"""A trace as one self-contained page; everything in it is escaped by the template engine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from portkit.runtime.trace_text import duration

if TYPE_CHECKING:
    import jinja2

    from portkit.runtime.trace import Trace

_WIDTH, _HEIGHT = 1000.0, 64.0
_GOLDEN_ANGLE = 137.508
"""Degrees between the hues of consecutive kernels: neighbours never look alike."""


@dataclass(frozen=True)
class Bar:
    """A launch on the timeline."""

    made: int
    x: float
    y: float
    width: float
    height: float
    hue: float
    title: str


@dataclass
class Row:
    """All launches of one kernel."""

    made: int
    launches: int = 0
    seconds: float = 0.0
    bytes: int = 0
    share: float = 0.0

    @property
    def rate(self) -> float:
        """GB/s of operands."""
        return self.bytes / self.seconds / 1e9 if self.seconds else 0.0


def trace_html(trace: Trace) -> str:
    """Return the page."""
    total = sum(event.seconds for event in trace.events)
    template = _pages().get_template("trace.html")
    style = resources.files("portkit.runtime").joinpath("pages/style.css").read_text(encoding="utf-8")
    return template.render(trace=trace, total=total, bars=_bars(trace, total), rows=_rows(trace, total), style=style)


@cache
def _pages() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("portkit.runtime", "pages"),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["duration"] = duration
    return environment


def _bars(trace: Trace, total: float) -> list[Bar]:
    bars: list[Bar] = []
    x = 0.0
    for number, event in enumerate(trace.events):
        width = _WIDTH * event.seconds / total if total else 0.0
        title = f"launch {number}: k{event.made}, {duration(event.seconds)}: {trace.made[event.made].outputs}"
        hue = round(event.made * _GOLDEN_ANGLE % 360, 1)
        bars.append(Bar(event.made, round(x, 3), 4, round(width, 3), _HEIGHT - 8, hue, title))
        x += width
    return bars


def _rows(trace: Trace, total: float) -> list[Row]:
    rows = [Row(number) for number in range(len(trace.made))]
    for event in trace.events:
        row = rows[event.made]
        row.launches += 1
        row.seconds += event.seconds
        row.bytes += event.bytes
        row.share = row.seconds / total if total else 0.0
    return sorted(rows, key=lambda row: -row.seconds)
