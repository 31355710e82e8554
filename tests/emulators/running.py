"""Running PTX in tests: a kernel around one instruction, or a body of many, on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portkit.emulators.memory import Arena
from portkit.emulators.ptx import Program, launch

Array = NDArray[Any]
LANES = 32
_HEAD = """
.version 6.0
.target sm_70
.address_size 64
.visible .entry kernel(
    {parameters}
)
.reqntid {lanes}
{{
    .reg .pred %p<99>;
    .reg .b16 %rs<99>;
    .reg .b32 %r<99>;
    .reg .b64 %rd<99>;
    {body}
    ret;
}}
"""
_MOVES = {1: ("b8", "%rs"), 2: ("b16", "%rs"), 4: ("b32", "%r"), 8: ("b64", "%rd")}


def module(body: str, parameters: int, lanes: int = LANES) -> str:
    """Return a kernel of so many 64-bit parameters `p0`, `p1`, ..."""
    names = ",\n    ".join(f".param .u64 p{place}" for place in range(parameters))
    return _HEAD.format(parameters=names, lanes=lanes, body="\n    ".join(body.splitlines()))


def run(body: str, arrays: Sequence[Array], *, lanes: int = LANES, groups: int = 1) -> list[Array]:
    """Run a body whose parameters are the addresses of arrays; return the arrays afterwards."""
    memory = Arena(1 << 24)
    addresses = [memory.allocate(array.nbytes) for array in arrays]
    for address, array in zip(addresses, arrays, strict=True):
        memory.write(address, array.tobytes())
    words = np.array(addresses, np.uint64).tobytes()
    launch(Program(module(body, len(arrays), lanes)), memory, words, groups)
    return [
        np.frombuffer(memory.read(address, array.nbytes), array.dtype)
        for address, array in zip(addresses, arrays, strict=True)
    ]


def lane_address(place: int, size: int) -> str:
    """Return instructions that put the address of the lane's own element of array `place` into %rd9<place>."""
    return (
        f"ld.param.b64 %rd8{place}, [p{place}];\n"
        f"mul.wide.u32 %rd7{place}, %r90, {size};\n"
        f"add.s64 %rd9{place}, %rd8{place}, %rd7{place};\n"
    )


def apply(mnemonic: str, result: Any, *operands: Array, predicate: bool = False) -> Array:
    """Return what an instruction gives for each element of its operands: the whole way through memory and registers.

    `result` is the NumPy type of what is stored. With `predicate` the instruction sets %p1, which is stored as 1 or 0.
    """
    body = "mov.u32 %r90, %tid.x;\n"
    names: list[str] = []
    for place, operand in enumerate(operands):
        type_, register = _MOVES[operand.dtype.itemsize]
        body += lane_address(place, operand.dtype.itemsize)
        body += f"ld.global.{type_} {register}{place + 1}, [%rd9{place}];\n"
        names.append(f"{register}{place + 1}")
    size, last = np.dtype(result).itemsize, len(operands)
    type_, register = _MOVES[size]
    body += lane_address(last, size)
    if predicate:
        body += f"{mnemonic} %p1, {', '.join(names)};\nselp.{type_} {register}50, 1, 0, %p1;\n"
    else:
        body += f"{mnemonic} {register}50, {', '.join(names)};\n"
    body += f"st.global.{type_} [%rd9{last}], {register}50;"
    count = len(operands[0])
    return run(body, [*operands, np.zeros(count, result)], lanes=count)[-1]
