"""Vectors of lanes in C as gcc and clang have them: `vector_size`, elements by subscript, conversions lane by lane.

A vector of `i1` is one of 32-bit integers, all bits set where it is true, whatever it was compared from.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from portkit.backends.c.indices import Indices
from portkit.backends.toolkit.c_code import COMPARISONS, OPERATORS, CCode, Dialect
from portkit.backends.toolkit.c_kernel import GNU_C
from portkit.backends.toolkit.c_memory import CMemory
from portkit.backends.toolkit.code import Number, Turn, Value, bits_of, extreme, integer_of, memory_element_of
from portkit.backends.toolkit.memory import Access
from portkit.errors import CompileError

_LOAD = "#define LOAD(T, at) __extension__({ T loaded; __builtin_memcpy(&loaded, at, sizeof loaded); loaded; })\n"
_MASK = "i32"
_EXTREMES = {"smax": "icmp slt", "smin": "icmp slt", "umax": "icmp ult", "umin": "icmp ult"}
_SHIFTS = ("shl", "lshr", "ashr")
_EIGHT_BYTES = ("i8", 8)
"""gcc 12 with AVX-512 takes zero for the counts of a shift of these, at -O1 and in a loop that carries the result."""
_SIGNED_SOURCE, _SIGNED_TARGET = ("sext", "sitofp"), ("sext", "fptosi")


def vector_name(scalar: str, lanes: int) -> str:
    """Return what a vector type is called, such as f32x8."""
    return f"{scalar}x{lanes}"


class VectorCode(CCode):
    """C with vectors, and with indices that show which elements are neighbours; the rest is that of `CCode`."""

    def __init__(self, dialect: Dialect) -> None:
        super().__init__(dialect)
        self.indices = Indices()
        self._vectors: dict[str, str] = {}
        self._functions: dict[str, str] = {}

    def declarations(self) -> list[str]:
        """Return a line for each vector type, and for each function of vectors, that was used."""
        return [*self._vectors.values(), *self._functions.values()]

    def type(self, element: str, lanes: int = 1) -> str:
        """Return the name of a type."""
        if lanes == 1:
            return super().type(element)
        element = _MASK if element == "i1" else element
        return self._named_vector(super().type(element), bits_of(element), lanes)

    def _named_vector(self, scalar: str, width: int, lanes: int) -> str:
        name = vector_name(scalar, lanes)
        self._vectors[name] = f"typedef {scalar} {name} __attribute__((vector_size({width // 8 * lanes})));"
        return name

    def _signed(self, element: str, lanes: int) -> str:
        return self._named_vector(self.dialect.signed[element], bits_of(element), lanes)

    def _list(self, element: str, items: Sequence[str]) -> str:
        return f"({self.type(element, len(items))}){{{', '.join(items)}}}"

    def _converted(self, text: str, type_: str) -> str:
        return f"__builtin_convertvector({text}, {type_})"

    # --- indices --------------------------------------------------------------------------------------------------

    def element(self, array: str, index: Value) -> str:
        """Return an element of an array, such that the compiler sees which are neighbours."""
        return f"{array}[{self.indices.text(index)}]"

    def named(self, value: Value, hint: str) -> Value:
        """Rename a value, also as a part of indices."""
        renamed = super().named(value, hint)
        self.indices.renames(value.text, renamed.text)
        return renamed

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
        """Write a `for`, and note how far its index goes."""
        with super().loop(count, firsts, parallel=parallel, hint=hint, names=names) as turn:
            self.indices.counts(turn.index, count)
            yield turn

    # --- instructions ---------------------------------------------------------------------------------------------

    def op(self, name: str, a: Value, b: Value | Number) -> Value:
        """Write a binary operation; lanes do not widen to `int`."""
        kind, type_ = name.split(maxsplit=1)[0], self.type(a.element, a.lanes)
        if a.lanes == 1:
            result = super().op(name, a, b)
            self.indices.computes(result, kind, a, self.like(a, b))
            return result
        if kind in _SHIFTS and (a.element, a.lanes) == _EIGHT_BYTES:
            wide = self.convert("sext" if kind == "ashr" else "zext", a, "i16")
            return self.convert("trunc", self.op(name, wide, self.convert("zext", self.like(a, b), "i16")), a.element)
        first, second = a.text, self._operand(a, b)
        if kind == "ashr":
            signed = self._signed(a.element, a.lanes)
            first, second = f"({signed}){first}", f"({signed}){self.like(a, b).text}"
        return self.define(f"({type_})({first} {OPERATORS[kind]} {second})", a.element, a.lanes)

    def _operand(self, a: Value, b: Value | Number) -> str:
        """Return an operand; the language repeats a scalar in each lane."""
        return b.text if isinstance(b, Value) else self.literal(a.element, b).text

    def compare(self, name: str, a: Value, b: Value | Number) -> Value:
        """Write a comparison, whose result has the width of the operands, as a mask."""
        if a.lanes == 1:
            return super().compare(name, a, b)
        texts = [a.text, self.like(a, b).text]
        if name == "icmp slt":
            texts = [f"({self._signed(a.element, a.lanes)}){text}" for text in texts]
        text = COMPARISONS[name].format(a=texts[0], b=texts[1])
        if bits_of(integer_of(a.element if a.element != "i1" else _MASK)) != bits_of(_MASK):
            text = self._converted(text, self._signed(_MASK, a.lanes))
        return self.define(f"({self.type('i1', a.lanes)})({text})", "i1", a.lanes)

    def select(self, condition: Value, x: Value, y: Value | Number) -> Value:
        """Write a choice by masking the bits of both."""
        if x.lanes == 1:
            return super().select(condition, x, y)
        element = _MASK if x.element == "i1" else integer_of(x.element)
        bits, mask = self.type(element, x.lanes), condition.text
        if element != _MASK:
            signed = f"({self._signed(_MASK, x.lanes)}){mask}"
            mask = self.define(
                f"({bits}){self._converted(signed, self._signed(element, x.lanes))}", element, x.lanes
            ).text
        text = f"(({bits}){x.text} & {mask}) | (({bits}){self.like(x, y).text} & ~{mask})"
        return self.define(f"({self.type(x.element, x.lanes)})({text})", x.element, x.lanes)

    def convert(self, name: str, x: Value, element: str) -> Value:
        """Write a conversion lane by lane."""
        if x.lanes == 1 or x.element == element:
            return super().convert(name, x, element)
        type_ = self.type(element, x.lanes)
        if name == "bitcast":
            text = x.text
        elif x.element == "i1":
            text = self._converted(f"({x.text} & 1u)", type_)
        elif element == "i1":
            text = f"{self._converted(f'({x.text} & {self.literal(x.element, 1).text})', type_)} != 0"
        else:
            source = f"({self._signed(x.element, x.lanes)}){x.text}" if name in _SIGNED_SOURCE else x.text
            target = self._signed(element, x.lanes) if name in _SIGNED_TARGET else type_
            text = self._converted(source, target)
        return self.define(f"({type_})({text})", element, x.lanes)

    def reinterpret(self, x: Value, element: str, lanes: int) -> Value:
        """Read the bits as a type of the same total size."""
        if (element, lanes) == (x.element, x.lanes):
            return x
        text = self.dialect.reinterpret.format(type=self.type(element, lanes), x=x.text)
        return self.define(text, element, lanes)

    def call(self, name: str, a: Value, *others: Value | Number) -> Value:
        """Write a function lane by lane, which the compiler makes one instruction where there is one."""
        if a.lanes == 1:
            return super().call(name, a, *others)
        values = [a, *(self.like(a, x) for x in others)]
        if name in _EXTREMES:
            less = self.compare(_EXTREMES[name], *values)
            return self.select(less, *(reversed(values) if name.endswith("max") else values))
        if name in ("maximum", "minimum"):
            return extreme(self, name, *values)
        function = self.dialect.function(name, a.element)
        if function is None:
            raise CompileError(f"the dialect has no function {name} of {a.element}; declare what it has")
        type_, places = self.type(a.element, a.lanes), "abc"[: len(values)]
        calls = [f"{function}({', '.join(f'{x}[{lane}]' for x in places)})" for lane in range(a.lanes)]
        self._function(f"{name}_{type_}", type_, [f"{type_} {x}" for x in places], self._list(a.element, calls))
        return self.define(f"{name}_{type_}({', '.join(x.text for x in values)})", a.element, a.lanes)

    def _function(self, name: str, type_: str, parameters: Sequence[str], result: str) -> None:
        head = f"static inline __attribute__((always_inline)) {type_} {name}({', '.join(parameters)})"
        self._functions[name] = f"{head} {{ return {result}; }}"

    # --- lanes ----------------------------------------------------------------------------------------------------

    def broadcast(self, x: Value, lanes: int) -> Value:
        """Write a scalar into each lane."""
        if lanes == 1:
            return x
        if x.element == "i1":
            return self.pack([x] * lanes)
        type_ = self.type(x.element, lanes)
        self._function(f"splat_{type_}", type_, [f"{self.type(x.element)} x"], self._list(x.element, ["x"] * lanes))
        return self.define(f"splat_{type_}({x.text})", x.element, lanes)

    def pack(self, scalars: Sequence[Value]) -> Value:
        """Write scalars into one vector."""
        element = scalars[0].element
        items = [f"0u - {x.text}" if element == "i1" else x.text for x in scalars]
        return self.define(self._list(element, items), element, len(scalars))

    def extract(self, x: Value, lane: int) -> Value:
        """Write a lane as a scalar."""
        return self.define(f"{x.text}[{lane}]{' != 0' if x.element == 'i1' else ''}", x.element)

    def shuffle(self, a: Value, b: Value, lanes: list[int]) -> Value:
        """Write the chosen lanes of the two operands side by side."""
        items = [f"{a.text}[{lane}]" if lane < a.lanes else f"{b.text}[{lane - a.lanes}]" for lane in lanes]
        return self.define(self._list(a.element, items), a.element, len(lanes))


class VectorMemory(CMemory):
    """Loads and stores of lanes: neighbours at once, others one after the other."""

    def load_vec(self, access: Access) -> Value:
        """Write a load of neighbouring elements."""
        lanes = access.instr.type.lanes if access.instr.type else 1
        return self.load_at(self.at(access), memory_element_of(access.dtype), lanes, access.instr.result)

    def store_vec(self, access: Access) -> None:
        """Write a store of neighbouring elements."""
        self.store_at(self.at(access), access.args[1])

    def load_at(self, at: str, element: str, lanes: int, hint: str) -> Value:
        """Write a load of neighbours from an element on; C knows no other alignment than that of its types."""
        if lanes == 1:
            return super().load_at(at, element, lanes, hint)
        return self.code.define(f"LOAD({self.code.type(element, lanes)}, &{at})", element, lanes, hint)

    def store_at(self, at: str, value: Value) -> None:
        """Write a store of neighbours from an element on."""
        if value.lanes == 1:
            super().store_at(at, value)
            return
        self.code.do(f"__builtin_memcpy(&{at}, &{value.text}, sizeof {value.text});")

    def gather(self, access: Access) -> Value:
        """Write a load with an index for each lane."""
        return self._load_lanes(access, None)

    def scatter(self, access: Access) -> None:
        """Write a store with an index for each lane."""
        self._store_lanes(access, None)

    def masked(self, access: Access, gate: Value) -> Value | None:
        """Write an access for each lane whose gate is open."""
        if access.instr.form.effect == "read":
            return self._load_lanes(access, gate)
        return self._store_lanes(access, gate)

    def _load_lanes(self, access: Access, gate: Value | None) -> Value:
        lanes = access.instr.type.lanes if access.instr.type else 1
        result = Value(self.code.fresh(access.instr.result), memory_element_of(access.dtype), lanes)
        first = f" = {access.other.text}" if access.other else ""
        self.code.do(f"{self.code.type(result.element, lanes)} {result.text}{first};")
        with self._each_lane(lanes, gate) as lane:
            self.code.do(f"{result.text}[{lane}] = {self._lane_at(access, lane)};")
        return result

    def _store_lanes(self, access: Access, gate: Value | None) -> None:
        value = access.args[1]
        with self._each_lane(value.lanes, gate) as lane:
            self.code.do(f"{self._lane_at(access, lane)} = {value.text}[{lane}];")

    def _lane_at(self, access: Access, lane: str) -> str:
        """Return the element of a lane: its own, or the one so many places after the first."""
        base, index = self.bases[access.instr.mems[0]].text, access.args[0].text
        return f"{base}[{index} + {lane}]" if access.args[0].lanes == 1 else f"{base}[{index}[{lane}]]"

    @contextmanager
    def _each_lane(self, lanes: int, gate: Value | None) -> Generator[str]:
        lane = self.code.fresh("lane")
        condition = f" if ({gate.text}[{lane}])" if gate else ""
        with self.code.block(f"for (u32 {lane} = 0; {lane} < {lanes}; ++{lane}){condition}"):
            yield lane


DIALECT = replace(GNU_C, prologue=GNU_C.prologue + _LOAD, writer=VectorCode, accesses=VectorMemory)
"""C of gcc and clang, with vectors."""
