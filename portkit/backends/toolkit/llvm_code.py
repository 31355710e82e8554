"""Writing LLVM IR text: typed values, and a writer whose methods are the instructions.

A `Value` is the text of an operand with its LLVM type. Plain Python numbers stand for constants of the other operand's
type, so that an expansion reads like the formula it computes. No instruction is written with fast-math flags.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from portkit.spec.types import DType, Kind, Type

_MANGLED = {"float": "f32", "double": "f64"}
_FLOAT_OF_BITS = {32: "float", 64: "double"}

Number = int | float


PARALLEL = "!llvm.access.group !0"
"""Marks an access that no other lane conflicts with, which valid_c1 promises between two barriers."""


class Value(NamedTuple):
    """An operand: its text, LLVM element type and lane count."""

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


def mangle(element: str, lanes: int = 1) -> str:
    """Return how the name of an overloaded intrinsic spells an LLVM type."""
    space = element.removeprefix("ptr addrspace(").rstrip(")") if element.startswith("ptr ") else "0"
    name = f"p{space}" if element.startswith("ptr") else _MANGLED.get(element, element)
    return name if lanes == 1 else f"v{lanes}{name}"


def element_of(dtype: DType) -> str:
    """Return the LLVM type that holds a dtype in a register.

    f16 and bf16 are held as their bits: loads, stores and selects then keep every bit on any target, and arithmetic
    goes through f32 in any case.
    """
    if dtype.kind is Kind.BOOL:
        return "i1"
    return _FLOAT_OF_BITS.get(dtype.bits, f"i{dtype.bits}") if dtype.is_float else f"i{dtype.bits}"


def memory_element_of(dtype: DType) -> str:
    """Return the LLVM type that holds a dtype in memory: a bool takes a byte."""
    return "i8" if dtype.kind is Kind.BOOL else element_of(dtype)


def bits_of(element: str) -> int:
    """Return the width of an LLVM integer type or of float and double."""
    return {"float": 32, "double": 64}.get(element) or int(element[1:])


def literal(element: str, number: Number) -> str:
    """Return a constant of an LLVM element type: floats rounded to it, integers taken modulo its width."""
    if element == "i1":
        return "true" if number else "false"
    if element == "float":
        number = struct.unpack("<f", struct.pack("<f", number))[0]
    if element in ("float", "double"):
        return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"
    width = bits_of(element)
    wrapped = int(number) & ((1 << width) - 1)
    return str(wrapped - (1 << width) if wrapped >> (width - 1) else wrapped)


def constant(type_: Type, bits: int) -> Value:
    """Return the constant of a portkit type with the given bit pattern in every lane; a NaN keeps its payload."""
    element = element_of(type_.dtype)
    text = literal(element, bits) if element[0] == "i" else _float_literal(element, bits)
    return splat(Value(text, element), type_.lanes)


def _float_literal(element: str, bits: int) -> str:
    if element == "double":
        return f"0x{bits:016X}"
    number = struct.unpack("<f", struct.pack("<I", bits))[0]
    # A signalling NaN would be quietened on its way through a Python float.
    return f"bitcast (i32 {literal('i32', bits)} to float)" if number != number else literal("float", number)


def splat(scalar: Value, lanes: int) -> Value:
    """Return a constant scalar in each of `lanes` lanes."""
    return scalar if lanes == 1 else Value(f"splat ({scalar})", scalar.element, lanes)


@dataclass(slots=True)
class Turn:
    """One turn of a loop: its index, its carries, and the values that the body gives them."""

    index: Value
    carries: list[Value]
    following: list[Value] = field(default_factory=list[Value])


class Code:
    """The text of one function as it grows; `block` is the label of the block being written."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.block = ".entry"
        self._count = 0
        self.metadata = ["!0 = distinct !{}", '!1 = !{!"llvm.loop.parallel_accesses", !0}']
        self._phis: dict[str, int] = {}

    # --- plain text -----------------------------------------------------------------------------------------------

    def fresh(self, hint: str) -> str:
        """Return a name that was not used before."""
        self._count += 1
        return f"{hint}.{self._count}"

    def do(self, text: str) -> None:
        """Write an instruction without a result."""
        self.lines.append(f"  {text}")

    def define(self, text: str, element: str, lanes: int = 1, hint: str = "v") -> Value:
        """Write an instruction with a result of the given type."""
        name = self.fresh(f"%{hint}")
        self.lines.append(f"  {name} = {text}")
        return Value(name, element, lanes)

    def start(self, label: str) -> None:
        """Begin the block called `label`."""
        self.lines.append(f"{label}:")
        self.block = label

    def jump(self, label: str) -> None:
        self.do(f"br label %{label}")

    def branch(self, condition: Value, yes: str, no: str) -> None:
        self.do(f"br {condition}, label %{yes}, label %{no}")

    def phi(self, first: Value, before: str, hint: str = "v") -> Value:
        """Begin a value that is `first` when coming from the block `before`; `feed` gives it its other values."""
        text = f"phi {first.type} [ {first.text}, %{before} ]"
        value = self.define(text, first.element, first.lanes, hint)
        self._phis[value.text] = len(self.lines) - 1
        return value

    def feed(self, phi: Value, value: Value) -> None:
        """Let a phi be `value` when coming from the block being written."""
        self.lines[self._phis[phi.text]] += f", [ {value.text}, %{self.block} ]"

    # --- instructions ---------------------------------------------------------------------------------------------

    def like(self, pattern: Value, x: Value | Number) -> Value:
        """Return `x`, or the constant `x` of the type of `pattern`."""
        if isinstance(x, Value):
            return x
        return splat(Value(literal(pattern.element, x), pattern.element), pattern.lanes)

    def op(self, name: str, a: Value, b: Value | Number) -> Value:
        """Write a binary operation on two operands of one type."""
        return self.define(f"{name} {a}, {self.like(a, b).text}", a.element, a.lanes)

    def compare(self, name: str, a: Value, b: Value | Number) -> Value:
        """Write `icmp` or `fcmp` with its condition."""
        return self.define(f"{name} {a}, {self.like(a, b).text}", "i1", a.lanes)

    def select(self, condition: Value, x: Value, y: Value | Number) -> Value:
        return self.define(f"select {condition}, {x}, {self.like(x, y)}", x.element, x.lanes)

    def convert(self, name: str, x: Value, element: str) -> Value:
        """Write a conversion lane by lane; to the type it has already, none."""
        if x.element == element:
            return x
        return self.define(f"{name} {x} to {vector(element, x.lanes)}", element, x.lanes)

    def reinterpret(self, x: Value, element: str, lanes: int) -> Value:
        """Write a bitcast to a type of the same total size."""
        type_ = vector(element, lanes)
        return x if x.type == type_ else self.define(f"bitcast {x} to {type_}", element, lanes)

    def call(self, intrinsic: str, a: Value, *others: Value | Number) -> Value:
        """Call an intrinsic whose operands and result have one type, mangled by it."""
        operands = ", ".join(str(self.like(a, x)) for x in (a, *others))
        return self.define(f"call {a.type} @{intrinsic}.{mangle(a.element, a.lanes)}({operands})", a.element, a.lanes)

    def broadcast(self, x: Value, lanes: int) -> Value:
        """Write a scalar into each of `lanes` lanes."""
        if lanes == 1:
            return x
        if not x.text.startswith("%"):
            return splat(x, lanes)
        first = self.insert(Value("poison", x.element, lanes), x, 0)
        return self.shuffle(first, first, [0] * lanes)

    def insert(self, into: Value, x: Value, lane: int) -> Value:
        return self.define(f"insertelement {into}, {x}, i32 {lane}", into.element, into.lanes)

    def extract(self, x: Value, lane: int) -> Value:
        return self.define(f"extractelement {x}, i32 {lane}", x.element)

    def shuffle(self, a: Value, b: Value, lanes: list[int]) -> Value:
        """Write the chosen lanes of the two operands side by side."""
        picked = ", ".join(f"i32 {lane}" for lane in lanes)
        return self.define(f"shufflevector {a}, {b}, <{len(lanes)} x i32> <{picked}>", a.element, len(lanes))

    # --- control flow ---------------------------------------------------------------------------------------------

    def when(self, gate: Value, then: Callable[[], Value | None], other: Value | None) -> Value | None:
        """Run `then` where the scalar `gate` is true; the result is its value, else `other`."""
        yes, join, before = self.fresh("then"), self.fresh("join"), self.block
        self.branch(gate, yes, join)
        self.start(yes)
        value = then()
        end = self.block
        self.jump(join)
        self.start(join)
        if value is None or other is None:
            return None
        text = f"phi {value.type} [ {value.text}, %{end} ], [ {other.text}, %{before} ]"
        return self.define(text, value.element, value.lanes)

    @contextmanager
    def loop(
        self, count: Value, firsts: Sequence[Value] = (), *, parallel: bool = False, hint: str = "i"
    ) -> Generator[Turn]:
        """Write a loop over 0..count-1 (a signed count of zero or less runs it not at all).

        `firsts` are the first values of its carries; the body sets their `following` ones. After the loop the carries
        read as last given. Turns of a *parallel* loop do not conflict, so that LLVM may run several at once.
        """
        head, body, end, before = self.fresh("head"), self.fresh("body"), self.fresh("end"), self.block
        self.jump(head)
        self.start(head)
        index = self.phi(self.like(count, 0), before, hint)
        turn = Turn(index, [self.phi(first, before) for first in firsts])
        self.branch(self.compare("icmp slt", index, count), body, end)
        self.start(body)
        yield turn
        self.feed(index, self.op("add nuw nsw", index, 1))
        for carry, value in zip(turn.carries, turn.following, strict=True):
            self.feed(carry, value)
        self.do(f"br label %{head}" + (f", !llvm.loop {self._parallel_loop()}" if parallel else ""))
        self.start(end)

    def _parallel_loop(self) -> str:
        name = f"!{len(self.metadata)}"
        self.metadata.append(f"{name} = distinct !{{{name}, !1}}")
        return name
