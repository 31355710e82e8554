"""What has the same value everywhere, and functions of it."""

from __future__ import annotations

import math
from functools import cache
from typing import Final

import numpy as np

from portkit.compiler.evaluate_functions import evaluate_function
from portkit.compiler.graph import Node, const, const_bits
from portkit.spec.types import DType, decode, encode, nan_bits

FOLDED: Final = frozenset(
    (
        *("add", "sub", "mul", "neg", "abs", "max", "min", "lt", "eq", "where", "cast", "bits"),
        *("and", "or", "xor", "not", "shl", "shr", "mulhi", "idiv", "imod", "tdiv", "tmod"),
    )
)
"""Functions with one right result, so that it does not matter who computes it; `exp` and `div` are not among them."""


def uniform(x: Node) -> int | None:
    """Return the bit pattern that every element of a constant has; None if the node is no constant."""
    while x.op == "view" and x.attr[0] in ("reshape", "expand"):
        x = x.inputs[0]
    return x.attr if x.op == "const" else None


def number(x: Node) -> float | int | bool | None:
    """Return the value that every element of a constant has; None if the node is no constant."""
    bits = uniform(x)
    return None if bits is None else decode(x.dtype, bits)


def wrapped(node: Node, value: int) -> Node:
    """Return an integer constant of the dtype and shape of a node, modulo the width of the dtype."""
    return const_bits(node.dtype, value & ((1 << node.dtype.bits) - 1), node.shape)


def like(node: Node, value: float | int | bool) -> Node:
    """Return a constant of the dtype and shape of a node."""
    return const(node.dtype, value, node.shape)


def folded(node: Node) -> Node | None:
    """f(constants) -> constant, for functions with one right result."""
    if node.attr not in FOLDED:
        return None
    bits = [uniform(i) for i in node.inputs]
    operands = [
        np.asarray(b, f"u{i.dtype.bytes}").view(i.dtype.numpy)
        for b, i in zip(bits, node.inputs, strict=True)
        if b is not None
    ]
    if len(operands) < len(bits):
        return None
    with np.errstate(all="ignore"):
        result = evaluate_function(node.attr, tuple(i.dtype for i in node.inputs), node.dtype, operands, False)
    return const_bits(node.dtype, _bits(node.dtype, result, node.attr == "bits"), node.shape)


def _bits(dtype: DType, value: object, kept: bool) -> int:
    """Return the bit pattern of a NumPy scalar; that of a NaN only if it is to be kept."""
    array = np.asarray(value, dtype.numpy)
    bits = int(array.view(f"u{dtype.bytes}"))
    return nan_bits(dtype) if dtype.is_float and not kept and bool(array != array) else bits


@cache
def neutral(name: str, dtype: DType) -> int | None:
    """Return the bits of e with f(x, e) = x for every x, NaN and -0.0 included; None if there is none.

    Folds of nothing give it too, but for the sum of floats, which is +0.0.
    """
    if name in ("max", "min"):
        lowest = name == "max"
        if dtype.is_float:
            return encode(dtype, -math.inf if lowest else math.inf)
        return encode(dtype, dtype.min_int if lowest else dtype.max_int)
    if name == "and":
        return 1 if dtype.name == "bool" else (1 << dtype.bits) - 1
    value = _NEUTRAL.get(name)
    if value is None:
        return None
    return encode(dtype, -0.0 if name == "add" and dtype.is_float else value)


_NEUTRAL: Final = {
    "add": 0, "sub": 0, "mul": 1, "div": 1, "pow": 1, "idiv": 1, "tdiv": 1, "shl": 0, "shr": 0, "or": 0, "xor": 0,
}  # fmt: skip
