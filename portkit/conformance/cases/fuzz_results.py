"""Where random kernels put what they compute: determined results as 32-bit words, loose ones as floats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portkit.conformance.cases.fuzz_forms import has_result, is_free
from portkit.spec.builder import Reg
from portkit.spec.types import BOOL, DTYPES, F32, F64, I32, Type

if TYPE_CHECKING:
    from portkit.conformance.cases.fuzz_writer import KernelWriter

DIGESTED = 16
MAX_LANES = 4
"""So many lanes of a vector are looked at, drawn by chance."""


class Results:
    """The output buffers of one kernel, and the next free place of an item in each.

    An item has just the places that its kernel fills, and fills each on every path: an element that may be left alone
    would have to be launched from a second poison.
    """

    def __init__(self, writer: KernelWriter) -> None:
        self.writer = writer
        made = [is_free(goal.cell, writer.strict) for goal in writer.goals if has_result(goal.cell)]
        self.determined, self.open = 1 + made.count(False), made.count(True)
        self.wide = F64 if writer.focus == F64 else F32
        self.words = writer.w.buffer("words", "i32", ("n", self.determined), "write")
        self.floats = writer.w.buffer("loose", self.wide.name, ("n", self.open), "write") if self.open else None
        self.used = 1
        self.used_loose = 0

    def begin(self) -> None:
        """Write where the places of an item begin; its number must be known."""
        w, item = self.writer.w, self.writer.item
        self.first = w.times(item, self.determined)
        self.first_loose = w.times(item, self.open) if self.open else self.first

    def clear(self, free: bool) -> None:
        """Store zero where the next result goes, which is written in a loop that may not run."""
        zero = self.writer.w.const(self.wide.name if free else "i32", 0)
        (self._store_loose if free else self._store)(zero)

    def keep(self, reg: Reg) -> None:
        """Store a determined result."""
        self._store(self.word(reg))
        self.used += 1

    def loose(self, reg: Reg) -> None:
        """Store a float whose value is open, at times after one more operation on it."""
        writer, w = self.writer, self.writer.w
        if writer.dice.chance(40):
            reg = w.op(writer.dice.one_of(("add", "mul")), reg, writer.value(reg.type))
        if reg.type.lanes > 1:
            reg = w.op("mov.lane", reg, imms=(writer.dice.below(reg.type.lanes),))
        self._store_loose(reg if reg.type.dtype == self.wide else w.cast(reg, self.wide.name))
        self.used_loose += 1

    def _store(self, word: Reg) -> None:
        w = self.writer.w
        w.store(self.words, w.plus(self.first, self.used), word, gate=self.writer.inside)

    def _store_loose(self, value: Reg) -> None:
        assert self.floats is not None
        w = self.writer.w
        w.store(self.floats, w.plus(self.first_loose, self.used_loose), value, gate=self.writer.inside)

    def digest(self) -> None:
        """Fold the visible 32-bit registers into one number, so that little of the kernel is dead."""
        scope, w = self.writer.scope, self.writer.w
        found = [reg for t in scope.types(lambda t: t.lanes == 1 and t.bits == I32.bits) for reg in scope.of(t)]
        total = w.i32(1)
        for reg in found[-DIGESTED:]:
            total = w.add(w.times(total, 31), self.word(reg))
        w.store(self.words, self.first, total, gate=self.writer.inside)

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
