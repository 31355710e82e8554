"""Conversions between number formats, each rounded once, in integer code wherever a target might call a library.

Two tools keep narrow formats exact. f16 and bf16 are *widened* to f32, computed there and *narrowed*, which for add,
mul, division and square root is the same as rounding once (Figueroa, "When is double rounding innocuous?", 1995).
Where it is not the same, the wide result is *rounded to odd* first, which keeps what the last rounding needs to know
(Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", 2008).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from portkit.backends.toolkit.code import Code, Value, element_of
from portkit.spec.types import BF16, F16, F32, F64, DType

_INFINITE_F16 = 1 << 16
"""An integer that every rounding to f16 makes infinite, and f32 holds exactly."""


class Formats:
    """Converts values of one function; `native_half` says that the target converts f16 to and from f32 itself."""

    def __init__(self, code: Code, *, native_half: bool) -> None:
        self.code = code
        self._widen = {BF16: self._widen_bf16, F16: self._native_widen if native_half else self._widen_f16}
        self._narrow = {BF16: self._narrow_bf16, F16: self._native_narrow if native_half else self._narrow_f16}

    # --- the two tools --------------------------------------------------------------------------------------------

    def widen(self, dtype: DType, x: Value) -> Value:
        """Return an f16 or bf16 value as f32, exactly; any other value as it is."""
        return self._widen[dtype](x) if dtype in self._widen else x

    def narrow(self, dtype: DType, x: Value) -> Value:
        """Return an f32 value rounded once to f16 or bf16; for any other dtype the value as it is."""
        return self._narrow[dtype](x) if dtype in self._narrow else x

    def lift(self, dtype: DType, compute: Callable[..., Value], *args: Value) -> Value:
        """Compute on floats in f32 or f64 and round to the dtype."""
        return self.narrow(dtype, compute(*(self.widen(dtype, x) for x in args)))

    def fma(self, dtype: DType, a: Value, b: Value, c: Value) -> Value:
        """Return a*b+c rounded once (Spec: fma_c1); the product of two narrow floats is exact in f64."""
        if dtype not in self._widen:
            return self.code.call("fma", a, b, c)
        wide = [self.code.convert("fpext", self.widen(dtype, x), "double") for x in (a, b, c)]
        product = self.code.op("fmul", wide[0], wide[1])
        return self.narrow(dtype, self._odd_f32(self._odd_sum(product, wide[2])))

    def _odd_sum(self, a: Value, b: Value) -> Value:
        """Return a+b in f64 rounded to odd; the error of the sum is exact (Knuth's TwoSum)."""
        op = self.code.op
        total = op("fadd", a, b)
        rest = op("fsub", total, a)
        error = op("fadd", op("fsub", a, op("fsub", total, rest)), op("fsub", b, rest))
        bits = self.code.convert("bitcast", total, "i64")
        apart = op("xor", bits, self.code.convert("bitcast", error, "i64"))
        return self._to_odd(bits, self.code.compare("icmp slt", apart, 0), self.code.compare("fcmp one", error, 0.0))

    def _odd_f32(self, x: Value) -> Value:
        """Return an f64 value rounded to odd in f32."""
        code = self.code
        nearest = code.convert("fptrunc", x, "float")
        back = code.convert("fpext", nearest, "double")
        away = code.compare("fcmp ogt", code.call("fabs", back), code.call("fabs", x))
        return self._to_odd(code.convert("bitcast", nearest, "i32"), away, code.compare("fcmp one", back, x))

    def _to_odd(self, bits: Value, away: Value, inexact: Value) -> Value:
        """Return the float nearest to zero of the two around an inexact result, or the other, whichever is odd."""
        code = self.code
        step = code.convert("zext", code.op("and", away, inexact), bits.element)
        odd = code.op("or", code.op("sub", bits, step), code.convert("zext", inexact, bits.element))
        return code.convert("bitcast", odd, "float" if bits.element == "i32" else "double")

    # --- bf16 -----------------------------------------------------------------------------------------------------

    def _widen_bf16(self, x: Value) -> Value:
        wide = self.code.op("shl", self.code.convert("zext", x, "i32"), 16)
        return self.code.convert("bitcast", wide, "float")

    def _narrow_bf16(self, x: Value) -> Value:
        """Add just under half a unit of the new last place, a whole half if that place is odd, and cut."""
        code, op = self.code, self.code.op
        bits = code.convert("bitcast", x, "i32")
        high = op("lshr", bits, 16)
        nearest = op("lshr", op("add", op("add", bits, 0x7FFF), op("and", high, 1)), 16)
        chosen = code.select(code.compare("fcmp uno", x, x), op("or", high, 0x40), nearest)
        return code.convert("trunc", chosen, "i16")

    # --- f16 ------------------------------------------------------------------------------------------------------

    def _native_widen(self, x: Value) -> Value:
        return self.code.convert("fpext", self.code.convert("bitcast", x, "half"), "float")

    def _native_narrow(self, x: Value) -> Value:
        return self.code.convert("bitcast", self.code.convert("fptrunc", x, "half"), "i16")

    def _widen_f16(self, x: Value) -> Value:
        """Shift the bits in place and let a multiplication by 2^112 move the exponent, subnormals included."""
        code, op = self.code, self.code.op
        bits = code.convert("zext", x, "i32")
        placed = op("shl", op("and", bits, 0x7FFF), 13)
        scaled = op("fmul", code.convert("bitcast", placed, "float"), 2.0**112)
        special = code.compare("icmp uge", placed, 0x7C00 << 13)
        magnitude = code.select(special, op("or", placed, 0x7F800000), code.convert("bitcast", scaled, "i32"))
        signed = op("or", magnitude, op("shl", op("and", bits, 0x8000), 16))
        return code.convert("bitcast", signed, "float")

    def _narrow_f16(self, x: Value) -> Value:
        """Round a normal result in integers; adding 0.5, whose unit is f16's least number, rounds a subnormal one."""
        code, op = self.code, self.code.op
        bits = code.convert("bitcast", x, "i32")
        magnitude = op("and", bits, 0x7FFFFFFF)
        tie = op("and", op("lshr", magnitude, 13), 1)
        normal = op("lshr", op("add", op("sub", magnitude, (112 << 23) - 0xFFF), tie), 13)
        shifted = op("fadd", code.convert("bitcast", magnitude, "float"), 0.5)
        subnormal = op("sub", code.convert("bitcast", shifted, "i32"), 126 << 23)
        rounded = code.select(code.compare("icmp ult", magnitude, 113 << 23), subnormal, normal)
        finite = code.select(code.compare("icmp uge", magnitude, 143 << 23), code.like(bits, 0x7C00), rounded)
        number = code.select(code.compare("fcmp uno", x, x), code.like(bits, 0x7E00), finite)
        signed = op("or", number, op("and", op("lshr", bits, 16), 0x8000))
        return code.convert("trunc", signed, "i16")

    # --- mov.cast -------------------------------------------------------------------------------------------------

    def cast(self, source: DType, target: DType, x: Value) -> Value:
        """Return `x` converted between any two number dtypes (Spec: cast_c1..c4)."""
        if source.is_int:
            return self._from_int(source, target, x)
        if target.is_int:
            return self._to_int(target, self.widen(source, x))
        if source == target:
            return x
        if source == F64 and target != F32:
            return self.narrow(target, self._odd_f32(x))
        wide = self.widen(source, x)
        return self.code.convert("fptrunc" if source == F64 else "fpext", self.narrow(target, wide), element_of(target))

    def _from_int(self, source: DType, target: DType, x: Value) -> Value:
        if target.is_int:
            grow = "sext" if source.is_signed else "zext"
            return self.code.convert("trunc" if target.bits < source.bits else grow, x, element_of(target))
        convert = partial(self.code.convert, "sitofp" if source.is_signed else "uitofp")
        if target not in self._narrow:
            return convert(x, element_of(target))
        if source.bits <= 16:
            return self.narrow(target, convert(x, "float"))
        if target == F16:
            return self.narrow(F16, convert(self._clamped(source, x), "float"))
        exact = convert(x, "double") if source.bits == 32 else self._odd_f64(source, x)
        return self.narrow(target, self._odd_f32(exact))

    def _clamped(self, source: DType, x: Value) -> Value:
        """Return an integer within what f16 tells apart from infinity."""
        if not source.is_signed:
            return self.code.call("umin", x, _INFINITE_F16)
        return self.code.call("smax", self.code.call("smin", x, _INFINITE_F16), -_INFINITE_F16)

    def _odd_f64(self, source: DType, x: Value) -> Value:
        """Return a 64-bit integer rounded to odd in f64, as the sum of its halves, which are exact."""
        code = self.code
        shift, convert = ("ashr", "sitofp") if source.is_signed else ("lshr", "uitofp")
        high = code.op("fmul", code.convert(convert, code.op(shift, x, 32), "double"), 2.0**32)
        low = code.convert("uitofp", code.op("and", x, 0xFFFFFFFF), "double")
        return self._odd_sum(high, low)

    def _to_int(self, target: DType, x: Value) -> Value:
        """Truncate what fits, saturate the rest, NaN gives 0: written out because LLVM's own splits vectors up."""
        code, low, limit = self.code, float(target.min_int), float(target.max_int + 1)
        above, below = code.compare("fcmp oge", x, limit), code.compare("fcmp olt", x, low)
        # Outside the range the conversion is undefined, and for NaN too: convert a zero there.
        inside = code.op("and", code.compare("fcmp oge", x, low), code.compare("fcmp olt", x, limit))
        whole = code.convert(
            "fptosi" if target.is_signed else "fptoui", code.select(inside, x, 0.0), element_of(target)
        )
        capped = code.select(above, code.like(whole, target.max_int), whole)
        return code.select(below, code.like(whole, target.min_int), capped)
