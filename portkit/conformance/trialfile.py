"""Trial files: one launch, with everything that it takes to run it again, bit for bit.

A `.trial.json` file holds the kernel's text as a list of lines, the scalars, and the contents of each buffer that is
read; a buffer that is written and has none starts as poison when it is judged, as zeros when it is run alone. Contents
are the elements' bit patterns in hexadecimal, apart by blanks; beyond 256 elements they are base64 of the elements in
little-endian order. f32 scalars are bit patterns too. Files come from outside: sizes are limited, unknown fields
refused, and every extent is held against the kernel.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np

from portkit.conformance.case import Trial
from portkit.conformance.files import write_atomically, writing
from portkit.conformance.report.model import CaseId, LongText, Record, Text, read_file
from portkit.errors import SchemaError, near_names
from portkit.spec.kernel import Buffer, Kernel, Scalar
from portkit.spec.text import format as format_kernel
from portkit.spec.text import parse
from portkit.spec.types import decode, encode
from portkit.spec.verify import verify

Array: TypeAlias = np.ndarray[Any, Any]
SUFFIX = ".trial.json"
MAX_FILE_BYTES = 64 << 20
MAX_BUFFER_BYTES = 1 << 30
"""Bytes of all buffers together, those that are only written included."""
MOST_SPELT = 256
"""Elements of a buffer that are written out one by one."""

Pattern = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-f]{8}(?!\n)$")]
Line = Annotated[str, msgspec.Meta(max_length=4000)]
Name = Annotated[str, msgspec.Meta(max_length=64)]


class Contents(Record, frozen=True, omit_defaults=True):
    """The contents of one buffer, in one of the two ways; `dtype` and `extent` say again what the kernel declares."""

    dtype: Name
    extent: int
    bits: str = ""
    base64: str = ""


class TrialRecord(Record, frozen=True, omit_defaults=True):
    """A trial file as it is written."""

    format: Literal["portkit-trial"]
    version: Literal[1]
    kernel: Annotated[list[Line], msgspec.Meta(max_length=200_000)]
    scalars: dict[Name, int | Pattern] = msgspec.field(default_factory=dict[str, int | str])
    buffers: dict[Name, Contents] = msgspec.field(default_factory=dict[str, Contents])
    device_check_only: bool = False
    case: CaseId | Literal[""] = ""
    expected: Text = ""
    note: LongText = ""


class _Head(msgspec.Struct):
    """What tells a trial file from a kernel in JSON."""

    format: str = ""


@dataclass(frozen=True, slots=True)
class SavedTrial:
    """A launch from a file, or for one.

    `case` is the id of the case that it came from, `expected` says in a line how it failed when it was written (empty
    where nobody said that it fails), `note` is free text.
    """

    trial: Trial
    case: str = ""
    expected: str = ""
    note: str = ""


# --- writing ------------------------------------------------------------------------------------------------------


def encode_trial(saved: SavedTrial) -> bytes:
    """Return the content of a trial file."""
    trial = saved.trial
    kernel = trial.kernel
    record = TrialRecord(
        format="portkit-trial",
        version=1,
        kernel=format_kernel(kernel).splitlines(),
        scalars={s.name: _scalar_text(s, trial.scalars[s.name]) for s in kernel.scalars},
        buffers={b.name: _contents(b, trial.inputs[b.name]) for b in kernel.buffers if b.name in trial.inputs},
        device_check_only=trial.device_check_only,
        case=saved.case,
        expected=saved.expected[:400],
        note=saved.note,
    )
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def save_trial(path: Path, saved: SavedTrial) -> Path:
    """Write a trial file, whole or not at all. Raises `UsageError` where it cannot be written."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_atomically(path, encode_trial(saved))


def _scalar_text(scalar: Scalar, value: int | float) -> int | str:
    return f"0x{encode(scalar.dtype, float(value)):08x}" if scalar.dtype.is_float else int(value)


def _contents(buffer: Buffer, array: Array) -> Contents:
    little = np.ascontiguousarray(array).view(f"<u{buffer.dtype.bytes}")
    if len(array) > MOST_SPELT:
        return Contents(buffer.dtype.name, len(array), base64=base64.b64encode(little.tobytes()).decode())
    bits = " ".join(f"{int(number):0{2 * buffer.dtype.bytes}x}" for number in little)
    return Contents(buffer.dtype.name, len(array), bits=bits)


# --- reading ------------------------------------------------------------------------------------------------------


def is_trial(content: bytes) -> bool:
    """Whether the content of a file claims to be a trial."""
    try:
        return msgspec.json.decode(content, type=_Head).format == "portkit-trial"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def load_trial(path: Path) -> SavedTrial:
    """Read a trial file. Raises `UsageError` where it cannot be read, else as `decode_trial`."""
    return decode_trial(read_file(path, MAX_FILE_BYTES), str(path))


def decode_trial(content: bytes, source: str = "the trial") -> SavedTrial:
    """Return the launch that a trial file holds, its kernel verified.

    Raises `SchemaError` for what is not a trial file or does not fit its kernel, `SpecError` for the kernel.
    """
    try:
        record = msgspec.json.decode(content, type=TrialRecord)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError(f"{source}: not a trial file of version 1: {error}") from error
    kernel = parse("\n".join(record.kernel) + "\n")
    verify(kernel)
    _same_names(source, "scalars", {s.name for s in kernel.scalars}, set(record.scalars))
    scalars = {s.name: _scalar(source, s, record.scalars[s.name]) for s in kernel.scalars}
    _check_sizes(source, kernel, scalars)
    read = {b.name for b in kernel.buffers if b.access == "read"}
    written = {b.name for b in kernel.buffers} - read
    _same_names(source, "buffers", read, set(record.buffers) - written)
    inputs = {
        b.name: _array(source, b, b.extent.evaluate(scalars), record.buffers[b.name])
        for b in kernel.buffers
        if b.name in record.buffers
    }
    trial = Trial(kernel, scalars, inputs, record.device_check_only)
    return SavedTrial(trial, record.case, record.expected, record.note)


def _same_names(source: str, what: str, declared: set[str], given: set[str]) -> None:
    missing, unknown = sorted(declared - given), sorted(given - declared)
    if missing:
        raise SchemaError(f"{source}: the {what} lack {', '.join(missing[:5])}, which the kernel declares")
    if unknown:
        raise SchemaError(f"{source}: {what}: the kernel has no {unknown[0]!r}{near_names(unknown[0], declared)}")


def _scalar(source: str, scalar: Scalar, value: int | str) -> int | float:
    if scalar.dtype.is_float != isinstance(value, str):
        wanted = 'a bit pattern such as "0x3f800000"' if scalar.dtype.is_float else "an integer"
        raise SchemaError(f"{source}: scalar {scalar.name} is {scalar.dtype}, give {wanted}")
    if isinstance(value, str):
        return decode(scalar.dtype, int(value, 16))
    if not scalar.dtype.min_int <= value <= scalar.dtype.max_int:
        raise SchemaError(f"{source}: scalar {scalar.name} = {value} does not fit {scalar.dtype}")
    return value


def _check_sizes(source: str, kernel: Kernel, scalars: dict[str, int | float]) -> None:
    extents = {b.name: b.extent.evaluate(scalars) for b in kernel.buffers}
    below = next((name for name, n in extents.items() if n < 0), None)
    if below is not None:
        raise SchemaError(f"{source}: buffer {below} has the extent {extents[below]}")
    size = sum(extents[b.name] * b.dtype.bytes for b in kernel.buffers)
    if size > MAX_BUFFER_BYTES:
        raise SchemaError(f"{source}: the buffers take {size} bytes together, more than {MAX_BUFFER_BYTES}")


def _array(source: str, buffer: Buffer, extent: int, given: Contents) -> Array:
    where = f"{source}: buffer {buffer.name}"
    if (given.dtype, given.extent) != (buffer.dtype.name, extent):
        wanted = f"{extent} x {buffer.dtype}"
        raise SchemaError(f"{where}: the kernel declares {wanted}, the file has {given.extent} x {given.dtype}")
    if given.bits and given.base64:
        raise SchemaError(f"{where}: has both bits and base64")
    data = _decoded(where, given.base64) if given.base64 else _spelt(where, buffer, given.bits)
    if len(data) != extent * buffer.dtype.bytes:
        raise SchemaError(f"{where}: {len(data)} bytes are not the {extent * buffer.dtype.bytes} of {extent} elements")
    bits = np.frombuffer(data, f"<u{buffer.dtype.bytes}").astype(f"u{buffer.dtype.bytes}")
    return bits.view(buffer.dtype.numpy)


def _decoded(where: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise SchemaError(f"{where}: not base64: {error}") from error


def _spelt(where: str, buffer: Buffer, text: str) -> bytes:
    digits = 2 * buffer.dtype.bytes
    words = text.split()
    if any(len(word) != digits for word in words):
        raise SchemaError(f"{where}: each element of {buffer.dtype} is {digits} hexadecimal digits")
    try:
        return b"".join(bytes.fromhex(word)[::-1] for word in words)
    except ValueError as error:
        raise SchemaError(f"{where}: not hexadecimal: {error}") from error
