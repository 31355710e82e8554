"""The JSON form of kernels, for machines; it carries what the text carries and round-trips exactly (Spec: text_c1).

Each instruction names its form, result and operands; where it has a result its type is written out, and checked against
the type that the signature gives. The `imms` of a `mov.const` is the bit pattern of the constant. JSON may come from
anyone: sizes are capped by the schema, nothing recurses, and every failure is a `SpecError`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import msgspec

from portkit.errors import ParseError, SpecError
from portkit.spec.assemble import MAX_BYTES, MAX_DECLARATIONS, MAX_FACTORS, MAX_INSTRUCTIONS, Assembler, written_type
from portkit.spec.forms import VERSION
from portkit.spec.kernel import Access, Instr, Kernel, Numeric
from portkit.spec.names import show
from portkit.spec.shape import check_shape
from portkit.spec.types import TOKEN, Type, parse_type

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
_Optional = Annotated[str, msgspec.Meta(max_length=64, pattern="^([A-Za-z_][A-Za-z0-9_]*)?$")]
_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
_Positive = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_Declarations = msgspec.Meta(max_length=MAX_DECLARATIONS)


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class _Buffer(_Part, frozen=True):
    name: _Name
    dtype: _Word
    extent: Annotated[tuple[_Positive | _Name, ...], msgspec.Meta(min_length=1, max_length=MAX_FACTORS)]
    """Factors: positive literals and names of i32 scalars."""
    access: Access


class _Scalar(_Part, frozen=True):
    name: _Name
    dtype: _Word


class _Shared(_Part, frozen=True):
    name: _Name
    dtype: _Word
    extent: _Positive


class _Instr(_Part, frozen=True):
    form: _Word
    result: _Optional = ""
    type: Annotated[str, msgspec.Meta(max_length=32)] = ""
    args: Annotated[tuple[_Name, ...], msgspec.Meta(max_length=64)] = ()
    mems: Annotated[tuple[_Name, ...], msgspec.Meta(max_length=2)] = ()
    imms: Annotated[tuple[int, ...], msgspec.Meta(max_length=1)] = ()
    gate: _Optional = ""
    other: _Optional = ""
    carries: tuple[tuple[_Name, _Name], ...] = ()
    """Pairs of a carry and its next value."""


class _Kernel(_Part, frozen=True, kw_only=True, tag_field="format", tag="portkit-kernel"):
    version: _Word
    name: _Name
    numeric: Numeric = "fast"
    buffers: Annotated[tuple[_Buffer, ...], _Declarations] = ()
    scalars: Annotated[tuple[_Scalar, ...], _Declarations] = ()
    shared: Annotated[tuple[_Shared, ...], _Declarations] = ()
    body: Annotated[tuple[_Instr, ...], msgspec.Meta(max_length=MAX_INSTRUCTIONS)]


_DECODER = msgspec.json.Decoder(_Kernel)
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": f"portkit kernel {VERSION}",
    **msgspec.json.schema(_Kernel),
}
"""The JSON Schema of the form."""


def to_json(kernel: Kernel) -> bytes:
    """Return the JSON form of a kernel; `from_json` gives back an equal one."""
    return msgspec.json.encode(
        _Kernel(
            version=kernel.version,
            name=kernel.name,
            numeric=kernel.numeric,
            buffers=tuple(_Buffer(b.name, b.dtype.name, b.extent.factors, b.access) for b in kernel.buffers),
            scalars=tuple(_Scalar(s.name, s.dtype.name) for s in kernel.scalars),
            shared=tuple(_Shared(s.name, s.dtype.name, s.extent) for s in kernel.shared),
            body=tuple(_encode(instr) for instr in kernel.body),
        )
    )


def _encode(instr: Instr) -> _Instr:
    return _Instr(
        form=instr.name,
        result=instr.result,
        type="" if instr.type is None else str(instr.type),
        args=instr.args,
        mems=instr.mems,
        imms=instr.imms,
        gate=instr.gate,
        other=instr.other,
        carries=instr.carries,
    )


def from_json(data: bytes) -> Kernel:
    """Return the kernel of a JSON form; its rules beyond names and types are left to `verify`.

    Raises `ParseError` with the clause that is broken, and the place of the instruction.
    """
    if len(data) > MAX_BYTES:
        raise ParseError(f"the JSON has more than {MAX_BYTES} bytes", clause="limit_c2")
    try:
        read = _DECODER.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ParseError(f"the JSON does not fit the schema: {_reason(error)}", clause="text_c1") from error
    if read.version != VERSION:
        raise ParseError(f"version {show(read.version)} is not known, this reader knows {VERSION}", clause="header_c1")
    where = "header"
    try:
        kernel = _header(read)
        for number, part in enumerate(read.body):
            where = f"body[{number}]"
            _append(kernel, part)
    except SpecError as error:
        raise ParseError(f"{where}: {error.message}", clause=error.clause) from error
    return kernel.kernel()


def _reason(error: Exception) -> str:
    """Return the message of a decoder in one printable line."""
    return show(str(error))[1:-1] if not str(error).isprintable() else str(error)[:200]


def _header(read: _Kernel) -> Assembler:
    kernel = Assembler()
    kernel.name = read.name
    kernel.numeric = read.numeric
    for buffer in read.buffers:
        kernel.buffer(buffer.name, buffer.dtype, buffer.extent, buffer.access)
    for scalar in read.scalars:
        kernel.scalar(scalar.name, scalar.dtype)
    for shared in read.shared:
        kernel.shared(shared.name, shared.dtype, shared.extent)
    return kernel


def _append(kernel: Assembler, part: _Instr) -> None:
    for value in part.imms:
        if not -(1 << 63) <= value < 1 << 64:
            raise SpecError("a literal does not fit 64 bits", clause="const_c1")
    instr = Instr(
        part.form,
        part.result,
        _parse_type(part.type) if part.type else None,
        part.args,
        part.mems,
        part.imms,
        part.gate,
        part.other,
        part.carries,
    )
    check_shape(instr)
    inferred = kernel.append(replace(instr, type=None), written_type(instr))
    if inferred != instr.type:
        raise SpecError(f"the result is {inferred}, the instruction says {instr.type}", clause="type_c3")


def _parse_type(text: str) -> Type:
    return Type(TOKEN) if text == TOKEN.name else parse_type(text)
