"""Rules for elementwise functions. Letters: x y z operands, c d constants, p a condition."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeAlias

from portkit.compiler.functions import FUNCTIONS
from portkit.compiler.graph import Node, cast, map_, with_inputs
from portkit.compiler.simplify_constants import folded, like, neutral, number, uniform, wrapped
from portkit.compiler.simplify_ranges import span
from portkit.spec.types import BOOL, DType

Rule: TypeAlias = Callable[[Node], Node | None]

_COMMUTATIVE: Final = frozenset(("add", "mul", "mulhi", "max", "min", "and", "or", "xor", "eq"))
_INTEGRAL: Final = frozenset(("floor", "ceil", "round", "trunc"))

_THROUGH: Final = 4
"""How many views to look through."""


def _is(x: Node, name: str) -> bool:
    return x.op == "map" and x.attr == name


def _power_of_two(x: Node) -> int | None:
    """Return k for a constant 2^k of at least 2."""
    value = number(x)
    if not isinstance(value, int) or value < 2 or value & (value - 1):
        return None
    return value.bit_length() - 1


# --- two operands -------------------------------------------------------------------------------------------------


def constant_last(node: Node) -> Node | None:
    """f(c, x) -> f(x, c) where f is commutative."""
    x, y = node.inputs
    return map_(node.attr, y, x) if uniform(x) is not None and uniform(y) is None else None


def neutral_operand(node: Node) -> Node | None:
    """x + -0.0, x * 1, x / 1, x & -1, x | 0, max(x, -inf), ... -> x; for integers x + 0 too."""
    x, y = node.inputs
    bits = uniform(y)
    return x if bits is not None and bits == neutral(node.attr, node.dtype) else None


def absorbing_operand(node: Node) -> Node | None:
    """x * 0, x & 0, x imod 1, x idiv 0, x imod 0 -> 0;  x | -1 -> -1;  max(x, greatest) -> greatest; integers only."""
    if node.dtype.is_float:
        return None
    y = node.inputs[1]
    value = number(y)
    absorbs = value is not None and int(value) in _absorbing(node.attr, node.dtype)
    return (y if node.attr in ("max", "min", "or") else like(node, 0)) if absorbs else None


def _absorbing(name: str, dtype: DType) -> tuple[int, ...]:
    top = 1 if dtype is BOOL else dtype.max_int
    return {
        "mul": (0,), "and": (0,), "mulhi": (0,), "idiv": (0,), "tdiv": (0,), "imod": (0, 1), "tmod": (0, 1),
        "max": (top,), "min": (dtype.min_int,), "or": (-1 if dtype.is_signed else top,),
    }[name]  # fmt: skip


def zero_divided(node: Node) -> Node | None:
    """0 idiv x, 0 imod x -> 0, shifts of 0 -> 0: integers, where division by zero gives 0."""
    return node.inputs[0] if uniform(node.inputs[0]) == 0 else None


def same_operands(node: Node) -> Node | None:
    """max(x, x), min(x, x), x & x, x | x -> x."""
    x, y = node.inputs
    return x if x is y else None


def difference_with_itself(node: Node) -> Node | None:
    """x - x, x ^ x -> 0, of integers;  x imod x -> 0."""
    x, y = node.inputs
    return like(node, 0) if x is y and not node.dtype.is_float else None


def operand_inside(node: Node) -> Node | None:
    """max(x, max(x, y)) -> max(x, y); also min, &, |."""
    for inner, other in (node.inputs, reversed(node.inputs)):
        if _is(inner, node.attr) and other in inner.inputs:
            return inner
    return None


def constants_together(node: Node) -> Node | None:
    """f(f(x, c), d) -> f(x, f(c, d)): + * of integers (they wrap), max min & | ^ of all."""
    inner, d = node.inputs
    exact = not node.dtype.is_float or node.attr in ("max", "min")
    if not exact or uniform(d) is None or not _is(inner, node.attr) or uniform(inner.inputs[1]) is None:
        return None
    return map_(node.attr, inner.inputs[0], map_(node.attr, inner.inputs[1], d))


# --- sums and products --------------------------------------------------------------------------------------------


def sum_with_negated(node: Node) -> Node | None:
    """x + -y -> x - y;  -x + y -> y - x. By definition of subtraction (IEEE 754-2019, 5.4.1)."""
    x, y = node.inputs
    if _is(y, "neg"):
        return map_("sub", x, y.inputs[0])
    return map_("sub", y, x.inputs[0]) if _is(x, "neg") else None


def difference_with_negated(node: Node) -> Node | None:
    """x - -y -> x + y."""
    x, y = node.inputs
    return map_("add", x, y.inputs[0]) if _is(y, "neg") else None


def difference_from_zero(node: Node) -> Node | None:
    """-0.0 - x -> -x, and for integers 0 - x; +0.0 - x is not -x for x = 0.0."""
    x, y = node.inputs
    return map_("neg", y) if uniform(x) == neutral("add", node.dtype) else None


def difference_with_constant(node: Node) -> Node | None:
    """x - c -> x + -c, of integers, so that constants come together."""
    x, y = node.inputs
    value = number(y)
    return map_("add", x, wrapped(y, -int(value))) if value is not None and not node.dtype.is_float else None


def product_with_minus_one(node: Node) -> Node | None:
    """x * -1 -> -x."""
    x, y = node.inputs
    return map_("neg", x) if number(y) == -1 else None


def product_with_negated(node: Node) -> Node | None:
    """-x * -y -> x * y;  -x * c -> x * -c."""
    x, y = node.inputs
    if not _is(x, "neg") or not (_is(y, "neg") or uniform(y) is not None):
        return None
    return map_("mul", x.inputs[0], y.inputs[0] if _is(y, "neg") else map_("neg", y))


def quotient_by_power_of_two(node: Node) -> Node | None:
    """x / 2^k -> x * 2^-k where 2^-k is a normal number: both are the one real number, rounded once."""
    x, y = node.inputs
    value = number(y)
    if value is None or not math.isfinite(value) or abs(math.frexp(value)[0]) != 0.5:
        return None
    power = 1 - math.frexp(value)[1]
    inside = node.dtype.emin <= power <= node.dtype.emax
    return map_("mul", x, like(node, math.ldexp(math.copysign(1.0, value), power))) if inside else None


def small_power(node: Node) -> Node | None:
    """x^0 -> 1 (NaN too: IEEE 754-2019, 9.2.1);  x^2 -> x * x."""
    x, y = node.inputs
    value = number(y)
    if value == 0:
        return like(node, 1)
    return map_("mul", x, x) if value == 2 else None


# --- integer division ---------------------------------------------------------------------------------------------


def truncation_of_unsigned(node: Node) -> Node | None:
    """x tdiv y -> x idiv y;  x tmod y -> x imod y, of unsigned integers."""
    return None if node.dtype.is_signed else map_("i" + node.attr[1:], *node.inputs)


def floor_by_power_of_two(node: Node) -> Node | None:
    """x idiv 2^k -> x shr k, which rounds down and copies the sign (Spec: mul_c4)."""
    x, y = node.inputs
    k = _power_of_two(y)
    return None if k is None else map_("shr", x, like(node, k))


def remainder_by_power_of_two(node: Node) -> Node | None:
    """x imod 2^k -> x & (2^k - 1)."""
    x, y = node.inputs
    k = _power_of_two(y)
    return None if k is None else map_("and", x, like(node, (1 << k) - 1))


def floor_of_floor(node: Node) -> Node | None:
    """(x idiv c) idiv d -> x idiv (c*d) for positive c and d, as long as c*d fits."""
    inner, y = node.inputs
    if not _is(inner, "idiv"):
        return None
    c, d = number(inner.inputs[1]), number(y)
    if not isinstance(c, int) or not isinstance(d, int) or min(c, d) < 1 or c * d > node.dtype.max_int:
        return None
    return map_("idiv", inner.inputs[0], like(node, c * d))


# --- comparisons and conditions -----------------------------------------------------------------------------------


def never_less_than_itself(node: Node) -> Node | None:
    """x < x -> false, NaN too."""
    return like(node, False) if node.inputs[0] is node.inputs[1] else None


def equal_to_itself(node: Node) -> Node | None:
    """x == x -> true; not of floats, as NaN is not."""
    x, y = node.inputs
    return like(node, True) if x is y and not x.dtype.is_float else None


def apart(node: Node) -> Node | None:
    """x < y -> true or false, x == y -> false, where the ranges of integers say so."""
    x, y = node.inputs
    if x.dtype.is_float:
        return None
    (least, most), (low, high) = span(x), span(y)
    if node.attr == "eq":
        return like(node, False) if most < low or high < least else None
    if most < low:
        return like(node, True)
    return like(node, False) if least >= high else None


def bool_compared(node: Node) -> Node | None:
    """p == true -> p;  p == false -> not p;  the same of p cast to a number and compared with 1 or 0."""
    x, y = node.inputs
    condition = x.inputs[0] if _is(x, "cast") and x.dtype is not BOOL else x
    value = number(y)
    if condition.dtype is not BOOL or value not in (0, 1):
        return None
    return condition if value else map_("not", condition)


def known_condition(node: Node) -> Node | None:
    """where(true, x, y) -> x;  where(false, x, y) -> y;  where(p, x, x) -> x."""
    p, x, y = node.inputs
    value = number(p)
    if x is y:
        return x
    return None if value is None else (x if value else y)


def negated_condition(node: Node) -> Node | None:
    """where(not p, x, y) -> where(p, y, x);  where(view(not p), x, y) -> where(view(p), y, x), but for a pad."""
    p, x, y = node.inputs
    views: list[Node] = []
    while p.op == "view" and p.attr[0] != "pad" and len(views) < _THROUGH:
        views.append(p)
        (p,) = p.inputs
    if not _is(p, "not"):
        return None
    (bare,) = p.inputs
    for seen in reversed(views):
        bare = with_inputs(seen, (bare,))
    return map_("where", bare, y, x)


def condition_again(node: Node) -> Node | None:
    """where(p, where(p, x, _), y) -> where(p, x, y);  where(p, x, where(p, _, y)) -> where(p, x, y)."""
    p, x, y = node.inputs
    if _is(x, "where") and x.inputs[0] is p:
        return map_("where", p, x.inputs[1], y)
    return map_("where", p, x, y.inputs[2]) if _is(y, "where") and y.inputs[0] is p else None


def choice_of_bools(node: Node) -> Node | None:
    """where(p, x, false) -> p & x;  where(p, true, x) -> p | x."""
    p, x, y = node.inputs
    if node.dtype is not BOOL:
        return None
    if number(y) is False:
        return map_("and", p, x)
    return map_("or", p, y) if number(x) is True else None


# --- one operand --------------------------------------------------------------------------------------------------


def inverse_of_itself(node: Node) -> Node | None:
    """--x -> x;  not not x -> x."""
    (x,) = node.inputs
    return x.inputs[0] if _is(x, node.attr) else None


def negated_difference(node: Node) -> Node | None:
    """-(x - y) -> y - x, of integers; for floats it is not where x = y."""
    (x,) = node.inputs
    return map_("sub", *reversed(x.inputs)) if _is(x, "sub") and not x.dtype.is_float else None


def negated_product(node: Node) -> Node | None:
    """-(x * c) -> x * -c."""
    (x,) = node.inputs
    if not _is(x, "mul") or uniform(x.inputs[1]) is None:
        return None
    return map_("mul", x.inputs[0], map_("neg", x.inputs[1]))


def magnitude_of_magnitude(node: Node) -> Node | None:
    """||x|| -> |x|;  |-x| -> |x|;  |x| -> x of unsigned integers."""
    (x,) = node.inputs
    if x.dtype.is_int and not x.dtype.is_signed:
        return x
    return x if _is(x, "abs") else (map_("abs", x.inputs[0]) if _is(x, "neg") else None)


def integral_already(node: Node) -> Node | None:
    """floor(round(x)) -> round(x), and so on;  floor(cast(i)) -> cast(i) for integers i."""
    (x,) = node.inputs
    integral = x.op == "map" and (x.attr in _INTEGRAL or (x.attr == "cast" and not x.inputs[0].dtype.is_float))
    return x if integral else None


# --- conversions --------------------------------------------------------------------------------------------------


def holds(wide: DType, narrow: DType) -> bool:
    """Whether every value of `narrow`, -0.0 and infinities included, is a value of `wide`."""
    if wide is narrow or narrow is BOOL:
        return True
    if wide is BOOL or (narrow.is_float and not wide.is_float):
        return False
    if not wide.is_float:
        return wide.min_int <= narrow.min_int and narrow.max_int <= wide.max_int
    if not narrow.is_float:
        digits = narrow.bits - narrow.is_signed
        return digits <= wide.precision and digits <= wide.emax
    smallest = wide.emin - wide.precision <= narrow.emin - narrow.precision
    greatest = narrow.emax <= wide.emax and narrow.infinities <= wide.infinities
    return narrow.precision <= wide.precision and smallest and greatest


def cast_of_cast(node: Node) -> Node | None:
    """cast(cast(x)) -> cast(x), or x: where the first cast is exact, or both only drop high bits of an integer."""
    (inner,) = node.inputs
    if not _is(inner, "cast"):
        return None
    (x,) = inner.inputs
    first, middle, last = x.dtype, inner.dtype, node.dtype
    if first.is_int and middle.is_int and last.is_int and last.bits <= middle.bits:
        return cast(x, last)
    saturates = last.is_int and middle.is_float and not first.is_float
    return cast(x, last) if holds(middle, first) and (not saturates or holds(last, first)) else None


def bits_of_bits(node: Node) -> Node | None:
    """bits(bits(x)) -> bits(x), or x;  bits(x) to its own dtype -> x."""
    (x,) = node.inputs
    start = x.inputs[0] if _is(x, "bits") else x
    if start.dtype is node.dtype:
        return start
    return None if start is x else map_("bits", start, dtype=node.dtype)


_FIRST: Final[dict[str, tuple[Rule, ...]]] = {
    name: (folded, constant_last) if name in _COMMUTATIVE else (folded,) for name in FUNCTIONS
}

_EXTREME: Final[tuple[Rule, ...]] = (
    neutral_operand,
    absorbing_operand,
    same_operands,
    operand_inside,
    constants_together,
)

_RULES: Final[dict[str, tuple[Rule, ...]]] = {
    "add": (neutral_operand, sum_with_negated, constants_together),
    "sub": (
        neutral_operand,
        difference_with_itself,
        difference_with_negated,
        difference_from_zero,
        difference_with_constant,
    ),
    "mul": (
        neutral_operand,
        absorbing_operand,
        product_with_minus_one,
        product_with_negated,
        constants_together,
    ),
    "max": _EXTREME,
    "min": _EXTREME,
    "and": _EXTREME,
    "or": _EXTREME,
    "xor": (neutral_operand, difference_with_itself, constants_together),
    "div": (neutral_operand, quotient_by_power_of_two),
    "pow": (neutral_operand, small_power),
    "idiv": (neutral_operand, absorbing_operand, zero_divided, floor_of_floor, floor_by_power_of_two),
    "tdiv": (neutral_operand, absorbing_operand, zero_divided, truncation_of_unsigned),
    "imod": (absorbing_operand, zero_divided, difference_with_itself, remainder_by_power_of_two),
    "tmod": (absorbing_operand, zero_divided, difference_with_itself, truncation_of_unsigned),
    "mulhi": (absorbing_operand,),
    "shl": (neutral_operand, zero_divided),
    "shr": (neutral_operand, zero_divided),
    "lt": (never_less_than_itself, apart),
    "eq": (equal_to_itself, bool_compared, apart),
    "where": (known_condition, negated_condition, condition_again, choice_of_bools),
    "neg": (inverse_of_itself, negated_difference, negated_product),
    "not": (inverse_of_itself,),
    "abs": (magnitude_of_magnitude,),
    **dict.fromkeys(_INTEGRAL, (integral_already,)),
    "cast": (cast_of_cast,),
    "bits": (bits_of_bits,),
}

FUNCTION_RULES: Final[dict[str, tuple[Rule, ...]]] = {
    name: (*_FIRST[name], *_RULES.get(name, ())) for name in FUNCTIONS
}
"""The rules for each function, in the order in which they are tried."""
