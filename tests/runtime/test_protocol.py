"""The frames themselves: hostile ones on either side are errors, never a hang or a crash."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from portkit.errors import ContractError, DeviceHang, DeviceLost
from portkit.runtime import protocol as p
from portkit.runtime.process import DeviceProcess, describe_exit
from portkit.runtime.server import backend_digest

GARBAGE = [b"", b"\x00", b"\xc1" * 40, bytes(range(7, 71)), b"\x91" * 100_000, b"\x92\xa5Hello\xa1x", b"\x91\xa4Nope"]


@pytest.mark.parametrize("body", GARBAGE)
def test_bytes_that_are_no_message_are_a_contract_error(body: bytes) -> None:
    with pytest.raises(ContractError, match="malformed frame"):
        p.read_request(body)
    with pytest.raises(ContractError, match="malformed frame"):
        p.read_reply(body)


def test_a_message_survives_its_frame() -> None:
    message = p.Execute(
        b"d", b"k", (1, 2), (p.Operand(p.Span(0, 4), 64, True), p.Operand(b"x", 8, False)), (1, 1.0), 3.0
    )
    framed = p.frame(message)
    assert p.LENGTH.unpack(framed[:4])[0] == len(framed) - 4
    back = p.read_request(framed[4:])
    assert back == message
    assert isinstance(back, p.Execute)
    assert [type(s) for s in back.scalars] == [int, float]


def talk(*frames: bytes) -> list[p.Reply]:
    """Send raw bytes to a device process over its standard streams and return its replies."""
    command = [sys.executable, "-m", "portkit.runtime.server", "--backend", "tests.fakes.devices:GOOD"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, input=b"".join(frames), capture_output=True, env=environment, timeout=60, check=True)
    replies: list[p.Reply] = []
    data = done.stdout
    while data:
        (length,) = p.LENGTH.unpack(data[:4])
        replies.append(p.read_reply(data[4 : 4 + length]))
        data = data[4 + length :]
    return replies


def raw(body: bytes) -> bytes:
    return p.LENGTH.pack(len(body)) + body


def test_the_server_answers_garbage_with_an_error_and_goes_on() -> None:
    *failures, ready = talk(*(raw(g) for g in GARBAGE), p.frame(p.Hello(p.PROTOCOL_VERSION)))
    assert [f.kind for f in failures if isinstance(f, p.Failure)] == ["ContractError"] * len(GARBAGE)
    assert isinstance(ready, p.Ready)


def test_the_server_ends_after_a_frame_that_is_too_long() -> None:
    replies = talk(b"\xff\xff\xff\xff", p.frame(p.Hello(p.PROTOCOL_VERSION)))
    assert len(replies) == 1
    assert isinstance(replies[0], p.Failure)
    assert "longer than" in replies[0].message


def test_the_server_ends_in_peace_when_a_frame_is_cut_off() -> None:
    assert talk(p.frame(p.Hello(p.PROTOCOL_VERSION))[:-1]) == []


def test_another_protocol_version_is_refused_by_number() -> None:
    (reply,) = talk(p.frame(p.Hello(99)))
    assert isinstance(reply, p.Failure)
    assert "protocol 99" in reply.message


def test_a_request_before_hello_and_one_before_open_are_refused() -> None:
    first, _, third = talk(p.frame(p.Probe()), p.frame(p.Hello(p.PROTOCOL_VERSION)), p.frame(p.Allocate(4, 64)))
    assert isinstance(first, p.Failure)
    assert isinstance(third, p.Failure)
    assert "Hello" in first.message
    assert "Open" in third.message


@pytest.mark.parametrize("span", [p.Span(-1, 4), p.Span(0, 1 << 40), p.Span(4, -2)])
def test_a_span_outside_the_shared_memory_is_refused(span: p.Span) -> None:
    *_, reply = talk(p.frame(p.Hello(p.PROTOCOL_VERSION)), p.frame(p.Open()), p.frame(p.Write(1, 0, span)))
    assert isinstance(reply, p.Failure)
    assert "shared" in reply.message


def python(code: str, monkeypatch: pytest.MonkeyPatch) -> DeviceProcess:
    """Return a device process that is a Python one-liner instead of the server."""
    plain = subprocess.Popen

    def instead(command: list[str], **options: object) -> object:
        return plain([sys.executable, "-c", code], **options)  # type: ignore[call-overload]

    monkeypatch.setattr("portkit.runtime.process.subprocess.Popen", instead)
    return DeviceProcess("any")


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        ("import os; os.write(1, b'\\x05\\0\\0\\0hello'); os.read(0, 99); os.read(0, 99)", ContractError, "malformed"),
        ("import os; os.write(1, b'\\xff' * 8); os.read(0, 99); os.read(0, 99)", ContractError, "longer than"),
        (
            "import os; os.write(1, b'\\x01\\0\\0\\0xyz'); os.read(0, 99); os.read(0, 99)",
            ContractError,
            "more than one",
        ),
        ("import os; os.write(1, b'\\x05'); os.read(0, 99)", DeviceLost, "exited with status 0"),
        (
            "import os; os.close(1); os.close(2); [os.read(0, 99) for _ in range(9)]",
            DeviceLost,
            "closed its connection|exited",
        ),
        ("import time; time.sleep(600)", DeviceHang, "no answer to hello"),
    ],
)
def test_the_client_ends_a_process_that_does_not_speak_the_protocol(
    code: str, error: type[Exception], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = python(code, monkeypatch)
    with pytest.raises(error, match=text):
        process.exchange(p.Hello(1), 1.0)
    assert not process.alive


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        ("print('hello, world')", ContractError, "longer than"),
        ("import sys; sys.exit(3)", DeviceLost, "exited with status 3"),
        ("import sys; sys.exit('no licence')", DeviceLost, "no licence"),
    ],
)
def test_a_process_that_is_gone_before_the_first_request_is_judged_by_what_it_said(
    code: str, error: type[Exception], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = python(code, monkeypatch)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(error, match=text):
        process.exchange(p.Hello(1), 10.0)
    assert not process.alive


def test_how_a_process_ended_is_said_by_name() -> None:
    assert [describe_exit(s) for s in (3, -9, -63)] == [
        "exited with status 3",
        "was ended by SIGKILL",
        "was ended by signal 63",
    ]


def test_a_backend_in_a_file_without_a_package_is_digested_alone(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathlib import Path

    file = Path(str(tmp_path)) / "lonely.py"
    file.write_text("BACKEND = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("lonely")
    before = backend_digest("lonely:BACKEND")
    (Path(str(tmp_path)) / "other.py").write_text("x = 1\n")
    assert backend_digest("lonely:BACKEND") == before
    file.write_text("BACKEND = 2\n")
    assert backend_digest("lonely:BACKEND") != before
