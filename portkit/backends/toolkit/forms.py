"""The pure forms of the spec as instructions of `Code`: a table from form to emitter.

An emitter gets the instruction, the types of its operands and their values, and returns the value of the result. Every
one works lane by lane on vectors of any length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf

from portkit.backends.toolkit.code import Code, Value, bits_of, element_of, high_half
from portkit.backends.toolkit.formats import Formats
from portkit.backends.toolkit.functions import FUNCTIONS
from portkit.errors import CompileError
from portkit.spec.kernel import Instr
from portkit.spec.types import BF16, BOOL, F16, F32, DType, Type, encode

_INT_STEPS = {"add": "add", "mul": "mul", "and": "and", "or": "or", "xor": "xor"}
_FLOAT_STEPS = {"add": "fadd", "mul": "fmul"}
# maximum and minimum give NaN for NaN and order the zeros, which numeric_c4 asks of strict kernels.
_FLOAT_EXTREMES = {"max": "maximum", "min": "minimum"}
_COMPARISONS = {"phi.lt": ("fcmp olt", "icmp slt", "icmp ult"), "phi.eq": ("fcmp oeq", "icmp eq", "icmp eq")}
_IDENTITIES: dict[str, Callable[[DType], float]] = {
    "add": lambda d: -0.0 if d.is_float else 0,
    "mul": lambda d: 1,
    "max": lambda d: -inf if d.is_float else d.min_int,
    "min": lambda d: inf if d.is_float else d.max_int,
    "and": lambda d: 1 if d == BOOL else d.max_int if not d.is_signed else -1,
    "or": lambda d: 0,
    "xor": lambda d: 0,
}

Emitter = Callable[["Forms", Instr, Sequence[Type], Sequence[Value]], Value]


def accumulator(kind: str, type_: Type) -> Type:
    """Return the type that a reduction of `type_` accumulates in (Spec: group_c2)."""
    return type_.with_dtype(F32) if kind == "add" and type_.dtype in (F16, BF16) else type_


class Forms:
    """Emits the pure forms into one function; the target's own emitters go before the shared ones."""

    def __init__(self, code: Code, formats: Formats, own: Mapping[str, Emitter] | None = None) -> None:
        self.code = code
        self.formats = formats
        self.emitters = {**EMITTERS, **(own or {})}

    def emit(self, instr: Instr, types: Sequence[Type], args: Sequence[Value]) -> Value:
        """Write a pure instruction and return its result."""
        if instr.name not in self.emitters:
            raise CompileError(f"{instr.name} has no expansion; legalise the kernel to the declared forms")
        return self.emitters[instr.name](self, instr, types, args)

    def identity(self, kind: str, type_: Type) -> Value:
        """Return what a reduction starts from: x f identity = x for every x, signed zeros too (Spec: numeric_c5)."""
        return self.code.constant(type_, encode(type_.dtype, _IDENTITIES[kind](type_.dtype)))

    # --- one step of a reduction ----------------------------------------------------------------------------------

    def step(self, kind: str, dtype: DType, a: Value, b: Value) -> Value:
        """Return a KIND b: the two-operand function that every reduction and atomic store of that kind repeats."""
        code = self.code
        if dtype.is_float and kind in _FLOAT_EXTREMES:
            return self.formats.lift(dtype, partial(code.call, _FLOAT_EXTREMES[kind]), a, b)
        if dtype.is_float:
            return self.formats.lift(dtype, partial(code.op, _FLOAT_STEPS[kind]), a, b)
        if kind in _INT_STEPS:
            return code.op(_INT_STEPS[kind], a, b)
        return code.call(f"{'s' if dtype.is_signed else 'u'}{kind}", a, b)

    def fold(self, kind: str, dtype: DType, values: Sequence[Value]) -> Value:
        """Fold from left to right (Spec: reduce_c1)."""
        result = values[0]
        for value in values[1:]:
            result = self.step(kind, dtype, result, value)
        return result

    def fold_lanes(self, kind: str, type_: Type, x: Value) -> Value:
        """Fold the lanes of a vector by halves (Spec: numeric_c5, group_c2)."""
        code, wide = self.code, accumulator(kind, type_)
        if wide != type_:
            x = self.formats.widen(type_.dtype, x)
        size = 1 << (type_.lanes - 1).bit_length()
        if size > type_.lanes:
            pad = [min(lane, type_.lanes) for lane in range(size)]
            x = code.shuffle(x, self.identity(kind, wide), pad)
        while size > 2:
            size //= 2
            low, high = code.shuffle(x, x, [*range(size)]), code.shuffle(x, x, [*range(size, 2 * size)])
            x = self.step(kind, wide.dtype, low, high)
        total = self.step(kind, wide.dtype, code.extract(x, 0), code.extract(x, 1))
        return self.formats.narrow(type_.dtype, total) if wide != type_ else total

    # --- the forms ------------------------------------------------------------------------------------------------

    def high_half(self, dtype: DType, a: Value, b: Value) -> Value:
        """Return the upper half of an integer product."""
        code = self.code
        if 2 * dtype.bits > code.widest:
            return self._high_half_of_widest(dtype, a, b)
        wide, grow = f"i{2 * dtype.bits}", "sext" if dtype.is_signed else "zext"
        product = code.op("mul", code.convert(grow, a, wide), code.convert(grow, b, wide))
        return code.convert("trunc", code.op("lshr", product, dtype.bits), a.element)

    def _high_half_of_widest(self, dtype: DType, a: Value, b: Value) -> Value:
        """Take what counts too much from the unsigned one: 2^bits times the other operand for each negative operand."""
        code, high = self.code, high_half(self.code, a, b)
        if dtype.is_signed:
            for x, other in ((a, b), (b, a)):
                high = code.op("sub", high, code.op("and", code.op("ashr", x, dtype.bits - 1), other))
        return high

    def shift(self, name: str, a: Value, count: Value) -> Value:
        return self.code.op(name, a, self.code.op("and", count, bits_of(a.element) - 1))

    def compare(self, name: str, dtype: DType, a: Value, b: Value) -> Value:
        of_floats, of_signed, of_unsigned = _COMPARISONS[name]
        if dtype.is_float:
            return self.code.compare(of_floats, self.formats.widen(dtype, a), self.formats.widen(dtype, b))
        return self.code.compare(of_signed if dtype.is_signed else of_unsigned, a, b)


def _result(instr: Instr) -> Type:
    if instr.type is None:
        raise CompileError(f"{instr.name} has no result type; build kernels with the builder or the parsers")
    return instr.type


def _step(kind: str) -> Emitter:
    return lambda forms, _, types, args: forms.fold(kind, types[0].dtype, args)


def _fold_lanes(kind: str) -> Emitter:
    return lambda forms, _, types, args: forms.fold_lanes(kind, types[0], args[0])


def _function(kind: str) -> Emitter:
    compute = FUNCTIONS[kind]
    return lambda forms, _, types, args: forms.formats.lift(types[0].dtype, partial(compute, forms.code), args[0])


def _compare(forms: Forms, instr: Instr, types: Sequence[Type], args: Sequence[Value]) -> Value:
    truth = forms.compare(instr.name, types[0].dtype, args[0], args[1])
    return forms.code.select(truth, args[2], args[3])


def _shift_right(forms: Forms, _: Instr, types: Sequence[Type], args: Sequence[Value]) -> Value:
    return forms.shift("ashr" if types[0].dtype.is_signed else "lshr", *args)


def _bits(forms: Forms, instr: Instr, _: Sequence[Type], args: Sequence[Value]) -> Value:
    result = _result(instr)
    return forms.code.reinterpret(args[0], element_of(result.dtype), result.lanes)


EMITTERS: dict[str, Emitter] = {
    "add": _step("add"),
    "mul": _step("mul"),
    "mul.hi": lambda forms, _, types, args: forms.high_half(types[0].dtype, *args),
    "mul.shl": lambda forms, _, types, args: forms.shift("shl", *args),
    "mul.shr": _shift_right,
    "mul.add": lambda forms, _, types, args: forms.formats.fma(types[0].dtype, *args),
    "mov.cast": lambda forms, instr, types, args: forms.formats.cast(types[0].dtype, _result(instr).dtype, args[0]),
    "mov.bits": _bits,
    "mov.splat": lambda forms, instr, _, args: forms.code.broadcast(args[0], _result(instr).lanes),
    "mov.lane": lambda forms, instr, _, args: forms.code.extract(args[0], instr.imms[0]),
    "mov.pack": lambda forms, _, types, args: forms.code.pack(args),
    "phi.lt": _compare,
    "phi.eq": _compare,
    **{f"reduce.{kind}": _step(kind) for kind in ("max", "min", "and", "or", "xor")},
    **{f"reduce.vec.{kind}": _fold_lanes(kind) for kind in _IDENTITIES},
    **{f"mov.{kind}": _function(kind) for kind in FUNCTIONS},
}
