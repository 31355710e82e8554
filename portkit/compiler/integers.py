"""Arithmetic on integer expressions, in canonical form: what `portkit.compiler.index` builds on.

An expression is a sum `constant + k1*atom1 + k2*atom2 + ...`, an atom one of

    axis variable value                         leaves, with proven bounds
    product of atoms                            canonical: sums are multiplied out while they are small
    quotient remainder minimum maximum          of expressions

Every operator brings its result to that form at once, so that the same expression is the same object, and equality is
identity. Constants are plain ints. Bounds are proven, inclusive and finite. A divisor is positive; one that may be
zero as far as its bounds go is taken to be positive, as there is nothing to index where an extent is zero.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from portkit.compiler.expression import (
    Axis,
    Expr,
    Index,
    Maximum,
    Minimum,
    Product,
    Quotient,
    Remainder,
    Sum,
    Variable,
    bounds,
    intern,
)
from portkit.errors import UsageError

MULTIPLY_OUT: Final = 16
"""A product of two sums is multiplied out if it has at most so many terms."""

Terms: TypeAlias = dict[Expr, int]


# --- sums ---------------------------------------------------------------------------------------------------------


def linear(e: Index) -> tuple[Terms, int]:
    """Return the canonical sum: the coefficient of each atom, and the constant."""
    if isinstance(e, int):
        return {}, e
    if type(e) is Sum:
        return dict(e.args[0]), e.args[1]
    return ({e: 1}, 0) if e.low != e.high else ({}, e.low)


def add(a: Index, b: Index, times: int = 1) -> Index:
    """Return a + times * b."""
    if isinstance(a, int) and isinstance(b, int):
        return a + times * b
    terms, constant = linear(a)
    more, extra = linear(b)
    for atom, k in more.items():
        terms[atom] = terms.get(atom, 0) + times * k
    return total(terms, constant + times * extra)


def total(terms: Terms, constant: int) -> Index:
    """Return constant + sum of k * atom, in canonical form."""
    terms, constant = _recombine({a: k for a, k in terms.items() if k}, constant)
    return _sum(terms, constant)


def _sum(terms: Terms, constant: int) -> Index:
    if not terms:
        return constant
    if len(terms) == 1 and not constant:
        ((atom, k),) = terms.items()
        if k == 1 and atom.low != atom.high:
            return atom
    low, high = span(terms, constant)
    if low == high:
        return low
    ordered = tuple(sorted(terms.items(), key=lambda t: t[0].number))
    return intern(Sum, (ordered, constant), low, high, terms)


def span(terms: Terms, constant: int) -> tuple[int, int]:
    """Return the bounds of a sum, term by term."""
    low = high = constant
    for atom, k in terms.items():
        low += k * (atom.low if k > 0 else atom.high)
        high += k * (atom.high if k > 0 else atom.low)
    return low, high


def _recombine(terms: Terms, constant: int) -> tuple[Terms, int]:
    """Put quotients and remainders of the same number together, as long as there are any.

    k*c*(x//c) + k*(x%c) -> k*x;  k*a*((x//a)%b) + k*(x%a) -> k*(x % (a*b));  k*x - k*(x%c) -> k*c*(x//c);
    k*x - k*c*(x//c) -> k*(x%c).
    """
    while len(terms) > 1:
        for atom in terms:
            join = _JOIN.get(type(atom))
            found = join(atom, terms) if join else None
            if found is not None:
                break
        else:
            return terms, constant
        for e, times in found:
            more, extra = linear(e)
            constant += times * extra
            for part, n in more.items():
                terms[part] = terms.get(part, 0) + times * n
        terms = {a: n for a, n in terms.items() if n}
    return terms, constant


def _holds(terms: Terms, e: Index, k: int) -> bool:
    """Whether the sum has all of the terms of k * e, exactly (the constant aside)."""
    wanted, _ = linear(e)
    return bool(wanted) and all(terms.get(a) == k * n for a, n in wanted.items())


Change: TypeAlias = "tuple[tuple[Index, int], ...]"


def _exceeds(terms: Terms, e: Index) -> bool:
    """Whether every term of e has its like in the sum, of the same sign and no smaller: taking e away leaves less."""
    wanted, _ = linear(e)
    return all(terms.get(a, 0) * n > 0 and abs(terms[a]) >= abs(n) for a, n in wanted.items())


def _join_remainder(r: Expr, terms: Terms) -> Change | None:
    """Return what to add to a sum, and how many times, to join a remainder with its like; None if it has none."""
    x, c = r.args
    k = terms[r]
    q = quotient(x, c)
    high = multiply(q, c)
    if _holds(terms, high, k):
        return (high, -k), (r, -k), (x, k)
    if _holds(terms, x, -k):
        return (x, k), (r, -k), (high, -k)
    for m in terms:
        if type(m) is Remainder and m.args[0] is q:
            high = multiply(m, c)
            if _holds(terms, high, k):
                return (high, -k), (r, -k), (remainder(x, multiply(c, m.args[1])), k)
    return None


def _join_quotient(q: Expr, terms: Terms) -> Change | None:
    x, c = q.args
    k = -(terms[q] // c) if isinstance(c, int) and terms[q] % c == 0 else 0
    return ((x, -k), (q, k * c), (remainder(x, c), k)) if k and _holds(terms, x, k) else None


_JOIN: Final[dict[type[Expr], Callable[[Expr, Terms], Change | None]]] = {
    Remainder: _join_remainder,
    Quotient: _join_quotient,
}


# --- products -----------------------------------------------------------------------------------------------------


def factors(e: Expr) -> tuple[Expr, ...]:
    """Return the factors of an atom."""
    return e.args if type(e) is Product else (e,)


def product(parts: Iterable[Expr]) -> Index:
    """Return the product of factors that are not sums."""
    ordered = tuple(sorted(parts, key=lambda e: e.number))
    if len(ordered) < 2:
        return ordered[0] if ordered else 1
    low = high = 1
    for part in ordered:
        corners = (low * part.low, low * part.high, high * part.low, high * part.high)
        low, high = min(corners), max(corners)
    return low if low == high else intern(Product, ordered, low, high, ordered)


def multiply(a: Index, b: Index) -> Index:
    """Return a * b."""
    if isinstance(a, int):
        return a * b if isinstance(b, int) else _scale(b, a)
    if isinstance(b, int):
        return _scale(a, b)
    left, right = _summands(a), _summands(b)
    if len(left) * len(right) > MULTIPLY_OUT:
        return product((*factors(a), *factors(b)))
    result: Index = 0
    for parts, k in left:
        for others, n in right:
            result = add(result, product((*parts, *others)), k * n)
    return result


def _scale(e: Expr, k: int) -> Index:
    terms, constant = linear(e)
    return _sum({atom: n * k for atom, n in terms.items()}, constant * k) if k else 0


def _summands(e: Expr) -> list[tuple[tuple[Expr, ...], int]]:
    terms, constant = linear(e)
    return [*((factors(a), k) for a, k in terms.items()), *([((), constant)] if constant else [])]


# --- division -----------------------------------------------------------------------------------------------------


def quotient(x: Index, d: Index) -> Index:
    """Return x // d, rounded down. Raises `UsageError` if d cannot be positive."""
    d = _divisor(d)
    low, high = _quotient_bounds(x, d)
    if low == high:
        return low
    if d == 1:
        return x
    whole, rest = _pull_out(x, d)
    if rest != x:
        return add(whole, quotient(rest, d))
    inside = _whole(rest, d)
    if inside is not None:
        return inside
    split = _split(rest, d)
    if split is not None:
        common, upper, _ = split
        return quotient(upper, exact(d, common) or 1)
    single = _quotient_of_atom(rest, d)
    return intern(Quotient, (rest, d), low, high, (rest, d)) if single is None else single


def remainder(x: Index, d: Index) -> Index:
    """Return x - d * (x // d), from 0 to d-1. Raises `UsageError` if d cannot be positive."""
    d = _divisor(d)
    rest = _open_remainders(_pull_out(x, d)[1], d)
    if rest != x:
        return remainder(rest, d)
    inside = _whole(rest, d)
    if inside is not None:
        return add(rest, d, -inside)
    split = _split(rest, d)
    if split is not None:
        common, upper, lower = split
        return add(lower, multiply(common, remainder(upper, exact(d, common) or 1)))
    high = bounds(d)[1] - 1
    low, most = bounds(rest)
    return intern(Remainder, (rest, d), 0, min(high, most) if low >= 0 else high, (rest, d))


def _divisor(d: Index) -> Index:
    low, high = bounds(d)
    if high < 1:
        raise UsageError(f"an index is divided by {d}; divide by what is positive")
    return low if low == high else d


def _quotient_bounds(x: Index, d: Index) -> tuple[int, int]:
    (low, high), (least, most) = bounds(x), bounds(d)
    ends = (max(least, 1), most)
    return min(low // e for e in ends), max(high // e for e in ends)


def _whole(x: Index, d: Index) -> int | None:
    """Return k if it is proven that k*d <= x < (k+1)*d."""
    if isinstance(d, int):
        low, high = bounds(x)
        return low // d if low // d == high // d else None
    if at_most(0, x):
        return 0 if at_most(add(x, 1), d) else None
    return -1 if at_most(add(x, 1), 0) and at_most(multiply(d, -1), x) else None


def _pull_out(x: Index, d: Index) -> tuple[Index, Index]:
    """Return (q, r) with x = q*d + r, taking out of each term what is a multiple of d: 12*a + b by 4 -> 3*a, b."""
    terms, constant = linear(x)
    if not isinstance(d, int):
        return _pull_out_symbol(terms, constant, d)
    whole: Terms = {}
    rest: Terms = {}
    for atom, k in terms.items():  # towards zero, so that a term keeps its sign: the rest stays small
        whole[atom] = k // d if k >= 0 else -(-k // d)
        rest[atom] = k - d * whole[atom]
    if rest == terms and 0 <= constant < d:
        return 0, x
    return total(whole, constant // d), total(rest, constant % d)


def _pull_out_symbol(terms: Terms, constant: int, d: Expr) -> tuple[Index, Index]:
    of_d, offset = linear(d)
    lead, n = max(of_d.items(), key=lambda t: (len(factors(t[0])), t[0].number))
    single = len(of_d) == 1 and not offset
    whole: Index = 0
    rest = _sum(terms, constant)
    for atom, k in terms.items():
        others = without(factors(atom), factors(lead))
        times = k // n if k * n >= 0 else -(-k // n)
        if others is None or not times or (not single and k % n):
            continue
        part = multiply(product(others), times)
        gone = multiply(part, d)
        if single or _exceeds(linear(rest)[0], gone):
            whole, rest = add(whole, part), add(rest, gone, -1)
    return whole, rest


def _open_remainders(x: Index, d: Index) -> Index:
    """Return x with the remainders taken off that a remainder by d makes needless: (x % 8 + y) % 4 -> (x + y) % 4."""
    terms, _ = linear(x)
    needless = {r: k for r, k in terms.items() if type(r) is Remainder and exact(multiply(r.args[1], k), d) is not None}
    result = x
    for r, k in needless.items():
        result = add(result, add(r.args[0], r, -1), k)
    return result


def _split(x: Index, d: Index) -> tuple[Index, Index, Index] | None:
    """Return (g, u, r) with x = g*u + r, 0 <= r < g and g a proper divisor of d: 6*a + b by 9 -> 3, 2*a, b if b < 3."""
    single = monomial(d)
    if single is None:
        return None
    terms, constant = linear(x)
    for n, parts in _common_factors(terms, *single):
        common = multiply(product(parts), n)
        low = {a: k for a, k in terms.items() if k % n or without(factors(a), parts) is None}
        if len(low) == len(terms):
            continue
        lower = _sum(low, constant)
        times = _whole(lower, common)
        upper = exact(_sum({a: k for a, k in terms.items() if a not in low}, 0), common)
        if times is not None and upper is not None:
            return common, add(upper, times), add(lower, common, -times)
    return None


def _common_factors(terms: Terms, n: int, parts: tuple[Expr, ...]) -> list[tuple[int, tuple[Expr, ...]]]:
    """Return what single terms have in common with the divisor n * parts, the greatest first."""
    found: set[tuple[int, tuple[Expr, ...]]] = set()
    for atom, k in terms.items():
        shared = tuple(sorted((Counter(factors(atom)) & Counter(parts)).elements(), key=_number)) if parts else ()
        found.add((math.gcd(k, n), shared))
    return sorted(found - {(1, ()), (n, parts)}, key=lambda t: (len(t[1]), t[0]), reverse=True)


def _quotient_of_atom(x: Index, d: Index) -> Index | None:
    """(y//a + c) // d -> (y + a*c) // (a*d);  (y % m) // d -> (y // d) % (m/d) where d divides m."""
    terms, constant = linear(x)
    if list(terms.values()) != [1]:
        return None
    (atom,) = terms
    if type(atom) is Quotient:
        y, a = atom.args
        return quotient(add(y, a, constant), multiply(a, d))
    if type(atom) is Remainder and not constant:
        y, m = atom.args
        times = exact(m, d)
        return None if times is None else remainder(quotient(y, d), times)
    return None


def monomial(e: Index) -> tuple[int, tuple[Expr, ...]] | None:
    """Return (k, factors) of an expression that is k times a product; None for a sum."""
    terms, constant = linear(e)
    if not terms:
        return constant, ()
    if len(terms) > 1 or constant:
        return None
    ((atom, k),) = terms.items()
    return k, factors(atom)


def exact(e: Index, d: Index) -> Index | None:
    """Return e / d where d divides e term by term, else None."""
    if e == d:
        return 1
    single = monomial(d)
    if single is None:
        return None
    n, parts = single
    terms, constant = linear(e)
    if constant % n or (constant and parts):
        return None
    result: Index = constant // n
    for atom, k in terms.items():
        others = without(factors(atom), parts)
        if others is None or k % n:
            return None
        result = add(result, product(others), k // n)
    return result


def without(whole: Sequence[Expr], parts: Sequence[Expr]) -> tuple[Expr, ...] | None:
    """Return the factors that are left of `whole` without `parts`; None if it does not have them all."""
    if not parts:
        return tuple(whole)
    left = list(whole)
    for part in parts:
        if part not in left:
            return None
        left.remove(part)
    return tuple(left)


def _number(e: Expr) -> int:
    return e.number


# --- comparing ----------------------------------------------------------------------------------------------------


def at_most(a: Index, b: Index) -> bool | None:
    """Return whether a <= b: True and False are proven, None is not known."""
    (least, most), (low, high) = bounds(a), bounds(b)
    if most <= low:
        return True
    if least > high:
        return False
    difference = add(b, a, -1)
    if _at_least(difference, 0):
        return True
    return False if _at_least(multiply(difference, -1), 1) else None


def _at_least(e: Index, least: int) -> bool:
    """Whether e >= least is proven, by its bounds or by replacing what is bounded by a dimension with that bound."""
    if bounds(e)[0] >= least:
        return True
    if isinstance(e, int) or not any(type(x) is Variable or type(x) is Axis for x in e.leaves):
        return False
    terms, constant = linear(e)
    weaker: Index = constant
    for atom, k in terms.items():
        weaker = add(weaker, _limit(atom, upper=k < 0), k)
    return weaker != e and _at_least(weaker, least)


def _limit(e: Expr, upper: bool) -> Index:
    """Return an expression that is never below (or above) an atom, in terms of dimensions where it can be."""
    if type(e) is Axis:
        return add(e.extent, -1) if upper else 0
    if type(e) is Remainder:
        return add(e.args[1], -1) if upper else 0
    if type(e) is (Minimum if upper else Maximum):
        return e.args[0]
    if type(e) is Product and all(f.low >= 0 for f in e.args):
        result: Index = 1
        for f in e.args:
            result = multiply(result, _limit(f, upper))
        return result
    return e
