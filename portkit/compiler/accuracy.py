"""How far a function of floats may be from its exact value on a device, in units in the last place.

The bounds of f32 functions that use no native form are the worst over all 2^32 arguments (`bench.exhaustive_f32`),
rounded up; those of f64 are the largest errors of some 10^4 arguments, a third or more added. Where a native form takes
part, whose error may be anything that the accuracy table of the spec allows, the bound follows from that table.
f16 and bf16 functions are f32 functions rounded once more. Every bound is Muller's ulp at the exact result (Spec:
accuracy_c1), and holds where subnormals are preserved.
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

    With a native reciprocal, `reciprocal` is the bound if that errs by as much as the spec allows.
    """

    base: float
    fused: float
    double: float
    reciprocal: float | None = None


_EXACT = _Bounds(EXACT, EXACT, EXACT)
_ROUNDED = _Bounds(ROUNDED, ROUNDED, ROUNDED)

BOUNDS: dict[str, _Bounds] = {
    **dict.fromkeys(["neg", "abs", "sign", "floor", "ceil", "round", "trunc", "max", "min"], _EXACT),
    **dict.fromkeys(["add", "sub", "mul", "recip", "sqrt"], _ROUNDED),
    # Normal quotients are correctly rounded but for the rarest, subnormal ones rounded twice.
    "div": _Bounds(ROUNDED, ROUNDED, ROUNDED, reciprocal=0.8),
    "rsqrt": _Bounds(1.6, 1.6, 1.6),
    "exp": _Bounds(1.6, 1.5, 1.9),
    "exp2": _Bounds(1.2, 1.2, 1.5),
    "log": _Bounds(1.0, 1.0, 1.0),
    "log2": _Bounds(1.6, 1.2, 1.8),
    "sin": _Bounds(2.5, 2.1, 2.7),
    "cos": _Bounds(2.5, 2.1, 2.7),
    # -1/t with t off by 1.6 ulp, which counts up to twice in the reciprocal.
    "tan": _Bounds(4.0, 3.0, 3.5, reciprocal=6.0),
    # 1 - 2r with 2r <= 0.446: r is off by its reciprocal, by 1/2 for e^2a + 1, and by 0.78 of the error of e^2a.
    "tanh": _Bounds(2.0, 2.0, 2.0, reciprocal=4.5),
    # t r with t = e^-|x|: twice the error of t, that of r, and three roundings.
    "sigmoid": _Bounds(3.5, 3.5, 4.0, reciprocal=7.5),
    "erf": _Bounds(1.5, 1.5, 1.5),
    "pow": _Bounds(1.6, 1.5, 1.6),
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
    if bounds.reciprocal is None or not features.has("recip", dtype) or (name == "div" and not fused):
        return derived
    return bounds.reciprocal
