"""The sizes of shapes, at most: extents may be expressions over dimensions that are known only at launch."""

from __future__ import annotations

from math import prod

from portkit.compiler.graph import Shape
from portkit.compiler.index import Expr, Index


def count(shape: Shape) -> int:
    """Return the number of elements; the largest where extents vary."""
    return prod(most(n) for n in shape)


def most(extent: Index) -> int:
    """Return the largest value of an extent."""
    return extent.high if isinstance(extent, Expr) else extent
