"""Vectors of lanes in OpenCL C: `float4` and its like, operators lane by lane, the lanes `.s0` to `.sf`.

A vector of `i1` is one of `int` whose lanes have all bits set where it is true, as comparisons give it.
"""

from __future__ import annotations

from collections.abc import Sequence

from portkit.backends.toolkit.c_code import COMPARISONS, OPERATORS, CCode
from portkit.backends.toolkit.c_memory import CMemory
from portkit.backends.toolkit.code import Number, Value, bits_of, integer_of, memory_element_of
from portkit.backends.toolkit.memory import Access

_MASK_BITS = 32
_EXTREMES = ("smax", "smin", "umax", "umin")
_SIGNED_SOURCE, _SIGNED_TARGET = ("sext", "sitofp"), ("sext", "fptosi")


class VectorCode(CCode):
    """C with the language's own vectors, and its own min and max of integers."""

    def type(self, element: str, lanes: int = 1) -> str:
        """Return the name of a type."""
        if lanes == 1:
            return super().type(element)
        return f"{'int' if element == 'i1' else super().type(element)}{lanes}"

    def signed(self, x: Value) -> str:
        """Return integers read as signed."""
        return super().signed(x) if x.lanes == 1 else f"as_{self._signed(x.element, x.lanes)}({x.text})"

    def _signed(self, element: str, lanes: int) -> str:
        return f"{self.dialect.signed[element]}{lanes}"

    # --- instructions ---------------------------------------------------------------------------------------------

    def op(self, name: str, a: Value, b: Value | Number) -> Value:
        """Write a binary operation; lanes do not widen to `int`."""
        if a.lanes == 1:
            return super().op(name, a, b)
        kind, other = name.split(maxsplit=1)[0], self.like(a, b)
        if kind == "ashr":
            text = f"as_{self.type(a.element, a.lanes)}({self.signed(a)} >> {self.signed(other)})"
        else:
            text = f"{a.text} {OPERATORS[kind]} {other.text}"
        return self.define(text, a.element, a.lanes)

    def compare(self, name: str, a: Value, b: Value | Number) -> Value:
        """Write a comparison, whose lanes are as wide as those of the operands, as a mask."""
        if a.lanes == 1:
            return super().compare(name, a, b)
        values = (a, self.like(a, b))
        if a.element == "i1":  # a true lane is -1
            texts = [f"as_uint{x.lanes}({x.text})" for x in values]
        else:
            texts = [self.signed(x) if name == "icmp slt" else x.text for x in values]
        return self._mask(COMPARISONS[name].format(a=texts[0], b=texts[1]), a)

    def _mask(self, text: str, compared: Value) -> Value:
        narrow = compared.element == "i1" or bits_of(integer_of(compared.element)) == _MASK_BITS
        return self.define(text if narrow else f"convert_int{compared.lanes}({text})", "i1", compared.lanes)

    def select(self, condition: Value, x: Value, y: Value | Number) -> Value:
        """Write a choice, whose mask has the width of what is chosen."""
        if x.lanes == 1:
            return super().select(condition, x, y)
        mask, integer = condition.text, integer_of(x.element)
        if integer not in ("i1", "i32"):
            mask = f"convert_{self._signed(integer, x.lanes)}({mask})"
        return self.define(f"select({self.like(x, y).text}, {x.text}, {mask})", x.element, x.lanes)

    def convert(self, name: str, x: Value, element: str) -> Value:
        """Write a conversion lane by lane."""
        if x.lanes == 1 or x.element == element:
            return super().convert(name, x, element)
        if element == "i1":
            return self._mask(f"({x.text} & {self.literal(x.element, 1).text}) != {self.literal(x.element, 0).text}", x)
        type_ = self.type(element, x.lanes)
        if name == "bitcast":
            text = f"as_{type_}({x.text})"
        elif x.element == "i1":
            text = f"convert_{type_}({x.text} & 1)"
        else:
            source = self.signed(x) if name in _SIGNED_SOURCE else x.text
            of_signed = f"as_{type_}(convert_{self._signed(element, x.lanes)}({source}))" if element[0] == "i" else ""
            text = of_signed if name in _SIGNED_TARGET else f"convert_{type_}({source})"
        return self.define(text, element, x.lanes)

    def reinterpret(self, x: Value, element: str, lanes: int) -> Value:
        """Read the bits as a type of the same total size."""
        if (element, lanes) == (x.element, x.lanes):
            return x
        return self.define(f"as_{self.type(element, lanes)}({x.text})", element, lanes)

    def call(self, name: str, a: Value, *others: Value | Number) -> Value:
        """Write a function; compilers take exponential time to find chains of min and max in comparisons."""
        if name not in _EXTREMES:
            return super().call(name, a, *others)
        operands = [a, *(self.like(a, x) for x in others)]
        texts = [self.signed(x) if name[0] == "s" else x.text for x in operands]
        text, type_ = f"{name[1:]}({', '.join(texts)})", self.type(a.element, a.lanes)
        return self.define(f"({type_}){text}" if a.lanes == 1 else f"as_{type_}({text})", a.element, a.lanes)

    # --- lanes ----------------------------------------------------------------------------------------------------

    def broadcast(self, x: Value, lanes: int) -> Value:
        """Write a scalar into each lane."""
        if lanes == 1:
            return x
        return self.define(f"({self.type(x.element, lanes)})({_item(x)})", x.element, lanes)

    def pack(self, scalars: Sequence[Value]) -> Value:
        """Write scalars into one vector."""
        element = scalars[0].element
        items = ", ".join(_item(x) for x in scalars)
        return self.define(f"({self.type(element, len(scalars))})({items})", element, len(scalars))

    def extract(self, x: Value, lane: int) -> Value:
        """Write a lane as a scalar."""
        return self.define(f"{lane_of(x, lane)}{' != 0' if x.element == 'i1' else ''}", x.element)

    def shuffle(self, a: Value, b: Value, lanes: list[int]) -> Value:
        """Write the chosen lanes of the two operands side by side."""
        items = [lane_of(a, lane) if lane < a.lanes else lane_of(b, lane - a.lanes) for lane in lanes]
        return self.define(f"({self.type(a.element, len(lanes))})({', '.join(items)})", a.element, len(lanes))


def lane_of(x: Value, lane: int) -> str:
    """Return one lane of a variable."""
    return f"{x.text}.s{lane:x}"


def _item(x: Value) -> str:
    return f"-(int){x.text}" if x.element == "i1" else x.text


class VectorMemory(CMemory):
    """Loads and stores of lanes: neighbours at once, others one after the other."""

    def load_vec(self, access: Access) -> Value:
        """Write a load of neighbouring elements."""
        lanes = _lanes(access)
        return self.code.define(f"vload{lanes}(0, &{self.at(access)})", memory_element_of(access.dtype), lanes)

    def store_vec(self, access: Access) -> None:
        """Write a store of neighbouring elements."""
        value = access.args[1]
        self.code.do(f"vstore{value.lanes}({value.text}, 0, &{self.at(access)});")

    def gather(self, access: Access) -> Value:
        """Write a load with an index for each lane."""
        lanes, element = _lanes(access), memory_element_of(access.dtype)
        items = ", ".join(self._lane_at(access, lane) for lane in range(lanes))
        return self.code.define(f"({self.code.type(element, lanes)})({items})", element, lanes)

    def scatter(self, access: Access) -> None:
        """Write a store with an index for each lane."""
        for lane in range(access.args[1].lanes):
            self.code.do(f"{self._lane_at(access, lane)} = {lane_of(access.args[1], lane)};")

    def masked(self, access: Access, gate: Value) -> Value | None:
        """Write an access for each lane whose gate is open."""
        if access.other is not None:
            return self._masked_load(access, gate, access.other)
        for lane in range(gate.lanes):
            target, value = self._lane_at(access, lane), lane_of(access.args[1], lane)
            self.code.do(f"if ({lane_of(gate, lane)}) {target} = {value};")
        return None

    def _masked_load(self, access: Access, gate: Value, other: Value) -> Value:
        result = Value(self.code.fresh(access.instr.result), other.element, other.lanes)
        self.code.do(f"{self.code.type(result.element, result.lanes)} {result.text} = {other.text};")
        for lane in range(gate.lanes):
            source = self._lane_at(access, lane)
            self.code.do(f"if ({lane_of(gate, lane)}) {lane_of(result, lane)} = {source};")
        return result

    def _lane_at(self, access: Access, lane: int) -> str:
        """Return the element of a lane: its own, or the one so many places after the first."""
        base, index = self.bases[access.instr.mems[0]].text, access.args[0]
        return f"{base}[{index.text} + {lane}]" if index.lanes == 1 else f"{base}[{lane_of(index, lane)}]"


def _lanes(access: Access) -> int:
    return access.instr.type.lanes if access.instr.type else 1
