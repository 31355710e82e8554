"""One life of a device process, seen from the judge: start it, exchange frames under a deadline, end it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping

from portkit.errors import ContractError, DeviceHang, DeviceLost
from portkit.runtime import protocol as p

STDERR_TAIL = 16_000
"""Bytes of the vendor's prints that are kept."""
_TICK_MS = 250  # how often to look whether the process is alive, in case a child of it keeps its pipe open
_CHUNK = 1 << 20
_CLOSING_SECONDS = 3.0


def environment() -> dict[str, str]:
    """Return this process's environment with its module search path, so that the child finds the same backends."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100 - strings in, strings out
    return {**os.environ, "PYTHONPATH": path}


def describe_exit(status: int) -> str:
    """Return how a process ended, from its return code as `subprocess` gives it."""
    if status < 0:
        try:
            return f"was ended by {signal.Signals(-status).name}"
        except ValueError:
            return f"was ended by signal {-status}"
    return f"exited with status {status}"


class DeviceProcess:
    """A running device process.

    After `DeviceHang` or `DeviceLost` the process is gone and reaped. `tail` is the last of what it printed.
    """

    def __init__(self, reference: str, memory: int = -1, extra_environment: Mapping[str, str] | None = None) -> None:
        life, self._lifeline = os.pipe()
        passed = [life, *([memory] if memory >= 0 else [])]
        command = [sys.executable, "-P", "-m", "portkit.runtime.server", "--backend", reference]
        command += ["--lifeline", str(life), "--memory", str(memory)]
        try:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=passed,
                env={**environment(), **(extra_environment or {})},
                start_new_session=True,
            )
        except OSError:
            os.close(self._lifeline)
            raise
        finally:
            os.close(life)
        streams = (self._popen.stdin, self._popen.stdout, self._popen.stderr)
        self._streams = tuple(stream for stream in streams if stream is not None)
        self._stdin, self._stdout, self._stderr = (stream.fileno() for stream in self._streams)
        for descriptor in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(descriptor, False)
        self._printed = bytearray()
        self._received = bytearray()
        self._poll = select.poll()
        self._poll.register(self._stdout, select.POLLIN)
        self._poll.register(self._stderr, select.POLLIN)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    @property
    def tail(self) -> str:
        return self._printed.decode(errors="replace").strip()

    def exchange(self, request: p.Message, timeout: float) -> p.Reply:
        """Send a request and return its reply.

        Raises `DeviceHang` after `timeout` seconds, `DeviceLost` if the process dies, `ContractError` for a malformed
        reply; the process is ended in each case.
        """
        message = memoryview(p.frame(request))
        try:
            body = self._exchange(message, time.monotonic() + timeout)
            if body is None:
                what = type(request).__name__.lower()
                raise DeviceHang(f"no answer to {what} within {timeout:g} s; the device process was ended")
            return p.read_reply(body)
        except BaseException:
            self.kill()  # the stream is out of step: an answer to this request may still come
            raise

    def _exchange(self, left: memoryview, deadline: float) -> bytes | None:
        self._poll.register(self._stdin, select.POLLOUT)
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return None
            ready = dict(self._poll.poll(min(_TICK_MS, remaining * 1000 + 1)))
            if self._stderr in ready:
                self._read_printed()
            if left and self._stdin in ready:
                left = self._send(left)
            if not left and self._stdin in ready:
                self._poll.unregister(self._stdin)
                ready.pop(self._stdin)
            body = self._receive() if self._stdout in ready else None
            if body is not None:
                return body
            if not ready and not self.alive:
                raise self._lost()

    def _send(self, left: memoryview) -> memoryview:
        try:
            return left[os.write(self._stdin, left[:_CHUNK]) :]
        except BlockingIOError:
            return left
        except BrokenPipeError:
            raise self._lost() from None

    def _receive(self) -> bytes | None:
        """Return the body of the reply once all of it is here."""
        try:
            chunk = os.read(self._stdout, _CHUNK)
        except BlockingIOError:
            return None
        if not chunk:
            raise self._lost()
        self._received += chunk
        size = p.LENGTH.size
        if len(self._received) < size:
            return None
        (length,) = p.LENGTH.unpack(self._received[:size])
        p.check_length(length)
        if len(self._received) < size + length:
            return None
        if len(self._received) > size + length:
            raise ContractError("the device process sent more than one reply to a request")
        body = bytes(self._received[size:])
        self._received.clear()
        return body

    def _read_printed(self) -> None:
        try:
            chunk = os.read(self._stderr, _CHUNK)
        except BlockingIOError:
            return
        if not chunk:
            self._poll.unregister(self._stderr)
        self._printed += chunk
        del self._printed[:-STDERR_TAIL]

    def _drain_printed(self) -> None:
        """Read what is left in the pipe of a process that is gone."""
        try:
            while chunk := os.read(self._stderr, _CHUNK):
                self._printed += chunk
        except OSError:
            pass
        del self._printed[:-STDERR_TAIL]

    def _lost(self) -> DeviceLost:
        try:
            status = self._popen.wait(_CLOSING_SECONDS)
        except subprocess.TimeoutExpired:  # it closed its pipe but lives
            self.kill()
            return DeviceLost("the device process closed its connection; it was ended")
        self._drain_printed()
        printed = f"; it printed last:\n{self.tail[-2000:]}" if self.tail else ""
        return DeviceLost(f"the device process {describe_exit(status)}{printed}")

    def kill(self) -> None:
        """End the process and whatever it started, at once; a second call does nothing."""
        if self._lifeline < 0:
            return
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # already gone
                os.killpg(self._popen.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel: no more can be done from here
                self._popen.wait(_CLOSING_SECONDS)
        self._drain_printed()
        self._close_pipes()

    def finish(self, timeout: float = _CLOSING_SECONDS) -> None:
        """Wait until the process has ended by itself after `Close`; end it if it does not."""
        if self._lifeline < 0:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout)
        self.kill()

    def _close_pipes(self) -> None:
        os.close(self._lifeline)
        self._lifeline = -1
        for stream in self._streams:
            stream.close()
