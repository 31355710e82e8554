"""Loads, stores, gathers, copies and atomic stores: the right elements, and no others."""

from __future__ import annotations

import numpy as np
import pytest

from portkit.backends.cpu import BACKEND
from portkit.backends.cpu.device import CpuDevice
from portkit.reference.generator import stream
from portkit.reference.values import run
from portkit.spec.builder import Builder, Mem, Reg
from portkit.spec.kernel import Kernel
from portkit.spec.types import DTYPES, DType
from tests.backends.launching import Array, assert_same, execute, operands

CAPABILITIES = BACKEND.capabilities
NUMBERS = [DTYPES[name] for name in CAPABILITIES.dtypes if name != "bool"]
FAR_AWAY = 2**31 - 1
"""An index that no buffer has; an access there would end the process."""


def values_of(dtype: DType, count: int) -> Array:
    [values] = operands(dtype, 1, seed="memory", extra=count)
    return values[:count]


def gates_and_indices(count: int) -> tuple[Array, Array]:
    """Half of the gates closed, with indices out of this world; the others a permutation."""
    draw = stream("gates")
    gates = (draw.bits(count) & np.uint32(1)).astype(np.int32)
    order = np.argsort(draw.bits(count), kind="stable").astype(np.int32)
    return gates, np.where(gates == 1, order, FAR_AWAY).astype(np.int32)


class Access:
    """A kernel under construction with 64 work-items: buffers x, index and gate to read, out to write."""

    def __init__(self, dtype: DType, lanes: int, access: str = "write") -> None:
        self.count, self.lanes = 64 * lanes, lanes
        b = self.b = Builder("access", "fast" if access == "readwrite" else "strict")
        self.x: Mem = b.buffer("x", dtype.name, self.count, "read")
        self.index: Mem = b.buffer("index", "i32", self.count, "read")
        self.gates: Mem = b.buffer("gates", "i32", self.count, "read")
        self.out: Mem = b.buffer("out", dtype.name, self.count, "readwrite" if access == "readwrite" else "write")
        group = b.grid(4)
        self.item = b.mul(b.add(b.mul(group, b.const("i32", 16)), b.lane(16)), b.const("i32", lanes))

    def read(self, source: Mem) -> Reg:
        return self.b.load(source, self.item) if self.lanes == 1 else self.b.load_vec(source, self.item, self.lanes)

    def write(self, value: Reg) -> None:
        if self.lanes == 1:
            self.b.store(self.out, self.item, value)
        else:
            self.b.store_vec(self.out, self.item, value)

    def gate(self) -> Reg:
        zero = self.b.splat(self.b.const("i32", 0), self.lanes)
        return self.b.lt(zero, self.read(self.gates))

    def other(self) -> Reg:
        value = self.b.bits_const(self.x.dtype.name, 0x55 << (self.x.dtype.bits - 8))
        return self.b.splat(value, self.lanes)


def agrees_with_reference(device: CpuDevice, kernel: Kernel, inputs: dict[str, Array]) -> None:
    assert_same(execute(device, kernel, inputs)["out"], run(kernel, {}, inputs)["out"])


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize("lanes", [1, 4])
def test_a_closed_gate_loads_nothing_and_gives_the_other_value(device: CpuDevice, dtype: DType, lanes: int) -> None:
    access = Access(dtype, lanes)
    gates, indices = gates_and_indices(access.count)
    access.write(access.b.load(access.x, access.read(access.index), gate=access.gate(), other=access.other()))
    inputs = {"x": values_of(dtype, access.count), "index": indices, "gates": gates}
    agrees_with_reference(device, access.b.build(), inputs)


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize("lanes", [1, 4])
def test_a_closed_gate_stores_nothing(device: CpuDevice, dtype: DType, lanes: int) -> None:
    access = Access(dtype, lanes)
    gates, indices = gates_and_indices(access.count)
    access.b.store(access.out, access.read(access.index), access.read(access.x), gate=access.gate())
    start = np.full(access.count, 7).astype(dtype.numpy)
    inputs = {"x": values_of(dtype, access.count), "index": indices, "gates": gates, "out": start}
    agrees_with_reference(device, access.b.build(), inputs)


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize("lanes", CAPABILITIES.lanes)
def test_a_gated_vector_is_loaded_and_stored_lane_by_lane(device: CpuDevice, dtype: DType, lanes: int) -> None:
    access = Access(dtype, lanes)
    gates, indices = gates_and_indices(access.count)
    gate, align = access.gate(), min(dtype.bytes * lanes, 64)
    loaded = access.b.load_vec(access.x, access.item, lanes, align, gate=gate, other=access.other())
    access.b.store_vec(access.out, access.item, loaded, align, gate=gate)
    inputs = {"x": values_of(dtype, access.count), "index": indices, "gates": gates}
    agrees_with_reference(device, access.b.build(), inputs)


def test_a_wholly_closed_vector_gate_touches_no_memory(device: CpuDevice) -> None:
    access = Access(DTYPES["f32"], 8)
    nowhere, closed = access.b.const("i32", FAR_AWAY - 7), access.gate()
    loaded = access.b.load_vec(access.x, nowhere, 8, gate=closed, other=access.other())
    access.b.store_vec(access.out, nowhere, loaded, gate=closed)
    access.write(loaded)
    inputs = {"x": values_of(DTYPES["f32"], access.count)}
    out = execute(device, access.b.build(), inputs)["out"]
    assert set(out.view(np.uint32)) == {0x55000000}


def test_a_vector_needs_no_more_alignment_than_an_element(device: CpuDevice) -> None:
    b = Builder("unaligned")
    x, out = b.buffer("x", "f64", 9, "read"), b.buffer("out", "f64", 9, "readwrite")
    b.grid(1)
    b.lane(1)
    one = b.const("i32", 1)
    b.store_vec(out, one, b.load_vec(x, one, 8))
    values = values_of(DTYPES["f64"], 9)
    assert_same(execute(device, b.build(), {"x": values})["out"][1:], values[1:])


def test_an_asynchronous_copy_is_complete_after_its_wait(device: CpuDevice) -> None:
    b = Builder("staging")
    x, out = b.buffer("x", "u16", 4 * 96, "read"), b.buffer("out", "u16", 4 * 96, "write")
    stage = b.shared("stage", "u16", 96)
    first = b.mul(b.grid(4), b.const("i32", 96))
    lane = b.lane(32)
    start = b.mul(lane, b.const("i32", 3))
    b.wait(b.async_copy(stage, start, x, b.add(first, start), 3))
    b.barrier()
    for part in range(3):
        at = b.add(lane, b.const("i32", 32 * part))
        back = b.add(b.const("i32", 95), b.mul(at, b.const("i32", -1)))
        b.store(out, b.add(first, at), b.load(stage, back))
    values = values_of(DTYPES["u16"], 4 * 96)
    assert_same(execute(device, b.build(), {"x": values})["out"], values.reshape(4, 96)[:, ::-1].reshape(-1))


def test_tokens_are_carried_through_a_loop(device: CpuDevice) -> None:
    b = Builder("double_buffer")
    x, out = b.buffer("x", "i32", 64, "read"), b.buffer("out", "i32", 8, "write")
    stage = b.shared("stage", "i32", 16)
    b.grid(1)
    lane = b.lane(8)
    zero, one, eight = (b.const("i32", n) for n in (0, 1, 8))
    token = b.async_copy(stage, lane, x, lane, 1)
    with b.serial(7, pending=token, total=zero) as loop:
        half = b.mul(b.op("reduce.and", loop.index, one), eight)
        other = b.op("reduce.xor", half, eight)
        ahead = b.add(b.mul(b.add(loop.index, one), eight), lane)
        issued = b.async_copy(stage, b.add(other, lane), x, ahead, 1)
        b.wait(loop["pending"])
        b.barrier()
        loop.next(pending=issued, total=b.add(loop["total"], b.load(stage, b.add(half, lane))))
    b.wait(loop["pending"])
    b.store(out, lane, b.add(loop["total"], b.load(stage, b.add(eight, lane))))
    values = np.arange(64, dtype=np.int32)
    assert execute(device, b.build(), {"x": values})["out"].tolist() == values.reshape(8, 8).sum(0).tolist()


# --- atomic stores ----------------------------------------------------------------------------------------------------


def contended(dtype: DType, kind: str, groups: int) -> Kernel:
    """Every work-item folds its value into one of three cells."""
    b = Builder("contended")
    x = b.buffer("x", dtype.name, groups * 16, "read")
    cells = b.buffer("cells", dtype.name, 3, "readwrite")
    item = b.add(b.mul(b.grid(groups), b.const("i32", 16)), b.lane(16))
    third = b.op("mul.hi", item, b.const("i32", 0x55555556))
    cell = b.add(item, b.mul(third, b.const("i32", -3)))
    b.op(f"store.atomic.{kind}", cell, b.load(x, item), mems=(cells,))
    return b.build()


@pytest.mark.parametrize("kind", CAPABILITIES.atomic)
@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_atomic_stores_of_all_threads_lose_nothing(device: CpuDevice, dtype: DType, kind: str) -> None:
    groups = 300
    small = stream(f"atomic/{kind}/{dtype}").bits(groups * 16) % np.uint32(100)
    if dtype.is_float and kind == "add":
        small = (small < 10).astype(np.uint32)  # few enough ones that bf16 holds every sum
        small[np.cumsum(small) > 200] = 0
    values = small.astype(dtype.numpy)
    start = np.array([1, 50, 0], dtype.numpy)
    cells = execute(device, contended(dtype, kind, groups), {"x": values, "cells": start})["cells"]
    parts = [values[cell::3].astype(np.int64) for cell in range(3)]
    fold = {"add": np.sum, "max": np.max, "min": np.min}[kind]
    expected = [int(fold(np.append(part, int(start[cell])))) for cell, part in enumerate(parts)]
    assert cells.tolist() == np.array(expected).astype(dtype.numpy).tolist()


@pytest.mark.parametrize("name", ["f32", "f64", "f16", "bf16"])
@pytest.mark.parametrize("kind", ["max", "min", "add"])
def test_a_float_atomic_store_of_nan_gives_nan(device: CpuDevice, name: str, kind: str) -> None:
    values = np.full(3 * 16, 1).astype(DTYPES[name].numpy)
    values[7] = np.nan
    cells = execute(device, contended(DTYPES[name], kind, 3), {"x": values, "cells": values[:3]})["cells"]
    assert np.isnan(cells.astype(np.float64)).tolist() == [False, True, False]


@pytest.mark.parametrize("name", ["i32", "f16"])
def test_a_closed_gate_makes_no_atomic_store(device: CpuDevice, name: str) -> None:
    dtype = DTYPES[name]
    access = Access(dtype, 1, "readwrite")
    gates, indices = gates_and_indices(access.count)
    access.b.op(
        "store.atomic.add", access.read(access.index), access.read(access.x), mems=(access.out,), gate=access.gate()
    )
    ones = np.ones(access.count).astype(dtype.numpy)
    out = execute(device, access.b.build(), {"x": ones, "index": indices, "gates": gates})["out"]
    expected = np.zeros(access.count)
    expected[indices[gates == 1]] = 1
    assert out.tolist() == expected.tolist()


def test_every_lane_of_a_scatter_lands(device: CpuDevice) -> None:
    access = Access(DTYPES["i16"], 16)
    order = np.argsort(stream("scatter").bits(access.count), kind="stable").astype(np.int32)
    access.b.store(access.out, access.read(access.index), access.read(access.x))
    values = values_of(DTYPES["i16"], access.count)
    out = execute(device, access.b.build(), {"x": values, "index": order})["out"]
    assert out[order].tolist() == values.tolist()
