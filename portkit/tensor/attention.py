"""Scaled dot-product attention, written as the two products and the softmax that the compiler fuses into one pass."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from portkit.compiler.graph import show
from portkit.errors import ShapeError, UsageError
from portkit.spec.types import BOOL
from portkit.tensor import elementwise as e
from portkit.tensor import movement, products, reductions
from portkit.tensor.common import promote_for, same_device
from portkit.tensor.gradient import checkpoint
from portkit.tensor.normalisation import softmax
from portkit.tensor.promotion import inexact, wide

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Return softmax(query @ key.T * scale + mask) @ value.

    query (..., l, e), key (..., s, e), value (..., s, v); the leading axes broadcast, and heads of the query may be a
    multiple of those of key and value (grouped queries). A bool mask (..., l, s) says where to attend, a float one is
    added; `causal` lets position i attend to 0 .. i. The scale is 1/sqrt(e) by default. A row that may attend to
    nothing is NaN. f16 and bf16 compute in f32, rounded once at the end. The weights are computed again for the
    gradient rather than kept: they are larger than all else, and the forward pass need never store them.
    Raises `ShapeError`, `UsageError` for both `mask` and `causal`, `DTypeError`, `DeviceMismatch`.
    Source: A. Vaswani et al., "Attention Is All You Need", 2017.
    """
    name = "scaled_dot_product_attention"
    first = same_device(name, query, key, value, *([] if mask is None else [mask]))
    if mask is not None and causal:
        raise UsageError(f"{name}: give a mask or causal, not both")
    if query.ndim < 2 or key.ndim != value.ndim or query.ndim != key.ndim or query.shape[-1] != key.shape[-1]:
        told = ", ".join(show(t.shape) for t in (query, key, value))
        raise ShapeError(f"{name}: query, key and value are (..., l, e), (..., s, e) and (..., s, v), got {told}")
    starts = [query.node, key.node, value.node]
    dtype = inexact(promote_for(name, [query.dtype, key.dtype, value.dtype]))
    query, key, value = (e.cast(t, wide(dtype)) for t in (query, key, value))
    key, value = _heads(query, key), _heads(query, value)
    factor = _default_scale(query) if scale is None else scale
    scores = products.matmul(query, movement.transpose(key)) * factor
    scores = _masked(scores, _causal(scores) if causal else mask)
    mixed = e.cast(products.matmul(softmax(scores), value), dtype)
    return first.wrap(checkpoint(mixed.node, starts))


def _default_scale(query: Tensor) -> float:
    n = query.shape[-1]
    if not isinstance(n, int):
        raise ShapeError(f"scaled_dot_product_attention: the width of {show(query.shape)} is dynamic; give a scale")
    return 1.0 / math.sqrt(n)


def _heads(query: Tensor, x: Tensor) -> Tensor:
    """Return key or value with each head repeated for the group of query heads that share it."""
    if x.ndim < 3 or x.shape[-3] == query.shape[-3] or 1 in (x.shape[-3], query.shape[-3]):
        return x
    shared, heads = x.shape[-3], query.shape[-3]
    if not isinstance(shared, int) or not isinstance(heads, int) or heads % shared:
        raise ShapeError(f"scaled_dot_product_attention: {heads} heads of the query are no multiple of {shared}")
    return movement.repeat_interleave(x, heads // shared, -3)


def _causal(scores: Tensor) -> Tensor:
    return reductions.place(scores, scores.ndim - 1) <= reductions.place(scores, scores.ndim - 2)


def _masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return scores
    return e.where(mask, scores, -math.inf) if mask.dtype is BOOL else scores + e.cast(mask, scores.dtype)
