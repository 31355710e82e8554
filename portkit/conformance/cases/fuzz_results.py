"""Where random kernels put what they compute: determined results as 32-bit words, loose ones as floats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portkit.spec.builder import Mem, Reg
from portkit.spec.types import BOOL, DTYPES, F32, F64, I32, Type

if TYPE_CHECKING:
    from portkit.conformance.cases.fuzz_writer import KernelWriter

WORDS = 32
"""Places of one item for determined results; the first is the digest."""
LOOSE = 16
DIGESTED = 24
MAX_LANES = 4
"""So many lanes of a vector are looked at, drawn by chance."""


class Results:
    """The output buffers of one kernel, and the next free place of an item in each."""

    def __init__(self, writer: KernelWriter) -> None:
        self.writer = writer
        self.words = writer.w.buffer("words", "i32", ("n", WORDS), "write")
        self.floats: Mem | None = None
        self.used = 1
        self.used_loose = 0

    def keep(self, reg: Reg) -> None:
        """Store a determined result."""
        w = self.writer.w
        place = w.plus(w.times(self.writer.item, WORDS), self.used)
        w.store(self.words, place, self.word(reg), gate=self.writer.inside)
        self.used += 1

    def loose(self, reg: Reg) -> None:
        """Store a float whose value is open, at times after one more operation on it."""
        writer, w = self.writer, self.writer.w
        wide = F64 if reg.type.dtype == F64 else F32
        if self.floats is None:
            self.floats = w.buffer("loose", wide.name, ("n", LOOSE), "write")
        if writer.dice.chance(40):
            reg = w.op(writer.dice.one_of(("add", "mul")), reg, writer.value(reg.type))
        if reg.type.lanes > 1:
            reg = w.op("mov.lane", reg, imms=(writer.dice.below(reg.type.lanes),))
        place = w.plus(w.times(writer.item, LOOSE), self.used_loose)
        value = reg if reg.type.dtype == wide else w.cast(reg, wide.name)
        w.store(self.floats, place, value, gate=writer.inside)
        self.used_loose += 1

    def digest(self) -> None:
        """Fold the visible 32-bit registers into one number, so that little of the kernel is dead."""
        scope, w = self.writer.scope, self.writer.w
        found = [reg for t in scope.types(lambda t: t.lanes == 1 and t.bits == I32.bits) for reg in scope.of(t)]
        total = w.i32(1)
        for reg in found[-DIGESTED:]:
            total = w.add(w.times(total, 31), self.word(reg))
        w.store(self.words, w.times(self.writer.item, WORDS), total, gate=self.writer.inside)

    def word(self, reg: Reg) -> Reg:
        """Return a register as an i32 that depends on all of it, or on some lanes of a long vector."""
        w, dice = self.writer.w, self.writer.dice
        if reg.type.lanes == 1:
            return self._scalar_word(reg)
        total = w.i32(1)
        for _ in range(min(MAX_LANES, reg.type.lanes)):
            lane = w.op("mov.lane", reg, imms=(dice.below(reg.type.lanes),))
            total = w.add(w.times(total, 31), self._scalar_word(lane))
        return total

    def _scalar_word(self, reg: Reg) -> Reg:
        w, dtype = self.writer.w, reg.type.dtype
        if dtype == BOOL:
            return w.count_if(reg)
        if dtype == F64:
            return self._float64_word(reg)
        if dtype.is_float:
            wide = reg if dtype == F32 else w.cast(reg, "f32")
            return w.bits(self.writer.without_nan(wide), "i32")
        if dtype.bits > I32.bits:
            return w.xor(w.cast(reg, "i32"), w.cast(w.shr(reg, I32.bits), "i32"))
        return reg if dtype == I32 else w.cast(reg, "i32")

    def _float64_word(self, reg: Reg) -> Reg:
        """The bits of an f64 where the device has a 64-bit integer, else what f32 keeps of it."""
        w = self.writer.w
        wide = next((n for n in ("i64", "u64") if DTYPES[n] in self.writer.palette.dtypes), "")
        if wide:
            return self._scalar_word(w.bits(self.writer.without_nan(reg), Type(DTYPES[wide])))
        return self._scalar_word(w.cast(reg, "f32"))
