"""The text form of kernels, for people (Spec: text_c1); it round-trips exactly.

Parser and printer walk the signature of each form operand by operand, so that neither knows any form. The text may
come from anyone: sizes are capped, nothing recurses, and every failure is a `ParseError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NoReturn, ParamSpec, TypeVar, get_args

from portkit.errors import ParseError, SpecError
from portkit.spec.assemble import MAX_BYTES, MAX_EXTENT, Assembler
from portkit.spec.forms import VERSION, Operand, Role, form
from portkit.spec.kernel import Access, Instr, Kernel, Numeric
from portkit.spec.literals import MAX_LITERAL, format_literal, parse_integer, parse_literal
from portkit.spec.names import check_name, near, show
from portkit.spec.types import I32, Type, parse_type

P = ParamSpec("P")
T = TypeVar("T")

_TOKEN = re.compile(r"#.*|[=\[\]*]|[^ \t\r=\[\]*#]+")
_MAX_LINES = 400_000
_MAX_LINE = 1 << 20
_COUNT = re.compile(r"[-+]?[0-9].*")


def parse(text: str) -> Kernel:
    """Return the kernel that `text` spells; its result types are derived, its rules are left to `verify`.

    Raises `ParseError` with line, column and the clause that is broken.
    """
    if len(text) > MAX_BYTES or text.count("\n") > _MAX_LINES:
        message = f"a text has at most {MAX_BYTES} characters and {_MAX_LINES} lines"
        raise ParseError(message, clause="limit_c2")
    return _Parser(text).parse()


@dataclass(slots=True)
class _Line:
    """One line with anything on it: its tokens and the place of the next one to read."""

    number: int
    source: str
    tokens: list[str]
    at: int = 0

    def fail(self, message: str, clause: str, at: int) -> NoReturn:
        places = [match.start() + 1 for match in islice(_TOKEN.finditer(self.source), at + 1)]
        column = places[at] if at < len(places) else len(self.source.rstrip()) + 1
        raise ParseError(message, line=self.number, column=column, source=self.source, clause=clause)

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, what: str, clause: str = "text_c1") -> str:
        """Return the next token and step over it; `what` says what it should be if the line ends."""
        if self.at >= len(self.tokens):
            self.fail(f"the line ends where {what} should stand", clause, self.at)
        token = self.tokens[self.at]
        if len(token) > MAX_LITERAL:
            self.fail(f"a token has at most {MAX_LITERAL} characters", "limit_c2", self.at)
        self.at += 1
        return token

    def expect(self, word: str, clause: str = "text_c1") -> None:
        if self.take(f"`{word}`", clause) != word:
            self.fail(f"expected `{word}`, found {show(self.tokens[self.at - 1])}", clause, self.at - 1)

    def accept(self, word: str) -> bool:
        found = self.peek() == word
        self.at += found
        return found

    def end(self) -> None:
        if self.at < len(self.tokens):
            self.fail(f"{show(self.tokens[self.at])} is more than belongs on this line", "form_c1", self.at)


@dataclass(slots=True)
class _Draft:
    """The parts of an instruction read so far."""

    args: list[str] = field(default_factory=list[str])
    mems: list[str] = field(default_factory=list[str])
    imms: list[int] = field(default_factory=list[int])
    type: Type | None = None
    gate: str = ""
    other: str = ""
    carries: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


def _lines(text: str) -> Iterator[_Line]:
    start, number = 0, 0
    while start <= len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        number += 1
        if end - start > _MAX_LINE:
            raise ParseError(f"a line has at most {_MAX_LINE} characters", line=number, column=1, clause="limit_c2")
        source = text[start:end]
        tokens: list[str] = _TOKEN.findall(source)
        if tokens and tokens[-1].startswith("#"):
            tokens.pop()
        if tokens:
            yield _Line(number, source, tokens)
        start = end + 1


class _Parser:
    """Reads a header, then instructions; `kernel` collects them."""

    def __init__(self, text: str) -> None:
        self.lines = _lines(text)
        self.line = _Line(1, "", [])
        self.kernel = Assembler()

    def parse(self) -> Kernel:
        self._header()
        for line in self.lines:
            self.line = line
            self._instruction()
        return self.kernel.kernel()

    # --- header ---------------------------------------------------------------------------------------------------

    def _header(self) -> None:
        self._next("portkit VERSION")
        self.line.expect("portkit", "header_c1")
        version = self.line.take("a version", "header_c1")
        if version != VERSION:
            self._fail(f"version {show(version)} is not known, this reader knows {VERSION}", "header_c1")
        self.line.end()
        self._next("kernel NAME")
        self.line.expect("kernel")
        self.kernel.name = self._last(check_name, self.line.take("the name of the kernel"))
        self.line.end()
        while self._declaration():
            pass

    def _next(self, what: str) -> None:
        line = next(self.lines, None)
        if line is None:
            number, source = self.line.number, self.line.source
            message = f"the text ends where `{what}` should stand"
            raise ParseError(message, line=number, column=len(source) + 1, source=source, clause="text_c1")
        self.line = line

    def _declaration(self) -> bool:
        """Read one line of the header; return whether more may follow."""
        self._next("begin")
        word = self.line.take("a declaration")
        reader = _DECLARATIONS.get(word)
        if reader is not None:
            reader(self)
        elif word != "begin":
            known = (*_DECLARATIONS, "begin")
            self._fail(f"expected {', '.join(known)}, found {show(word)}{near(word, known)}", "text_c1")
        self.line.end()
        return word != "begin"

    def _buffer(self) -> None:
        name, dtype, extent = self.line.take("a name"), self.line.take("a dtype"), self._extent()
        access = self._choice("read, write or readwrite", get_args(Access), "text_c1")
        self._at(1, self.kernel.buffer, name, dtype, extent, access)

    def _scalar(self) -> None:
        name, dtype = self.line.take("a name"), self.line.take("i32 or f32")
        self._at(1, self.kernel.scalar, name, dtype)

    def _shared(self) -> None:
        name, dtype, extent = self.line.take("a name"), self.line.take("a dtype"), self._extent()
        if len(extent) != 1 or isinstance(extent[0], str):
            self.line.fail("the extent of a shared array is one literal", "header_c3", 4)
        self._at(1, self.kernel.shared, name, dtype, extent[0])

    def _numeric(self) -> None:
        numerics: tuple[Numeric, ...] = get_args(Numeric)
        word = self._choice("strict or fast", numerics, "text_c1")
        self.kernel.numeric = "strict" if word == "strict" else "fast"

    def _choice(self, what: str, known: tuple[T, ...], clause: str) -> T:
        word = self.line.take(what, clause)
        found = [choice for choice in known if choice == word]
        if not found:
            self._fail(f"expected {what}, found {show(word)}{near(word, map(str, known))}", clause)
        return found[0]

    def _extent(self) -> list[int | str]:
        self.line.expect("[", "header_c3")
        factors = [self._factor()]
        while self.line.accept("*"):
            factors.append(self._factor())
        self.line.expect("]", "header_c3")
        return factors

    def _factor(self) -> int | str:
        token = self.line.take("a literal or a scalar", "header_c3")
        if not token[0].isdigit():
            return self._last(check_name, token)
        value = self._last(parse_integer, token)
        if not 1 <= value <= MAX_EXTENT:
            self._fail(f"a literal extent is 1 to {MAX_EXTENT}", "header_c3")
        return value

    # --- instructions ---------------------------------------------------------------------------------------------

    def _instruction(self) -> None:
        result = self.line.tokens[0] if self.line.tokens[1:2] == ["="] else ""
        self.line.at = 2 if result else 0
        place = self.line.at
        found = self._last(form, self.line.take("a form"))
        draft = _Draft()
        for operand in found.operands:
            _READERS[operand.role](self, operand, draft)
        self.line.end()
        instr = Instr(
            found.name,
            result,
            None,
            tuple(draft.args),
            tuple(draft.mems),
            tuple(draft.imms),
            draft.gate,
            draft.other,
            tuple(draft.carries),
        )
        self._at(place, self.kernel.append, instr, draft.type)

    def _register(self, what: str) -> str:
        return self._last(self.kernel.register, self.line.take(what, "form_c1"))

    def _read_register(self, operand: Operand, draft: _Draft) -> None:
        draft.args.append(self._register(f"operand {operand.name}"))

    def _read_registers(self, operand: Operand, draft: _Draft) -> None:
        self._read_register(operand, draft)
        while self.line.peek():
            self._read_register(operand, draft)

    def _read_type(self, operand: Operand, draft: _Draft) -> None:
        draft.type = self._last(parse_type, self.line.take("the result type", "form_c1"))

    def _read_value(self, operand: Operand, draft: _Draft) -> None:
        assert draft.type is not None, "a signature writes the type before the value"
        if draft.type.lanes > 1:
            self._fail("a constant is scalar; use mov.splat or mov.pack for a vector", "const_c2")
        draft.imms.append(self._last(parse_literal, draft.type.dtype, self.line.take("a literal", "form_c1")))

    def _read_count(self, operand: Operand, draft: _Draft) -> None:
        if _COUNT.fullmatch(self.line.peek()):
            self._read_integer(operand, draft)
        else:
            draft.args.append(self._register("a count, literal or register,"))

    def _read_integer(self, operand: Operand, draft: _Draft) -> None:
        value = self._last(parse_integer, self.line.take(f"the literal {operand.name}", "form_c1"))
        if not I32.min_int <= value <= I32.max_int:
            self._fail(f"{operand.name} does not fit i32", "const_c1")
        draft.imms.append(value)

    def _read_memory(self, operand: Operand, draft: _Draft) -> None:
        draft.mems.append(self._last(self.kernel.memory, self.line.take("a buffer or shared array", "form_c1")))

    def _read_word(self, operand: Operand, draft: _Draft) -> None:
        self.line.expect(operand.name, "form_c1")

    def _read_gate(self, operand: Operand, draft: _Draft) -> None:
        if self.line.accept("if"):
            draft.gate = self._register("a gate")

    def _read_gate_else(self, operand: Operand, draft: _Draft) -> None:
        if self.line.accept("if"):
            draft.gate = self._register("a gate")
            self.line.expect("else", "form_c1")
            draft.other = self._register("the value without a load")

    def _read_carries(self, operand: Operand, draft: _Draft) -> None:
        while self.line.peek():
            carry = self._register("a carry")
            self.line.expect("=", "form_c1")
            draft.carries.append((carry, self._register("the next value")))

    # --- errors ---------------------------------------------------------------------------------------------------

    def _fail(self, message: str, clause: str) -> NoReturn:
        """Raise at the token that was read last."""
        self.line.fail(message, clause, self.line.at - 1)

    def _last(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call with its failures placed at the token that was read last."""
        try:
            return call(*args, **kwargs)
        except SpecError as error:
            self.line.fail(error.message, error.clause, self.line.at - 1)

    def _at(self, place: int, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call with its failures placed at the given token of the line."""
        try:
            return call(*args, **kwargs)
        except SpecError as error:
            self.line.fail(error.message, error.clause, place)


_DECLARATIONS: dict[str, Callable[[_Parser], None]] = {
    "buffer": _Parser._buffer,
    "scalar": _Parser._scalar,
    "shared": _Parser._shared,
    "numeric": _Parser._numeric,
}

_READERS: dict[Role, Callable[[_Parser, Operand, _Draft], None]] = {
    Role.REGISTER: _Parser._read_register,
    Role.REGISTERS: _Parser._read_registers,
    Role.TYPE: _Parser._read_type,
    Role.VALUE: _Parser._read_value,
    Role.COUNT: _Parser._read_count,
    Role.INTEGER: _Parser._read_integer,
    Role.MEMORY: _Parser._read_memory,
    Role.WORD: _Parser._read_word,
    Role.GATE: _Parser._read_gate,
    Role.GATE_ELSE: _Parser._read_gate_else,
    Role.CARRIES: _Parser._read_carries,
}


# --- printing -----------------------------------------------------------------------------------------------------


def format(kernel: Kernel) -> str:
    """Return the canonical text of a kernel; `parse` gives back an equal one."""
    return "\n".join([*_format_header(kernel), *map(format_instr, kernel.body), ""])


def _format_header(kernel: Kernel) -> Iterator[str]:
    yield f"portkit {kernel.version}"
    yield f"kernel {kernel.name}"
    if kernel.numeric != "fast":
        yield f"numeric {kernel.numeric}"
    for buffer in kernel.buffers:
        yield f"buffer {buffer.name} {buffer.dtype}[{buffer.extent}] {buffer.access}"
    for scalar in kernel.scalars:
        yield f"scalar {scalar.name} {scalar.dtype}"
    for shared in kernel.shared:
        yield f"shared {shared.name} {shared.dtype}[{shared.extent}]"
    yield "begin"


def format_instr(instr: Instr) -> str:
    """Return one instruction as text; it need not be valid, but has the parts that its signature names."""
    parts = _Parts(instr)
    words = [word for operand in instr.form.operands for word in _PRINTERS[operand.role](parts, operand)]
    return " ".join([*([instr.result, "="] if instr.result else []), instr.name, *words])


class _Parts:
    """The parts of an instruction, handed out in text order."""

    def __init__(self, instr: Instr) -> None:
        self.instr = instr
        self.args = iter(instr.args)
        self.mems = iter(instr.mems)
        self.imms = iter(instr.imms)

    def register(self, _: Operand) -> Iterator[str]:
        yield next(self.args)

    def registers(self, _: Operand) -> Iterator[str]:
        return self.args

    def type(self, _: Operand) -> Iterator[str]:
        yield str(self.instr.type)

    def value(self, _: Operand) -> Iterator[str]:
        assert self.instr.type is not None, "a form with a literal has a result type"
        yield format_literal(self.instr.type.dtype, next(self.imms))

    def count(self, _: Operand) -> Iterator[str]:
        yield str(next(self.imms)) if self.instr.imms else next(self.args)

    def integer(self, _: Operand) -> Iterator[str]:
        yield str(next(self.imms))

    def memory(self, _: Operand) -> Iterator[str]:
        yield next(self.mems)

    def word(self, operand: Operand) -> Iterator[str]:
        yield operand.name

    def gate(self, _: Operand) -> Iterator[str]:
        if self.instr.gate:
            yield f"if {self.instr.gate}"
        if self.instr.other:
            yield f"else {self.instr.other}"

    def carries(self, _: Operand) -> Iterator[str]:
        return (f"{carry}={value}" for carry, value in self.instr.carries)


_PRINTERS: dict[Role, Callable[[_Parts, Operand], Iterator[str]]] = {
    Role.REGISTER: _Parts.register,
    Role.REGISTERS: _Parts.registers,
    Role.TYPE: _Parts.type,
    Role.VALUE: _Parts.value,
    Role.COUNT: _Parts.count,
    Role.INTEGER: _Parts.integer,
    Role.MEMORY: _Parts.memory,
    Role.WORD: _Parts.word,
    Role.GATE: _Parts.gate,
    Role.GATE_ELSE: _Parts.gate,
    Role.CARRIES: _Parts.carries,
}
