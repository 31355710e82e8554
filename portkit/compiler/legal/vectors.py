"""Vectors of lane counts that a device lacks, in pieces that it has.

v = load.vec f32x8 x i align 4        i4 = add i four
w = mul v v                    ->     a = load.vec f32x4 x i align 4
s = reduce.vec.add w                  c = load.vec f32x4 x i4 align 4
                                      d = mul a a
                                      e = mul c c
                                      f = add d e
                                      s = reduce.vec.add f
"""

from __future__ import annotations

from collections.abc import Callable

from portkit.compiler.legal.folds import halves
from portkit.compiler.legal.needs import expands_group, is_wide, lacks, rounds_each_step
from portkit.compiler.legal.rewrite import Parts, Rewrite
from portkit.contract import Capabilities
from portkit.spec.assemble import written_type
from portkit.spec.builder import Reg
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import BF16, DTYPES, F16, F32, DType, Type


def split_vectors(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """Return the kernel with vectors of declared lane counts only; 64-bit integers that are missing become scalars.

    A count that is not declared is split to the widest declared one that divides it, or to scalars. Folds of a vector
    that is split go by halves, as `numeric strict` asks.
    """
    rewrite = _Vectors(kernel, capabilities)
    return rewrite.run() if any(map(rewrite.rule, kernel.body)) else kernel


class _Vectors(Rewrite):
    def __init__(self, kernel: Kernel, capabilities: Capabilities) -> None:
        super().__init__(kernel, capabilities)
        self._widths = {1: 1}
        counts = capabilities.lane_counts()
        for lanes in {t.lanes for t in kernel.types.values()}:
            self._widths[lanes] = max(w for w in counts if lanes % w == 0)

    def width(self, type_: Type) -> int:
        """Return the lanes of each piece of a vector."""
        return 1 if is_wide(type_.dtype, self.capabilities) else self._widths[type_.lanes]

    def rule(self, instr: Instr) -> Callable[[Instr], Parts] | None:
        types = [self.types[name] for name in instr.reads]
        if instr.type is not None:
            types.append(instr.type)
        vectors = [t for t in types if t.lanes > 1]
        if not vectors:
            return None
        whole = all(self.width(t) == t.lanes for t in vectors)
        if whole and not self._breaks(instr):
            return None
        return _RULES.get(instr.name.removesuffix(instr.form.kind), _Vectors._lane_by_lane).__get__(self)

    def _breaks(self, instr: Instr) -> bool:
        """Return whether a form is written lane by lane although its vectors are fine."""
        dtype = self.types[instr.args[0]].dtype
        if instr.name == "mov.bits":
            assert instr.type is not None
            odd = self.types[instr.args[0]].lanes != instr.type.lanes
            return odd and (lacks(dtype, self.capabilities) or lacks(instr.type.dtype, self.capabilities))
        vec_fold = instr.name.startswith("reduce.vec.")
        return (vec_fold and rounds_each_step(instr.form.kind, dtype, self.capabilities)) or expands_group(
            instr, self.types, self.capabilities
        )

    # --- pieces -------------------------------------------------------------------------------------------------------

    def pieces(self, name: str, width: int) -> Parts:
        """Return a vector in pieces of `width` lanes: as it is kept, or lane by lane."""
        parts = self.parts(name)
        if parts[0].type.lanes == width:
            return parts
        return tuple(self.b.lane_of(part, k) for part in parts for k in range(part.type.lanes))

    def keep(self, pieces: Parts, type_: Type) -> Parts:
        """Return the pieces of a new vector as registers of its type are kept."""
        width = self.width(type_)
        if pieces[0].type.lanes == width:
            return pieces
        return tuple(self.b.pack(pieces[at : at + width]) for at in range(0, len(pieces), width))

    def _common(self, instr: Instr) -> int:
        """Return the width in which an instruction is written, at most that of any of its vectors."""
        types = [self.types[name] for name in instr.reads] + ([instr.type] if instr.type else [])
        return 1 if self._breaks(instr) else min(self.width(t) for t in types if t.lanes > 1)

    # --- rules --------------------------------------------------------------------------------------------------------

    def _lane_by_lane(self, instr: Instr) -> Parts:
        """Elementwise forms, and reductions over the work-group."""
        assert instr.type is not None
        width = self._common(instr)
        columns = zip(*(self.pieces(name, width) for name in instr.args), strict=True)
        written = Type(instr.type.dtype, width) if written_type(instr) is not None else None
        made = tuple(self.b.op(instr.name, *column, imms=instr.imms, type=written) for column in columns)
        return self.keep(made, instr.type)

    def _splat(self, instr: Instr) -> Parts:
        assert instr.type is not None
        width = self.width(instr.type)
        return (self.b.splat(self.one(instr.args[0]), width),) * (instr.type.lanes // width)

    def _lane(self, instr: Instr) -> Parts:
        parts = self.parts(instr.args[0])
        part, lane = divmod(instr.imms[0], parts[0].type.lanes)
        return (parts[part] if parts[part].type.lanes == 1 else self.b.lane_of(parts[part], lane),)

    def _pack(self, instr: Instr) -> Parts:
        assert instr.type is not None
        return self.keep(tuple(self.one(name) for name in instr.args), instr.type)

    def _fold(self, instr: Instr) -> Parts:
        """reduce.vec: pieces are folded with each other as long as both are powers of two, the rest lane by lane."""
        name, kind = instr.args[0], instr.form.kind
        dtype, lanes = self.types[name].dtype, self.types[name].lanes
        width = self._common(instr)
        pieces = self.pieces(name, width if lanes & (lanes - 1) == 0 and width & (width - 1) == 0 else 1)
        wide = dtype if kind != "add" or dtype not in (F16, BF16) else F32
        folded = halves(self.b, kind, tuple(self.b.to(piece, wide) for piece in pieces))
        if folded.type.lanes > 1:
            folded = self.b.op(instr.name, folded)
        return (self.b.to(folded, dtype),)

    def _bits(self, instr: Instr) -> Parts:
        assert instr.type is not None
        source = self.types[instr.args[0]]
        if source.lanes == instr.type.lanes:
            return self._lane_by_lane(instr)
        lanes = self.pieces(instr.args[0], 1)
        words = tuple(self.b.as_bits(x, _unsigned(x.type.dtype)) for x in lanes)
        joined = self._join(words, instr.type.dtype.bits) if source.dtype.bits < instr.type.dtype.bits else words
        cut = tuple(piece for word in joined for piece in self._cut(word, instr.type.dtype.bits))
        return self.keep(tuple(self.b.as_bits(x, instr.type.dtype) for x in cut), instr.type)

    def _join(self, words: Parts, bits: int) -> Parts:
        """Return unsigned integers of `bits` bits, each of several consecutive ones, little-endian."""
        narrow, target = words[0].type.dtype.bits, DTYPES[f"u{bits}"]
        count = bits // narrow
        wide = [self.b.left(self.b.to(w, target), k % count * narrow) for k, w in enumerate(words)]
        return tuple(self.b.op("reduce.or", *wide[at : at + count]) for at in range(0, len(wide), count))

    def _cut(self, word: Reg, bits: int) -> Parts:
        """Return the pieces of `bits` bits of an unsigned integer, little-endian."""
        target = DTYPES[f"u{bits}"]
        return tuple(self.b.to(self.b.right(word, at), target) for at in range(0, word.type.dtype.bits, bits))

    # --- memory -------------------------------------------------------------------------------------------------------

    def _load(self, instr: Instr) -> Parts:
        """load.vec"""
        assert instr.type is not None
        width, lanes = self._common(instr), instr.type.lanes
        mem, align = self.memories[instr.mems[0]], instr.imms[0]
        gates, others = self._optional(instr.gate, width, lanes), self._optional(instr.other, width, lanes)
        made: list[Reg] = []
        for at, gate, other in zip(range(0, lanes, width), gates, others, strict=True):
            index = self._offset(instr.args[0], at)
            if width == 1:
                made.append(self.b.load(mem, index, gate=gate, other=other))
            else:
                aligned = _alignment(align, at, mem.dtype)
                made.append(self.b.load_vec(mem, index, width, align=aligned, gate=gate, other=other))
        return self.keep(tuple(made), instr.type)

    def _gather(self, instr: Instr) -> Parts:
        assert instr.type is not None
        width, lanes = self._common(instr), instr.type.lanes
        mem = self.memories[instr.mems[0]]
        gates, others = self._optional(instr.gate, width, lanes), self._optional(instr.other, width, lanes)
        made = tuple(
            self.b.load(mem, index, gate=gate, other=other)
            for index, gate, other in zip(self.pieces(instr.args[0], width), gates, others, strict=True)
        )
        return self.keep(made, instr.type)

    def _store(self, instr: Instr) -> Parts:
        """store.vec"""
        width, lanes = self._common(instr), self.types[instr.args[1]].lanes
        mem = self.memories[instr.mems[0]]
        gates = self._optional(instr.gate, width, lanes)
        values = self.pieces(instr.args[1], width)
        for at, value, gate in zip(range(0, lanes, width), values, gates, strict=True):
            index = self._offset(instr.args[0], at)
            if width == 1:
                self.b.store(mem, index, value, gate=gate)
            else:
                self.b.store_vec(mem, index, value, align=_alignment(instr.imms[0], at, mem.dtype), gate=gate)
        return ()

    def _scatter(self, instr: Instr) -> Parts:
        width, lanes = self._common(instr), self.types[instr.args[0]].lanes
        columns = (self.pieces(name, width) for name in instr.args)
        for index, value, gate in zip(*columns, self._optional(instr.gate, width, lanes), strict=True):
            self.b.store(self.memories[instr.mems[0]], index, value, gate=gate)
        return ()

    def _optional(self, name: str, width: int, lanes: int) -> tuple[Reg | None, ...]:
        return self.pieces(name, width) if name else (None,) * (lanes // width)

    def _offset(self, index: str, offset: int) -> Reg:
        start = self.one(index)
        return self.b.plus(start, offset) if offset else start


def _unsigned(dtype: DType) -> DType:
    return DTYPES[f"u{dtype.bits}"]


def _alignment(align: int, offset: int, dtype: DType) -> int:
    """Return the alignment of the access `offset` elements after one aligned to `align` bytes."""
    start = offset * dtype.bytes
    return min(align, start & -start) if start else align


_RULES: dict[str, Callable[[_Vectors, Instr], Parts]] = {
    "mov.splat": _Vectors._splat,
    "mov.lane": _Vectors._lane,
    "mov.pack": _Vectors._pack,
    "mov.bits": _Vectors._bits,
    "reduce.vec.": _Vectors._fold,
    "load.vec": _Vectors._load,
    "load.gather": _Vectors._gather,
    "store.vec": _Vectors._store,
    "store.scatter": _Vectors._scatter,
}
"""By form, or by family (the form without its kind); what is not here is elementwise."""
