"""Tensors in files of the safetensors format: eight bytes of header length, a JSON header, and the contents.

Files come from anywhere: whatever does not fit the format is refused before a byte of contents is read, and nothing in
a file is ever run. Source: the format section of the README of huggingface/safetensors.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from portkit.errors import DTypeError, SchemaError, UsageError, near_names
from portkit.spec.types import (
    BF16,
    BOOL,
    F8E4M3FN,
    F8E5M2,
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    DType,
)

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor

Array: TypeAlias = NDArray[Any]

MAX_HEADER = 100_000_000
"""Bytes of a header; the limit that the format's own implementation has."""
MAX_RANK = 64
"""Axes of an array in NumPy."""
MAX_BYTES = 2**63 - 1
METADATA = "__metadata__"
ALIGNMENT = 8

DTYPES: dict[str, DType] = {
    "BOOL": BOOL, "U8": U8, "I8": I8, "U16": U16, "I16": I16, "U32": U32, "I32": I32, "U64": U64, "I64": I64,
    "F8_E4M3": F8E4M3FN, "F8_E5M2": F8E5M2, "F16": F16, "BF16": BF16, "F32": F32, "F64": F64,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}

Natural: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the header says of one tensor; the offsets count from the end of the header."""

    dtype: str
    shape: Annotated[tuple[Natural, ...], msgspec.Meta(max_length=MAX_RANK)]
    data_offsets: tuple[Natural, Natural]


def load(path: str | Path, *, device: str | None = None) -> dict[str, Tensor]:
    """Return the tensors of a file by name, in the order of its header, on a device (the default one if None).

    Raises `UsageError` for a file that cannot be read, `SchemaError` for one that does not fit the format.
    """
    from portkit.tensor.base import device_name, source_of
    from portkit.tensor.tensor import Tensor

    arrays, _ = read(path)
    return {name: Tensor.of(source_of(array, name), device_name(device)) for name, array in arrays.items()}


def save(tensors: Mapping[str, Tensor], path: str | Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a file, computing those that wait; an old file is replaced only when the new one is whole.

    Raises `UsageError` for a file that cannot be written or the reserved name `__metadata__`, `DTypeError` for other
    than tensors.
    """
    from portkit.tensor.common import is_tensor
    from portkit.tensor.realising import realise

    for name, value in tensors.items():
        if not is_tensor(value):
            raise DTypeError(f"save: {name!r} is a {type(value).__name__}; make a tensor of it with Tensor(...)")
    realise(list(tensors.values()))
    write({name: tensor.numpy() for name, tensor in tensors.items()}, path, metadata=metadata)


# --- reading ------------------------------------------------------------------------------------------------------


def read(path: str | Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays of a file by name, and its metadata. Raises as `load`."""
    place = Path(path)
    try:
        with place.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            entries, metadata = _header(file, size, str(place))
            found: dict[str, Array] = {}
            for name, entry in sorted(entries.items(), key=_position):
                found[name] = _contents(file, name, entry, str(place))
            return {name: found[name] for name in entries}, metadata
    except OSError as error:
        raise UsageError(f"cannot read {place}: {error.strerror or error}") from error


def _header(file: BufferedReader, size: int, path: str) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the checked header, and leave the file where the contents begin."""
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(MAX_HEADER, size - 8):
        raise SchemaError(
            f"{path}: a header of {length} bytes does not fit a file of {size} (at most {MAX_HEADER}); "
            "it is cut short or no safetensors file"
        )
    text = file.read(length)
    if not text.startswith(b"{"):
        raise SchemaError(f"{path}: the header is no JSON object; it is no safetensors file")
    entries, metadata = _parsed(text, path)
    _check_layout(entries, size - 8 - length, path)
    return entries, metadata


def _parsed(text: bytes, path: str) -> tuple[dict[str, Entry], dict[str, str]]:
    try:
        raw = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(raw.pop(METADATA, msgspec.Raw(b"{}")), type=dict[str, str])
        entries: dict[str, Entry] = {}
        for name, value in raw.items():
            entries[name] = msgspec.json.decode(value, type=Entry)
        # That decoder keeps the last of two equal keys; the pairs tell whether there were two.
        json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, path))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise SchemaError(f"{path}: the header does not fit the format: {error}") from error
    return entries, metadata


def _once(pairs: list[tuple[str, Any]], path: str) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(n for n in names if names.count(n) > 1)
        raise SchemaError(f"{path}: the header names {twice!r} twice")
    return found


def _position(item: tuple[str, Entry]) -> tuple[int, int]:
    return item[1].data_offsets


def _check_layout(entries: Mapping[str, Entry], available: int, path: str) -> None:
    """Every byte of the contents belongs to one tensor, and every tensor has as many as its shape needs."""
    end, before = 0, "the header"
    for name, entry in sorted(entries.items(), key=_position):
        if entry.dtype not in DTYPES:
            raise SchemaError(f"{path}: {name!r} has unknown dtype {entry.dtype!r}{near_names(entry.dtype, DTYPES)}")
        start, stop = entry.data_offsets
        width = DTYPES[entry.dtype].bytes
        if prod(max(n, 1) for n in entry.shape) * width > MAX_BYTES:
            raise SchemaError(f"{path}: {name!r} of shape {list(entry.shape)} has extents beyond {MAX_BYTES} bytes")
        needed = prod(entry.shape) * width
        if stop - start != needed:
            raise SchemaError(
                f"{path}: {name!r} is {entry.dtype} {list(entry.shape)}, {needed} bytes, "
                f"but its offsets are {start}..{stop}"
            )
        if start != end:
            what = "overlaps" if start < end else "leaves a hole after"
            raise SchemaError(f"{path}: {name!r} at {start}..{stop} {what} {before}, which ends at {end}")
        end, before = stop, repr(name)
    if end != available:
        raise SchemaError(f"{path}: the tensors end at {end}, the contents at {available}")


def _contents(file: BufferedReader, name: str, entry: Entry, path: str) -> Array:
    """Return the next tensor of the file: they are read in the order of their offsets."""
    dtype = DTYPES[entry.dtype]
    data = np.empty(entry.data_offsets[1] - entry.data_offsets[0], np.uint8)
    if file.readinto(data.data) != data.size:
        raise SchemaError(f"{path}: the file became shorter while {name!r} was read")
    if dtype is BOOL and data.size and data.max() > 1:
        raise SchemaError(f"{path}: {name!r} is BOOL but has a byte of {data.max()}; only 0 and 1 are bools")
    return data.view(dtype.numpy).reshape(entry.shape)


# --- writing ------------------------------------------------------------------------------------------------------


def write(arrays: Mapping[str, Array], path: str | Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays of the dtypes of the spec to a file. Raises as `save`."""
    from portkit.tensor.promotion import as_dtype

    if METADATA in arrays:
        raise UsageError(f"{METADATA!r} is reserved by the format; rename the tensor, or give it as metadata")
    dtypes = {name: as_dtype(array.dtype) for name, array in arrays.items()}
    order = sorted(arrays, key=lambda name: (-dtypes[name].bits, name))  # the widest first: all are aligned
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        start, end = end, end + arrays[name].nbytes
        header[name] = Entry(NAMES[dtypes[name]], arrays[name].shape, (start, end))
    text = msgspec.json.encode(header)
    text += b" " * (-len(text) % ALIGNMENT)
    if len(text) > MAX_HEADER:
        raise UsageError(
            f"cannot write {path}: its header would have {len(text)} bytes, the format allows {MAX_HEADER}"
        )
    _replace(Path(path), [len(text).to_bytes(8, "little"), text, *(_bytes(arrays[name]) for name in order)])


def _bytes(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _replace(path: Path, parts: list[bytes | memoryview]) -> None:
    """Write a file beside its place, then put it there in one step: a reader sees the old one or the new one."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
