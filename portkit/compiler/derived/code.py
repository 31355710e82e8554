"""Writing derivations as formulas: a Python number stands for a constant of the other operand's type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from portkit.compiler.features import Features
from portkit.spec.builder import Builder, Reg
from portkit.spec.types import BOOL, DTYPES, DType, Type

Value: TypeAlias = Reg | float | int | bool


class Code:
    """Appends instructions to a builder; every operand has the lanes of the arguments of the function."""

    def __init__(self, b: Builder, features: Features) -> None:
        self.b = b
        self.features = features
        self._splats: dict[tuple[str, int], Reg] = {}

    def like(self, model: Reg | Type, value: Value) -> Reg:
        """Return `value` itself, or the constant `value` of the model's type."""
        if isinstance(value, Reg):
            return value
        type_ = model.type if isinstance(model, Reg) else model
        return self._spread(self.b.const(type_.dtype.name, value), type_.lanes)

    def _spread(self, scalar: Reg, lanes: int) -> Reg:
        if lanes == 1:
            return scalar
        key = scalar.name, lanes
        if key not in self._splats:
            self._splats[key] = self.b.splat(scalar, lanes)
        return self._splats[key]

    # --- arithmetic -----------------------------------------------------------------------------------------------

    def add(self, a: Reg, b: Value) -> Reg:
        return self.b.add(a, self.like(a, b))

    def mul(self, a: Reg, b: Value) -> Reg:
        return self.b.mul(a, self.like(a, b))

    def neg(self, x: Reg) -> Reg:
        """Return -x; the product by -1 is exact, and by the largest unsigned integer it is the same."""
        dtype = x.type.dtype
        return self.mul(x, -1 if dtype.is_float or dtype.is_signed else dtype.max_int)

    def sub(self, a: Reg, b: Reg) -> Reg:
        """Return a - b, rounded once."""
        if self.features.fuses(a.type.dtype):
            return self.b.fma(b, self.like(b, -1), a)
        return self.add(a, self.neg(b))

    def fma(self, a: Reg, b: Value, c: Value) -> Reg:
        """Return a*b+c, rounded once where the device can, else twice."""
        b, c = self.like(a, b), self.like(a, c)
        return self.b.fma(a, b, c) if self.features.fuses(a.type.dtype) else self.b.add(self.b.mul(a, b), c)

    def polynomial(self, x: Reg, coefficients: Sequence[float]) -> Reg:
        """Return c0 + x (c1 + x (c2 + ...)) by Horner's rule."""
        result = self.like(x, coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            result = self.fma(result, x, coefficient)
        return result

    def math(self, kind: str, x: Reg) -> Reg:
        return self.b.op(f"mov.{kind}", x)

    # --- integers and bits ----------------------------------------------------------------------------------------

    def mul_hi(self, a: Reg, b: Value) -> Reg:
        return self.b.op("mul.hi", a, self.like(a, b))

    def shl(self, a: Reg, count: Value) -> Reg:
        return self.b.op("mul.shl", a, self.like(a, count))

    def shr(self, a: Reg, count: Value) -> Reg:
        return self.b.op("mul.shr", a, self.like(a, count))

    def band(self, a: Reg, b: Value) -> Reg:
        return self.b.op("reduce.and", a, self.like(a, b))

    def bor(self, a: Reg, b: Value) -> Reg:
        return self.b.op("reduce.or", a, self.like(a, b))

    def xor(self, a: Reg, b: Value) -> Reg:
        return self.b.op("reduce.xor", a, self.like(a, b))

    def max(self, a: Reg, b: Value) -> Reg:
        return self.b.op("reduce.max", a, self.like(a, b))

    def min(self, a: Reg, b: Value) -> Reg:
        return self.b.op("reduce.min", a, self.like(a, b))

    # --- conversions ----------------------------------------------------------------------------------------------

    def cast(self, x: Reg, dtype: DType | str) -> Reg:
        """Return `x` converted lane by lane; to its own dtype, `x` itself."""
        target = DTYPES[dtype] if isinstance(dtype, str) else dtype
        return x if x.type.dtype is target else self.b.cast(x, x.type.with_dtype(target))

    def bits(self, x: Reg, dtype: DType | str) -> Reg:
        """Return the bits of each lane as another dtype of the same size."""
        target = DTYPES[dtype] if isinstance(dtype, str) else dtype
        return x if x.type.dtype is target else self.b.bits(x, x.type.with_dtype(target))

    # --- choices --------------------------------------------------------------------------------------------------

    def lt(self, a: Reg, b: Value, x: Value = True, y: Value = False) -> Reg:
        """Return x where a < b, else y; two Python numbers are of the dtype of a, two bools are the comparison."""
        return self._choice("phi.lt", a, self.like(a, b), x, y)

    def gt(self, a: Reg, b: Value, x: Value = True, y: Value = False) -> Reg:
        """Return x where a > b, else y."""
        return self._choice("phi.lt", self.like(a, b), a, x, y)

    def eq(self, a: Reg, b: Value, x: Value = True, y: Value = False) -> Reg:
        """Return x where a == b, else y."""
        return self._choice("phi.eq", a, self.like(a, b), x, y)

    def where(self, condition: Reg, x: Value, y: Value) -> Reg:
        """Return x where a bool holds, else y; at least one of them is a register."""
        return self._choice("phi.eq", condition, self.like(condition, True), x, y)

    def any(self, condition: Reg) -> Reg:
        """Return 1 where a bool holds in any lane, else 0, as the count of a loop: the `if` of this language."""
        lanes = condition.type.lanes
        found = condition if lanes == 1 else self.b.op("reduce.vec.or", condition)
        return self.b.eq(found, self.b.const("bool", True), self.b.const("i32", 1), self.b.const("i32", 0))

    def _choice(self, form: str, a: Reg, b: Reg, x: Value, y: Value) -> Reg:
        model = x if isinstance(x, Reg) else y if isinstance(y, Reg) else a.type
        if isinstance(x, bool) and isinstance(y, bool):
            model = a.type.with_dtype(BOOL)
        return self.b.op(form, a, b, self.like(model, x), self.like(model, y))
