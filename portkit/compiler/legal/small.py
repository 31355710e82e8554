"""8 and 16-bit integers in 32-bit registers, for devices without them.

    c = mov.const i8 -3         ->     c = mov.const i32 -3
    x = load a i                       w = load a i                 # u32, the bits zero-extended
                                       v = mov.cast i32 w
                                       t = mul.shl v n24
                                       x = mul.shr t n24
    y = add x c                        s = add x c
                                       u = mul.shl s n24            # wrapped again
                                       y = mul.shr u n24
    store a i y                        z = mov.cast u32 y
                                       m = reduce.and z low8
                                       store a i m

A signed integer is carried in i32, an unsigned one in u32, always with its own value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from portkit.compiler.legal.formats import decode_bits, encode_bits
from portkit.compiler.legal.rewrite import Parts, Retype
from portkit.compiler.storage import storage
from portkit.contract import Capabilities
from portkit.spec.assemble import written_type
from portkit.spec.builder import Reg
from portkit.spec.kernel import Buffer, Instr, Kernel, Shared
from portkit.spec.rules import ALIGNMENT
from portkit.spec.types import F32, I8, I16, I32, U8, U16, U32, DType, Type, decode


def widen_small_integers(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """Return the kernel without 8 and 16-bit integers that the device lacks."""
    rewrite = _Small(kernel, capabilities)
    return rewrite.run() if rewrite.needed else kernel


class _Small(Retype):
    dtypes = (I8, U8, I16, U16)

    def memory(self, memory: Buffer | Shared) -> Buffer | Shared:
        if not self.is_missing(memory.dtype):
            return memory
        return replace(memory, dtype=storage(memory.dtype, self.capabilities).element)

    def rule(self, instr: Instr) -> Callable[[Instr], Parts] | None:
        return _RULES.get(instr.name, _Small._same).__get__(self) if self.concerns(instr) else None

    def carrier(self, dtype: DType) -> DType:
        """Return what values of a dtype are carried in."""
        if not self.is_missing(dtype):
            return dtype
        return I32 if dtype.is_signed else U32

    def wrap(self, x: Reg, dtype: DType) -> Reg:
        """Return the low bits of a carrier as a value of a dtype (Spec: cast_c1)."""
        if not self.is_missing(dtype):
            return x
        if not dtype.is_signed:
            return self.b.both(x, (1 << dtype.bits) - 1)
        unused = I32.bits - dtype.bits
        return self.b.right(self.b.left(x, unused), unused)

    # --- rules --------------------------------------------------------------------------------------------------------

    def _same(self, instr: Instr) -> Parts:
        """The same form on the carriers, whose result needs no wrapping."""
        given = written_type(instr)
        type_ = given.with_dtype(self.carrier(given.dtype)) if given else None
        return (self.again(instr, *(self.one(name) for name in instr.args), type_=type_),)

    def _wrapped(self, instr: Instr) -> Parts:
        """The same form on the carriers, wrapped."""
        assert instr.type is not None
        (result,) = self._same(instr)
        return (self.wrap(result, instr.type.dtype),)

    def _constant(self, instr: Instr) -> Parts:
        assert instr.type is not None
        dtype = instr.type.dtype
        return (self.b.const(self.carrier(dtype).name, decode(dtype, instr.imms[0])),)

    def _high(self, instr: Instr) -> Parts:
        """mul.hi: 32 bits hold the whole product."""
        x, y = (self.one(name) for name in instr.args)
        return (self.b.right(self.b.times(x, y), self._bits_of(instr)),)

    def _shift(self, instr: Instr) -> Parts:
        x, n = (self.one(name) for name in instr.args)
        shifted = self.b.op(instr.name, x, self.b.both(n, self._bits_of(instr) - 1))
        if instr.name == "mul.shr":
            return (shifted,)
        assert instr.type is not None
        return (self.wrap(shifted, instr.type.dtype),)

    def _bits_of(self, instr: Instr) -> int:
        return self.types[instr.args[0]].dtype.bits

    def _cast(self, instr: Instr) -> Parts:
        assert instr.type is not None
        target, source = instr.type.dtype, self.types[instr.args[0]].dtype
        x = self.b.to(self.one(instr.args[0]), self.carrier(target))
        if source.is_int:
            return (self.wrap(x, target) if _may_exceed(source, target) else x,)
        if self.is_missing(target):  # the cast saturated at 32 bits
            x = self.b.most(self.b.least(x, target.max_int), target.min_int)
        return (x,)

    def _bits(self, instr: Instr) -> Parts:
        """mov.bits of equal lane counts: between integers a cast, else by the bits of a 16-bit float in u32."""
        assert instr.type is not None
        source, target = self.types[instr.args[0]].dtype, instr.type.dtype
        x = self.one(instr.args[0])
        if source.is_float:
            return (self.wrap(self.b.to(self._bits_of_float(x), self.carrier(target)), target),)
        if target.is_float:
            return (self._float_of_bits(self.b.both(self.b.to(x, U32), (1 << source.bits) - 1), target),)
        return (self.wrap(self.b.to(x, self.carrier(target)), target),)

    def _bits_of_float(self, x: Reg) -> Reg:
        """Return the bits of an f16 or bf16 as u32: the word of two of them, else through f32, where NaN may change."""
        dtype = x.type.dtype
        if x.type.lanes == 1 and 2 in self.capabilities.lane_counts():
            zero = self.b.pattern(dtype, 0)
            return self.b.bits(self.b.pack((x, zero)), U32.name)
        return encode_bits(self.b, self.b.to(x, F32), dtype)

    def _float_of_bits(self, bits: Reg, dtype: DType) -> Reg:
        """Return the f16 or bf16 of bits in u32."""
        if bits.type.lanes == 1 and 2 in self.capabilities.lane_counts():
            return self.b.lane_of(self.b.bits(bits, Type(dtype, 2)), 0)
        return self.b.to(decode_bits(self.b, bits, dtype), dtype)

    # --- memory -------------------------------------------------------------------------------------------------------

    def _stored(self, instr: Instr) -> tuple[DType, DType]:
        """Return the dtype of the elements in memory, before and now."""
        dtype = self.kernel.memories[instr.mems[0]].dtype
        return dtype, storage(dtype, self.capabilities).element

    def _aligned(self, instr: Instr) -> Instr:
        """Return an access with its alignment in bytes of the elements stored, at most what any access may declare."""
        if not instr.name.endswith(".vec"):
            return instr
        before, now = self._stored(instr)
        return replace(instr, imms=(min(ALIGNMENT, instr.imms[0] * now.bytes // before.bytes),))

    def _load(self, instr: Instr) -> Parts:
        """load, load.vec, load.gather: the else value goes through the bits too."""
        assert instr.type is not None
        dtype, element = self._stored(instr)
        mem = self.memories[instr.mems[0]]
        index = self.one(instr.args[0])
        gate = self.one(instr.gate) if instr.gate else None
        other = self._encode(self.one(instr.other), dtype, element) if instr.other else None
        type_ = instr.type.with_dtype(element) if written_type(instr) else None
        imms = self._aligned(instr).imms
        word = self.b.op(instr.name, index, mems=(mem,), imms=imms, type=type_, gate=gate, other=other)
        value = self.b.to(word, self.carrier(dtype))
        return (self.wrap(value, dtype) if dtype.is_signed else value,)

    def _store(self, instr: Instr) -> Parts:
        """store, store.vec, store.scatter"""
        dtype, element = self._stored(instr)
        index, value = (self.one(name) for name in instr.args)
        gate = self.one(instr.gate) if instr.gate else None
        word = self._encode(value, dtype, element)
        mems = (self.memories[instr.mems[0]],)
        self.b.op(instr.name, index, word, mems=mems, imms=self._aligned(instr).imms, gate=gate)
        return ()

    def _encode(self, value: Reg, dtype: DType, element: DType) -> Reg:
        """Return the bits of a value, zero-extended to the element that memory holds."""
        word = self.b.to(value, element)
        return self.b.both(word, (1 << dtype.bits) - 1) if dtype.is_signed and element == U32 else word


def _may_exceed(source: DType, target: DType) -> bool:
    """Return whether an integer dtype has values that another has not."""
    return source.min_int < target.min_int or source.max_int > target.max_int


_WRAPPED = ("add", "mul", "reduce.vec.add", "reduce.vec.mul", "reduce.group.add", "reduce.group.mul")
_RULES: dict[str, Callable[[_Small, Instr], Parts]] = {
    "mov.const": _Small._constant,
    "mov.cast": _Small._cast,
    "mov.bits": _Small._bits,
    "mul.hi": _Small._high,
    "mul.shl": _Small._shift,
    "mul.shr": _Small._shift,
    "load": _Small._load,
    "load.vec": _Small._load,
    "load.gather": _Small._load,
    "store": _Small._store,
    "store.vec": _Small._store,
    "store.scatter": _Small._store,
} | dict.fromkeys(_WRAPPED, _Small._wrapped)
"""What is not here is the same form on the carriers."""
