"""Indices as sums that a C compiler recognises: what does not depend on the lane, plus what is known to be small.

    before                      after
    const u32 i = base + lane;  x[i]        x[(s64)(s32)(base) + lane]

Both name the same element. 32-bit sums wrap, which hides from a compiler that neighbouring lanes read neighbouring
elements. Read as a signed number, `base` plus a non-negative number below 2^31 wraps only from the positive to the
negative numbers, and no valid kernel has an access there (Spec: valid_c3).
"""

from __future__ import annotations

from dataclasses import dataclass

from portkit.backends.toolkit.code import Value

_MOST = (1 << 31) - 1
_TERMS = 6


@dataclass(frozen=True, slots=True)
class Sum:
    """A value as a sum modulo 2^32: terms of any size, and terms of 0 or more that together are at most `most`."""

    wild: tuple[str, ...] = ()
    tame: tuple[str, ...] = ()
    most: int = 0


class Indices:
    """What is known of the 32-bit integers of one function."""

    def __init__(self) -> None:
        self._sums: dict[str, Sum] = {}

    def counts(self, index: Value, count: Value) -> None:
        """Note the index of a loop."""
        turns = _literal(count.text)
        if turns is not None and 0 < turns <= _MOST:
            self._sums[index.text] = Sum(tame=(index.text,), most=turns - 1)

    def computes(self, result: Value, name: str, a: Value, b: Value) -> None:
        """Note the result of an addition or multiplication."""
        if (result.element, result.lanes) != ("i32", 1):
            return
        one, other = self._sum(a.text), self._sum(b.text)
        if name == "add":
            both = Sum(one.wild + other.wild, one.tame + other.tame, one.most + other.most)
            if both.most <= _MOST and len(both.wild + both.tame) <= _TERMS:
                self._sums[result.text] = both
        elif name == "mul" and not one.wild + other.wild and one.most * other.most <= _MOST:
            self._sums[result.text] = Sum(tame=(result.text,), most=one.most * other.most)

    def renames(self, old: str, new: str) -> None:
        """Note that a result has another name."""
        found = self._sums.pop(old, None)
        if found is not None:
            self._sums[new] = Sum(found.wild, (new,), found.most) if found.tame == (old,) else found

    def text(self, index: Value) -> str:
        """Return an index as it is best written."""
        found = self._sums.get(index.text)
        if found is None or not found.wild or not found.tame:
            return index.text
        return " + ".join([f"(s64)(s32)({' + '.join(found.wild)})", *found.tame])

    def _sum(self, text: str) -> Sum:
        number = _literal(text)
        if number is not None and number <= _MOST:
            return Sum(tame=(text,) if number else (), most=number)
        return self._sums.get(text) or Sum(wild=(text,))


def _literal(text: str) -> int | None:
    return int(text.removesuffix("u"), 0) if text[0].isdigit() else None
