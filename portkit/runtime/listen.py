"""Serving a device to elsewhere: a process of its own for each connection, ended with it.

The device process reads and writes the connection itself; what runs here only listens, asks for the token, and watches.
When the other end goes away the process is killed, hanging in native code or not; when the process dies by itself, the
other end is told how, with the last that it printed.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import msgspec

from portkit.errors import ContractError, DeviceError, DeviceLost, PortkitError, UsageError
from portkit.runtime import protocol as p
from portkit.runtime.process import STDERR_TAIL, describe_exit, environment, server_command
from portkit.runtime.remote import TCP, keep_alive
from portkit.runtime.server import failure

SHORTEST_TOKEN = 16
GREETING_SECONDS = 10.0
"""How long a connection may take to show its token."""
MAX_GREETERS = 16
"""Connections that may be showing their token at once; more are closed."""
_ENDING_SECONDS = 1.0  # how long a device process may take to end by itself once the other end is gone
_RETRY_SECONDS = 0.1  # until connections are taken again after one could not be
_FREE_SECONDS = 5.0  # how long a connection waits for another's process to end; more than the time above
_GONE = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)


class Hosted:
    """A device process whose standard streams are those of a connection."""

    def __init__(self, reference: str, incoming: int, outgoing: int) -> None:
        """Start it on the descriptors, which stay the caller's. Raises `DeviceError` where there is no room for it."""
        life, self._lifeline = os.pipe()
        try:
            self._popen = subprocess.Popen(
                server_command(reference, lifeline=life),
                stdin=incoming,
                stdout=outgoing,
                stderr=subprocess.PIPE,
                pass_fds=[life],
                env=environment(),
                start_new_session=True,
            )
        except OSError as error:
            os.close(self._lifeline)
            raise DeviceError(f"no device process can be started: {error.strerror or error}") from error
        finally:
            os.close(life)
        assert self._popen.stderr is not None
        self._stderr = self._popen.stderr
        self._watched = incoming
        self._tail = bytearray()

    def watch(self) -> str:
        """Return when the process has ended, by itself or because the other end is gone; how, unless as it should."""
        printed = self._stderr.fileno()
        poll = select.poll()
        poll.register(self._watched, _GONE & ~select.POLLIN)
        poll.register(printed, select.POLLIN)
        try:
            while True:
                ready = dict(poll.poll())
                if printed in ready and not self._forward(os.read(printed, STDERR_TAIL)):
                    poll.unregister(printed)  # it is about to end, or has closed the stream: the connection will tell
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._popen.wait(_ENDING_SECONDS)
                if self._watched in ready or self._popen.poll() is not None:
                    return self._end()
        finally:
            self._end()

    def _forward(self, chunk: bytes) -> bool:
        """Keep and pass on what was printed; False at the end of the stream."""
        self._tail += chunk
        del self._tail[:-STDERR_TAIL]
        with contextlib.suppress(OSError):
            os.write(2, chunk)
        return bool(chunk)

    def _end(self) -> str:
        """End the process, and whatever it started; return how it had ended, empty if as it should."""
        if self._lifeline < 0:
            return ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(_ENDING_SECONDS)
        status = self._popen.poll()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        os.close(self._lifeline)
        self._lifeline = -1
        self._stderr.close()
        if not status:
            return ""
        words = self._tail.decode(errors="replace").strip()[-2000:]
        return f"the device process {describe_exit(status)}" + (f"; it printed last:\n{words}" if words else "")


def serve_streams(reference: str) -> int:
    """Serve one device on this process's standard streams; returns the exit status."""
    said = Hosted(reference, 0, 1).watch()
    if said:
        sys.stderr.write(f"portkit serve: {said}\n")
    return 1 if said else 0


class Listener:
    """Serves a backend's devices over TCP."""

    def __init__(self, reference: str, host: str, port: int, token: str = "", devices: int = 1) -> None:
        """Listen; port 0 is any that is free. At most `devices` device processes run at once.

        Raises `UsageError` where the address cannot be listened at, or is not of this machine alone and there is no
        token of at least 16 letters.
        """
        self.reference = reference
        self._token = token
        self._free = threading.BoundedSemaphore(devices)
        self._devices = devices
        self._greeters = threading.BoundedSemaphore(MAX_GREETERS)
        self._ended = threading.Event()
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            _check_token(str(address[0]), token)
            self._socket = socket.create_server(address[:2], family=family, backlog=MAX_GREETERS)
        except OSError as error:
            raise UsageError(f"cannot listen at {host}:{port}: {error.strerror or error}") from error

    @property
    def address(self) -> str:
        """The reference that a client on this machine uses."""
        host, port = self._socket.getsockname()[:2]
        return f"{TCP}[{host}]:{port}" if ":" in host else f"{TCP}{host}:{port}"

    def close(self) -> None:
        """Take no more connections; those that are served go on while this process lives."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes `serve`
        self._socket.close()

    def serve(self) -> None:
        """Take connections until `close`."""
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError as error:  # where it is not the end, a lack that may pass: of descriptors, of memory
                if self._ended.wait(_RETRY_SECONDS):
                    return
                sys.stderr.write(f"portkit serve: a connection was not taken: {error}\n")
                continue
            if not self._greeters.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._attend, args=(connection,), name="portkit-serve", daemon=True).start()

    def _attend(self, connection: socket.socket) -> None:
        """Greet a connection and serve it, or say why not."""
        with connection, contextlib.suppress(OSError):
            try:
                keep_alive(connection)
                try:
                    self._check(_receive_greeting(connection))
                finally:
                    self._greeters.release()
                self._host(connection)
            except PortkitError as error:
                _tell(connection, msgspec.structs.replace(failure(error), vendor=""))  # no paths to strangers

    def _check(self, greeting: p.Greeting) -> None:
        if greeting.version != p.PROTOCOL_VERSION:
            raise ContractError(f"the client speaks protocol {greeting.version}, this server {p.PROTOCOL_VERSION}")
        if self._token and not hmac.compare_digest(greeting.token.encode(), self._token.encode()):
            raise UsageError("the token is missing or wrong; set PORTKIT_TOKEN to that of the server")

    def _host(self, connection: socket.socket) -> None:
        if not self._free.acquire(timeout=_FREE_SECONDS):
            raise DeviceError(f"all {self._devices} devices are in use; try later, or with fewer --workers")
        try:
            _tell(connection, p.Welcome(p.PROTOCOL_VERSION))  # leaves the connection blocking, as the process needs it
            hosted = Hosted(self.reference, connection.fileno(), connection.fileno())
            if said := hosted.watch():
                _tell(connection, failure(DeviceLost(said)))
        finally:
            self._free.release()


def _check_token(host: str, token: str) -> None:
    if not ipaddress.ip_address(host.partition("%")[0]).is_loopback and len(token) < SHORTEST_TOKEN:
        raise UsageError(
            f"{host} can be reached from elsewhere, and whoever connects runs code here: name a file with a token of "
            f"{SHORTEST_TOKEN} letters or more by --token-file"
        )


def _receive_greeting(connection: socket.socket) -> p.Greeting:
    """Return what the other end says first. Raises `ContractError` if it is too long, too late, or no greeting."""
    until = time.monotonic() + GREETING_SECONDS

    def receive(size: int) -> bytes:
        found = b""
        while len(found) < size:
            connection.settimeout(max(0.001, until - time.monotonic()))
            chunk = connection.recv(size - len(found))
            if not chunk:
                raise ContractError("the connection closed before its greeting")
            found += chunk
        return found

    try:
        (length,) = p.LENGTH.unpack(receive(p.LENGTH.size))
        if length > p.MAX_GREETING:
            raise ContractError(f"a greeting of {length} bytes is longer than the {p.MAX_GREETING} that are read")
        return p.read_greeting(receive(length))
    except TimeoutError as error:
        raise ContractError(f"no greeting within {GREETING_SECONDS:g} s") from error


def _tell(connection: socket.socket, message: p.Message) -> None:
    """Send a message to one who may be gone, or not listening."""
    connection.settimeout(_ENDING_SECONDS)
    with contextlib.suppress(OSError):
        connection.sendall(p.frame(message))
    connection.setblocking(True)
