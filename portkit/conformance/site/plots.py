"""The plot of errors: for each form the largest error of every dtype, as a share of its bound, on a log scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from portkit.conformance.report.html import share
from portkit.conformance.site.columns import Square

LEFT, RIGHT, WIDTH = 170.0, 18.0, 760.0
TOP, ROW = 26.0, 20.0
_LEAST, _MOST = -4, 2
"""The powers of ten that the axis may show; what lies beyond stands at its end."""


@dataclass(frozen=True, slots=True)
class Dot:
    """The largest error of a form with one dtype."""

    dtype: str
    x: float
    text: str
    over: bool


@dataclass(frozen=True, slots=True)
class Line:
    """A form and its dots."""

    form: str
    y: float
    dots: tuple[Dot, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """A power of ten on the axis."""

    x: float
    text: str
    bound: bool


@dataclass(frozen=True, slots=True)
class Plot:
    """Where everything stands, in units of the picture."""

    height: float
    lines: tuple[Line, ...]
    ticks: tuple[Tick, ...]
    left: float = LEFT
    right: float = WIDTH - RIGHT
    width: float = WIDTH
    top: float = TOP
    row: float = ROW


def plot(squares: Mapping[str, Mapping[str, Square]]) -> Plot | None:
    """Return the plot of all squares with an error, forms with the largest first; None where all are exact."""
    errors = {form: {d: s.error for d, s in row.items() if s.error > 0} for form, row in squares.items()}
    ranked = sorted(((form, row) for form, row in errors.items() if row), key=lambda item: -max(item[1].values()))
    if not ranked:
        return None
    values = [value for _, row in ranked for value in row.values()]
    high = max(_within(math.ceil(_power(max(values)))), 0)
    low = min(_within(math.floor(_power(min(values)))), 0)
    scale = _Scale(low if low < high else high - 1, high)
    lines = tuple(
        Line(form, TOP + ROW * (n + 0.5), tuple(scale.dot(dtype, value) for dtype, value in row.items()))
        for n, (form, row) in enumerate(ranked)
    )
    return Plot(TOP + ROW * len(ranked) + 8, lines, scale.ticks())


def _power(value: float) -> float:
    return math.log10(value) if math.isfinite(value) else _MOST


def _within(power: int) -> int:
    return max(_LEAST, min(_MOST, power))


@dataclass(frozen=True, slots=True)
class _Scale:
    low: int
    high: int

    def x(self, value: float) -> float:
        part = (max(self.low, min(self.high, _power(value))) - self.low) / (self.high - self.low)
        return round(LEFT + part * (WIDTH - LEFT - RIGHT), 1)

    def dot(self, dtype: str, value: float) -> Dot:
        return Dot(dtype, self.x(value), share(value), value > 1)

    def ticks(self) -> tuple[Tick, ...]:
        powers = range(self.low, self.high + 1)
        return tuple(Tick(self.x(10.0**p), "bound" if p == 0 else f"{10.0**p:g}", p == 0) for p in powers)
