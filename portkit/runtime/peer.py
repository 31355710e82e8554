"""The judge's end of a stream of frames: send a request, wait for its reply under a deadline."""

from __future__ import annotations

import os
import select
import time
from abc import ABC, abstractmethod

from portkit.errors import ContractError, DeviceHang, DeviceLost
from portkit.runtime import protocol as p

_TICK_MS = 250  # how often to look whether the other end is alive, in case something else keeps its descriptor open
CHUNK = 1 << 20


class Peer(ABC):
    """A device process, wherever it runs: one request and its reply at a time over two descriptors.

    After `DeviceHang` or `DeviceLost` it is gone.
    """

    def __init__(self, incoming: int, outgoing: int) -> None:
        """Use two descriptors, which must be different numbers and are made non-blocking."""
        self._incoming = incoming
        self._outgoing = outgoing
        for descriptor in (incoming, outgoing):
            os.set_blocking(descriptor, False)
        self._received = bytearray()
        self._poll = select.poll()
        self._poll.register(incoming, select.POLLIN)

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether it may still answer."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """The number of the process on this machine that answers, or leads to what answers; 0 if there is none."""

    @property
    @abstractmethod
    def tail(self) -> str:
        """The last of what it printed, as far as that is seen here."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once; a second call does nothing."""

    @abstractmethod
    def finish(self) -> None:
        """Wait until it has ended by itself after `Close`; end it if it does not."""

    @abstractmethod
    def _lost(self) -> DeviceLost:
        """Return what to raise when the stream has ended."""

    @abstractmethod
    def _printed(self, ready: dict[int, int]) -> None:
        """Read what is there of its prints."""

    def exchange(self, request: p.Message, timeout: float) -> p.Reply:
        """Send a request and return its reply.

        Raises `DeviceHang` after `timeout` seconds, `DeviceLost` if the other end is gone, `ContractError` for a
        malformed reply; the other end is ended in each case.
        """
        body = self.exchange_frame(request, timeout)
        try:
            return p.read_reply(body)
        except ContractError:
            self.kill()
            raise

    def exchange_frame(self, request: p.Message, timeout: float) -> bytes:
        """Send a request and return the body of the frame that answers it; raises as `exchange`."""
        message = memoryview(p.frame(request))
        try:
            body = self._exchange(message, time.monotonic() + timeout)
            if body is None:
                what = type(request).__name__.lower()
                raise DeviceHang(f"no answer to {what} within {timeout:g} s; the device process was ended")
            return body
        except BaseException:
            self.kill()  # the stream is out of step: an answer to this request may still come
            raise

    def _exchange(self, left: memoryview, deadline: float) -> bytes | None:
        self._poll.register(self._outgoing, select.POLLOUT)
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return None
            ready = dict(self._poll.poll(min(_TICK_MS, remaining * 1000 + 1)))
            self._printed(ready)
            if left and self._outgoing in ready:
                left = self._send(left)
            if not left and self._outgoing in ready:
                self._poll.unregister(self._outgoing)
                ready.pop(self._outgoing)
            body = self._receive() if self._incoming in ready else None
            if body is not None:
                return body
            if not ready and not self.alive:
                raise self._lost()

    def _send(self, left: memoryview) -> memoryview:
        try:
            return left[os.write(self._outgoing, left[:CHUNK]) :]
        except BlockingIOError:
            return left
        except ConnectionError:  # nobody reads any more: what it said before, or the end of its stream, tells why
            return left[:0]

    def _receive(self) -> bytes | None:
        """Return the body of the reply once all of it is here."""
        try:
            chunk = os.read(self._incoming, CHUNK)
        except BlockingIOError:
            return None
        except OSError:  # a connection that was reset or timed out
            chunk = b""
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
