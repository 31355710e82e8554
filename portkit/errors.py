"""Every exception that portkit raises on purpose.

PortkitError                what the user asked for cannot be done; the message says what, where and what to do
+-- UsageError              unknown backend, op, case or file; a bad option
|   +-- TensorError         a tensor operation cannot be done as asked
|       +-- ShapeError      shapes do not fit (also a ValueError)
|       +-- AxisError       an axis or index is out of range (also an IndexError)
|       +-- DTypeError      dtypes do not fit (also a TypeError)
|       +-- DeviceMismatch  operands live on different devices
+-- SpecError               a kernel breaks the spec; carries the clause
|   +-- ParseError          kernel text or JSON that cannot be read; carries line and column
|   +-- VerifyError         a well-formed kernel that breaks a rule; carries clause and instruction
+-- InvalidKernelError      a verified kernel is not valid on these inputs (race, out of bounds, ...): valid_c1..c9
+-- SchemaError             a capabilities file, report, journal or waiver does not fit its schema
+-- ContractError           a backend breaks the contract (wrong type, missing function, forbidden import)
+-- DeviceError             the device or its driver said no; the vendor's text is kept as the cause
|   +-- CannotRunHere       the probe says that this machine lacks something; the reason is the message
|   +-- CompileError        the backend could not compile a legal kernel
|   +-- OutOfMemory         the device has no room for a buffer
|   +-- InvalidHandle       a freed, foreign or mistyped buffer or executable
|   +-- DeviceHang          no answer within the time limit; the device process was ended
|   +-- DeviceLost          the device process died or the device went away
+-- HarnessError            portkit's own fault: please report it
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PortkitError(Exception):
    """Base of every error that portkit raises on purpose."""


class UsageError(PortkitError):
    """The request names something that does not exist or does not fit."""


class TensorError(UsageError):
    """A tensor operation cannot be done as asked."""


class ShapeError(TensorError, ValueError):
    """Shapes do not fit the operation."""


class AxisError(TensorError, IndexError):
    """An axis or index is out of range."""


class DTypeError(TensorError, TypeError):
    """Dtypes do not fit the operation."""


class DeviceMismatch(TensorError):
    """Operands live on different devices."""


class SpecError(PortkitError):
    """A kernel breaks the spec; `clause` is the number of the broken rule."""

    def __init__(self, message: str, *, clause: str = "") -> None:
        super().__init__(f"{message} [{clause}]" if clause else message)
        self.message = message
        self.clause = clause


class ParseError(SpecError):
    """Kernel text or JSON that cannot be read; `line` and `column` count from 1 (0 = unknown)."""

    def __init__(self, message: str, *, line: int = 0, column: int = 0, source: str = "", clause: str = "") -> None:
        where = f"line {line}, column {column}: " if line else ""
        super().__init__(f"{where}{message}", clause=clause)
        self.caret = _caret(source, column) if source and column else ""
        self.line = line
        self.column = column

    def __str__(self) -> str:
        return super().__str__() + self.caret


def _caret(source: str, column: int) -> str:
    """Return the part of a foreign line around `column` and a caret below it; what would not print is a `?`."""
    start = max(0, column - 60)
    shown = "".join(c if c.isprintable() else " " if c == "\t" else "?" for c in source[start : start + 100])
    return f"\n    {shown.rstrip()}\n    {' ' * (column - 1 - start)}^"


class VerifyError(SpecError):
    """A well-formed kernel breaks a rule; `instruction` is its index in the body (-1 = header)."""

    def __init__(self, message: str, *, clause: str, instruction: int = -1, text: str = "") -> None:
        where = f"instruction {instruction} `{text}`: " if instruction >= 0 else "header: "
        super().__init__(where + message, clause=clause)
        self.instruction = instruction


class InvalidKernelError(SpecError):
    """A verified kernel does something undefined on these inputs, such as a race or an out-of-bounds access."""

    def __init__(
        self, message: str, *, clause: str, instruction: int, group: int = -1, lane: int = -1, address: int = -1
    ) -> None:
        super().__init__(message, clause=clause)
        self.instruction = instruction
        self.group = group
        self.lane = lane
        self.address = address


class SchemaError(PortkitError):
    """A file from outside does not fit its schema."""


class ContractError(PortkitError):
    """A backend breaks the contract."""


class DeviceError(PortkitError):
    """The device or its driver refused; the vendor's exception is the cause."""


class CannotRunHere(DeviceError):
    """The backend cannot run on this machine, and says why."""


class CompileError(DeviceError):
    """The backend could not compile a legal kernel."""


class OutOfMemory(DeviceError):
    """The device has no room for the request."""


class InvalidHandle(DeviceError):
    """A freed, foreign or mistyped handle, or a byte range outside a buffer."""


class DeviceHang(DeviceError):
    """The device gave no answer within its time limit; the device process was ended."""


class DeviceLost(DeviceError):
    """The device process died, or the device went away."""


class NotReachable(CannotRunHere, DeviceLost):
    """Nothing answers where the device is said to be; that says nothing of the device."""


class HarnessError(PortkitError):
    """A fault of portkit itself."""


def near_names(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean a, b?` for the known names close to `name`, else an empty string."""
    close = difflib.get_close_matches(name, list(dict.fromkeys(known)), n=3, cutoff=0.6)
    return f"; did you mean {', '.join(close)}?" if close else ""
