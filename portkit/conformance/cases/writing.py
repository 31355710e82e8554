"""A builder for hand-written kernels: numbers become constants of the other operand's dtype."""

from __future__ import annotations

from portkit.spec.builder import Builder, Reg

Value = Reg | int | float


class Writer(Builder):
    """The builder with the short names that kernels are full of; a Python number stands for a constant."""

    def i32(self, value: int) -> Reg:
        """Return an i32 constant."""
        return self.const("i32", value)

    def f32(self, value: float) -> Reg:
        """Return an f32 constant, rounded once."""
        return self.const("f32", value)

    def like(self, model: Reg, value: Value) -> Reg:
        """Return `value` as a register of the model's dtype and lanes."""
        if isinstance(value, Reg):
            return value
        return self.splat(self.const(model.type.dtype.name, value), model.type.lanes)

    def plus(self, a: Reg, b: Value) -> Reg:
        return self.add(a, self.like(a, b))

    def times(self, a: Reg, b: Value) -> Reg:
        return self.mul(a, self.like(a, b))

    def minus(self, a: Reg, b: Reg) -> Reg:
        """Return a - b; the product by -1 is exact."""
        return self.add(a, self.times(b, -1))

    def index(self, row: Reg, width: Value, column: Value) -> Reg:
        """Return row * width + column."""
        return self.plus(self.times(row, width), column)

    def band(self, a: Reg, b: Value) -> Reg:
        return self.op("reduce.and", a, self.like(a, b))

    def bor(self, a: Reg, b: Value) -> Reg:
        return self.op("reduce.or", a, self.like(a, b))

    def xor(self, a: Reg, b: Value) -> Reg:
        return self.op("reduce.xor", a, self.like(a, b))

    def shl(self, a: Reg, count: Value) -> Reg:
        return self.op("mul.shl", a, self.like(a, count))

    def shr(self, a: Reg, count: Value) -> Reg:
        return self.op("mul.shr", a, self.like(a, count))

    def maximum(self, a: Reg, b: Value) -> Reg:
        return self.op("reduce.max", a, self.like(a, b))

    def minimum(self, a: Reg, b: Value) -> Reg:
        return self.op("reduce.min", a, self.like(a, b))

    def below(self, a: Reg, b: Value) -> Reg:
        """Return a < b as bool."""
        return self.lt(a, self.like(a, b))

    def same(self, a: Reg, b: Value) -> Reg:
        """Return a == b as bool."""
        return self.eq(a, self.like(a, b))

    def both(self, a: Reg, b: Reg) -> Reg:
        """Return whether two bools hold."""
        return self.op("reduce.and", a, b)

    def choose(self, condition: Reg, x: Reg, y: Reg) -> Reg:
        """Return x where a bool holds, else y."""
        return self.eq(condition, self.like_bool(condition, True), x, y)

    def like_bool(self, model: Reg, value: bool) -> Reg:
        return self.splat(self.const("bool", value), model.type.lanes)

    def inverted(self, condition: Reg) -> Reg:
        return self.op("reduce.xor", condition, self.like_bool(condition, True))

    def count_if(self, condition: Reg) -> Reg:
        """Return a bool as the loop count 1 or 0: the `if` of this language."""
        return self.choose(condition, self.i32(1), self.i32(0))
