"""Kernels of bit arithmetic: threefry, int4 weights, half conversion by bits, exp2 and log2 from base forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from portkit.conformance.case import Case, Tier
from portkit.conformance.cases import derived, inputs, ties
from portkit.conformance.cases.draws import Draws, Patterns, as_array
from portkit.conformance.cases.kernelcase import Arrays, KernelCase, Scalars, rows_to_cases
from portkit.conformance.cases.shapes import KERNEL_NEEDS, lane_kernel
from portkit.conformance.cases.specials import finite_specials, nonfinite_specials
from portkit.conformance.cases.writing import Writer
from portkit.contract import Capabilities
from portkit.spec.builder import Reg
from portkit.spec.kernel import Kernel, Numeric
from portkit.spec.types import DTYPES

F32, F16 = DTYPES["f32"], DTYPES["f16"]
ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
PARITY = 0x1BD11BDA
ROUNDS = 20


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the kernels of bit arithmetic."""
    yield from rows_to_cases(_rows(), capabilities)


# --- threefry -----------------------------------------------------------------------------------------------------


def rotate_left(w: Writer, x: Reg, count: int) -> Reg:
    """Return a u32 rotated left, from two shifts."""
    return w.bor(w.shl(x, count), w.shr(x, 32 - count))


def threefry_kernel(numeric: Numeric = "fast") -> Kernel:
    """Threefry-2x32 with 20 rounds of the counter (i, n) under a key given as scalars.

    Source: J. K. Salmon and others, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
    """
    w = Writer("threefry", numeric)
    out = w.buffer("out", "u32", ("n", 2), "write")
    size, groups = w.scalar("n", "i32"), w.scalar("groups", "i32")
    keys = [w.bits(w.scalar(name, "i32"), "u32") for name in ("key0", "key1")]
    group = w.grid(groups)
    item = w.index(group, 64, w.lane(64))
    inside = w.lt(item, size)
    schedule = [*keys, w.xor(w.xor(keys[0], keys[1]), PARITY)]
    x0, x1 = w.add(w.bits(item, "u32"), schedule[0]), w.add(w.bits(size, "u32"), schedule[1])
    for step in range(ROUNDS):
        x0 = w.add(x0, x1)
        x1 = w.xor(rotate_left(w, x1, ROTATIONS[step % 8]), x0)
        if step % 4 == 3:
            turn = step // 4 + 1
            x0 = w.add(x0, schedule[turn % 3])
            x1 = w.plus(w.add(x1, schedule[(turn + 1) % 3]), turn)
    place = w.times(item, 2)
    w.store(out, place, x0, gate=inside)
    w.store(out, w.plus(place, 1), x1, gate=inside)
    return w.build()


def _threefry_data(key0: int, key1: int, case_id: str) -> tuple[Scalars, Arrays]:
    del case_id
    return {"n": 150, "groups": 3, "key0": key0, "key1": key1}, {}


# --- int4 ---------------------------------------------------------------------------------------------------------


def int4_kernel(numeric: Numeric = "fast") -> Kernel:
    """Eight signed 4-bit weights in each u32 word, scaled per block of 32 weights: out = weight * scale."""
    w = Writer("int4", numeric)
    packed, scale = w.buffer("packed", "u32", "words", "read"), w.buffer("scale", "f32", "words", "read")
    out = w.buffer("out", "f32", ("words", 8), "write")
    words, groups = w.scalar("words", "i32"), w.scalar("groups", "i32")
    group = w.grid(groups)
    item = w.index(group, 32, w.lane(32))
    inside = w.lt(item, words)
    word = w.load(packed, item, gate=inside, other=w.const("u32", 0))
    factor = w.load(scale, w.shr(item, 2), gate=inside, other=w.f32(0.0))
    for k in range(8):
        signed = w.shr(w.bits(w.shl(word, 28 - 4 * k), "i32"), 28)
        w.store(out, w.index(item, 8, w.i32(k)), w.mul(w.cast(signed, "f32"), factor), gate=inside)
    return w.build()


def _int4_data(words: int, case_id: str) -> tuple[Scalars, Arrays]:
    draws = Draws(case_id)
    scales = as_array(F32, draws.floats(F32, -6, -2, words))
    packed = draws.bits(32, words).astype(np.uint32)
    return {"words": words, "groups": (words + 31) // 32}, {"packed": packed, "scale": scales}


# --- half precision by bits ---------------------------------------------------------------------------------------


def _half_to_float(w: Writer, item: Reg, value: Reg) -> Reg:
    """The f32 bits of the f16 in the low half of a word: exponent moved by a product, infinities and NaN restored."""
    magnitude = w.shl(w.band(value, 0x7FFF), 13)
    sign = w.shl(w.band(value, 0x8000), 16)
    scaled = w.bits(w.mul(w.bits(magnitude, "f32"), w.bits_const("f32", 0x77800000)), "i32")
    special = w.lt(w.i32(0x7BFF), w.band(value, 0x7FFF))
    return w.bor(w.choose(special, w.bor(magnitude, 0x7F800000), scaled), sign)


def _float_to_half(w: Writer, item: Reg, value: Reg) -> Reg:
    """The f16 bits of an f32, rounded to nearest even by adding half of what is dropped; subnormals by a float add."""
    magnitude = w.band(value, 0x7FFFFFFF)
    sign = w.shr(w.bits(w.band(value, -(2**31)), "u32"), 16)
    odd = w.band(w.shr(magnitude, 13), 1)
    normal = w.shr(w.plus(w.add(magnitude, odd), 0xFFF - (112 << 23)), 13)
    bias = w.f32(0.5)
    small = w.minus(w.bits(w.add(w.bits(magnitude, "f32"), bias), "i32"), w.bits(bias, "i32"))
    half = w.choose(w.below(magnitude, 113 << 23), small, normal)
    half = w.choose(w.lt(w.i32(0x477FEFFF), magnitude), w.i32(0x7C00), half)
    half = w.choose(w.lt(w.i32(0x7F800000), magnitude), w.i32(0x7E00), half)
    return w.bor(half, w.bits(sign, "i32"))


def _all_halves(case_id: str) -> tuple[Scalars, Arrays]:
    """Every f16, infinities and NaNs included."""
    del case_id
    patterns = np.arange(1 << 16, dtype=np.int32)
    return {"n": len(patterns), "groups": len(patterns) // 64}, {"a": patterns}


def _floats_for_half(case_id: str) -> tuple[Scalars, Arrays]:
    """f32 values at and beside the ties of f16, the special values of both, random ones."""
    (near,) = ties.cast_ties(case_id, F32, F16)
    special = np.array(finite_specials(F32) + nonfinite_specials(F32), dtype=np.uint64)
    values = np.concatenate([near, special, inputs.random_values(Draws(f"{case_id}:wide"), F32, 500)])
    bits = values.astype(np.uint32).view(np.int32)
    return {"n": len(bits), "groups": (len(bits) + 63) // 64}, {"a": bits}


# --- functions from base forms --------------------------------------------------------------------------------------


def function_kernel(name: str, numeric: Numeric = "fast") -> Kernel:
    """out[i] = f(a[i]) with f written in base forms."""
    return lane_kernel(f"derived_{name}", partial(_apply, name), numeric, "f32")


def _apply(name: str, w: Writer, item: Reg, value: Reg) -> Reg:
    return _FUNCTIONS[name](w, value)


_FUNCTIONS: dict[str, Callable[[Writer, Reg], Reg]] = {
    "exp2": derived.exp2,
    "log2": derived.log2,
    "recip": derived.recip,
    "rsqrt": derived.rsqrt,
}


def _function_data(name: str, case_id: str) -> tuple[Scalars, Arrays]:
    draws = Draws(case_id)
    values = _domain(draws, name)
    return {"n": len(values), "groups": (len(values) + 63) // 64}, {"a": as_array(F32, values)}


def _domain(draws: Draws, name: str) -> Patterns:
    if name == "exp2":
        special = np.array(finite_specials(F32) + nonfinite_specials(F32), dtype=np.uint64)
        return np.concatenate([special, draws.floats(F32, -20, 7, 2000)])
    wide = draws.floats(F32, -100, 100, 2000)
    return wide if name == "recip" else wide & np.uint64(0x7FFFFFFF)


# --- integer tricks -----------------------------------------------------------------------------------------------


def _population_count(w: Writer, item: Reg, value: Reg) -> Reg:
    x = w.bits(value, "u32")
    x = w.add(x, w.times(w.band(w.shr(x, 1), 0x55555555), 2**32 - 1))
    x = w.add(w.band(x, 0x33333333), w.band(w.shr(x, 2), 0x33333333))
    x = w.band(w.add(x, w.shr(x, 4)), 0x0F0F0F0F)
    return w.bits(w.shr(w.times(x, 0x01010101), 24), "i32")


def _reverse_bits(w: Writer, item: Reg, value: Reg) -> Reg:
    x = w.bits(value, "u32")
    for shift, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF)):
        x = w.bor(w.band(w.shr(x, shift), mask), w.shl(w.band(x, mask), shift))
    return w.bits(rotate_left(w, x, 16), "i32")


def _long_product(w: Writer, item: Reg, value: Reg) -> Reg:
    """The middle 32 bits of a 64-bit product of u32, from mul and mul.hi with a carry."""
    x = w.bits(value, "u32")
    y = w.plus(w.times(w.bits(item, "u32"), 2654435761), 1)
    low, high = w.mul(x, y), w.op("mul.hi", x, y)
    return w.bits(w.bor(w.shl(high, 16), w.shr(low, 16)), "i32")


def _integer_root(w: Writer, item: Reg, value: Reg) -> Reg:
    """The integer square root, one bit per trip, each decided by a comparison."""
    x = w.band(value, 0x7FFFFFFF)
    with w.serial(16, root=w.i32(0)) as loop:
        bit = w.shl(w.i32(1), w.minus(w.i32(15), loop.index))
        tried = w.bor(loop["root"], bit)
        fits = w.inverted(w.lt(w.bits(x, "u32"), w.bits(w.mul(tried, tried), "u32")))
        loop.next(root=w.choose(fits, tried, loop["root"]))
    return loop["root"]


_INTEGER = {
    "population_count": _population_count,
    "reverse_bits": _reverse_bits,
    "long_product": _long_product,
    "integer_root": _integer_root,
}


def _words(case_id: str) -> tuple[Scalars, Arrays]:
    special = np.array(finite_specials(DTYPES["i32"]), dtype=np.uint64)
    values = np.concatenate([special, Draws(case_id).bits(32, 400)]).astype(np.uint32).view(np.int32)
    return {"n": len(values), "groups": (len(values) + 63) // 64}, {"a": values}


def _rows() -> Iterator[KernelCase]:
    def row(
        name: str,
        build: Callable[[Numeric], Kernel],
        data: Callable[[str], tuple[Scalars, Arrays]],
        numeric: Numeric = "fast",
    ) -> KernelCase:
        tier = Tier.SMOKE if name in _SMOKE else Tier.STANDARD
        return KernelCase(f"kernels/bits/{name}", build, data, (), tier, numeric, KERNEL_NEEDS)

    for key0, key1 in ((0, 0), (-1, -1), (0x13198A2E, 0x03707344)):
        yield row(f"threefry/{key0 & 0xFFFFFFFF:08x}", threefry_kernel, partial(_threefry_data, key0, key1))
    for words in (1, 33, 200):
        yield row(f"int4/{words}", int4_kernel, partial(_int4_data, words))
    yield row("half_to_float/all", partial(lane_kernel, "half_to_float", _half_to_float), _all_halves)
    yield row("float_to_half/ties", partial(lane_kernel, "float_to_half", _float_to_half), _floats_for_half)
    for name in _FUNCTIONS:
        build = partial(function_kernel, name)
        yield row(f"derived/{name}", build, partial(_function_data, name))
        yield row(f"derived/{name}_strict", build, partial(_function_data, name), "strict")
    for name, body in _INTEGER.items():
        yield row(f"integer/{name}", partial(lane_kernel, name, body), _words)


_SMOKE = ("threefry/13198a2e", "int4/33", "float_to_half/ties", "derived/exp2", "integer/long_product")
