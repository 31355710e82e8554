"""16-bit floats carried in f32 and 8-bit floats by their bits, for devices without them.

    x = load a i           ->     h = load a i                 # u16
    y = mul x x                   ...                          # the f32 of these bits
                                  t = mul x x
                                  y = ...                      # t rounded to f16, still f32

An f16 or bf16 is an f32 with the same value; every form that computes rounds its result once (Spec: add_c2). The f8
formats have no arithmetic: they are u8, and their casts go through f32. Memory holds the bits as u16 or u8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from portkit.compiler.legal.formats import decode_bits, encode_bits, odd_from, odd_sum, round_to
from portkit.compiler.legal.fused import fused_odd
from portkit.compiler.legal.rewrite import Parts, Retype
from portkit.contract import Capabilities
from portkit.spec.assemble import written_type
from portkit.spec.builder import Reg
from portkit.spec.kernel import Buffer, Instr, Kernel, Shared
from portkit.spec.types import (
    BF16,
    DTYPES,
    F8E4M3FN,
    F8E5M2,
    F16,
    F32,
    F64,
    I32,
    U32,
    DType,
    decode,
    encode,
    infinity_bits,
    mantissa_bits,
)

_HALVES = (F16, BF16)
_EIGHTHS = (F8E4M3FN, F8E5M2)


def carry_narrow_floats(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """Return the kernel without f16, bf16 and f8 that the device lacks; it may have u16 and u8 in their place."""
    rewrite = _Floats(kernel, capabilities)
    return rewrite.run() if rewrite.needed else kernel


class _Floats(Retype):
    dtypes = (*_HALVES, *_EIGHTHS)

    def memory(self, memory: Buffer | Shared) -> Buffer | Shared:
        return replace(memory, dtype=_word(memory.dtype)) if self.is_missing(memory.dtype) else memory

    def rule(self, instr: Instr) -> Callable[[Instr], Parts] | None:
        return _RULES.get(instr.name, _Floats._same).__get__(self) if self.concerns(instr) else None

    def carrier(self, dtype: DType) -> DType:
        """Return what values of a missing dtype are carried in."""
        return F32 if dtype in _HALVES else _word(dtype)

    # --- between carriers, f32 and bits -------------------------------------------------------------------------------

    def value(self, name: str) -> Reg:
        """Return a register of a narrow float as f32."""
        dtype = self.types[name].dtype
        return self.one(name) if dtype in _HALVES else decode_bits(self.b, self.b.to(self.one(name), U32), dtype)

    def rounded(self, x: Reg, dtype: DType) -> Reg:
        """Return an f32 rounded once to a narrow float, as its carrier."""
        exact = round_to(self.b, x, dtype)
        return exact if dtype in _HALVES else self.b.to(encode_bits(self.b, exact, dtype), _word(dtype))

    def bits(self, x: Reg, dtype: DType) -> Reg:
        """Return the bits of a carrier, u16 or u8."""
        return self.b.to(encode_bits(self.b, x, dtype), _word(dtype)) if dtype in _HALVES else x

    def carried(self, bits: Reg, dtype: DType) -> Reg:
        """Return the carrier of bits, u16 or u8."""
        return decode_bits(self.b, self.b.to(bits, U32), dtype) if dtype in _HALVES else bits

    # --- rules --------------------------------------------------------------------------------------------------------

    def _same(self, instr: Instr) -> Parts:
        """The same form on the carriers, whose result needs no rounding."""
        given = written_type(instr)
        type_ = given.with_dtype(self.carrier(given.dtype)) if given else None
        return (self.again(instr, *(self.one(name) for name in instr.args), type_=type_),)

    def _rounded(self, instr: Instr) -> Parts:
        """The same form on the carriers, rounded."""
        assert instr.type is not None
        (result,) = self._same(instr)
        return (self.rounded(result, instr.type.dtype),)

    def _fused(self, instr: Instr) -> Parts:
        """mul.add: rounded to odd in f32, then once to the format; products of f16 are exact in f32."""
        assert instr.type is not None
        dtype = instr.type.dtype
        x, y, z = (self.one(name) for name in instr.args)
        odd = odd_sum(self.b, self.b.times(x, y), z) if dtype == F16 else fused_odd(self.b, x, y, z)
        return (self.rounded(odd, dtype),)

    def _constant(self, instr: Instr) -> Parts:
        assert instr.type is not None
        dtype, bits = instr.type.dtype, instr.imms[0]
        if dtype in _EIGHTHS:
            return (self.b.pattern(_word(dtype), bits),)
        return (self.b.pattern(F32, _f32_bits(dtype, bits)),)

    def _cast(self, instr: Instr) -> Parts:
        assert instr.type is not None
        source, target = self.types[instr.args[0]].dtype, instr.type.dtype
        if source == target:
            return self.parts(instr.args[0])
        if not self.is_missing(target):
            return (self.b.to(self.value(instr.args[0]), target),)
        exact = self.value(instr.args[0]) if self.is_missing(source) else self._as_f32(self.one(instr.args[0]), target)
        return (self.rounded(exact, target),)

    def _as_f32(self, x: Reg, target: DType) -> Reg:
        """Return a number as f32 so that rounding it on to a narrow float is right."""
        dtype = x.type.dtype
        if dtype.is_float:
            return odd_from(self.b, x) if dtype == F64 else self.b.to(x, F32)
        if dtype.bits <= 16:
            return self.b.to(x, F32)
        if target == BF16:
            return odd_from(self.b, x)
        beyond = 1 << 17  # more than any of the others holds, and exact in f32
        x = self.b.least(x, beyond)
        return self.b.to(self.b.to(self.b.most(x, -beyond) if dtype.is_signed else x, I32), F32)

    def _bits(self, instr: Instr) -> Parts:
        """mov.bits of equal lane counts."""
        assert instr.type is not None
        source, target = self.types[instr.args[0]].dtype, instr.type.dtype
        if source == target:
            return self.parts(instr.args[0])
        x = self.one(instr.args[0])
        word = self.bits(x, source) if self.is_missing(source) else self.b.as_bits(x, _word(source))
        return (self.carried(word, target) if self.is_missing(target) else self.b.as_bits(word, target),)

    # --- memory -------------------------------------------------------------------------------------------------------

    def _load(self, instr: Instr) -> Parts:
        """load, load.vec, load.gather"""
        assert instr.type is not None
        dtype, mem = instr.type.dtype, self.memories[instr.mems[0]]
        gate = self.one(instr.gate) if instr.gate else None
        zero = self.b.pattern(mem.dtype, 0, instr.type.lanes) if gate else None
        type_ = instr.type.with_dtype(mem.dtype) if written_type(instr) else None
        index = self.one(instr.args[0])
        bits = self.b.op(instr.name, index, mems=(mem,), imms=instr.imms, type=type_, gate=gate, other=zero)
        loaded = self.carried(bits, dtype)
        return (self.b.where(gate, loaded, self.one(instr.other)) if gate else loaded,)

    def _store(self, instr: Instr) -> Parts:
        """store, store.vec, store.scatter"""
        index, value = (self.one(name) for name in instr.args)
        self.again(instr, index, self.bits(value, self.types[instr.args[1]].dtype))
        return ()


def _word(dtype: DType) -> DType:
    """Return the unsigned integer of the same width."""
    return DTYPES[f"u{dtype.bits}"]


def _f32_bits(dtype: DType, bits: int) -> int:
    """Return the f32 bits of the bits of an f16 or bf16; NaN payloads in the upper bits."""
    value = decode(dtype, bits)
    if value == value:
        return encode(F32, value)
    sign, payload = bits >> (dtype.bits - 1), bits & ((1 << mantissa_bits(dtype)) - 1)
    return sign << 31 | infinity_bits(F32) | payload << (F32.precision - dtype.precision)


_ROUNDED = ("add", "mul", "reduce.vec.add", "reduce.group.add")
_RULES: dict[str, Callable[[_Floats, Instr], Parts]] = {
    "mul.add": _Floats._fused,
    "mov.const": _Floats._constant,
    "mov.cast": _Floats._cast,
    "mov.bits": _Floats._bits,
    "load": _Floats._load,
    "load.vec": _Floats._load,
    "load.gather": _Floats._load,
    "store": _Floats._store,
    "store.vec": _Floats._store,
    "store.scatter": _Floats._store,
} | dict.fromkeys(_ROUNDED, _Floats._rounded)
"""What is not here is the same form on the carriers: selections, max, min."""
