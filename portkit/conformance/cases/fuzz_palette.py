"""What random kernels are made of: dice, the forms and dtypes of a device, and the registers in scope."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from portkit.conformance.case import Cell
from portkit.conformance.cases.cells import cells
from portkit.conformance.cases.draws import Draws
from portkit.contract import Capabilities
from portkit.spec.builder import Reg
from portkit.spec.types import DTYPES, DType, Type

T = TypeVar("T")
EXTENT = 64
"""Elements of every input buffer; a power of two, so that a mask keeps an index inside."""
_WORDS_PER_REFILL = 256
_BASE = Capabilities(name="base", version="1", vendor="portkit", evidence="own-model")


class Dice:
    """Small decisions from the stream of a case."""

    def __init__(self, case_id: str) -> None:
        self._draws = Draws(case_id)
        self._left: list[int] = []

    def below(self, count: int) -> int:
        """Return a number from 0 to count - 1."""
        if not self._left:
            self._left = [int(word) for word in self._draws.words(_WORDS_PER_REFILL)]
        return self._left.pop() % count

    def one_of(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def chance(self, percent: int) -> bool:
        return self.below(100) < percent


@dataclass(frozen=True, slots=True)
class Palette:
    """What the kernels of one device may use: dtypes, lane counts, extensions, and every declared cell."""

    dtypes: tuple[DType, ...]
    lanes: tuple[int, ...]
    extensions: frozenset[str]
    strict: bool
    cells: tuple[Cell, ...]

    @classmethod
    def base(cls) -> Palette:
        """What every device has."""
        return cls.declared(_BASE)

    @classmethod
    def declared(cls, capabilities: Capabilities) -> Palette:
        """What one device declares."""
        return cls(
            tuple(d for n, d in DTYPES.items() if n in capabilities.dtypes),
            capabilities.lane_counts(),
            frozenset(capabilities.extensions),
            capabilities.numeric.strict,
            tuple(cells(capabilities)),
        )

    @property
    def arithmetic(self) -> tuple[DType, ...]:
        """The dtypes that registers of random steps have; f8 has no arithmetic."""
        return tuple(d for d in self.dtypes if not d.name.startswith("f8"))

    def truncates(self, dtype: DType) -> bool:
        return Cell("mov.trunc", dtype.name) in self.cells


@dataclass(slots=True)
class Scope:
    """The registers that are visible, by type, innermost last."""

    levels: list[dict[Type, list[Reg]]] = field(default_factory=lambda: [{}])

    def add(self, reg: Reg) -> None:
        self.levels[-1].setdefault(reg.type, []).append(reg)

    def of(self, type_: Type) -> list[Reg]:
        return [reg for level in self.levels for reg in level.get(type_, ())]

    def types(self, accept: Callable[[Type], bool]) -> list[Type]:
        """The types of visible registers, in the order in which they first appeared."""
        return [t for t in dict.fromkeys(t for level in self.levels for t in level) if accept(t)]
