"""What a faulty device computes in place of arithmetic, casts, comparisons and folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from portkit.conformance.mutants.forms import (
    Wrong,
    absolute,
    again,
    flushed,
    lanes,
    masked,
    raw,
    signless,
    stepped,
    truth,
)
from portkit.conformance.rewriting import Emitter
from portkit.spec.kernel import Instr
from portkit.spec.types import U32, DType, Type, decode, encode

# --- rounding (the exact result in f64, of operands that are no wider than f32) -----------------------------------


def _exact(i: Instr, e: Emitter) -> str:
    wide = [e.cast(a, "f64") for a in i.args]
    return wide[0] if i.name == "mov.cast" else e.op(i.name, *wide)


def toward_zero(i: Instr, e: Emitter) -> str:
    """Step back where the result was rounded away from zero."""
    right, exact = again(i, e), _exact(i, e)
    return e.op("phi.lt", absolute(e, exact), absolute(e, e.cast(right, "f64")), stepped(e, right, -1), right)


def upward(i: Instr, e: Emitter) -> str:
    """Round towards plus infinity."""
    right, exact = again(i, e), _exact(i, e)
    zero = e.const(e.types[right], 0.0)
    above = e.op("phi.lt", right, zero, stepped(e, right, -1), stepped(e, right, 1))
    return e.op("phi.lt", e.cast(right, "f64"), exact, above, right)


def ties_away(i: Instr, e: Emitter) -> str:
    """Round ties away from zero."""
    right, exact = again(i, e), _exact(i, e)
    away = stepped(e, right, 1)
    neighbours = e.op("add", e.cast(right, "f64"), e.cast(away, "f64"))
    return e.op("phi.eq", neighbours, e.op("add", exact, exact), away, right)


def flush_result(i: Instr, e: Emitter) -> str:
    """Give zero for a subnormal result."""
    return flushed(e, again(i, e))


def flush_operands(i: Instr, e: Emitter) -> str:
    """Take subnormal operands for zero."""
    return again(i, e, *(flushed(e, a) for a in i.args))


def overflow_is_finite(i: Instr, e: Emitter) -> str:
    """Give the largest finite number in place of infinity."""
    right = again(i, e)
    infinity = e.const(e.types[right], float("inf"))
    sign = masked(e, right, 1 << (e.types[right].dtype.bits - 1))
    limit = e.op("reduce.or", raw(e, stepped(e, infinity, -1)), raw(e, sign))
    return e.op("phi.eq", absolute(e, right), infinity, e.view(limit, e.types[right].dtype.name), right)


def two_roundings(i: Instr, e: Emitter) -> str:
    """Round the product, then the sum."""
    return e.op("add", e.op("mul", *i.args[:2]), i.args[2])


def nan_is_zero(i: Instr, e: Emitter) -> str:
    """Give zero in place of NaN."""
    right = again(i, e)
    return e.op("phi.eq", right, right, right, e.const(e.types[right], 0.0))


def scaled_by(factor: float) -> Wrong:
    """Make the fault of an approximation whose table is too short."""

    def wrong(i: Instr, e: Emitter) -> str:
        right = again(i, e)
        return e.op("mul", right, e.const(e.types[right], factor))

    wrong.__doc__ = f"Give {factor!r} times the result."
    return wrong


def infinite_from(bound: float) -> Wrong:
    """Make the fault of an approximation that overflows early."""

    def wrong(i: Instr, e: Emitter) -> str:
        right = again(i, e)
        least = e.const(e.types[i.args[0]], bound)
        return e.op("phi.lt", i.args[0], least, right, e.const(e.types[right], float("inf")))

    wrong.__doc__ = f"Give infinity, or more, from {bound} on."
    return wrong


def zero_sign_lost(i: Instr, e: Emitter) -> str:
    """Add +0 to the result, which loses the sign of a zero."""
    right = again(i, e)
    return e.op("add", right, e.const(e.types[right], 0.0))


def lost_beyond(bound: float) -> Wrong:
    """Make the fault of a function without reduction of large operands."""

    def wrong(i: Instr, e: Emitter) -> str:
        right, x = again(i, e), i.args[0]
        return e.op("phi.lt", e.const(e.types[x], bound), absolute(e, x), e.const(e.types[right], 0.0), right)

    wrong.__doc__ = f"Give zero for operands beyond {bound}."
    return wrong


def through_integers(dtype: str) -> Wrong:
    """Make the fault of truncating by way of an integer dtype that is too narrow."""

    def wrong(i: Instr, e: Emitter) -> str:
        x = i.args[0]
        return e.cast(e.cast(x, dtype), e.types[x].dtype.name)

    wrong.__doc__ = f"Truncate to {dtype} and convert back."
    return wrong


def floors(i: Instr, e: Emitter) -> str:
    """Round down, not toward zero."""
    right = again(i, e)
    below = e.op("add", right, e.const(e.types[right], -1.0))
    return e.op("phi.lt", i.args[0], right, below, right)


# --- integers -----------------------------------------------------------------------------------------------------


def saturates(i: Instr, e: Emitter) -> str:
    """Stop at the ends of the range instead of wrapping."""
    dtype = e.types[i.args[0]].dtype
    assert i.type is not None
    wide = e.op(i.name, *(e.cast(a, "i64") for a in i.args))
    low, high = (e.const(e.types[wide], bound) for bound in (dtype.min_int, dtype.max_int))
    return e.cast(e.op("reduce.min", e.op("reduce.max", wide, low), high), dtype.name)


def without_carry(i: Instr, e: Emitter) -> str:
    """Add the halves of 64 bits without the carry between them."""
    if e.types[i.args[0]].lanes > 1:
        return ""
    halves = [e.op("mov.bits", a, type=Type(U32, 2)) for a in i.args]
    return e.op("mov.bits", e.op("add", *halves), type=i.type)


def upper_half_only(i: Instr, e: Emitter) -> str:
    """Compare 64-bit integers by their upper halves."""
    a, b, x, y = i.args
    width = e.const(e.types[a], 32)
    return again(i, e, e.op("mul.shr", a, width), e.op("mul.shr", b, width), x, y)


def count_not_reduced(i: Instr, e: Emitter) -> str:
    """Give zero for a count of the width or more."""
    count = raw(e, i.args[1])
    right = again(i, e)
    width = e.const(e.types[count], e.types[count].dtype.bits)
    return e.op("phi.lt", count, width, right, e.const(e.types[right], 0))


def count_kept_to(bits: int) -> Wrong:
    """Make the fault of reducing a count to the width of another register."""

    def wrong(i: Instr, e: Emitter) -> str:
        right, count = again(i, e, i.args[0], masked(e, i.args[1], bits - 1)), raw(e, masked(e, i.args[1], bits - 1))
        width = e.const(e.types[count], e.types[count].dtype.bits)
        return e.op("phi.lt", count, width, right, e.const(e.types[right], 0))

    wrong.__doc__ = f"Take the shift count modulo {bits}."
    return wrong


def wrong_at(*operands: int) -> Wrong:
    """Make the fault of a circuit that is off by one for one pair of integers only."""

    def wrong(i: Instr, e: Emitter) -> str:
        right = again(i, e)
        changed = e.op("reduce.xor", right, e.const(e.types[right], 1))
        for operand, value in zip(i.args, operands, strict=False):
            type_ = e.types[operand]
            changed = e.op("phi.eq", operand, e.bits(type_, value & (1 << type_.dtype.bits) - 1), changed, right)
        return changed

    wrong.__doc__ = f"Miss the lowest bit where the operands are {' and '.join(map(str, operands))}."
    return wrong


# --- casts --------------------------------------------------------------------------------------------------------


def extended_otherwise(i: Instr, e: Emitter) -> str:
    """Extend signed integers with zeros, or unsigned ones with the sign."""
    x = i.args[0]
    return again(i, e, e.view(x, signless(e.types[x].dtype)))


def wraps(i: Instr, e: Emitter) -> str:
    """Convert to i64 and keep the low bits, where the spec saturates."""
    return again(i, e, e.cast(i.args[0], "i64"))


def rounds_half_up(i: Instr, e: Emitter) -> str:
    """Add a half before truncating."""
    x = i.args[0]
    return again(i, e, e.op("add", x, e.const(e.types[x], 0.5)))


def nan_gives_least(i: Instr, e: Emitter) -> str:
    """Give the least integer for NaN."""
    assert i.type is not None
    x, right = i.args[0], again(i, e)
    return e.op("phi.eq", x, x, right, e.const(i.type, i.type.dtype.min_int))


def by_way_of(dtype: str) -> Wrong:
    """Make the fault of a conversion in two steps."""

    def wrong(i: Instr, e: Emitter) -> str:
        return again(i, e, e.cast(i.args[0], dtype))

    wrong.__doc__ = f"Convert to {dtype} first."
    return wrong


def clamped_first(i: Instr, e: Emitter) -> str:
    """Saturate to the ends of the narrower integers, where the spec wraps."""
    assert i.type is not None
    x, dtype = i.args[0], i.type.dtype
    source = e.types[x].dtype
    low, high = (
        e.const(e.types[x], b) for b in (max(dtype.min_int, source.min_int), min(dtype.max_int, source.max_int))
    )
    return again(i, e, e.op("reduce.min", e.op("reduce.max", x, low), high))


# --- comparisons and selects --------------------------------------------------------------------------------------


def also_equal(i: Instr, e: Emitter) -> str:
    """Compare with less or equal."""
    a, b, x, _ = i.args
    return e.op("phi.eq", a, b, x, again(i, e))


def true_on_nan(i: Instr, e: Emitter) -> str:
    """Choose the first value where an operand is NaN."""
    a, b, x, _ = i.args
    right = again(i, e)
    return e.op("phi.eq", a, a, e.op("phi.eq", b, b, right, x), x)


def compares_bits(i: Instr, e: Emitter) -> str:
    """Compare the bits, so that NaN equals itself and zeros differ by sign."""
    a, b, x, y = i.args
    return again(i, e, raw(e, a), raw(e, b), x, y)


def compares_as(dtype: Callable[[DType], str]) -> Wrong:
    """Make the fault of converting to another dtype before comparing."""

    def wrong(i: Instr, e: Emitter) -> str:
        a, b, x, y = i.args
        return again(i, e, e.cast(a, dtype(e.types[a].dtype)), e.cast(b, dtype(e.types[b].dtype)), x, y)

    wrong.__doc__ = "Compare in another dtype."
    return wrong


def compares_in(dtype: str) -> Wrong:
    """Make the fault of comparing in a given dtype."""
    wrong = compares_as(lambda _: dtype)
    wrong.__doc__ = f"Compare in {dtype}."
    return wrong


def compares_with_other_sign(i: Instr, e: Emitter) -> str:
    """Compare signed integers as unsigned ones, or the reverse."""
    a, b, x, y = i.args
    other = signless(e.types[a].dtype)
    return again(i, e, e.view(a, other), e.view(b, other), x, y)


def quieted(i: Instr, e: Emitter) -> str:
    """Make signalling NaNs quiet."""
    right = again(i, e)
    dtype = e.types[right].dtype
    if not dtype.is_float:
        return ""
    bits = raw(e, right)
    quiet = e.op("reduce.or", bits, e.bits(e.types[bits], 1 << (dtype.precision - 2)))
    return e.op("phi.eq", right, right, right, e.view(quiet, dtype.name))


# --- folds of operands and of vectors -----------------------------------------------------------------------------


def nan_ignored(i: Instr, e: Emitter) -> str:
    """Select with a comparison, which loses a NaN on the right."""
    result = i.args[0]
    for operand in i.args[1:]:
        pair = (result, operand) if i.form.kind == "max" else (operand, result)
        result = e.op("phi.lt", *pair, operand, result)
    return result


def left_nan_ignored(i: Instr, e: Emitter) -> str:
    """Select with a comparison, which loses a NaN on the left."""
    result = i.args[0]
    for operand in i.args[1:]:
        pair = (operand, result) if i.form.kind == "max" else (result, operand)
        result = e.op("phi.lt", *pair, result, operand)
    return result


def zeros_by_order(i: Instr, e: Emitter) -> str:
    """Take the first operand of two zeros whatever their signs (strict kernels order -0 below +0)."""
    a, b = i.args[:2]
    return e.op("phi.eq", a, b, a, again(i, e)) if len(i.args) == 2 else ""


def first_four(i: Instr, e: Emitter) -> str:
    """Fold no more than the first four operands."""
    return again(i, e, *i.args[:4]) if len(i.args) > 4 else ""


def last_lane_lost(i: Instr, e: Emitter) -> str:
    """Fold all lanes of a vector but the last."""
    parts = lanes(e, i.args[0])[:-1]
    return _folded(i, e, parts)


def in_turn(i: Instr, e: Emitter) -> str:
    """Fold the lanes of a vector from left to right in its own dtype."""
    return _folded(i, e, lanes(e, i.args[0]))


def by_halves(i: Instr, e: Emitter) -> str:
    """Fold the lanes of a vector by halves in its own dtype, not in a wider one."""
    parts = lanes(e, i.args[0])
    while len(parts) > 1:
        half = len(parts) // 2
        parts = [_folded(i, e, list(pair)) for pair in zip(parts[:half], parts[half:], strict=True)]
    return parts[0]


def _folded(i: Instr, e: Emitter, parts: list[str]) -> str:
    kind = i.name.removeprefix("reduce.vec.")
    name = kind if kind in ("add", "mul") else f"reduce.{kind}"
    result = parts[0]
    for part in parts[1:]:
        result = e.op(name, result, part)
    return result


# --- moves --------------------------------------------------------------------------------------------------------


def literal(change: Callable[[DType, int], int]) -> Wrong:
    """Make the fault of misreading a literal, given by its dtype and bits."""

    def wrong(i: Instr, e: Emitter) -> str:
        assert i.type is not None
        read = change(i.type.dtype, i.imms[0])
        return "" if read == i.imms[0] else again(replace(i, imms=(read,)), e)

    wrong.__doc__ = change.__doc__
    return wrong


def six_digits(dtype: DType, bits: int) -> int:
    """Print floats with six digits."""
    value = float(decode(dtype, bits))
    return encode(dtype, float(f"{value:.6g}")) if abs(value) <= float(2**120) else bits


def low_half(dtype: DType, bits: int) -> int:
    """Print the low 32 bits of a literal."""
    return bits & 0xFFFFFFFF


def positive_zero(dtype: DType, bits: int) -> int:
    """Print -0 as 0."""
    return 0 if bits == 1 << (dtype.bits - 1) else bits


def no_subnormal(dtype: DType, bits: int) -> int:
    """Print subnormal literals as zero."""
    return 0 if 0 < bits < encode(dtype, 2.0**dtype.emin) else bits


def canonical_nan(dtype: DType, bits: int) -> int:
    """Print every NaN as the same."""
    return encode(dtype, float("nan")) if decode(dtype, bits) != decode(dtype, bits) else bits


def least_is_greatest(dtype: DType, bits: int) -> int:
    """Misread the least integer, whose magnitude has no literal, as the greatest."""
    return bits - 1 if bits == 1 << (dtype.bits - 1) else bits


def always_false(dtype: DType, bits: int) -> int:
    """Print true as false."""
    return 0


def lane_of_pair(i: Instr, e: Emitter) -> str:
    """Number the lanes of a pair the other way round."""
    return again(replace(i, imms=(i.imms[0] ^ 1,)), e)


def last_two_swapped(i: Instr, e: Emitter) -> str:
    """Swap the last two lanes."""
    return again(i, e, *i.args[:-2], i.args[-1], i.args[-2])


def last_lane_empty(i: Instr, e: Emitter) -> str:
    """Leave zero in the last lane."""
    parts = lanes(e, again(i, e))
    if e.types[parts[0]].dtype.name == "bool":
        return e.op("mov.pack", *parts[:-1], truth(e, parts[0], value=False))
    return e.op("mov.pack", *parts[:-1], e.const(e.types[parts[0]], 0))


def halves_swapped(i: Instr, e: Emitter) -> str:
    """Number the lanes from the other end, as on a big-endian machine."""
    assert i.type is not None
    if i.type.lanes > 1:
        return e.op("mov.pack", *lanes(e, again(i, e))[::-1])
    if e.types[i.args[0]].lanes > 1:
        return again(i, e, e.op("mov.pack", *lanes(e, i.args[0])[::-1]))
    return ""
