"""Attention as a module, and the transformer layer made of it; names and layout of weights as in PyTorch."""

from __future__ import annotations

from portkit.compiler.graph import show
from portkit.errors import ShapeError, UsageError
from portkit.tensor import activations, attention, movement, products
from portkit.tensor.nn import init
from portkit.tensor.nn.layers import Dropout, Linear
from portkit.tensor.nn.module import Module
from portkit.tensor.nn.norms import LayerNorm
from portkit.tensor.promotion import DTypeLike
from portkit.tensor.tensor import Tensor


class MultiHeadAttention(Module):
    """Attention of several heads, each to a part of the width: in_proj_weight (3 * width, width), out_proj.

    Source: A. Vaswani et al., "Attention Is All You Need", 2017.
    """

    def __init__(self, width: int, heads: int, bias: bool = True, dtype: DTypeLike = "f32") -> None:
        """Draw the weights after Xavier, begin with bias 0. Raises `UsageError` where heads do not divide the width."""
        if heads < 1 or width % heads:
            raise UsageError(f"MultiHeadAttention: a width of {width} does not divide into {heads} heads")
        self.heads = heads
        self.in_proj_weight = init.xavier_uniform((3 * width, width), width, 3 * width, dtype)
        self.in_proj_bias = init.zeros((3 * width,), dtype) if bias else None
        self.out_proj = Linear(width, width, bias, dtype)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Return (n, l, width) for query (n, l, width), key and value (n, s, width), by default the query and the key.

        A bool mask that broadcasts to (n, heads, l, s) says where to attend, a float one is added. Raises `ShapeError`.
        """
        width = self.in_proj_weight.shape[1]
        for x in (query, key, value):
            if x is not None and (x.ndim != 3 or x.shape[2] != width):
                raise ShapeError(f"MultiHeadAttention: operands are (n, l, {width}), got {show(x.shape)}")
        key = query if key is None else key
        value = key if value is None else value
        q, k, v = self._projected(query, key, value)
        mixed = attention.scaled_dot_product_attention(q, k, v, mask, causal)
        return self.out_proj(movement.flatten(movement.transpose(mixed, 1, 2), 2, 3))

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Return query, key and value (n, heads, l, width / heads); where they are one, by one product."""
        if query is key is value:
            parts = movement.chunk(products.linear(query, self.in_proj_weight, self.in_proj_bias), 3, 2)
        else:
            weights = movement.chunk(self.in_proj_weight, 3)
            biases = (None,) * 3 if self.in_proj_bias is None else movement.chunk(self.in_proj_bias, 3)
            parts = map(products.linear, (query, key, value), weights, biases)
        return [movement.transpose(movement.unflatten(x, 2, (self.heads, -1)), 1, 2) for x in parts]

    def told(self) -> str:
        """Return the number of heads."""
        return f"heads={self.heads}"


class TransformerEncoderLayer(Module):
    """Attention to itself, then two products with a GELU between, each added to its input and normalised."""

    def __init__(
        self,
        width: int,
        heads: int,
        inner: int,
        dropout: float = 0.1,
        norm_first: bool = False,
        dtype: DTypeLike = "f32",
    ) -> None:
        """Normalise before each part rather than after where `norm_first`. Raises as `MultiHeadAttention`."""
        self.norm_first = norm_first
        self.self_attn = MultiHeadAttention(width, heads, dtype=dtype)
        self.linear1, self.linear2 = Linear(width, inner, dtype=dtype), Linear(inner, width, dtype=dtype)
        self.norm1, self.norm2 = LayerNorm(width, dtype=dtype), LayerNorm(width, dtype=dtype)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """Return (n, l, width) for x of that shape. Raises `ShapeError`."""
        if self.norm_first:
            x = x + self.drop(self.self_attn(self.norm1(x), mask=mask, causal=causal))
            return x + self._inner(self.norm2(x))
        x = self.norm1(x + self.drop(self.self_attn(x, mask=mask, causal=causal)))
        return self.norm2(x + self._inner(x))

    def _inner(self, x: Tensor) -> Tensor:
        return self.drop(self.linear2(self.drop(activations.gelu(self.linear1(x)))))
