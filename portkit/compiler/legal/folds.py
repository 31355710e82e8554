"""The steps of reductions: what folds two values, and what folding leaves unchanged."""

from __future__ import annotations

from portkit.compiler.legal.rewrite import Output, Parts
from portkit.spec.builder import Reg

_STEPS = {"add": "add", "mul": "mul"}


def step(b: Output, kind: str, x: Reg, y: Reg) -> Reg:
    """Return two values folded by add, mul, max, min, and, or, xor."""
    return b.op(_STEPS.get(kind, f"reduce.{kind}"), x, y)


def neutral(b: Output, kind: str, x: Reg) -> Reg:
    """Return what leaves x unchanged when folded with it: x itself but for add, mul and xor.

    It is -0.0 for a float sum, so that -0.0 stays (Spec: numeric_c5).
    """
    values = {"add": -0.0 if x.type.dtype.is_float else 0, "mul": 1, "xor": 0}
    return b.number(values[kind], x.type) if kind in values else x


def halves(b: Output, kind: str, values: Parts) -> Reg:
    """Return values folded by halves: `r[i] = f(r[i], r[i + n/2])` with n a power of two (Spec: numeric_c5)."""
    left = list(values)
    while len(left) > 1:
        half = 1 << (len(left) - 1).bit_length() - 1
        folded = [step(b, kind, x, y) for x, y in zip(left, left[half:], strict=False)]
        left = folded + left[len(folded) : half]
    return left[0]
