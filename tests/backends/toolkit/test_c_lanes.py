"""Kernels as C for devices that run the lanes: a dialect whose lane and group are parameters, run lane by lane."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from portkit.backends.toolkit.c_lanes import LaneDialect, print_c_lanes
from portkit.errors import CompileError
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel

Array = NDArray[Any]
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")

PLAIN = LaneDialect(
    types={"i1": "_Bool", "i8": "unsigned char", "i32": "unsigned", "i64": "unsigned long long", "float": "float"},
    signed={"i8": "signed char", "i32": "int", "i64": "long long"},
    suffixes={"i32": "u", "i64": "ull", "float": "f"},
    functions={"sqrt.float": "__builtin_sqrtf", "trunc.float": "__builtin_truncf"},
    reinterpret="((union {{ __typeof__({x}) from; {type} to; }}){{{x}}}).to",
    prologue=("#define true 1", "#define false 0"),
    head="void kernel({parameters})",
    buffer="{const}{type} *{name}",
    scalar="{type} {name}",
    parameters=("unsigned group_in", "unsigned lane_in"),
    shared="static {type} {name}[{extent}];",
    group_number="group_in",
    lane_number="lane_in",
    sync={"barrier": ("lanes_meet();",), "fence.group": (), "fence.device": ("device_fence();",)},
)


def run(kernel: Kernel, folder: Path, buffers: Mapping[str, Array], scalars: list[int], extents: list[int]) -> None:
    """Compile a kernel without barriers and call it for one lane after the other, the last first."""
    source, library = folder / "kernel.c", folder / "kernel.so"
    source.write_text(print_c_lanes(kernel, PLAIN))
    command = [str(COMPILER), "-shared", "-fPIC", "-O1", "-ffp-contract=off", str(source), "-o", str(library)]
    subprocess.run(command, check=True, capture_output=True)
    function: Callable[..., None] = ctypes.CDLL(str(library)).kernel
    pointers = [ctypes.c_void_p(buffers[b.name].ctypes.data) for b in kernel.buffers]
    for group in range(int(np.prod(extents))):
        for lane in reversed(range(kernel.lanes)):
            function(*pointers, *scalars, *extents, group, lane)


def row_sums() -> Kernel:
    """out[row, column] = the sum of x[row, column, k] for k < n, two grid loops and two lane loops."""
    b = Builder("row_sums")
    n = b.scalar("n", "i32")
    x, out = b.buffer("x", "f32", 4096, "read"), b.buffer("out", "f32", 48, "write")
    outer, inner = b.grid(2), b.grid(b.scalar("columns", "i32"))
    high, low = b.lane(2), b.lane(4)
    item = b.add(
        b.mul(b.add(b.mul(outer, b.const("i32", 3)), inner), b.const("i32", 8)),
        b.add(b.mul(high, b.const("i32", 4)), low),
    )
    start = b.mul(item, n)
    with b.serial(n, total=b.const("f32", 0.0)) as loop:
        loop.next(total=b.add(loop["total"], b.load(x, b.add(start, loop.index))))
    b.store(out, item, loop["total"])
    return b.build()


def gated() -> Kernel:
    b = Builder("gated")
    n = b.scalar("n", "i32")
    x, out = b.buffer("x", "f32", "n", "read"), b.buffer("out", "f32", 16, "write")
    b.grid(1)
    lane = b.lane(16)
    b.store(out, lane, b.load(x, lane, gate=b.lt(lane, n), other=b.const("f32", float("inf"))))
    return b.build()


def swapping() -> Kernel:
    """Fibonacci numbers: each turn gives a carry the value of the other."""
    b = Builder("swapping")
    out = b.buffer("out", "i32", 8, "write")
    b.grid(1)
    lane = b.lane(8)
    with b.serial(lane, a=b.const("i32", 0), next=b.const("i32", 1)) as loop:
        loop.next(a=loop["next"], next=b.add(loop["a"], loop["next"]))
    b.store(out, lane, loop["a"])
    return b.build()


def meeting(form: str) -> Kernel:
    b = Builder("meeting")
    out, board = b.buffer("out", "i32", 8, "write"), b.shared("board", "i32", 8)
    b.grid(1)
    lane = b.lane(8)
    b.store(board, lane, lane)
    b.op(form)
    b.store(out, lane, b.load(board, b.op("reduce.xor", lane, b.const("i32", 1))))
    return b.build()


needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc, clang)")


@needs_compiler
def test_every_lane_of_every_group_finds_its_own_indices(tmp_path: Path) -> None:
    x = np.arange(48 * 5, dtype=np.float32)
    out = np.zeros(48, np.float32)
    run(row_sums(), tmp_path, {"x": np.resize(x, 4096), "out": out}, [5, 3], [2, 3])
    assert out.tolist() == x.reshape(48, 5).sum(axis=1).tolist()


@needs_compiler
def test_a_closed_gate_loads_nothing_and_gives_the_other_value(tmp_path: Path) -> None:
    out = np.zeros(16, np.float32)
    run(gated(), tmp_path, {"x": np.array([1.5, -0.0], np.float32), "out": out}, [2], [1])
    assert out.tolist() == [1.5, -0.0, *[np.inf] * 14]


@needs_compiler
def test_carries_take_their_next_values_all_at_once(tmp_path: Path) -> None:
    out = np.zeros(8, np.int32)
    run(swapping(), tmp_path, {"out": out}, [], [1])
    assert out.tolist() == [0, 1, 1, 2, 3, 5, 8, 13]


def test_registers_keep_their_names() -> None:
    text = print_c_lanes(gated(), PLAIN)
    assert "const float *x_m" in text
    assert "unsigned n_s" in text


@pytest.mark.parametrize(("form", "line"), [("barrier", "lanes_meet();"), ("fence.device", "device_fence();")])
def test_synchronisation_is_written_by_the_dialects_table(form: str, line: str) -> None:
    assert f"    {line}\n" in print_c_lanes(meeting(form), PLAIN)


def test_what_a_dialect_has_no_type_for_is_refused_by_name() -> None:
    b = Builder("wide")
    data = b.buffer("data", "f64", 8, "readwrite")
    b.grid(1)
    lane = b.lane(8)
    b.store(data, lane, b.load(data, lane))
    with pytest.raises(CompileError, match="no type for 1 x double"):
        print_c_lanes(b.build(), PLAIN)
