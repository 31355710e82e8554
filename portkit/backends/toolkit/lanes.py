"""A kernel's body where the hardware runs the lanes of a work-group: GPUs, and languages made for them.

A work-group is one-dimensional: as many hardware lanes as all lane loops together, of which the last counts fastest
(Spec: nest_c5). The number of the group is linear too, whatever grid the device was launched with.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeVar

from portkit.backends.toolkit.body import Body
from portkit.backends.toolkit.code import Code, Value

C = TypeVar("C", bound=Code)


class Lanes(Body[C]):
    """Writes what one lane does; a printer of a language says where the numbers come from, and how lanes meet."""

    @abstractmethod
    def group_number(self) -> Value:
        """Return the linear number of the work-group, an i32."""

    @abstractmethod
    def lane_number(self) -> Value:
        """Return the linear number of the lane in its work-group, an i32."""

    @abstractmethod
    def grid_extent(self, place: int) -> Value:
        """Return the extent of a grid loop, an i32 that the launch gives."""

    def lines(self) -> None:
        """Write the indices, what is computed before the body, and the body."""
        self._grid_indices()
        self._lane_indices()
        for position in self.kernel.nest.setup:
            if not self.kernel.body[position].name.startswith("loop."):
                self.emit(position, self.lane)
        self.items(self.kernel.nest.body)

    def _grid_indices(self) -> None:
        number = self.group_number()
        for place, head in reversed(list(enumerate(self.kernel.nest.grids))):
            number = self._index(self.group, head, number, self.grid_extent(place) if place else None)

    def _lane_indices(self) -> None:
        number = self.lane_number()
        heads = zip(self.kernel.nest.lanes, self.kernel.lane_counts, strict=True)
        for place, (head, count) in reversed(list(enumerate(heads))):
            number = self._index(self.lane, head, number, self.code.literal("i32", count) if place else None)

    def _index(self, scope: dict[str, Value], head: int, number: Value, extent: Value | None) -> Value:
        """Split a loop's index off a linear number, and return the rest; the outermost loop has all of it."""
        index = self.kernel.body[head].result
        scope[index] = self.code.named(number if extent is None else self.code.op("urem", number, extent), index)
        return number if extent is None else self.code.op("udiv", number, extent)
