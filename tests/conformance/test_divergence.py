"""The first divergence, on devices whose faults are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from portkit.conformance.card import Divergence, Number
from portkit.conformance.case import Trial
from portkit.conformance.divergence import first_divergence
from portkit.conformance.mutants.device import Wrapped, rewriting
from portkit.conformance.mutants.forms import lane
from portkit.conformance.mutants.model import ModelDevice
from portkit.conformance.rewriting import Emitter, Expand, rewrite
from portkit.contract import Capabilities
from portkit.errors import DeviceError, DeviceHang, DeviceLost
from portkit.reference.bounds import NumericModel
from portkit.runtime.client import DeviceClient, Executed
from portkit.spec.builder import Builder, Reg
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import F32, I32, Type

CAPABILITIES = Capabilities(
    "model",
    "1",
    "tests",
    "own-model",
    dtypes=("bool", "i32", "u32", "f32", "u8", "f16"),
    lanes=(1, 2, 4),
    extensions=("vec", "fma"),
)
LANES = 4


def seen(trial: Trial, fault: Callable[[Kernel], Kernel] | type[Wrapped], seconds: float = 20.0) -> Divergence | None:
    """Return the first divergence of a launch on the model device with a fault in it."""
    wrapper = fault if isinstance(fault, type) else rewriting(fault)
    device = cast("DeviceClient", wrapper(ModelDevice(CAPABILITIES).as_client()))
    return first_divergence(trial, device, NumericModel(), seconds=seconds)


def found(trial: Trial, fault: Callable[[Kernel], Kernel] | type[Wrapped]) -> Divergence:
    divergence = seen(trial, fault)
    assert divergence is not None
    return divergence


def at(name: str, make: Callable[[Instr, Emitter], bool]) -> Callable[[Kernel], Kernel]:
    """Make a fault in every instruction of one form."""
    expand: Expand = lambda i, e: i.name == name and make(i, e)  # noqa: E731 - what `rewrite` takes
    return lambda kernel: rewrite(kernel, expand)


def off_by_one(i: Instr, e: Emitter) -> bool:
    """Add one to the result."""
    assert i.type is not None
    e.out.append(replace(i, result=(right := e.fresh())))
    e.types[right] = i.type
    e.op("add", right, e.const(i.type, 1), result=i.result)
    return True


def numbers(dtype: str, count: int) -> np.ndarray[Any, Any]:
    return (np.arange(count) * 7 % 23 + 1).astype(dtype)


def line(groups: int = 2) -> tuple[Builder, Reg, Reg]:
    """Return the beginning of a kernel, its linear index, and what it loads there from `a`."""
    b = Builder("line")
    a = b.buffer("a", "i32", groups * LANES, "read")
    place = b.add(b.mul(b.grid(groups), b.const("i32", LANES)), b.lane(LANES))
    return b, place, b.load(a, place)


def straight(groups: int = 2) -> Trial:
    """Return a launch without loops: `(a ^ 5) >> 1`."""
    b, place, x = line(groups)
    changed = b.op("reduce.xor", x, b.const("i32", 5))
    b.store(b.buffer("out", "i32", groups * LANES, "write"), place, b.op("mul.shr", changed, b.const("i32", 1)))
    return Trial(b.build(), {}, {"a": numbers("i4", groups * LANES)})


def looped(trips: int = 6) -> Trial:
    """Return a launch that folds its number with xor and shifts for some trips, the count being data."""
    b, place, x = line()
    count = b.load(b.buffer("n", "i32", 1, "read"), b.const("i32", 0))
    with b.serial(count, v=x) as loop:
        mixed = b.op("reduce.xor", loop["v"], loop.index)
        loop.next(v=b.op("mul.shl", mixed, b.const("i32", 1)))
    b.store(b.buffer("out", "i32", 2 * LANES, "write"), place, loop["v"])
    return Trial(b.build(), {}, {"a": numbers("i4", 2 * LANES), "n": np.array([trips], "i4")})


# --- values -------------------------------------------------------------------------------------------------------


def test_a_launch_that_passes_has_none() -> None:
    assert seen(straight(), lambda kernel: kernel) is None


def test_a_launch_whose_values_are_open_has_none() -> None:
    assert seen(replace(straight(), device_check_only=True), at("reduce.xor", off_by_one)) is None


def test_the_first_wrong_register_is_named_with_what_it_got_and_gave() -> None:
    divergence = found(straight(), at("reduce.xor", off_by_one))
    assert divergence.text.partition(" = ")[2].startswith("reduce.xor")
    assert (divergence.group, divergence.lane, divergence.iteration) == (0, 0, ())
    assert list(divergence.inputs.values()) == [Number("1", "0x00000001"), Number("5", "0x00000005")]
    assert divergence.actual == Number("5", "0x00000005")
    assert divergence.accepted == "4 (0x00000004)"


def test_the_instruction_is_numbered_in_the_body_of_the_kernel_given() -> None:
    trial = straight()
    divergence = found(trial, at("mul.shr", off_by_one))
    assert trial.kernel.body[divergence.instruction].name == "mul.shr"


def test_the_lane_and_group_are_those_that_go_wrong_first() -> None:
    def last_wrong(i: Instr, e: Emitter) -> bool:
        e.out.append(replace(i, result=(right := e.fresh())))
        e.types[right] = Type(I32)
        wrong = e.op("add", right, e.const(Type(I32), 1))
        e.op("phi.eq", i.args[0], e.const(Type(I32), int(numbers("i4", 8)[6])), wrong, right, result=i.result)
        return True

    divergence = found(straight(), at("reduce.xor", last_wrong))
    assert (divergence.group, divergence.lane) == (1, 2)


def test_the_iteration_that_goes_wrong_first_is_named() -> None:
    def from_three_on(i: Instr, e: Emitter) -> bool:
        e.out.append(replace(i, result=(right := e.fresh())))
        e.types[right] = Type(I32)
        wrong = e.op("add", right, e.const(Type(I32), 1))
        e.op("phi.lt", e.const(Type(I32), 2), i.args[1], wrong, right, result=i.result)
        return True

    divergence = found(looped(), at("reduce.xor", from_three_on))
    assert "reduce.xor" in divergence.text
    assert divergence.iteration == (3,)


def test_only_the_group_that_is_wrong_is_watched_where_there_are_many() -> None:
    groups = 1 << 16

    def far(i: Instr, e: Emitter) -> bool:
        e.out.append(replace(i, result=(right := e.fresh())))
        e.types[right] = Type(I32)
        wrong = e.op("add", right, e.const(Type(I32), 2))
        e.op("phi.eq", i.args[0], e.const(Type(I32), 99), wrong, right, result=i.result)
        return True

    trial = straight(groups)
    trial.inputs["a"][4 * 60_001 + 3] = 99
    divergence = found(trial, at("reduce.xor", far))
    assert (divergence.group, divergence.lane) == (60_001, 3)


@pytest.mark.parametrize("form", ["phi.lt", "phi.eq"])
def test_a_wrong_bool_is_seen(form: str) -> None:
    b, place, x = line()
    truth = b.op(form, x, b.const("i32", 9), b.const("bool", True), b.const("bool", False))
    b.store(b.buffer("out", "i32", 2 * LANES, "write"), place, b.op("phi.eq", truth, b.const("bool", True), x, place))

    def inverted(i: Instr, e: Emitter) -> bool:
        if e.types[i.args[2]].dtype.name != "bool":
            return False
        e.out.append(replace(i, args=(*i.args[:2], i.args[3], i.args[2])))
        return True

    trial = Trial(b.build(), {}, {"a": numbers("i4", 2 * LANES)})
    assert found(trial, at(form, inverted)).text.partition(" = ")[2].startswith(f"{form} ")


@pytest.mark.parametrize(("dtype", "numpy"), [("f32", "f4"), ("u8", "u1"), ("i32", "i4"), ("f16", "f2")])
def test_vectors_and_narrow_dtypes_are_seen(dtype: str, numpy: str) -> None:
    b = Builder("vectors")
    a, out = b.buffer("a", dtype, LANES * 4, "read"), b.buffer("out", dtype, LANES * 4, "write")
    b.grid(1)
    place = b.mul(b.lane(LANES), b.const("i32", 4))
    b.store_vec(out, place, b.add(b.load_vec(a, place, 4), b.splat(b.const(dtype, 3), 4)))
    divergence = found(Trial(b.build(), {}, {"a": numbers(numpy, LANES * 4)}), at("add", last_element_wrong))
    assert " add " in divergence.text
    assert divergence.note == "element 3 of the vector"


def last_element_wrong(i: Instr, e: Emitter) -> bool:
    """Leave the last element of a vector as its first operand has it."""
    assert i.type is not None
    if i.type.lanes == 1:
        return False
    parts = [lane(e, i.args[0], k) for k in range(i.type.lanes)]
    three = e.const(i.type.scalar, 3)
    sums = [*(e.op("add", part, three) for part in parts[:-1]), parts[-1]]
    e.op("mov.pack", *sums, result=i.result)
    return True


def full(outputs: int, wrong: int) -> tuple[Trial, Callable[[Kernel], Kernel]]:
    """Return a launch with eight buffers, and a fault in what is stored to one of its outputs."""
    b = Builder("full")
    inputs = [b.buffer(f"a{k}", "i32", LANES, "read") for k in range(8 - outputs)]
    stored = [b.buffer(f"out{k}", "f32" if k % 2 else "i32", LANES, "write") for k in range(outputs)]
    b.grid(1)
    place = b.lane(LANES)
    total = b.op("reduce.xor", *(b.load(a, place) for a in inputs))
    for k, out in enumerate(stored):
        own = b.op("reduce.max", total, b.const("i32", k))
        b.store(out, place, b.cast(own, "f32") if k % 2 else own)
    kernel = b.build()

    def expand(i: Instr, e: Emitter) -> bool:
        return i.result == maxima[wrong] and off_by_one(i, e)

    maxima = [i.result for i in kernel.body if i.name == "reduce.max"]
    trial = Trial(kernel, {}, {a.name: numbers("i4", LANES) * (k + 1) for k, a in enumerate(inputs)})
    return trial, lambda k: rewrite(k, expand)


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_outputs_are_left_out_where_the_device_takes_no_more_buffers(wrong: int) -> None:
    trial, fault = full(3, wrong)
    divergence = found(trial, fault)
    maxima = [n for n, i in enumerate(trial.kernel.body) if i.name == "reduce.max"]
    assert divergence.instruction == maxima[wrong]


def test_registers_are_watched_without_the_only_output_where_it_takes_the_last_buffer() -> None:
    trial, fault = full(1, 0)
    assert "reduce.max" in found(trial, fault).text


def test_a_store_to_the_last_buffer_cannot_be_told_from_others() -> None:
    trial, _ = full(1, 0)
    assert seen(trial, at("store", lambda i, e: i.mems == ("out0",))) is None


# --- control and memory -------------------------------------------------------------------------------------------


def count_plus(change: int) -> Callable[[Kernel], Kernel]:
    """Make the fault of a loop that runs more or less often."""

    def expand(i: Instr, e: Emitter) -> bool:
        e.out.append(replace(i, args=(e.op("add", i.args[0], e.const(Type(I32), change)),)))
        return True

    return at("loop.serial", expand)


@pytest.mark.parametrize(
    ("change", "trip", "note"),
    [
        (-1, 5, "this trip did not happen: the loop ended early"),
        (1, 6, "this trip should not happen: the loop ran too"),
    ],
)
def test_a_loop_that_runs_wrongly_often_is_named_with_the_trip(change: int, trip: int, note: str) -> None:
    divergence = found(looped(), count_plus(change))
    assert "loop.serial" in divergence.text
    assert divergence.iteration == (trip,)
    assert divergence.note.startswith(note)


def test_loops_in_loops_whose_counts_differ_between_lanes_are_watched_trip_by_trip() -> None:
    b, place, x = line()
    own, few = b.op("reduce.and", place, b.const("i32", 3)), b.load(b.buffer("n", "i32", 1, "read"), b.const("i32", 0))
    with b.serial(own, v=x) as outer:
        with b.serial(few, w=outer["v"]) as inner:
            inner.next(w=b.op("reduce.xor", inner["w"], inner.index, outer.index))
        outer.next(v=inner["w"])
    b.store(b.buffer("out", "i32", 2 * LANES, "write"), place, outer["v"])
    trial = Trial(b.build(), {}, {"a": numbers("i4", 2 * LANES), "n": np.array([3], "i4")})

    def wrong_at_two_one(i: Instr, e: Emitter) -> bool:
        e.out.append(replace(i, result=(right := e.fresh())))
        e.types[right] = Type(I32)
        wrong = e.op("add", right, e.const(Type(I32), 8))
        inside = e.op("phi.eq", i.args[1], e.const(Type(I32), 1), wrong, right)
        e.op("phi.eq", i.args[2], e.const(Type(I32), 2), inside, right, result=i.result)
        return True

    divergence = found(trial, at("reduce.xor", wrong_at_two_one))
    assert (divergence.group, divergence.lane, divergence.iteration) == (0, 3, (2, 1))


def test_a_loop_that_runs_far_too_often_stores_to_no_other_cells() -> None:
    divergence = found(looped(), count_plus(1000))
    assert "loop.serial" in divergence.text


def test_a_carry_that_keeps_its_value_is_named_in_the_trip_after() -> None:
    def kept(i: Instr, e: Emitter) -> bool:
        e.out.append(replace(i, carries=tuple((c, c if k == 0 else v) for k, (c, v) in enumerate(i.carries))))
        return bool(i.carries)

    divergence = found(looped(), at("endloop", kept))
    assert "phi.carry" in divergence.text
    assert divergence.iteration == (1,)
    assert divergence.note.endswith("its next value, was right in the trip before")


def test_a_store_is_named_where_every_register_is_right() -> None:
    def to_the_first(i: Instr, e: Emitter) -> bool:
        if i.mems != ("out",):
            return False
        e.out.append(replace(i, args=(e.const(Type(I32), 0), i.args[1])))
        return True

    divergence = found(straight(), at("store", to_the_first))
    assert divergence.text.startswith("store out ")
    assert divergence.note.startswith("every register is right, and out[0] is not")


def test_a_store_with_a_closed_gate_that_happens_is_named_as_such() -> None:
    b, place, x = line()
    gate = b.lt(place, b.const("i32", 5))
    b.store(b.buffer("out", "i32", 2 * LANES, "write"), place, x, gate=gate)

    def ungated(i: Instr, e: Emitter) -> bool:
        e.out.append(replace(i, gate="") if i.mems == ("out",) else i)
        return True

    divergence = found(Trial(b.build(), {}, {"a": numbers("i4", 8)}), at("store", ungated))
    assert (divergence.group, divergence.lane) == (1, 1)
    assert divergence.note.endswith("this store reaches it, but its gate is false")


def test_a_load_of_what_was_stored_wrongly_is_named_and_what_wrote_it() -> None:
    b, place, x = line()
    stage = b.shared("stage", "i32", LANES)
    own = b.op("reduce.and", place, b.const("i32", LANES - 1))
    b.store(stage, own, x)
    b.barrier()
    other = b.op("reduce.xor", own, b.const("i32", 1))
    b.store(b.buffer("out", "i32", 2 * LANES, "write"), place, b.load(stage, other))

    def elsewhere(i: Instr, e: Emitter) -> bool:
        if i.mems != ("stage",):
            return False
        e.out.append(replace(i, args=(i.args[0], e.const(Type(I32), 0))))
        return True

    divergence = found(Trial(b.build(), {}, {"a": numbers("i4", 8)}), at("store", elsewhere))
    assert "load stage" in divergence.text
    assert divergence.note.startswith("its index is right: it reads what `store stage ")
    assert "before the barrier at" in divergence.note


# --- faults that watching hides -----------------------------------------------------------------------------------


def contracts_single_uses(kernel: Kernel) -> Kernel:
    """Fuse a multiplication with the addition that is the only instruction to read it."""
    uses = [name for i in kernel.body for name in i.reads]
    products = {
        i.result: i for i in kernel.body if i.name == "mul" and i.type == Type(F32) and uses.count(i.result) == 1
    }

    def expand(i: Instr, e: Emitter) -> bool:
        if i.name != "add" or i.args[0] not in products:
            return False
        e.op("mul.add", *products[i.args[0]].args, i.args[1], result=i.result)
        return True

    return rewrite(kernel, expand)


def test_a_fault_that_watching_hides_is_named_by_its_consumer() -> None:
    b = Builder("contracted")
    a, out = b.buffer("a", "f32", 64, "read"), b.buffer("out", "f32", 64, "write")
    b.grid(1)
    place = b.lane(64)
    x = b.load(a, place)
    b.store(out, place, b.add(b.mul(x, x), b.const("f32", -1.0)))
    contents = (1 + np.arange(64) * 2.0**-20 / 3).astype(np.float32)
    divergence = found(Trial(b.build(), {}, {"a": contents}), contracts_single_uses)
    assert " = add " in divergence.text
    assert divergence.note.startswith("watching `t")
    assert " = mul " in divergence.note


def test_a_fault_that_no_copy_shows_is_laid_to_the_store_and_said_to_be_rare() -> None:
    def unless_watched(kernel: Kernel) -> Kernel:
        spoilt = at("store", lambda i, e: i.mems == ("out",))
        return spoilt(kernel) if len(kernel.buffers) == 2 else kernel

    divergence = found(straight(), unless_watched)
    assert divergence.text.startswith("store out ")
    assert divergence.note.startswith("no copy that watches registers fails")


# --- what does not come back --------------------------------------------------------------------------------------


def fatal(form: str, error: Callable[[str], DeviceError]) -> type[Wrapped]:
    """Make a device that does not come back from kernels with a form."""

    class Fatal(Wrapped):
        def execute(self, kernel: Kernel, *args: Any, **options: Any) -> Executed:
            if any(i.name == form for i in kernel.body):
                raise error("gone")
            return super().execute(kernel, *args, **options)

    return Fatal


@pytest.mark.parametrize(("error", "note"), [(DeviceLost, "the device process dies"), (DeviceHang, "the kernel that")])
@pytest.mark.parametrize(("make", "form"), [(straight, "reduce.xor"), (looped, "loop.serial"), (looped, "mul.shl")])
def test_the_first_instruction_is_named_that_does_not_come_back(
    error: Callable[[str], DeviceError], note: str, make: Callable[[], Trial], form: str
) -> None:
    trial = make()
    divergence = found(trial, fatal(form, error))
    assert trial.kernel.body[divergence.instruction].name == form
    assert divergence.note.startswith(note)


def test_a_wrong_value_that_leads_to_a_crash_is_named_before_it() -> None:
    b, place, x = line()
    changed = b.op("reduce.xor", x, b.const("i32", 5))
    table = b.buffer("table", "i32", 32, "read")
    b.store(b.buffer("out", "i32", 2 * LANES, "write"), place, b.load(table, changed))

    def far(i: Instr, e: Emitter) -> bool:
        e.op("add", i.args[0], e.const(Type(I32), 1 << 20), result=i.result)
        return True

    inputs: Mapping[str, np.ndarray[Any, Any]] = {"a": numbers("i4", 8), "table": numbers("i4", 32)}
    divergence = found(Trial(b.build(), {}, inputs), at("reduce.xor", far))
    assert "reduce.xor" in divergence.text
    assert "the device process dies" in divergence.note
