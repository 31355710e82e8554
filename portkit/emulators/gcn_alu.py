"""Vector instructions as functions of waves: where operands come from, where results go, and every modifier.

Source: CDNA3 ISA, 6.1 to 6.7 (operands, SDWA, packed math), LLVM's operand syntax for the text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from portkit.emulators.floats import flushed
from portkit.emulators.gcn_text import VCC, Instruction, Operand, check_known
from portkit.emulators.gcn_vector import MIXED, PACKED, VECTOR, Vector
from portkit.emulators.gcn_waves import Array, Waves

Step: TypeAlias = Callable[[Waves], None]
Read: TypeAlias = Callable[[Waves], Array]
Write: TypeAlias = Callable[[Waves, Array], None]

_NUMPY: dict[str, Any] = {f"{k}{n}": np.dtype(f"{k}{n // 8}") for k in "fiu" for n in (16, 32, 64)}
_SDWA = frozenset({"dst_sel", "dst_unused", "src0_sel", "src1_sel"})
_OUTPUT = frozenset({"clamp", "mul", "div"})
_SELECTIONS = {
    "DWORD": (0, 32),
    **{f"WORD_{n}": (16 * n, 16) for n in range(2)},
    **{f"BYTE_{n}": (8 * n, 8) for n in range(4)},
}


def vector_step(instruction: Instruction) -> Step | None:
    """Return a vector instruction as a function of waves, None if the tables have none of that name.

    Raises:
        UnknownInstruction: the table has it, but not with these modifiers.
    """
    if instruction.name in PACKED:
        return _packed(instruction, PACKED[instruction.name])
    if instruction.name in MIXED:
        return _mixed(instruction)
    if instruction.name in VECTOR:
        return _plain(instruction, VECTOR[instruction.name])
    return None


# --- sources ------------------------------------------------------------------------------------------------------


def raw_reader(operand: Operand, size: int, *, is_float: bool = False) -> Read:
    """Return what reads an operand of 4 or 8 bytes as unsigned, a column for each lane or one for all."""
    if operand.file == "v":
        index = operand.index
        return (lambda w: w.vector_pair(index)) if size == 8 else (lambda w: w.vector(index))
    if operand.file == "s":
        index = operand.index
        return (lambda w: w.scalar_pair(index)[:, None]) if size == 8 else (lambda w: w.scalar(index)[:, None])
    constant = np.array([[operand.bits(size, is_float=is_float)]], f"u{size}")
    return lambda w: constant


def reader(operand: Operand, type_: str) -> Read:
    """Return what reads an operand as a type, with its sign modifiers; of 16-bit types the lower half."""
    if type_ == "mask":
        return lambda w, index=operand.index: w.mask(index)
    dtype = _NUMPY[type_]
    if not operand.file:
        constant = np.array([[operand.bits(dtype.itemsize, is_float=dtype.kind == "f")]], f"u{dtype.itemsize}")
        return _modified(operand, lambda w: constant.view(dtype))
    raw = raw_reader(operand, max(4, dtype.itemsize))
    if dtype.itemsize == 2:
        return _modified(operand, lambda w: raw(w).astype(np.uint16).view(dtype))
    return _modified(operand, lambda w: raw(w).view(dtype))


def _modified(operand: Operand, read: Read) -> Read:
    if operand.absolute and operand.negate:
        return lambda w: -np.abs(read(w))
    if operand.absolute:
        return lambda w: np.abs(read(w))
    return (lambda w: -read(w)) if operand.negate else read


def _selected(operand: Operand, type_: str, selection: str) -> Read:
    """Return what reads a byte or half of a register, extended to the type (CDNA3 ISA, 6.5: SDWA)."""
    first, bits = _SELECTIONS[selection]
    if selection == "DWORD" and not operand.extend:
        return reader(operand, type_)
    raw, dtype = raw_reader(operand, 4), _NUMPY[type_]
    narrow = np.dtype(f"{'i' if operand.extend else 'u'}{bits // 8}")
    wide = np.dtype(f"{narrow.kind}{dtype.itemsize}")
    return _modified(
        operand, lambda w: (raw(w) >> first).astype(f"u{narrow.itemsize}").view(narrow).astype(wide).view(dtype)
    )


def _half(operand: Operand, dtype: Any, high: int) -> Read:
    """Return what reads one half of a register, or one register of a pair, without sign modifiers."""
    if dtype.itemsize == 4:
        if not operand.file:
            return reader(operand, "f32" if dtype.kind == "f" else "u32")
        register = raw_reader(_of_pair(operand, high), 4)
        return lambda w: register(w).view(dtype)
    raw, shift = raw_reader(_inline(operand, dtype), 4), 16 * high
    return lambda w: (raw(w) >> shift).astype(np.uint16).view(dtype)


def _of_pair(operand: Operand, high: int) -> Operand:
    return Operand(operand.text, operand.file, operand.index + high)


def _inline(operand: Operand, dtype: Any) -> Operand:
    """Return a constant whose lower half is what its text means in 16 bits."""
    if operand.file or "." not in operand.text:
        return operand
    return Operand(str(operand.bits(2, is_float=dtype.kind == "f")))


# --- results ------------------------------------------------------------------------------------------------------


def writer(operand: Operand, type_: str) -> Write:
    """Return what writes a result to a register; 16 bits clear the upper half (CDNA3 ISA, 6.1)."""
    index = operand.index
    if type_ == "mask":
        return lambda w, x: w.write_mask(index, _inside(w, x))
    size = _NUMPY[type_].itemsize
    if size == 8:
        return lambda w, x: w.write_vector_pair(index, x.view(np.uint64))
    if size == 2:
        return lambda w, x: w.write_vector(index, x.view(np.uint16).astype(np.uint32))
    return lambda w, x: w.write_vector(index, x.view(np.uint32))


def _inside(waves: Waves, mask: Array) -> Array:
    """Return a mask of active lanes only, with a column for each lane."""
    active = waves.active
    whole = mask if mask.shape == waves.shape else np.broadcast_to(mask, waves.shape)
    return whole if active is None else whole & active


def _merging(operand: Operand, selection: str, unused: str) -> Write:
    """Return what writes a part of a register and clears, extends or preserves the rest (SDWA)."""
    first, bits = _SELECTIONS[selection]
    mask = np.uint32(((1 << bits) - 1) << first)
    index = operand.index

    def preserve(w: Waves, x: Array) -> None:
        w.write_vector(index, (w.vector(index) & ~mask) | ((_wide(x) << first) & mask))

    def extend(w: Waves, x: Array) -> None:
        part = (_wide(x) << (32 - bits)).view(np.int32) >> (32 - bits)
        w.write_vector(index, part.view(np.uint32) << first)

    def pad(w: Waves, x: Array) -> None:
        w.write_vector(index, (_wide(x) << first) & mask)

    return {"UNUSED_PRESERVE": preserve, "UNUSED_SEXT": extend, "UNUSED_PAD": pad}[unused]


def _wide(x: Array) -> Array:
    return x.view(f"u{x.dtype.itemsize}").astype(np.uint32)


def _output(instruction: Instruction, compute: Callable[..., Any]) -> Callable[..., Any]:
    """Add the output modifiers of float results: a factor, then a clamp to [0, 1] (CDNA3 ISA, 6.2)."""
    if not _OUTPUT.intersection(instruction.modifiers):
        return compute
    if not instruction.name.endswith(("f16", "f32", "f64")):
        raise instruction.fault("no output modifiers for integers")
    factor = (instruction.number("mul") or 1) / (instruction.number("div") or 1)
    clamp = "clamp" in instruction.modifiers

    def run(*args: Array) -> Array:
        result = compute(*args)
        scaled = flushed(result * result.dtype.type(factor)) if factor != 1 else result
        return np.where(scaled > 0, np.minimum(scaled, 1), 0).astype(result.dtype) if clamp else scaled

    return run


# --- instructions -------------------------------------------------------------------------------------------------


def _plain(instruction: Instruction, vector: Vector) -> Step:
    check_known(instruction, _SDWA | _OUTPUT | {"op_sel"})
    compute = _output(instruction, vector.compute)
    reads, writes = _reads(instruction, vector), _writes(instruction, vector)
    if len(writes) == 2:
        return _two_results(compute, reads, *writes)
    write = writes[0]
    if len(reads) == 1:
        return lambda w, read=reads[0]: write(w, compute(read(w)))
    if len(reads) == 2:
        first, second = reads
        return lambda w: write(w, compute(first(w), second(w)))
    return lambda w: write(w, compute(*[read(w) for read in reads]))


def _two_results(compute: Callable[..., Any], reads: list[Read], write: Write, write_mask: Write) -> Step:
    def run(w: Waves) -> None:
        value, mask = compute(*[read(w) for read in reads])
        write(w, value)
        write_mask(w, mask)

    return run


def _reads(instruction: Instruction, vector: Vector) -> list[Read]:
    operands = instruction.operands
    given = [t for t in vector.sources if t[0] != "=" and t != "vcc"]
    if len(operands) != len(vector.results) + len(given):
        raise instruction.fault(f"{len(vector.results) + len(given)} operands for it, not {len(operands)}")
    halves, sources, reads = instruction.choices("op_sel", 0), iter(operands[len(vector.results) :]), list[Read]()
    for place, type_ in enumerate(vector.sources):
        if type_ == "vcc":
            reads.append(lambda w: w.mask(VCC))
        elif type_[0] == "=":
            reads.append(reader(operands[0], type_[1:]))
        else:
            operand = next(sources)
            selection = instruction.modifiers.get(f"src{place}_sel", "WORD_1" if halves[place] else "DWORD")
            reads.append(reader(operand, type_) if type_ == "mask" else _selected(operand, type_, selection))
    return reads


def _writes(instruction: Instruction, vector: Vector) -> list[Write]:
    operands, modifiers = instruction.operands, instruction.modifiers
    writes = [writer(operand, type_) for operand, type_ in zip(operands, vector.results, strict=False)]
    if modifiers.get("dst_sel", "DWORD") != "DWORD":
        writes[0] = _merging(operands[0], modifiers["dst_sel"], modifiers["dst_unused"])
    elif "op_sel" in modifiers and vector.results[0] != "u32":
        high = instruction.choices("op_sel", 0)[-1]
        writes[0] = _merging(operands[0], f"WORD_{high}", "UNUSED_PRESERVE")
    return writes


def _packed(instruction: Instruction, vector: Vector) -> Step:
    """Do the same on both halves; `op_sel` chooses each source's half for the lower, `op_sel_hi` for the upper."""
    check_known(instruction, {"op_sel", "op_sel_hi", "neg_lo", "neg_hi"})
    if instruction.name == "v_pk_mov_b32":
        return _pair_of_moves(instruction)
    dtype = _NUMPY[vector.results[0]]
    low = _half_readers(instruction, vector, "op_sel", "neg_lo", 0)
    high = _half_readers(instruction, vector, "op_sel_hi", "neg_hi", 1)
    index, compute = instruction.operands[0].index, vector.compute

    def registers(w: Waves) -> None:
        first, second = compute(*[read(w) for read in low]), compute(*[read(w) for read in high])
        w.write_vector(index, first.view(np.uint32))
        w.write_vector(index + 1, second.view(np.uint32))

    def halves(w: Waves) -> None:
        first, second = compute(*[read(w) for read in low]), compute(*[read(w) for read in high])
        w.write_vector(index, _wide(first) | (_wide(second) << 16))

    return registers if dtype.itemsize == 4 else halves


def _half_readers(instruction: Instruction, vector: Vector, select: str, negate: str, default: int) -> list[Read]:
    halves, signs = instruction.choices(select, default), instruction.choices(negate, 0)
    sources = zip(instruction.operands[1:], vector.sources, halves, signs, strict=False)
    return [_signed(_half(operand, _NUMPY[t], half), sign) for operand, t, half, sign in sources]


def _pair_of_moves(instruction: Instruction) -> Step:
    """Move one register of each source's pair, which `op_sel` chooses (V_PK_MOV_B32)."""
    target, first, second = instruction.operands
    low, high = instruction.choices("op_sel", 0)[:2]
    reads = _half(first, np.dtype(np.uint32), low), _half(second, np.dtype(np.uint32), high)

    def run(w: Waves) -> None:
        a, b = reads[0](w), reads[1](w)
        w.write_vector(target.index, a)
        w.write_vector(target.index + 1, b)

    return run


def _signed(read: Read, negate: int) -> Read:
    return (lambda w: -read(w)) if negate else read


def _mixed(instruction: Instruction) -> Step:
    """Read each source as f32, or as the f16 in the half that `op_sel` names (V_FMA_MIX)."""
    check_known(instruction, {"op_sel", "op_sel_hi"})
    reads: list[Read] = []
    choices = zip(instruction.choices("op_sel", 0), instruction.choices("op_sel_hi", 0), strict=True)
    for operand, (half, short) in zip(instruction.operands[1:], choices, strict=False):
        plain = Operand(operand.text, operand.file, operand.index)
        read = _half(plain, np.dtype(np.float16), half) if short else reader(plain, "f32")
        reads.append(_modified(operand, lambda w, r=read: r(w).astype(np.float32)))
    compute = MIXED[instruction.name]
    target = instruction.operands[0]
    write = {
        "v_fma_mix_f32": writer(target, "f32"),
        "v_fma_mixlo_f16": _merging(target, "WORD_0", "UNUSED_PRESERVE"),
        "v_fma_mixhi_f16": _merging(target, "WORD_1", "UNUSED_PRESERVE"),
    }[instruction.name]
    return lambda w: write(w, compute(*[read(w) for read in reads]))
