"""A driver that is a shared library in C: what `portkit_device.h` declares, as a `drivers.device.Driver`.

    CheckedDevice(load_driver(path).open(), compiler, ERRORS)

The header is the declaration: its text, without the preprocessor's lines, is what cffi reads.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from cffi import FFI

import portkit
from portkit.backends.drivers.device import Errors
from portkit.contract import DeviceInfo
from portkit.errors import CannotRunHere, CompileError, DeviceError, DeviceHang, DeviceLost, OutOfMemory

INCLUDE = Path(portkit.__file__).parent / "include"
"""The folder of `portkit_device.h`, for a compiler's -I."""
HEADER = INCLUDE / "portkit_device.h"
_NANOSECONDS = 1_000_000_000
_MOST_SECONDS = 1e9
"""The longest time limit, 31 years; its nanoseconds fit 64 bits."""
_NO_WORDS = "the driver gives no reason"

Program: TypeAlias = Any
"""A `portkit_program *`."""


class DriverError(Exception):
    """The driver returned the status ERROR, or one that the header does not have; the message is its own."""


class DriverCannotRun(DriverError):
    """The driver returned the status CANNOT_RUN_HERE."""


class DriverOutOfMemory(DriverError):
    """The driver returned the status OUT_OF_MEMORY."""


class DriverBadProgram(DriverError):
    """The driver returned the status BAD_PROGRAM."""


class DriverHang(DriverError):
    """The driver returned the status HANG."""


class DriverLost(DriverError):
    """The driver returned the status LOST."""


_STATUSES: dict[str, type[DriverError]] = {
    "ERROR": DriverError,
    "CANNOT_RUN_HERE": DriverCannotRun,
    "OUT_OF_MEMORY": DriverOutOfMemory,
    "BAD_PROGRAM": DriverBadProgram,
    "HANG": DriverHang,
    "LOST": DriverLost,
}

ERRORS: Errors = {
    DriverCannotRun: CannotRunHere,
    DriverOutOfMemory: OutOfMemory,
    DriverBadProgram: CompileError,
    DriverHang: DeviceHang,
    DriverLost: DeviceLost,
    DriverError: DeviceError,
}
"""What portkit calls the statuses of a driver; the table of a `CheckedDevice` over a `CDriver`."""


def declarations() -> str:
    """Return the header's declarations as cffi reads them: of `#` lines numbers only, and no C++."""
    plain = re.sub(r"#ifdef __cplusplus\n.*?#endif\n", "", HEADER.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"^#(?!define \w+ \d+$).*\n", "", plain, flags=re.MULTILINE)


@cache
def _ffi() -> FFI:
    ffi = FFI()
    ffi.cdef(declarations())
    return ffi


class DriverLibrary:
    """A loaded library whose table fits the header."""

    def __init__(self, path: Path) -> None:
        """Load the library at `path`. Raises `CannotRunHere` naming what it lacks."""
        self._ffi = _ffi()
        try:
            # Kept while anything of it may run; the table and the programs are its memory.
            self._library: Any = self._ffi.dlopen(str(path))
            self._table: Any = self._library.portkit_device()
        except OSError as error:
            raise CannotRunHere(f"driver {path.name} cannot be loaded: {error}") from error
        except AttributeError as error:
            raise CannotRunHere(f"{path.name} is no driver: it does not export portkit_device()") from error
        self._check(path.name)

    def _check(self, name: str) -> None:
        if self._table == self._ffi.NULL:
            raise CannotRunHere(f"driver {name}: portkit_device() returned no table")
        size = self._ffi.sizeof("portkit_device_table")
        # Only these two fields may be read before they are known to fit.
        for field, ours in (("version", self._library.PORTKIT_DEVICE_VERSION), ("size", size)):
            given = getattr(self._table, field)
            if given != ours:
                said = f"the {field} of its table is {given}, of this portkit's portkit_device.h {ours}"
                raise CannotRunHere(
                    f"driver {name}: {said}; build it with that header, or install the portkit of its own"
                )
        fields = self._ffi.typeof("portkit_device_table").fields or []
        absent = [field for field, _ in fields if getattr(self._table, field) == self._ffi.NULL]
        if absent:
            raise CannotRunHere(f"driver {name}: the function {absent[0]} of its table is NULL")

    def missing(self) -> str | None:
        """Return None, or in one line why the device cannot be opened here, as the driver's `probe` says it."""
        try:
            self.check(self._table.probe())
        except DriverError as error:
            return " ".join(str(error).split())
        return None

    def open(self) -> CDriver:
        """Open the device. Raises `DriverError`."""
        holder = self._ffi.new("portkit_context **")
        self.check(self._table.open(holder))
        return CDriver(self, self._ffi, self._table, holder[0])

    def check(self, status: int, context: Any = None) -> None:
        """Raise the `DriverError` that a status stands for, with the driver's words; none for OK."""
        if status == 0:
            return
        words = self._table.last_error(self._ffi.NULL if context is None else context)
        text = _text(self._ffi, words) if words != self._ffi.NULL else ""
        enum: Any = self._ffi.typeof("portkit_status")
        name = enum.elements.get(int(status), f"status {int(status)}, which portkit_device.h does not have")
        raise _STATUSES.get(name.removeprefix("PORTKIT_"), DriverError)(f"{text or _NO_WORDS} ({name})")


class CDriver:
    """An opened device of a C driver; `drivers.device.Driver` says what each function promises."""

    def __init__(self, library: DriverLibrary, ffi: FFI, table: Any, context: Any) -> None:
        """Own the context."""
        self._library = library
        self._ffi = ffi
        self._table = table
        self._context = context

    def _call(self, name: str, *arguments: Any) -> None:
        self._library.check(getattr(self._table, name)(self._context, *arguments), self._context)

    def info(self) -> DeviceInfo:
        """Return the names and versions that the driver gives."""
        info: Any = self._ffi.new("portkit_info *")
        self._call("info", info)
        return DeviceInfo(_text(self._ffi, info.device), _text(self._ffi, info.driver), _text(self._ffi, info.compiler))

    def allocate(self, size: int, align: int) -> int:
        """Return the address that the driver gives out."""
        address = self._ffi.new("uint64_t *")
        self._call("allocate", size, align, address)
        return int(address[0])

    def free(self, address: int) -> None:
        """Give memory back."""
        self._call("free", address)

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Copy from the host."""
        self._call("write", address, self._ffi.from_buffer(data), len(data))

    def read(self, address: int, size: int) -> bytes:
        """Copy to the host."""
        data = self._ffi.new("char[]", size)
        self._call("read", address, data, size)
        return bytes(self._ffi.buffer(data, size))

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy on the device."""
        self._call("copy", target, source, size)

    def load(self, binary: bytes) -> Program:
        """Hand the compiler's bytes to the driver."""
        program = self._ffi.new("portkit_program **")
        self._call("load", self._ffi.from_buffer(binary), len(binary), program)
        return program[0]

    def unload(self, program: Program) -> None:
        """Take a kernel off the device."""
        self._call("unload", program)

    def start(self, program: Program, arguments: bytes, groups: int, scratch: int) -> None:
        """Start the work-groups."""
        self._call("start", program, self._ffi.from_buffer(arguments), len(arguments), groups, scratch)

    def wait(self, timeout: float) -> None:
        """Wait at most `timeout` seconds, as the driver counts them."""
        self._call("wait", int(min(max(0.0, timeout), _MOST_SECONDS) * _NANOSECONDS))

    def close(self) -> None:
        """Release the device."""
        self._table.close(self._context)


def _text(ffi: FFI, words: Any) -> str:
    """Return a C string as text; a vendor's bytes that are no UTF-8 are shown as they can be."""
    found = ffi.string(words)
    return found.decode(errors="replace").strip() if isinstance(found, bytes) else str(found)
