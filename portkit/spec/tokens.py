"""Each token is waited exactly once on every path, in issue order, carried or not (Spec: async_c2).

The copies in flight form a queue. Only the ends of it move: an issue adds one, a wait takes the oldest. So a token is
its place in the queue, and a loop is right if its carries leave it with the places that they entered it with: then any
number of iterations does, and none too. No queue is stored; each check takes constant time per carry.
"""

from __future__ import annotations

from dataclasses import dataclass

from portkit.errors import SpecError

_CLAUSE = "async_c2"


@dataclass(slots=True)
class _Frame:
    """A serial loop at its entry: the ends of the queue, and the places of the tokens that it carries."""

    head: int
    tail: int
    carries: dict[str, int]


class TokenQueue:
    """Follows the copies in flight along the instructions of a kernel."""

    def __init__(self) -> None:
        self._head = 0
        self._tail = 0
        self._places: dict[str, int] = {}
        self._loops: dict[str, int] = {}
        self._frames: list[_Frame] = []

    def issue(self, token: str) -> None:
        """Start a copy."""
        self._put(token, self._tail)
        self._tail += 1

    def wait(self, token: str) -> None:
        """Finish the oldest copy; raises `SpecError` if it is another one."""
        place = self._take(token)
        if place != self._head:
            raise SpecError(f"{token} is waited before an older copy; waits keep issue order", clause=_CLAUSE)
        self._head += 1

    def enter(self) -> None:
        """Open a serial loop."""
        self._frames.append(_Frame(self._head, self._tail, {}))

    def carry(self, token: str, init: str) -> None:
        """Hand a token over to a carry of the loop just opened."""
        frame = self._frames[-1]
        place = self._take(init, outside=1)
        frame.carries[token] = place
        self._put(token, place)

    def leave(self, following: dict[str, str]) -> None:
        """Close the innermost loop; `following` gives its token carries their next tokens."""
        frame = self._frames[-1]
        places = {carry: self._take(token) for carry, token in following.items()}
        waited = self._head - frame.head
        in_flight = frame.tail - frame.head
        if self._tail - self._head != in_flight:
            raise SpecError("an iteration issues as many copies as it waits for, or carries the rest", clause=_CLAUSE)
        if waited and len(following) != in_flight:
            raise SpecError("copies in flight around a loop that waits are carried by it, every one", clause=_CLAUSE)
        for carry, place in places.items():
            if place - self._head != frame.carries[carry] - frame.head:
                raise SpecError(f"carry {carry} changes its place in issue order", clause=_CLAUSE)
        self._frames.pop()
        for carry, place in places.items():
            self._put(carry, place)

    def finish(self) -> None:
        """End the kernel; raises `SpecError` if a copy is still in flight."""
        if self._places:
            raise SpecError(f"{next(iter(self._places))} is never waited", clause=_CLAUSE)

    def _put(self, token: str, place: int) -> None:
        self._places[token] = place
        self._loops[token] = len(self._frames)

    def _take(self, token: str, outside: int = 0) -> int:
        if token not in self._places:
            raise SpecError(f"{token} was already waited or handed over", clause=_CLAUSE)
        if self._loops[token] != len(self._frames) - outside:
            raise SpecError(f"{token} comes from outside the loop, which must carry it", clause=_CLAUSE)
        return self._places.pop(token)
