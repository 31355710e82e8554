"""Saying what a kernel did wrong: the instruction, the work-group, the lane and the address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portkit.errors import InvalidKernelError
from portkit.reference.engine import Chunk
from portkit.spec.kernel import Instr
from portkit.spec.text import format_instr


@dataclass(frozen=True, slots=True)
class Site:
    """An instruction and its position in the kernel."""

    position: int
    instr: Instr

    def fault(
        self,
        chunk: Chunk,
        clause: str,
        bad: NDArray[np.bool_],
        message: str,
        address: NDArray[np.integer[Any]] | None = None,
        **details: NDArray[np.integer[Any]],
    ) -> InvalidKernelError:
        """Return the error for the first element, by group and then lane, where `bad` holds.

        `bad`, `address` and the details broadcast to (groups, lanes) or (groups, lanes, elements); the message names
        `{group}`, `{lane}`, `{address}` and the details in braces.
        """
        shape = np.broadcast_shapes(bad.shape, (1, 1))
        at = tuple(int(i) for i in np.unravel_index(int(np.broadcast_to(bad, shape).argmax()), shape))
        found = {name: _element(values, shape, at) for name, values in details.items()}
        where = -1 if address is None else _element(address, shape, at)
        group, lane = chunk.first + at[0], at[1]
        return self.error(clause, message.format(group=group, lane=lane, address=where, **found), group, lane, where)

    def error(self, clause: str, message: str, group: int, lane: int, address: int = -1) -> InvalidKernelError:
        """Return the error for one access; an address of -1 means that none is involved."""
        return InvalidKernelError(
            f"instruction {self.position} `{format_instr(self.instr)}`: {message}",
            clause=clause,
            instruction=self.position,
            group=group,
            lane=lane,
            address=address,
        )


def _element(values: NDArray[np.integer[Any]], shape: tuple[int, ...], at: tuple[int, ...]) -> int:
    return int(np.broadcast_to(values, np.broadcast_shapes(values.shape, shape))[at])
