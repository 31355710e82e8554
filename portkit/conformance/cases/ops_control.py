"""Cases of the control forms: loops and their counts, carries, barriers, fences, waits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from portkit.conformance.case import Case, Cell, Tier
from portkit.conformance.cases import inputs
from portkit.conformance.cases.cells import form_cells
from portkit.conformance.cases.draws import Draws
from portkit.conformance.cases.kernelcase import Arrays, KernelCase, Scalars, rows_to_cases
from portkit.conformance.cases.mapping import GROUP, Frame, geometry
from portkit.conformance.cases.plan import InputSet, Plan, plan_cases, type_text
from portkit.contract import Capabilities
from portkit.spec.builder import Builder, Reg
from portkit.spec.forms import FORMS
from portkit.spec.kernel import Kernel, Numeric
from portkit.spec.types import parse_type

ITEMS = 300
INDEX = parse_type("i32")
SWAPS = (0, 1, 2)
"""Trip counts of the carry cases, odd together: carries that are never given their next values end otherwise."""

MEETING = 4 * GROUP
"""Lanes that meet at a barrier: more than any chip runs in lockstep, which would need none."""


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the cases of loop, endloop, phi.carry, barrier, fence and wait."""
    for cell in form_cells(FORMS["phi.carry"], capabilities):
        if cell.dtype != "token":
            yield from plan_cases(_carry_plan(cell), capabilities)
    yield from rows_to_cases(_ROWS, capabilities)


# --- carries ------------------------------------------------------------------------------------------------------


def _carry_plan(cell: Cell) -> Plan:
    type_ = type_text(cell.dtype, cell.lanes)
    sets: dict[str, InputSet] = {"special": inputs.everything_special}
    return Plan(f"ops/phi.carry/{type_}", (type_, type_), (type_, type_), _emit_swaps, sets, (cell,))


def _emit_swaps(builder: Builder, x: Reg, y: Reg) -> list[Reg]:
    """Loops that swap two carries, run after one another with each count."""
    for count in SWAPS:
        with builder.serial(count, p=x, q=y) as loop:
            loop.next(p=loop["q"], q=loop["p"])
        x, y = loop["p"], loop["q"]
    return [x, y]


# --- loops --------------------------------------------------------------------------------------------------------

COUNTS = (0, 1, 2, 3, 7, -1, -(2**31), 16)


def counts_kernel(numeric: Numeric) -> Kernel:
    """out[i] = the sum of k + 1 over a serial loop whose count is loaded, different for each lane."""
    frame = Frame.open("counts", numeric)
    builder = frame.builder
    source, target = frame.buffer("count", INDEX, 1, "read"), frame.buffer("out", INDEX, 1, "write")
    zero, one = builder.const("i32", 0), builder.const("i32", 1)
    count = builder.load(source, frame.item, gate=frame.inside, other=zero)
    with builder.serial(count, total=zero) as loop:
        loop.next(total=builder.add(loop["total"], builder.add(loop.index, one)))
    builder.store(target, frame.item, loop["total"], gate=frame.inside)
    return builder.build()


def _counts_data(case_id: str) -> tuple[Scalars, Arrays]:
    del case_id
    return geometry(ITEMS), {"count": np.resize(np.array(COUNTS, dtype=np.int32), ITEMS)}


def _named(what: str, count: int) -> str:
    return f"{what}_{'minus_' * (count < 0)}{abs(count)}"


def literal_kernel(count: int, numeric: Numeric) -> Kernel:
    """A loop with a literal count, in which a value that begins as i becomes 3 times itself and the index."""
    frame = Frame.open(_named("literal", count), numeric)
    builder = frame.builder
    target = frame.buffer("out", INDEX, 1, "write")
    three = builder.const("i32", 3)
    with builder.serial(count, value=frame.item) as loop:
        loop.next(value=builder.add(builder.mul(loop["value"], three), loop.index))
    builder.store(target, frame.item, loop["value"], gate=frame.inside)
    return builder.build()


def meeting_kernel(count: int, numeric: Numeric) -> Kernel:
    """A loop with a literal count and barriers inside: in each trip every lane takes its neighbour's value."""
    builder = Builder(_named("meeting", count), numeric)
    out = builder.buffer("out", "i32", ("groups", MEETING), "write")
    stage = builder.shared("stage", "i32", MEETING)
    group = builder.grid(builder.scalar("groups", "i32"))
    lane = builder.lane(MEETING)
    three = builder.const("i32", 3)
    following = builder.add(lane, builder.const("i32", 1))
    neighbour = builder.op("reduce.and", following, builder.const("i32", MEETING - 1))
    item = builder.add(builder.mul(group, builder.const("i32", MEETING)), lane)
    with builder.serial(count, value=item) as loop:
        builder.store(stage, lane, loop["value"])
        builder.barrier()
        taken = builder.mul(builder.load(stage, neighbour), three)
        builder.barrier()
        loop.next(value=builder.add(taken, loop.index))
    builder.store(out, item, loop["value"])
    return builder.build()


def _meeting_data(case_id: str) -> tuple[Scalars, Arrays]:
    del case_id
    return {"groups": 3}, {}


def _items(case_id: str) -> tuple[Scalars, Arrays]:
    del case_id
    return geometry(ITEMS), {}


def grid_kernel(numeric: Numeric) -> Kernel:
    """The number of work-groups comes from pure integer functions of scalars: ((n + 63) >> 6) * 2 - (n < 100)."""
    builder = Builder("grid_count", numeric)
    size = builder.scalar("n", "i32")
    out = builder.buffer("out", "i32", ("total", GROUP), "write")
    builder.scalar("total", "i32")
    padded = builder.op("mul.shr", builder.add(size, builder.const("i32", 63)), builder.const("i32", 6))
    minus = builder.lt(size, builder.const("i32", 100), builder.const("i32", -1), builder.const("i32", 0))
    group = builder.grid(builder.add(builder.mul(padded, builder.const("i32", 2)), minus))
    lane = builder.lane(GROUP)
    at = builder.add(builder.mul(group, builder.const("i32", GROUP)), lane)
    builder.store(out, at, builder.add(group, size))
    return builder.build()


def _grid_data(size: int, case_id: str) -> tuple[Scalars, Arrays]:
    del case_id
    return {"n": size, "total": max(0, ((size + 63) >> 6) * 2 - (size < 100))}, {}


def lane_kernel(shape: tuple[int, ...], numeric: Numeric) -> Kernel:
    """Each lane stores its own indices, weighted so that no two orders agree."""
    builder = Builder("lanes_" + "_".join(map(str, shape)), numeric)
    total = int(np.prod(shape))
    out = builder.buffer("out", "i32", ("groups", total), "write")
    group = builder.grid(builder.scalar("groups", "i32"))
    indices = [builder.lane(count) for count in shape]
    linear, weighted = builder.const("i32", 0), builder.const("i32", 0)
    for weight, (index, count) in enumerate(zip(indices, shape, strict=True)):
        linear = builder.add(builder.mul(linear, builder.const("i32", count)), index)
        weighted = builder.add(weighted, builder.mul(index, builder.const("i32", 1000**weight)))
    at = builder.add(builder.mul(group, builder.const("i32", total)), linear)
    builder.store(out, at, weighted)
    return builder.build()


def _two_groups(case_id: str) -> tuple[Scalars, Arrays]:
    del case_id
    return {"groups": 2}, {}


# --- barrier, fence, wait -----------------------------------------------------------------------------------------


def exchange_kernel(form: str, numeric: Numeric) -> Kernel:
    """Each lane writes shared memory, passes `form` and a barrier, and reads what another lane wrote; three rounds."""
    builder = Builder(f"exchange_{form.replace('.', '_')}", numeric)
    extent = ("groups", MEETING)
    source, target = builder.buffer("a", "i32", extent, "read"), builder.buffer("out", "i32", extent, "write")
    stage = builder.shared("stage", "i32", MEETING)
    group, lane = builder.grid(builder.scalar("groups", "i32")), builder.lane(MEETING)
    at = builder.add(builder.mul(group, builder.const("i32", MEETING)), lane)
    value = builder.load(source, at)
    for distance in (1, 17, MEETING - 1):
        builder.store(stage, lane, value)
        if form != "barrier":
            builder.op(form)
        builder.barrier()
        other = builder.op(
            "reduce.and", builder.add(lane, builder.const("i32", distance)), builder.const("i32", MEETING - 1)
        )
        value = builder.add(builder.mul(value, builder.const("i32", 3)), builder.load(stage, other))
        builder.barrier()
    builder.store(target, at, value)
    return builder.build()


def global_exchange_kernel(numeric: Numeric) -> Kernel:
    """The same through global memory: a barrier orders it among the lanes of a work-group (Spec: barrier_c1)."""
    builder = Builder("exchange_global", numeric)
    extent = ("groups", MEETING)
    source, target = builder.buffer("a", "i32", extent, "read"), builder.buffer("out", "i32", extent, "write")
    mailbox = builder.buffer("mailbox", "i32", extent, "readwrite")
    group, lane = builder.grid(builder.scalar("groups", "i32")), builder.lane(MEETING)
    base = builder.mul(group, builder.const("i32", MEETING))
    at, mask = builder.add(base, lane), builder.const("i32", MEETING - 1)
    value = builder.load(source, at)
    for distance in (1, 17, MEETING - 1):
        builder.store(mailbox, at, value)
        builder.barrier()
        other = builder.op("reduce.and", builder.add(lane, builder.const("i32", distance)), mask)
        value = builder.add(
            builder.mul(value, builder.const("i32", 3)), builder.load(mailbox, builder.add(base, other))
        )
        builder.barrier()
    builder.store(target, at, value)
    return builder.build()


def _mailbox_data(case_id: str) -> tuple[Scalars, Arrays]:
    scalars, arrays = _exchange_data(case_id)
    return scalars, {**arrays, "mailbox": np.zeros_like(arrays["a"])}


def _exchange_data(case_id: str) -> tuple[Scalars, Arrays]:
    groups = 5
    return {"groups": groups}, {"a": Draws(case_id).bits(31, groups * MEETING).astype(np.int32)}


def token_kernel(stages: int, numeric: Numeric) -> Kernel:
    """A token is carried: each iteration issues the next copy, then waits for the one issued before it."""
    builder = Builder(f"token_{stages}", numeric)
    source = builder.buffer("a", "i32", stages * GROUP, "read")
    target = builder.buffer("out", "i32", GROUP, "write")
    stage = builder.shared("stage", "i32", 2 * GROUP)
    builder.grid(1)
    lane = builder.lane(GROUP)
    zero, one, size = (builder.const("i32", k) for k in (0, 1, GROUP))
    last = builder.const("i32", stages - 1)
    first = builder.async_copy(stage, lane, source, lane, 1)
    with builder.serial(stages - 1, total=zero, token=first) as loop:
        following = builder.add(loop.index, one)
        slot, other = (builder.mul(builder.op("reduce.and", k, one), size) for k in (loop.index, following))
        start = builder.add(builder.mul(following, size), lane)
        token = builder.async_copy(stage, builder.add(other, lane), source, start, 1)
        builder.wait(loop["token"])
        value = builder.load(stage, builder.add(slot, lane))
        total = builder.add(builder.mul(loop["total"], builder.const("i32", 3)), value)
        loop.next(total=total, token=token)
    builder.wait(loop["token"])
    slot = builder.mul(builder.op("reduce.and", last, one), size)
    value = builder.load(stage, builder.add(slot, lane))
    builder.store(target, lane, builder.add(builder.mul(loop["total"], builder.const("i32", 3)), value))
    return builder.build()


def _token_data(stages: int, case_id: str) -> tuple[Scalars, Arrays]:
    return {}, {"a": Draws(case_id).bits(31, stages * GROUP).astype(np.int32)}


def _cell(form: str, dtype: str = "i32") -> Cell:
    return Cell(form, dtype)


_SERIAL = (_cell("loop.serial"), _cell("endloop"))
_LITERALS = (-(2**31), -5, -1, 0, 1, 2, 15, 16, 17, 100)
"""Literal counts: those that an unsigned number is not, and those around how often a body is usually unrolled."""
_BOTH = (_cell("loop.grid"), _cell("loop.lane"))
_ROWS: tuple[KernelCase, ...] = (
    KernelCase("ops/loop.serial/i32/counts", counts_kernel, _counts_data, _SERIAL, Tier.SMOKE),
    *(
        KernelCase(f"ops/loop.serial/i32/literal_{count}", partial(literal_kernel, count), _items, _SERIAL)
        for count in _LITERALS
    ),
    *(
        KernelCase(
            f"ops/loop.serial/i32/meeting_{count}",
            partial(meeting_kernel, count),
            _meeting_data,
            (*_SERIAL, _cell("barrier")),
        )
        for count in _LITERALS
    ),
    *(
        KernelCase(f"ops/loop.grid/i32/count_{n}", grid_kernel, partial(_grid_data, n), _BOTH, Tier.SMOKE)
        for n in (0, 1, 64, 65, 1000)
    ),
    *(
        KernelCase(f"ops/loop.lane/i32/{'x'.join(map(str, shape))}", partial(lane_kernel, shape), _two_groups, _BOTH)
        for shape in ((1,), (37,), (256,), (4, 8), (8, 4), (1, 64), (64, 1), (2, 3, 5), (2, 2, 2, 2))
    ),
    KernelCase(
        "ops/barrier/i32/exchange", partial(exchange_kernel, "barrier"), _exchange_data, (_cell("barrier"),), Tier.SMOKE
    ),
    KernelCase("ops/barrier/i32/global", global_exchange_kernel, _mailbox_data, (_cell("barrier"),)),
    *(
        KernelCase(f"ops/{form}/i32/exchange", partial(exchange_kernel, form), _exchange_data, (_cell(form),))
        for form in ("fence.group", "fence.device")
    ),
    *(
        KernelCase(
            f"ops/wait.token/i32/carried_{stages}",
            partial(token_kernel, stages),
            partial(_token_data, stages),
            (_cell("wait.token"), _cell("phi.carry", "token")),
            Tier.SMOKE if stages == 4 else Tier.STANDARD,
        )
        for stages in (1, 2, 4, 9)
    ),
)
