"""Programs by graph: compiled once, kept in the cache folder, and given the buffers of the graph at hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from portkit.compiler import graph as g
from portkit.compiler.graph import Node, Source
from portkit.compiler.index import Variable
from portkit.contract import find_backend
from portkit.runtime import kernels, programs
from portkit.runtime.buffers import Buffer, from_array
from portkit.runtime.cache import Store
from portkit.runtime.devices import RuntimeDevice
from portkit.runtime.programs import compute
from portkit.spec.types import F32

Array = NDArray[np.float32]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of outputs of every graph that is compiled from now on."""
    seen: list[int] = []
    original = programs.compile_graph
    monkeypatch.setattr(programs, "compile_graph", lambda o, c: (seen.append(len(o)), original(o, c))[1])
    return seen


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PORTKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(kernels, "started", lambda: float("inf"))  # files that are being worked on count as old
    return tmp_path


@pytest.fixture
def device(folder: Path) -> Iterator[RuntimeDevice]:
    assert folder.exists()
    with RuntimeDevice(find_backend("cpu")) as opened:
        yield opened


def source(array: Array) -> Node:
    return g.source(Source(F32, array.shape, array))


def difference(a: Array, b: Array) -> Node:
    """2 a - b."""
    x, y = source(a), source(b)
    return g.map_("sub", g.map_("add", x, x), y)


def result(device: RuntimeDevice, *outputs: Node) -> list[Array]:
    def buffer_of(origin: Source) -> Buffer:
        return from_array(device, origin.buffer)

    made = compute(device, outputs, buffer_of)
    return [b.array(np.float32, o.shape, copy=True) for b, o in zip(made, outputs, strict=True)]  # type: ignore[arg-type]


def ramp(scale: float) -> Array:
    return np.arange(6, dtype=np.float32) * np.float32(scale)


def test_a_graph_is_compiled_once_for_all_buffers(device: RuntimeDevice, compiled: list[int]) -> None:
    for scale in (1.0, 3.0):
        assert (result(device, difference(ramp(scale), ramp(1.0)))[0] == ramp(2 * scale) - ramp(1.0)).all()
    assert (result(device, difference(ramp(1.0), ramp(5.0)))[0] == ramp(-3.0)).all()
    assert compiled == [1]


def test_an_output_that_is_a_source_is_its_buffer(device: RuntimeDevice) -> None:
    x = source(ramp(1.0))
    doubled, same = result(device, g.map_("add", x, x), x)
    assert (doubled == ramp(2.0)).all()
    assert (same == ramp(1.0)).all()


def test_the_next_process_finds_the_program_in_the_folder(folder: Path, compiled: list[int]) -> None:
    for scale in (1.0, 2.0, 3.0):
        with RuntimeDevice(find_backend("cpu")) as device:
            assert (result(device, difference(ramp(scale), ramp(1.0)))[0] == ramp(2 * scale - 1)).all()
    assert compiled == [1]
    assert sorted(p.suffix for p in folder.iterdir()) == [".kernel", ".program"]


@pytest.mark.parametrize("contents", [b"", b"\x98\x63\x90\x90\x90\x90\x90\x90\x90"])
def test_an_entry_that_is_no_program_is_made_again(folder: Path, compiled: list[int], contents: bytes) -> None:
    for _ in range(3):
        with RuntimeDevice(find_backend("cpu")) as device:
            result(device, difference(ramp(1.0), ramp(1.0)))
        (entry,) = folder.glob("*.program")
        if len(compiled) == 1:
            Store(folder).put(entry.name, contents)
    assert compiled == [1, 1]


def test_one_program_serves_all_extents_of_a_dimension(device: RuntimeDevice, compiled: list[int]) -> None:
    n = Variable("n", 1, 100)
    for extent in (1, 7, 100):
        array = np.ones(extent, np.float32)
        x = g.source(Source(F32, (n,), array))
        outputs = [g.map_("add", x, x), g.reduce("add", x, [0])]
        made = compute(device, outputs, lambda s: from_array(device, s.buffer), {"n": extent})
        assert (made[0].array(np.float32, (extent,)) == 2).all()
        assert made[1].array(np.float32, (1,)).tolist() == [extent]
    assert compiled == [2]


def softmax(array: Array) -> Node:
    x = source(array)
    top = g.expand(g.reduce("max", x, [1]), x.shape)
    raised = g.map_("exp", g.map_("sub", x, top))
    return g.map_("div", raised, g.expand(g.reduce("add", raised, [1]), x.shape))


def test_a_softmax_from_the_folder_is_ready_in_five_milliseconds(folder: Path) -> None:
    """In a process that has imported everything; processor time, as others may use the processor too."""
    array = np.random.default_rng(1).standard_normal((64, 512), np.float32)
    exact = np.exp(array.astype(np.float64)) / np.exp(array.astype(np.float64)).sum(1, keepdims=True)
    times: list[float] = []
    for _ in range(4):
        with RuntimeDevice(find_backend("cpu")) as device:
            assert device.programs is not None
            start = time.thread_time()
            (made,) = result(device, softmax(array))
            times.append(time.thread_time() - start)
        assert np.abs(made - exact).max() < np.finfo(np.float32).eps
    assert len(list(folder.glob("*.program"))) == 1
    assert min(times[1:]) < 5e-3
