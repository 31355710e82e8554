"""Nodes and bit patterns that tests of simplification share."""

from __future__ import annotations

import math

import numpy as np

from portkit.compiler import graph as g
from portkit.compiler.evaluate import evaluate
from portkit.compiler.graph import Node
from portkit.compiler.simplify import simplify
from portkit.spec.types import BOOL, DType, encode, nan_bits

SHAPE = (2, 3)


def var(dtype: DType, shape: g.Shape = SHAPE, name: str = "x") -> Node:
    return g.source(g.Source(dtype, shape, name=name))


def val(dtype: DType, value: float, shape: g.Shape = SHAPE) -> Node:
    return g.const(dtype, value, shape)


def one(node: Node) -> Node:
    return simplify([node])[0]


# --- values -------------------------------------------------------------------------------------------------------


def special_bits(dtype: DType) -> list[int]:
    """Return patterns at which a rule could go wrong: zeros, ones, powers, ends of the range, subnormals, NaN."""
    if dtype is BOOL:
        return [0, 1]
    if dtype.is_int:
        ends = (dtype.min_int, dtype.min_int + 1, dtype.max_int, dtype.max_int - 1)
        values = sorted({*ends, 0, 1, 2, 3, 7, 8, *((-1, -2, -3, -8) if dtype.is_signed else ())})
        return [encode(dtype, v) for v in values]
    infinite = (math.inf, -math.inf) if dtype.infinities else ()
    return [*(encode(dtype, v) for v in (0.0, -0.0, 1, -1, 0.5, -2, 3, 0.1, *infinite)), 1, nan_bits(dtype)]


def array(dtype: DType, bits: list[int]) -> np.ndarray:
    return np.array(bits, f"u{dtype.bytes}").view(dtype.numpy)


def same(dtype: DType, a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays have the same bits, any NaN counting as any other."""
    assert a.shape == b.shape
    assert a.dtype == b.dtype == dtype.numpy
    equal = a.view(f"u{dtype.bytes}") == b.view(f"u{dtype.bytes}")
    return bool(np.all(equal | ((a != a) & (b != b))))


def check(nodes: list[Node], contents: dict[g.Source, np.ndarray]) -> None:
    simplified = simplify(nodes)
    assert [(n.dtype, n.shape) for n in simplified] == [(n.dtype, n.shape) for n in nodes]
    for node, before, after in zip(nodes, evaluate(nodes, contents), evaluate(simplified, contents), strict=True):
        assert same(node.dtype, before, np.ascontiguousarray(after).reshape(before.shape)), node
