"""The port to any machine with a C compiler: what it says where something is missing, and what it leaves behind."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from portkit.backends.c import BACKEND
from portkit.backends.toolkit import host_compiler
from portkit.contract import Backend, Caching
from portkit.errors import CannotRunHere, CompileError, DeviceError, OutOfMemory
from portkit.reference.generator import stream
from portkit.reference.values import run
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel
from tests.backends.c.opening import needs_the_backend, open_device
from tests.backends.launching import assert_same, execute
from tests.backends.structured import structured_kernel

if TYPE_CHECKING:
    from portkit.backends.c.device import CDevice

pytestmark = needs_the_backend


@pytest.fixture(scope="module")
def device() -> Iterator[CDevice]:
    opened = open_device()
    yield opened
    opened.close()


def numbered(lanes: int = 8) -> Kernel:
    """Each lane of each group writes how often its element was written, so that none is left out or run twice."""
    b = Builder("numbered")
    n = b.scalar("n", "i32")
    out = b.buffer("out", "i32", 1 << 16, "readwrite")
    at = b.add(b.mul(b.grid(n), b.const("i32", lanes)), b.lane(lanes))
    b.store(out, at, b.add(b.load(out, at), b.const("i32", 1)))
    return b.build()


def test_the_backend_can_run_here_and_says_on_what() -> None:
    assert isinstance(BACKEND, Backend)
    assert BACKEND.name == BACKEND.capabilities.name == "c"


def test_importing_the_backend_loads_neither_cffi_nor_llvmlite() -> None:
    code = "import sys, portkit.backends.c; sys.exit(bool({'cffi', 'llvmlite'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_cffi_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portkit.backends.c.find_spec", lambda _: None)
    with pytest.raises(CannotRunHere, match=r'cffi is not installed; pip install "portkit\[c\]"'):
        BACKEND.open()


def test_a_missing_compiler_is_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(host_compiler, "find_spec", lambda _: None)
    with pytest.raises(CannotRunHere, match=r"no C compiler.*install gcc or clang"):
        BACKEND.open()


def test_the_device_names_its_compiler(device: CDevice) -> None:
    assert "threads" in device.info.device
    assert device.info.compiler


def test_what_the_compiler_says_of_a_kernel_is_passed_on(device: CDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portkit.backends.c.device._FLAGS", ("--no-such-option",))
    with pytest.raises(CompileError, match=r"exited with status 1: .*no-such-option"):
        device.compile(numbered())


@pytest.mark.parametrize("groups", [0, 1, 2, 7, 8, 9, 1000])
def test_every_group_runs_once_however_they_are_shared_out(device: CDevice, groups: int) -> None:
    out = execute(device, numbered(), {}, {"n": groups})["out"]
    assert out.tolist() == [1] * 8 * groups + [0] * (len(out) - 8 * groups)


@pytest.mark.parametrize("seed", range(6))
def test_random_loops_and_barriers_give_the_bits_of_the_reference(device: CDevice, seed: int) -> None:
    kernel = structured_kernel(seed)
    cells = kernel.buffers[0].extent.evaluate({})
    inputs = {"source": stream(f"lanes/{seed}").bits(cells).view(np.int32)}
    assert_same(execute(device, kernel, inputs)["out"], run(kernel, {}, inputs)["out"])


def test_a_binary_is_loaded_by_another_device(device: CDevice) -> None:
    assert isinstance(device, Caching)
    code = device.compile_to_binary(numbered())
    other = open_device()
    executable, buffer = other.load_binary(numbered(), code), other.allocate(4 << 16)
    other.write(buffer, 0, bytes(4 << 16))
    other.launch(executable, [2], [buffer], [2])
    assert np.frombuffer(other.read(buffer, 0, 68), np.int32).tolist() == [1] * 16 + [0]
    other.close()


def test_a_binary_of_another_machine_is_refused(device: CDevice) -> None:
    code = device.compile_to_binary(numbered())
    with pytest.raises(DeviceError, match="loading kernel numbered"):
        device.load_binary(numbered(), type(code)(code.source, b"no library", code.scratch))


def test_nothing_stays_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened = open_device()
    executable = opened.compile(numbered())
    assert not list(tmp_path.iterdir())
    executable.release()
    opened.close()


def test_scratch_memory_that_the_system_has_not_is_out_of_memory(device: CDevice) -> None:
    code = device.compile_to_binary(numbered())
    executable = device.load_binary(numbered(), type(code)(code.source, code.binary, 1 << 60))
    buffer = device.allocate(4 << 16)
    with pytest.raises(OutOfMemory, match="launching kernel numbered"):
        device.launch(executable, [1], [buffer], [1])
    device.free(buffer)


def test_each_thread_has_scratch_memory_of_its_own() -> None:
    from portkit.backends.c.device import HostDriver

    driver = HostDriver(BACKEND.capabilities)
    blocks = driver.scratch(1000)
    addresses = sorted(int(driver.ffi.cast("uintptr_t", block)) for block in blocks)
    assert all(address % 64 == 0 for address in addresses)
    assert all(b - a >= 1000 for a, b in itertools.pairwise(addresses))
    driver.close()


@pytest.mark.parametrize("shift", [-3, 0, 5, -(2**31)])
def test_an_index_may_begin_below_zero_and_a_sum_may_wrap(device: CDevice, shift: int) -> None:
    """out[i] = x[base + i] where base = shift and the lane starts at -shift, all modulo 2^32."""
    b = Builder("shifted")
    x, out = b.buffer("x", "i32", 64, "read"), b.buffer("out", "i32", 64, "write")
    base = b.scalar("base", "i32")
    b.grid(1)
    lane = b.lane(64)
    back = b.mul(base, b.const("i32", -1))
    at = b.add(b.add(base, lane), b.add(back, b.const("i32", 0)))
    low = b.add(base, b.add(lane, b.const("i32", 4)))
    inside = b.op("reduce.and", b.lt(b.const("i32", -1), low), b.lt(low, b.const("i32", 64)))
    b.store(out, at, b.load(x, low, gate=inside, other=b.const("i32", -1)))
    values = np.arange(100, 164, dtype=np.int32)
    made = execute(device, b.build(), {"x": values}, {"base": shift})["out"]
    reached = [lane + 4 + shift for lane in range(64)]
    assert made.tolist() == [int(values[at]) if 0 <= at < 64 else -1 for at in reached]
