"""Elementwise functions of tensors, numbers and arrays, broadcast and promoted; each is one graph node if it can be.

Float functions of integers and bools compute in f32. On f8 only casts, `bitcast` and `where` are defined: cast first.
Where NumPy and PyTorch differ, PyTorch is followed: true division of integers gives f32; `fmod` truncates.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from portkit.compiler import graph
from portkit.compiler.graph import Node
from portkit.errors import DTypeError
from portkit.spec.types import BOOL
from portkit.tensor.common import Operand, constant, is_tensor, nodes_of, promoted
from portkit.tensor.promotion import DTypeLike, as_dtype, inexact

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor


def apply(name: str, *operands: Operand, told: str = "") -> Tensor:
    """Return a function of the graph's table of operands brought to one dtype and shape."""
    told = told or name
    first, nodes = nodes_of(told, *operands)
    return first.wrap(_mapped(told, name, *nodes))


def apply_float(name: str, *operands: Operand, told: str = "") -> Tensor:
    """Return a float function; operands that are all integers, bools and numbers become f32 first."""
    told = told or name
    dtype = inexact(promoted(told, *operands))
    first, nodes = nodes_of(told, *operands, dtype=dtype)
    return first.wrap(_mapped(told, name, *nodes))


def _mapped(told: str, name: str, *nodes: Node) -> Node:
    try:
        return graph.map_(name, *nodes)
    except DTypeError as error:
        raise DTypeError(f"{told}: {error}; cast the operands first") from None


# --- arithmetic ---------------------------------------------------------------------------------------------------


def add(x: Operand, y: Operand) -> Tensor:
    """Return x + y; of bools, the logical or. Shapes broadcast. Raises `ShapeError`, `DTypeError`, `DeviceMismatch`."""
    return apply("or" if promoted("add", x, y) is BOOL else "add", x, y, told="add")


def sub(x: Operand, y: Operand) -> Tensor:
    """Return x - y. Shapes broadcast. Raises as `add`, and for bools: use `logical_xor`."""
    return apply("sub", x, y)


def mul(x: Operand, y: Operand) -> Tensor:
    """Return x * y; of bools, the logical and. Shapes broadcast. Raises as `add`."""
    return apply("and" if promoted("mul", x, y) is BOOL else "mul", x, y, told="mul")


def div(x: Operand, y: Operand) -> Tensor:
    """Return x / y; integers become f32 first. Raises as `add`."""
    return apply_float("div", x, y)


def floor_divide(x: Operand, y: Operand) -> Tensor:
    """Return the quotient rounded down; of integers by zero, 0. Raises as `add`."""
    if promoted("floor_divide", x, y).is_float:
        return floor(div(x, y))
    return apply("idiv", x, y, told="floor_divide")


def remainder(x: Operand, y: Operand) -> Tensor:
    """Return x - y * floor(x / y), with the sign of y; of integers by zero, 0. Raises as `add`."""
    if not promoted("remainder", x, y).is_float:
        return apply("imod", x, y, told="remainder")
    rest = fmod(x, y)
    other_sign = logical_xor(lt(rest, 0), y < 0)
    return where(logical_and(ne(rest, 0), other_sign), add(rest, y), rest)


def fmod(x: Operand, y: Operand) -> Tensor:
    """Return x - y * trunc(x / y), with the sign of x; of integers by zero, 0. Raises as `add`.

    Of floats, for quotients up to 2^p: further up it is not exact.
    """
    if not promoted("fmod", x, y).is_float:
        return apply("tmod", x, y, told="fmod")
    return sub(x, mul(trunc(div(x, y)), y))


def truncated_divide(x: Operand, y: Operand) -> Tensor:
    """Return the quotient rounded towards zero; of integers by zero, 0. Raises as `add`."""
    if promoted("truncated_divide", x, y).is_float:
        return trunc(div(x, y))
    return apply("tdiv", x, y, told="truncated_divide")


_MULTIPLIED_POWERS = 8
"""Up to this exponent a power with a Python integer is multiplied out."""


def pow(x: Operand, y: Operand) -> Tensor:
    """Return x to the power y.

    A Python integer 0..8 as exponent is multiplied out, so that it is defined on integers too and its gradient is
    finite at 0; other powers are of floats. Raises as `add`, and for integers to a power that is none of these.
    """
    if is_tensor(x) and isinstance(y, int) and not isinstance(y, bool) and 0 <= y <= _MULTIPLIED_POWERS:
        return _integer_power(x, y)
    if not promoted("pow", x, y).is_float:
        raise DTypeError(f"pow of integers takes a Python integer 0 .. {_MULTIPLIED_POWERS} as exponent; cast x to f32")
    return apply("pow", x, y)


def _integer_power(x: Tensor, n: int) -> Tensor:
    result: Tensor | None = None
    square_of = x
    while n:
        if n & 1:
            result = square_of if result is None else result * square_of
        n >>= 1
        square_of = square_of * square_of if n else square_of
    return x.wrap(constant("pow", 1, x.dtype, x.shape)) if result is None else result


def maximum(x: Operand, y: Operand) -> Tensor:
    """Return the larger of each pair, NaN if either is. Shapes broadcast. Raises as `add`."""
    return apply("or" if promoted("maximum", x, y) is BOOL else "max", x, y, told="maximum")


def minimum(x: Operand, y: Operand) -> Tensor:
    """Return the smaller of each pair, NaN if either is. Shapes broadcast. Raises as `add`."""
    return apply("and" if promoted("minimum", x, y) is BOOL else "min", x, y, told="minimum")


def clip(x: Tensor, low: Operand | None = None, high: Operand | None = None) -> Tensor:
    """Return x limited to low .. high; either may be left out. NaN stays. Raises as `add`."""
    if low is not None:
        x = maximum(x, low)
    return x if high is None else minimum(x, high)


# --- comparisons and logic ----------------------------------------------------------------------------------------


def lt(x: Operand, y: Operand) -> Tensor:
    """Return x < y as bool, false if either is NaN. Raises as `add`."""
    return apply("lt", x, y)


def gt(x: Operand, y: Operand) -> Tensor:
    """Return x > y as bool, false if either is NaN. Raises as `add`."""
    return apply("lt", y, x, told="gt")


def eq(x: Operand, y: Operand) -> Tensor:
    """Return x == y as bool, false if either is NaN. Raises as `add`."""
    return apply("eq", x, y)


def ne(x: Operand, y: Operand) -> Tensor:
    """Return x != y as bool, true if either is NaN. Raises as `add`."""
    return logical_not(apply("eq", x, y, told="ne"))


def le(x: Operand, y: Operand) -> Tensor:
    """Return x <= y as bool, false if either is NaN. Raises as `add`."""
    first, (a, b) = nodes_of("le", x, y)
    return first.wrap(_at_most("le", a, b))


def ge(x: Operand, y: Operand) -> Tensor:
    """Return x >= y as bool, false if either is NaN. Raises as `add`."""
    first, (a, b) = nodes_of("ge", x, y)
    return first.wrap(_at_most("ge", b, a))


def _at_most(name: str, a: Node, b: Node) -> Node:
    """a <= b is not b < a where there is no NaN, and a < b or a == b for floats."""
    if a.dtype.is_float:
        return graph.map_("or", _mapped(name, "lt", a, b), _mapped(name, "eq", a, b))
    return graph.map_("not", _mapped(name, "lt", b, a))


def logical_not(x: Tensor) -> Tensor:
    """Return whether x is zero, as bool."""
    return x.wrap(graph.map_("not", graph.cast(x.node, BOOL)))


def _logical(name: str, function: str, x: Operand, y: Operand) -> Tensor:
    first, nodes = nodes_of(name, x, y, dtype=BOOL)
    return first.wrap(graph.map_(function, *nodes))


def logical_and(x: Operand, y: Operand) -> Tensor:
    """Return whether both are other than zero, as bool. Shapes broadcast."""
    return _logical("logical_and", "and", x, y)


def logical_or(x: Operand, y: Operand) -> Tensor:
    """Return whether either is other than zero, as bool. Shapes broadcast."""
    return _logical("logical_or", "or", x, y)


def logical_xor(x: Operand, y: Operand) -> Tensor:
    """Return whether just one is other than zero, as bool. Shapes broadcast."""
    return _logical("logical_xor", "xor", x, y)


def bitwise_and(x: Operand, y: Operand) -> Tensor:
    """Return the and of the bits of integers or bools. Raises as `add`."""
    return apply("and", x, y, told="bitwise_and")


def bitwise_or(x: Operand, y: Operand) -> Tensor:
    """Return the or of the bits of integers or bools. Raises as `add`."""
    return apply("or", x, y, told="bitwise_or")


def bitwise_xor(x: Operand, y: Operand) -> Tensor:
    """Return the exclusive or of the bits of integers or bools. Raises as `add`."""
    return apply("xor", x, y, told="bitwise_xor")


def bitwise_not(x: Tensor) -> Tensor:
    """Return the complement of the bits of integers or bools. Raises `DTypeError`."""
    return apply("not", x, told="bitwise_not")


def left_shift(x: Operand, y: Operand) -> Tensor:
    """Return integers shifted left by y modulo their width. Raises as `add`."""
    return apply("shl", x, y, told="left_shift")


def right_shift(x: Operand, y: Operand) -> Tensor:
    """Return integers shifted right by y modulo their width, signed ones with their sign. Raises as `add`."""
    return apply("shr", x, y, told="right_shift")


def multiply_high(x: Operand, y: Operand) -> Tensor:
    """Return the upper half of the product of integers, which is twice as wide. Raises as `add`."""
    return apply("mulhi", x, y, told="multiply_high")


def where(condition: Operand, x: Operand, y: Operand) -> Tensor:
    """Return x where the condition holds, else y; all three broadcast. Raises as `add`."""
    dtype = promoted("where", x, y)
    first, nodes = nodes_of("where", condition, x, y, dtypes=(BOOL, dtype, dtype))
    return first.wrap(graph.map_("where", *nodes))


# --- one operand --------------------------------------------------------------------------------------------------


def neg(x: Tensor) -> Tensor:
    """Return -x; unsigned integers wrap. Raises `DTypeError` for bools: use `logical_not`."""
    return apply("neg", x)


def positive(x: Tensor) -> Tensor:
    """Return x."""
    return x


def abs(x: Tensor) -> Tensor:
    """Return the magnitude; of the lowest signed integer, itself. Raises `DTypeError` for bools."""
    return apply("abs", x)


def sign(x: Tensor) -> Tensor:
    """Return -1, 0 or 1 in the dtype of x; NaN of NaN. Raises `DTypeError` for bools."""
    return apply("sign", x)


def square(x: Tensor) -> Tensor:
    """Return x * x."""
    return mul(x, x)


def reciprocal(x: Tensor) -> Tensor:
    """Return 1 / x."""
    return apply_float("recip", x, told="reciprocal")


def sqrt(x: Tensor) -> Tensor:
    """Return the square root, NaN of negative numbers."""
    return apply_float("sqrt", x)


def rsqrt(x: Tensor) -> Tensor:
    """Return 1 / sqrt(x)."""
    return apply_float("rsqrt", x)


def exp(x: Tensor) -> Tensor:
    """Return e to the power x."""
    return apply_float("exp", x)


def exp2(x: Tensor) -> Tensor:
    """Return 2 to the power x."""
    return apply_float("exp2", x)


def log(x: Tensor) -> Tensor:
    """Return the natural logarithm."""
    return apply_float("log", x)


def log2(x: Tensor) -> Tensor:
    """Return the logarithm to base 2."""
    return apply_float("log2", x)


def log10(x: Tensor) -> Tensor:
    """Return the logarithm to base 10: that to base 2, scaled."""
    return mul(log2(x), math.log10(2.0))


def sin(x: Tensor) -> Tensor:
    """Return the sine, x in radians."""
    return apply_float("sin", x)


def cos(x: Tensor) -> Tensor:
    """Return the cosine, x in radians."""
    return apply_float("cos", x)


def tan(x: Tensor) -> Tensor:
    """Return the tangent, x in radians."""
    return apply_float("tan", x)


def tanh(x: Tensor) -> Tensor:
    """Return the hyperbolic tangent."""
    return apply_float("tanh", x)


def sigmoid(x: Tensor) -> Tensor:
    """Return 1 / (1 + exp(-x))."""
    return apply_float("sigmoid", x)


def erf(x: Tensor) -> Tensor:
    """Return the error function."""
    return apply_float("erf", x)


def _rounded(name: str, x: Tensor) -> Tensor:
    return apply(name, x) if x.dtype.is_float else x


def floor(x: Tensor) -> Tensor:
    """Return the largest integer not above x, in the dtype of x."""
    return _rounded("floor", x)


def ceil(x: Tensor) -> Tensor:
    """Return the smallest integer not below x, in the dtype of x."""
    return _rounded("ceil", x)


def round(x: Tensor) -> Tensor:
    """Return the nearest integer, halves to even, in the dtype of x."""
    return _rounded("round", x)


def trunc(x: Tensor) -> Tensor:
    """Return x without its fraction, in the dtype of x."""
    return _rounded("trunc", x)


def expm1(x: Tensor) -> Tensor:
    """Return exp(x) - 1, accurate near 0: tanh(x/2) * (exp(x) + 1)."""
    return tanh(mul(x, 0.5)) * (exp(x) + 1.0)


def log1p(x: Tensor) -> Tensor:
    """Return log(1 + x), accurate near 0: the rounding error of u = 1 + x, over u, is added to log(u).

    Source: D. Goldberg, "What Every Computer Scientist Should Know About Floating-Point Arithmetic", 1991, theorem 4.
    """
    x = cast(x, inexact(x.dtype))
    near = where(logical_and(lt(-1.0, x), lt(x, 2.0**x.dtype.precision)), x, 0.0)
    u = near + 1.0
    return log(x + 1.0) + (near - (u - 1.0)) / u


def isnan(x: Tensor) -> Tensor:
    """Return whether each element is NaN, as bool."""
    return ne(x, x)


def isinf(x: Tensor) -> Tensor:
    """Return whether each element is an infinity, as bool."""
    return eq(abs(x), math.inf) if x.dtype.is_float else ne(x, x)


def isfinite(x: Tensor) -> Tensor:
    """Return whether each element is neither infinite nor NaN, as bool."""
    return lt(abs(x), math.inf) if x.dtype.is_float else eq(x, x)


# --- dtypes -------------------------------------------------------------------------------------------------------


def cast(x: Tensor, dtype: DTypeLike) -> Tensor:
    """Return x converted: integers wrap, floats round once, floats to integers truncate and saturate (NaN gives 0).

    To bool is x != 0. Raises `DTypeError` for an unknown dtype.
    """
    return x.wrap(graph.cast(x.node, as_dtype(dtype)))


def bitcast(x: Tensor, dtype: DTypeLike) -> Tensor:
    """Return the bits of x read as another dtype of the same width. Raises `DTypeError` where the widths differ."""
    target = as_dtype(dtype)
    if target.bits != x.dtype.bits or BOOL in (target, x.dtype):
        raise DTypeError(f"bitcast: {x.dtype} and {target} do not have the same width; use cast to convert numbers")
    return x.wrap(graph.map_("bits", x.node, dtype=target))


def detach(x: Tensor) -> Tensor:
    """Return x as a constant to differentiation: no gradient passes."""
    return x.wrap(graph.mark(x.node, "detach"))


def contiguous(x: Tensor) -> Tensor:
    """Return x, which will be kept in memory rather than fused into what uses it."""
    return x.wrap(graph.store(x.node))
