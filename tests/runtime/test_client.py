"""The device process seen from its client: answers, errors, deaths, hangs, and what is left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from portkit.errors import (
    CannotRunHere,
    CompileError,
    ContractError,
    DeviceHang,
    DeviceLost,
    InvalidHandle,
    OutOfMemory,
    PortkitError,
    SchemaError,
    UsageError,
)
from portkit.runtime.client import DeviceClient, Executed, Guard
from tests.fakes import fenv
from tests.runtime.kernels import add_kernel

FAKES = "tests.fakes.devices"
X = np.arange(64, dtype=np.int32)
Y = np.arange(64, dtype=np.int32)[::-1] * 7


@pytest.fixture(scope="module", params=[True, False], ids=["shared-memory", "pipe"])
def device(request: pytest.FixtureRequest) -> Iterator[DeviceClient]:
    with DeviceClient(f"{FAKES}:FAULTY", shared_memory=request.param, timeout=10) as client:
        yield client


def fake(name: str, **options: float) -> DeviceClient:
    return DeviceClient(f"{FAKES}:{name}", **options)  # type: ignore[arg-type]


def run(client: DeviceClient, name: str = "sum", timeout: float | None = None) -> Executed:
    operands = [X.tobytes(), Y.tobytes(), bytes(256)]
    return client.execute(add_kernel(name), [2], operands, [], timeout=timeout, want_source=True)


def test_execute_computes_in_one_round_trip(device: DeviceClient) -> None:
    ran = run(device)
    assert np.array_equal(np.frombuffer(ran.outputs[2], np.int32), X + Y)
    assert ran.source == "evaluator of sum"


def test_execute_reads_every_operand_back(device: DeviceClient) -> None:
    guard = Guard(b"\xc3" * 100)
    ran = device.execute(add_kernel(), [2], [guard, X.tobytes(), Y.tobytes(), guard, bytes(300)], [])
    assert [len(o) for o in ran.outputs] == [100, 256, 256, 100, 300]
    assert ran.outputs[0] == guard.data
    assert ran.outputs[1] == X.tobytes()


def test_operands_larger_than_before_are_taken(device: DeviceClient) -> None:
    run(device)
    guard = Guard(os.urandom(3_000_000))
    ran = device.execute(add_kernel(), [2], [guard, X.tobytes(), Y.tobytes(), bytes(256)], [])
    assert ran.outputs[0] == guard.data


def test_the_functions_of_a_device_work_one_by_one(device: DeviceClient) -> None:
    executable = device.compile(add_kernel())
    handles = [device.allocate(256) for _ in range(3)]
    device.write(handles[0], 0, X.tobytes())
    device.copy(handles[1], 0, handles[0], 0, 256)
    device.launch(executable, [2], handles, [])
    device.synchronise(5)
    assert np.array_equal(np.frombuffer(device.read(handles[2], 0, 256), np.int32), 2 * X)
    assert device.read(handles[0], 4, 8) == X[1:3].tobytes()
    executable.release()
    for handle in handles:
        device.free(handle)
    with pytest.raises(InvalidHandle):
        device.read(handles[0], 0, 1)


@pytest.mark.parametrize("shared_memory", [True, False])
def test_a_transfer_of_no_bytes_may_be_the_first(shared_memory: bool) -> None:
    with DeviceClient(f"{FAKES}:GOOD", shared_memory=shared_memory) as client:
        handle = client.allocate(0)
        client.write(handle, 0, b"")
        assert client.read(handle, 0, 0) == b""


@pytest.mark.parametrize(("offset", "size"), [(0, 17), (16, 1), (-1, 4), (0, -1), (0, 1 << 62)])
def test_a_range_outside_a_buffer_reaches_the_backend_and_comes_back_as_its_error(
    device: DeviceClient, offset: int, size: int
) -> None:
    handle = device.allocate(16)
    with pytest.raises(InvalidHandle, match="of 16"):
        device.read(handle, offset, size)


def test_an_error_of_the_backend_keeps_its_class_and_the_vendors_text(device: DeviceClient) -> None:
    with pytest.raises(CompileError, match="cannot compile") as caught:
        run(device, "uncompilable")
    assert "register pressure" in str(caught.value.__cause__)


def test_a_foreign_exception_is_a_breach_of_the_contract_and_not_a_crash(device: DeviceClient) -> None:
    before = device.pid
    with pytest.raises(ContractError, match="compile raised KeyError: 'vendor key'"):
        run(device, "foreign")
    assert device.pid == before


def test_what_the_vendor_prints_does_not_reach_the_protocol(device: DeviceClient) -> None:
    ran = run(device, "noise")
    assert np.array_equal(np.frombuffer(ran.outputs[2], np.int32), X + Y)


def test_an_integer_of_more_than_64_bits_is_refused_before_it_is_sent(device: DeviceClient) -> None:
    before = device.pid
    with pytest.raises(ContractError, match="64 bits"):
        device.allocate(1 << 70)
    assert device.pid == before


def test_a_crash_names_the_signal_and_what_was_printed_and_the_next_use_starts_again() -> None:
    with fake("FAULTY") as client:
        with pytest.raises(DeviceLost, match=r"(?s)ended by SIGSEGV.*segmentation fault in lane 7"):
            run(client, "crash")
        assert np.array_equal(np.frombuffer(run(client).outputs[2], np.int32), X + Y)
        assert client.restarts == 1


def test_a_quiet_exit_is_a_lost_device() -> None:
    with fake("FAULTY") as client, pytest.raises(DeviceLost, match="exited with status 0"):
        run(client, "exit")


def test_a_hang_is_ended_and_the_next_use_starts_again() -> None:
    with fake("FAULTY") as client:
        run(client)
        hanging = client.pid
        with pytest.raises(DeviceHang, match="no answer to execute within"):
            run(client, "hang", timeout=0.1)
        assert not _exists(hanging)
        assert np.array_equal(np.frombuffer(run(client).outputs[2], np.int32), X + Y)


def _exists(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for yet does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_until(condition: object, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.005)
    return False


def test_a_handle_of_an_ended_process_is_invalid_and_not_somebody_elses() -> None:
    with fake("GOOD") as client:
        stale = client.allocate(16)
        executable = client.compile(add_kernel())
        client.kill()
        assert client.allocate(16) == stale
        with pytest.raises(InvalidHandle, match="has ended"):
            client.write(stale, 0, b"x")
        with pytest.raises(InvalidHandle, match="has ended"):
            client.launch(executable, [2], [stale] * 3, [])


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("WRONG_TYPES", ContractError, "allocate gave str, the contract says int"),
        ("SHORT_READ", ContractError, "read gave 255 bytes, 256 were asked for"),
        ("WRONG_INFO", ContractError, "info gave dict"),
        ("EXITS", ContractError, "open raised SystemExit"),
        ("FULL", OutOfMemory, "no room"),
        ("HANGS", DeviceHang, "nothing after"),
        ("LOST", DeviceLost, "fell off the bus"),
        ("NOT_A_BACKEND", ContractError, "is not a backend"),
        ("MISNAMED", ContractError, "its capabilities name 'another'"),
        ("EMPTY_PROMISE", SchemaError, "the extension math needs math"),
        ("ABSENT", ContractError, "cannot be imported"),
    ],
)
def test_a_wrong_backend_gets_the_right_error(name: str, error: type[PortkitError], text: str) -> None:
    with fake(name) as client, pytest.raises(error, match=text):
        run(client)


def test_it_is_the_device_that_refuses_an_executable_from_before_a_reset() -> None:
    with DeviceClient("cpu") as client:
        executable = client.compile(add_kernel())
        client.reset()
        with pytest.raises(InvalidHandle, match="compiled before a reset"):
            client.launch(executable, (2,), [client.allocate(256) for _ in range(3)], [])


def test_an_unknown_backend_is_a_usage_error_with_the_near_names() -> None:
    with DeviceClient("cpuu") as client, pytest.raises(UsageError, match="did you mean cpu"):
        client.probe()


def test_a_backend_that_cannot_run_here_says_why() -> None:
    with fake("CANNOT_RUN") as client:
        assert client.probe() == "no such chip in this machine"
        with pytest.raises(CannotRunHere, match="no such chip"):
            client.require()


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("QUIET_CHEAT", "portkit.reference"),
        ("PATH_CHEAT", "harmless"),
        ("GUARD_CHEAT", "portkit.reference"),
        ("COMPILE_CHEAT", "portkit.conformance"),
    ],
)
def test_a_backend_that_imports_the_judge_is_refused_by_name(name: str, module: str) -> None:
    with fake(name) as client, pytest.raises(ContractError, match=module):
        run(client)


@pytest.mark.skipif(not fenv.supported(), reason="the layout of fenv_t is not known here")
def test_a_backend_that_flushes_subnormals_in_its_process_leaves_the_judges_alone() -> None:
    tiny = np.full(4, 1e-310)
    with fake("FLUSHES") as client:
        run(client)
        assert np.all(tiny * 1.0 != 0.0)


def test_the_digest_of_a_backend_covers_its_package() -> None:
    with fake("GOOD") as a, fake("FAULTY") as b:
        assert len(a.backend_digest) == 64
        assert a.backend_digest == b.backend_digest


def test_closing_waits_for_the_process_and_leaves_no_zombie() -> None:
    client = fake("GOOD")
    pid = client.pid
    client.close()
    client.close()
    assert not _exists(pid)
    with pytest.raises(ContractError, match="closed"):
        client.allocate(1)


def test_a_forgotten_client_takes_its_process_with_it() -> None:
    client = fake("GOOD")
    pid = client.pid
    del client
    gc.collect()
    assert not _exists(pid)


def test_a_crash_while_closing_is_reported_and_leaves_nothing() -> None:
    client = fake("CRASHES_ON_CLOSE")
    run(client)
    pid = client.pid
    with pytest.raises(DeviceLost, match="SIGSEGV"):
        client.close()
    assert not _exists(pid)


def test_what_the_backend_started_ends_with_the_device_process() -> None:
    client = fake("STARTS_A_CHILD")
    run(client)
    session = client.pid
    client.kill()
    assert wait_until(lambda: not _session_members(session))


def _session_members(session: int) -> list[str]:
    stats = [p.read_text().rpartition(")")[2].split() for p in Path("/proc").glob("[0-9]*/stat") if _readable(p)]
    return [fields[0] for fields in stats if fields[3] == str(session) and fields[0] != "Z"]


def _readable(path: Path) -> bool:
    try:
        path.read_text()
    except OSError:
        return False
    return True


CHILD = """
import os, sys, time
from portkit.runtime.client import DeviceClient
from tests.runtime.kernels import add_kernel
client = DeviceClient("tests.fakes.devices:FAULTY", timeout=600)
print(client.info and client.pid, flush=True)
if sys.argv[1] == "hang":
    client.execute(add_kernel("hang"), [2], [bytes(256)] * 3, [])
time.sleep(600)
"""


@pytest.mark.parametrize("state", ["idle", "hang"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_device_process_ends_with_its_parent(state: str, how: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", CHILD, state]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(how)
        parent.wait(20)
    assert wait_until(lambda: not _exists(pid))


def test_a_device_that_was_left_opens_again() -> None:
    with DeviceClient("cpu") as client:
        first = client.allocate(8), client.pid
        client.leave()
        assert client.allocate(8)
        assert client.pid != first[1]


def test_leaving_a_device_that_was_never_opened_does_nothing() -> None:
    with DeviceClient("cpu") as client:
        client.leave()
        assert client.restarts == 0
