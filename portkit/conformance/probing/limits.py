"""How much a device takes: the declared limits are tried, and what lies beyond as long as it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from portkit.conformance.cases.session import buffer
from portkit.conformance.probing.bench import Bench, Refused
from portkit.conformance.probing.facts import Row, State
from portkit.contract import Capabilities
from portkit.errors import PortkitError
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel

_WORD = 4
_MOST_DOUBLINGS = 2
_MOST_PARAMETERS = 1000
"""A kernel has at most 1,024 buffers, shared arrays and scalars (Spec: limit_c2)."""
_EDGE = 64

Try = Callable[[Bench, int], None]
"""Uses so much of something; raises `Refused`, or an error of the device, where it cannot be had."""


def _check(bench: Bench, kernel: Kernel, wanted: np.ndarray) -> None:
    out = bench.run(kernel, {})["out"]
    if not np.array_equal(out, wanted):
        at = int(np.flatnonzero(out != wanted)[0])
        raise Refused(f"runs, but element {at} is {out[at]}, not {wanted[at]}")


def lanes(bench: Bench, count: int) -> None:
    """Let so many lanes meet at a barrier, each then taking what the lane opposite left in shared memory."""
    b = Builder("lanes")
    out, cells = b.buffer("out", "i32", count, "write"), b.shared("cells", "i32", min(count, 4096))
    b.grid(1)
    lane = b.lane(count)
    cell = b.op("reduce.min", lane, b.const("i32", min(count, 4096) - 1))
    first = b.lt(lane, b.const("i32", min(count, 4096)))
    b.store(cells, cell, lane, gate=first)
    b.barrier()
    b.store(out, lane, b.load(cells, cell))
    _check(bench, b.build(), np.minimum(np.arange(count), min(count, 4096) - 1).astype(np.int32))


def shared_bytes(bench: Bench, count: int) -> None:
    """Fill a shared array from end to end and read it back."""
    lanes, words = 256, count // _WORD
    turns = -(-words // lanes)
    b = Builder("shared")
    out, cells = b.buffer("out", "i32", words, "write"), b.shared("cells", "i32", words)
    b.grid(1)
    lane, size = b.lane(lanes), b.const("i32", words)
    with b.serial(turns) as loop:
        at = b.add(b.mul(loop.index, b.const("i32", lanes)), lane)
        b.store(cells, at, b.mul(at, b.const("i32", 3)), gate=b.lt(at, size))
    b.barrier()
    with b.serial(turns) as loop:
        at = b.add(b.mul(loop.index, b.const("i32", lanes)), lane)
        inside = b.lt(at, size)
        back = b.add(b.mul(at, b.const("i32", -1)), b.const("i32", words - 1))
        b.store(out, at, b.load(cells, back, gate=inside, other=size), gate=inside)
    _check(bench, b.build(), (3 * np.arange(words)[::-1]).astype(np.int32))


def buffers(bench: Bench, count: int) -> None:
    """Write to so many buffers in one launch, the last of which is the result."""
    b = Builder("buffers")
    mems = [b.buffer(f"b{i}", "i32", 1, "write") for i in range(count - 1)] + [b.buffer("out", "i32", 1, "write")]
    b.grid(1)
    lane = b.lane(1)
    for number, mem in enumerate(mems, 1):
        b.store(mem, lane, b.const("i32", number))
    _check(bench, b.build(), np.array([count], np.int32))


def buffer_bytes(bench: Bench, count: int) -> None:
    """Allocate a buffer, and write and read both of its ends."""
    with bench.asking(), buffer(bench.client, count) as handle:
        for offset in (0, max(0, count - _EDGE)):
            data = bytes([1 + offset % 251]) * min(_EDGE, count)
            bench.client.write(handle, offset, data)
            if bench.client.read(handle, offset, len(data)) != data:
                raise Refused(f"bytes at {offset} are not what was written")


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit: its field, how to use so much of it, whether to go beyond what is declared, and its unit."""

    field: str
    use: Try
    beyond: bool = True
    unit: int = 1
    most: int = 1 << 62


LIMITS = (
    Limit("lanes", lanes),
    Limit("shared_bytes", shared_bytes, unit=_WORD),
    Limit("buffers", buffers, most=_MOST_PARAMETERS),
    Limit("buffer_bytes", buffer_bytes, beyond=False),
)


def measure(limit: Limit, bench: Bench, declared: Capabilities) -> tuple[Row, int]:
    """Return the row of a limit, and the largest value that works among those that were tried."""
    wanted: int = getattr(declared.limits, limit.field)
    reason = _reason(limit, bench, wanted)
    found = _below(limit, bench, wanted) if reason else _above(limit, bench, wanted)
    state = State.WRONG if reason else State.MORE if found > wanted else State.AGREES
    advice = f"set limits.{limit.field} to {found}: {wanted} {reason}" if reason else ""
    measured = f"{found:,}" if found <= wanted else f"{found:,} or more"
    return Row(f"limits.{limit.field}", f"limits.{limit.field}", f"{wanted:,}", measured, state, advice), found


def _reason(limit: Limit, bench: Bench, count: int) -> str:
    try:
        limit.use(bench, count)
    except (Refused, PortkitError) as error:
        return str(error)
    return ""


def _above(limit: Limit, bench: Bench, works: int) -> int:
    """Double what works a few times."""
    for _ in range(_MOST_DOUBLINGS if limit.beyond else 0):
        if 2 * works > limit.most or _reason(limit, bench, 2 * works):
            break
        works *= 2
    return works


def _below(limit: Limit, bench: Bench, fails: int) -> int:
    """Halve the range between nothing and what fails until a unit is left, or a hundredth."""
    works, fails = 0, fails // limit.unit
    while fails - works > max(1, works // 128):
        middle = (works + fails) // 2
        if _reason(limit, bench, middle * limit.unit):
            fails = middle
        else:
            works = middle
    return works * limit.unit
