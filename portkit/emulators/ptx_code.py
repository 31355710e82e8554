"""Instructions of PTX as Python functions: one *step* for each, made once when a kernel is loaded.

A step gets a *frame*: what the threads that execute a block see, by name. Registers are arrays with an element for each
of these threads, or a scalar that all of them share, which makes address arithmetic and loop counters of a whole
work-group cheap. Their NumPy type is any of the register's width; a step takes its own view.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np

from portkit.emulators.memory import EmulatorFault
from portkit.emulators.ptx_arithmetic import OPERATIONS, TYPES, Operation
from portkit.emulators.ptx_text import Entry, Instruction, Operand
from portkit.errors import CompileError

Frame: TypeAlias = dict[str, Any]
Step: TypeAlias = Callable[[Frame], None]
Read: TypeAlias = Callable[[Frame], Any]
Write: TypeAlias = Callable[[Frame, Any], None]

THREADS, OWNERS, GLOBAL, SHARED, PARAMETERS = "threads", "owners", "global", "shared", "parameters"
"""What a frame holds besides registers: how many threads, the group of each in the batch, memories, arguments."""
SPECIAL = ("%tid.x", "%ctaid.x")
_SINK = "_"
_ADDRESS = re.compile(r"\[([%\w$]+?)(?:\+(-?\d+))?\]")
_VECTOR = {"v2": 2, "v4": 4}
_ORDERS = {"nc", "relaxed", "sys", "gpu", "cta", "volatile"}
_ATOMICS: dict[str, Callable[..., Any]] = {"add": np.add, "min": np.minimum, "max": np.maximum}
_KINDS = {*_ATOMICS, "cas", "exch"}
_NOTHING = {"membar.cta", "membar.gl"}
"""Fences: each access is complete before the next instruction begins."""


def step_of(instruction: Instruction, entry: Entry) -> Step | None:
    """Return what an instruction does, None for nothing.

    Raises `CompileError` for a mnemonic or an operand that is not known.
    """
    if instruction.name in _NOTHING:
        return None
    kind = instruction.name.partition(".")[0]
    if kind == "mov" and any(isinstance(o, tuple) for o in instruction.operands):
        return _pack(instruction, entry)
    if kind in _MEMORY:
        return _MEMORY[kind](instruction, entry)
    if instruction.name not in OPERATIONS:
        raise CompileError(f"PTX: unknown instruction {instruction.name}: {instruction.text}")
    return _arithmetic(instruction, OPERATIONS[instruction.name], entry)


def check_unread(instructions: Iterable[Instruction]) -> None:
    """Raise `CompileError` where the value that an atomic operation found is used, which only that of `cas` may be."""
    listed = list(instructions)
    read = {name for instruction in listed for name in registers(instruction)[0]}
    for instruction in listed:
        plain = instruction.name.startswith("atom.") and ".cas." not in instruction.name
        if plain and (used := registers(instruction)[1] & read):
            raise CompileError(f"PTX: unknown use of {', '.join(used)}, the old value of {instruction.text}")


def registers(instruction: Instruction) -> tuple[set[str], set[str]]:
    """Return the registers that an instruction reads, and those that it writes."""
    names = [list(_names(operand)) for operand in instruction.operands]
    if instruction.name.startswith("st."):
        return {n for row in names for n in row}, set()
    return {n for row in names[1:] for n in row}, set(names[0] if names else ())


def _names(operand: Operand) -> Iterator[str]:
    for part in operand if isinstance(operand, tuple) else operand.split("|"):
        yield from re.findall(r"%[\w.]+", part)


# --- operands -----------------------------------------------------------------------------------------------------


def _reader(operand: Operand, type_: str, entry: Entry) -> Read:
    """Return what reads an operand as a type; a register wider than the type gives its low bits."""
    if isinstance(operand, tuple):
        raise CompileError(f"PTX: {operand} is no single operand")
    dtype = TYPES[type_]
    if not operand.startswith("%"):
        number = _number(operand, dtype, entry)
        return lambda frame: number
    if operand in SPECIAL or entry.width(operand) in (1, 8 * dtype.itemsize):
        return lambda frame: frame[operand].view(dtype)
    wide = np.dtype(f"uint{entry.width(operand)}")
    narrow = np.dtype(f"uint{8 * dtype.itemsize}")
    return lambda frame: frame[operand].view(wide).astype(narrow).view(dtype)


def _number(text: str, dtype: np.dtype[Any], entry: Entry) -> Any:
    """Return a constant: a decimal or hexadecimal integer, a float by its bits, or where a shared array starts."""
    if text in entry.shared:
        return dtype.type(entry.shared[text])
    if dtype == np.bool_:
        return np.bool_(int(text))
    try:
        bits = int(f"0x{text[2:]}", 0) if text[:2] in ("0f", "0d") else int(text.rstrip("U"), 0)
    except ValueError as error:
        raise CompileError(f"PTX: cannot read the operand {text!r}") from error
    return np.dtype(f"uint{8 * dtype.itemsize}").type(bits & ((1 << 8 * dtype.itemsize) - 1)).view(dtype)


def _writer(operand: str, type_: str, entry: Entry) -> Write:
    """Return what writes a register; one wider than the type is filled up by the type's sign."""
    width, dtype = entry.width(operand), TYPES[type_]
    if width in (1, 8 * dtype.itemsize):
        return lambda frame, value: frame.__setitem__(operand, value)
    wide = np.dtype(f"{dtype.kind if dtype.kind == 'i' else 'u'}{width // 8}")
    return lambda frame, value: frame.__setitem__(operand, value.astype(wide))


def _plain(operand: Operand) -> str:
    if isinstance(operand, tuple) or not operand.startswith("%"):
        raise CompileError(f"PTX: {operand} is no register to write")
    return operand


# --- arithmetic ---------------------------------------------------------------------------------------------------


def _arithmetic(instruction: Instruction, operation: Operation, entry: Entry) -> Step:
    target, *sources = instruction.operands
    if len(sources) != len(operation.operands):
        raise CompileError(f"PTX: {instruction.text} has {len(sources)} operands, not {len(operation.operands)}")
    reads = [_reader(source, t, entry) for source, t in zip(sources, operation.operands, strict=True)]
    compute = operation.compute
    if len(operation.results) == 2:
        first, second = _plain(target).split("|")

        def two(frame: Frame) -> None:
            frame[first], frame[second] = compute(*[read(frame) for read in reads])

        return two
    write = _writer(_plain(target), operation.results[0], entry)

    def step(frame: Frame) -> None:
        write(frame, compute(*[read(frame) for read in reads]))

    return step


def _pack(instruction: Instruction, entry: Entry) -> Step:
    """Registers side by side as one of their total width, or the other way round; low bits first (9.7.9.2)."""
    target, source = instruction.operands
    bits = int(instruction.name.removeprefix("mov.b"))
    if isinstance(target, tuple):
        return _unpack(target, _reader(source, f"b{bits}", entry), bits, entry)
    parts = source if isinstance(source, tuple) else (source,)
    size = bits // len(parts)
    reads = [_reader(part, f"b{size}", entry) for part in parts]
    write, wide = _writer(target, f"b{bits}", entry), np.dtype(f"uint{bits}").type

    def pack(frame: Frame) -> None:
        total = wide(0)
        for place, read in enumerate(reads):
            total = total | (read(frame).astype(wide) << wide(place * size))
        write(frame, total)

    return pack


def _unpack(target: tuple[str, ...], read: Read, bits: int, entry: Entry) -> Step:
    size = bits // len(target)
    narrow, wide = np.dtype(f"uint{size}"), np.dtype(f"uint{bits}").type
    writes = [(wide(at * size), _writer(p, f"b{size}", entry)) for at, p in enumerate(target) if p != _SINK]

    def unpack(frame: Frame) -> None:
        value = read(frame)
        for shift, write in writes:
            write(frame, (value >> shift).astype(narrow))

    return unpack


# --- memory (9.7.9.8 ld, 9.7.9.11 st, 9.7.13 atom) ----------------------------------------------------------------


def _address(operand: Operand, entry: Entry) -> Read:
    """Return what reads an address: a register or the name of a shared array, and an offset in bytes."""
    match = _ADDRESS.fullmatch(operand) if isinstance(operand, str) else None
    if match is None:
        raise CompileError(f"PTX: cannot read the address {operand!r}")
    base, offset = _reader(match[1], "s64", entry), np.int64(match[2] or 0)
    return base if not offset else lambda frame: base(frame) + offset


def _modifiers(instruction: Instruction) -> tuple[str, int, str]:
    """Return the state space, how many words, and the type of a load, store or atomic operation."""
    _, *parts, type_ = instruction.name.split(".")
    rest = [part for part in parts if part not in _ORDERS]
    count = _VECTOR[rest.pop()] if rest and rest[-1] in _VECTOR else 1
    if type_ not in TYPES or not rest or rest[0] not in (GLOBAL, SHARED, "param"):
        raise CompileError(f"PTX: unknown instruction {instruction.name}: {instruction.text}")
    return rest[0], count, type_


def _thread_addresses(frame: Frame, address: Any) -> Any:
    return np.broadcast_to(address, (frame[THREADS],))


def _owners(frame: Frame, space: str) -> Any:
    return frame[OWNERS] if space == SHARED else None


def _load(instruction: Instruction, entry: Entry) -> Step:
    space, count, type_ = _modifiers(instruction)
    target, source = instruction.operands
    if space == "param":
        return _load_parameter(_plain(target), str(source), type_, entry)
    targets = target if isinstance(target, tuple) else (target,)
    writes = [_writer(t, type_, entry) if t != _SINK else None for t in targets]
    address, dtype = _address(source, entry), TYPES[type_]

    def load(frame: Frame) -> None:
        where = address(frame)
        alone = where.ndim == 0 and space == GLOBAL  # the same word for all
        where = where.reshape(1) if alone else _thread_addresses(frame, where)
        rows = _noting(instruction, frame[space].gather, where, dtype, count, owners=_owners(frame, space))
        for write, row in zip(writes, rows, strict=True):
            if write is not None:
                write(frame, row[0] if alone else row)

    return load


def _load_parameter(target: str, source: str, type_: str, entry: Entry) -> Step:
    name = source.strip("[]")
    if name not in entry.parameters:
        raise CompileError(f"PTX: no parameter {name}")
    start, dtype, write = entry.parameters[name], TYPES[type_], _writer(target, type_, entry)
    return lambda frame: write(frame, np.frombuffer(frame[PARAMETERS], dtype, 1, start)[0])


def _store(instruction: Instruction, entry: Entry) -> Step:
    space, _, type_ = _modifiers(instruction)
    target, source = instruction.operands
    reads = [_reader(s, type_, entry) for s in (source if isinstance(source, tuple) else (source,))]
    return _put(instruction, space, _address(target, entry), reads)


def _put(instruction: Instruction, space: str, address: Read, reads: list[Read]) -> Step:
    """Store words in thread order."""

    def store(frame: Frame) -> None:
        where = _thread_addresses(frame, address(frame))
        values = np.stack([np.broadcast_to(read(frame), where.shape) for read in reads])
        _noting(instruction, frame[space].scatter, where, values, owners=_owners(frame, space))

    return store


def _atomic(instruction: Instruction, entry: Entry) -> Step:
    """The value found is given for `cas` only, see `check_unread`."""
    short = Instruction(".".join(p for p in instruction.name.split(".") if p not in _KINDS), (), "")
    space, _, type_ = _modifiers(short)
    kinds = [p for p in instruction.name.split(".") if p in _KINDS]
    target, source, *operands = instruction.operands
    address, reads = _address(source, entry), [_reader(o, type_, entry) for o in operands]
    if kinds == ["cas"]:
        return _swap(instruction, space, address, reads, _writer(_plain(target), type_, entry))
    if kinds == ["exch"]:  # what it found is not used, so it is a store
        return _put(instruction, space, address, reads)
    if len(kinds) != 1:
        raise CompileError(f"PTX: unknown instruction {instruction.name}: {instruction.text}")
    ufunc = _ATOMICS[kinds[0]]

    def update(frame: Frame) -> None:
        where = _thread_addresses(frame, address(frame))
        values = np.broadcast_to(reads[0](frame), where.shape)
        _noting(instruction, frame[space].update, ufunc, where, values, owners=_owners(frame, space))

    return update


def _swap(instruction: Instruction, space: str, address: Read, reads: list[Read], write: Write) -> Step:
    def swap(frame: Frame) -> None:
        where = _thread_addresses(frame, address(frame))
        expected, new = (np.broadcast_to(read(frame), where.shape) for read in reads)
        swapper = frame[space].compare_and_swap
        write(frame, _noting(instruction, swapper, where, expected, new, owners=_owners(frame, space)))

    return swap


def _noting(instruction: Instruction, access: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Do an access; a fault says which instruction it was."""
    try:
        return access(*args, **named)
    except EmulatorFault as fault:
        raise EmulatorFault(f"{fault} by `{instruction.text}`", fault.position) from fault


_MEMORY: dict[str, Callable[[Instruction, Entry], Step]] = {"ld": _load, "st": _store, "atom": _atomic}
