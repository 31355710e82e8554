"""Every elementwise function of the graph language as instructions: one table from name to emitter.

`emit` writes a function of registers of any lane count into a `Builder`. What the device has natively (`Features`) is
used where it is quicker or the only way; without any, only base forms are written. f16 and bf16 functions are computed
in f32 and rounded once. How accurate each is, `portkit.compiler.accuracy` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from portkit.compiler.derived import activation, algebraic, exponential, power, rounding, trigonometric
from portkit.compiler.derived.code import Code
from portkit.compiler.derived.division import divide, divide_by_constant, divide_floored, divide_truncated
from portkit.compiler.features import BASE, Features
from portkit.compiler.functions import result_dtype
from portkit.spec.builder import Builder, Reg
from portkit.spec.types import BF16, BOOL, F16, F32, U8, DType, decode

__all__ = ["BASE", "EMITTERS", "Features", "divide", "emit", "emit_divide_by_constant"]

Emitter = Callable[[Code, Sequence[Reg], DType], Reg]
Unary = Callable[[Code, Reg], Reg]


def emit(b: Builder, name: str, args: Sequence[Reg], result: DType, features: Features) -> Reg:
    """Write function `name` of registers that agree in lanes, and return its result.

    Raises `UsageError` for an unknown function, `DTypeError` for dtypes that it does not take.
    """
    result_dtype(name, [a.type.dtype for a in args], result)
    return EMITTERS[name](Code(b, features), args, result)


def emit_divide_by_constant(b: Builder, x: Reg, divisor: int) -> Reg:
    """Return floor(x / divisor) of an integer of any dtype; 0 where the divisor is 0."""
    return divide_by_constant(Code(b, BASE), x, divisor, floor=True)


# --- arithmetic -------------------------------------------------------------------------------------------------------


def _form(name: str) -> Emitter:
    """A function that is a form."""
    return lambda c, args, _: c.b.op(name, *args)


def _neg(c: Code, args: Sequence[Reg], _: DType) -> Reg:
    """Flip the sign bit of narrow floats, for which a product takes conversions."""
    x, dtype = args[0], args[0].type.dtype
    if dtype.is_float and dtype.bits < F32.bits:
        return c.bits(c.xor(c.bits(x, f"u{dtype.bits}"), 1 << (dtype.bits - 1)), dtype)
    return c.neg(x)


def _sub(c: Code, args: Sequence[Reg], result: DType) -> Reg:
    a, b = args
    return c.add(a, _neg(c, [b], result)) if result in (F16, BF16) else c.sub(a, b)


def _abs(c: Code, args: Sequence[Reg], _: DType) -> Reg:
    x, dtype = args[0], args[0].type.dtype
    if dtype.is_float:
        return c.bits(c.band(c.bits(x, f"u{dtype.bits}"), (1 << (dtype.bits - 1)) - 1), dtype)
    return c.max(x, c.neg(x)) if dtype.is_signed else x


def _sign(c: Code, args: Sequence[Reg], _: DType) -> Reg:
    """-1, 1, or x itself where that is zero or NaN."""
    x = args[0]
    positive = c.gt(x, 0, c.like(x, 1), x)
    dtype = x.type.dtype
    return c.lt(x, 0, -1, positive) if dtype.is_float or dtype.is_signed else positive


def _lifted(function: Callable[..., Reg]) -> Emitter:
    """A function of floats, in f32 for narrower ones."""

    def write(c: Code, args: Sequence[Reg], result: DType) -> Reg:
        if result not in (F16, BF16):
            return function(c, *args)
        return c.cast(function(c, *(c.cast(x, F32) for x in args)), result)

    return write


# --- integers ---------------------------------------------------------------------------------------------------------


def _divided(*, floor: bool, remainder: bool) -> Emitter:
    """A quotient or remainder; by a constant where the divisor is one."""

    def write(c: Code, args: Sequence[Reg], _: DType) -> Reg:
        a, b = args
        known = c.b.constant(b)
        if known is None:
            return (divide_floored if floor else divide_truncated)(c, a, b)[remainder]
        d = int(decode(a.type.dtype, known))
        if remainder and floor and d > 0 and d & (d - 1) == 0:
            return c.band(a, d - 1)
        quotient = divide_by_constant(c, a, d, floor=floor)
        if not remainder:
            return quotient
        return c.like(a, 0) if d == 0 else c.sub(a, c.mul(quotient, b))

    return write


def _not(c: Code, args: Sequence[Reg], _: DType) -> Reg:
    x, dtype = args[0], args[0].type.dtype
    return c.xor(x, True if dtype is BOOL else -1 if dtype.is_signed else dtype.max_int)


# --- conversions ------------------------------------------------------------------------------------------------------


def _cast(c: Code, args: Sequence[Reg], result: DType) -> Reg:
    """A form between numbers; to bool a comparison with zero, from bool a choice of 0 or 1."""
    x, dtype = args[0], args[0].type.dtype
    if dtype is result:
        return x
    if result is BOOL:
        number = c.cast(x, F32) if dtype.is_float and dtype.bits == BOOL.bits else x
        return c.eq(number, 0, False, True)
    if dtype is BOOL:
        return c.where(x, c.like(x.type.with_dtype(result), 1), 0)
    return c.cast(x, result)


def _bits(c: Code, args: Sequence[Reg], result: DType) -> Reg:
    """The same bits; a bool counts as the byte 0 or 1."""
    x, dtype = args[0], args[0].type.dtype
    if dtype is result:
        return x
    if result is BOOL:
        return c.eq(c.bits(x, "u8"), 0, False, True)
    if dtype is BOOL:
        return c.bits(c.where(x, c.like(x.type.with_dtype(U8), 1), 0), result)
    return c.bits(x, result)


EMITTERS: dict[str, Emitter] = {
    "add": _form("add"),
    "mul": _form("mul"),
    "max": _form("reduce.max"),
    "min": _form("reduce.min"),
    "and": _form("reduce.and"),
    "or": _form("reduce.or"),
    "xor": _form("reduce.xor"),
    "shl": _form("mul.shl"),
    "shr": _form("mul.shr"),
    "mulhi": _form("mul.hi"),
    "sub": _sub,
    "neg": _neg,
    "abs": _abs,
    "sign": _sign,
    "not": _not,
    "lt": lambda c, args, _: c.lt(*args),
    "eq": lambda c, args, _: c.eq(*args),
    "where": lambda c, args, _: c.where(*args),
    "cast": _cast,
    "bits": _bits,
    "idiv": _divided(floor=True, remainder=False),
    "imod": _divided(floor=True, remainder=True),
    "tdiv": _divided(floor=False, remainder=False),
    "tmod": _divided(floor=False, remainder=True),
    "div": _lifted(algebraic.div),
    "recip": _lifted(algebraic.recip),
    "sqrt": _lifted(algebraic.sqrt),
    "rsqrt": _lifted(algebraic.rsqrt),
    "exp": _lifted(exponential.exp),
    "exp2": _lifted(exponential.exp2),
    "log": _lifted(exponential.log),
    "log2": _lifted(exponential.log2),
    "tanh": _lifted(activation.tanh),
    "sigmoid": _lifted(activation.sigmoid),
    "erf": _lifted(activation.erf),
    "pow": _lifted(power.power),
    "sin": _lifted(trigonometric.sin),
    "cos": _lifted(trigonometric.cos),
    "tan": _lifted(trigonometric.tan),
    "floor": _lifted(rounding.floor),
    "ceil": _lifted(rounding.ceil),
    "round": _lifted(rounding.round_even),
    "trunc": _lifted(rounding.trunc),
}
