"""The bounds: those of the spec where a form is native, those of the derivations elsewhere, wider in narrow formats."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from portkit.compiler.accuracy import BOUNDS, EXACT, ROUNDED, ulp_bound
from portkit.compiler.decompose import BASE, Features
from portkit.compiler.functions import FUNCTIONS
from portkit.errors import UsageError
from portkit.reference import numerics
from portkit.reference.ulp import next_down, next_up
from portkit.spec.forms import accuracy
from portkit.spec.types import BF16, F16, F32, F64, DType
from tests.compiler.deriving import FEATURES, Array, assert_within, binades, compute, padded, special_values, spread

FMA = Features(fma=frozenset({"f32", "f64"}))


def test_every_float_function_that_computes_has_a_bound() -> None:
    computing = {name for name, f in FUNCTIONS.items() if "f32" in f.dtypes and f.result == "same"}
    assert set(BOUNDS) == computing - {"where"}


@pytest.mark.parametrize("name", ["recip", "sqrt", "rsqrt", "exp2", "log2"])
def test_a_native_function_has_the_bound_of_the_spec(name: str) -> None:
    assert ulp_bound(name, F32, FEATURES["cpu"]) == accuracy(f"mov.{name}", F32)


def test_a_native_sine_is_not_used_where_the_derived_one_is_better() -> None:
    native = Features(math=frozenset({("sin", "f32")}))
    assert ulp_bound("sin", F32, native) == accuracy("mov.sin", F32)
    assert ulp_bound("sin", F32, FEATURES["cpu"]) < accuracy("mov.sin", F32)


@pytest.mark.parametrize("name", ["div", "tan", "tanh", "sigmoid"])
def test_a_function_that_takes_a_native_reciprocal_has_a_wider_bound(name: str) -> None:
    assert ulp_bound(name, F32, FEATURES["cpu"]) > ulp_bound(name, F32, FMA)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_narrow_function_is_nearly_correctly_rounded(name: str) -> None:
    for dtype in (F16, BF16):
        bound, wide = ulp_bound(name, dtype, BASE), ulp_bound(name, F32, BASE)
        assert bound == EXACT if wide == EXACT else ROUNDED < bound < ROUNDED + wide / 1000


@pytest.mark.parametrize("steps", [-2, 2])
@pytest.mark.parametrize("name", ["div", "tan", "tanh", "sigmoid", "pow"])
def test_a_bound_holds_where_the_native_reciprocal_errs_as_far_as_the_spec_allows(
    name: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    precise = numerics.math

    def crude(kind: str, dtype: DType) -> numerics.Unary:
        return partial(_moved, precise(kind, dtype), steps, dtype) if kind == "recip" else precise(kind, dtype)

    monkeypatch.setattr(numerics, "math", crude)
    x = padded(special_values(F32), spread(F32, 4096, name), binades(F32, 8, name))
    operands = [x, x[::-1].copy()][: FUNCTIONS[name].arity]
    actual = compute(name, operands, F32, FEATURES["cpu"], [F32] * len(operands))
    assert_within(ulp_bound(name, F32, FEATURES["cpu"]), actual, operands, name, F32)


def _moved(precise: numerics.Unary, steps: int, dtype: DType, x: Array) -> Array:
    """Return results so many floats away from the correctly rounded ones, special values as they are."""
    exact = precise(x)
    moved = exact
    for _ in range(abs(steps)):
        moved = next_up(moved, dtype) if steps > 0 else next_down(moved, dtype)
    return np.where(np.isfinite(exact) & (exact != 0) & np.isfinite(moved), moved, exact)


def test_strict_derivations_of_division_and_roots_are_correctly_rounded() -> None:
    assert {ulp_bound(n, d, BASE) for n in ("div", "recip", "sqrt") for d in (F32, F64)} == {ROUNDED}


def test_a_function_without_a_float_result_has_no_bound() -> None:
    with pytest.raises(UsageError, match="idiv has no accuracy bound"):
        ulp_bound("idiv", F32, BASE)
