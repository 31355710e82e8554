"""The webgpu device: transfers at any byte, parts of buffers, large grids, and what happens when something is wrong."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from portkit.backends.drivers.device import CheckedDevice
from portkit.contract import Code
from portkit.errors import CompileError, DeviceError, DeviceHang, DeviceLost, OutOfMemory
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel
from portkit.spec.text import parse
from tests.backends.webgpu.test_wgsl import LANES, meeting

WebGpu = CheckedDevice[Any]
SECONDS = 60.0
ENDLESS = 1 << 30
"""Turns that llvmpipe takes for endless, however many are written in one."""


def filled(device: WebGpu, data: bytes) -> int:
    handle = device.allocate(len(data))
    device.write(handle, 0, data)
    return handle


def counted(size: int) -> bytes:
    return bytes(n % 251 for n in range(size))


# --- transfers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offset", "size"), list(itertools.product((0, 1, 3, 4, 62), (0, 1, 2, 4, 5, 37))))
def test_any_bytes_are_written_and_read_and_their_neighbours_kept(webgpu: WebGpu, offset: int, size: int) -> None:
    before, new = counted(103), bytes([255] * size)
    handle = filled(webgpu, before)
    webgpu.write(handle, offset, new)
    assert webgpu.read(handle, 0, 103) == before[:offset] + new + before[offset + size :]
    assert webgpu.read(handle, offset, size) == new
    webgpu.free(handle)


@pytest.mark.parametrize(("target", "source", "size"), [(0, 0, 64), (1, 0, 9), (4, 8, 3), (3, 5, 31), (8, 4, 0)])
def test_any_bytes_are_copied_between_buffers(webgpu: WebGpu, target: int, source: int, size: int) -> None:
    to, start = filled(webgpu, bytes(96)), filled(webgpu, counted(96))
    webgpu.copy(to, target, start, source, size)
    expected = bytes(target) + counted(96)[source : source + size] + bytes(96 - target - size)
    assert webgpu.read(to, 0, 96) == expected
    webgpu.free(to)
    webgpu.free(start)


def test_a_buffer_is_copied_into_another_part_of_itself(webgpu: WebGpu) -> None:
    handle = filled(webgpu, counted(64))
    webgpu.copy(handle, 32, handle, 0, 32)
    assert webgpu.read(handle, 0, 64) == counted(32) * 2
    webgpu.free(handle)


# --- what is bound ------------------------------------------------------------------------------------------------


def sums(count: int) -> Kernel:
    b = Builder("sums")
    x, y, out = (b.buffer(n, "i32", count, "write" if n == "out" else "read") for n in ("x", "y", "out"))
    b.grid(1)
    lane = b.lane(count)
    b.store(out, lane, b.add(b.load(x, lane), b.load(y, lane)))
    return b.build()


def run(device: WebGpu, kernel: Kernel, grid: Sequence[int], buffers: Sequence[int], *scalars: int) -> None:
    executable = device.compile(kernel)
    device.launch(executable, grid, buffers, scalars)
    device.synchronise(SECONDS)
    executable.release()


def parts(device: WebGpu, *offsets: int) -> tuple[int, list[int]]:
    """Return a buffer of 128 numbers and parts of 16 of them at offsets in bytes."""
    whole = filled(device, np.arange(128, dtype=np.int32).tobytes())
    return whole, [device.view(whole, offset, 64) for offset in offsets]


def test_a_kernel_reads_and_writes_parts_of_one_buffer(webgpu: WebGpu) -> None:
    whole, views = parts(webgpu, 0, 64, 192)
    run(webgpu, sums(16), [1], views)
    found = np.frombuffer(webgpu.read(whole, 0, 512), np.int32)
    expected = np.arange(128, dtype=np.int32)
    expected[48:64] = np.arange(16) + np.arange(16, 32)
    assert found.tolist() == expected.tolist()
    webgpu.free(whole)


def test_a_kernel_reads_one_buffer_under_two_names(webgpu: WebGpu) -> None:
    whole, (x, out) = parts(webgpu, 64, 256)
    run(webgpu, sums(16), [1], [x, x, out])
    assert np.frombuffer(webgpu.read(out, 0, 64), np.int32).tolist() == list(range(32, 64, 2))
    webgpu.free(whole)


def test_a_device_that_aligns_to_more_bytes_is_given_where_a_buffer_begins(own_webgpu: WebGpu) -> None:
    from portkit.backends.webgpu.device import WgslCompiler

    driver: Any = own_webgpu._driver
    driver.alignment = 256
    own_webgpu._compiler = WgslCompiler(shifted=True)
    whole, views = parts(own_webgpu, 64, 320, 192)
    run(own_webgpu, sums(16), [1], views)
    assert np.frombuffer(own_webgpu.read(views[2], 0, 64), np.int32).tolist() == list(range(96, 128, 2))
    assert np.frombuffer(own_webgpu.read(whole, 0, 64), np.int32).tolist() == list(range(16))


def test_an_empty_part_at_the_end_of_a_buffer_is_bound(webgpu: WebGpu) -> None:
    b = Builder("nothing")
    n = b.scalar("n", "i32")
    x, out = b.buffer("x", "i32", "n", "read"), b.buffer("out", "i32", 1, "write")
    b.grid(1)
    b.lane(1)
    zero = b.const("i32", 0)
    b.store(out, zero, b.load(x, zero, b.lt(zero, n), b.const("i32", 7)))
    whole, out_handle = filled(webgpu, bytes(64)), filled(webgpu, bytes(4))
    run(webgpu, b.build(), [1], [webgpu.view(whole, 64, 0), out_handle], 0)
    assert webgpu.read(out_handle, 0, 4) == (7).to_bytes(4, "little")
    webgpu.free(whole)
    webgpu.free(out_handle)


@pytest.mark.parametrize("groups", [0, 1, 65_535, 65_536, 131_071])
def test_every_group_of_a_large_grid_runs_once(webgpu: WebGpu, groups: int) -> None:
    b = Builder("count")
    n = b.scalar("n", "i32")
    out = b.buffer("out", "i32", ("n",), "readwrite")
    g = b.grid(n)
    b.lane(1)
    b.store(out, g, b.add(b.load(out, g), b.add(g, b.const("i32", 1))))
    handle = filled(webgpu, bytes(4 * max(groups, 1)))
    run(webgpu, b.build(), [groups], [handle], groups)
    found = np.frombuffer(webgpu.read(handle, 0, 4 * groups), np.int32)
    assert np.array_equal(found, np.arange(1, groups + 1))
    webgpu.free(handle)


@pytest.mark.parametrize("counted_by", ["literal", "scalar", "memory"])
def test_lanes_meet_in_a_loop_however_its_count_is_given(webgpu: WebGpu, counted_by: str) -> None:
    counts, out = filled(webgpu, (3).to_bytes(4, "little")), filled(webgpu, bytes(4 * LANES))
    run(webgpu, meeting(counted_by), [1], [counts, out], 3)
    assert np.frombuffer(webgpu.read(out, 0, 4 * LANES), np.int32).tolist() == [0 + 1 + 2] * LANES
    webgpu.free(counts)
    webgpu.free(out)


@pytest.mark.parametrize("literal", [True, False], ids=["literal", "scalar"])
@pytest.mark.parametrize("count", [-(1 << 31), -5, 0, 1, 15, 16, 17, 4096, 5000, 65_600])
def test_a_loop_has_as_many_turns_as_it_counts(webgpu: WebGpu, count: int, literal: bool) -> None:
    b = Builder("turns")
    out, n = b.buffer("out", "i32", 2, "write"), b.scalar("n", "i32")
    b.grid(1)
    b.lane(1)
    zero, one = (b.const("i32", value) for value in (0, 1))
    with b.serial(b.const("i32", count) if literal else n, turns=zero, total=zero) as loop:
        loop.next(turns=b.add(loop["turns"], one), total=b.add(loop["total"], loop.index))
    b.store(out, zero, loop["turns"])
    b.store(out, one, loop["total"])
    handle = filled(webgpu, bytes(8))
    run(webgpu, b.build(), [1], [handle], count)
    turns = max(count, 0)
    expected = np.array([turns, turns * (turns - 1) // 2], np.int64).astype(np.int32)
    assert webgpu.read(handle, 0, 8) == expected.tobytes()
    webgpu.free(handle)


@pytest.mark.parametrize(
    "name", ["_", "__a", "fn", "let", "hidden", "fmul", "launch", "lane", "group", "cut", "run", "u32"]
)
def test_any_name_of_a_kernel_can_be_written(webgpu: WebGpu, name: str) -> None:
    text = f"""
    portkit 1.0-draft
    kernel names
    buffer {name} f32[4] readwrite
    scalar n_{name} f32
    shared s_{name} f32[4]
    begin
    g_{name} = loop.grid 1
    l_{name} = loop.lane 4
    v_{name} = load {name} l_{name}
    p_{name} = mul v_{name} n_{name}
    store s_{name} l_{name} p_{name}
    barrier
    w_{name} = load s_{name} l_{name}
    store {name} l_{name} w_{name}
    endloop l_{name}
    endloop g_{name}
    """
    handle = filled(webgpu, np.arange(4, dtype=np.float32).tobytes())
    executable = webgpu.compile(parse("\n".join(line.strip() for line in text.strip().splitlines())))
    webgpu.launch(executable, [1], [handle], [2.0])
    assert np.frombuffer(webgpu.read(handle, 0, 16), np.float32).tolist() == [0.0, 2.0, 4.0, 6.0]
    webgpu.free(handle)


# --- what can go wrong --------------------------------------------------------------------------------------------


def loops(turns: int, groups: int = 1) -> Kernel:
    """A kernel whose work no compiler can take out of the loop."""
    b = Builder("loops")
    out = b.buffer("out", "u32", 1, "readwrite")
    b.grid(groups)
    b.lane(1)
    zero = b.const("i32", 0)
    with b.serial(turns) as loop:
        mixed = b.op("reduce.xor", b.mul(b.load(out, zero), b.const("u32", 5)), b.cast(loop.index, "u32"))
        b.store(out, zero, mixed)
    return b.build()


def test_a_kernel_that_takes_too_long_is_a_hang(own_webgpu: WebGpu) -> None:
    executable = own_webgpu.compile(loops(turns=40_000, groups=2_000))
    own_webgpu.launch(executable, [2_000], [filled(own_webgpu, bytes(4))], [])
    with pytest.raises(DeviceHang, match=r"waiting for the device: no answer in 0\.01 s"):
        own_webgpu.synchronise(0.01)


def test_a_loop_that_the_driver_ends_is_a_hang_and_the_device_goes_on(webgpu: WebGpu) -> None:
    if "llvmpipe" not in webgpu.info.device:
        pytest.skip("llvmpipe alone is known to end loops")
    handle = filled(webgpu, bytes(4))
    with pytest.raises(DeviceHang, match=r"llvmpipe.*ended a loop"):
        run(webgpu, loops(ENDLESS), [1], [handle])
    webgpu.synchronise(SECONDS)
    run(webgpu, loops(60_000), [1], [handle])
    webgpu.free(handle)


def test_what_an_ended_loop_left_behind_is_not_read(webgpu: WebGpu) -> None:
    if "llvmpipe" not in webgpu.info.device:
        pytest.skip("llvmpipe alone is known to end loops")
    handle, executable = filled(webgpu, bytes(4)), webgpu.compile(loops(ENDLESS))
    webgpu.launch(executable, [1], [handle], [])
    with pytest.raises(DeviceHang, match="ended a loop"):
        webgpu.read(handle, 0, 4)
    assert len(webgpu.read(handle, 0, 4)) == 4
    webgpu.free(handle)


def test_a_text_that_does_not_compile_is_refused_with_the_words_of_the_compiler(webgpu: WebGpu) -> None:
    from portkit.backends.webgpu.device import Binary

    binary = msgspec.json.encode(Binary("fn run( {", 3, 12))
    with pytest.raises(CompileError, match="expected identifier"):
        webgpu.load_binary(sums(16), Code("", binary))


def test_a_buffer_larger_than_can_be_bound_is_out_of_memory(webgpu: WebGpu) -> None:
    with pytest.raises(OutOfMemory, match="more than the 134217728"):
        webgpu.allocate(1 << 30)


@pytest.mark.parametrize(
    ("theirs", "words", "ours"),
    [
        ("GPUOutOfMemoryError", "Not enough memory left.", OutOfMemory),
        ("GPUValidationError", "Buffer is invalid", DeviceError),
        ("GPUInternalError", "vkQueueSubmit failed", DeviceError),
        ("GPUValidationError", "unknown identifier `lost_3`", DeviceError),
        ("GPUValidationError", "Parent device is lost", DeviceLost),
    ],
)
def test_an_error_of_wgpu_is_named_and_keeps_its_words(
    webgpu: WebGpu, theirs: str, words: str, ours: type[DeviceError], monkeypatch: pytest.MonkeyPatch
) -> None:
    import wgpu

    error = getattr(wgpu, theirs)(words)

    def refuse(size: int, usage: int) -> None:
        raise error

    monkeypatch.setattr(webgpu._driver, "_create", refuse)
    with pytest.raises(ours, match="allocating 64 bytes") as caught:
        webgpu.allocate(64)
    assert type(caught.value) is ours
    assert words in str(caught.value)
    assert caught.value.__cause__ is error


def test_a_device_that_is_gone_is_lost(own_webgpu: WebGpu) -> None:
    handle = own_webgpu.allocate(64)
    driver: Any = own_webgpu._driver
    own_webgpu.launch(own_webgpu.compile(loops(1)), [1], [handle], [])
    driver._device.destroy()
    for ask in (
        lambda: own_webgpu.synchronise(1.0),
        lambda: own_webgpu.write(handle, 0, bytes(4)),
        lambda: own_webgpu.read(handle, 0, 4),
        lambda: own_webgpu.allocate(64),
        lambda: own_webgpu.compile(sums(16)),
    ):
        with pytest.raises(DeviceLost, match="lost"):
            ask()


def test_launches_leave_nothing_behind(webgpu: WebGpu) -> None:
    import wgpu

    executable = webgpu.compile(sums(16))
    whole, views = parts(webgpu, 0, 64, 192)

    def alive() -> dict[str, int]:
        gc.collect()  # what other tests left in cycles
        report: Any = wgpu.diagnostics
        counts: dict[str, dict[str, int]] = report.object_counts.get_dict()
        return {name: row["count"] for name, row in counts.items()}

    def launch(times: int) -> dict[str, int]:
        for _ in range(times):
            webgpu.launch(executable, [1], views, [])
            webgpu.synchronise(SECONDS)
            webgpu.read(whole, 0, 4)
        return alive()

    assert launch(10) == launch(50)
    executable.release()
    webgpu.free(whole)
