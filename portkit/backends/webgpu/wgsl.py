"""WGSL: kernels as text in the shading language of WebGPU.

Every register is a `u32`, a float too: it holds the bits. So loads, stores, selects and carried values keep NaNs and
subnormals, which WGSL does not promise for its `f32`. Source: W3C, "WebGPU Shading Language", 15.7 and 17.

WGSL also lets compilers contract, reassociate and simplify float expressions as if there were no NaNs, infinities and
signed zeros, and drivers do: `(x + y) - x` becomes `y`, `x * 0.0` becomes `0.0`. The functions of the prelude take that
away: a float that an operation made or that the kernel has as a constant is `hidden`, which is to exclusive-or its bits
with a zero that only the launch knows. Comparisons need no more than that: drivers leave their truth alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from portkit.backends.toolkit.c_code import CCode, Dialect
from portkit.backends.toolkit.c_memory import CMemory
from portkit.backends.toolkit.code import Number, Turn, Value, extreme
from portkit.backends.toolkit.forms import Forms
from portkit.backends.toolkit.memory import ATOMIC_KINDS, Access
from portkit.errors import CompileError
from portkit.spec.kernel import Buffer, Kernel

_OPERATORS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "and": "&",
    "or": "|",
    "xor": "^",
    "shl": "<<",
    "lshr": ">>",
    "udiv": "/",
    "urem": "%",
}
_FLOAT_OPERATORS = {"fadd": "+", "fsub": "-", "fmul": "*", "fdiv": "/"}
_FLOAT_TESTS = {"oeq": "==", "olt": "<", "oge": ">=", "ogt": ">"}
_COMPARISONS = {
    "icmp eq": "{a} == {b}",
    "icmp slt": "slt({a}, {b})",
    "icmp ult": "{a} < {b}",
    **{f"fcmp {name}": f"f{name}({{a}}, {{b}})" for name in _FLOAT_TESTS},
}
_CONVERSIONS = {
    "zext": "select(0u, 1u, {x})",
    **{name: f"{name}({{x}})" for name in ("sitofp", "uitofp", "fptosi", "fptoui")},
}
"""Of numbers; `zext` is of a truth value only, as no integers are narrower than a register."""

PRELUDE: Mapping[str, str] = {
    "hidden": "fn hidden(x: u32) -> u32 { return x ^ launch[0].x; }",
    "slt": "fn slt(a: u32, b: u32) -> bool { return bitcast<i32>(a) < bitcast<i32>(b); }",
    "ashr": "fn ashr(a: u32, b: u32) -> u32 { return bitcast<u32>(bitcast<i32>(a) >> b); }",
    "smax": "fn smax(a: u32, b: u32) -> u32 { return bitcast<u32>(max(bitcast<i32>(a), bitcast<i32>(b))); }",
    "smin": "fn smin(a: u32, b: u32) -> u32 { return bitcast<u32>(min(bitcast<i32>(a), bitcast<i32>(b))); }",
    "umax": "fn umax(a: u32, b: u32) -> u32 { return max(a, b); }",
    "umin": "fn umin(a: u32, b: u32) -> u32 { return min(a, b); }",
    "sitofp": "fn sitofp(x: u32) -> u32 { return hidden(bitcast<u32>(f32(bitcast<i32>(x)))); }",
    "uitofp": "fn uitofp(x: u32) -> u32 { return hidden(bitcast<u32>(f32(x))); }",
    "fptosi": "fn fptosi(x: u32) -> u32 { return bitcast<u32>(i32(bitcast<f32>(x))); }",
    "fptoui": "fn fptoui(x: u32) -> u32 { return u32(bitcast<f32>(x)); }",
    "fsqrt": "fn fsqrt(x: u32) -> u32 { return hidden(bitcast<u32>(sqrt(bitcast<f32>(x)))); }",
    "ftrunc": "fn ftrunc(x: u32) -> u32 { return hidden(bitcast<u32>(trunc(bitcast<f32>(x)))); }",
    **{
        name: f"fn {name}(a: u32, b: u32) -> u32 "
        f"{{ return hidden(bitcast<u32>(bitcast<f32>(a) {sign} bitcast<f32>(b))); }}"
        for name, sign in _FLOAT_OPERATORS.items()
    },
    **{
        f"f{name}": f"fn f{name}(a: u32, b: u32) -> bool {{ return bitcast<f32>(a) {sign} bitcast<f32>(b); }}"
        for name, sign in _FLOAT_TESTS.items()
    },
}
"""The functions that a kernel may call, by name; `launch[0].x` is 0. Those that are not called are left out."""

_TIMES, _LINES = 16, 128
"""How often the body of a loop is written in one turn at most, and how many lines that may be."""
_MANY_TURNS, _LINES_OF_MANY = 4096, 2048
"""Of a loop that a lane is known to turn so often, with those around it: so many lines, and as few turns as that."""

_CALLS = {"sqrt": "fsqrt", "trunc": "ftrunc", **{name: name for name in ("smax", "smin", "umax", "umin")}}
_SIGNED = {"i32": "bitcast<i32>({value})", "u32": "{value}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wgsl(Dialect):
    """WGSL as a target of the toolkit's printers."""

    types: Mapping[str, str] = field(default_factory=lambda: {"i1": "bool", "i32": "u32", "float": "u32"})
    signed: Mapping[str, str] = field(default_factory=dict[str, str])
    suffixes: Mapping[str, str] = field(default_factory=lambda: {"i32": "u"})
    functions: Mapping[str, str] = field(default_factory=dict[str, str])
    atomics: Mapping[str, str] = field(
        default_factory=lambda: {
            f"{kind}.{dtype}": f"atomic{kind.capitalize()}(&{{at}}, {value});"
            for kind in ATOMIC_KINDS
            for dtype, value in _SIGNED.items()
        }
    )
    shifted: bool = False
    """Whether what is bound for a buffer may begin before it: the device wants it aligned to more than 64 bytes."""

    def code(self) -> WgslCode:
        """Begin the text of a function."""
        return WgslCode(self)

    def memory(self, code: CCode, forms: Forms, kernel: Kernel, bases: Mapping[str, Value]) -> CMemory:
        """Return the writer of a kernel's memory forms."""
        return _ShiftedMemory(code, forms, kernel, bases) if self.shifted else CMemory(code, forms, kernel, bases)


class _ShiftedMemory(CMemory):
    """Adds to an index into a buffer how many elements come before it in what is bound."""

    def at(self, access: Access, place: int = 0) -> str:
        """Return the element that an access means."""
        name, index = self.bases[access.instr.mems[place]].text, access.args[place].text
        is_buffer = isinstance(self.kernel.memories[access.instr.mems[place]], Buffer)
        return f"{name}[{shift_of(name)} + {index}]" if is_buffer else f"{name}[{index}]"


def shift_of(buffer: str) -> str:
    """Return the name of the number of elements that are bound before a buffer."""
    return f"{buffer}_at"


class WgslCode(CCode):
    """The text of one function: `let` for registers, `var` for what a loop carries or a gate chooses."""

    widest = 32

    def __init__(self, dialect: Wgsl) -> None:
        super().__init__(dialect)
        self._nameless = ""
        self._turns = 1
        self.counts_turns = False
        """Whether loops were written: after them `cut` tells whether all of them had all their turns."""

    def define(self, text: str, element: str, lanes: int = 1, hint: str = "v") -> Value:
        """Write an expression into a constant of its own. Raises `CompileError` for a type that WGSL has not."""
        self.type(element, lanes)
        self._nameless = self.fresh(hint)
        self.do(f"let {self._nameless} = {text};")
        return Value(self._nameless, element, lanes)

    def named(self, value: Value, hint: str) -> Value:
        """Rename a value that the last line defines, once: a value read as another type is no other constant."""
        head = f"let {value.text} = "
        line = self.lines[-1].lstrip() if self.lines else ""
        if value.text == self._nameless and line.startswith(head):
            self.lines.pop()
            value = self.define(line.removeprefix(head).removesuffix(";"), value.element, value.lanes, hint)
            self._nameless = ""
        return value

    def bits(self, element: str, bits: int) -> Value:
        """Return a constant by its bits; a float is hidden from the driver's algebra."""
        plain = super().bits("i32" if element == "float" else element, bits)
        return Value(f"hidden({plain.text})", element) if element == "float" else plain

    # --- instructions ---------------------------------------------------------------------------------------------

    def op(self, name: str, a: Value, b: Value | Number) -> Value:
        """Write a binary operation; one of constants only would be a constant, which must not overflow in WGSL."""
        kind, other = name.split(maxsplit=1)[0], self.like(a, b)
        if _is_literal(a) and _is_literal(other):
            a = self.define(a.text, a.element)
        if kind not in _OPERATORS:
            text = f"{kind}({a.text}, {other.text})"
        else:
            sign = "!=" if a.element == "i1" and kind == "xor" else _OPERATORS[kind]
            text = f"{a.text} {sign} {other.text}"
        return self.define(text, a.element)

    def compare(self, name: str, a: Value, b: Value | Number) -> Value:
        """Write a comparison."""
        other = self.like(a, b)
        if name == "icmp ult" and a.element == "i1":
            return self.define(f"!{a.text} & {other.text}", "i1")
        return self.define(_COMPARISONS[name].format(a=a.text, b=other.text), "i1")

    def select(self, condition: Value, x: Value, y: Value | Number) -> Value:
        """Write a choice."""
        return self.define(f"select({self.like(x, y).text}, {x.text}, {condition.text})", x.element)

    def convert(self, name: str, x: Value, element: str) -> Value:
        """Write a conversion; the bits of a float are what its register holds, hidden where integers made them."""
        if x.element != element == "float" and name == "bitcast":
            return self.define(f"hidden({x.text})", element)
        if name == "bitcast" or x.element == element:
            return Value(x.text, element)
        return self.define(_CONVERSIONS[name].format(x=x.text), element)

    def call(self, name: str, a: Value, *others: Value | Number) -> Value:
        """Write a function of the prelude."""
        values = [a, *(self.like(a, x) for x in others)]
        if name in ("maximum", "minimum"):
            return extreme(self, name, *values)
        if name not in _CALLS:
            raise CompileError(f"WGSL has no {name} that rounds once; declare what it has")
        return self.define(f"{_CALLS[name]}({', '.join(x.text for x in values)})", a.element)

    # --- control flow ---------------------------------------------------------------------------------------------

    def when(self, gate: Value, then: Callable[[], Value | None], other: Value | None, hint: str = "v") -> Value | None:
        """Write an `if`; its result is a variable that begins as `other`."""
        result = None if other is None else self._variable(other, hint)
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
        """Write a `for`; its carries are variables, assigned at the end of each turn.

        Drivers may end a loop early: llvmpipe of Mesa 22.3 does after 65,535 turns of all loops of a lane together.
        What then follows is wrong, and `cut` says so. Several turns in one put that off, and cost less.
        """
        carries = [self._variable(x, name) for name, x in self._hinted(names, firsts)]
        index = self._variable(self.like(count, 0), hint)
        known = _known(count)
        self._turns *= max(known, 1)
        start = len(self.lines)
        self._depth += 1
        with self.block("/* turn */"):
            turn = Turn(index, carries)
            yield turn
            self._carry(turn)
            self.do(f"{index.text}++;")
        self._depth -= 1
        body = self.lines[start:]
        del self.lines[start:]
        self._turn(index, count, known, body)
        self._turns //= max(known, 1)
        self.counts_turns = True
        self.do(f"cut |= select(0u, 1u, slt({index.text}, {count.text}));")

    def _turn(self, index: Value, count: Value, known: int, body: list[str]) -> None:
        """Write a body often in one turn, and for the turns that are left; `known` is a literal count above 0."""
        times = self._times(body)
        if times == 1 or not known:
            if times > 1:
                self.do(f"let {index.text}_whole = smax({count.text}, 0u) & {-times & 0xFFFFFFFF:#x}u;")
                self._repeat(f"{index.text}_whole", index, body * times)
            self._repeat(count.text, index, body)
        else:
            self._repeat(f"{known - known % times}u", index, body * times)
            self.lines += body * (known % times)

    def _times(self, body: list[str]) -> int:
        """Return how often a loop's body is written in one turn: a power of 2, 1 for one around others."""
        if any(words in line for line in body for words in ("for (", "Barrier(")):
            return 1
        many = self._turns > _MANY_TURNS
        times = min(max(_TIMES, self._turns // _MANY_TURNS), (_LINES_OF_MANY if many else _LINES) // len(body))
        return 1 << (max(times, 1).bit_length() - 1)

    def _repeat(self, count: str, index: Value, body: list[str]) -> None:
        self.do(f"for (; slt({index.text}, {count}); ) {{")
        self.lines += body
        self.do("}")

    def _variable(self, first: Value, hint: str) -> Value:
        name = self.fresh(hint)
        self.do(f"var {name} = {first.text};")
        return Value(name, first.element)


def _is_literal(x: Value) -> bool:
    return x.text[0].isdigit()


def _known(count: Value) -> int:
    """Return a literal count, 0 for one that is negative or none."""
    bits = int(count.text.removesuffix("u"), 0) if _is_literal(count) else 0
    return bits if bits < 1 << 31 else 0
