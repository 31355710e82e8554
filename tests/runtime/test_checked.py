"""The index checks: no access leaves its memory, what is proven is left alone, and the first violation is reported."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from portkit.contract import Capabilities
from portkit.errors import InvalidKernelError
from portkit.runtime.checked import add_index_checks, first_violation, report_buffer
from portkit.spec.builder import Builder, Mem, Reg
from portkit.spec.geometry import grid_counts
from portkit.spec.kernel import Kernel
from portkit.spec.verify import verify
from tests.fakes.evaluator import Evaluator

BASE = Capabilities("base", "1", "tests", "stand-in")
ATOMIC = Capabilities(
    "atomic", "1", "tests", "stand-in", extensions=("atomic", "vec"), atomic={"max": ("i32",)}, lanes=(4,)
)


def launch(kernel: Kernel, scalars: dict[str, int], **buffers: np.ndarray) -> dict[str, np.ndarray]:
    """Run a kernel on the evaluator, whose NumPy indexing refuses what is outside (but takes -1 for the last)."""
    device = Evaluator()
    handles = [device.allocate(buffers[b.name].nbytes) for b in kernel.buffers]
    for handle, buffer in zip(handles, kernel.buffers, strict=True):
        device.write(handle, 0, buffers[buffer.name].tobytes())
    device.launch(
        device.compile(kernel), grid_counts(kernel, scalars), handles, [scalars[s.name] for s in kernel.scalars]
    )
    return {
        b.name: np.frombuffer(device.read(h, 0, buffers[b.name].nbytes), b.dtype.numpy)
        for h, b in zip(handles, kernel.buffers, strict=True)
    }


def gather_kernel() -> Kernel:
    """Return `out[i] = x[at[i]]` over 8 lanes; x has 4 elements."""
    b = Builder("gather")
    at, x = b.buffer("at", "i32", 8, "read"), b.buffer("x", "i32", 4, "read")
    out = b.buffer("out", "i32", 8, "write")
    b.grid(1)
    lane = b.lane(8)
    b.store(out, lane, b.load(x, b.load(at, lane)))
    return b.build()


AT = np.array([0, 3, 4, -1, 2**31 - 1, -(2**31), 1, 2], np.int32)


def test_a_load_outside_gives_zero_and_one_inside_its_element() -> None:
    checked = add_index_checks(gather_kernel(), BASE)
    verify(checked)
    x = np.array([10, 20, 30, 40], np.int32)
    after = launch(checked, {}, at=AT, x=x, out=np.zeros(8, np.int32))
    assert after["out"].tolist() == [10, 40, 0, 0, 0, 0, 20, 30]


def test_a_store_outside_is_not_made() -> None:
    b = Builder("scatter")
    at, out = b.buffer("at", "i32", 8, "read"), b.buffer("out", "i32", 4, "write")
    b.grid(1)
    lane = b.lane(8)
    b.store(out, b.load(at, lane), lane)
    checked = add_index_checks(b.build(), BASE)
    verify(checked)
    assert launch(checked, {}, at=AT, out=np.full(4, -7, np.int32))["out"].tolist() == [0, 6, 7, 1]


def test_the_first_violation_is_reported_where_there_is_an_atomic_maximum() -> None:
    kernel = gather_kernel()
    checked = add_index_checks(kernel, ATOMIC)
    verify(checked)
    extra = report_buffer(kernel, checked)
    assert extra is not None
    buffers = {
        "at": AT,
        "x": np.arange(4, dtype=np.int32),
        "out": np.zeros(8, np.int32),
        extra.name: np.zeros(1, np.int32),
    }
    found = first_violation(kernel, int(launch(checked, {}, **buffers)[extra.name][0]))
    assert found is not None
    assert (found.name, found.mems) == ("load", ("x",))
    inside = {**buffers, "at": np.zeros(8, np.int32)}
    assert first_violation(kernel, int(launch(checked, {}, **inside)[extra.name][0])) is None


def test_no_report_is_added_where_the_device_has_no_room_for_a_buffer() -> None:
    b = Builder("many")
    mems = [b.buffer(f"m{k}", "i32", 4, "read") for k in range(7)]
    out = b.buffer("out", "i32", 4, "write")
    b.grid(1)
    lane = b.lane(8)
    b.store(out, lane, b.load(mems[0], lane))
    kernel = b.build()
    assert report_buffer(kernel, add_index_checks(kernel, ATOMIC)) is None


def one_access(index: Callable[[Builder, Reg, Reg], Reg], extent: int | str | tuple[int | str, ...] = 64) -> Kernel:
    """Return a kernel that stores 0 at the index made of a grid index below 4, and a lane below 16."""
    b = Builder("one")
    b.scalar("n", "i32")
    out = b.buffer("out", "i32", extent, "write")
    g, lane = b.grid(4), b.lane(16)
    b.store(out, index(b, g, lane), b.const("i32", 0))
    return b.build()


def const(b: Builder, value: int) -> Reg:
    return b.const("i32", value)


def row_major(b: Builder, g: Reg, lane: Reg) -> Reg:
    return b.add(b.mul(g, const(b, 16)), lane)


PROVEN: dict[str, Callable[[Builder, Reg, Reg], Reg]] = {
    "row major": row_major,
    "shifted": lambda b, g, lane: b.add(b.op("mul.shl", g, const(b, 4)), lane),
    "masked": lambda b, g, lane: b.op("reduce.and", b.mul(g, b.mul(g, const(b, 1 << 30))), const(b, 63)),
    "clamped": lambda b, g, lane: b.op(
        "reduce.min", b.op("reduce.max", b.add(g, const(b, -9)), const(b, 0)), const(b, 63)
    ),
    "halved": lambda b, g, lane: b.op("mul.shr", b.mul(b.add(lane, lane), const(b, 4)), const(b, 1)),
    "selected": lambda b, g, lane: b.lt(g, lane, g, lane),
    "wide and back": lambda b, g, lane: b.cast(b.cast(row_major(b, g, lane), "u32"), "i32"),
}


@pytest.mark.parametrize("index", PROVEN.values(), ids=PROVEN.keys())
def test_an_index_that_is_proven_inside_is_left_alone(index: Callable[[Builder, Reg, Reg], Reg]) -> None:
    kernel = one_access(index)
    assert add_index_checks(kernel, BASE) == kernel


UNPROVEN: dict[str, Callable[[Builder, Reg, Reg], Reg]] = {
    "one too far": lambda b, g, lane: b.add(row_major(b, g, lane), const(b, 1)),
    "one too low": lambda b, g, lane: b.add(lane, const(b, -1)),
    "wrapping": lambda b, g, lane: b.mul(b.add(g, const(b, 1 << 30)), const(b, 4)),
    "by a scalar": lambda b, g, lane: b.lt(g, lane, lane, Reg("n", lane.type)),
    "negative mask": lambda b, g, lane: b.op("reduce.and", b.add(lane, const(b, -8)), const(b, -4)),
    "shift by a register": lambda b, g, lane: b.op("mul.shl", g, lane),
    "float": lambda b, g, lane: b.cast(b.cast(lane, "f32"), "i32"),
    "unsigned": lambda b, g, lane: b.cast(b.add(b.cast(lane, "u32"), b.const("u32", 2**32 - 1)), "i32"),
}


@pytest.mark.parametrize("index", UNPROVEN.values(), ids=UNPROVEN.keys())
def test_an_index_that_is_not_proven_gets_a_check(index: Callable[[Builder, Reg, Reg], Reg]) -> None:
    kernel = one_access(index)
    checked = add_index_checks(kernel, BASE)
    verify(checked)
    (store,) = [i for i in checked.body if i.name == "store"]
    assert store.gate


def guarded(extent: str | tuple[int | str, ...]) -> Kernel:
    """Return the usual tail guard: `store out i if i < n`."""
    b = Builder("guarded")
    n = b.scalar("n", "i32")
    out = b.buffer("out", "i32", extent, "write")
    g, lane = b.grid(4), b.lane(16)
    i = row_major(b, g, lane)
    b.store(out, i, lane, gate=b.lt(i, n))
    return b.build()


def test_a_gate_against_the_extent_itself_is_proof() -> None:
    assert add_index_checks(guarded("n"), BASE) == guarded("n")


def test_a_gate_against_another_number_is_proof_only_where_the_scalars_are_known() -> None:
    kernel = guarded((2, "n"))
    assert add_index_checks(kernel, BASE) != kernel
    assert add_index_checks(kernel, BASE, {"n": 20}) == kernel


@pytest.mark.parametrize(("n", "stored"), [(1, 3), (20, 60), (64, 64), (2**30, 64), (0, 0)])
def test_a_product_extent_is_computed_and_saturates(n: int, stored: int) -> None:
    kernel = one_access(lambda b, g, lane: row_major(b, g, lane), extent=(3, "n"))
    checked = add_index_checks(kernel, BASE)
    verify(checked)
    after = launch(checked, {"n": n}, out=np.full(min(3 * n, 64), -7, np.int32))["out"]
    assert np.count_nonzero(after == 0) == stored


def test_the_kernels_own_gate_still_holds() -> None:
    b = Builder("both")
    at, out = b.buffer("at", "i32", 8, "read"), b.buffer("out", "i32", 4, "write")
    b.grid(1)
    lane = b.lane(8)
    b.store(out, b.load(at, lane), lane, gate=b.lt(lane, const(b, 2)))
    checked = add_index_checks(b.build(), BASE)
    assert launch(checked, {}, at=AT, out=np.full(4, -7, np.int32))["out"].tolist() == [0, -7, -7, 1]


def vector_kernel(form: str) -> Kernel:
    b = Builder("vector")
    at, x = b.buffer("at", "i32", 8, "read"), b.buffer("x", "f32", 16, "readwrite")
    b.grid(1)
    lane = b.lane(8)
    index = b.load(at, lane)
    wide = b.splat(index, 4)
    value = b.splat(b.const("f32", 1.0), 4)
    actions: dict[str, Callable[[Builder, Mem], object]] = {
        "load.vec": lambda b, x: b.load_vec(x, index, 4, align=16),
        "store.vec": lambda b, x: b.store_vec(x, index, value, align=16),
        "load.gather": lambda b, x: b.load(x, wide),
        "store.scatter": lambda b, x: b.store(x, wide, value),
    }
    actions[form](b, x)
    return b.build()


@pytest.mark.parametrize("form", ["load.vec", "store.vec", "load.gather", "store.scatter"])
@pytest.mark.parametrize("capabilities", [BASE, ATOMIC], ids=["plain", "reporting"])
def test_vector_accesses_get_checks_that_verify(form: str, capabilities: Capabilities) -> None:
    checked = add_index_checks(vector_kernel(form), capabilities)
    verify(checked)
    (access,) = [i for i in checked.body if i.name == form]
    assert checked.types[access.gate].lanes == 4


def copy_kernel(extent: int | str) -> Kernel:
    b = Builder("copy")
    b.scalar("n", "i32")
    at, x = b.buffer("at", "i32", 8, "read"), b.buffer("x", "f32", extent, "read")
    tile = b.shared("tile", "f32", 32)
    b.grid(1)
    lane = b.lane(8)
    b.wait(b.async_copy(tile, b.load(at, const(b, 0)), x, b.mul(const(b, 1), lane), 4))
    return b.build()


def test_an_asynchronous_copy_is_moved_inside() -> None:
    checked = add_index_checks(copy_kernel(16), BASE)
    verify(checked)
    (copy,) = [i for i in checked.body if i.name == "load.async"]
    (original,) = [i for i in copy_kernel(16).body if i.name == "load.async"]
    assert copy.args[0] != original.args[0]
    assert copy.args[1] == original.args[1]


@pytest.mark.parametrize("scalars", [None, {"n": 3}])
def test_an_asynchronous_copy_that_may_not_fit_is_refused(scalars: dict[str, int] | None) -> None:
    with pytest.raises(InvalidKernelError, match="valid_c3"):
        add_index_checks(copy_kernel("n"), BASE, scalars)
