"""The classes of integer expressions, their leaves, and how they are kept unique and printed.

The same class and arguments give the same object, so that equality is identity; `portkit.compiler.integers` brings
arguments to one form before an expression is made.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable
from threading import Lock
from typing import Any, Final, TypeAlias
from weakref import WeakValueDictionary

from portkit.errors import UsageError


class Expr:
    """An integer expression that is not constant; `low` and `high` are its inclusive, proven bounds."""

    __slots__ = ("__weakref__", "args", "high", "leaves", "low", "number")

    args: tuple[Any, ...]
    low: int
    high: int
    leaves: frozenset[Expr]
    number: int

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an index expression cannot be changed: {name}")

    def __add__(self, other: Index) -> Index:
        return _integers.add(self, other)

    __radd__ = __add__

    def __sub__(self, other: Index) -> Index:
        return _integers.add(self, other, -1)

    def __rsub__(self, other: Index) -> Index:
        return _integers.add(other, self, -1)

    def __neg__(self) -> Index:
        return _integers.multiply(self, -1)

    def __mul__(self, other: Index) -> Index:
        return _integers.multiply(self, other)

    __rmul__ = __mul__

    def __floordiv__(self, other: Index) -> Index:
        return _integers.quotient(self, other)

    def __rfloordiv__(self, other: Index) -> Index:
        return _integers.quotient(other, self)

    def __mod__(self, other: Index) -> Index:
        return _integers.remainder(self, other)

    def __rmod__(self, other: Index) -> Index:
        return _integers.remainder(other, self)

    def __repr__(self) -> str:
        return _show(self, 0)


Index: TypeAlias = int | Expr

_numbers = itertools.count()
_interned: WeakValueDictionary[tuple[Any, ...], Expr] = WeakValueDictionary()
_interning = Lock()


def _fill(made: Expr, args: tuple[Any, ...], low: int, high: int, leaves: frozenset[Expr] | None = None) -> None:
    put = object.__setattr__
    put(made, "args", args)
    put(made, "low", low)
    put(made, "high", high)
    put(made, "number", next(_numbers))
    put(made, "leaves", frozenset((made,)) if leaves is None else leaves)


def intern(cls: type[Expr], args: tuple[Any, ...], low: int, high: int, parts: Iterable[Index] = ()) -> Expr:
    """Return the expression of that class and those arguments, the one that exists if there is one."""
    key = (cls, args)
    found = _interned.get(key)
    if found is not None:
        return found
    made = object.__new__(cls)
    leaves = [p.leaves for p in parts if isinstance(p, Expr)]
    _fill(made, args, low, high, leaves[0].union(*leaves[1:]) if leaves else None)
    with _interning:  # two threads may have made it at once
        return _interned.setdefault(key, made)


# --- leaves -------------------------------------------------------------------------------------------------------


class Axis(Expr):
    """A fresh iteration axis, 0 .. extent-1; every call makes another one."""

    __slots__ = ()

    def __init__(self, extent: Index, name: str = "") -> None:
        high = extent if isinstance(extent, int) else extent.high
        _fill(self, (extent, name), 0, max(high - 1, 0))

    @property
    def extent(self) -> Index:
        return self.args[0]

    @property
    def name(self) -> str:
        return self.args[1] or f"a{self.number}"


class Variable(Expr):
    """A dimension that is known at launch, low .. high; the same three fields give the same object."""

    __slots__ = ()

    def __new__(cls, name: str, low: int, high: int) -> Variable:
        if not 0 <= low <= high:
            raise UsageError(f"variable {name} needs bounds 0 <= low <= high, got {low} .. {high}")
        made = intern(cls, (name, low, high), low, high)
        assert isinstance(made, Variable)
        return made

    @property
    def name(self) -> str:
        return self.args[0]


class Value(Expr):
    """An integer that is known at run time only, low .. high; `tag` says where it comes from."""

    __slots__ = ()

    def __new__(cls, tag: Hashable, low: int, high: int) -> Value:
        if low > high:
            raise UsageError(f"value {tag!r} needs bounds low <= high, got {low} .. {high}")
        made = intern(cls, (tag, low, high), low, high)
        assert isinstance(made, Value)
        return made

    @property
    def tag(self) -> Any:
        return self.args[0]


class Sum(Expr):
    """constant + sum of k * atom; args are (((atom, k), ...), constant), atoms by creation number."""

    __slots__ = ()


class Product(Expr):
    """Product of two or more factors, by creation number; args are the factors."""

    __slots__ = ()


class Quotient(Expr):
    """Floor of args[0] / args[1]."""

    __slots__ = ()


class Remainder(Expr):
    """args[0] - args[1] * floor(args[0] / args[1])."""

    __slots__ = ()


class Minimum(Expr):
    """The least of args, a constant last."""

    __slots__ = ()


class Maximum(Expr):
    """The greatest of args, a constant last."""

    __slots__ = ()


def bounds(e: Index) -> tuple[int, int]:
    """Return the inclusive bounds of an expression."""
    return (e, e) if isinstance(e, int) else (e.low, e.high)


# --- printing -----------------------------------------------------------------------------------------------------


def _show(e: Index, level: int) -> str:
    """Return the text of an expression; in parentheses if it binds less tightly than `level` (1 times, 2 atom)."""
    if isinstance(e, int):
        return f"({e})" if e < 0 and level else str(e)
    if isinstance(e, (Axis, Variable)):
        return e.name
    if isinstance(e, Value):
        return f"<{e.tag}>"
    if isinstance(e, (Minimum, Maximum)):
        return f"{'min' if type(e) is Minimum else 'max'}({', '.join(_show(a, 0) for a in e.args)})"
    text, binds = _show_sum(e) if type(e) is Sum else (_SIGNS[type(e)].join(_show(a, 2) for a in e.args), 1)
    return f"({text})" if binds < level else text


_SIGNS: Final[dict[type[Expr], str]] = {Product: "*", Quotient: " // ", Remainder: " % "}


def _show_sum(e: Expr) -> tuple[str, int]:
    terms, constant = _integers.linear(e)
    text = ""
    for atom, k in sorted(terms.items(), key=lambda t: (t[1] < 0, t[0].number)):
        part = _show(atom, 1) if abs(k) == 1 else f"{_show(atom, 2)}*{abs(k)}"
        text += f" {'-' if k < 0 else '+'} {part}"
    if constant:
        text += f" {'-' if constant < 0 else '+'} {abs(constant)}"
    text = text.removeprefix(" + ")
    return (f"-{text[3:]}" if text.startswith(" - ") else text), int(len(terms) == 1 and not constant)


# The operators of an expression are the arithmetic on the classes above, so that either module needs the other.
from portkit.compiler import integers as _integers  # noqa: E402
