"""The port to RISC-V: vectors of any length, code that replaces code, and what it says where something is missing."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from portkit.backends.drivers.device import CheckedDevice
from portkit.backends.riscv import BACKEND, device, kernel
from portkit.backends.riscv.isa import ENCODER
from portkit.backends.toolkit.encoder import Line
from portkit.contract import Backend, Caching, Code
from portkit.errors import CannotRunHere, CompileError, DeviceHang, DeviceLost, OutOfMemory
from portkit.reference.generator import stream
from portkit.reference.values import run
from portkit.spec.builder import Builder, Reg
from portkit.spec.kernel import Kernel
from tests.backends.launching import assert_same, execute
from tests.backends.structured import structured_kernel

REASON = BACKEND.probe()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))
LENGTHS = (128, 256, 512, 1024)
Riscv = CheckedDevice[int]


@pytest.fixture(scope="module", params=LENGTHS)
def any_length(request: pytest.FixtureRequest) -> Iterator[Riscv]:
    opened = device.open_emulator(request.param)
    yield opened
    opened.close()


@pytest.fixture
def opened() -> Iterator[Riscv]:
    opened = device.open_emulator(256)
    yield opened
    opened.close()


def process_of(opened: Riscv) -> subprocess.Popen[bytes]:
    driver = opened._driver
    assert isinstance(driver, device.RiscvDevice)
    return driver._process


def adding(number: int, lanes: int = 37) -> Kernel:
    """Each lane adds a number to its element."""
    b = Builder("adding")
    x = b.buffer("x", "i32", lanes, "readwrite")
    b.grid(1)
    lane = b.lane(lanes)
    b.store(x, lane, b.add(b.load(x, lane), b.const("i32", number)))
    return b.build()


def crowded(values: int, lanes: int) -> Kernel:
    """Hold more values at once than there are registers: vectors with several lanes, x registers with one."""
    b = Builder("crowded")
    x = b.buffer("x", "i32", values * lanes, "read")
    out = b.buffer("out", "i32", 2 * lanes, "write")
    b.grid(1)
    lane = b.lane(lanes)

    def element(place: int) -> Reg:
        return b.load(x, b.add(b.mul(b.const("i32", place), b.const("i32", lanes)), lane))

    held = [element(place) for place in range(values)]
    total = mixed = b.const("i32", 0)
    for place, value in enumerate(held):
        total = b.add(total, value)
        mixed = b.op("reduce.xor", mixed, b.mul(value, held[-1 - place]))
    b.store(out, lane, total)
    b.store(out, b.add(lane, b.const("i32", lanes)), mixed)
    return b.build()


def unequal(lanes: int = 50) -> Kernel:
    """Loops whose counts differ per lane, one inside the other, with carries of all kinds and a gate."""
    b = Builder("unequal")
    x, out = b.buffer("x", "i32", lanes, "read"), b.buffer("out", "i32", lanes, "write")
    b.grid(1)
    lane = b.lane(lanes)
    zero, one = b.const("i32", 0), b.const("i32", 1)
    with b.serial(b.load(x, lane), total=zero, odd=b.const("bool", False)) as outer:
        with b.serial(outer.index, inner=outer["total"]) as inner:
            inner.next(inner=b.add(inner["inner"], b.load(x, inner.index)))
        flipped = b.op("reduce.xor", outer["odd"], b.const("bool", True))
        outer.next(total=b.add(inner["inner"], one), odd=flipped)
    b.store(
        out, lane, b.eq(outer["odd"], b.const("bool", True), outer["total"], b.mul(outer["total"], b.const("i32", -1)))
    )
    return b.build()


def endless() -> Kernel:
    b = Builder("endless")
    n, x = b.scalar("n", "i32"), b.buffer("x", "i32", 1, "readwrite")
    b.grid(1)
    b.lane(1)
    zero = b.const("i32", 0)
    with b.serial(n), b.serial(n) as inner:
        b.store(x, zero, inner.index)
    return b.build()


# --- vectors of any length ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [*range(6), 50])
def test_random_loops_and_barriers_give_the_bits_of_the_reference(any_length: Riscv, seed: int) -> None:
    written = structured_kernel(seed)
    cells = written.buffers[0].extent.evaluate({})
    inputs = {"source": stream(f"lanes/{seed}").bits(cells).view(np.int32)}
    assert_same(execute(any_length, written, inputs)["out"], run(written, {}, inputs)["out"])


@pytest.mark.parametrize(("values", "lanes"), [(40, 50), (90, 1), (400, 1)])
def test_what_finds_no_register_is_spilled(any_length: Riscv, values: int, lanes: int) -> None:
    inputs = {"x": stream("crowded").bits(values * lanes).view(np.int32)}
    written = crowded(values, lanes)
    assert_same(execute(any_length, written, inputs)["out"], run(written, {}, inputs)["out"])


def test_lanes_leave_loops_one_by_one(any_length: Riscv) -> None:
    inputs = {"x": (stream("unequal").bits(50) % 7).astype(np.int32) - 1}
    assert_same(execute(any_length, unequal(), inputs)["out"], run(unequal(), {}, inputs)["out"])


def test_one_binary_runs_with_vectors_of_every_length(any_length: Riscv) -> None:
    assert isinstance(any_length, Caching)
    other = device.open_emulator(128)
    code = other.compile_to_binary(unequal())
    other.close()
    assert any_length.compile_to_binary(unequal()) == code
    inputs = {"x": np.arange(50, dtype=np.int32) % 5}
    buffers = [any_length.allocate(200), any_length.allocate(200)]
    any_length.write(buffers[0], 0, inputs["x"].tobytes())
    any_length.launch(any_length.load_binary(unequal(), code), [1], buffers, [])
    assert_same(np.frombuffer(any_length.read(buffers[1], 0, 200), np.int32), run(unequal(), {}, inputs)["out"])


@pytest.mark.parametrize("seed", range(3))
def test_elements_past_the_tail_and_behind_the_mask_are_never_looked_at(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_CPU", f"{device._CPU},rvv_ta_all_1s=true,rvv_ma_all_1s=true")
    opened = device.open_emulator(256)
    for written in (structured_kernel(seed), unequal(50 + seed), crowded(30, 21)):
        inputs = {b.name: np.arange(b.extent.evaluate({}), dtype=np.int32) % 6 for b in written.buffers[:1]}
        assert_same(execute(opened, written, inputs)["out"], run(written, {}, inputs)["out"])
    opened.close()


def test_jumps_reach_as_far_as_a_long_kernel_needs(opened: Riscv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_LONG", 0)
    inputs = {"x": np.arange(50, dtype=np.int32) % 6}
    assert "auipc" in opened.compile_to_binary(unequal()).source
    assert_same(execute(opened, unequal(), inputs)["out"], run(unequal(), {}, inputs)["out"])


def casting(lanes: int) -> Kernel:
    b = Builder("casting")
    x, out = b.buffer("x", "f32", lanes, "read"), b.buffer("out", "i32", lanes, "write")
    b.grid(1)
    lane = b.lane(lanes)
    value = b.load(x, lane)
    b.store(out, lane, b.add(b.cast(value, "i32"), b.cast(b.cast(b.op("mul", value, value), "u32"), "i32")))
    return b.build()


@pytest.mark.parametrize("lanes", [1, 8])
def test_every_instruction_may_be_the_first_of_a_page(opened: Riscv, lanes: int) -> None:
    """QEMU translates up to the end of a page, and 7.2 dies where certain conversions begin the next."""
    written, nop, page = casting(lanes), ENCODER.assemble([Line("addi", (0, 0, 0))]), 4096
    code = opened.compile_to_binary(written)
    inputs = {"x": np.array([2.5, -3.75, 1e10, np.nan, -0.5, 7.0, -1e10, 0.0][:lanes], np.float32)}
    buffers = [opened.allocate(4 * lanes), opened.allocate(4 * lanes)]
    opened.write(buffers[0], 0, inputs["x"].tobytes())
    wanted = run(written, {}, inputs)["out"]
    for at in range(0, len(code.binary), 4):
        executable = opened.load_binary(written, Code(code.source, nop * (page - at >> 2) + code.binary, code.scratch))
        assert executable.program is not None
        assert executable.program % page == 0
        opened.launch(executable, [1], buffers, [])
        assert_same(np.frombuffer(opened.read(buffers[1], 0, 4 * lanes), np.int32), wanted)
        executable.release()


# --- the emulator -------------------------------------------------------------------------------------------------


def test_new_code_at_an_old_address_is_what_runs(opened: Riscv) -> None:
    addresses: set[int | None] = set()
    for number in range(20):
        executable = opened.compile(adding(number))
        addresses.add(executable.program)
        executable.release()
        result = execute(opened, adding(number), {"x": np.arange(37, dtype=np.int32)})["x"]
        assert result.tolist() == [*range(number, number + 37)]
    assert len(addresses) == 1


def test_more_launches_than_a_pipe_holds_answers_for_run_in_order(opened: Riscv) -> None:
    executable, buffer = opened.compile(adding(1)), opened.allocate(4 * 37)
    opened.write(buffer, 0, bytes(4 * 37))
    for _ in range(5000):
        opened.launch(executable, [1], [buffer], [])
    opened.synchronise(60)
    assert np.frombuffer(opened.read(buffer, 0, 4 * 37), np.int32).tolist() == [5000] * 37


def test_a_kernel_that_never_ends_is_ended_with_the_emulator(opened: Riscv) -> None:
    executable, buffer = opened.compile(endless()), opened.allocate(4)
    opened.launch(executable, [1], [buffer], [2**31 - 1])
    with pytest.raises(DeviceHang, match="waiting for the device: qemu-riscv64 gave no answer in time, and was ended"):
        opened.synchronise(0.2)
    assert process_of(opened).returncode == -signal.SIGKILL
    with pytest.raises(DeviceLost, match="qemu-riscv64 ended with status -9, Killed"):
        opened.read(buffer, 0, 4)


def test_a_crash_is_a_lost_device_with_the_words_of_the_emulator(opened: Riscv) -> None:
    b = Builder("wild")
    n, x = b.scalar("n", "i32"), b.buffer("x", "i32", 1, "readwrite")
    b.grid(1)
    b.lane(1)
    b.store(x, b.mul(n, n), n)
    executable, buffer = opened.compile(b.build()), opened.allocate(4)
    opened.launch(executable, [1], [buffer], [46340])
    with pytest.raises(DeviceLost, match="qemu-riscv64 ended with status -11, Segmentation fault"):
        opened.synchronise(20)


def test_an_emulator_that_went_away_is_a_lost_device(opened: Riscv) -> None:
    executable, buffer = opened.compile(adding(1, 4)), opened.allocate(16)
    process_of(opened).kill()
    process_of(opened).wait()
    with pytest.raises(DeviceLost, match="launching kernel adding: qemu-riscv64 ended with status -9, Killed"):
        opened.launch(executable, [1], [buffer], [])
    opened.free(buffer)
    executable.release()


def test_memory_that_the_device_has_not_is_named(opened: Riscv) -> None:
    with pytest.raises(OutOfMemory, match=r"allocating 8589934592 bytes: .* 2147483648 that a buffer may have"):
        opened.allocate(1 << 33)
    code = opened.compile_to_binary(adding(1))
    executable = opened.load_binary(adding(1), type(code)(code.source, code.binary, 1 << 33))
    with pytest.raises(OutOfMemory, match="launching kernel adding"):
        opened.launch(executable, [1], [opened.allocate(4 * 37)], [])


def test_a_form_without_a_template_is_refused_by_name(opened: Riscv) -> None:
    b = Builder("half")
    x = b.buffer("x", "f32", 4, "readwrite")
    b.grid(1)
    lane = b.lane(4)
    b.store(x, lane, b.cast(b.cast(b.load(x, lane), "f16"), "f32"))
    with pytest.raises(CompileError, match=r"mov\.cast\.f32 on f16 has no template"):
        opened.compile(b.build())


def test_an_emulator_ends_with_the_process_that_started_it_even_while_it_computes() -> None:
    code = """
import os, sys
from tests.backends.riscv.test_backend import device, endless, process_of
opened = device.open_emulator(256)
opened.launch(opened.compile(endless()), [1], [opened.allocate(4)], [2**31 - 1])
print(process_of(opened).pid, flush=True)
sys.stdin.read()
os._exit(1)
"""
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    ) as ours:
        assert ours.stdin is not None
        assert ours.stdout is not None
        emulator = os.pidfd_open(int(ours.stdout.readline()))
        ours.stdin.close()
        ended, _, _ = select.select([emulator], [], [], 20)
    os.close(emulator)
    assert ended


# --- what may be missing ------------------------------------------------------------------------------------------


def test_the_backend_can_run_here_and_says_on_what(any_length: Riscv) -> None:
    assert isinstance(BACKEND, Backend)
    assert BACKEND.name == BACKEND.capabilities.name == "riscv"
    assert "qemu-riscv64 version" in any_length.info.driver
    assert any_length.info.extra["vlen"] in any_length.info.device


def test_importing_the_backend_loads_no_emulator() -> None:
    code = "import sys, portkit.backends.riscv; sys.exit('portkit.emulators.qemu' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_emulator_is_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (reason := BACKEND.probe()) is not None
    assert "qemu-riscv64 does not start" in reason
    assert reason.endswith("apt install qemu-user")


def test_an_emulator_that_cannot_run_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "qemu-riscv64"
    fake.write_text("#!/bin/sh\necho no such vector >&2; exit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(CannotRunHere, match="does not run here: qemu-riscv64 ended with status 3: no such vector"):
        BACKEND.open()


def test_a_vector_length_that_the_emulator_has_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTKIT_RISCV_VLEN", "100")
    with pytest.raises(CannotRunHere, match="PORTKIT_RISCV_VLEN is '100'; it is one of 256, 128, 512, 1024"):
        BACKEND.open()


def test_the_vector_length_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTKIT_RISCV_VLEN", "512")
    opened = BACKEND.open()
    assert opened.info.extra["vlen"] == "512"
    opened.close()


def test_closing_ends_the_emulator(opened: Riscv) -> None:
    opened.close()
    opened.close()
    assert process_of(opened).poll() is not None
