"""Devices elsewhere: what a reference to one looks like, and the connection that it stands for.

    tcp://board:7770                                  a `portkit serve --listen` on that host
    pipe:ssh board portkit serve -b mychip --stdio    a command that speaks the protocol on its standard streams

A client over TCP shows the token that is in the environment variable PORTKIT_TOKEN. Nothing is encrypted: over a
network that others share, use `pipe:` and ssh.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from portkit.contract import Backend, Capabilities, Device, find_backend
from portkit.errors import ContractError, DeviceHang, DeviceLost, NotReachable, PortkitError, UsageError
from portkit.runtime import protocol as p
from portkit.runtime.peer import Peer
from portkit.runtime.process import DeviceProcess

if TYPE_CHECKING:
    from portkit.runtime.client import DeviceClient

TCP = "tcp://"
PIPE = "pipe:"
TOKEN = "PORTKIT_TOKEN"
"""The environment variable with the token of a server; both ends read it."""
_CONNECT_SECONDS = 10.0
_CLOSING_SECONDS = 3.0


def is_remote(reference: str) -> bool:
    """Whether a backend's reference names a device elsewhere, with which no memory is shared."""
    return reference.startswith((TCP, PIPE))


def start(reference: str, memory: int, environment: Mapping[str, str] | None) -> Peer:
    """Start a device process, or connect to one elsewhere.

    Raises `UsageError` for a reference that cannot be read, `CannotRunHere` where it cannot be started, `NotReachable`
    where nothing answers.
    """
    scheme = next((scheme for scheme in _STARTERS if reference.startswith(scheme)), "")
    if not scheme:
        return DeviceProcess(reference, memory, environment)
    return _STARTERS[scheme](reference, environment)


def _command(reference: str, environment: Mapping[str, str] | None) -> Peer:
    try:
        words = shlex.split(reference.removeprefix(PIPE))
    except ValueError as error:
        raise UsageError(f"{reference!r} is no command: {error}") from error
    if not words:
        raise UsageError(f"{reference!r} names no command; write {PIPE}ssh board portkit serve -b mychip --stdio")
    return DeviceProcess(reference, extra_environment=environment, command=words)


def _connection(reference: str, environment: Mapping[str, str] | None) -> Peer:
    return Connection(reference, {**os.environ, **(environment or {})}.get(TOKEN, ""))


_STARTERS: dict[str, Callable[[str, Mapping[str, str] | None], Peer]] = {PIPE: _command, TCP: _connection}


def host_and_port(text: str) -> tuple[str, int]:
    """Split `HOST:PORT`, or `[HOST]:PORT` for an IPv6 host. Raises `UsageError`."""
    try:
        parts = urlsplit(f"//{text}")
        if parts.hostname and parts.port is not None and parts.netloc == text and "@" not in text:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise UsageError(f"{text!r} is no address; write HOST:PORT, such as 127.0.0.1:7770, or [::1]:7770")


class Connection(Peer):
    """A device process behind a TCP connection; it ends with the connection."""

    def __init__(self, reference: str, token: str) -> None:
        """Connect and show the token. Raises `NotReachable` where nothing answers, `UsageError` for a wrong token."""
        self._reference = reference
        host, port = host_and_port(reference.removeprefix(TCP).rstrip("/"))
        try:
            self._socket: socket.socket | None = socket.create_connection((host, port), _CONNECT_SECONDS)
        except OSError as error:
            said = f"no connection to {reference}: {error.strerror or error}; is it served there?"
            raise NotReachable(said) from error
        keep_alive(self._socket)
        super().__init__(self._socket.fileno(), os.dup(self._socket.fileno()))
        self._greet(token)

    def _greet(self, token: str) -> None:
        try:
            body = self.exchange_frame(p.Greeting(p.PROTOCOL_VERSION, token), _CONNECT_SECONDS)
        except (DeviceHang, DeviceLost) as error:  # no device was given out yet, so this is no verdict on one
            raise NotReachable(f"what listens at {self._reference} does not greet; is it being ended?") from error
        reply: p.Welcome | p.Failure | None = None
        with contextlib.suppress(ContractError):
            reply = p.read_welcome(body)
        if isinstance(reply, p.Welcome):
            return
        self.kill()
        if reply is None:
            raise NotReachable(f"what answers at {self._reference} does not speak the protocol of portkit serve")
        kind: type[PortkitError] = p.WIRE_ERRORS.get(reply.kind, ContractError)
        raise kind(f"{self._reference}: {reply.message}")

    @property
    def alive(self) -> bool:
        return self._socket is not None

    @property
    def pid(self) -> int:
        return 0

    @property
    def tail(self) -> str:
        return ""

    def kill(self) -> None:
        """Close the connection, which ends the process at its other end; a second call does nothing."""
        found, self._socket = self._socket, None
        if found is not None:
            os.close(self._outgoing)
            found.close()

    def finish(self) -> None:
        """Wait for the other end to close, and close."""
        until = time.monotonic() + _CLOSING_SECONDS
        with contextlib.suppress(OSError):
            while self._socket is not None and (left := until - time.monotonic()) > 0:
                self._socket.settimeout(left)
                if not self._socket.recv(1):
                    break
        self.kill()

    def _lost(self) -> DeviceLost:
        return DeviceLost(f"the connection to {self._reference} ended, and with it the device process there")

    def _printed(self, ready: dict[int, int]) -> None:
        pass  # it prints where it is served


def keep_alive(connection: socket.socket) -> None:
    """Notice within half a minute that the other end is gone without a word; send small frames at once."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)


# --- in this process ----------------------------------------------------------------------------------------------


class RemoteBackend:
    """A device elsewhere as a backend: what the runtime opens in place of one that is installed here."""

    def __init__(self, reference: str) -> None:
        """Ask what is declared there. Raises as `start`."""
        self._reference = reference
        with self._client() as client:
            self.name = client.name
            self.capabilities: Capabilities = client.capabilities

    def _client(self) -> DeviceClient:
        from portkit.runtime.client import DeviceClient

        return DeviceClient(self._reference)

    def probe(self) -> str | None:
        """Return None, or why the device cannot be used where it is."""
        with self._client() as client:
            return client.probe()

    def open(self) -> Device:
        """Open the device. Raises `CannotRunHere`."""
        client = self._client()
        client.require()
        return cast("Device", client)


def resolve(reference: str) -> Backend:
    """Return an installed backend, that of `package.module:ATTRIBUTE`, or one elsewhere. Raises `UsageError`."""
    return RemoteBackend(reference) if is_remote(reference) else find_backend(reference)
