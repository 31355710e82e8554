"""Whether a launch gives the same bytes each time, and whatever the order in which its work-groups run.

The spec gives work-groups no order, and a device's own cannot be chosen. So the kernel is rewritten: the group that
the device calls g computes what the spec calls group p(g), p a permutation. Every device then runs the groups in
another order than before, whichever that was.

What may vary at all is what the acceptance set admits: float atomics, the order inside a float reduction, native math.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from portkit.conformance.expectation import Array
from portkit.conformance.finding import Check, Finding, Stability
from portkit.conformance.launching import Launch
from portkit.conformance.rewriting import Emitter, rewrite
from portkit.conformance.verdict import Verdict
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import I32, Type

REPEAT = "repeat"
"""The key of what varied though nothing was changed; those of the others are the names in `ORDERS`."""
_INDEX = Type(I32)
_COOPERATING = frozenset({"gridsync", "signal"})
"""Extensions by which groups wait for each other; a device may serve them in the order of their numbers only."""

Permute = Callable[[Emitter, str, int, str], None]
"""Appends the group number of the spec, under the name given last, for the device's own and the loop's extent."""


def certified(launch: Launch, runs: int) -> Finding:
    """Run a launch; if it passes, run it until it ran `runs` times, and in other group orders, and compare the bytes.

    Fewer than two runs are no certificate: then nothing is repeated. The finding is that of the first run that does
    not pass, else of the first, with its `stability`.
    """
    found = launch.run()
    if found.verdict is not Verdict.PASS or runs < 2:
        return found
    wanted = launch.written()
    varying: dict[str, int] = {}
    orders = group_orders(launch.kernel, launch.grid)
    for name, kernel in [*[(REPEAT, launch.kernel)] * (runs - 1), *orders.items()]:
        again = launch.repeat(kernel)
        if again.verdict is not Verdict.PASS:
            return _beyond(again, name, runs)
        differing = differences(wanted, launch.written())
        if differing:
            varying[name] = max(differing, varying.get(name, 0))
    free = free_forms(launch.kernel) if varying else ()
    return replace(found, stability=Stability(runs, tuple(orders), varying, free))


def _beyond(again: Finding, name: str, runs: int) -> Finding:
    """Return the finding of a run that does not pass, though the first did."""
    how = "when it is run again" if name == REPEAT else f"when its work-groups are {name}"
    ended = again.verdict in (Verdict.CRASH, Verdict.TIMEOUT)
    return replace(
        again,
        check=again.check if ended else Check.REPEAT,
        suspect=again.suspect or ("launch: results vary" if name == REPEAT else "launch: depends on the group order"),
        reason=f"passes at first, not {how}: {again.reason}",
        stability=Stability(runs, () if name == REPEAT else (name,), {name: again.wrong}),
    )


def differences(wanted: Mapping[str, Array], actual: Mapping[str, Array]) -> int:
    """Return how many elements of two sets of buffers differ in their bits; every NaN counts as the same one."""
    return sum(_different(wanted[name], actual[name]) for name in wanted)


@np.errstate(invalid="ignore")  # asking whether a signalling NaN is one counts as using it
def _different(a: Array, b: Array) -> int:
    if a.tobytes() == b.tobytes():
        return 0
    rows = [np.frombuffer(x.tobytes(), np.uint8).reshape(len(x), x.itemsize) for x in (a, b)]
    differ = (rows[0] != rows[1]).any(axis=1)
    if a.dtype.kind in "fV":  # V: the formats of ml_dtypes
        differ &= ~(np.isnan(a) & np.isnan(b))
    return int(np.count_nonzero(differ))


def free_forms(kernel: Kernel) -> tuple[str, ...]:
    """Return the forms in a kernel whose float result the spec leaves open.

    Spec: numeric_c2.
    """
    return () if kernel.strict else tuple(sorted({i.name for i in kernel.body if _is_free(i, kernel)}))


def _is_free(instr: Instr, kernel: Kernel) -> bool:
    read = [kernel.types[r].dtype.is_float for r in instr.args if r in kernel.types]
    if not any(read):
        return False
    kind = instr.name.rpartition(".")[2]
    ordered = instr.name.startswith("reduce.") and instr.name.count(".") > 1 and kind in ("add", "mul")
    zeros = instr.name.startswith("reduce.") and kind in ("max", "min")
    return ordered or zeros or instr.form.extension in ("math", "mma", "atomic")


# --- group orders -------------------------------------------------------------------------------------------------


def group_orders(kernel: Kernel, counts: Sequence[int]) -> dict[str, Kernel]:
    """Return the kernel for each order of its work-groups that is another one, by the order's name.

    `counts` is the extent of each grid loop in this launch. Empty where there are fewer than two groups, or groups wait
    for each other.
    """
    if any(i.form.extension in _COOPERATING for i in kernel.body) or 0 in counts:
        return {}
    return {
        name: reordered(kernel, counts, permute)
        for name, (least, permute) in ORDERS.items()
        if max(counts, default=0) >= least
    }


def reordered(kernel: Kernel, counts: Sequence[int], permute: Permute) -> Kernel:
    """Return a kernel of the same meaning in which each grid loop numbers its groups in another way."""
    heads = [kernel.body[at].result for at in kernel.nest.grids]
    extents = dict(zip(heads, counts, strict=True))
    raw: dict[str, str] = {}

    def expand(instr: Instr, emitter: Emitter) -> bool:
        if instr.name == "endloop" and instr.args[0] in raw:
            emitter.out.append(replace(instr, args=(raw[instr.args[0]],)))
            return True
        if instr.name != "loop.grid" or extents[instr.result] < 2:
            return False
        number = raw[instr.result] = emitter.fresh()
        emitter.types[number] = _INDEX
        emitter.out.append(replace(instr, result=number))
        permute(emitter, number, extents[instr.result], instr.result)
        return True

    return rewrite(kernel, expand)


def _reverse(emitter: Emitter, number: str, count: int, result: str) -> None:
    """Append count - 1 - number."""
    negative = emitter.op("mul", number, emitter.const(_INDEX, -1))
    emitter.op("add", negative, emitter.const(_INDEX, count - 1), result=result)


def _rotate(emitter: Emitter, number: str, count: int, result: str) -> None:
    """Append (number + shift) mod count, for a shift that is fixed by the loop."""
    shift = 1 + zlib.crc32(f"{result} {count}".encode()) % (count - 1)
    early = emitter.op("add", number, emitter.const(_INDEX, shift))
    late = emitter.op("add", number, emitter.const(_INDEX, shift - count))
    emitter.op("phi.lt", number, emitter.const(_INDEX, count - shift), early, late, result=result)


ORDERS: dict[str, tuple[int, Permute]] = {"reversed": (2, _reverse), "rotated": (3, _rotate)}
"""By name: from how many groups on it is another order than those before it, and how it permutes."""
