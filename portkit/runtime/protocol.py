"""The messages between the judge and a device process, and how they become bytes.

A frame is a little-endian u32 length and that many bytes of MessagePack: one of the structs below as an array whose
first element is its tag. Every request has exactly one reply. The first exchange is `Hello` with the protocol version,
so that both sides can refuse politely. Bulk data is either a `Span` of memory that both processes map, or, over plain
pipes and sockets, the bytes themselves.
"""

from __future__ import annotations

import struct
from typing import TypeAlias, TypeVar

import msgspec

from portkit.contract import Capabilities, DeviceInfo
from portkit.errors import (
    CannotRunHere,
    CompileError,
    ContractError,
    DeviceError,
    DeviceHang,
    DeviceLost,
    InvalidHandle,
    OutOfMemory,
    PortkitError,
    SchemaError,
    UsageError,
)

PROTOCOL_VERSION = 1
MAX_FRAME = 256 << 20
"""Frames above this many bytes are refused on both sides."""
MAX_GREETING = 4096
"""Bytes of the greeting's frame at most: nothing longer is read from one who has not shown the token."""
MAX_INLINE = 64 << 20
"""Bulk data above this many bytes is sent in pieces where there is no shared memory."""
LENGTH = struct.Struct("<I")

WIRE_ERRORS: dict[str, type[PortkitError]] = {
    error.__name__: error
    for error in (
        UsageError,
        SchemaError,
        ContractError,
        DeviceError,
        CannotRunHere,
        CompileError,
        OutOfMemory,
        InvalidHandle,
        DeviceHang,
        DeviceLost,
    )
}
"""The errors that cross the wire, by name; each is made of one message."""


class Message(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag=True):
    """Base of everything that is sent."""


class Span(Message, frozen=True):
    """Bulk data at an offset of the shared memory."""

    offset: int
    size: int


Payload: TypeAlias = Span | bytes


# --- before the first request, over a network -------------------------------------------------------------------


class Greeting(Message, frozen=True):
    """What a client says first to `portkit serve`; answered by `Welcome` or `Failure`. An empty `token` is none."""

    version: int
    token: str


class Welcome(Message, frozen=True):
    """A device process is being started for this connection; requests may follow."""

    version: int


# --- requests -----------------------------------------------------------------------------------------------------


class Hello(Message, frozen=True):
    """The first request; answered by `Ready`."""

    version: int


class Map(Message, frozen=True):
    """The shared memory now has `size` bytes; answered by `Done`."""

    size: int


class Probe(Message, frozen=True):
    """Ask whether the backend can run here; answered by `Probed`."""


class Open(Message, frozen=True):
    """Open the device; answered by `Opened`."""


class Allocate(Message, frozen=True):
    """Answered by `Allocated`."""

    size: int
    align: int


class Free(Message, frozen=True):
    """Answered by `Done`."""

    handle: int


class Write(Message, frozen=True):
    """Answered by `Done`."""

    handle: int
    offset: int
    data: Payload


class Read(Message, frozen=True):
    """Answered by `Data`, in the shared memory at `into` where that is not negative."""

    handle: int
    offset: int
    size: int
    into: int = -1


class Copy(Message, frozen=True):
    """Answered by `Done`."""

    target: int
    target_offset: int
    source: int
    source_offset: int
    size: int


class Compile(Message, frozen=True):
    """Answered by `Compiled`; `kernel` is its JSON form."""

    kernel: bytes


class Release(Message, frozen=True):
    """Release an executable; answered by `Done`."""

    executable: int


class Launch(Message, frozen=True):
    """Answered by `Done`."""

    executable: int
    grid: tuple[int, ...]
    buffers: tuple[int, ...]
    scalars: tuple[int | float, ...]


class Synchronise(Message, frozen=True):
    """Answered by `Done`."""

    timeout: float


class Reset(Message, frozen=True):
    """Answered by `Done`."""


class Close(Message, frozen=True):
    """Close the device and end the process; answered by `Done`."""


class Operand(Message, frozen=True):
    """One allocation of an `Execute`: its contents before, and whether the kernel gets it as a buffer."""

    data: Payload
    align: int
    bound: bool


class Execute(Message, frozen=True):
    """Allocate, write, compile, launch, synchronise, read and free in one round trip; answered by `Executed`.

    `kernel` is read only where this process has no executable for `digest`. With spans, each operand is read back into
    its own span.
    """

    digest: bytes
    kernel: bytes
    grid: tuple[int, ...]
    operands: tuple[Operand, ...]
    scalars: tuple[int | float, ...]
    timeout: float
    want_source: bool = False


Request: TypeAlias = (
    Hello
    | Map
    | Probe
    | Open
    | Allocate
    | Free
    | Write
    | Read
    | Copy
    | Compile
    | Release
    | Launch
    | Synchronise
    | Reset
    | Close
    | Execute
)


# --- replies ------------------------------------------------------------------------------------------------------


class Ready(Message, frozen=True):
    """The backend is loaded; `digest` is the SHA-256 of its files, in hexadecimal."""

    version: int
    name: str
    digest: str
    capabilities: Capabilities


class Failure(Message, frozen=True):
    """The request failed: an error of `WIRE_ERRORS` by name, its message, and the vendor's own text."""

    kind: str
    message: str
    vendor: str = ""


class Done(Message, frozen=True):
    """The request was carried out; there is nothing to say."""


class Probed(Message, frozen=True):
    """`reason` is why the backend cannot run here, None if it can."""

    reason: str | None


class Opened(Message, frozen=True):
    """The device is open."""

    info: DeviceInfo
    thread_safe: bool


class Allocated(Message, frozen=True):
    """A new buffer."""

    handle: int


class Data(Message, frozen=True):
    """What was read."""

    data: Payload


class Compiled(Message, frozen=True):
    """A new executable and its generated source."""

    executable: int
    source: str


class Executed(Message, frozen=True):
    """`outputs` are the operands after the launch; times are in seconds, `backend` all of them together."""

    outputs: tuple[Payload, ...]
    source: str
    compile_seconds: float
    launch_seconds: float
    backend_seconds: float


Reply: TypeAlias = Ready | Failure | Done | Probed | Opened | Allocated | Data | Compiled | Executed

_M = TypeVar("_M")
_ENCODER = msgspec.msgpack.Encoder()
_REQUESTS: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_REPLIES: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
_GREETINGS = msgspec.msgpack.Decoder(Greeting)
_WELCOMES: msgspec.msgpack.Decoder[Welcome | Failure] = msgspec.msgpack.Decoder(Welcome | Failure)


def frame(message: Message) -> bytes:
    """Return the bytes of a message, length first.

    Raises `ContractError` above `MAX_FRAME` and for an integer of more than 64 bits.
    """
    try:
        body = _ENCODER.encode(message)
    except OverflowError as error:
        raise ContractError(f"{type(message).__name__} holds an integer of more than 64 bits") from error
    check_length(len(body))
    return LENGTH.pack(len(body)) + body


def check_length(length: int) -> None:
    """Raise `ContractError` for a frame that is longer than any message may be."""
    if length > MAX_FRAME:
        raise ContractError(f"a frame of {length} bytes is longer than the {MAX_FRAME} that the protocol admits")


def read_request(body: bytes | memoryview) -> Request:
    """Decode a request. Raises `ContractError` where the bytes are none."""
    return _decode(_REQUESTS, body)


def read_reply(body: bytes | memoryview) -> Reply:
    """Decode a reply. Raises `ContractError` where the bytes are none."""
    return _decode(_REPLIES, body)


def read_greeting(body: bytes | memoryview) -> Greeting:
    """Decode a greeting. Raises `ContractError` where the bytes are none."""
    return _decode(_GREETINGS, body)


def read_welcome(body: bytes | memoryview) -> Welcome | Failure:
    """Decode the answer to a greeting. Raises `ContractError` where the bytes are none."""
    return _decode(_WELCOMES, body)


def _decode(decoder: msgspec.msgpack.Decoder[_M], body: bytes | memoryview) -> _M:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ContractError(f"malformed frame of {len(body)} bytes: {error}") from error
