"""64-bit integers as pairs of words, for devices without them.

    s = add x y          ->     s_low = add x_low y_low
                                carry = phi.lt s_low x_low one zero
                                t = add x_high y_high
                                s_high = add t carry

Memory holds two u32 elements for each: the low word first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce

from portkit.compiler.legal import pairs
from portkit.compiler.legal.pairs import Pair
from portkit.compiler.legal.rewrite import Parts, Retype, scaled_extent
from portkit.contract import Capabilities
from portkit.errors import UsageError
from portkit.spec.builder import Reg
from portkit.spec.kernel import Buffer, Instr, Kernel, Shared
from portkit.spec.types import BF16, F32, F64, I32, I64, U32, U64, DType, Type


def split_wide_integers(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """Return the kernel without 64-bit integers that the device lacks; all of them are scalars."""
    rewrite = _Wide(kernel, capabilities)
    return rewrite.run() if rewrite.needed else kernel


class _Wide(Retype):
    dtypes = (I64, U64)

    def memory(self, memory: Buffer | Shared) -> Buffer | Shared:
        if not self.is_missing(memory.dtype):
            return memory
        if isinstance(memory, Shared):
            return replace(memory, dtype=U32, extent=memory.extent * 2)
        return replace(memory, dtype=U32, extent=scaled_extent(memory.extent, 2))

    def rule(self, instr: Instr) -> Callable[[Instr], Parts] | None:
        return _RULES[instr.name].__get__(self) if self.concerns(instr) else None

    def pair(self, name: str) -> Pair:
        low, high = self.parts(name)
        return low, high

    def _operands(self, instr: Instr) -> list[Pair]:
        return [self.pair(name) for name in instr.args]

    def _signed(self, instr: Instr) -> bool:
        return self.types[instr.args[0]].dtype.is_signed

    # --- arithmetic ---------------------------------------------------------------------------------------------------

    def _constant(self, instr: Instr) -> Parts:
        return pairs.constant(self.b, instr.imms[0])

    def _add(self, instr: Instr) -> Parts:
        return pairs.add(self.b, *self._operands(instr))

    def _multiply(self, instr: Instr) -> Parts:
        return pairs.multiply(self.b, *self._operands(instr))

    def _multiply_high(self, instr: Instr) -> Parts:
        return pairs.multiply_high(self.b, *self._operands(instr), signed=self._signed(instr))

    def _shift_left(self, instr: Instr) -> Parts:
        x, (count, _) = self._operands(instr)
        return pairs.shift_left(self.b, x, count)

    def _shift_right(self, instr: Instr) -> Parts:
        x, (count, _) = self._operands(instr)
        return pairs.shift_right(self.b, x, count, signed=self._signed(instr))

    def _extreme(self, instr: Instr) -> Parts:
        signed, kind = self._signed(instr), instr.form.kind
        return reduce(lambda x, y: pairs.extreme(self.b, kind, x, y, signed=signed), self._operands(instr))

    def _bitwise(self, instr: Instr) -> Parts:
        return reduce(lambda x, y: pairs.bitwise(self.b, instr.form.kind, x, y), self._operands(instr))

    def _select(self, instr: Instr) -> Parts:
        x, y = self.parts(instr.args[2]), self.parts(instr.args[3])
        if not self.is_missing(self.types[instr.args[0]].dtype):
            a, c = self.one(instr.args[0]), self.one(instr.args[1])
            return tuple(self.b.op(instr.name, a, c, p, q) for p, q in zip(x, y, strict=True))
        a, c = self.pair(instr.args[0]), self.pair(instr.args[1])
        less = instr.name == "phi.lt"
        holds = pairs.less(self.b, a, c, signed=self._signed(instr)) if less else pairs.equal(self.b, a, c)
        return tuple(self.b.where(holds, p, q) for p, q in zip(x, y, strict=True))

    # --- conversions --------------------------------------------------------------------------------------------------

    def _cast(self, instr: Instr) -> Parts:
        assert instr.type is not None
        target = instr.type.dtype
        if self.is_missing(self.types[instr.args[0]].dtype):
            x = self.pair(instr.args[0])
            return x if self.is_missing(target) else (self._from_pair(x, target, self._signed(instr)),)
        x = self.one(instr.args[0])
        if x.type.dtype.is_int:
            return self._from_native(x) if x.type.dtype.bits == 64 else pairs.from_integer(self.b, x)
        exact = x if x.type.dtype == F64 else self.b.to(x, F32)
        return pairs.from_float(self.b, exact, signed=target.is_signed)

    def _from_pair(self, x: Pair, target: DType, signed: bool) -> Reg:
        """Return a pair cast to anything else; narrow floats take it clamped beyond their range or rounded to odd."""
        if target.is_int and target.bits == 64:
            return self._to_native(x, target)
        if target.is_int:
            return self.b.to(x[0], target)
        if target == F32:
            return pairs.to_f32(self.b, x, signed=signed)
        if target == F64:
            return pairs.to_f64(self.b, x, signed=signed)
        if target == BF16:
            return self.b.to(pairs.to_f32(self.b, x, signed=signed, odd=True), target)
        beyond = 1 << 17
        x = pairs.extreme(self.b, "min", x, pairs.constant(self.b, beyond), signed=signed)
        if signed:
            x = pairs.extreme(self.b, "max", x, pairs.constant(self.b, -beyond & (1 << 64) - 1), signed=True)
        return self.b.to(self.b.to(x[0], I32), target)

    def _bits(self, instr: Instr) -> Parts:
        """The words of an f64 are the lanes of the same bits as a u32x2."""
        assert instr.type is not None
        source, target = self.types[instr.args[0]].dtype, instr.type.dtype
        if self.is_missing(source) and self.is_missing(target):
            return self.parts(instr.args[0])
        if source.is_int and target.is_int:
            wide = self.is_missing(source)
            return (
                (self._to_native(self.pair(instr.args[0]), target),)
                if wide
                else self._from_native(self.one(instr.args[0]))
            )
        if 2 not in self.capabilities.lane_counts():
            message = f"kernel {self.kernel.name}: the bits of {source} as {target}"
            raise UsageError(f"{message} need i64, or vectors of 2 lanes; {self.capabilities.name} has neither")
        if self.is_missing(source):
            return (self.b.bits(self.b.pack(self.parts(instr.args[0])), target.name),)
        words = self.b.bits(self.one(instr.args[0]), Type(U32, 2))
        return self.b.lane_of(words, 0), self.b.lane_of(words, 1)

    def _to_native(self, x: Pair, target: DType) -> Reg:
        """Return a pair as the 64-bit integer that the device has: it may have only one of i64 and u64."""
        low, high = (self.b.to(word, target) for word in x)
        return self.b.either(self.b.left(high, pairs.WORD), low)

    def _from_native(self, x: Reg) -> Pair:
        """Return the words of the 64-bit integer that the device has."""
        return self.b.to(x, U32), self.b.to(self.b.right(x, pairs.WORD), U32)

    # --- memory -------------------------------------------------------------------------------------------------------

    def _places(self, name: str) -> tuple[Reg, Reg]:
        low = self.b.left(self.one(name), 1)
        return low, self.b.either(low, 1)

    def _load(self, instr: Instr) -> Parts:
        mem = self.memories[instr.mems[0]]
        gate = self.one(instr.gate) if instr.gate else None
        others = self.pair(instr.other) if instr.other else (None, None)
        places = self._places(instr.args[0])
        return tuple(self.b.load(mem, at, gate=gate, other=v) for at, v in zip(places, others, strict=True))

    def _store(self, instr: Instr) -> Parts:
        gate = self.one(instr.gate) if instr.gate else None
        for at, word in zip(self._places(instr.args[0]), self.pair(instr.args[1]), strict=True):
            self.b.store(self.memories[instr.mems[0]], at, word, gate=gate)
        return ()

    def _async(self, instr: Instr) -> Parts:
        to, start = (self._places(name)[0] for name in instr.args)
        target, source = (self.memories[name] for name in instr.mems)
        return (self.b.async_copy(target, to, source, start, 2 * instr.imms[0]),)


_RULES: dict[str, Callable[[_Wide, Instr], Parts]] = {
    "mov.const": _Wide._constant,
    "mov.cast": _Wide._cast,
    "mov.bits": _Wide._bits,
    "add": _Wide._add,
    "mul": _Wide._multiply,
    "mul.hi": _Wide._multiply_high,
    "mul.shl": _Wide._shift_left,
    "mul.shr": _Wide._shift_right,
    "reduce.max": _Wide._extreme,
    "reduce.min": _Wide._extreme,
    "reduce.and": _Wide._bitwise,
    "reduce.or": _Wide._bitwise,
    "reduce.xor": _Wide._bitwise,
    "phi.lt": _Wide._select,
    "phi.eq": _Wide._select,
    "load": _Wide._load,
    "store": _Wide._store,
    "load.async": _Wide._async,
}
