"""What the metal backend uses of pyobjc, as plain objects: selectors are methods, errors come back beside results.

A dispatch runs nothing by itself; `work`, where a test gives it, is called with the encoder when a buffer is committed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

COMMITTED, COMPLETED, FAILED = 2, 4, 5


class Error:
    """An NSError."""

    def __init__(self, text: str, code: int = 1) -> None:
        self._text, self._code = text, code

    def localizedDescription(self) -> str:
        return self._text

    def code(self) -> int:
        return self._code


class Size(NamedTuple):
    width: int
    height: int
    depth: int


class Contents:
    """What `contents` gives: a pointer that knows how to be a buffer."""

    def __init__(self, data: bytearray) -> None:
        self._data = data

    def as_buffer(self, size: int) -> memoryview:
        return memoryview(self._data)[:size]


class Buffer:
    def __init__(self, size: int) -> None:
        self.data = bytearray(b"\xcd" * size)

    def contents(self) -> Contents:
        return Contents(self.data)

    def length(self) -> int:
        return len(self.data)


class Options:
    """MTLCompileOptions; keeps what was set."""

    def __init__(self) -> None:
        self.set: dict[str, int] = {}

    @classmethod
    def new(cls) -> Options:
        return cls()

    def setMathMode_(self, mode: int) -> None:
        self.set["math"] = mode

    def setMathFloatingPointFunctions_(self, functions: int) -> None:
        self.set["functions"] = functions

    def setLanguageVersion_(self, version: int) -> None:
        self.set["language"] = version


class Encoder:
    def __init__(self, commands: Commands) -> None:
        self.commands = commands
        self.state: Any = None
        self.bound: dict[int, tuple[Buffer, int]] = {}
        self.bytes: dict[int, bytes] = {}
        self.shared: dict[int, int] = {}
        self.dispatched: list[tuple[Size, Size, int]] = []

    def setComputePipelineState_(self, state: Any) -> None:
        self.state = state

    def setBuffer_offset_atIndex_(self, buffer: Buffer, offset: int, index: int) -> None:
        self.bound[index] = (buffer, offset)

    def setBytes_length_atIndex_(self, data: bytes, length: int, index: int) -> None:
        assert length == len(data) <= 4096
        self.bytes[index] = data

    def setThreadgroupMemoryLength_atIndex_(self, length: int, index: int) -> None:
        assert length % 16 == 0
        self.shared[index] = length

    def dispatchThreadgroups_threadsPerThreadgroup_(self, groups: Size, lanes: Size) -> None:
        first = struct.unpack("<Q", self.bytes[max(self.bytes)][-8:])[0]
        self.dispatched.append((groups, lanes, first))

    def endEncoding(self) -> None:
        self.commands.ended = True


class Commands:
    def __init__(self, device: Device) -> None:
        self.device = device
        self.encoder = Encoder(self)
        self.ended = False
        self._status = 0

    def computeCommandEncoder(self) -> Encoder:
        return self.encoder

    def commit(self) -> None:
        assert self.ended
        self._status = self.device.outcome
        if self.device.work is not None:
            self.device.work(self.encoder)
        self.device.committed.append(self.encoder)

    def status(self) -> int:
        return self._status

    def error(self) -> Error | None:
        return self.device.failure


class Function(NamedTuple):
    name: str


class State:
    def __init__(self, most: int) -> None:
        self._most = most

    def maxTotalThreadsPerThreadgroup(self) -> int:
        return self._most


class Library:
    def newFunctionWithName_(self, name: str) -> Function:
        return Function(name)


class Device:
    """An MTLDevice and its queue; a test sets how what is committed ends, and what is refused."""

    def __init__(self) -> None:
        self.outcome = COMPLETED
        self.failure: Error | None = None
        self.refusal: Error | None = None
        self.no_room = False
        self.most_lanes = 1024
        self.compiled: list[tuple[str, Options]] = []
        self.committed: list[Encoder] = []
        self.functions: list[str] = []
        self.work: Callable[[Encoder], None] | None = None

    def name(self) -> str:
        return "Apple M0"

    def maxBufferLength(self) -> int:
        return 1 << 20

    def newCommandQueue(self) -> Device:
        return self

    def commandBuffer(self) -> Commands:
        return Commands(self)

    def newBufferWithLength_options_(self, size: int, options: int) -> Buffer | None:
        assert options == 0
        assert size > 0
        return None if self.no_room else Buffer(size)

    def newLibraryWithSource_options_error_(
        self, text: str, options: Options, error: None
    ) -> tuple[Library | None, Error | None]:
        del error
        self.compiled.append((text, options))
        return (None, self.refusal) if self.refusal else (Library(), None)

    def newComputePipelineStateWithFunction_error_(
        self, function: Function, error: None
    ) -> tuple[State | None, Error | None]:
        del error
        self.functions.append(function.name)
        return State(self.most_lanes), None


class Metal:
    """The module `Metal` of a Mac with macOS 15."""

    MTLLanguageVersion3_2 = (3 << 16) + 2
    MTLMathModeSafe = 0
    MTLMathFloatingPointFunctionsPrecise = 1
    MTLCompileOptions = Options

    def __init__(self, device: Device | None) -> None:
        self._device = device

    def MTLCreateSystemDefaultDevice(self) -> Device | None:
        return self._device

    @staticmethod
    def MTLSizeMake(width: int, height: int, depth: int) -> Size:
        return Size(width, height, depth)


class Objc:
    """The module `objc`; counts the pools that are open."""

    def __init__(self) -> None:
        self.pools = 0

    @contextmanager
    def autorelease_pool(self) -> Generator[None]:
        self.pools += 1
        yield
        self.pools -= 1
