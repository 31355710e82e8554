"""Memory instructions of gfx942 as functions of waves.

Global memory and the kernel's arguments are one arena, the shared memory (LDS) of each work-group and the private
memory (scratch) of each lane are windows. Accesses may be unaligned, as the driver sets these chips up. Source:
CDNA3 ISA, chapters 7 (scalar), 9 and 10 (flat, global, scratch), 11 (LDS); 12.13 to 12.17 for the instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from portkit.emulators.gcn_alu import raw_reader
from portkit.emulators.gcn_text import Instruction, Operand, check_known
from portkit.emulators.gcn_waves import WAVE, Array, Waves
from portkit.emulators.memory import Arena, EmulatorFault, Windows

_CACHE = frozenset({"sc0", "sc1", "nt"})
_WORD = 4


@dataclass(frozen=True, slots=True)
class Access:
    """What a load or store moves: words of a type, into or out of how many registers, and which half of the register.

    `half` is 16 for the upper, which a load of 16 bits or fewer writes alone (`_d16_hi`).
    """

    dtype: Any
    count: int = 1
    half: int = 0
    keep: bool = False


_SIZES = {"dword": 1, "dwordx2": 2, "dwordx3": 3, "dwordx4": 4, "dwordx8": 8, "dwordx16": 16}
_NARROW = {"ubyte": np.uint8, "sbyte": np.int8, "ushort": np.uint16, "sshort": np.int16}
_SHORT = {"short": np.uint16, "byte": np.uint8}

_LOADS: dict[str, Access] = {
    **{name: Access(np.uint32, count) for name, count in _SIZES.items()},
    **{name: Access(dtype) for name, dtype in _NARROW.items()},
    **{f"{name}_d16{suffix}": Access(dtype, 1, half, keep=True)
       for name, dtype in (*_NARROW.items(), ("short", np.uint16))
       for suffix, half in (("", 0), ("_hi", 16))},
}  # fmt: skip
_STORES: dict[str, Access] = {
    **{name: Access(np.uint32, count) for name, count in _SIZES.items()},
    **{f"{name}{suffix}": Access(dtype, 1, half)
       for name, dtype in _SHORT.items()
       for suffix, half in (("", 0), ("_d16_hi", 16))},
}  # fmt: skip
_DS_SIZES = {"b32": 1, "b64": 2, "b96": 3, "b128": 4}
_DS_NARROW = {"u8": np.uint8, "i8": np.int8, "u16": np.uint16, "i16": np.int16}
_DS_LOADS: dict[str, Access] = {
    **{name: Access(np.uint32, count) for name, count in _DS_SIZES.items()},
    **{name: Access(dtype) for name, dtype in _DS_NARROW.items()},
    **{f"{name}_d16{suffix}": Access(dtype, 1, half, keep=True)
       for name, dtype in _DS_NARROW.items()
       for suffix, half in (("", 0), ("_hi", 16))},
}  # fmt: skip
_DS_STORES: dict[str, Access] = {
    **{name: Access(np.uint32, count) for name, count in _DS_SIZES.items()},
    **{f"{name}{suffix}": Access(dtype, 1, half)
       for name, dtype in (("b8", np.uint8), ("b16", np.uint16))
       for suffix, half in (("", 0), ("_d16_hi", 16))},
}  # fmt: skip


def _table_of_atomics() -> dict[str, tuple[Any, np.ufunc]]:
    integers: dict[str, np.ufunc] = {"add": np.add, "sub": np.subtract, "and": np.bitwise_and, "or": np.bitwise_or}
    integers["xor"] = np.bitwise_xor
    table: dict[str, tuple[Any, np.ufunc]] = {}
    for suffix, size in (("", 4), ("_x2", 8)):
        table |= {f"{name}{suffix}": (f"u{size}", f) for name, f in integers.items()}
        for letter, kind in (("s", "i"), ("u", "u")):
            table[f"{letter}max{suffix}"] = (f"{kind}{size}", np.maximum)
            table[f"{letter}min{suffix}"] = (f"{kind}{size}", np.minimum)
    for name in ("f32", "f64"):
        table[f"add_{name}"] = (name[0] + str(int(name[1:]) // 8), np.add)
    return table


_ATOMICS = _table_of_atomics()


class Spaces:
    """The memories that the waves of one batch see; `first` is the number of the batch's first work-group."""

    def __init__(self, arena: Arena, shared: Windows, private: Windows, first: int) -> None:
        self.arena = arena
        self.shared = shared
        self.private = private
        self.first = first


Addressing = Callable[[Waves], Array]
Memory = Callable[[Waves, Spaces], None]


def memory_step(instruction: Instruction) -> Memory | None:
    """Return a memory instruction as a function of waves and memories, None if the tables have none of that name."""
    space, kind, *rest = instruction.name.split("_", 2)
    found = _KINDS.get(f"{space}_{kind}")
    return found(instruction, space, "".join(rest)) if found else None


# --- addresses ----------------------------------------------------------------------------------------------------


def _of_lanes(w: Waves, operand: Operand) -> Array:
    """Return an address or offset operand as int64, a column for each lane; `off` is 0."""
    if not operand.file:
        return np.zeros((1, 1), np.int64)
    if operand.file == "v":
        wide = w.vector_pair(operand.index) if operand.count == 2 else w.vector(operand.index)
    else:
        wide = (w.scalar_pair(operand.index) if operand.count == 2 else w.scalar(operand.index))[:, None]
    return wide.astype(np.int64)


def _address(instruction: Instruction, *operands: Operand, extra: int = 0) -> Addressing:
    """Return the sum of operands and offsets, flat, one for each lane of each wave; addresses of LDS have 32 bits."""
    offset = instruction.number("offset") + extra
    mask = np.int64(0xFFFFFFFF if instruction.name.startswith("ds_") else -1)

    def run(w: Waves) -> Array:
        total = sum((_of_lanes(w, operand) for operand in operands), np.zeros((1, 1), np.int64)) + offset
        return np.broadcast_to(total & mask, w.shape).ravel()

    return run


def _place(w: Waves, spaces: Spaces, space: str) -> tuple[Arena | Windows, dict[str, Any]]:
    """Return the memory of a space, and whose window each lane uses."""
    active = w.active
    chosen: dict[str, Any] = {"active": None if active is None else active.ravel()}
    if space == "global":
        return spaces.arena, chosen
    if space == "ds":
        return spaces.shared, {**chosen, "owners": np.repeat(w.groups, w.width)}
    lanes = ((w.slots * w.width)[:, None] + w.lanes).ravel()
    return spaces.private, {**chosen, "owners": lanes}


# --- loads and stores ---------------------------------------------------------------------------------------------


def load_words(memory: Arena | Windows, addresses: Array, dtype: Any, count: int, **whose: Any) -> Array:
    """Return consecutive words for each address, byte by byte where one is unaligned."""
    size = np.dtype(dtype).itemsize
    if size == 1 or not bool(np.bitwise_or.reduce(addresses) & (size - 1)):
        return memory.gather(addresses, dtype, count, align=size, **whose)
    loaded = memory.gather(addresses, np.uint8, count * size, align=1, **whose)
    return np.ascontiguousarray(loaded.reshape(count, size, -1).swapaxes(1, 2)).view(dtype)[:, :, 0]


def store_words(memory: Arena | Windows, addresses: Array, values: Array, **whose: Any) -> None:
    """Store consecutive words from each address on, byte by byte where one is unaligned."""
    size = values.dtype.itemsize
    if size == 1 or not bool(np.bitwise_or.reduce(addresses) & (size - 1)):
        memory.scatter(addresses, values, align=size, **whose)
        return
    apart = np.ascontiguousarray(values)[:, :, None].view(np.uint8).swapaxes(1, 2)
    memory.scatter(addresses, apart.reshape(-1, values.shape[1]), align=1, **whose)


def _load(instruction: Instruction, space: str, what: str) -> Memory | None:
    access = (_DS_LOADS if space == "ds" else _LOADS).get(what)
    if access is None:
        return None
    check_known(instruction, _CACHE | {"offset"})
    target, *address = instruction.operands
    return _loading(instruction, space, access, [(target.index, _address(instruction, *address))])


def _loading(instruction: Instruction, space: str, access: Access, pieces: Sequence[tuple[int, Addressing]]) -> Memory:
    """Load from every address, then write the registers, of which one may have held an address."""

    def run(w: Waves, spaces: Spaces) -> None:
        memory, whose = _place(w, spaces, space)
        with located(instruction, w, spaces):
            loaded = [load_words(memory, at(w), access.dtype, access.count, **whose) for _, at in pieces]
        for (target, _), rows in zip(pieces, loaded, strict=True):
            for step, row in enumerate(rows):
                value = row.astype(np.int32).view(np.uint32) if row.dtype.kind == "i" else row.astype(np.uint32)
                _write_part(w, target + step, value.reshape(w.count, w.width), access)

    return run


def _write_part(w: Waves, index: int, value: Array, access: Access) -> None:
    if access.keep:
        kept = w.vector(index) & np.uint32(0xFFFF if access.half else 0xFFFF0000)
        value = kept | ((value & np.uint32(0xFFFF)) << access.half)
    w.write_vector(index, value)


def _store(instruction: Instruction, space: str, what: str) -> Memory | None:
    access = (_DS_STORES if space == "ds" else _STORES).get(what)
    if access is None:
        return None
    check_known(instruction, _CACHE | {"offset"})
    first, source, *rest = instruction.operands
    return _storing(instruction, space, access, [(source.index, _address(instruction, first, *rest))])


def _storing(instruction: Instruction, space: str, access: Access, pieces: Sequence[tuple[int, Addressing]]) -> Memory:
    def run(w: Waves, spaces: Spaces) -> None:
        memory, whose = _place(w, spaces, space)
        for source, address in pieces:
            rows = np.stack([w.vector(source + step).ravel() for step in range(access.count)])
            with located(instruction, w, spaces):
                store_words(memory, address(w), (rows >> access.half).astype(access.dtype), **whose)

    return run


def _two(instruction: Instruction, space: str, what: str) -> Memory | None:
    """Load or store two words at offsets counted in words, or in 64 words (DS_READ2_B32, DS_WRITE2ST64_B64)."""
    check_known(instruction, {"offset0", "offset1"})
    loads, words = "_read2" in instruction.name, _DS_SIZES[what]
    stride = words * _WORD * (64 if "st64" in instruction.name else 1)
    operands = instruction.operands
    address = operands[1 if loads else 0]
    offsets = [instruction.number(f"offset{place}") * stride for place in range(2)]
    registers = [operands[0].index, operands[0].index + words] if loads else [o.index for o in operands[1:3]]
    pieces = [(r, _address(instruction, address, extra=n)) for r, n in zip(registers, offsets, strict=True)]
    return (_loading if loads else _storing)(instruction, space, Access(np.uint32, words), pieces)


def _scalar_load(instruction: Instruction, _: str, what: str) -> Memory | None:
    """Load into scalar registers, from an address that is the same for a whole wave (CDNA3 ISA, chapter 7)."""
    check_known(instruction, {"offset"})
    target, base, offset = instruction.operands
    count, constant = _SIZES[what], instruction.number("offset")
    distance = raw_reader(offset, _WORD)

    def run(w: Waves, spaces: Spaces) -> None:
        addresses = w.scalar_pair(base.index).astype(np.int64) + distance(w)[:, 0] + constant
        with located(instruction, w, spaces):
            rows = spaces.arena.gather(addresses, np.uint32, count, align=_WORD)
        for step, row in enumerate(rows):
            w.write_scalar(target.index + step, row)

    return run


# --- atomics ------------------------------------------------------------------------------------------------------


def _global_atomic(instruction: Instruction, space: str, what: str) -> Memory | None:
    check_known(instruction, _CACHE | {"offset"})
    returns = "sc0" in instruction.modifiers
    operands = instruction.operands[1:] if returns else instruction.operands
    address = _address(instruction, operands[0], operands[2])
    target = instruction.operands[0].index if returns else None
    if what.startswith("cmpswap"):
        words = 2 if what.endswith("_x2") else 1
        source = operands[1].index
        return _swapping(instruction, space, target, address, (source + words, source), words)
    return _updating(instruction, space, what, target, address, operands[1].index)


def _shared_atomic(instruction: Instruction, space: str, what: str) -> Memory | None:
    """Read DS_ADD_U32 and the like; with `rtn` the first operand is the result."""
    check_known(instruction, {"offset"})
    name = instruction.name.removeprefix("ds_")
    returns = "_rtn" in name
    kind, type_ = name.replace("_rtn", "").rsplit("_", 1)
    operands = instruction.operands[1:] if returns else instruction.operands
    target = instruction.operands[0].index if returns else None
    address = _address(instruction, operands[0])
    if kind == "cmpst":
        pair = (operands[1].index, operands[2].index)
        return _swapping(instruction, space, target, address, pair, int(type_[1:]) // 32)
    letter = type_[0] if kind in ("max", "min") and type_[0] in "iu" else ""
    found = f"{letter.replace('i', 's')}{kind}" + ("_x2" if type_[1:] == "64" else "")
    found = f"{kind}_{type_}" if type_[0] == "f" else found
    return _updating(instruction, space, found, target, address, operands[1].index)


def _updating(
    instruction: Instruction, space: str, what: str, target: int | None, address: Addressing, source: int
) -> Memory | None:
    if what not in _ATOMICS:
        return None
    dtype, ufunc = _ATOMICS[what]
    if target is not None:
        raise instruction.fault("no atomic that returns what it found, but compare and swap")

    def run(w: Waves, spaces: Spaces) -> None:
        memory, whose = _place(w, spaces, space)
        with located(instruction, w, spaces):
            memory.update(ufunc, address(w), _data(w, source, dtype), **whose)

    return run


def _swapping(
    instruction: Instruction, space: str, target: int | None, address: Addressing, pair: tuple[int, int], words: int
) -> Memory:
    """Compare and swap; `pair` are the registers of the expected and of the new value."""
    dtype = f"u{words * _WORD}"

    def run(w: Waves, spaces: Spaces) -> None:
        memory, whose = _place(w, spaces, space)
        expected, value = (_data(w, register, dtype) for register in pair)
        with located(instruction, w, spaces):
            found = memory.compare_and_swap(address(w), expected, value, **whose).reshape(w.count, w.width)
        if target is not None:
            (w.write_vector if words == 1 else w.write_vector_pair)(target, found)

    return run


def _data(w: Waves, register: int, dtype: str) -> Array:
    wide = np.dtype(dtype).itemsize == 2 * _WORD
    return np.ascontiguousarray(w.vector_pair(register) if wide else w.vector(register)).view(dtype).ravel()


_KINDS: dict[str, Callable[[Instruction, str, str], Memory | None]] = {
    "s_load": _scalar_load,
    **{f"{space}_load": _load for space in ("global", "scratch")},
    **{f"{space}_store": _store for space in ("global", "scratch")},
    "global_atomic": _global_atomic,
    "ds_read": _load,
    "ds_write": _store,
    **{f"ds_{kind}{suffix}": _two for kind in ("read2", "write2") for suffix in ("", "st64")},
    **{f"ds_{kind}": _shared_atomic for kind in ("add", "sub", "and", "or", "xor", "max", "min", "cmpst")},
}


# --- faults -------------------------------------------------------------------------------------------------------


@contextmanager
def located(instruction: Instruction, waves: Waves, spaces: Spaces) -> Generator[None]:
    """Say of a fault which lane of which work-group it was, and at what instruction."""
    try:
        yield
    except EmulatorFault as fault:
        scalar = instruction.name.startswith("s_")
        row, lane = (fault.position, 0) if scalar else divmod(fault.position, waves.width)
        group, lane = spaces.first + int(waves.groups[row]), int(waves.numbers[row]) * WAVE + lane
        where = f"work-group {group}, lane {lane}, line {instruction.line} `{instruction.text}`"
        raise EmulatorFault(f"{fault} ({where})", fault.position) from fault
