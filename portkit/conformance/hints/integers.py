"""Twists of integers and conversions: signedness, widths, shift counts, saturation, rounding to integers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from portkit.conformance.hints.scenario import Function, Place, Twist, binary, operation, quaternary, unary
from portkit.conformance.hints.symptoms import Array
from portkit.spec.types import BF16, DTYPES, F16, F64, I32, I64, DType

_OTHER_SIGN = {d: DTYPES[("u" if d.is_signed else "i") + d.name[1:]] for d in DTYPES.values() if d.is_int}


# --- signedness ---------------------------------------------------------------------------------------------------


def other_sign(*forms: str) -> Twist:
    """Return the twist that reads integer operands with the other signedness."""

    def twist(place: Place, right: Function) -> Function | None:
        if place.instr.name not in forms or place.operand.dtype not in _OTHER_SIGN:
            return None
        return _as_other(place, place.operand.dtype, _OTHER_SIGN[place.operand.dtype])

    return twist


def _as_other(place: Place, own: DType, other: DType) -> Function:
    """Return the right function with operands of one dtype seen as another of the same width."""
    seen = [t.with_dtype(other) if t.dtype == own else t for t in place.operands]
    explicit = place.result if place.instr.name == "mov.cast" else None
    function, result = operation(place.instr.name, seen, explicit), place.result.dtype

    def compute(*xs: Array) -> Array:
        viewed = (x.view(other.numpy) if t.dtype == own else x for x, t in zip(xs, place.operands, strict=True))
        found: Array = function(*viewed)
        return found.view(result.numpy) if result == own else found

    return compute


def group_of_other_sign(place: Place, right: Function) -> Function | None:
    """Compare the lanes of a group with the other signedness."""
    form = place.instr.name
    if form not in ("reduce.group.max", "reduce.group.min") or place.operand.dtype not in _OTHER_SIGN:
        return None
    own, other, lanes = place.operand.dtype.numpy, _OTHER_SIGN[place.operand.dtype].numpy, place.kernel.lanes
    fold = np.maximum if form.endswith("max") else np.minimum

    def compute(mask: Array | None, x: Array) -> Array:
        every = np.broadcast_to(x, (len(x), lanes, *x.shape[2:]))
        return fold.reduce(every.view(other), axis=1, keepdims=True).view(own)

    return compute


def mul_hi_of_mixed_signs(place: Place, right: Function) -> Function | None:
    """Take the second factor of a high product as unsigned, or the first."""
    dtype = place.operand.dtype if place.instr.name == "mul.hi" else None
    if dtype is None or not dtype.is_signed or dtype.bits > 32:
        return None
    low = np.int64((1 << dtype.bits) - 1)
    return binary(lambda x, y: ((x.astype(np.int64) * (y.astype(np.int64) & low)) >> dtype.bits).astype(dtype.numpy))


def result_as_other_sign(place: Place, right: Function) -> Function | None:
    """Convert a float to the integer of the other signedness, and take its bits."""
    if place.instr.name != "mov.cast" or not place.operand.dtype.is_float or place.result.dtype not in _OTHER_SIGN:
        return None
    dtype = place.result.dtype
    other = operation("mov.cast", place.operands, place.result.with_dtype(_OTHER_SIGN[dtype]))
    return unary(lambda x: other(x).view(dtype.numpy))


# --- shifts -------------------------------------------------------------------------------------------------------


def shift(count: Callable[[Array, int], Array], *, vanish: bool, signs: bool = True) -> Twist:
    """Return the twist of shifts whose count is reduced otherwise.

    `vanish`: bits shifted out do not come back; `signs`: the sign takes their place where it does so in range.
    """

    def twist(place: Place, right: Function) -> Function | None:
        if place.instr.name not in ("mul.shl", "mul.shr"):
            return None
        dtype = place.operand.dtype

        def compute(x: Array, n: Array) -> Array:
            reduced = count(n.view(f"u{n.itemsize}"), dtype.bits)
            kept: Array = right(x, reduced.astype(n.dtype))
            if not vanish:
                return kept
            gone = x >> (dtype.bits - 1) if signs and place.instr.name == "mul.shr" else np.zeros_like(x)
            return np.where(reduced >= dtype.bits, gone, kept)

        return binary(compute)

    return twist


def _unreduced(n: Array, bits: int) -> Array:
    return n


def _of_words(n: Array, bits: int) -> Array:
    return n & 31


def _of_double_words(n: Array, bits: int) -> Array:
    return n & 63


def _of_bytes(n: Array, bits: int) -> Array:
    return n & 255


def _clamped(n: Array, bits: int) -> Array:
    return np.minimum(n, bits - 1)


def _one_off(n: Array, bits: int) -> Array:
    return n % max(1, bits - 1)


SHIFT_COUNTS = (
    *(
        shift(count, vanish=True, signs=signs)
        for signs in (True, False)
        for count in (_unreduced, _of_words, _of_double_words, _of_bytes)
    ),
    *(shift(count, vanish=False) for count in (_of_words, _clamped, _one_off)),
)


# --- widths -------------------------------------------------------------------------------------------------------


def saturating(place: Place, right: Function) -> Function | None:
    """Add and multiply integers, and convert them to narrower ones, with saturation where the spec wraps."""
    result = place.instr.type
    if place.instr.name not in ("add", "mul", "mov.cast") or result is None or result.dtype not in _OTHER_SIGN:
        return None
    if any(not t.dtype.is_int or (t.dtype.bits > 32 and len(place.operands) > 1) for t in place.operands):
        return None
    least, most, own = result.dtype.min_int, result.dtype.max_int, result.dtype.numpy

    def compute(*xs: Array) -> Array:
        wide = [x if x.dtype.itemsize == 8 else x.astype(np.int64) for x in xs]
        exact = wide[0] if len(wide) == 1 else wide[0] + wide[1] if place.instr.name == "add" else wide[0] * wide[1]
        limits = np.iinfo(exact.dtype)
        return exact.clip(max(least, limits.min), min(most, limits.max)).astype(own)

    return compute


def in_fewer_bits(bits: int, *, signed: bool) -> Twist:
    """Return the twist that computes integers, or converts them, in fewer bits than the dtype has."""
    narrow = np.dtype(f"{'i' if signed else 'u'}{bits // 8}")

    def twist(place: Place, right: Function) -> Function | None:
        result = place.instr.type
        if result is None or not result.dtype.is_int or result.dtype.bits <= bits or not _computes(place):
            return None
        own = result.dtype.numpy
        return lambda *xs: right(*xs).astype(narrow).astype(own)

    return twist


def operands_in_fewer_bits(bits: int, *, signed: bool) -> Twist:
    """Return the twist that drops the upper bits of integer operands."""
    narrow = np.dtype(f"{'i' if signed else 'u'}{bits // 8}")

    def twist(place: Place, right: Function) -> Function | None:
        if not _computes(place) or not place.operand.dtype.is_int or place.operand.dtype.bits <= bits:
            return None
        count = 2 if place.instr.name.startswith("phi.") else len(place.instr.args)
        return lambda *xs: right(*(x.astype(narrow).astype(x.dtype) for x in xs[:count]), *xs[count:])

    return twist


def through_float(precision: DType) -> Twist:
    """Return the twist that computes integers in a float format."""

    def twist(place: Place, right: Function) -> Function | None:
        result = place.instr.type
        if result is None or place.instr.name not in ("add", "mul") or not result.dtype.is_int:
            return None
        compute = np.add if place.instr.name == "add" else np.multiply
        back = operation("mov.cast", [result.with_dtype(F64)], result)
        return binary(lambda x, y: back(compute(x.astype(precision.numpy), y.astype(precision.numpy)).astype(float)))

    return twist


def operands_of(bits: int) -> Twist:
    """Return the twist of products of integers, of which each is taken with so many bits."""

    def twist(place: Place, right: Function) -> Function | None:
        if place.instr.name not in ("mul", "mul.hi") or place.operand.dtype.bits <= bits:
            return None
        if not place.operand.dtype.is_int:
            return None
        lost = place.operand.dtype.bits - bits
        return binary(lambda x, y: right(x << lost >> lost, y << lost >> lost))

    return twist


def top_bits_of(bits: int) -> Twist:
    """Return the twist of products of integers that drops the lowest bits of the operands."""

    def twist(place: Place, right: Function) -> Function | None:
        if place.instr.name not in ("mul", "mul.hi") or not place.operand.dtype.is_int:
            return None
        return binary(lambda x, y: right(x >> bits << bits, y >> bits << bits))

    return twist


SHORT_FACTORS = (operands_of(24), operands_of(16), top_bits_of(8))


def compared_by(key: Callable[[Array], Array]) -> Twist:
    """Return the twist of comparisons of integers by something that is not the whole of them."""

    def twist(place: Place, right: Function) -> Function | None:
        if place.instr.name not in ("phi.lt", "phi.eq") or not place.operand.dtype.is_int:
            return None
        holds = np.less if place.instr.name == "phi.lt" else np.equal

        def choose(a: Array, b: Array, x: Array, y: Array) -> Array:
            return np.where(holds(key(a), key(b)), x, y)

        return quaternary(choose)

    return twist


def _upper_half(x: Array) -> Array:
    return x >> (4 * x.itemsize)


def _in_f32(x: Array) -> Array:
    return x.astype(np.float32)


def _in_f64(x: Array) -> Array:
    return x.astype(np.float64)


SHORT_COMPARISONS = tuple(map(compared_by, (_upper_half, _in_f32, _in_f64)))


def low_half_of_product(place: Place, right: Function) -> Function | None:
    """Lose the carry between the halves of a high product of words."""
    if place.instr.name != "mul.hi" or place.operand.dtype.bits != 32 or place.operand.dtype.is_signed:
        return None

    def compute(x: Array, y: Array) -> Array:
        a, b = x.astype(np.uint64), y.astype(np.uint64)
        middle = (a >> 16) * (b & 0xFFFF) + (a & 0xFFFF) * (b >> 16)
        return ((a >> 16) * (b >> 16) + (middle >> 16)).astype(np.uint32)

    return binary(compute)


def _computes(place: Place) -> bool:
    moves = ("mov.const", "mov.bits", "mov.splat", "mov.lane", "mov.pack")
    return bool(place.instr.args) and place.instr.form.effect == "pure" and place.instr.name not in moves


# --- from float to integer ----------------------------------------------------------------------------------------


def to_integer(convert: Callable[[Array, DType], Array]) -> Twist:
    """Return the twist of casts from float to integer; `convert` takes f64."""

    def twist(place: Place, right: Function) -> Function | None:
        if place.instr.name != "mov.cast" or not place.operand.dtype.is_float or not place.result.dtype.is_int:
            return None
        dtype = place.result.dtype
        return unary(lambda x: convert(x.astype(np.float64), dtype))

    return twist


def _limits(dtype: DType) -> tuple[float, float]:
    """Return the least value of an integer dtype and the first above it, exact as f64."""
    return float(dtype.min_int), 2.0 ** (dtype.bits - dtype.is_signed)


def _inside(x: Array, dtype: DType) -> Array:
    low, high = _limits(dtype)
    return (x > low - 1) & (x < high)


def _saturated(x: Array, dtype: DType) -> Array:
    """Return truncated values as integers, saturated, NaN 0: what the spec wants."""
    low, high = _limits(dtype)
    known = np.where(np.isnan(x), 0.0, np.trunc(x))
    clipped = known.clip(low, np.nextafter(high, 0.0)).astype(dtype.numpy)
    return np.where(known >= high, np.array(dtype.max_int, dtype.numpy), clipped)


def _wrapped(wide: DType) -> Callable[[Array, DType], Array]:
    """Return the conversion through a wider integer, whose low part is kept; NaN and what is beyond it as on x86."""

    def convert(x: Array, dtype: DType) -> Array:
        whole = np.where(_inside(x, wide), np.trunc(x), float(wide.min_int))
        return whole.astype(wide.numpy).astype(dtype.numpy)

    return convert


def _wrapped_saturated(wide: DType) -> Callable[[Array, DType], Array]:
    """Return the conversion through a wider integer that saturates there."""
    return lambda x, dtype: _saturated(x, wide).astype(dtype.numpy)


def _beyond(value: Callable[[DType], int], nan: Callable[[DType], int]) -> Callable[[Array, DType], Array]:
    """Return the conversion that gives fixed values for what does not fit, and for NaN."""

    def convert(x: Array, dtype: DType) -> Array:
        kept = np.where(_inside(x, dtype), _saturated(x, dtype), np.array(value(dtype), dtype.numpy))
        return np.where(np.isnan(x), np.array(nan(dtype), dtype.numpy), kept)

    return convert


def _nan_is(value: Callable[[DType], int]) -> Callable[[Array, DType], Array]:
    return lambda x, dtype: np.where(np.isnan(x), np.array(value(dtype), dtype.numpy), _saturated(x, dtype))


def _rounded(step: Callable[[Array], Array]) -> Callable[[Array, DType], Array]:
    return lambda x, dtype: _saturated(step(x), dtype)


def _half_added(x: Array) -> Array:
    return x + 0.5


def _half_added_short(x: Array) -> Array:
    return (x.astype(np.float32) + np.float32(0.5)).astype(np.float64)


def _half_added_in(dtype: DType) -> Twist:
    """Return the twist of casts to integer that add a half in the operand's own format first."""

    def twist(place: Place, right: Function) -> Function | None:
        if place.instr.name != "mov.cast" or place.operand.dtype != dtype or not place.result.dtype.is_int:
            return None
        add, half = operation("add", [place.operand] * 2), np.array([[0.5]], dtype.numpy)
        return unary(lambda x: right(add(x, half)))

    return twist


def _half_away(x: Array) -> Array:
    return x + np.copysign(0.5, x)


def _least(dtype: DType) -> int:
    return dtype.min_int


def _most(dtype: DType) -> int:
    return dtype.max_int


def _zero(dtype: DType) -> int:
    return 0


WRAPPING_CASTS = tuple(
    to_integer(convert)
    for convert in (
        *(how(wide) for wide in (I64, I32) for how in (_wrapped, _wrapped_saturated)),
        *(_beyond(value, nan) for value in (_least, _zero, _most) for nan in (_zero, _least, _most)),
    )
)


def trunc_through(dtype: DType) -> Twist:
    """Return the twist of `mov.trunc` by way of an integer format."""

    def twist(place: Place, right: Function) -> Function | None:
        if place.instr.name != "mov.trunc":
            return None
        inside = operation("mov.cast", [place.operand], place.operand.with_dtype(dtype))
        back = operation("mov.cast", [place.operand.with_dtype(dtype)], place.operand)
        return unary(lambda x: back(inside(x)))

    return twist


def trunc_rounds(step: Callable[[Array], Array]) -> Twist:
    """Return the twist of `mov.trunc` that rounds another way."""

    def twist(place: Place, right: Function) -> Function | None:
        if place.instr.name != "mov.trunc":
            return None
        own = place.operand.dtype.numpy
        return unary(lambda x: step(x.astype(np.float64)).astype(own))

    return twist


TRUNC_THROUGH = tuple(map(trunc_through, (I32, I64)))
TRUNC_ROUNDS = tuple(map(trunc_rounds, (np.floor, np.rint, np.ceil)))
NAN_CASTS = tuple(to_integer(_nan_is(value)) for value in (_least, _most))
ROUNDING_CASTS = tuple(
    to_integer(_rounded(step))
    for step in (np.rint, np.floor, np.ceil, _half_added, _half_added_short, _half_away)
) + tuple(map(_half_added_in, (F16, BF16)))  # fmt: skip
FEWER_BITS = tuple(how(bits, signed=s) for bits in (32, 16, 8) for s in (True, False) for how in (in_fewer_bits,))
FEWER_OPERAND_BITS = tuple(operands_in_fewer_bits(bits, signed=s) for bits in (32, 16, 8) for s in (True, False))
