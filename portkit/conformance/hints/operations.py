"""Twists of which operation is done, on which operands: neighbours in a table, comparisons of NaN, literals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from portkit.conformance.hints.scenario import Function, Place, Twist, operation, quaternary, ternary
from portkit.conformance.hints.symptoms import Array
from portkit.errors import SpecError
from portkit.reference.rounding import narrow
from portkit.spec.types import BF16, F16, F32, DType

_FAMILIES: tuple[tuple[str, ...], ...] = (
    ("add", "mul"),
    ("mul", "mul.hi"),
    ("mul.shl", "mul.shr"),
    ("reduce.max", "reduce.min", "add"),
    ("reduce.and", "reduce.or", "reduce.xor"),
    ("reduce.xor", "add"),
    ("phi.lt", "phi.eq"),
    ("mov.exp2", "mov.log2"),
    ("mov.recip", "mov.sqrt", "mov.rsqrt", "mov.trunc", "mov.sin"),
    tuple(f"reduce.group.{kind}" for kind in ("add", "mul", "max", "min", "and", "or", "xor")),
    tuple(f"reduce.vec.{kind}" for kind in ("add", "mul", "max", "min", "and", "or", "xor")),
    ("store.atomic.add", "store.atomic.max", "store.atomic.min"),
    ("mov.cast", "mov.bits"),
)
"""Forms of equal signatures that stand beside each other in tables of code generators."""
NEIGHBOURS = sorted({(a, b) for family in _FAMILIES for a in family for b in family if a != b})


def becomes(form: str, other: str) -> Twist:
    """Return the twist that does a neighbouring operation; no fault where the types do not allow it."""

    def twist(place: Place, right: Function) -> Function | None:
        if place.instr.name != form:
            return None
        if place.instr.form.effect != "pure":
            return place.instead(name=other)
        try:
            return _folded(other, place)
        except SpecError:
            return None

    return twist


OTHER_OPERATIONS = tuple(becomes(form, other) for form, other in NEIGHBOURS)


def _folded(other: str, place: Place) -> Function:
    """Return another form over the operands, one pair after the other where it takes two and more are given."""
    if len(place.operands) <= 2 or other.startswith("reduce."):
        return operation(other, place.operands, place.result if other in ("mov.cast", "mov.bits") else None)
    pair = operation(other, place.operands[:2])

    def fold(first: Array, *rest: Array) -> Array:
        for x in rest:
            first = pair(first, x)
        return first

    return fold


# --- operands -----------------------------------------------------------------------------------------------------


def permuted(order: Sequence[int], *forms: str) -> Twist:
    """Return the twist that takes the operands of forms in another order; they must be of one type."""

    def twist(place: Place, right: Function) -> Function | None:
        types = place.operands if place.instr.name in forms else ()
        if len(types) != len(order) or any(types[k] != types[j] for k, j in enumerate(order)):
            return None
        return lambda *xs: right(*(xs[k] for k in order))

    return twist


def values_exchanged(place: Place, right: Function) -> Function | None:
    """Exchange what a select chooses from."""
    return quaternary(lambda a, b, x, y: right(a, b, y, x)) if place.instr.name in ("phi.lt", "phi.eq") else None


def comparands_exchanged(place: Place, right: Function) -> Function | None:
    """Exchange what a select compares."""
    return quaternary(lambda a, b, x, y: right(b, a, x, y)) if place.instr.name == "phi.lt" else None


def only(which: int) -> Twist:
    """Return the twist that gives one operand in place of a result of the same type."""

    def twist(place: Place, right: Function) -> Function | None:
        instr = place.instr
        named = instr.name in ("add", "mul", "mul.shl", "mul.shr", "mul.hi", "mul.add", "phi.lt", "phi.eq")
        named = named or instr.name.startswith("reduce.") or instr.name in ("mov.trunc", "mov.cast", "mov.bits")
        if not named or instr.form.effect != "pure" or which >= len(instr.args):
            return None
        if place.operands[which] != instr.type:
            return None
        return lambda *xs: xs[which]

    return twist


def without_last_operand(place: Place, right: Function) -> Function | None:
    """Leave out the last of three or more operands."""
    if place.instr.form.effect != "pure" or len(place.instr.args) < 3 or not place.instr.name.startswith("reduce."):
        return None
    return lambda *xs: right(*xs[:-1])


def product_subtracted(place: Place, right: Function) -> Function | None:
    """Take c - a*b, a*b - c in turn: the sign of one operand of a fused operation."""
    if place.instr.name != "mul.add" or not place.result.dtype.is_float:
        return None
    return ternary(lambda x, y, z: right(x, y, -z))


# --- comparisons --------------------------------------------------------------------------------------------------


def compared(form: str, holds: Callable[[Array, Array], Array], *, floats: bool = True) -> Twist:
    """Return the twist of selects by another comparison."""

    def twist(place: Place, right: Function) -> Function | None:
        if place.instr.name != form or (floats and not place.operand.dtype.is_float):
            return None

        def choose(a: Array, b: Array, x: Array, y: Array) -> Array:
            return np.where(holds(a, b), x, y)

        return quaternary(choose)

    return twist


def _bits(x: Array) -> Array:
    return x.view(f"i{x.itemsize}")


def _with_nan(compare: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    return lambda a, b: compare(a, b) | np.isnan(a) | np.isnan(b)


def _total_less(a: Array, b: Array) -> Array:
    bits = (_bits(a), _bits(b))
    keys = [np.where(x < 0, ~x & np.iinfo(x.dtype).max, x ^ np.array(np.iinfo(x.dtype).min, x.dtype)) for x in bits]
    unsigned = [k.view(f"u{k.itemsize}") for k in keys]
    return unsigned[0] < unsigned[1]


def _signed_zeros_differ(a: Array, b: Array) -> Array:
    return (a == b) & (_bits(a) == _bits(b))


def _signed_zeros_are_ordered(a: Array, b: Array) -> Array:
    return (a < b) | ((a == 0) & (b == 0) & np.signbit(a) & ~np.signbit(b))


COMPARISONS_OF_ZEROS: tuple[Twist, ...] = (
    compared("phi.eq", _signed_zeros_differ),
    compared("phi.lt", _signed_zeros_are_ordered),
)
COMPARISONS_OF_NAN: tuple[Twist, ...] = (
    compared("phi.lt", _with_nan(np.less)),
    compared("phi.eq", _with_nan(np.equal)),
    compared("phi.eq", lambda a, b: _bits(a) == _bits(b)),
    compared("phi.eq", lambda a, b: (a == b) | (np.isnan(a) & np.isnan(b))),
    compared("phi.lt", lambda a, b: _bits(a) < _bits(b)),
    compared("phi.lt", lambda a, b: _bits(a).view(f"u{a.itemsize}") < _bits(b).view(f"u{b.itemsize}")),
    compared("phi.lt", _total_less),
    compared("phi.lt", lambda a, b: (a < b) | np.isnan(b)),
    compared("phi.lt", lambda a, b: (a < b) | np.isnan(a)),
)
OTHER_COMPARISONS: tuple[Twist, ...] = tuple(
    compared(form, holds, floats=False)
    for form, holds in (
        ("phi.lt", np.less_equal),
        ("phi.lt", np.greater),
        ("phi.lt", np.greater_equal),
        ("phi.lt", np.not_equal),
        ("phi.eq", np.not_equal),
        ("phi.eq", np.less_equal),
        ("phi.eq", np.greater_equal),
    )
)


# --- max and min of NaN and of zeros ------------------------------------------------------------------------------

Extreme = Callable[[Array, Array], Array]


def _extremes(left: Callable[[str], Extreme]) -> Twist:
    """Return the twist of float maxima and minima, of any number of operands, by another step."""

    def twist(place: Place, right: Function) -> Function | None:
        kind, dtype = place.instr.form.kind, place.operand.dtype if place.instr.args else None
        if not place.instr.name.startswith("reduce.m") or kind not in ("max", "min"):
            return None
        if dtype is None or not dtype.is_float:
            return None
        step = left(kind)

        def fold(first: Array, *rest: Array) -> Array:
            for x in rest:
                first = step(first, x)
            return first

        return fold

    return twist


def _by_select(kind: str) -> Extreme:
    return (lambda x, y: np.where(x < y, y, x)) if kind == "max" else (lambda x, y: np.where(y < x, y, x))


def _by_select_turned(kind: str) -> Extreme:
    return (lambda x, y: np.where(x > y, x, y)) if kind == "max" else (lambda x, y: np.where(x < y, x, y))


def _number_first(kind: str) -> Extreme:
    inner = _by_select(kind)
    return lambda x, y: np.where(np.isnan(x), y, np.where(np.isnan(y), x, inner(x, y)))


def _first_zero(kind: str) -> Extreme:
    inner = _by_select(kind)
    return lambda x, y: np.where(np.isnan(y), y, inner(x, y))


def _second_zero(kind: str) -> Extreme:
    inner = _by_select_turned(kind)
    return lambda x, y: np.where(np.isnan(x), x, inner(x, y))


def _by_bits(kind: str) -> Extreme:
    choose = np.maximum if kind == "max" else np.minimum
    return lambda x, y: choose(_bits(x), _bits(y)).view(x.dtype)


EXTREMES_OF_NAN = tuple(_extremes(how) for how in (_number_first, _by_select, _by_select_turned, _by_bits))
EXTREMES_OF_ZEROS = tuple(_extremes(how) for how in (_first_zero, _second_zero))


# --- literals -----------------------------------------------------------------------------------------------------


def literal(change: Callable[[Array, DType], Array | None]) -> Twist:
    """Return the twist of constants that reads them amiss."""

    def twist(place: Place, right: Function) -> Function | None:
        if place.instr.name != "mov.const" or place.instr.type is None:
            return None
        value: Array = right()
        changed = change(value, place.instr.type.dtype)
        if changed is None or changed.tobytes() == value.tobytes():
            return None
        return lambda: changed

    return twist


def _float_literal(change: Callable[[Array, DType], Array]) -> Callable[[Array, DType], Array | None]:
    def read(x: Array, dtype: DType) -> Array | None:
        if not dtype.is_float or np.isnan(x).any():
            return None
        return change(x, dtype).astype(dtype.numpy)

    return read


def _nan_literal(x: Array, dtype: DType) -> Array | None:
    return np.full_like(x, np.nan) if dtype.is_float and bool(np.isnan(x).any()) else None


def _false(x: Array, dtype: DType) -> Array | None:
    return None if dtype.is_float or dtype.is_int else np.zeros_like(x)


def _true(x: Array, dtype: DType) -> Array | None:
    return None if dtype.is_float or dtype.is_int else np.ones_like(x)


def _integer_literal(change: Callable[[Array, DType], Array]) -> Callable[[Array, DType], Array | None]:
    return lambda x, dtype: change(x, dtype).astype(dtype.numpy) if dtype.is_int else None


def _without_subnormals(x: Array, dtype: DType) -> Array:
    magnitude = np.abs(x.astype(np.float64))
    return np.where(magnitude < 2.0**dtype.emin, np.zeros_like(x), x)


def _digits(count: int) -> Callable[[Array, DType], Array]:
    return lambda x, dtype: np.array([[float(f"{float(x[0, 0]):.{count}g}")]])


def _decimals(x: Array, dtype: DType) -> Array:
    return np.array([[float(f"{float(x[0, 0]):f}")]])


def _short(narrower: DType) -> Callable[[Array, DType], Array]:
    return lambda x, dtype: narrow(x.astype(np.float64), narrower) if narrower.bits < dtype.bits else x


def _bits_of(width: int, *, signed: bool) -> Callable[[Array, DType], Array]:
    return lambda x, dtype: x.astype(f"{'i' if signed else 'u'}{width // 8}") if dtype.bits > width else x


def _no_infinity(x: Array, dtype: DType) -> Array:
    return np.where(np.isinf(x), np.zeros_like(x), x)


def _least_is_greatest(x: Array, dtype: DType) -> Array:
    return np.where(x == dtype.min_int, np.array(dtype.max_int, x.dtype), x) if dtype.is_signed else x


def _least_is_next(x: Array, dtype: DType) -> Array:
    return np.where(x == dtype.min_int, x + x.dtype.type(1), x) if dtype.is_signed else x


def _plus_zero(x: Array, dtype: DType) -> Array:
    return np.where(x == 0, np.zeros_like(x), x)


def _magnitude(x: Array, dtype: DType) -> Array:
    return np.abs(x)


def _whole(x: Array, dtype: DType) -> Array:
    return np.trunc(x)


LITERALS = (
    tuple(
        literal(_float_literal(change))
        for change in (
            _plus_zero,
            _without_subnormals,
            *(_digits(n) for n in (6, 7, 8, 15, 16, 17)),
            _decimals,
            *(_short(d) for d in (F32, F16, BF16)),
            _magnitude,
            _whole,
            _no_infinity,
        )
    )
    + tuple(
        literal(_integer_literal(change))
        for change in (
            *(_bits_of(w, signed=s) for w in (32, 16, 8) for s in (True, False)),
            _magnitude,
            _least_is_greatest,
            _least_is_next,
        )
    )
    + (literal(_nan_literal), literal(_false), literal(_true))
)
