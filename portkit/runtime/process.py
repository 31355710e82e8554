"""A device process on this machine, or a command that leads to one elsewhere: start it, end it, say how it ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from portkit.errors import CannotRunHere, DeviceLost
from portkit.runtime.peer import CHUNK, Peer

STDERR_TAIL = 16_000
"""Bytes of the vendor's prints that are kept."""
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


def server_command(reference: str, memory: int = -1, lifeline: int = -1) -> list[str]:
    """Return the command of a device process, with the descriptors of the memory and the lifeline that it inherits."""
    command = [sys.executable, "-P", "-m", "portkit.runtime.server", "--backend", reference]
    return [*command, "--lifeline", str(lifeline), "--memory", str(memory)]


class DeviceProcess(Peer):
    """A running device process.

    After `DeviceHang` or `DeviceLost` the process is gone and reaped. `tail` is the last of what it printed.
    """

    def __init__(
        self,
        reference: str,
        memory: int = -1,
        extra_environment: Mapping[str, str] | None = None,
        command: Sequence[str] = (),
    ) -> None:
        """Start the device process of a backend, or a `command` in its place. Raises `CannotRunHere` if it cannot."""
        life, self._lifeline = os.pipe()
        passed = [life, *([memory] if memory >= 0 else [])]
        try:
            self._popen = subprocess.Popen(
                command or server_command(reference, memory, life),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=() if command else passed,
                env={**environment(), **(extra_environment or {})},
                start_new_session=True,
            )
        except OSError as error:
            os.close(self._lifeline)
            raise CannotRunHere(f"{reference!r} cannot be started: {error.strerror or error}") from error
        finally:
            os.close(life)
        streams = (self._popen.stdin, self._popen.stdout, self._popen.stderr)
        self._streams = tuple(stream for stream in streams if stream is not None)
        outgoing, incoming, self._stderr = (stream.fileno() for stream in self._streams)
        super().__init__(incoming, outgoing)
        os.set_blocking(self._stderr, False)
        self._tail = bytearray()
        self._poll.register(self._stderr, select.POLLIN)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    @property
    def tail(self) -> str:
        return self._tail.decode(errors="replace").strip()

    def _printed(self, ready: dict[int, int]) -> None:
        if self._stderr not in ready:
            return
        try:
            chunk = os.read(self._stderr, CHUNK)
        except BlockingIOError:
            return
        if not chunk:
            self._poll.unregister(self._stderr)
        self._tail += chunk
        del self._tail[:-STDERR_TAIL]

    def _drain_printed(self) -> None:
        """Read what is left in the pipe of a process that is gone."""
        try:
            while chunk := os.read(self._stderr, CHUNK):
                self._tail += chunk
        except OSError:
            pass
        del self._tail[:-STDERR_TAIL]

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
