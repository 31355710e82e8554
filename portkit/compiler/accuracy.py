"""How far a function of floats may be from its exact value on a device, in units in the last place.

The bounds of unary f32 functions that use no native form are the worst over all 2^32 arguments, rounded up
(`bench.exhaustive_f32`); those of `pow` and of f64 are the largest errors of some 10^4 arguments, a third or more
added. Where a native form takes part, whose error may be anything that the accuracy table of the spec allows, the bound
follows from that table. f16 and bf16 functions are f32 functions rounded once more. Every bound is Muller's ulp at the
exact result (Spec: accuracy_c1), and holds where subnormals are preserved.
"""

from __future__ import annotations

from dataclasses import dataclass

from portkit.compiler.features import Features
from portkit.errors import UsageError, near_names
from portkit.spec.forms import accuracy
from portkit.spec.types import F32, F64, DType

ROUNDED = 0.5
"""Correctly rounded, to nearest."""
EXACT = 0.0


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Bounds of a derivation in f32 without and with `mul.add`, and in f64.

    `reciprocal` is what a native reciprocal adds if it errs by 2.5 ulp in place of 0.5.
    """

    base: float
    fused: float
    double: float
    reciprocal: float = 0.0


_EXACT = _Bounds(EXACT, EXACT, EXACT)
_ROUNDED = _Bounds(ROUNDED, ROUNDED, ROUNDED)

BOUNDS: dict[str, _Bounds] = {
    **dict.fromkeys(["neg", "abs", "sign", "floor", "ceil", "round", "trunc", "max", "min"], _EXACT),
    **dict.fromkeys(["add", "sub", "mul", "recip", "sqrt"], _ROUNDED),
    # By its remainder a normal quotient is rounded once but for the rarest; a subnormal one is rounded twice.
    "div": _Bounds(ROUNDED, ROUNDED, ROUNDED, reciprocal=0.3),
    "rsqrt": _Bounds(1.3, 1.0, 1.6),
    "exp": _Bounds(1.5, 1.5, 1.9),
    "exp2": _Bounds(1.1, 0.9, 1.4),
    "log": _Bounds(1.0, 1.0, 1.0),
    "log2": _Bounds(2.0, 1.2, 2.0),
    "sin": _Bounds(2.8, 2.3, 2.8),
    "cos": _Bounds(2.8, 2.3, 2.8),
    # -1/t in odd quadrants.
    "tan": _Bounds(4.1, 3.3, 3.5, reciprocal=2.0),
    # 1 - 2r with 2r < 1/2: an ulp of 2r is at most half an ulp of the result.
    "tanh": _Bounds(1.6, 1.4, 1.9, reciprocal=1.0),
    # t r with r in [1/2, 1]: an ulp of r is at most 2 ulp of the product.
    "sigmoid": _Bounds(3.6, 3.6, 4.0, reciprocal=4.0),
    "erf": _Bounds(1.2, 1.1, 1.5),
    "pow": _Bounds(1.6, 1.5, 2.0),
}


def ulp_bound(name: str, dtype: DType, features: Features) -> float:
    """Return the bound of a function with float operands and result, as `emit` derives it for a device.

    Raises `UsageError` for a function without a bound: its result is no float, or made without arithmetic.
    """
    if name not in BOUNDS:
        raise UsageError(f"{name} has no accuracy bound{near_names(name, BOUNDS)}")
    if dtype in (F32, F64):
        return _wide(name, dtype, features)
    wide = _wide(name, F32, features)
    return wide if wide == EXACT else ROUNDED + wide * 2.0 ** (dtype.precision - F32.precision)


def _wide(name: str, dtype: DType, features: Features) -> float:
    bounds, fused = BOUNDS[name], features.fuses(dtype)
    if bounds is not _EXACT and features.has(name, dtype) and not (name == "sin" and fused):
        return accuracy(f"mov.{name}", dtype)
    derived = bounds.double if dtype is F64 else bounds.fused if fused else bounds.base
    crude = features.has("recip", dtype) and not (name == "div" and not fused)
    return derived + bounds.reciprocal * crude
