"""Kernels of loops and carried values: nested, zero-trip, per-lane counts, several carries at once, `if` as a loop."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from portkit.conformance.case import Case, Tier
from portkit.conformance.cases.draws import Draws
from portkit.conformance.cases.kernelcase import Arrays, Build, KernelCase, Scalars, rows_to_cases
from portkit.conformance.cases.shapes import KERNEL_NEEDS, Body, lane_kernel
from portkit.conformance.cases.writing import Writer
from portkit.contract import Capabilities
from portkit.spec.builder import Reg

ITEMS = 200


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the loop kernels."""
    yield from rows_to_cases(_rows(), capabilities)


def _per_item(body: Body, name: str) -> Build:
    return partial(lane_kernel, name, body)


# --- bodies: (writer, item, value loaded for it) -> value stored ----------------------------------------------------


def _fibonacci(w: Writer, item: Reg, value: Reg) -> Reg:
    """Two carries, each the other's next value."""
    with w.serial(w.band(item, 31), a=value, b=w.i32(1)) as loop:
        loop.next(a=loop["b"], b=w.add(loop["a"], loop["b"]))
    return loop["a"]


def _rotate_five(w: Writer, item: Reg, value: Reg) -> Reg:
    """Five carries rotate at once; a sequential assignment would lose some."""
    start = {f"c{k}": w.plus(value, k * 1000) for k in range(5)}
    with w.serial(w.band(item, 7), **start) as loop:
        loop.next(**{f"c{k}": loop[f"c{(k + 1) % 5}"] for k in range(5)})
    total = loop["c0"]
    for k in range(1, 5):
        total = w.plus(w.times(total, 31), loop[f"c{k}"])
    return total


def _triangle(w: Writer, item: Reg, value: Reg) -> Reg:
    """The inner count is the outer index: the first inner loop has no trip."""
    with w.serial(w.band(item, 15), total=value) as outer:
        with w.serial(outer.index, total=outer["total"]) as inner:
            inner.next(total=w.add(inner["total"], w.mul(inner.index, outer.index)))
        outer.next(total=w.plus(inner["total"], 1))
    return outer["total"]


def _nest_of_five(w: Writer, item: Reg, value: Reg) -> Reg:
    """Five loops of literal counts, all indices used at the bottom."""

    def level(depth: int, total: Reg, weight: Reg) -> Reg:
        if depth == 0:
            return w.add(total, weight)
        with w.serial(depth % 3 + 1, total=total) as loop:
            deeper = level(depth - 1, loop["total"], w.index(weight, 3, loop.index))
            loop.next(total=deeper)
        return loop["total"]

    return level(5, value, w.band(item, 3))


def _if_else(w: Writer, item: Reg, value: Reg) -> Reg:
    """if value is odd: 3 value + 1 else: value >> 1, as two loops of 0 or 1 trip."""
    odd = w.same(w.band(value, 1), 1)
    with w.serial(w.count_if(odd), v=value) as then:
        then.next(v=w.plus(w.times(then["v"], 3), 1))
    with w.serial(w.count_if(w.inverted(odd)), v=then["v"]) as otherwise:
        otherwise.next(v=w.shr(otherwise["v"], 1))
    return w.add(otherwise["v"], item)


def _collatz(w: Writer, item: Reg, value: Reg) -> Reg:
    """Sixty steps of a data-dependent branch, each an `if` as a loop; counts the steps to 1."""
    start = w.plus(w.band(value, 63), 1)
    with w.serial(60, v=start, steps=w.i32(0)) as loop:
        running = w.below(w.i32(1), loop["v"])
        with w.serial(w.count_if(running), v=loop["v"], steps=loop["steps"]) as body:
            odd = w.same(w.band(body["v"], 1), 1)
            body.next(
                v=w.choose(odd, w.plus(w.times(body["v"], 3), 1), w.shr(body["v"], 1)), steps=w.plus(body["steps"], 1)
            )
        loop.next(v=body["v"], steps=body["steps"])
    return w.index(loop["steps"], 1000, item)


def _gcd(w: Writer, item: Reg, value: Reg) -> Reg:
    """Binary subtraction gcd in a bounded loop: both carries depend on a comparison of both."""
    a, b = w.plus(w.band(value, 255), 1), w.plus(item, 1)
    with w.serial(300, a=a, b=b) as loop:
        less = w.lt(loop["a"], loop["b"])
        high, low = w.choose(less, loop["b"], loop["a"]), w.choose(less, loop["a"], loop["b"])
        equal = w.eq(high, low)
        loop.next(a=w.choose(equal, high, w.minus(high, low)), b=low)
    return loop["a"]


def _carry_kept(w: Writer, item: Reg, value: Reg) -> Reg:
    """A carry whose next value is itself, beside one that changes, and one that is only set."""
    with w.serial(w.band(item, 3), kept=value, changed=value, last=w.i32(-1)) as loop:
        loop.next(kept=loop["kept"], changed=w.times(loop["changed"], 5), last=loop.index)
    return w.add(w.add(loop["kept"], loop["changed"]), loop["last"])


def _sequence(w: Writer, item: Reg, value: Reg) -> Reg:
    """Loops one after the other, each starting from the carry of the one before, the middle one without a trip."""
    for count in (3, 0, 2):
        with w.serial(w.i32(count), v=value) as loop:
            loop.next(v=w.add(w.times(loop["v"], 7), loop.index))
        value = loop["v"]
    return w.add(value, item)


def _negative(w: Writer, item: Reg, value: Reg) -> Reg:
    """Counts from -8 to 7: those up to zero run no trip."""
    with w.serial(w.plus(w.band(item, 15), -8), v=value) as loop:
        loop.next(v=w.plus(loop["v"], 1000))
    return loop["v"]


def _bool_carry(w: Writer, item: Reg, value: Reg) -> Reg:
    """A bool carry toggles: the parity of the trips."""
    with w.serial(w.band(value, 15), flag=w.below(item, 100)) as loop:
        loop.next(flag=w.inverted(loop["flag"]))
    return w.choose(loop["flag"], w.i32(17), w.i32(-4))


def _long(w: Writer, item: Reg, value: Reg) -> Reg:
    """Two thousand trips of a linear congruential generator."""
    with w.serial(2000, v=value) as loop:
        loop.next(v=w.plus(w.times(loop["v"], 1664525), 1013904223))
    return w.xor(loop["v"], item)


def _horner(w: Writer, item: Reg, value: Reg) -> Reg:
    """A float carry: a polynomial by Horner's rule, each step rounded twice, never contracted."""
    x = w.times(w.cast(w.band(value, 1023), "f32"), 1.0 / 1000.0)
    with w.serial(12, total=w.f32(1.0)) as loop:
        step = w.plus(w.cast(loop.index, "f32"), 0.1)
        loop.next(total=w.add(w.mul(loop["total"], x), step))
    return w.bits(loop["total"], "i32")


def _outer_value(w: Writer, item: Reg, value: Reg) -> Reg:
    """Values of outer scopes and a carry of an outer loop are read inside an inner one."""
    scale = w.plus(w.band(item, 3), 1)
    with w.serial(4, total=value) as outer:
        before = w.add(outer["total"], outer.index)
        with w.serial(3, inner=w.i32(0)) as inner:
            inner.next(inner=w.add(w.mul(inner["inner"], scale), w.add(before, outer["total"])))
        outer.next(total=inner["inner"])
    return outer["total"]


_BODIES = {
    "fibonacci": _fibonacci,
    "rotate_five_carries": _rotate_five,
    "triangle": _triangle,
    "nest_of_five": _nest_of_five,
    "if_else": _if_else,
    "collatz": _collatz,
    "gcd": _gcd,
    "carry_kept": _carry_kept,
    "sequence": _sequence,
    "negative_counts": _negative,
    "bool_carry": _bool_carry,
    "long": _long,
    "horner": _horner,
    "outer_values": _outer_value,
}
_SMOKE = ("fibonacci", "triangle", "if_else", "rotate_five_carries")


def loop_data(case_id: str) -> tuple[Scalars, Arrays]:
    """Return positive integers, one per item."""
    return {"n": ITEMS, "groups": (ITEMS + 63) // 64}, {"a": Draws(case_id).bits(20, ITEMS).astype(np.int32)}


def _rows() -> Iterator[KernelCase]:
    for name, body in _BODIES.items():
        tier = Tier.SMOKE if name in _SMOKE else Tier.STANDARD
        build = _per_item(body, f"loop_{name}")
        yield KernelCase(f"kernels/loops/{name}", build, loop_data, tier=tier, needs=KERNEL_NEEDS)
