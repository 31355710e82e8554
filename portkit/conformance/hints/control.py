"""Faults of control flow and of launches: loops, carries, barriers, groups, arguments. Each gives whole scenarios."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np

from portkit.conformance.hints.scenario import Function, Place, Scenario, Twist, unary
from portkit.conformance.hints.symptoms import Array
from portkit.spec.geometry import grid_counts
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import I32, Type

Change = Callable[[Scenario], Iterator[Scenario]]
"""Given the launch as it should be, those of faulty devices."""
_I32 = Type(I32)


# --- counts of loops ----------------------------------------------------------------------------------------------


def counted(change: Callable[[Array], Array]) -> Twist:
    """Return the twist of serial loops that run another number of times."""

    def twist(place: Place, right: Function) -> Function | None:
        if place.instr.name != "loop.serial":
            return None
        return unary(lambda counts: change(right(counts)).astype(np.int32))

    return twist


def _once_at_least(n: Array) -> Array:
    return np.maximum(n, 1)


def _one_less(n: Array) -> Array:
    return np.maximum(n, 1) - 1


def _one_more(n: Array) -> Array:
    return np.where(n > 0, n + 1, n)


def _one_more_always(n: Array) -> Array:
    return np.maximum(n, 0) + 1


def _of_first_lane(n: Array) -> Array:
    return n[:, :1]


def _of_longest_lane(n: Array) -> Array:
    return n.max(axis=1, keepdims=True)


def _of_shortest_lane(n: Array) -> Array:
    return n.min(axis=1, keepdims=True)


def _even(n: Array) -> Array:
    return n & ~1


def _in_fours(n: Array) -> Array:
    return n & ~3


def _in_eights(n: Array) -> Array:
    return n & ~7


def _never_twice(n: Array) -> Array:
    return np.minimum(n, 1)


def _of_a_byte(n: Array) -> Array:
    return n & 255


def _of_magnitude(n: Array) -> Array:
    return np.minimum(np.abs(n), 1 << 12)


LOOP_COUNTS = tuple(
    counted(change)
    for change in (
        _once_at_least,
        _one_less,
        _one_more,
        _one_more_always,
        _of_first_lane,
        _of_longest_lane,
        _of_shortest_lane,
        _even,
        _in_fours,
        _in_eights,
        _never_twice,
        _of_a_byte,
        _of_magnitude,
    )
)


def index_from_one(given: Scenario) -> Iterator[Scenario]:
    """Number the trips of a loop from one, or backwards."""
    heads = [p for p, i in enumerate(given.kernel.body) if i.name == "loop.serial" and i.args]
    for head in heads:
        for backwards in (False, True):
            yield replace(given, kernel=_renumbered(given.kernel, head, backwards=backwards))


def _renumbered(kernel: Kernel, head: int, *, backwards: bool) -> Kernel:
    loop = kernel.body[head]
    carries = 1 + next(
        (k for k, i in enumerate(kernel.body[head + 1 :]) if i.name != "phi.carry"), len(kernel.body) - head - 1
    )
    raw, one, minus = f"{loop.result}.raw", f"{loop.result}.one", f"{loop.result}.minus"
    constants = [Instr("mov.const", one, _I32, imms=(1,)), Instr("mov.const", minus, _I32, imms=(0xFFFFFFFF,))]
    if backwards:
        turned = [
            Instr("mul", f"{loop.result}.down", _I32, (raw, minus)),
            Instr("add", f"{loop.result}.last", _I32, (loop.args[0], minus)),
            Instr("add", loop.result, _I32, (f"{loop.result}.last", f"{loop.result}.down")),
        ]
    else:
        turned = [Instr("add", loop.result, _I32, (raw, one))]
    body = list(kernel.body)
    body[head] = replace(loop, result=raw)
    body[head + carries : head + carries] = turned
    body = [replace(i, args=(raw,)) if i.name == "endloop" and i.args == (loop.result,) else i for i in body]
    return replace(kernel, body=(*constants, *body))


# --- carries ------------------------------------------------------------------------------------------------------


def carries_in_turn(given: Scenario) -> Iterator[Scenario]:
    """Give the carries of a loop their next values one after the other, in either order."""
    for step in (1, -1):
        body = tuple(_assigned_in_turn(i, step) if i.carries else i for i in given.kernel.body)
        if body != given.kernel.body:
            yield replace(given, kernel=replace(given.kernel, body=body))


def _assigned_in_turn(end: Instr, step: int) -> Instr:
    now: dict[str, str] = {}
    for carry, value in end.carries[::step]:
        now[carry] = now.get(value, value)
    return replace(end, carries=tuple((carry, now[carry]) for carry, _ in end.carries))


def carries_from_zero(given: Scenario) -> Iterator[Scenario]:
    """Begin every carry at zero."""
    types = {i.type for i in given.kernel.body if i.name == "phi.carry" and i.type and i.type.lanes == 1}
    zeros = {t: Instr("mov.const", f"zero.{t}", t, imms=(0,)) for t in types if t.dtype.bits}
    body = tuple(
        replace(i, args=(zeros[i.type].result,)) if i.name == "phi.carry" and i.type in zeros else i
        for i in given.kernel.body
    )
    if zeros:
        yield replace(given, kernel=replace(given.kernel, body=(*zeros.values(), *body)))


def carries_kept(given: Scenario) -> Iterator[Scenario]:
    """Never give a carry its next value."""
    yield from _each_carry(given, lambda end, carry: _with_next(end, carry, carry))


def carries_exchanged(given: Scenario) -> Iterator[Scenario]:
    """Give two carries each other's next values."""
    for position, end in enumerate(given.kernel.body):
        for (a, x), (b, y) in combinations(end.carries, 2):
            types = given.kernel.types
            if types[a] == types[b] and x != y:
                yield _with_body(given, position, _with_next(_with_next(end, a, y), b, x))


def _each_carry(given: Scenario, change: Callable[[Instr, str], Instr]) -> Iterator[Scenario]:
    for position, end in enumerate(given.kernel.body):
        for carry, _ in end.carries:
            changed = change(end, carry)
            if changed != end:
                yield _with_body(given, position, changed)


def _with_next(end: Instr, carry: str, value: str) -> Instr:
    return replace(end, carries=tuple((c, value if c == carry else v) for c, v in end.carries))


def _with_body(given: Scenario, position: int, instr: Instr) -> Scenario:
    body = (*given.kernel.body[:position], instr, *given.kernel.body[position + 1 :])
    return replace(given, kernel=replace(given.kernel, body=body))


def carries_stale(given: Scenario) -> Iterator[Scenario]:
    """Read a carry as it was one trip before: after the loop, or inside it, or both."""
    for position, end in enumerate(given.kernel.body):
        for inside, after in ((False, True), (True, True), (True, False)) if end.carries else ():
            yield replace(given, kernel=_lagging(given.kernel, position, inside=inside, after=after))


def _lagging(kernel: Kernel, position: int, *, inside: bool, after: bool) -> Kernel:
    """Return the kernel with a second carry for each of a loop, which is one trip behind and read in its place."""
    end = kernel.body[position]
    late = {carry: f"{carry}.late" for carry, _ in end.carries}
    body: list[Instr] = []
    for number, instr in enumerate(kernel.body):
        if instr.name == "phi.carry" and instr.result in late:
            body += [instr, replace(instr, result=late[instr.result])]
        elif number == position:
            held = _reading(instr, late) if inside else instr
            body.append(replace(held, carries=(*held.carries, *((new, c) for c, new in late.items()))))
        else:
            reads = (inside and number < position) or (after and number > position)
            body.append(_reading(instr, late) if reads else instr)
    return replace(kernel, body=tuple(body))


def _reading(instr: Instr, names: Mapping[str, str]) -> Instr:
    """Return an instruction that reads other registers."""
    return replace(
        instr,
        args=tuple(names.get(a, a) for a in instr.args),
        gate=names.get(instr.gate, instr.gate),
        other=names.get(instr.other, instr.other),
        carries=tuple((c, names.get(v, v)) for c, v in instr.carries),
    )


# --- barriers and shared memory -----------------------------------------------------------------------------------


def barriers_missing(given: Scenario) -> Iterator[Scenario]:
    """Run the lanes one after the other, or in runs as wide as a vector unit, in either order, without meeting."""
    kernel = given.kernel
    if not any(i.name == "barrier" for i in kernel.body) or any(i.name.startswith("reduce.group") for i in kernel.body):
        return
    bare = replace(kernel, body=tuple(i for i in kernel.body if i.name != "barrier"))
    for width in (1, 4, 8, 16, 32, 64):
        for backwards in (False, True):
            serial = lanes_in_turn(bare, width, backwards=backwards)
            if serial is not None:
                yield replace(given, kernel=serial)


def lanes_in_turn(kernel: Kernel, width: int, *, backwards: bool = False) -> Kernel | None:
    """Return the kernel with its lane loop run serially, `width` lanes at a time; None where that does not divide."""
    if len(kernel.nest.lanes) != 1:
        return None
    head = kernel.nest.lanes[0]
    lane, lanes = kernel.body[head].result, kernel.lanes
    if lanes % width or lanes == width:
        return None
    trips = lanes // width
    own, trip, turn = f"{lane}.own", f"{lane}.trip", f"{lane}.turn"
    constants = [
        Instr("mov.const", f"{lane}.{name}", _I32, imms=(value & 0xFFFFFFFF,))
        for name, value in (("step", -width if backwards else width), ("least", lanes - width if backwards else 0))
    ]
    start = [
        replace(kernel.body[head], result=own, imms=(width,)),
        Instr("loop.serial", trip, _I32, imms=(trips,)),
        Instr("mul", turn, _I32, (trip, f"{lane}.step")),
        Instr("add", f"{lane}.from", _I32, (turn, f"{lane}.least")),
        Instr("add", lane, _I32, (f"{lane}.from", own)),
    ]
    rest = list(kernel.body[head + 1 :])
    end = next(k for k, i in enumerate(rest) if i.name == "endloop" and i.args == (lane,))
    closing = [replace(rest[end], args=(trip,)), replace(rest[end], args=(own,))]
    return replace(kernel, body=(*constants, *kernel.body[:head], *start, *rest[:end], *closing, *rest[end + 1 :]))


def shared_by_groups(given: Scenario) -> Iterator[Scenario]:
    """Give all groups one shared memory."""
    if given.kernel.shared:
        yield replace(given, shared_once=True)


# --- rounding across instructions ---------------------------------------------------------------------------------


def contracted(given: Scenario) -> Iterator[Scenario]:
    """Fuse a multiplication that feeds an addition: the first of the operands, or the second."""
    products = {i.result: i for i in given.kernel.body if i.name == "mul" and i.type and i.type.dtype.is_float}
    for order in (1, -1):
        body = tuple(_fused(i, products, order) for i in given.kernel.body)
        if body != given.kernel.body:
            yield replace(given, kernel=replace(given.kernel, body=body))


def _fused(add: Instr, products: Mapping[str, Instr], order: int) -> Instr:
    feeding = [a for a in add.args[::order] if a in products] if add.name == "add" else []
    if not feeding:
        return add
    other = add.args[1] if add.args[0] == feeding[0] else add.args[0]
    return replace(add, name="mul.add", args=(*products[feeding[0]].args, other))


def reassociated(given: Scenario) -> Iterator[Scenario]:
    """Add, or multiply, three floats in another order."""
    for form in ("add", "mul"):
        inner = {i.result: i for i in given.kernel.body if i.name == form and i.type and i.type.dtype.is_float}
        for position, outer in enumerate(given.kernel.body):
            if outer.result in inner:
                yield from _regrouped(given, position, inner)


def _regrouped(given: Scenario, position: int, inner: Mapping[str, Instr]) -> Iterator[Scenario]:
    """Turn (a + b) + c into a + (b + c), and into (a + c) + b."""
    outer = given.kernel.body[position]
    for k, operand in enumerate(outer.args):
        if operand not in inner:
            continue
        a, b = inner[operand].args
        c = outer.args[1 - k]
        for x, y in ((a, b), (b, a)):
            name = f"{outer.result}.pair"
            pair = replace(outer, result=name, args=(y, c))
            last = replace(outer, args=(x, name))
            body = (*given.kernel.body[:position], pair, last, *given.kernel.body[position + 1 :])
            yield replace(given, kernel=replace(given.kernel, body=body))


def cancelled(given: Scenario) -> Iterator[Scenario]:
    """Give a in place of (a + b) + c, or of (a * b) * c."""
    for form in ("add", "mul"):
        inner = {i.result: i for i in given.kernel.body if i.name == form and i.type and i.type.dtype.is_float}
        names = {o.result: first for o in inner.values() for first in _innermost(o, inner)}
        if names:
            body = tuple(_reading(i, names) for i in given.kernel.body)
            yield replace(given, kernel=replace(given.kernel, body=body))


def _innermost(outer: Instr, inner: Mapping[str, Instr]) -> list[str]:
    """Return the first operand of the operation that feeds another."""
    return [inner[a].args[0] for a in outer.args if a in inner][:1]


# --- launches -----------------------------------------------------------------------------------------------------


def _with_grid(given: Scenario, extents: tuple[int, ...]) -> Scenario:
    body = list(given.kernel.body)
    for head, extent in zip(given.kernel.nest.grids, extents, strict=True):
        body[head] = replace(body[head], args=(), imms=(extent,))
    return replace(given, kernel=replace(given.kernel, body=tuple(body)))


def grid_turned(given: Scenario) -> Iterator[Scenario]:
    """Take the extents of the grid loops in another order."""
    extents = grid_counts(given.kernel, given.scalars)
    for other in {extents[::-1], (*extents[1::-1], *extents[2:])} - {extents}:
        yield _with_grid(given, other)


def groups_missing(given: Scenario) -> Iterator[Scenario]:
    """Leave out the last group of a grid loop, or all but the first."""
    extents = grid_counts(given.kernel, given.scalars)
    for k, extent in enumerate(extents):
        for fewer in sorted({extent - 1, extent // 2, 1} - {0, extent}, reverse=True):
            yield _with_grid(given, (*extents[:k], fewer, *extents[k + 1 :]))


def groups_numbered_alike(given: Scenario) -> Iterator[Scenario]:
    """Give every group the number of the first, or count them the other way round."""
    for head in given.kernel.nest.grids:
        yield _with_first_index(given, head)
    if len(given.kernel.nest.grids) > 1:
        yield _with_order(given, given.kernel.nest.grids)


def lanes_turned(given: Scenario) -> Iterator[Scenario]:
    """Count the lane loops the other way round."""
    if len(given.kernel.nest.lanes) > 1:
        yield _with_order(given, given.kernel.nest.lanes)


def _with_first_index(given: Scenario, head: int) -> Scenario:
    """Return the launch with the index of one loop always zero."""
    loop = given.kernel.body[head]
    name = f"{loop.result}.number"
    body = list(given.kernel.body)
    body[head] = replace(loop, result=name)
    zero = Instr("mov.const", loop.result, _I32, imms=(0,))
    body = [replace(i, args=(name,)) if i.name == "endloop" and i.args == (loop.result,) else i for i in body]
    return replace(given, kernel=replace(given.kernel, body=(zero, *body)))


def _with_order(given: Scenario, heads: tuple[int, ...]) -> Scenario:
    """Return the launch with the results of loops in the reversed order of their numbers."""
    kernel = given.kernel
    names = {kernel.body[a].result: kernel.body[b].result for a, b in zip(heads, heads[::-1], strict=True)}
    ends = [p for p, i in enumerate(kernel.body) if i.name == "endloop" and i.args[0] in names]
    body = [i if p in ends else _reading(i, names) for p, i in enumerate(kernel.body)]
    return replace(given, kernel=replace(kernel, body=tuple(body)))


def lanes_missing(given: Scenario) -> Iterator[Scenario]:
    """Leave out the last lane, or those that fill no whole unit."""
    kernel = given.kernel
    if len(kernel.nest.lanes) != 1 or kernel.shared or any(i.name.startswith("reduce.group") for i in kernel.body):
        return
    head, lanes = kernel.nest.lanes[0], kernel.lanes
    fewer = {lanes - 1, lanes // 2, *(lanes // unit * unit for unit in (4, 8, 16, 32, 64)), min(lanes, 32)}
    for count in sorted(fewer - {0, lanes}, reverse=True):
        yield _with_body(given, head, replace(kernel.body[head], imms=(count,)))


def scalars_exchanged(given: Scenario) -> Iterator[Scenario]:
    """Pass two scalars in each other's place."""
    for a, b in combinations(given.kernel.scalars, 2):
        x, y = given.scalars[a.name], given.scalars[b.name]
        if x != y and a.dtype == b.dtype:
            yield replace(given, scalars={**given.scalars, a.name: y, b.name: x})


def scalars_misread(given: Scenario) -> Iterator[Scenario]:
    """Pass a scalar in fewer bits, as an integer, or as nothing."""
    for scalar in given.kernel.scalars:
        value = given.scalars[scalar.name]
        others = {float(int(value)), 0.0, abs(value)} if scalar.dtype.is_float and np.isfinite(value) else set[float]()
        if not scalar.dtype.is_float:
            others = {int(value) & 0xFFFF, int(value) & 0xFF, 0, int(np.int16(int(value) & 0x7FFF))}
        for other in sorted(others - {value}, key=abs, reverse=True):
            yield replace(given, scalars={**given.scalars, scalar.name: other})


def buffers_exchanged(given: Scenario) -> Iterator[Scenario]:
    """Pass two buffers that are only read in each other's place."""
    for a, b in combinations([b for b in given.kernel.buffers if b.access == "read"], 2):
        x, y = given.before[a.name], given.before[b.name]
        if a.dtype == b.dtype and len(x) == len(y) and x.tobytes() != y.tobytes():
            yield replace(given, before={**given.before, a.name: y, b.name: x})


def launched_twice(given: Scenario) -> Iterator[Scenario]:
    """Run the kernel again on what it wrote."""
    if any(b.access == "readwrite" for b in given.kernel.buffers):
        yield replace(given, times=2)


def nothing_launched(given: Scenario) -> Iterator[Scenario]:
    """Leave every buffer as it was."""
    yield _with_grid(given, (0,) * len(given.kernel.nest.grids))
