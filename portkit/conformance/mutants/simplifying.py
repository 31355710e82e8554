"""Faults of a compiler that simplifies f32 arithmetic as if it were that of real numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import frexp

from portkit.conformance.mutants.printer import Rewrite
from portkit.conformance.rewriting import Emitter, rewrite
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import F32, Type, decode, encode

SCALAR = Type(F32)
ZERO, MINUS_ZERO = 0, 1 << 31


class Terms:
    """What the registers of a kernel are made of, as a simplifier sees it."""

    def __init__(self, kernel: Kernel) -> None:
        self.made = {i.result: i for i in kernel.body if i.result}
        self.uses = Counter(register for i in kernel.body for register in i.reads)

    def operands(self, register: str, form: str) -> tuple[str, ...]:
        """Return the operands of a register that this form made, else none."""
        made = self.made.get(register)
        return made.args if made is not None and made.name == form else ()

    def bits(self, register: str) -> int:
        """Return the bits of a register that is a literal f32, else -1."""
        made = self.made.get(register)
        literal = made is not None and made.name == "mov.const" and made.type == SCALAR
        return made.imms[0] if made is not None and literal else -1

    def loaded(self, register: str) -> bool:
        """Whether a register was loaded."""
        made = self.made.get(register)
        return made is not None and made.name == "load"

    def seen_through(self, register: str) -> int:
        """Return the bits of a register that is a literal integer, read as f32; else -1."""
        inner = self.operands(register, "mov.bits")
        made = self.made.get(inner[0]) if inner else None
        return made.imms[0] if made is not None and made.name == "mov.const" else -1

    def number(self, register: str) -> float | None:
        """Return the number of a register that is a literal f32."""
        bits = self.bits(register)
        return None if bits < 0 else float(decode(F32, bits))

    def scaled(self, register: str) -> tuple[str, float]:
        """Split a register into x and c where it is x c, else into itself and 1."""
        operands = self.operands(register, "mul")
        factor = self.number(operands[1]) if operands else None
        return (register, 1.0) if factor is None else (operands[0], factor)


Rule = Callable[[Terms, str, str, Emitter], str]
"""Given the two operands of a form, gives the register that stands for the result, or "" to leave it as it is."""


def simplifying(form: str, rule: Rule) -> Rewrite:
    """Make a rewriting of kernels by a rule for one form on f32; literals are on the right."""

    def change(kernel: Kernel) -> Kernel:
        terms = Terms(kernel)

        def expand(i: Instr, e: Emitter) -> bool:
            if i.name != form or i.type != SCALAR:
                return False
            a, b = i.args if terms.number(i.args[0]) is None else i.args[::-1]
            if becomes := rule(terms, a, b, e):
                e.op("mov.bits", becomes, type=i.type, result=i.result)
            return bool(becomes)

        return rewrite(kernel, expand)

    change.__doc__ = f"Simplify f32 {form}: {(rule.__doc__ or '').strip()}"
    return change


def becomes_operand(bits: int) -> Rule:
    """Make the rule that x op c is x."""

    def rule(terms: Terms, a: str, b: str, e: Emitter) -> str:
        return a if terms.bits(b) == bits else ""

    rule.__doc__ = f"x op {decode(F32, bits)} is x."
    return rule


def becomes_literal(value: float, result: float) -> Rule:
    """Make the rule that x op c is a number."""

    def rule(terms: Terms, a: str, b: str, e: Emitter) -> str:
        return e.const(SCALAR, result) if terms.bits(b) == encode(F32, value) else ""

    rule.__doc__ = f"x op {value} is {result}."
    return rule


def negated_by_zero(terms: Terms, a: str, b: str, e: Emitter) -> str:
    """x * -1 is 0 - x."""
    if terms.number(b) != -1.0:
        return ""
    return e.op("add", e.const(SCALAR, 0.0), e.op("mul", a, b))


def sign_of_literal_lost(terms: Terms, a: str, b: str, e: Emitter) -> str:
    """x + -c is x + c."""
    bits = terms.bits(b)
    return e.op("add", a, e.bits(SCALAR, bits & 0x7FFFFFFF)) if bits >> 31 == 1 else ""


def literal_is_an_integer(form: str) -> Rule:
    """Make the rule of printing 1.0 as the bits of the integer 1."""

    def rule(terms: Terms, a: str, b: str, e: Emitter) -> str:
        return e.op(form, a, e.bits(SCALAR, 1)) if terms.number(b) == 1.0 else ""

    rule.__doc__ = "1.0 is printed as the bits of the integer 1."
    return rule


def literal_changed(before: float, after: float) -> Rule:
    """Make the rule of printing one literal as another where the other operand was loaded."""

    def rule(terms: Terms, a: str, b: str, e: Emitter) -> str:
        meant = terms.loaded(a) and terms.bits(b) == encode(F32, before)
        return e.op("add", a, e.const(SCALAR, after)) if meant else ""

    rule.__doc__ = f"x + {before} is printed as x + {after} where x was loaded."
    return rule


def seen_through_becomes(form: str, bits: int, result: float | None) -> Rule:
    """Make the rule that x op c, c the bits of a literal integer, is a number, or x where that is None."""

    def rule(terms: Terms, a: str, b: str, e: Emitter) -> str:
        if terms.seen_through(b) != bits:
            return ""
        return a if result is None else e.const(SCALAR, result)

    rule.__doc__ = f"x op {decode(F32, bits)}, given as the bits of an integer, is {'x' if result is None else result}."
    return rule


Holds = Callable[[float, float], bool]


def one_sign(c: float, d: float) -> bool:
    """Whether two literals have one sign."""
    return c * d > 0


def powers_of_two(c: float, d: float) -> bool:
    """Whether two literals are powers of two, by which a product is exact but for its range."""
    return all(abs(frexp(x)[0]) == 0.5 for x in (c, d))


def not_powers_of_two(c: float, d: float) -> bool:
    """Whether one of two literals is no power of two."""
    return not powers_of_two(c, d)


def folded(form: str, fold: Callable[[float, float], float], holds: Holds) -> Rule:
    """Make the rule that (x op c) op d is x op (c op d) where something holds of the literals."""

    def rule(terms: Terms, a: str, b: str, e: Emitter) -> str:
        inner, second = terms.operands(a, form), terms.number(b)
        first = terms.number(inner[1]) if inner and terms.uses[a] == 1 else None
        if first is None or second is None or not holds(first, second):
            return ""
        return e.op(form, inner[0], e.const(SCALAR, fold(first, second)))

    rule.__doc__ = f"(x op c) op d is x op (c op d) where c and d are {holds.__name__.replace('_', ' ')}."
    return rule


def multiples_collected(terms: Terms, a: str, b: str, e: Emitter) -> str:
    """x c + x d is x (c + d)."""
    (x, c), (y, d) = terms.scaled(a), terms.scaled(b)
    return e.op("mul", x, e.const(SCALAR, c + d)) if x == y and 1.0 not in (c, d) else ""


def opposites_cancelled(terms: Terms, a: str, b: str, e: Emitter) -> str:
    """x + -x is 0."""
    return e.const(SCALAR, 0.0) if terms.scaled(b) == (a, -1.0) else ""


def round_trip_cancelled(terms: Terms, a: str, b: str, e: Emitter) -> str:
    """(x + c) + -c is x where x was loaded."""
    x, c = terms.operands(a, "add") or ("", "")
    d = terms.number(b)
    return x if d is not None and terms.loaded(x) and terms.number(c) == -d else ""


def first_cancelled(terms: Terms, a: str, b: str, e: Emitter) -> str:
    """(x + y) - x is y."""
    total, (x, factor) = terms.operands(a, "add"), terms.scaled(b)
    return total[1] if total and total[0] == x and factor == -1.0 else ""


def factor_taken_out(terms: Terms, a: str, b: str, e: Emitter) -> str:
    """x y + x z is x (y + z)."""
    p, q = terms.operands(a, "mul"), terms.operands(b, "mul")
    if p and terms.number(p[1]) is not None:
        return ""
    return e.op("mul", p[0], e.op("add", p[1], q[1])) if p and q and p[0] == q[0] else ""
