"""The C family as languages of `Code`: C itself, OpenCL C, the Metal language, told apart by a table.

Registers become `const` variables under the kernel's own names with a number behind, which keeps them clear of
keywords; loops are `for`, gates are `if`. Integers are unsigned, and cast where an instruction reads them as signed, so
that no operation is undefined. No expression has two operations that round.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from portkit.backends.toolkit.code import Code, Number, Turn, Value, bits_of, extreme, integer_of, no_lanes, wrapped
from portkit.backends.toolkit.forms import Emitter
from portkit.errors import CompileError

_FORMATS = {"float": ("<f", "<I"), "double": ("<d", "<Q")}
_LAST_DECIMAL = 1 << 16
_WIDE = 32
"""C computes narrower integers in a signed `int`."""

# fmt: off
OPERATORS = {
    "add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|", "xor": "^",
    "shl": "<<", "lshr": ">>", "ashr": ">>", "udiv": "/", "urem": "%",
    "fadd": "+", "fsub": "-", "fmul": "*", "fdiv": "/",
}
COMPARISONS = {
    "icmp eq": "{a} == {b}", "icmp slt": "{a} < {b}", "icmp ult": "{a} < {b}", "icmp uge": "{a} >= {b}",
    "fcmp oeq": "{a} == {b}", "fcmp olt": "{a} < {b}", "fcmp oge": "{a} >= {b}", "fcmp ogt": "{a} > {b}",
    "fcmp one": "({a} < {b}) | ({a} > {b})", "fcmp uno": "({a} != {a}) | ({b} != {b})",
}
# fmt: on
_EXTREMES = {"smax": ">", "umax": ">", "smin": "<", "umin": "<"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one language of the family spells what the others spell differently."""

    types: Mapping[str, str]
    """By element type; the integers are the unsigned ones. Types that are missing are never asked for."""
    signed: Mapping[str, str]
    """The signed integers."""
    suffixes: Mapping[str, str]
    """What ends a constant of a type, such as `u` and `f`; narrow integers are cast instead."""
    functions: Mapping[str, str]
    """Names of fma fabs sqrt trunc, and of maximum minimum if there are such; `sqrt.double` goes before `sqrt`."""
    reinterpret: str = "as_{type}({x})"
    """Reads a value's bits as another type of its size."""
    atomics: Mapping[str, str] = field(default_factory=dict[str, str])
    """By kind and dtype, such as `add.i32`, what folds {value} into the element {at}; by `swap.i32` and so on, what
    stores {new} there if it is still the variable {expected}, else reads it into that, and tells whether it stored."""
    parallel: str = ""
    """What stands before a loop whose turns do not conflict."""
    native_half: bool = False
    emitters: Mapping[str, Emitter] = field(default_factory=dict[str, Emitter])

    def function(self, name: str, element: str) -> str | None:
        """Return what a function of one element type is called."""
        return self.functions.get(f"{name}.{element}") or self.functions.get(name)


class CCode(Code):
    """The text of one function in a dialect, indented."""

    def __init__(self, dialect: Dialect) -> None:
        super().__init__()
        self.dialect = dialect
        self._depth = 1
        self._renamed: set[str] = set()

    def declarations(self) -> list[str]:
        """Return lines that the function needs to stand before it."""
        return []

    # --- plain text -----------------------------------------------------------------------------------------------

    def fresh(self, hint: str) -> str:
        """Return a name that was not used before and is no keyword."""
        self._count += 1
        return f"{re.sub('[._]+', '_', hint).strip('_') or 'v'}_{self._count}"

    def do(self, line: str) -> None:
        """Write a line."""
        self.lines.append("    " * self._depth + line)

    def define(self, text: str, element: str, lanes: int = 1, hint: str = "v") -> Value:
        """Write an expression into a variable of its own."""
        name = self.fresh(hint)
        self.do(f"const {self.type(element, lanes)} {name} = {text};")
        return Value(name, element, lanes)

    def named(self, value: Value, hint: str) -> Value:
        """Rename a value that the last line defines, but once: a register may be another one under a second name."""
        head = f"const {self.type(value.element, value.lanes)} {value.text} = "
        line = self.lines[-1].lstrip() if self.lines else ""
        if value.text in self._renamed or not line.startswith(head):
            return value
        self.lines.pop()
        self._count -= value.text.endswith(f"_{self._count}")
        renamed = self.define(line.removeprefix(head).removesuffix(";"), value.element, value.lanes, hint)
        self._renamed.add(renamed.text)
        return renamed

    @contextmanager
    def block(self, head: str, tail: str = "}") -> Generator[None]:
        """Write lines inside of braces."""
        self.do(f"{head} {{")
        self._depth += 1
        yield
        self._depth -= 1
        self.do(tail)

    def type(self, element: str, lanes: int = 1) -> str:
        """Return how the dialect calls a type."""
        if element not in self.dialect.types or lanes > 1:
            raise CompileError(f"the dialect has no type for {lanes} x {element}; declare what it can hold")
        return self.dialect.types[element]

    def signed(self, x: Value) -> str:
        """Return an integer read as signed."""
        return f"({self.dialect.signed[x.element]}){x.text}"

    def element(self, array: str, index: Value) -> str:
        """Return an element of an array; an index within bounds is never negative."""
        return f"{array}[{index.text}]"

    # --- constants ------------------------------------------------------------------------------------------------

    def literal(self, element: str, number: Number) -> Value:
        """Return a constant."""
        if element in _FORMATS:
            number_format, bits_format = _FORMATS[element]
            return self.bits(element, struct.unpack(bits_format, struct.pack(number_format, number))[0])
        return self.bits(element, wrapped(element, number))

    def bits(self, element: str, bits: int) -> Value:
        """Return a constant by its bits: integers are short or in hexadecimal, floats exact."""
        if element in _FORMATS:
            return Value(self._float(element, bits), element)
        if element == "i1":
            return Value("true" if bits else "false", element)
        if bits_of(element) < _WIDE:
            return Value(f"({self.dialect.types[element]}){bits}", element)
        return Value(f"{bits if bits < _LAST_DECIMAL else hex(bits)}{self.dialect.suffixes[element]}", element)

    def _float(self, element: str, bits: int) -> str:
        number_format, bits_format = _FORMATS[element]
        number: float = struct.unpack(number_format, struct.pack(bits_format, bits))[0]
        if number - number != 0.0:  # infinities have no constant, and NaNs only one
            return self._reinterpreted(self.bits(integer_of(element), bits).text, element)
        short = number == int(number) and abs(number) < _LAST_DECIMAL
        text = f"{number:.1f}" if short else re.sub(r"\.?0*p", "p", number.hex())
        return f"{text}{self.dialect.suffixes.get(element, '')}"

    def _reinterpreted(self, text: str, element: str) -> str:
        return self.dialect.reinterpret.format(type=self.type(element), x=text)

    # --- instructions ---------------------------------------------------------------------------------------------

    def op(self, name: str, a: Value, b: Value | Number) -> Value:
        """Write a binary operation; narrow integers are widened, so that `int` does not overflow."""
        kind = name.split(maxsplit=1)[0]
        first, second = a.text, self.like(a, b).text
        if kind == "ashr":
            first = self.signed(a)
        elif a.element in ("i8", "i16"):
            first = f"({self.dialect.types['i32']}){first}"
        text = f"{first} {OPERATORS[kind]} {second}"
        cast = a.element[0] == "i" and (kind == "ashr" or 1 < bits_of(a.element) < _WIDE)
        return self.define(f"({self.type(a.element)})({text})" if cast else text, a.element, a.lanes)

    def compare(self, name: str, a: Value, b: Value | Number) -> Value:
        """Write a comparison; what is no number compares false but for `uno`."""
        other = self.like(a, b)
        texts = (self.signed(a), self.signed(other)) if name == "icmp slt" else (a.text, other.text)
        return self.define(COMPARISONS[name].format(a=texts[0], b=texts[1]), "i1", a.lanes)

    def select(self, condition: Value, x: Value, y: Value | Number) -> Value:
        """Write a choice; one between true and false is its condition."""
        if (x.text, y.text if isinstance(y, Value) else y) == ("true", "false"):
            return condition
        return self.define(f"{condition.text} ? {x.text} : {self.like(x, y).text}", x.element, x.lanes)

    def convert(self, name: str, x: Value, element: str) -> Value:
        """Write a conversion by a cast, over the signed type where the instruction has a sign."""
        if x.element == element:
            return x
        if name == "bitcast":
            return self.define(self._reinterpreted(x.text, element), element, x.lanes)
        if element == "i1":
            return self.define(f"({x.text} & {self.like(x, 1).text}) != {self.like(x, 0).text}", element, x.lanes)
        text = self.signed(x) if name in ("sext", "sitofp") else x.text
        if name in ("sext", "fptosi"):
            text = f"({self.dialect.signed[element]}){text}"
        return self.define(f"({self.type(element)}){text}", element, x.lanes)

    def reinterpret(self, x: Value, element: str, lanes: int) -> Value:
        """Read the bits as another type."""
        if lanes > 1 or x.lanes > 1:
            raise no_lanes(f"{x.lanes} lanes as {lanes}")
        return self.convert("bitcast", x, element)

    def call(self, name: str, a: Value, *others: Value | Number) -> Value:
        """Write a function of the dialect, or what stands for it."""
        values = [a, *(self.like(a, x) for x in others)]
        if name in _EXTREMES:
            first, second = (self.signed(x) if name[0] == "s" else x.text for x in values)
            text = f"{first} {_EXTREMES[name]} {second} ? {a.text} : {values[1].text}"
            return self.define(text, a.element, a.lanes)
        function = self.dialect.function(name, a.element)
        if function is not None:
            return self.define(f"{function}({', '.join(x.text for x in values)})", a.element, a.lanes)
        if name in ("maximum", "minimum"):
            return extreme(self, name, *values)
        raise CompileError(f"the dialect has no function {name} of {a.element}; declare what it has")

    def broadcast(self, x: Value, lanes: int) -> Value:
        """Leave a scalar as it is."""
        return x if lanes == 1 else self.pack([x] * lanes)

    # --- control flow ---------------------------------------------------------------------------------------------

    def when(self, gate: Value, then: Callable[[], Value | None], other: Value | None, hint: str = "v") -> Value | None:
        """Write an `if`; its result is a variable that begins as `other`."""
        result = None
        if other is not None:
            result = Value(self.fresh(hint), other.element, other.lanes)
            self.do(f"{self.type(result.element, result.lanes)} {result.text} = {other.text};")
        with self.block(f"if ({gate.text})"):
            value = then()
            if result is not None and value is not None:
                self.do(f"{result.text} = {value.text};")
        return result

    @contextmanager
    def loop(
        self,
        count: Value,
        firsts: Sequence[Value] = (),
        *,
        parallel: bool = False,
        hint: str = "i",
        names: Sequence[str] = (),
    ) -> Generator[Turn]:
        """Write a `for`; its carries are variables, assigned at the end of each turn."""
        carries = [Value(self.fresh(name), x.element, x.lanes) for name, x in self._hinted(names, firsts)]
        for carry, first in zip(carries, firsts, strict=True):
            self.do(f"{self.type(carry.element, carry.lanes)} {carry.text} = {first.text};")
        index = Value(self.fresh(hint), count.element)
        if parallel and self.dialect.parallel:
            self.do(self.dialect.parallel)
        head = f"{self.type(count.element)} {index.text} = {self.like(count, 0).text}"
        with self.block(f"for ({head}; {self.signed(index)} < {self.signed(count)}; ++{index.text})"):
            turn = Turn(index, carries)
            yield turn
            self._carry(turn)

    def _hinted(self, names: Sequence[str], firsts: Sequence[Value]) -> list[tuple[str, Value]]:
        return list(zip(names or ["v"] * len(firsts), firsts, strict=True))

    def _carry(self, turn: Turn) -> None:
        """Assign the carries all at once: a carry that another one takes over is kept aside first."""
        carried = {carry.text for carry in turn.carries}
        following = [
            self.define(x.text, x.element, x.lanes) if x.text in carried and x.text != carry.text else x
            for carry, x in zip(turn.carries, turn.following, strict=True)
        ]
        for carry, x in zip(turn.carries, following, strict=True):
            if x.text != carry.text:
                self.do(f"{carry.text} = {x.text};")
