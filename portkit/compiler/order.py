"""The order of launches: of those that can run, always the one that leaves the least in memory."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence

from portkit.errors import HarnessError


def launch_order(needs: Sequence[Collection[int]], made: Sequence[int], ranks: Sequence[int]) -> list[int]:
    """Return numbers of launches in an order in which they can run, each after those that it `needs`.

    `made` is the bytes that each makes for others to read, free once the last of them has run; what a program gives
    to its caller does not count, since it has a place of its own anyway. Of equal ones that of the lower rank comes
    first. Greedy: no order is looked at beyond the next launch. Takes time near-linear in the number of needs.
    Raises `HarnessError` where launches need each other.
    """
    users: list[list[int]] = [[] for _ in needs]
    for user, needed in enumerate(needs):
        for number in needed:
            users[number].append(user)
    missing = [len(needed) for needed in needs]
    waiting = [len(found) for found in users]
    done = [False] * len(needs)

    def growth(number: int) -> int:
        return made[number] * bool(users[number]) - sum(made[n] for n in needs[number] if waiting[n] == 1)

    ready = [(growth(n), ranks[n], n) for n, count in enumerate(missing) if not count]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        _, _, number = heapq.heappop(ready)
        if done[number]:
            continue  # it stood there twice: it came to free more while it waited
        done[number] = True
        order.append(number)
        for needed in needs[number]:
            waiting[needed] -= 1
        changed = [u for u in users[number] if _reached(missing, u)]
        changed += [u for n in needs[number] if waiting[n] == 1 for u in users[n] if not done[u] and not missing[u]]
        for n in dict.fromkeys(changed):
            heapq.heappush(ready, (growth(n), ranks[n], n))
    if len(order) != len(needs):
        raise HarnessError(f"{len(needs) - len(order)} of {len(needs)} launches need each other")
    return order


def _reached(missing: list[int], user: int) -> bool:
    """Count one need less, and return whether none is missing."""
    missing[user] -= 1
    return not missing[user]
