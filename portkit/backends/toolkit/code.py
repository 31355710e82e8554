"""Writing a kernel's text, whatever the language: typed values, and the instructions that every language has.

A `Value` is the text of an operand with its type. Types have LLVM's names in every language: `i1` `i8` `i16` `i32`
`i64` `float` `double`; f16 and bf16 are held as their bits, an `i16`. Integers have no sign, instructions have.
Instructions have LLVM's names too, because their meaning is written down once, in the LLVM Language Reference.

Plain Python numbers stand for constants of the other operand's type, so that an expansion reads like the formula it
computes. Floating point instructions round once; nothing is contracted, reassociated or rewritten.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple

from portkit.errors import CompileError
from portkit.spec.types import DType, Kind, Type

_FLOAT_OF_BITS = {32: "float", 64: "double"}
_INTEGER_OF_FLOAT = {"float": "i32", "double": "i64"}

Number = int | float


class Value(NamedTuple):
    """An operand: its text, element type and lane count."""

    text: str
    element: str
    lanes: int = 1

    @property
    def type(self) -> str:
        return vector(self.element, self.lanes)

    def __str__(self) -> str:
        return f"{self.type} {self.text}"


def vector(element: str, lanes: int) -> str:
    """Return the LLVM type of `lanes` elements; one lane is the element itself."""
    return element if lanes == 1 else f"<{lanes} x {element}>"


def element_of(dtype: DType) -> str:
    """Return the type that holds a dtype in a register.

    f16 and bf16 are held as their bits: loads, stores and selects then keep every bit on any target, and arithmetic
    goes through f32 in any case.
    """
    if dtype.kind is Kind.BOOL:
        return "i1"
    return _FLOAT_OF_BITS.get(dtype.bits, f"i{dtype.bits}") if dtype.is_float else f"i{dtype.bits}"


def memory_element_of(dtype: DType) -> str:
    """Return the type that holds a dtype in memory: a bool takes a byte."""
    return "i8" if dtype.kind is Kind.BOOL else element_of(dtype)


def integer_of(element: str) -> str:
    """Return the integer type of the same width."""
    return _INTEGER_OF_FLOAT.get(element, element)


def bits_of(element: str) -> int:
    """Return the width of an integer type or of float and double."""
    return int(integer_of(element)[1:])


def wrapped(element: str, number: Number) -> int:
    """Return an integer modulo the width of an integer type, 0 or more."""
    return int(number) & ((1 << bits_of(element)) - 1)


@dataclass(slots=True)
class Turn:
    """One turn of a loop: its index, its carries, and the values that the body gives them."""

    index: Value
    carries: list[Value]
    following: list[Value] = field(default_factory=list[Value])


def no_lanes(what: str) -> CompileError:
    """Return the error of a language that was asked for vectors and has none."""
    return CompileError(f"{what}: the language has no vectors; do not declare the extension vec")


class Code(ABC):
    """The text of one function as it grows.

    Instructions work lane by lane; a language whose device declares no `vec` is never asked for lanes, and leaves out
    what makes and takes apart vectors.
    """

    widest = 64
    """Bits of the widest integer that the language multiplies; `mul.hi` of that width is made of halves."""

    lines: list[str]
    """What was written so far."""

    def __init__(self) -> None:
        self.lines = []
        self._count = 0

    def fresh(self, hint: str) -> str:
        """Return a name that was not used before."""
        self._count += 1
        return f"{hint}.{self._count}"

    def named(self, value: Value, hint: str) -> Value:
        """Return a value under a name with a hint of the kernel's own, where the language can rename it."""
        del hint
        return value

    # --- constants ------------------------------------------------------------------------------------------------

    @abstractmethod
    def literal(self, element: str, number: Number) -> Value:
        """Return a scalar constant: floats rounded to the type, integers taken modulo its width."""

    @abstractmethod
    def bits(self, element: str, bits: int) -> Value:
        """Return the scalar constant with a bit pattern; a NaN keeps its payload."""

    def constant(self, type_: Type, bits: int) -> Value:
        """Return the constant of a portkit type with the given bit pattern in every lane."""
        return self.broadcast(self.bits(element_of(type_.dtype), bits), type_.lanes)

    def like(self, pattern: Value, x: Value | Number) -> Value:
        """Return `x`, or the constant `x` of the type of `pattern`."""
        return x if isinstance(x, Value) else self.broadcast(self.literal(pattern.element, x), pattern.lanes)

    # --- instructions ---------------------------------------------------------------------------------------------

    @abstractmethod
    def op(self, name: str, a: Value, b: Value | Number) -> Value:
        """Write a binary operation on two operands of one type.

        add sub mul and or xor shl lshr ashr udiv urem; fadd fsub fmul fdiv. Counts of shifts are below the width;
        `nuw nsw` after add or mul says that the result, an index, fits a signed integer.
        """

    @abstractmethod
    def compare(self, name: str, a: Value, b: Value | Number) -> Value:
        """Write a comparison: icmp eq slt ult uge, or fcmp oeq olt oge ogt one uno. The result is `i1`."""

    @abstractmethod
    def select(self, condition: Value, x: Value, y: Value | Number) -> Value:
        """Write a choice lane by lane, which keeps every bit."""

    @abstractmethod
    def convert(self, name: str, x: Value, element: str) -> Value:
        """Write a conversion lane by lane; to the type it has already, none.

        bitcast zext sext trunc (to `i1`: the lowest bit) fpext fptrunc sitofp uitofp, and fptosi fptoui of a value
        that fits.
        """

    @abstractmethod
    def reinterpret(self, x: Value, element: str, lanes: int) -> Value:
        """Write a bitcast to a type of the same total size."""

    @abstractmethod
    def call(self, name: str, a: Value, *others: Value | Number) -> Value:
        """Write a function whose operands and result have one type.

        fma fabs sqrt trunc (correctly rounded), smax smin umax umin, and maximum minimum, which give NaN for NaN and
        order the zeros.
        """

    # --- lanes ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def broadcast(self, x: Value, lanes: int) -> Value:
        """Write a scalar into each of `lanes` lanes; into one, nothing."""

    def pack(self, scalars: Sequence[Value]) -> Value:
        """Write scalars into one vector."""
        raise no_lanes(f"{len(scalars)} lanes")

    def extract(self, x: Value, lane: int) -> Value:
        """Write a lane as a scalar."""
        raise no_lanes(f"lane {lane} of {x.lanes}")

    def shuffle(self, a: Value, b: Value, lanes: list[int]) -> Value:
        """Write the chosen lanes of the two operands side by side."""
        raise no_lanes(f"{len(lanes)} lanes of {a.lanes} and {b.lanes}")

    # --- control flow ---------------------------------------------------------------------------------------------

    @abstractmethod
    def when(self, gate: Value, then: Callable[[], Value | None], other: Value | None, hint: str = "v") -> Value | None:
        """Run `then` where the scalar `gate` is true; the result is its value, else `other`."""

    @abstractmethod
    def loop(
        self,
        count: Value,
        firsts: Sequence[Value] = (),
        *,
        parallel: bool = False,
        hint: str = "i",
        names: Sequence[str] = (),
    ) -> AbstractContextManager[Turn]:
        """Write a loop over 0..count-1 (a signed count of zero or less runs it not at all).

        `firsts` are the first values of its carries, `names` hints for them; the body sets their `following` ones, all
        at once. After the loop the carries read as last given. Turns of a *parallel* loop do not conflict: several may
        run at once.
        """


def high_half(code: Code, a: Value, b: Value) -> Value:
    """Return the upper half of the unsigned product of two integers as wide as the language has.

    Source: Knuth, "The Art of Computer Programming", volume 2, 4.3.1, with two digits.
    """
    op, half = code.op, bits_of(a.element) // 2
    mask = (1 << half) - 1
    (a0, a1), (b0, b1) = ((op("and", x, mask), op("lshr", x, half)) for x in (a, b))
    low = op("add", op("mul", a1, b0), op("lshr", op("mul", a0, b0), half))
    middle = op("add", op("mul", a0, b1), op("and", low, mask))
    return op("add", op("add", op("mul", a1, b1), op("lshr", low, half)), op("lshr", middle, half))


def extreme(code: Code, name: str, a: Value, b: Value) -> Value:
    """Return the IEEE 754-2019 `maximum` or `minimum` of two floats, in a language that has no such function.

    Equal are the same bits, two zeros, and on a device that flushes two subnormals: then what both have is no larger.
    """
    more = "fcmp ogt" if name == "maximum" else "fcmp olt"
    integer = integer_of(a.element)
    x, y = code.convert("bitcast", a, integer), code.convert("bitcast", b, integer)
    same = code.op("and", x, y)
    if name == "minimum":  # the sign of either: -0.0 comes before 0.0
        same = code.op("or", same, code.op("and", code.op("or", x, y), -(1 << (bits_of(a.element) - 1))))
    rest = code.select(code.compare("fcmp oeq", a, b), code.convert("bitcast", same, a.element), code.op("fadd", a, b))
    return code.select(code.compare(more, a, b), a, code.select(code.compare(more, b, a), b, rest))
