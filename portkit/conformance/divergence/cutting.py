"""Cutting a kernel that does not come back: the shortest beginning of it that does not either."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from portkit.conformance.card import Divergence
from portkit.conformance.divergence.copying import Shape, instrument, layout
from portkit.conformance.divergence.probes import measure, path_of, probes
from portkit.conformance.divergence.sight import Observer
from portkit.conformance.finding import Check, Finding
from portkit.conformance.support import undeclared
from portkit.errors import ContractError, DeviceError, NotReachable, SpecError
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.text import format_instr
from portkit.spec.verify import verify

_NOTES = {
    Check.HANG: "the kernel that ends here does not come back, the one that ends before it does",
    Check.CRASH: "the device process dies of the kernel that ends here, and not of the one that ends before it",
}
_REFUSED = "the device raises an error for the kernel that ends here, and not for the one that ends before it"
_LAUNCHES = 16
"""Among how many launches the time is shared: each may hang."""


def first_to_fail(observer: Observer, found: Finding) -> Divergence:
    """Return the record of the first instruction with which a kernel does not come back. Raises `OutOfTime`."""
    kernel, limit = observer.kernel, observer.left() / _LAUNCHES
    trips, _ = measure(observer.trial, {})

    def fails(position: int) -> bool | None:
        cut = _watched(observer, beginning(kernel, position), position, trips)
        return None if cut is None else not _comes_back(observer, cut, limit)

    at = _bisect(fails, kernel.nest.setup[-1], len(kernel.body) - 1)
    note = _NOTES.get(found.check, _REFUSED) if found.check else _REFUSED
    iteration = (0,) * len(path_of(kernel, at))
    return Divergence(at, format_instr(kernel.body[at]), 0, 0, iteration, note=note)


def _bisect(fails: Callable[[int], bool | None], low: int, high: int) -> int:
    """Return the first position that fails, taking that every one after it does; None is for those that cannot be."""
    while high - low > 1:
        middle = (low + high) // 2
        tried = next(((k, f) for k in _around(middle, low, high) if (f := fails(k)) is not None), None)
        if tried is None:
            return high
        low, high = (low, tried[0]) if tried[1] else (tried[0], high)
    return high


def _around(middle: int, low: int, high: int) -> list[int]:
    return sorted(range(low + 1, high), key=lambda k: abs(k - middle))


def beginning(kernel: Kernel, last: int) -> Kernel:
    """Return the kernel up to an instruction, with the loops closed that are open there.

    A carry whose next value is cut away keeps its value.
    """
    kept = list(kernel.body[: last + 1])
    known = {i.result for i in kept} | {s.name for s in kernel.scalars}
    closing = [i for i in kernel.body[last + 1 :] if i.name == "endloop" and i.args[0] in known]
    return replace(kernel, body=(*kept, *(_closed(end, known) for end in closing)))


def is_valid(kernel: Kernel) -> bool:
    """Whether a beginning of a kernel is one itself: it may end between a copy and its wait."""
    try:
        verify(kernel)
    except SpecError:
        return False
    return True


def _closed(end: Instr, known: set[str]) -> Instr:
    return replace(end, carries=tuple((c, v if v in known else c) for c, v in end.carries if c in known))


def _watched(observer: Observer, kernel: Kernel, position: int, trips: dict[int, int]) -> Kernel | None:
    """Return a beginning of a kernel that stores its last value, itself if that cannot be; None if it is not valid."""
    if not is_valid(kernel):
        return None
    last = [p for p in probes(kernel) if p.position == position]
    shape = Shape(trips, 1, kernel.lanes, 0)
    copy = instrument(kernel, layout(kernel, last, shape), shape, observer.grid, by_shifts=False)
    return kernel if undeclared(copy, observer.client.capabilities) else copy


def _comes_back(observer: Observer, kernel: Kernel, limit: float) -> bool:
    launch = observer.launch(kernel)
    launch.seconds = min(limit, launch.seconds)
    try:
        launch.send()
    except NotReachable:
        raise
    except (DeviceError, ContractError):
        observer.client.kill()
        return False
    return True
