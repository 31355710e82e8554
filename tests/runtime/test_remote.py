"""Devices elsewhere, over TCP on this machine and over a pipe: what they answer, how they end, whom they refuse."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import pytest

from portkit.errors import (
    CannotRunHere,
    CompileError,
    ContractError,
    DeviceError,
    DeviceHang,
    DeviceLost,
    NotReachable,
    PortkitError,
    UsageError,
)
from portkit.runtime import listen, remote
from portkit.runtime import protocol as p
from portkit.runtime.client import DeviceClient
from portkit.runtime.devices import open_device
from portkit.runtime.listen import Listener
from tests.runtime.kernels import add_kernel

FAULTY = "tests.fakes.devices:FAULTY"
SECRET = "correct horse battery staple"
COMMAND = f"pipe:{sys.executable} -c 'from portkit.cli.main import main; main()' serve --stdio -b "
X = np.arange(64, dtype=np.int32)


@contextlib.contextmanager
def serving(reference: str = FAULTY, **options: str | int) -> Generator[Listener]:
    listener = Listener(reference, "127.0.0.1", 0, **options)  # type: ignore[arg-type]
    thread = threading.Thread(target=listener.serve)
    thread.start()
    try:
        yield listener
    finally:
        listener.close()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(scope="module", params=["tcp", "pipe"])
def reference(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "pipe":
        yield COMMAND + FAULTY
        return
    with serving(devices=2) as listener:
        yield listener.address


@pytest.fixture
def device(reference: str) -> Iterator[DeviceClient]:
    client = DeviceClient(reference, timeout=10)
    yield client
    client.kill()


def run(client: DeviceClient, name: str = "sum", timeout: float | None = None) -> bytes:
    operands = [X.tobytes(), X.tobytes(), bytes(256)]
    return client.execute(add_kernel(name), [2], operands, [], timeout=timeout).outputs[2]


# --- what a device elsewhere does ---------------------------------------------------------------------------------


def test_a_device_elsewhere_computes(device: DeviceClient) -> None:
    assert np.array_equal(np.frombuffer(run(device), np.int32), X + X)


def test_a_device_elsewhere_says_who_it_is(device: DeviceClient) -> None:
    assert (device.name, device.probe()) == ("evaluator", None)
    assert len(device.backend_digest) == 64


def test_bytes_beyond_one_frame_travel_in_pieces(device: DeviceClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(p, "MAX_INLINE", 1000)
    data = os.urandom(4321)
    handle = device.allocate(len(data))
    device.write(handle, 0, data)
    assert device.read(handle, 0, len(data)) == data


def test_errors_of_the_backend_keep_their_class_and_the_vendors_words(device: DeviceClient) -> None:
    with pytest.raises(CompileError, match="cannot compile") as error:
        device.compile(add_kernel("uncompilable"))
    assert "register pressure" in str(error.value.__cause__)


def test_closing_ends_the_device_process_and_frees_its_place(reference: str) -> None:
    for _ in range(4):
        with DeviceClient(reference, timeout=10) as client:
            run(client)


# --- hangs and deaths ---------------------------------------------------------------------------------------------


def test_a_kernel_that_does_not_end_is_a_hang_and_the_next_use_starts_anew(device: DeviceClient) -> None:
    with pytest.raises(DeviceHang, match=r"no answer to execute within"):
        run(device, "hang", timeout=0.3)
    assert np.array_equal(np.frombuffer(run(device), np.int32), X + X)


def test_a_process_that_dies_is_lost_with_its_last_words(device: DeviceClient) -> None:
    with pytest.raises(DeviceLost, match="segmentation fault in lane 7"):
        run(device, "crash")
    assert np.array_equal(np.frombuffer(run(device), np.int32), X + X)


def test_a_process_that_leaves_without_a_word_is_lost(device: DeviceClient) -> None:
    with pytest.raises(DeviceLost):
        run(device, "exit")


def processes_of(backend: str) -> set[int]:
    found: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if backend in (text := path.read_text()) and "portkit.runtime.server" in text:
                found.add(int(path.parent.name))
    return found


def eventually(true: Callable[[], bool]) -> bool:
    until = time.monotonic() + 10
    while not true() and time.monotonic() < until:
        threading.Event().wait(0.02)
    return true()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="this system has no /proc")
@pytest.mark.parametrize("kind", ["tcp", "pipe"])
def test_a_hanging_process_is_ended_when_its_client_is_gone(kind: str) -> None:
    hangs = "tests.fakes.devices:STRICT"  # served by no other test
    with serving(hangs) as listener:
        client = DeviceClient(listener.address if kind == "tcp" else COMMAND + hangs)
        run(client)
        assert len(processes_of(hangs)) == 1
        with pytest.raises(DeviceHang):
            run(client, "hang", timeout=0.3)
        assert eventually(lambda: not processes_of(hangs))


# --- who may connect ----------------------------------------------------------------------------------------------


def test_the_token_of_the_server_opens_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(remote.TOKEN, SECRET)
    with serving(token=SECRET) as listener, DeviceClient(listener.address) as client:
        assert client.name == "evaluator"


@pytest.mark.parametrize("token", ["", "wrong", SECRET + "x", "ü" * 16])
def test_another_token_is_refused(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(remote.TOKEN, token)
    with serving(token=SECRET) as listener, pytest.raises(UsageError, match="the token is missing or wrong"):
        DeviceClient(listener.address).probe()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
@pytest.mark.parametrize("token", ["", "short"])
def test_an_address_that_others_reach_needs_a_token(host: str, token: str) -> None:
    with pytest.raises(UsageError, match=r"can be reached from elsewhere.*--token-file"):
        Listener(FAULTY, host, 0, token)


def test_an_address_that_is_taken_cannot_be_listened_at() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError, match="cannot listen at 127"):
        Listener(FAULTY, "127.0.0.1", taken.getsockname()[1])


def test_more_clients_than_devices_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "_FREE_SECONDS", 0.1)
    with serving(devices=1) as listener, DeviceClient(listener.address) as first:
        run(first)
        with pytest.raises(DeviceError, match="all 1 devices are in use"):
            DeviceClient(listener.address).probe()


def test_a_process_that_cannot_be_started_is_told_to_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as listener:
        monkeypatch.setattr(listen, "server_command", lambda *_, **__: ["/no/such/python"])
        with pytest.raises(DeviceError, match="no device process can be started: No such file"):
            DeviceClient(listener.address).probe()


# --- what arrives that is no greeting -----------------------------------------------------------------------------


def answer_to(sent: bytes, listener: Listener) -> bytes:
    """Return all that the server sends to one who sends this and then nothing more."""
    host, port = remote.host_and_port(listener.address.removeprefix(remote.TCP))
    with socket.create_connection((host, port), 10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "closed before its greeting"),
        (b"\3\0", "closed before its greeting"),
        (b"\x10\0\0\0short", "closed before its greeting"),
        (struct.pack("<I", p.MAX_GREETING + 1), "longer than the 4096"),
        (b"\xff\xff\xff\xff", "longer than the 4096"),
        (b"GET ", "longer than the 4096"),
        (b"\5\0\0\0hello", "malformed frame"),
        (p.frame(p.Hello(1)), "malformed frame"),
        (p.frame(p.Greeting(99, "")), "the client speaks protocol 99"),
    ],
)
def test_what_is_no_greeting_is_refused_and_nothing_started(sent: bytes, said: str) -> None:
    with serving("tests.fakes.devices:NO_SUCH") as listener:
        answer = p.read_welcome(answer_to(sent, listener)[p.LENGTH.size :])
    assert isinstance(answer, p.Failure)
    assert said in answer.message


def test_one_who_says_nothing_is_dismissed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "GREETING_SECONDS", 0.1)
    with serving() as listener:
        host, port = remote.host_and_port(listener.address.removeprefix(remote.TCP))
        with socket.create_connection((host, port), 10) as connection:
            connection.sendall(b"\3")
            assert b"no greeting within" in connection.recv(4096)


def test_a_crowd_of_silent_ones_is_closed_to_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "MAX_GREETERS", 1)
    with serving() as listener:
        host, port = remote.host_and_port(listener.address.removeprefix(remote.TCP))
        with socket.create_connection((host, port), 10), socket.create_connection((host, port), 10) as second:
            assert second.recv(1) == b""


# --- references ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "host", "host:", ":1", "host:port", "host:70000", "user@host:1", "host:1/x"])
def test_a_malformed_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no address; write HOST:PORT"):
        remote.host_and_port(text)


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert remote.host_and_port("[::1]:7770") == ("::1", 7770)


@pytest.mark.parametrize(
    ("reference", "error", "said"),
    [
        (
            "tcp://127.0.0.1:1",
            NotReachable,
            "no connection to tcp://127.0.0.1:1: Connection refused; is it served there?",
        ),
        ("tcp://nowhere", UsageError, "is no address"),
        ("pipe:", UsageError, "names no command"),
        ("pipe:'", UsageError, "is no command: No closing quotation"),
        ("pipe:/no/such/program", CannotRunHere, "cannot be started: No such file"),
        ("pipe:false", NotReachable, "'pipe:false' does not lead to a device: .*exited with status 1"),
        ("pipe:echo hello, world", ContractError, "longer than"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(reference: str, error: type[PortkitError], said: str) -> None:
    with pytest.raises(error, match=said):
        DeviceClient(reference).probe()


def test_what_answers_but_is_no_server_is_said_to_be_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.sendall(p.frame(p.Done()))
                connection.recv(4096)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(NotReachable, match="does not speak the protocol"):
            DeviceClient(f"tcp://127.0.0.1:{other.getsockname()[1]}").probe()
        thread.join(10)


def test_a_server_that_ends_before_it_has_greeted_is_not_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def leave() -> None:
            other.accept()[0].close()

        thread = threading.Thread(target=leave)
        thread.start()
        with pytest.raises(NotReachable, match="does not greet"):
            DeviceClient(f"tcp://127.0.0.1:{other.getsockname()[1]}").probe()
        thread.join(10)


def test_the_runtime_opens_a_device_elsewhere_as_one_of_its_own() -> None:
    with serving("cpu") as listener, open_device(listener.address) as opened:
        buffer = opened.allocate(64)
        assert (opened.name, buffer.size) == ("cpu", 64)
