"""Running elementwise functions as `emit` writes them, on operands where functions go wrong, against exact values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from math import inf, nan
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from portkit.compiler.decompose import BASE, Features, emit
from portkit.contract import Capabilities, find_backend
from portkit.reference.generator import stream
from portkit.reference.ulp import largest, ulp
from portkit.reference.values import run
from portkit.spec.builder import Builder, Mem, Reg
from portkit.spec.kernel import Kernel
from portkit.spec.types import BOOL, F64, U8, DType
from portkit.spec.verify import verify

Array = NDArray[Any]

CPU: Capabilities = find_backend("cpu").capabilities
FEATURES = {"base": BASE, "cpu": Features.of(CPU)}
_LANES = 64
_DIGITS = 40
_MANY_DIGITS = 400

_NUMPY: dict[str, Callable[..., Array]] = {
    "recip": lambda x: 1 / x,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "exp": np.exp,
    "exp2": np.exp2,
    "log": np.log,
    "log2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "tanh": np.tanh,
    "sigmoid": lambda x: np.where(x < 0, np.exp(-np.abs(x)), 1) / (1 + np.exp(-np.abs(x))),
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "div": np.divide,
    "pow": np.power,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
}
_EXACTLY: dict[str, Callable[..., Any]] = {
    "recip": lambda x: 1 / x,
    "sqrt": mpmath.sqrt,
    "rsqrt": lambda x: 1 / mpmath.sqrt(x),
    "exp": mpmath.exp,
    "exp2": lambda x: mpmath.power(2, x),
    "log": mpmath.log,
    "log2": lambda x: mpmath.log(x, 2),
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "tan": mpmath.tan,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "erf": mpmath.erf,
    "div": lambda x, y: x / y,
    "pow": mpmath.power,
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
}
APPROXIMATED = tuple(_EXACTLY)


# --- kernels ----------------------------------------------------------------------------------------------------------


def stored(dtype: DType) -> DType:
    """The dtype that stands for `dtype` in a buffer."""
    return U8 if dtype is BOOL else dtype


def kernel_of(
    name: str, dtypes: Sequence[DType], result: DType, features: Features, count: int, lanes: int = 1
) -> Kernel:
    """Return out[i] = name(a0[i], a1[i], ...), verified; bools are stored as u8."""
    b = Builder(name)
    sources = [b.buffer(f"a{n}", stored(d).name, count, "read") for n, d in enumerate(dtypes)]
    target = b.buffer("out", stored(result).name, count, "write")
    group, lane = b.grid(count // (_LANES * lanes)), b.lane(_LANES)
    item = b.mul(b.add(b.mul(group, b.const("i32", _LANES)), lane), b.const("i32", lanes))
    args = [_load(b, m, item, d, lanes, features) for m, d in zip(sources, dtypes, strict=True)]
    value = emit(b, name, args, result, features)
    value = emit(b, "cast", [value], U8, features) if result is BOOL else value
    if lanes == 1:
        b.store(target, item, value)
    else:
        b.store_vec(target, item, value)
    kernel = b.build()
    verify(kernel)
    return kernel


def _load(b: Builder, source: Mem, item: Reg, dtype: DType, lanes: int, features: Features) -> Reg:
    value = b.load(source, item) if lanes == 1 else b.load_vec(source, item, lanes)
    return emit(b, "cast", [value], BOOL, features) if dtype is BOOL else value


def inputs_of(kernel: Kernel, operands: Sequence[Array]) -> dict[str, Array]:
    """Return the buffers of a kernel of `kernel_of`."""
    return {f"a{n}": x.view(np.uint8) if x.dtype == np.bool_ else x for n, x in enumerate(operands)}


def compute(
    name: str, operands: Sequence[Array], result: DType, features: Features, dtypes: Sequence[DType], lanes: int = 1
) -> Array:
    """Return a function of arrays, computed by the reference interpreter."""
    kernel = kernel_of(name, dtypes, result, features, len(operands[0]), lanes)
    return run(kernel, {}, inputs_of(kernel, operands))["out"]


# --- operands ---------------------------------------------------------------------------------------------------------

_NOTABLE = (
    0.0, 1.0, 0.5, 2.0, 3.0, 0.1, 0.625, 0.825, 1.4142135, 2.5, 3.5, 7.5, 8.5, 4.0, 9.02, 10.0, 17.33, 88.72, 88.73,
    87.34, 103.9, 104.1, 126.5, 127.9, 128.0, 149.0, 149.6, 150.1, 709.7, 709.8, 745.1, 745.2, 1022.5, 1074.2,
    8388607.5, 131072.5, 65504.0, 65520.0, 3.4e38, 1e-40, 1e-310, 5e-324, inf, nan,
)  # fmt: skip


@cache
def special_values(dtype: DType) -> Array:
    """Numbers where functions change their course, both signs, and the ends of the format."""
    ends = [2.0**dtype.emin, 2.0 ** (dtype.emin - dtype.precision + 1), largest(dtype), 1 - 2.0**-dtype.precision]
    values = np.array([*_NOTABLE, *ends], np.float64)
    with np.errstate(all="ignore"):
        return np.concatenate([values, -values]).astype(dtype.numpy)


def _words(count: int, seed: str) -> NDArray[np.uint64]:
    words = stream(seed).bits(2 * count).astype(np.uint64)
    return (words[:count] << np.uint64(32)) | words[count:]


def binades(dtype: DType, each: int, seed: str) -> Array:
    """Random numbers, `each` of every exponent and sign; NaNs and subnormals among them."""
    exponents = 1 << (dtype.bits - dtype.precision)
    count = each * 2 * exponents
    fraction = _words(count, seed) & np.uint64((1 << (dtype.precision - 1)) - 1)
    place = np.arange(count, dtype=np.uint64) % np.uint64(2 * exponents)
    bits = (place << np.uint64(dtype.precision - 1)) | fraction
    return bits.astype(f"u{dtype.bytes}").view(dtype.numpy)


def spread(dtype: DType, count: int, seed: str) -> Array:
    """Random numbers of moderate size, where functions are neither 0 nor infinite."""
    uniform = _words(count, seed).astype(np.float64) * 2.0**-64
    size = 10.0 ** (6 * _words(count, seed + "'").astype(np.float64) * 2.0**-64 - 3)
    return ((2 * uniform - 1) * size).astype(dtype.numpy)


def padded(*arrays: Array) -> Array:
    """Return the arrays one after the other, the first repeated to fill the last work-group of four lanes."""
    joined = np.concatenate(arrays)
    return np.resize(joined, -(-len(joined) // (4 * _LANES)) * 4 * _LANES)


# --- judgement --------------------------------------------------------------------------------------------------------


def _widened(x: Array) -> Array:
    """Return floats as f64; signalling NaNs raise the invalid flag, which means nothing here."""
    with np.errstate(invalid="ignore"):
        return x.astype(np.float64)


def exact_values(name: str, operands: Sequence[Array], dtype: DType) -> tuple[Array, Array]:
    """Return f(operands) as f64 and what is missing from it, in ulp; narrower dtypes need no tail."""
    wide = [_widened(x) for x in operands]
    with np.errstate(all="ignore"):
        head = np.asarray(_NUMPY[name](*wide))
    if dtype is not F64:
        return head, np.zeros_like(head)
    tail = np.zeros_like(head)
    with mpmath.workdps(_MANY_DIGITS if name in ("sin", "cos", "tan") else _DIGITS):
        for at in np.flatnonzero(np.isfinite(head) & (head != 0) & (np.abs(head) < largest(F64))):
            value = _EXACTLY[name](*(mpmath.mpf(float(x[at])) for x in wide))
            head[at] = float(value.real)
            unit = mpmath.mpf(float(ulp(head[at : at + 1], F64)[0]))
            tail[at] = float((value.real - mpmath.mpf(float(head[at]))) / unit)
    return head, tail


def errors(actual: Array, head: Array, tail: Array, dtype: DType) -> Array:
    """Return by how many ulp each result is off; 0 for equal infinities and NaNs, inf for one that should not be."""
    wide = _widened(actual)
    overflows = np.abs(head) >= largest(dtype) * (1 + 2.0 ** (-dtype.precision - 1)) if dtype is not F64 else False
    with np.errstate(all="ignore"):
        head = np.where(overflows, np.copysign(inf, head), head)
        off = np.abs((wide - head) / ulp(head, dtype) - tail)
    same = (wide == head) & (np.isinf(head) | (head == 0)) | (np.isnan(wide) & np.isnan(head))
    return np.where(same, 0.0, np.where(np.isnan(off), inf, off))


def assert_within(bound: float, actual: Array, operands: Sequence[Array], name: str, dtype: DType) -> None:
    """Fail with the worst element."""
    head, tail = exact_values(name, operands, dtype)
    off = errors(actual, head, tail, dtype)
    at = int(np.argmax(off))
    given = ", ".join(repr(x[at]) for x in operands)
    assert off[at] <= bound, f"{name}({given}) = {actual[at]!r}, exactly {head[at]!r}: {off[at]:.3f} ulp, not {bound}"


def same_bits(a: Array, b: Array) -> Array:
    """Where two arrays agree in every bit, or are both NaN."""
    bits = f"u{a.dtype.itemsize}"
    equal = a.view(bits) == b.view(bits)
    return equal if a.dtype.kind in "iub" else equal | (np.isnan(_widened(a)) & np.isnan(_widened(b)))
