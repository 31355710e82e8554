"""Twists of float arithmetic: other roundings, less precision, flushing, signs of zero, NaN.

Letters: x and y operands, s a sum or product in f64 and e its error, so that s + e is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from portkit.conformance.hints.scenario import Function, Place, Twist, operation, ternary, unary
from portkit.conformance.hints.symptoms import Array
from portkit.reference.rounding import fma, narrow, to_odd, two_product, two_sum
from portkit.spec.types import BF16, F16, F32, F64, DType

Exact = Callable[..., tuple[Array, Array]]
Change = Callable[[Array], Array]


# --- exact results, rounded some other way ------------------------------------------------------------------------


def _wide(x: Array) -> Array:
    return x.astype(np.float64)


def _sum(x: Array, y: Array) -> tuple[Array, Array]:
    return two_sum(_wide(x), _wide(y))


def _product(x: Array, y: Array) -> tuple[Array, Array]:
    if x.dtype != np.float64:
        s = _wide(x) * _wide(y)
        return s, np.zeros_like(s)
    (mx, ex), (my, ey) = np.frexp(x), np.frexp(y)
    head, tail = two_product(mx, my)
    return np.ldexp(head, ex + ey), np.ldexp(tail, ex + ey)


def _fused(x: Array, y: Array, z: Array) -> tuple[Array, Array]:
    return two_sum(_wide(x) * _wide(y), _wide(z))


def _converted(x: Array) -> tuple[Array, Array]:
    s = _wide(x)
    if x.dtype.itemsize < 8 or x.dtype.kind == "f":
        return s, np.zeros_like(s)
    high = x >> 32
    return two_sum(_wide(high) * 2.0**32, _wide(x - (high << 32)))


def _quotient(x: Array) -> tuple[Array, Array]:
    s = 1.0 / _wide(x)
    return s, _finite(fma(-s, _wide(x), np.ones_like(s), F64) / _wide(x))


def _root(x: Array) -> tuple[Array, Array]:
    s = np.sqrt(_wide(x))
    return s, _finite(fma(-s, s, _wide(x), F64) / (2 * s))


def _finite(e: Array) -> Array:
    return np.where(np.isfinite(e), e, 0.0)


_EXACT: dict[str, Exact] = {
    "add": _sum,
    "mul": _product,
    "mul.add": _fused,
    "mov.cast": _converted,
    "mov.recip": _quotient,
    "mov.sqrt": _root,
}


def _exact(place: Place) -> Exact | None:
    """Return what computes an instruction exactly, None for a form that never rounds or is not known."""
    form, result = place.instr.name, place.instr.type
    if result is None or not result.dtype.is_float or (form == "mul.add" and result.dtype == F64):
        return None
    if form == "mov.cast" and not _narrows(place.operand.dtype, result.dtype):
        return None
    return _EXACT.get(form)


def _narrows(source: DType, target: DType) -> bool:
    return source.bits > target.bits or not source.is_float or source.precision > target.precision


Choose = Callable[[Array, Array, Array], Array]
"""Of each result, whether its magnitude becomes one step less or more (-1, 0, 1), by what is negative, how much is
missing from the magnitude of the nearest, and half of the step in that direction."""


def _toward_zero(negative: Array, missing: Array, half: Array) -> Array:
    return np.where(missing < 0, -1, 0)


def _down(negative: Array, missing: Array, half: Array) -> Array:
    return np.where(negative & (missing > 0), 1, np.where(~negative & (missing < 0), -1, 0))


def _up(negative: Array, missing: Array, half: Array) -> Array:
    return _down(~negative, missing, half)


def _away(negative: Array, missing: Array, half: Array) -> Array:
    return np.where(missing > 0, 1, 0)


def _ties_away(negative: Array, missing: Array, half: Array) -> Array:
    return np.where((missing > 0) & (missing == half), 1, 0)


def _ties_to_zero(negative: Array, missing: Array, half: Array) -> Array:
    return np.where((missing < 0) & (-missing == half), -1, 0)


def _rounded(choose: Choose, *, in_f64: bool = False) -> Twist:
    """Return the twist that rounds exact results, or those of f64, another way than to nearest even."""

    def twist(place: Place, right: Function) -> Function | None:
        exact, dtype = _exact(place), place.instr.type
        if exact is None or dtype is None:
            return None

        def compute(*xs: Array) -> Array:
            s, e = exact(*xs)
            return _round(s, np.zeros_like(e) if in_f64 else e, dtype.dtype, choose)

        return compute

    return twist


def _round(s: Array, e: Array, dtype: DType, choose: Choose) -> Array:
    bits = np.dtype(f"i{dtype.bytes}")
    if dtype == F64:
        nearest, missing = s, e
    else:
        x = to_odd(s, e)
        nearest = narrow(x, dtype)
        missing = x - _wide(nearest)
    negative = np.signbit(s)
    missing = np.where(negative, -missing, missing)
    magnitude = nearest.view(bits) & dtype_max(dtype)
    toward = np.where(missing < 0, -1, 1)
    beside = np.maximum(magnitude + toward, 0).astype(bits).view(dtype.numpy)
    half = np.abs(_wide(beside) - _wide(magnitude.view(dtype.numpy))) / 2
    step = np.where(np.isnan(missing), 0, choose(negative, missing, half))
    moved = np.maximum(magnitude + step, 0).astype(bits)
    sign = nearest.view(bits) & ~np.array(dtype_max(dtype), bits)
    sign = np.where((magnitude == 0) & (moved > 0) & negative, np.iinfo(bits).min, sign).astype(bits)
    return np.where(step != 0, moved | sign, nearest.view(bits)).view(dtype.numpy)


def dtype_max(dtype: DType) -> int:
    """Return the mask of all bits but the sign."""
    return (1 << (dtype.bits - 1)) - 1


toward_zero, downward, upward, away = map(_rounded, (_toward_zero, _down, _up, _away))
toward_zero_of_f64 = _rounded(_toward_zero, in_f64=True)
ties_away, ties_to_zero = map(_rounded, (_ties_away, _ties_to_zero))


# --- changes of operands and results ------------------------------------------------------------------------------


def on_results(change: Callable[[DType], Change | None]) -> Twist:
    """Return the twist that changes the float results of pure instructions that compute."""

    def twist(place: Place, right: Function) -> Function | None:
        result = place.instr.type
        changed = change(result.dtype) if _computes(place) and result is not None and result.dtype.is_float else None
        return None if changed is None else lambda *xs: changed(right(*xs))

    return twist


def on_operands(change: Callable[[DType], Change | None]) -> Twist:
    """Return the twist that changes the float operands of pure instructions that compute or compare."""

    def twist(place: Place, right: Function) -> Function | None:
        changed = change(place.operand.dtype) if _computes(place) and place.operand.dtype.is_float else None
        if changed is None:
            return None
        count = 2 if place.instr.name.startswith("phi.") else len(place.instr.args)
        return lambda *xs: right(*map(changed, xs[:count]), *xs[count:])

    return twist


def both(first: Twist, second: Twist) -> Twist:
    """Return one twist after the other."""

    def twist(place: Place, right: Function) -> Function | None:
        inner = first(place, right)
        return second(place, inner or right) or inner

    return twist


_MOVES = ("mov.const", "mov.bits", "mov.splat", "mov.lane", "mov.pack")


def _computes(place: Place) -> bool:
    instr = place.instr
    return bool(instr.args) and instr.form.effect == "pure" and instr.name not in _MOVES


def flushed(dtype: DType) -> Change:
    """Return what makes subnormals zeros of their sign."""
    return lambda x: np.where(_is_subnormal(x, dtype), np.copysign(np.zeros_like(x), x), x)


def flushed_to_plus(dtype: DType) -> Change:
    """Return what makes subnormals +0."""
    return lambda x: np.where(_is_subnormal(x, dtype), np.zeros_like(x), x)


def flushed_with_zeros(dtype: DType) -> Change:
    """Return what makes subnormals and zeros +0."""
    return lambda x: np.where(_is_subnormal(x, dtype) | (x == 0), np.zeros_like(x), x)


def _is_subnormal(x: Array, dtype: DType) -> Array:
    magnitude = x.view(f"i{dtype.bytes}") & dtype_max(dtype)
    return (magnitude > 0) & (magnitude < 1 << (dtype.precision - 1))


def _cut(bits_kept: int) -> Callable[[DType], Change | None]:
    """Return what drops all but the first bits of a significand."""

    def change(dtype: DType) -> Change | None:
        lost = dtype.precision - 1 - bits_kept
        if lost <= 0:
            return None
        bits = np.dtype(f"i{dtype.bytes}")
        mask = np.array(-1 << lost, bits)
        return lambda x: (x.view(bits) & mask).view(dtype.numpy)

    return change


def _shortened(bits_kept: int) -> Callable[[DType], Change | None]:
    """Return what rounds a significand to its first bits, ties to even, in the range of the dtype."""

    def change(dtype: DType) -> Change | None:
        lost = dtype.precision - 1 - bits_kept
        if lost <= 0:
            return None
        bits = np.dtype(f"i{dtype.bytes}")

        def short(x: Array) -> Array:
            raw = x.view(bits)
            up = (np.array((1 << (lost - 1)) - 1, bits) + ((raw >> lost) & 1)).astype(bits)
            return np.where(np.isfinite(x), ((raw + up) & np.array(-1 << lost, bits)).view(dtype.numpy), x)

        return short

    return change


def through(narrower: DType) -> Callable[[DType], Change | None]:
    """Return what passes values through a narrower format."""

    def change(dtype: DType) -> Change | None:
        if dtype.precision <= narrower.precision:
            return None
        return lambda x: narrow(_wide(x), narrower).astype(dtype.numpy)

    return change


flush_results, flush_operands = on_results(flushed), on_operands(flushed)
flush_all = both(flush_operands, flush_results)
flush_results_to_plus, flush_operands_to_plus = on_results(flushed_to_plus), on_operands(flushed_to_plus)
flush_all_to_plus = both(flush_operands_to_plus, flush_results_to_plus)
flush_results_with_zeros = on_results(flushed_with_zeros)
SHORT_OPERANDS = tuple(on_operands(how(bits)) for bits in (10, 7, 16, 3, 23) for how in (_cut, _shortened))
NARROW_RESULTS = tuple(on_results(how) for how in (*map(through, (F16, BF16, F32)), _shortened(10), _cut(10), _cut(7)))


def computed_in(other: DType) -> Twist:
    """Return the twist that converts float operands to another format, computes there, and converts back."""

    def twist(place: Place, right: Function) -> Function | None:
        result, name = place.instr.type, place.instr.name
        if result is None or not _computes(place) or name == "mov.cast" or result.dtype == other:
            return None
        count = 2 if name.startswith("phi.") else len(place.instr.args)
        if not all(t.dtype.is_float for t in place.operands[:count]):
            return None
        if name.startswith("phi."):
            return lambda *xs: right(*(_convert(x, other).astype(x.dtype) for x in xs[:count]), *xs[count:])
        inside = operation(name, [t.with_dtype(other) for t in place.operands])
        back = operation("mov.cast", [result.with_dtype(other)], result)
        return lambda *xs: back(inside(*(_convert(x, other) for x in xs)))

    return twist


COMPUTED_ELSEWHERE = tuple(map(computed_in, (F32, F16, BF16)))


def cast_of_cut(place: Place, right: Function) -> Function | None:
    """Drop the bits of the operand that the result has no room for, then convert; subnormal results still round."""
    if place.instr.name != "mov.cast" or not (place.operand.dtype.is_float and place.result.dtype.is_float):
        return None
    cut = _cut(place.result.dtype.precision - 1)(place.operand.dtype)
    return None if cut is None else unary(lambda x: right(cut(x)))


# --- sign of zero, infinities -------------------------------------------------------------------------------------


def _to_plus(dtype: DType) -> Change:
    return lambda x: np.where(x == 0, np.zeros_like(x), x)


def _to_minus(dtype: DType) -> Change:
    return lambda x: np.where(x == 0, -np.zeros_like(x), x)


def _other_zero(dtype: DType) -> Change:
    return lambda x: np.where(x == 0, -x, x)


def _saturated(dtype: DType) -> Change:
    """Infinities become the largest finite number."""
    most = np.array(((1 << (dtype.bits - 1)) - 1) & (-1 << (dtype.precision - 1)), f"i{dtype.bytes}") - 1
    largest = most.astype(f"i{dtype.bytes}").view(dtype.numpy)
    return lambda x: np.where(np.isinf(x), np.copysign(largest, x), x)


def _nan_for_infinity(dtype: DType) -> Change:
    return lambda x: np.where(np.isinf(x), np.full_like(x, np.nan), x)


def _zero_for_nan(dtype: DType) -> Change:
    return lambda x: np.where(np.isnan(x), np.zeros_like(x), x)


ZERO_SIGNS = tuple(
    how(change)
    for change in (_to_plus, _other_zero, _to_minus)
    for how in (on_results, on_operands)
)  # fmt: skip
OVERFLOWS = (on_results(_saturated), on_results(_nan_for_infinity), on_operands(_saturated))
NAN_IS_ZERO = (on_results(_zero_for_nan), on_operands(_zero_for_nan))


# --- fused multiply-add -------------------------------------------------------------------------------------------


def fma_in_two_roundings(place: Place, right: Function) -> Function | None:
    """Round the product before adding."""
    if place.instr.name != "mul.add":
        return None
    product = place.instead(name="mul", args=place.instr.args[:2])
    total = place.instead(name="add", args=place.instr.args[1:])
    return ternary(lambda x, y, z: total(product(x, y), z))


def fma_through_f64(place: Place, right: Function) -> Function | None:
    """Round the sum to f64, then again."""
    if place.instr.name != "mul.add" or place.result.dtype not in (F32, F16, BF16):
        return None
    dtype = place.result.dtype
    return ternary(lambda x, y, z: narrow(_wide(x) * _wide(y) + _wide(z), dtype))


def half_through_f32(place: Place, right: Function) -> Function | None:
    """Compute an f16 or bf16 `mul.add` in f32, then round again."""
    if place.instr.name != "mul.add" or place.result.dtype not in (F16, BF16):
        return None
    dtype = place.result.dtype

    def fused(x: Array, y: Array, z: Array) -> Array:
        wide = fma(x.astype(np.float32), y.astype(np.float32), z.astype(np.float32), F32)
        return wide.astype(dtype.numpy)

    return ternary(fused)


def cast_through(middle: DType) -> Twist:
    """Return the twist of a cast that rounds to another float format on the way."""

    def twist(place: Place, right: Function) -> Function | None:
        if place.instr.name != "mov.cast" or not place.result.dtype.is_float or place.operand.dtype == middle:
            return None
        target = place.result.dtype
        return unary(lambda x: narrow(_wide(_convert(x, middle)), target))

    return twist


def _convert(x: Array, dtype: DType) -> Any:
    s, e = _converted(x)
    return s if dtype == F64 else narrow(to_odd(s, e), dtype)
