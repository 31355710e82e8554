"""LLVM IR as a language of `Code`. No instruction is written with fast-math flags."""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from portkit.backends.toolkit.code import Code, Number, Turn, Value, bits_of, vector, wrapped

_MANGLED = {"float": "f32", "double": "f64"}

PARALLEL = "!llvm.access.group !0"
"""Marks an access that no other lane conflicts with, which valid_c1 promises between two barriers."""


def mangle(element: str, lanes: int = 1) -> str:
    """Return how the name of an overloaded intrinsic spells an LLVM type."""
    space = element.removeprefix("ptr addrspace(").rstrip(")") if element.startswith("ptr ") else "0"
    name = f"p{space}" if element.startswith("ptr") else _MANGLED.get(element, element)
    return name if lanes == 1 else f"v{lanes}{name}"


def literal(element: str, number: Number) -> str:
    """Return a constant of an LLVM element type: floats rounded to it, integers taken modulo its width."""
    if element == "i1":
        return "true" if number else "false"
    if element == "float":
        number = struct.unpack("<f", struct.pack("<f", number))[0]
    if element in ("float", "double"):
        return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"
    width, low = bits_of(element), wrapped(element, number)
    return str(low - (1 << width) if low >> (width - 1) else low)


def _float_literal(element: str, bits: int) -> str:
    if element == "double":
        return f"0x{bits:016X}"
    number = struct.unpack("<f", struct.pack("<I", bits))[0]
    # A signalling NaN would be quietened on its way through a Python float.
    return f"bitcast (i32 {literal('i32', bits)} to float)" if number != number else literal("float", number)


def splat(scalar: Value, lanes: int) -> Value:
    """Return a constant scalar in each of `lanes` lanes."""
    return scalar if lanes == 1 else Value(f"splat ({scalar})", scalar.element, lanes)


class LlvmCode(Code):
    """The text of one function as it grows; `block` is the label of the block being written."""

    widest = 128

    def __init__(self) -> None:
        super().__init__()
        self.block = ".entry"
        self.metadata = ["!0 = distinct !{}", '!1 = !{!"llvm.loop.parallel_accesses", !0}']
        self._phis: dict[str, int] = {}

    # --- plain text -----------------------------------------------------------------------------------------------

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

    def literal(self, element: str, number: Number) -> Value:
        """Return a constant."""
        return Value(literal(element, number), element)

    def bits(self, element: str, bits: int) -> Value:
        """Return a constant by its bits."""
        return Value(literal(element, bits) if element[0] == "i" else _float_literal(element, bits), element)

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

    def call(self, name: str, a: Value, *others: Value | Number) -> Value:
        """Call an intrinsic whose operands and result have one type, mangled by it."""
        operands = ", ".join(str(self.like(a, x)) for x in (a, *others))
        return self.define(f"call {a.type} @llvm.{name}.{mangle(a.element, a.lanes)}({operands})", a.element, a.lanes)

    def broadcast(self, x: Value, lanes: int) -> Value:
        """Write a scalar into each of `lanes` lanes."""
        if lanes == 1:
            return x
        if not x.text.startswith("%"):
            return splat(x, lanes)
        first = self._insert(Value("poison", x.element, lanes), x, 0)
        return self.shuffle(first, first, [0] * lanes)

    def pack(self, scalars: Sequence[Value]) -> Value:
        result = Value("poison", scalars[0].element, len(scalars))
        for lane, scalar in enumerate(scalars):
            result = self._insert(result, scalar, lane)
        return result

    def _insert(self, into: Value, x: Value, lane: int) -> Value:
        return self.define(f"insertelement {into}, {x}, i32 {lane}", into.element, into.lanes)

    def extract(self, x: Value, lane: int) -> Value:
        return self.define(f"extractelement {x}, i32 {lane}", x.element)

    def shuffle(self, a: Value, b: Value, lanes: list[int]) -> Value:
        """Write the chosen lanes of the two operands side by side."""
        picked = ", ".join(f"i32 {lane}" for lane in lanes)
        return self.define(f"shufflevector {a}, {b}, <{len(lanes)} x i32> <{picked}>", a.element, len(lanes))

    # --- control flow ---------------------------------------------------------------------------------------------

    def when(self, gate: Value, then: Callable[[], Value | None], other: Value | None, hint: str = "v") -> Value | None:
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
        return self.define(text, value.element, value.lanes, hint)

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
        """Write a loop over 0..count-1; the carries keep their automatic names."""
        del names
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
